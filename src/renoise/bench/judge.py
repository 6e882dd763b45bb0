"""Judge of edited and generated pictures of fruits: what they show, and whether they look like photographs.

A small convolutional network on pixels, trained on real photographs only, whole and spoilt (`training/judge.py`). It
shares nothing with the models that it judges.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from renoise.bench.fruits import NAMES, colour_and_kind, shades

SIDE = 64  # pictures are judged at 64 x 64 pixels, about the size at which the fruits were photographed
REGIONS = {"whole": slice(None), "left": slice(0, SIDE // 16), "right": slice(SIDE // 16, None)}  # of the features
SETTINGS, WEIGHTS = (Path(__file__).parent / f"judge.{ending}" for ending in ("json", "safetensors"))


Fruit = tuple[str, str | None]  # kind and colour
Wanted = tuple[tuple[Fruit, ...], str]  # fruits, and the background


@dataclass(frozen=True)
class Readings:
    """Outputs of the network for N pictures. The regions are the whole picture, its left half and its right half.

    Args:
        phrases: logits (N, 3, P) of the noun phrases ("a red apple") in each region.
        fruit: logits (N, 3) of the fruit in each region being sound.
        picture: logits (N, 1 + W) of the picture being sound, or spoilt in each of W ways.
        two: logits (N,) of two fruits instead of one.
        ground: logits (N, 12) of the backgrounds.
        features: features (N, 3, E) of each region.
    """

    phrases: Tensor
    fruit: Tensor
    picture: Tensor
    two: Tensor
    ground: Tensor
    features: Tensor


def _conv(inner: int, outer: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inner, outer, size, stride, (size - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outer))


class _Wide(nn.Module):
    """A residual block that sees most of its input: a depthwise convolution of 7 x 7, then one of 1 x 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.mix = _conv(width, width, 7, groups=width), _conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.mix(F.relu(self.wide(x))))


class Network(nn.Module):
    """The network of the judge, for `phrases` noun phrases and `ways` in which photographs were spoilt to train it.

    The ways are told apart only because that teaches more than "sound or not".
    """

    def __init__(
        self, phrases: int, ways: int, widths: tuple[int, int, int] = (28, 56, 72), features: int = 64
    ) -> None:
        super().__init__()
        a, b, c = widths
        self.stem, self.more, self.more_still = _conv(3, a, 4, 2), _conv(a, a), _conv(a, a)
        self.down, self.more2, self.down2 = _conv(a, b, 3, 2), _conv(b, b), _conv(b, c, 3, 2)
        self.wide = nn.Sequential(_Wide(c), _Wide(c))
        self.drop = nn.Dropout(0.1)
        self.embed, self.phrases = nn.Linear(2 * c, features), nn.Linear(features, phrases)
        self.fruit = nn.Sequential(nn.Linear(features, 32), nn.ReLU(), nn.Linear(32, 1))
        self.picture = nn.Sequential(nn.Linear(2 * c + 12, 32), nn.ReLU(), nn.Linear(32, 1 + ways))
        self.two = nn.Linear(3 * c, 1)
        self.ground = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, len(NAMES)))

    def forward(self, x: Tensor) -> Readings:
        """Read pictures x (N, 3, 64, 64) in [-1, 1]."""
        edges = slice(0, 3), slice(-3, None)
        corners = torch.cat([x[:, :, v, h].mean((2, 3)) for v in edges for h in edges], 1)
        f = F.relu(self.stem(x))
        f = F.relu(f + self.more_still(F.relu(self.more(f))))
        f = F.relu(self.down(f))
        f = F.relu(f + self.more2(f))
        f = self.wide(F.relu(self.down2(f)))
        parts = [f[..., region] for region in REGIONS.values()]
        means = [part.mean((2, 3)) for part in parts]
        pooled = torch.stack([torch.cat([m, p.amax((2, 3))], 1) for m, p in zip(means, parts, strict=True)], 1)
        features = F.relu(self.embed(self.drop(pooled)))
        picture = self.picture(torch.cat([self.drop(pooled[:, 0]), corners], 1))
        two, ground = self.two(torch.cat(means, 1))[:, 0], self.ground(corners)
        return Readings(self.phrases(features), self.fruit(features)[..., 0], picture, two, ground, features)


@dataclass(frozen=True)
class Verdict:
    """What the judge says of one picture.

    Args:
        fruits: kind and colour of each fruit, from left to right. The colour is None for "an orange".
        background: the background.
        sound: probability that the fruits and the picture are sound.
        accepted: whether `sound` reaches the threshold of the judge.
        features: features (fruits, E) of each fruit.
    """

    fruits: tuple[Fruit, ...]
    background: str
    sound: float
    accepted: bool
    features: Tensor


def succeeded(verdict: Verdict, wanted: Wanted) -> bool:
    """Return whether a picture is accepted and shows the wanted fruits and background.

    The fruits may be in any order. A colour is right if it shares a word with the wanted one, "dark" and "light" aside;
    a wanted colour of None admits every colour.
    """
    fruits, background = wanted
    if not verdict.accepted or verdict.background != background or len(fruits) != len(verdict.fruits):
        return False
    orders = (verdict.fruits, verdict.fruits[::-1])
    return any(all(_fits(*pair) for pair in zip(order, fruits, strict=True)) for order in orders)


