"""Scenes for the judge of edits: photographs, whole and spoilt, composed as training goes."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

from renoise.bench.fruits import BACKGROUNDS, NAMES, Photos, Picker
from renoise.bench.judge import SIDE

from .spoilt import FRUITS, GROUNDS, Colours, Fruits, blurred, moved, uniform

SPOILT = [*FRUITS, *GROUNDS]
# Those that look most like failed edits, and are often not used because the two fruits are alike, are drawn twice as often.
WAYS = [*SPOILT, "mixed", "refilled", "recoloured", "halved", "rimmed"]
GROUND = torch.tensor(list(BACKGROUNDS.values())) / 255


@dataclass
class Batch:
    """Scenes (N, 3, 64, 64) in [0, 1], and what is true of them.

    The slots are those of the judge: a single fruit is in slot 0, two fruits are in slots 1 and 2.
    """

    scenes: Tensor
    phrases: Tensor  # (N, 3), -1 where there is no fruit, or a spoilt one
    sound: Tensor  # (N, 3): 1, 0 or -1, unknown
    picture: Tensor  # (N,): 1, 0 or -1
    way: Tensor  # (N,): 0 for a sound picture, else 1 + the number of the way in `SPOILT`; -1 if unknown
    two: Tensor  # (N,): 1, 0 or -1
    ground: Tensor  # (N,): -1 where it is spoilt

    def mirrored(self) -> "Batch":
        """Return the scenes from right to left."""
        swapped = [0, 2, 1]
        scenes, phrases, sound = self.scenes.flip(-1), self.phrases[:, swapped], self.sound[:, swapped]
        return replace(self, scenes=scenes, phrases=phrases, sound=sound)


class Composer:
    """Composes scenes of 64 x 64 pixels from photographs."""

    def __init__(self, photos: Photos, phrases: list[str], kinds: list[str]) -> None:
        self.photos, self.pick = photos, Picker(photos)
        small = torch.empty(len(photos.images), 4, SIDE, SIDE, dtype=torch.uint8)
        self.plain = torch.empty(len(photos.images), 3, SIDE, SIDE, dtype=torch.uint8)
        for n, (image, mask) in enumerate(zip(photos.images, photos.masks, strict=True)):
            inner = np.asarray(Image.fromarray(mask * 255).filter(ImageFilter.MinFilter(3)))
            alpha = torch.from_numpy(inner.copy())[None] / 255
            rgb = torch.from_numpy(image).permute(2, 0, 1) / 255
            both = F.avg_pool2d(torch.cat([rgb * alpha, alpha, rgb]), 2)
            small[n] = torch.cat([both[:3] / both[3:4].clamp(min=0.1), both[3:4]]).mul(255).clamp(0, 255).byte()
            self.plain[n] = both[4:].mul(255).byte()
        self.small = small
        self.phrase = torch.tensor([phrases.index(p[0]) if p[0] in phrases else -1 for p in photos.phrases])
        self.kind = torch.tensor([kinds.index(k) for k in photos.kinds])
        chosen = torch.arange(0, len(small), 4 if len(small) > 2000 else 1)
        self.colours = Colours(self.fruits(chosen).mean(), self.kind[chosen])

    def fruits(self, chosen: Tensor) -> Fruits:
        """Return the cut-out fruits of photographs."""
        x = self.small[chosen] / 255
        return Fruits(x[:, :3], x[:, 3:], self.kind[chosen])

    def __call__(
        self, rng: np.random.Generator, n: int, spoil: float = 0.5, soft: float = 1.0, way: str | None = None
    ) -> Batch:
        """Compose n scenes, a share `spoil` of them spoilt, in one `way` or in all. `soft` scales how soft they are."""
        chosen = torch.tensor([[self.pick(rng), self.pick(rng), self.pick(rng)] for _ in range(n)])
        two = torch.from_numpy(rng.random(n) < 0.5)
        ground = torch.from_numpy(rng.integers(len(NAMES), size=n))
        names = WAYS if way is None else [way]
        spoilt = np.where(rng.random(n) < spoil, rng.choice(names, n), "").tolist()
        colour = GROUND[ground][..., None, None] + torch.randn(n, 3, 1, 1) * 0.03 * (ground != 0)[:, None, None, None]
        layers = [varied(self.fruits(chosen[:, 0]), soft), varied(self.fruits(chosen[:, 1]), soft)]
        other, side = self.fruits(chosen[:, 2]), torch.where(two, torch.randint(2, (n,)), 0)
        sound = torch.full((n, 3), -1.0)
        sound[~two, 0] = 1
        sound[two, 1:] = 1
        picture, known = torch.ones(n), torch.tensor([way in ("", *GROUNDS) for way in spoilt])
        for name, function in FRUITS.items():
            for s, layer in enumerate(layers):
                rows = torch.tensor([w == name for w in spoilt]) & (side == s)
                if not rows.any():
                    continue
                new, ok = function(layer[rows], other[rows], self.colours, colour[rows])
                layer.rgb[rows], layer.alpha[rows] = new.rgb, new.alpha
                where = rows.nonzero()[:, 0]
                picture[where] = torch.where(ok, 0.0, -1.0)
                sound[where, torch.where(two[where], s + 1, 0)] = picture[where]
        canvas = (colour + torch.linspace(0.5, -0.5, SIDE)[:, None] * uniform(n, 0, 0.1)
                  * (ground != 0)[:, None, None, None]).clamp(0, 1) + torch.zeros(n, 3, SIDE, SIDE)  # fmt: skip
        placed = [self._place(layers[0], two, 0), self._place(layers[1], two, 1)]
        cover = torch.maximum(placed[0][:, 3:], placed[1][:, 3:])
        for name, function in GROUNDS.items():
            rows = torch.tensor([w == name for w in spoilt])
            if rows.any():
                away = GROUND[torch.randint(len(NAMES), (int(rows.sum()),))][..., None, None]
                canvas[rows], ok = function(canvas[rows], cover[rows], away)
                picture[rows] = torch.where(ok, 0.0, -1.0)
                sound[rows] = torch.where(ok[:, None], sound[rows], -1.0)
        for layer in placed:
            canvas = canvas * (1 - layer[:, 3:]) + layer[:, :3]
        plain = torch.tensor([w == "" for w in spoilt]) & ~two & torch.from_numpy(rng.random(n) < 0.2)
        canvas[plain] = self._mirrored(self.plain[chosen[plain, 0]] / 255)
        ground[plain] = 0
        phrases = torch.full((n, 3), -1)
        phrases[~two, 0] = self.phrase[chosen[~two, 0]]
        phrases[two, 1], phrases[two, 2] = self.phrase[chosen[two, 0]], self.phrase[chosen[two, 1]]
        phrases = torch.where(sound == 1, phrases, -1)
        ground = torch.where(known & (picture >= 0) & torch.tensor([w not in GROUNDS for w in spoilt]), ground, -1)
        count = torch.where(picture == 1, two.float(), -1.0)
        way_number = torch.tensor([1 + SPOILT.index(w) if w else 0 for w in spoilt])
        way_number = torch.where(picture >= 0, way_number, -1)
        return Batch(softened(canvas, soft).clamp(0, 1), phrases, sound, picture, way_number, count, ground)

    @staticmethod
    def _mirrored(x: Tensor) -> Tensor:
        return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x, x.flip(-1))

    @staticmethod
    def _place(layer: Fruits, two: Tensor, slot: int) -> Tensor:
        """Place fruits where the slot is; (N, 4, 64, 64), colours times opacity. There is no second fruit beside a single one."""
        n, random = len(two), lambda low, high: torch.empty(len(two)).uniform_(low, high)
        scale = torch.where(two, random(0.52, 0.7), random(0.65, 1.18))
        dx = torch.where(two, -0.23 + 0.46 * slot + random(-0.03, 0.03), random(-0.1, 0.1))
        dy = torch.where(two, random(-0.08, 0.08), random(-0.1, 0.1))
        turn = random(-0.35, 0.35) * (torch.rand(n) < 0.5)
        mirror = torch.where(torch.rand(n) < 0.5, 1.0, -1.0)
        alpha = (layer.alpha * 1.3 - 0.3).clamp(0, 1)
        stretch = random(-0.06, 0.06).exp()
        out = moved(torch.cat([layer.rgb * alpha, alpha], 1), scale, dx, dy, turn, mirror, stretch)
        return out * two[:, None, None, None] if slot else out


def varied(a: Fruits, amount: float = 1.0) -> Fruits:
    """Change brightness, contrast and colour as much as other fruits of the kind, or other light, may."""
    n = len(a.rgb)
    mean = a.mean()[..., None, None]
    x = mean + (a.rgb - mean) * (1 + amount * uniform(n, -0.1, 0.1))
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + amount * uniform(n, -0.08, 0.08))
    gain = (1 + amount * uniform(n, -0.06, 0.06)) * (1 + 0.015 * amount * torch.randn(n, 3, 1, 1))
    return Fruits((x * gain).clamp(0, 1), a.alpha, a.kind)


def softened(x: Tensor, amount: float = 1.0) -> Tensor:
    """Make pictures (N, 3, S, S) as soft as drawn ones: blur, fewer pixels, noise, blots, other brightness and colour."""
    n, side = len(x), x.shape[-1]
    if amount == 0:
        return x
    half = torch.rand(n, 1, 1, 1) < 0.5
    x = torch.where(half, x + uniform(n, 0, amount) * (blurred(x, 1.0) - x), x)
    fewer = F.interpolate(F.interpolate(x, (side * 5 // 8, side * 5 // 8), mode="area"), (side, side), mode="bilinear")
    x = torch.where(torch.rand(n, 1, 1, 1) < 0.2 * amount, fewer, x)
    x = x + uniform(n, 0, 0.012 * amount) * torch.randn_like(x)
    blots = F.interpolate(torch.randn(n, 3, side // 8, side // 8), (side, side), mode="bilinear")
    x = x + uniform(n, 0, 0.02 * amount) * blots
    mean = x.mean((2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + 0.04 * amount * torch.randn(n, 1, 1, 1).clamp(-2, 2))
    return x * (1 + 0.015 * amount * torch.randn(n, 3, 1, 1)) + 0.015 * amount * torch.randn(n, 1, 1, 1)
