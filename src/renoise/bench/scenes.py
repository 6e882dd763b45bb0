"""Edit tasks with known answers, composed from held-out photographs of fruits.

kind         "a red apple …" → "a yellow lemon …"                       preserves the background
background   "… on a blue background" → "… on a yellow background"      preserves the fruits
swap         "a lemon and a tomato …" → "a lemon and a plum …"          preserves all but the surroundings of one fruit
colour       "a red apple …" → "a green apple …"                        preserves the background
both         "a red apple on a white …" → "a lemon on a blue …"         preserves nothing
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from renoise.bench.fruits import (
    BACKGROUNDS,
    NAMES,
    SIZE,
    Photos,
    colour_and_kind,
    kind_of,
    main_caption,
    paste,
    plain_background,
    read_photos,
    read_words,
    shades,
)
from renoise.bench.judge import Judge, Wanted, succeeded
from renoise.bench.tasks import Task

EDITS = ("kind", "background", "swap", "colour", "both")
PHOTOS = ("fruits_test_sequences", "fruits_test_objects")
PARTS = {"tasks": (0.0, 0.4), "calibration": (0.4, 0.6), "final": (0.6, 1.0)}  # of the photographs of each turned fruit
SEEDS = {"tasks": 11, "final": 12}
RIM = 5  # width in pixels of the border around a fruit that is not scored
VISIBLE = 0.25  # distance of the mean colour of a fruit, RGB in [0, 1], from its background
COLOURS_APART = 0.2  # distance of the mean colours of the fruits before and after an edit of colour
# Fruits that the judge names on 9 of 10 held-out photographs or more (`training/judge.py` prints how often). Only these are
# wanted of an edit, so that a wrong name is an error of the edit. Every fruit may be the one that is replaced.
NAMED_BY_JUDGE = frozenset(
    {
        "a brown beetroot", "a white cauliflower", "a pink cherry", "a green melon", "a yellow onion", "a red pear",
        "a brown pecan nut", "a red pepper", "an orange pepper", "a black plum", "a light green pomelo", "a beige potato",
        "a brown sweet potato", "a red tomato", "a brown walnut", "a light green apple", "a red and yellow apple",
        "a light green grape",
    }
)  # fmt: skip
Place = tuple[int, float, float, bool]  # size, centre and mirroring of a pasted fruit


@dataclass
class HeldOut:
    """A part of the held-out photographs, by fruit: "a red apple".

    Args:
        photos: the photographs.
        members: numbers of the photographs of each fruit.
        kinds: kind of each fruit, without article and colour: "apple".
        colours: mean colour of each fruit, RGB in [0, 1].
        distances: distances (F, F) of fruits in hue, brightness and elongation, each in units of its standard deviation.
        trained: the phrases that the models were trained on.
    """

    photos: Photos
    members: dict[str, list[int]]
    kinds: dict[str, str]
    colours: dict[str, np.ndarray]
    distances: np.ndarray
    trained: set[str]

    @property
    def fruits(self) -> list[str]:
        return list(self.members)

    def phrase(self, fruit: str, named: bool) -> str:
        """Return the phrase of a fruit in prompts, with its colour if `named`. Raise KeyError if no model knows it."""
        full, short = self.photos.phrases[self.members[fruit][0]][:2]
        if not named:
            return short
        plain = full.replace("a dark ", "a ").replace("a light ", "a ")
        plain = plain.replace("a orange", "an orange")
        for phrase in (full, plain):
            if phrase in self.trained:
                return phrase
        raise KeyError(fruit)

    def nameable(self, fruit: str) -> bool:
        """Return whether the models know the fruit with its colour."""
        try:
            return bool(self.phrase(fruit, True))
        except KeyError:
            return False

    def wanted(self, fruits: list[str], background: str, named: bool) -> Wanted:
        phrases = (self.phrase(fruit, named) for fruit in fruits)
        split = (colour_and_kind(phrase, self.kinds[f]) for phrase, f in zip(phrases, fruits, strict=True))
        return tuple((kind, colour) for colour, kind in split), background

    def caption(self, fruits: list[str], background: str, named: bool) -> str:
        phrases = [self.phrase(fruit, named) for fruit in fruits]
        return main_caption(phrases[0], phrases[1] if len(phrases) > 1 else None, background)

    def wantable(self, named: bool) -> list[str]:
        """Return the fruits that an edit may be asked for, with their colours if `named`."""
        return [f for f in self.fruits if f in NAMED_BY_JUDGE and (not named or self.nameable(f))]

    def partners(self, fruit: str, near: bool, named: bool) -> list[str]:
        """Return the third of the wantable fruits of other kinds that is nearest to a fruit, or farthest from it."""
        row = self.distances[self.fruits.index(fruit)]
        others = [self.fruits.index(f) for f in self.wantable(named) if self.kinds[f] != self.kinds[fruit]]
        others.sort(key=lambda n: row[n])
        third = len(others) // 3
        return [self.fruits[n] for n in (others[:third] if near else others[-third:])]


def has_photos(data: Path) -> bool:
    """Return whether a folder contains the photographs that `tasks` reads."""
    return all((data / "128" / f"{name}.npz").is_file() for name in PHOTOS)


def photographs(data: Path, part: str) -> Photos:
    """Read a part of the held-out photographs: a range of angles of each fruit, disjoint from those of other parts."""
    low, high = PARTS[part]
    found: list[Photos] = []
    for name in PHOTOS:
        photos = read_photos(data, name)
        turned = [np.flatnonzero(photos.axes == axis) for axis in np.unique(photos.axes)]
        chosen = np.concatenate([n[round(low * len(n)) : round(high * len(n))] for n in turned])
        found.append(photos.select(chosen))
    return found[0].joined(found[1])


def held_out(data: Path, part: str = "tasks") -> HeldOut:
    """Read a part of the held-out photographs by fruit."""
    photos = photographs(data, part)
    members: dict[str, list[int]] = {}
    for n, phrases in enumerate(photos.phrases):
        members.setdefault(phrases[0], []).append(n)
    kinds = {fruit: kind_of(photos.phrases[chosen[0]][1]) for fruit, chosen in members.items()}
    colours, measured = {}, []
    for fruit, chosen in members.items():
        means, shapes = zip(*(_measure(photos.images[n], photos.masks[n]) for n in chosen), strict=True)
        r, g, b = colours[fruit] = np.mean(means, 0)
        measured.append([r - g, (r + g) / 2 - b, (r + g + b) / 3, np.mean(shapes)])
    scaled = np.array(measured) / np.std(measured, 0)
    scaled[:, :2] /= np.sqrt(2)  # hue has two numbers and counts once
    distances = np.sqrt(np.square(scaled[:, None] - scaled[None]).sum(-1))
    trained = {phrases[0] for phrases in read_words(data, "fruits_train")[0]}
    return HeldOut(photos, members, kinds, colours, distances, trained)


def tasks(data: Path, count: int, judge: Judge | None = None, *, final: bool = False) -> list[Task]:
    """Compose `count` tasks of each kind of edit, from photographs that no training has used.

    Half of the prompts name colours ("a red apple"), half do not ("an apple"); edits of colour always do. Half of the
    sources are single fruits on white, photographs as they are or scaled, half are scenes; swaps are always scenes. Half
    of the new fruits are near to the old ones, half are far. `final` gives another set, of other photographs. With a
    judge, only tasks are used whose real target it names and accepts: a failure is then an error of the edit.
    """
    part = "final" if final else "tasks"
    held = held_out(data, part)
    out = []
    for number, edit in enumerate(EDITS):
        rng = np.random.default_rng([SEEDS[part], number])
        order: list[str] = []
        for n in range(count):
            named, single, near = edit == "colour" or n % 2 == 0, n // 2 % 2 == 0, n // 4 % 2 == 0
            task = None
            while task is None:
                order = order or [str(f) for f in rng.permutation(held.fruits)]
                task = _task(held, edit, order.pop(), named, single and edit != "swap", near, rng)
                task = task if task is None or judge is None or _named(judge, task) else None
            out.append(task)
    return out


def _named(judge: Judge, task: Task) -> bool:
    """Return whether the judge names and accepts the real target of a task."""
    assert task.wanted
    return succeeded(judge.judge(np.asarray(task.control)[None])[0], task.wanted)


def _task(
    held: HeldOut, edit: str, fruit: str, named: bool, single: bool, near: bool, rng: np.random.Generator
) -> Task | None:
    """Compose a task that begins with a fruit. Return None if the fruit does not suit it."""
    wantable = held.wantable(named)
    if (named and not held.nameable(fruit)) or (edit == "background" and fruit not in wantable):
        return None
    pair = edit == "swap" or (edit == "background" and not single and rng.random() < 0.5)
    fruits = [fruit]
    if pair:
        fruits.append(str(rng.choice([f for f in wantable if held.kinds[f] != held.kinds[fruit]])))
    wanted, side = list(fruits), 0
    if edit == "colour":
        choice = [f for f in wantable if _recoloured(held, fruit, f)]
    elif edit == "background":
        choice = [fruit]
    else:
        choice = [f for f in held.partners(fruit, near, named) if held.kinds[f] not in {held.kinds[f] for f in fruits}]
    if not choice:
        return None
    wanted[0] = str(rng.choice(choice))
    if pair and rng.random() < 0.5:
        fruits, wanted, side = fruits[::-1], wanted[::-1], 1
    background, other = _backgrounds(held, [*fruits, *wanted], single, edit in ("background", "both"), rng)
    photos = [int(rng.choice(held.members[f])) for f in fruits]
    drawn = [int(rng.choice(held.members[f])) for f in wanted]
    new = [p if f == g else q for p, q, f, g in zip(photos, drawn, fruits, wanted, strict=True)]
    as_is = single and rng.random() < 0.5
    places = [_place(x, pair, as_is, rng) for x in ((0.27, 0.73) if pair else (0.5,))]
    canvas = plain_background(background, rng)
    picture, old = _compose(held.photos, photos, places, canvas, as_is)
    if edit == "background":
        canvas = np.broadcast_to(np.array(BACKGROUNDS[other], np.float32), (SIZE, SIZE, 3))
    elif edit == "both":
        canvas = plain_background(other, rng)
    control, pasted = _compose(held.photos, new, places, canvas, as_is and other == "white")
    every, answer = np.maximum.reduce(old), None
    if edit == "background":
        preserved = _eroded(every)
        answer = control, np.maximum(preserved, 1 - _dilated(every))
    elif edit == "both":
        preserved = np.zeros((SIZE, SIZE), np.float32)
    else:
        preserved = 1 - _dilated(np.maximum(old[side], pasted[side]))
    return Task(
        edit, picture, held.caption(fruits, background, named), held.caption(wanted, other, named), preserved,
        wanted=held.wanted(wanted, other, named),
        answer=answer,
        control=control,
        distance="" if edit in ("background", "colour") else "near" if near else "far",
        setting="single" if single else "scene",
    )  # fmt: skip


def _backgrounds(
    held: HeldOut, fruits: list[str], single: bool, change: bool, rng: np.random.Generator
) -> tuple[str, str]:
    """Draw the backgrounds of source and target, on which every fruit can be seen."""
    seen = [name for name in NAMES if all(_apart(held.colours[f], np.array(BACKGROUNDS[name]) / 255) for f in fruits)]
    first = "white" if single else str(rng.choice(seen))
    return first, str(rng.choice([name for name in seen if name != first])) if change else first


def _apart(a: np.ndarray, b: np.ndarray) -> bool:
    return float(np.linalg.norm(a - b)) > VISIBLE


def _recoloured(held: HeldOut, fruit: str, other: str) -> bool:
    """Return whether two fruits are of the same kind, and of clearly different colours that the models know."""
    if held.kinds[fruit] != held.kinds[other] or not (held.nameable(fruit) and held.nameable(other)):
        return False
    (_, a), (_, b) = (held.wanted([f], "white", True)[0][0] for f in (fruit, other))
    apart = float(np.linalg.norm(held.colours[fruit] - held.colours[other]))
    return bool(a and b) and not shades(a or "") & shades(b or "") and apart > COLOURS_APART


def _place(x: float, pair: bool, as_is: bool, rng: np.random.Generator) -> Place:
    if as_is:
        return SIZE, SIZE / 2, SIZE / 2, False
    dx, dy = rng.uniform(-0.06, 0.06, 2) * SIZE
    size = int(SIZE * (0.62 if pair else rng.uniform(0.7, 1.0)))
    return size, SIZE * x + (0 if pair else dx), SIZE / 2 + dy, bool(rng.random() < 0.5)


def _compose(
    photos: Photos, chosen: list[int], places: list[Place], canvas: np.ndarray, as_is: bool
) -> tuple[Image.Image, list[np.ndarray]]:
    """Paste fruits on a canvas. Return the scene, and the coverage of each pixel by each fruit.

    If `as_is`, the scene is the photograph of the only fruit.
    """
    canvas, coverage = canvas.copy(), []
    for n, place in zip(chosen, places, strict=True):
        coverage.append(paste(canvas, photos.images[n], photos.masks[n], *place))
    if as_is:
        return Image.fromarray(photos.images[chosen[0]]), coverage
    return Image.fromarray(np.clip(canvas + 0.5, 0, 255).astype(np.uint8)), coverage


def _measure(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the mean colour, RGB in [0, 1], of a fruit, and the logarithm of its elongation."""
    y, x = np.nonzero(mask)
    low, high = np.linalg.eigvalsh(np.cov(x, y))
    return image[mask > 0].mean(0) / 255, 0.5 * float(np.log(high / low))


def _dilated(mask: np.ndarray) -> np.ndarray:
    """Grow a mask by `RIM` pixels."""
    picture = Image.fromarray((mask > 0.02).astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * RIM + 1))
    return (np.asarray(picture) > 0).astype(np.float32)


def _eroded(mask: np.ndarray) -> np.ndarray:
    """Shrink a mask by one pixel."""
    picture = Image.fromarray((mask > 0.98).astype(np.uint8) * 255).filter(ImageFilter.MinFilter(3))
    return (np.asarray(picture) > 0).astype(np.float32)
