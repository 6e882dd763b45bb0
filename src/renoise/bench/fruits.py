"""Photographs of fruits, and scenes composed from them.

A *scene* is one or two cut-out fruits on a coloured background. Its caption is therefore known exactly (the fruits,
their order and the colour), and so are the pixels that an edit may change. The data folder is always an argument, and
is only read.
"""

import io
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

SIZE = 128
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "gray": (150, 150, 150),
    "black": (20, 20, 20),
    "red": (200, 40, 40),
    "orange": (240, 150, 50),
    "yellow": (245, 220, 80),
    "green": (70, 150, 70),
    "blue": (60, 110, 200),
    "purple": (125, 70, 160),
    "pink": (240, 160, 190),
    "brown": (120, 80, 50),
    "beige": (225, 205, 170),
}
NAMES = list(BACKGROUNDS)
PREFIX, SUFFIX = "a photo of ", " on a white background"


@dataclass
class Photos:
    """Photographs of fruits with object masks.

    `phrases[i][0]` is the noun phrase with a colour ("a red apple"), and `phrases[i][1]` the one without ("an apple").
    """

    images: np.ndarray  # uint8 (N, 128, 128, 3)
    masks: np.ndarray  # uint8 (N, 128, 128), 0 or 1
    phrases: list[list[str]]
    captions: list[list[str]]
    classes: np.ndarray  # int (N,): number of the folder of each photograph
    axes: np.ndarray  # int (N,): number of the fruit and the axis around which it was turned between photographs

    @property
    def kinds(self) -> list[str]:
        """Return the kind of each fruit, without article and colour: "apple", "sweet potato"."""
        return [kind_of(p[1]) for p in self.phrases]

    def select(self, chosen: np.ndarray) -> "Photos":
        """Return the photographs with these numbers."""
        phrases, captions = ([words[n] for n in chosen] for words in (self.phrases, self.captions))
        return Photos(
            self.images[chosen], self.masks[chosen], phrases, captions, self.classes[chosen], self.axes[chosen]
        )

    def joined(self, other: "Photos") -> "Photos":
        """Return these photographs and those of another file, whose folders and axes are other ones."""
        return Photos(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.masks, other.masks]),
            self.phrases + other.phrases,
            self.captions + other.captions,
            np.concatenate([self.classes, other.classes + self.classes.max() + 1]),
            np.concatenate([self.axes, other.axes + self.axes.max() + 1]),
        )


def kind_of(phrase: str) -> str:
    """Remove the article of a phrase without colour: "an apple" -> "apple"."""
    return phrase.split(" ", 1)[1]


def colour_and_kind(phrase: str, *kinds: str) -> tuple[str | None, str]:
    """Split a phrase that ends with one of `kinds`: "a dark red cherry" -> "dark red", "cherry"; "an orange" has no colour."""
    words = phrase.removeprefix("an ").removeprefix("a ")
    kind = max((k for k in kinds if words == k or words.endswith(" " + k)), key=len)
    return words.removesuffix(kind).strip() or None, kind


def shades(colour: str) -> set[str]:
    """Return the colours that a phrase names, without "dark" and "light": "red and dark green" -> {"red", "green"}."""
    return set(colour.split()) - {"dark", "light", "and"}


def read_photos(root: Path, name: str) -> Photos:
    """Read the photographs in `128/{name}.npz`: concatenated JPEG or WebP images, and bit-packed masks.

    Photographs of one axis follow one another in the order of the angles.
    """
    z = np.load(root / "128" / f"{name}.npz")
    data, off, mask, mask_off, cap = z["data"], z["off"], z["mask"], z["mask_off"], z["cap"]
    count = len(off) - 1
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    masks = np.empty((count, SIZE, SIZE), np.uint8)
    for i in range(count):
        images[i] = np.asarray(Image.open(io.BytesIO(data[off[i] : off[i + 1]].tobytes())).convert("RGB"))
        packed = np.frombuffer(zlib.decompress(mask[mask_off[i] : mask_off[i + 1]].tobytes()), np.uint8)
        masks[i] = np.unpackbits(packed).reshape(SIZE, SIZE)
    groups = json.loads((root / "captions.json").read_text())["groups"]
    captions = [groups[c] for c in cap]
    numbers = (z[key].astype(np.int64) for key in ("cls", "group"))
    return Photos(images, masks, [_phrases(c) for c in captions], captions, *numbers)


def read_words(root: Path, name: str) -> tuple[list[list[str]], list[list[str]]]:
    """Read the phrases and captions of photographs, without decoding the pictures."""
    groups = json.loads((root / "captions.json").read_text())["groups"]
    captions = [groups[c] for c in np.load(root / "128" / f"{name}.npz")["cap"]]
    return [_phrases(c) for c in captions], captions


def read_scenes(root: Path, name: str = "scenes_test") -> tuple[np.ndarray, list[str], np.ndarray]:
    """Read the held-out scenes: images (N, 128, 128, 3), captions, and masks that are 255 where an edit may change."""
    z = np.load(root / "128" / f"{name}.npz")
    data, off = z["data"], z["off"]
    spans = (data[off[i] : off[i + 1]].tobytes() for i in range(len(off) - 1))
    images = np.stack([np.asarray(Image.open(io.BytesIO(span)).convert("RGB")) for span in spans])
    return images, z["caption"].tolist(), z["edit_mask"]


