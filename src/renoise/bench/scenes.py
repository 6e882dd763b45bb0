"""Edit tasks with known answers, composed from held-out photographs of fruits.

background   "… on a blue background" → "… on a yellow background"      preserves the fruits
swap         "a lemon and a tomato …" → "a lemon and a plum …"          preserves all but the surroundings of one fruit
kind         "a red apple …" → "a yellow lemon …"                       preserves the background
colour       "a red apple …" → "a yellow apple …"                       preserves the background
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
from renoise.bench.tasks import Classify, ColourChange, Label, Task, as_tensor, same_label

EDITS = ("background", "swap", "kind", "colour")
PHOTOS = "fruits_test_sequences"
RIM = 5  # width in pixels of the border around a fruit that is not scored


def has_photos(data: Path) -> bool:
    """Return whether a folder contains the photographs that `tasks` reads."""
    return (data / "128" / f"{PHOTOS}.npz").is_file()


def tasks(data: Path, count: int, classify: Classify | None = None, seed: int = 11) -> list[Task]:
    """Compose `count` tasks of each kind of edit, from photographs that no training has used.

    `classify` is the classifier that judges the edits. If given, only tasks are used for which it labels two scenes
    correctly: the source, and the target composed from real photographs. A wrong label then indicates a failed edit,
    not an error of the classifier.
    """
    photos = read_photos(data, PHOTOS)
    pick, colours = Picker(photos), _mean_colours(photos)
    chosen = []
    for number, edit in enumerate(EDITS):
        drawn = (
            _task(photos, pick, colours, edit, np.random.default_rng([seed, number, n])) for n in itertools.count()
        )
        usable = (task for task, *scenes in drawn if classify is None or _labelled_right(scenes, classify))
        chosen += itertools.islice(usable, count)
    return chosen


def _labelled_right(scenes: list[tuple[Image.Image, Label]], classify: Classify) -> bool:
    """Return whether the classifier labels every scene correctly."""
    labels = classify(torch.cat([as_tensor(picture) for picture, _ in scenes]))
    return all(same_label(label, right) for label, (_, right) in zip(labels, scenes, strict=True))


def _task(
    photos: Photos, pick: Picker, colours: dict[str, np.ndarray], edit: str, rng: np.random.Generator
) -> tuple[Task, tuple[Image.Image, Label], tuple[Image.Image, Label]]:
    """Compose a task. Return it with its source scene and a target scene, both with their labels."""
    pair = edit == "swap" or (edit == "background" and rng.random() < 0.5)
    chosen = [pick(rng) for _ in range(1 + pair)]
    if edit == "colour":
        chosen = [int(rng.choice([i for i, phrases in enumerate(photos.phrases) if _recoloured(phrases, colours)]))]
    background, other = (str(name) for name in rng.choice(NAMES, 2, replace=False))
    places = []
    for x in (0.27, 0.73) if pair else (0.5,):
        size = int(SIZE * (0.62 if pair else rng.uniform(0.7, 1.0)))
        dx, dy = rng.uniform(-0.06, 0.06, 2) * SIZE
        places.append((size, SIZE * x + (0 if pair else dx), SIZE / 2 + dy, bool(rng.random() < 0.5)))
    canvas = plain_background(background, rng)
    picture, fruits = _compose(photos, chosen, places, canvas.copy())
    source, label = _caption(photos, chosen, background), _label(photos, chosen, background)
    every_fruit = np.maximum.reduce(fruits)
    if edit == "background":
        flat = np.broadcast_to(np.array(BACKGROUNDS[other], np.float32), (SIZE, SIZE, 3)).copy()
        answer, _ = _compose(photos, chosen, places, flat)
        preserved = _eroded(every_fruit)
        known = np.maximum(preserved, 1 - _dilated(every_fruit))
        target, wanted_label = _caption(photos, chosen, other), _label(photos, chosen, other)
        task = Task(edit, picture, source, target, preserved, wanted_label, answer=(answer, known))
        return task, (picture, label), (answer, wanted_label)
    side, change, wanted = int(rng.integers(2)) if pair else 0, None, list(chosen)
    if edit == "colour":
        colour = str(rng.choice(_recoloured(photos.phrases[chosen[0]], colours)))
        wanted = [int(rng.choice([i for i, phrases in enumerate(photos.phrases) if phrases[0] == colour]))]
        change = ColourChange(colours[photos.phrases[chosen[0]][0]], colours[colour], _eroded(every_fruit))
    else:
        wanted[side] = next(i for i in iter(lambda: pick(rng), None) if photos.kinds[i] not in label[0])
    preserved = 1 - _dilated(fruits[side])
    target, wanted_label = _caption(photos, wanted, background), _label(photos, wanted, background)
    task = Task(edit, picture, source, target, preserved, wanted_label, change)
    return task, (picture, label), (_compose(photos, wanted, places, canvas)[0], wanted_label)


def _label(photos: Photos, chosen: list[int], background: str) -> Label:
    return tuple(photos.kinds[i] for i in chosen), background


def _compose(
    photos: Photos, chosen: list[int], places: list[tuple[int, float, float, bool]], canvas: np.ndarray
) -> tuple[Image.Image, list[np.ndarray]]:
    """Paste fruits on a canvas. Return the scene, and the coverage of each pixel by each fruit."""
    coverage = [
        paste(canvas, photos.images[i], photos.masks[i], *place) for i, place in zip(chosen, places, strict=True)
    ]
    return Image.fromarray(np.clip(canvas + 0.5, 0, 255).astype(np.uint8)), coverage


def _mean_colours(photos: Photos) -> dict[str, np.ndarray]:
    """Return the mean colour, RGB in [0, 1], of the fruits of each phrase ("a red apple")."""
    colours: dict[str, list[np.ndarray]] = {}
    for image, mask, phrases in zip(photos.images, photos.masks, photos.phrases, strict=True):
        colours.setdefault(phrases[0], []).append(image[mask > 0].mean(0) / 255)
    return {phrase: np.mean(means, 0) for phrase, means in colours.items()}


def _recoloured(phrases: list[str], colours: dict[str, np.ndarray]) -> list[str]:
    """Return the phrases of the same kind of fruit in a clearly different colour."""
    kind, own = phrases[1].split(" ", 1)[1], colours[phrases[0]]
    words = len(phrases[0].split())
    same_kind = [phrase for phrase in colours if phrase.endswith(" " + kind) and len(phrase.split()) == words]
    return [phrase for phrase in same_kind if np.abs(colours[phrase] - own).max() > 0.2]


def _caption(photos: Photos, chosen: list[int], background: str) -> str:
    phrases = [photos.phrases[i][0] for i in chosen]
    return main_caption(phrases[0], phrases[1] if len(phrases) > 1 else None, background)


def _dilated(mask: np.ndarray) -> np.ndarray:
    """Grow a mask by `RIM` pixels."""
    picture = Image.fromarray((mask > 0.02).astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * RIM + 1))
    return (np.asarray(picture) > 0).astype(np.float32)


def _eroded(mask: np.ndarray) -> np.ndarray:
    """Shrink a mask by one pixel."""
    picture = Image.fromarray((mask > 0.98).astype(np.uint8) * 255).filter(ImageFilter.MinFilter(3))
    return (np.asarray(picture) > 0).astype(np.float32)
