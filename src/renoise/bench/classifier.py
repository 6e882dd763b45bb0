"""Classifier of the fruits and the background of a scene.

It judges edited and generated pictures, and is trained on real photographs only (`training/classifier.py`). Its encoder
is that of orchard's autoencoder, which was trained on many more pictures.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from renoise.bench.fruits import NAMES, SIZE, Picker, compose, main_caption, read_photos
from renoise.bench.tasks import Label
from renoise.pipelines.loading import load as pipeline

KINDS, WEIGHTS = (Path(__file__).parent / f"classifier.{ending}" for ending in ("json", "safetensors"))


def _conv(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer))


class Head(nn.Module):
    """Head that predicts a left fruit, a right fruit and a background.

    Its input is the latents (N, channels, 32, 32) and the mean colours (N, 12) of the four corners. The two fruit slots
    see the means of the features over the left half, the right half and the whole picture. For a single fruit, the left
    slot predicts its kind and the right slot the last class, "none". The background is flat, so the corners suffice.
    """

    def __init__(self, channels: int, kinds: int, widths: tuple[int, int] = (64, 96)) -> None:
        super().__init__()
        a, b = widths
        self.stem, self.stem_more = _conv(channels, a, 2), _conv(a, a)
        self.down, self.down_more = _conv(a, b, 2), _conv(b, b)
        self.drop = nn.Dropout(0.2)
        self.left, self.right = nn.Linear(3 * b, kinds), nn.Linear(3 * b, kinds + 1)
        self.ground = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, len(NAMES)))

    def forward(self, z: torch.Tensor, corners: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        f = F.relu(self.stem(z))
        f = F.relu(f + self.stem_more(f))
        f = F.relu(self.down(f))
        f = F.relu(f + self.down_more(f))
        half = f.shape[-1] // 2
        f = self.drop(torch.cat([f[..., :half].mean((2, 3)), f[..., half:].mean((2, 3)), f.mean((2, 3))], 1))
        return self.left(f), self.right(f), self.ground(corners)


class Classifier(nn.Module):
    """A frozen encoder with a trained head."""

    def __init__(self, encoder: nn.Module, head: Head, kinds: list[str]) -> None:
        super().__init__()
        self.encoder, self.head, self.kinds = encoder, head, kinds

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the logits of the left slot, the right slot and the background for x (N, 3, 128, 128) in [-1, 1]."""
        edges = slice(0, 6), slice(-6, None)
        corners = torch.cat([x[:, :, v, h].mean((2, 3)) for v in edges for h in edges], 1)
        return self.head(self.encoder(x), corners)

    @torch.no_grad()
    def classify(self, images: np.ndarray | torch.Tensor) -> list[Label]:
        """Label pictures: a uint8 array (N, 128, 128, 3), or a float tensor (N, 3, H, W) in [0, 1]."""
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        out: list[Label] = []
        for part in images.split(64):
            x = part.to(self.head.left.weight.device, torch.float32)
            if x.shape[-2:] != (SIZE, SIZE):  # the size of the training pictures
                x = F.interpolate(x, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 1)
            x = x * 2 - 1
            left, right, ground = (v.argmax(1).tolist() for v in self(x))
            for a, b, c in zip(left, right, ground, strict=True):
                fruits = (self.kinds[a],) if b == len(self.kinds) else (self.kinds[a], self.kinds[b])
                out.append((fruits, NAMES[c]))
        return out


def load() -> Classifier:
    """Load the trained classifier."""
    kinds = json.loads(KINDS.read_text(encoding="utf-8"))["kinds"]
    encoder = pipeline("orchard", device="cpu", dtype="fp32").vae.encoder
    state = {name: x.float() if x.is_floating_point() else x for name, x in load_file(WEIGHTS).items()}
    head = Head(state["stem.0.weight"].shape[1], len(kinds))
    head.load_state_dict(state)
    return Classifier(encoder, head, kinds).eval()


def held_out(root: Path, name: str, count: int, seed: int = 7) -> tuple[np.ndarray, list[Label], list[str]]:
    """Compose scenes from held-out photographs like those of the data set. Return pictures, labels and captions."""
    photos, rng = read_photos(root, name), np.random.default_rng(seed)
    pick, kinds = Picker(photos), photos.kinds
    images, labels, captions = [], [], []
    for _ in range(count):
        i, j = pick(rng), pick(rng) if rng.random() < 0.4 else None
        background = str(rng.choice(NAMES))
        images.append(compose(photos, i, j, background, rng))
        labels.append(((kinds[i],) if j is None else (kinds[i], kinds[j]), background))
        captions.append(main_caption(photos.phrases[i][0], None if j is None else photos.phrases[j][0], background))
    return np.stack(images), labels, captions
