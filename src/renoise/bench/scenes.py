"""Edit tasks with right answers, composed from held-out photographs of fruits.

background   "… on a blue background" → "… on a yellow background"      the fruits must stay
swap         "a lemon and a tomato …" → "a lemon and a plum …"          all but the swapped fruit's surroundings must stay
kind         "a red apple …" → "a yellow lemon …"                       the background must stay
colour       "a red apple …" → "a yellow apple …"                       the background must stay
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from renoise.bench.fruits import (
    BACKGROUNDS,
    NAMES,
    SIZE,
    Photos,
    Picker,
    main_caption,
    paste,
    plain_background,
    read_photos,
)
from renoise.bench.tasks import Namer, Naming, Task, as_tensor, same

EDITS = ("background", "swap", "kind", "colour")
RIM = 5  # pixels around a fruit that count for neither side


def tasks(data: Path, count: int, namer: Namer | None = None, seed: int = 11) -> list[Task]:
    """`count` tasks of each kind of edit, from rotations of the fruits that no training has seen.

    With a `namer` (classifier.py), which will judge the edits, only those whose scene it names right, as it is and as it would
    be with real photographs of what the edit asks for: what it says of an edited picture then tells of the edit.
    """
    photos = read_photos(data, "fruits_test_sequences")
    pick, tints = Picker(photos), _tints(photos)
    chosen = []
    for number, edit in enumerate(EDITS):
        drawn = (_task(photos, pick, tints, edit, np.random.default_rng([seed, number, n])) for n in itertools.count())
        chosen += itertools.islice((task for task, *known in drawn if namer is None or _named(known, namer)), count)
    return chosen


def _named(known: list[tuple[Image.Image, Naming]], namer: Namer) -> bool:
    """Whether the namer says of these pictures what they show."""
    said = namer(torch.cat([as_tensor(picture) for picture, _ in known]))
    return all(same(name, right) for name, (_, right) in zip(said, known, strict=True))


def _task(
    photos: Photos, pick: Picker, tints: dict[str, np.ndarray], edit: str, rng: np.random.Generator
) -> tuple[Task, tuple[Image.Image, Naming], tuple[Image.Image, Naming]]:
    """A task; its scene, and one with what the edit asks for, each with what it shows."""
    pair = edit == "swap" or (edit == "background" and rng.random() < 0.5)
    chosen = [pick(rng) for _ in range(1 + pair)]
    if edit == "colour":
        chosen = [int(rng.choice([i for i, phrases in enumerate(photos.phrases) if _others(phrases, tints)]))]
    ground, other = (str(name) for name in rng.choice(NAMES, 2, replace=False))
    places = []
    for x in (0.27, 0.73) if pair else (0.5,):
        size = int(SIZE * (0.62 if pair else rng.uniform(0.7, 1.0)))
        dx, dy = rng.uniform(-0.06, 0.06, 2) * SIZE
        places.append((size, SIZE * x + (0 if pair else dx), SIZE / 2 + dy, bool(rng.random() < 0.5)))
    canvas = plain_background(ground, rng)
    picture, fruits = _composed(photos, chosen, places, canvas.copy())
    source, every = _caption(photos, chosen, ground), np.maximum.reduce(fruits)
    shows = _naming(photos, chosen, ground)
    if edit == "background":
        flat = np.broadcast_to(np.array(BACKGROUNDS[other], np.float32), (SIZE, SIZE, 3)).copy()
        answer, _ = _composed(photos, chosen, places, flat)
        stays = _shrunk(every)
        known = np.maximum(stays, 1 - _grown(every))
        target, right = _caption(photos, chosen, other), _naming(photos, chosen, other)
        task = Task(edit, picture, source, target, stays, right, answer=(answer, known))
        return task, (picture, shows), (answer, right)
    side, tint, wanted = int(rng.integers(2)) if pair else 0, None, list(chosen)
    if edit == "colour":
        colour = str(rng.choice(_others(photos.phrases[chosen[0]], tints)))
        wanted = [int(rng.choice([i for i, phrases in enumerate(photos.phrases) if phrases[0] == colour]))]
        tint = tints[photos.phrases[chosen[0]][0]], tints[colour], _shrunk(every)
    else:
        wanted[side] = next(i for i in iter(lambda: pick(rng), None) if photos.kinds[i] not in shows[0])
    stays = 1 - _grown(fruits[side])
    right = _naming(photos, wanted, ground)
    task = Task(edit, picture, source, _caption(photos, wanted, ground), stays, right, tint)
    return task, (picture, shows), (_composed(photos, wanted, places, canvas)[0], right)


def _naming(photos: Photos, chosen: list[int], ground: str) -> Naming:
    return tuple(photos.kinds[i] for i in chosen), ground


def _composed(
    photos: Photos, chosen: list[int], places: list[tuple[int, float, float, bool]], canvas: np.ndarray
) -> tuple[Image.Image, list[np.ndarray]]:
    """The scene, and how far each fruit covers each pixel."""
    covered = [
        paste(canvas, photos.images[i], photos.masks[i], *place) for i, place in zip(chosen, places, strict=True)
    ]
    return Image.fromarray(np.clip(canvas + 0.5, 0, 255).astype(np.uint8)), covered


def _tints(photos: Photos) -> dict[str, np.ndarray]:
    """The mean colour of the fruits that go by each phrase ("a red apple"), RGB in [0, 1]."""
    sums: dict[str, list[np.ndarray]] = {}
    for image, mask, phrases in zip(photos.images, photos.masks, photos.phrases, strict=True):
        sums.setdefault(phrases[0], []).append(image[mask > 0].mean(0) / 255)
    return {phrase: np.mean(colours, 0) for phrase, colours in sums.items()}


def _others(phrases: list[str], tints: dict[str, np.ndarray]) -> list[str]:
    """Phrases of the same kind of fruit in a clearly different colour."""
    kind, own = phrases[1].split(" ", 1)[1], tints[phrases[0]]
    same = [
        phrase for phrase in tints if phrase.endswith(" " + kind) and len(phrase.split()) == len(phrases[0].split())
    ]
    return [phrase for phrase in same if np.abs(tints[phrase] - own).max() > 0.2]


def _caption(photos: Photos, chosen: list[int], ground: str) -> str:
    phrases = [photos.phrases[i][0] for i in chosen]
    return main_caption(phrases[0], phrases[1] if len(phrases) > 1 else None, ground)


def _grown(mask: np.ndarray) -> np.ndarray:
    """A mask and RIM pixels around it."""
    picture = Image.fromarray((mask > 0.02).astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * RIM + 1))
    return (np.asarray(picture) > 0).astype(np.float32)


def _shrunk(mask: np.ndarray) -> np.ndarray:
    """A mask without its rim."""
    picture = Image.fromarray((mask > 0.98).astype(np.uint8) * 255).filter(ImageFilter.MinFilter(3))
    return (np.asarray(picture) > 0).astype(np.float32)