def _fits(seen: Fruit, wanted: Fruit) -> bool:
    if seen[0] != wanted[0]:
        return False
    return wanted[1] is None or seen[1] is None or bool(shades(seen[1]) & shades(wanted[1]))


class Judge:
    """A trained network with its phrases, its threshold and the features of real photographs."""

    def __init__(self, network: Network, settings: dict, centres: Tensor, spread: Tensor) -> None:
        self.network, self.threshold, self.weights = network.eval(), settings["threshold"], settings["weights"]
        self.kinds: list[str] = settings["kinds"]
        self.named = [colour_and_kind(phrase, *self.kinds) for phrase in settings["phrases"]]
        self.of_kind = torch.tensor([self.kinds.index(kind) for _, kind in self.named])
        self.centres, self.spread = centres, spread

    @torch.no_grad()
    def judge(self, pictures: Tensor | np.ndarray) -> list[Verdict]:
        """Judge pictures: a float tensor (N, 3, H, W) in [0, 1], or a uint8 array (N, H, W, 3)."""
        if isinstance(pictures, np.ndarray):
            pictures = torch.tensor(pictures).permute(0, 3, 1, 2) / 255
        return [verdict for part in pictures.split(64) for verdict in self._judge(self.read(part))]

    def read(self, pictures: Tensor) -> Readings:
        """Read pictures (N, 3, H, W) in [0, 1]."""
        return self.network(at_side(pictures.detach().float().cpu()) * 2 - 1)

    def _judge(self, read: Readings) -> list[Verdict]:
        phrases, kinds = read.phrases.softmax(-1), self._kinds(read)
        sound = (self.evidence(read) @ torch.tensor(self.weights[:-1]) + self.weights[-1]).sigmoid().tolist()
        verdicts = []
        for n, two in enumerate((read.two > 0).tolist()):
            regions = [1, 2] if two else [0]
            fruits = []
            for r in regions:
                kind = int(kinds[n, r].argmax())
                best = int(torch.where(self.of_kind == kind, phrases[n, r], -1.0).argmax())
                fruits.append((self.kinds[kind], self.named[best][0]))
            background, features = NAMES[int(read.ground[n].argmax())], read.features[n, regions]
            verdicts.append(Verdict(tuple(fruits), background, sound[n], sound[n] >= self.threshold, features))
        return verdicts

    def _kinds(self, read: Readings) -> Tensor:
        """Return the probabilities (N, 3, kinds) of the kinds in each region."""
        phrases = read.phrases.softmax(-1)
        return torch.zeros(*phrases.shape[:2], len(self.kinds)).index_add_(2, self.of_kind, phrases)

    def evidence(self, read: Readings) -> Tensor:
        """Return what tells sound pictures from spoilt ones, (N, 4); larger is better.

        The logit of the fruit being sound, the logarithm of the probability of its kind, minus its naturalness, each of
        the worse fruit if there are two, and the logit of the picture being sound.
        """
        kinds = self._kinds(read)
        far = self._distances(read.features, kinds.argmax(-1))
        of_fruits = torch.stack([read.fruit, kinds.amax(-1).clamp(min=1e-6).log(), -far], -1)
        worst = torch.where((read.two > 0)[:, None], of_fruits[:, 1:].amin(1), of_fruits[:, 0])
        picture = read.picture[:, 0] - read.picture[:, 1:].logsumexp(-1)
        return torch.cat([worst, picture[:, None]], 1)

    def _distances(self, features: Tensor, kinds: Tensor) -> Tensor:
        """Return the distances (...) of features (..., E) from real photographs of these kinds (...)."""
        apart = ((features[..., None, :] - self.centres) / self.spread).square().mean(-1)
        return torch.where(self.of_kind == kinds[..., None], apart, torch.inf).amin(-1)

    def naturalness(self, verdict: Verdict) -> float:
        """Return how far the fruits' features are from those of real photographs of the same kind, about 1 for these.

        The mean over features of ((f − m) / s)², with m the mean of the nearest phrase of the kind ("a red apple") and s
        the standard deviation of real photographs around such means; of the worst fruit.
        """
        kinds = torch.tensor([self.kinds.index(kind) for kind, _ in verdict.fruits])
        return self._distances(verdict.features, kinds).max().item()


def at_side(pictures: Tensor) -> Tensor:
    """Resize pictures (N, 3, H, W) to those that the network reads, by averaging."""
    if pictures.shape[-2:] == (SIDE, SIDE):
        return pictures
    return F.interpolate(pictures, (SIDE, SIDE), mode="area")


def load() -> Judge:
    """Load the trained judge."""
    settings = json.loads(SETTINGS.read_text(encoding="utf-8"))
    state = {name: x.float() if x.is_floating_point() else x for name, x in load_file(WEIGHTS).items()}
    centres, spread = state.pop("centres"), state.pop("spread")
    network = Network(len(settings["phrases"]), len(settings["ways"]))
    network.load_state_dict(state)
    return Judge(network, settings, centres, spread)