def _phrases(captions: list[str]) -> list[str]:
    """Return the noun phrases of a group of captions: with colour, without colour, then other names."""
    plain = [c for c in captions if "photo" not in c and "background" not in c]
    named = [c[len(PREFIX) : -len(SUFFIX)] for c in captions if c.startswith(PREFIX) and c.endswith(SUFFIX)]
    first, second = plain[0], plain[-1]
    return [first, second, *[p for p in named if p not in (first, second)]]


def described(caption: str) -> tuple[list[str], str]:
    """Return the phrases ("red apple"), left to right, and the background of a caption made by `main_caption`."""
    body, _, tail = caption.partition(" on a")
    words = body.removeprefix(PREFIX).replace(" and ", " ")
    return [p for p in (" " + words).replace(" an ", "|").replace(" a ", "|").split("|") if p], tail.split()[-2]


def parse(caption: str, kinds: list[str]) -> tuple[tuple[str, ...], str]:
    """Return the kinds of fruit, left to right, and the background of a caption in the form of `main_caption`."""
    phrases, background = described(caption)
    # "orange" is a kind and a colour. It is a fruit only if no other noun follows it.
    found = [max((k for k in kinds if p == k or p.endswith(" " + k)), key=len) for p in phrases]
    return tuple(found), background


def main_caption(first: str, second: str | None, background: str) -> str:
    """Return the caption "a photo of X and Y on a Z background", the main form of the data set."""
    body = first if second is None else f"{first} and {second}"
    return f"a photo of {body} on {'an' if background[0] in 'aeiou' else 'a'} {background} background"


def paste(
    canvas: np.ndarray, image: np.ndarray, mask: np.ndarray, size: int, x: float, y: float, flip: bool
) -> np.ndarray:
    """Paste one fruit on a float canvas (S, S, 3) in place, and return its coverage (S, S) of each pixel in [0, 1].

    The outermost pixels of the cut-out are white and are removed.
    """
    full = canvas.shape[0]
    alpha = Image.fromarray(mask * 255).filter(ImageFilter.MinFilter(3))
    fruit = Image.fromarray(image)
    if flip:
        alpha, fruit = (p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in (alpha, fruit))
    rgb = np.asarray(fruit.resize((size, size), Image.Resampling.LANCZOS), np.float32)
    a = np.asarray(alpha.resize((size, size), Image.Resampling.BILINEAR), np.float32) / 255
    a = np.clip(a * 1.3 - 0.3, 0, 1)[..., None]
    x0, y0 = round(x - size / 2), round(y - size / 2)
    xs, ys, xe, ye = max(0, x0), max(0, y0), min(full, x0 + size), min(full, y0 + size)
    a, rgb = a[ys - y0 : ye - y0, xs - x0 : xe - x0], rgb[ys - y0 : ye - y0, xs - x0 : xe - x0]
    canvas[ys:ye, xs:xe] *= 1 - a
    canvas[ys:ye, xs:xe] += rgb * a
    coverage = np.zeros((full, full), np.float32)
    coverage[ys:ye, xs:xe] = a[..., 0]
    return coverage


def plain_background(name: str, rng: np.random.Generator) -> np.ndarray:
    """Return a background (128, 128, 3): the colour with a random variation and gradient, white unchanged."""
    if name == "white":
        return np.full((SIZE, SIZE, 3), 255, np.float32)
    colour = np.array(BACKGROUNDS[name], np.float32) + rng.normal(0, 8, 3)
    slope = np.linspace(0.5, -0.5, SIZE)[:, None, None] * rng.uniform(0, 24)
    return np.clip(colour + slope + np.zeros((SIZE, SIZE, 1)), 0, 255).astype(np.float32)


def compose(
    photos: Photos, i: int, j: int | None, background: str, rng: np.random.Generator, vary: float = 1.0
) -> np.ndarray:
    """Compose one scene, uint8 (128, 128, 3). `vary` > 1 varies the size of two fruits, unlike held-out scenes."""
    canvas = plain_background(background, rng)
    if j is None:
        size = int(SIZE * rng.uniform(0.7, 1.15))
        x, y = SIZE / 2 + rng.uniform(-0.08, 0.08, 2) * SIZE
        paste(canvas, photos.images[i], photos.masks[i], size, x, y, rng.random() < 0.5)
    else:
        size = int(SIZE * (0.62 + (rng.uniform(-0.06, 0.06) if vary > 1 else 0)))
        for k, x in ((i, 0.27), (j, 0.73)):
            y = SIZE * (0.5 + rng.uniform(-0.06, 0.06))
            paste(canvas, photos.images[k], photos.masks[k], size, SIZE * x, y, rng.random() < 0.5)
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


class Picker:
    """Random choice of photographs, balanced over folders and kinds.

    Neither folders with many photographs nor kinds with many folders dominate.
    """

    def __init__(self, photos: Photos) -> None:
        kinds = np.array(photos.kinds)
        self.tables = [
            [np.flatnonzero(photos.classes == c) for c in np.unique(photos.classes)],
            [np.flatnonzero(kinds == k) for k in np.unique(kinds)],
        ]

    def __call__(self, rng: np.random.Generator) -> int:
        table = self.tables[rng.random() < 0.5]
        return int(rng.choice(table[rng.integers(len(table))]))
