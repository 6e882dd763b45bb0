"""A small classifier that names the fruits and the background of a scene; trained on real photographs only.

It judges generated pictures (`training.evaluate`) and edits. Use it as

    model = training.classifier.load()
    model.name(images)          # uint8 (N, 128, 128, 3) or floats in [-1, 1] (N, 3, 128, 128)
    # [(("apple", "lemon"), "blue"), (("plum",), "white"), ...]      kinds from left to right, and the background
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from torch import nn

from training.autoencoder import CONFIG, LATENT_CHANNELS, load_vae
from training.common import Clock, Optimizer, arguments, begin, fit, to_tensor
from training.data import NAMES, Picker, compose, kind_of, load_scenes, main_caption, read_photos, read_words

FOLDER = Path(__file__).parent
Naming = tuple[tuple[str, ...], str]


def _conv(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer))


class Head(nn.Module):
    """Names what 32 x 32 latents and the picture's corners show: a left slot, a right slot and a background.

    Means of the left half, the right half and the whole feed two fruit slots. The right slot says "none" (its last
    class) where there is one fruit, which the left slot then names. The background is flat and reaches the corners.
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
    """The autoencoder's encoder, which has learnt to see fruits from many more pictures, frozen, and a head."""

    def __init__(self, kinds: list[str]) -> None:
        super().__init__()
        self.kinds = kinds
        self.encoder = AutoencoderTiny(**CONFIG).encoder
        self.head = Head(LATENT_CHANNELS, len(kinds))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of the left slot, the right slot and the background; x in [-1, 1], (N, 3, 128, 128)."""
        edges = slice(0, 6), slice(-6, None)
        corners = torch.cat([x[:, :, v, h].mean((2, 3)) for v in edges for h in edges], 1)
        return self.head(self.encoder(x), corners)

    @torch.no_grad()
    def name(self, images: np.ndarray | torch.Tensor) -> list[Naming]:
        """Kinds from left to right and the background colour of each picture."""
        self.eval()
        where = self.head.left.weight.device
        x = to_tensor(images, where) if isinstance(images, np.ndarray) else images.to(where, torch.float32)
        out: list[Naming] = []
        for part in x.split(64):
            left, right, ground = (v.argmax(1).tolist() for v in self(part))
            for a, b, c in zip(left, right, ground, strict=True):
                fruits = (self.kinds[a],) if b == len(self.kinds) else (self.kinds[a], self.kinds[b])
                out.append((fruits, NAMES[c]))
        return out


def load(folder: Path = FOLDER) -> Classifier:
    """The trained classifier."""
    model = Classifier(json.loads((folder / "config.json").read_text())["kinds"])
    model.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in load_file(folder / "model.safetensors").items()}
    )
    return model.eval()


def same(a: Naming, b: Naming) -> bool:
    """All named alike: the fruits whatever their order, and the background."""
    return sorted(a[0]) == sorted(b[0]) and a[1] == b[1]


def held_out(root: Path, name: str, count: int, seed: int = 7) -> tuple[np.ndarray, list[Naming], list[str]]:
    """Scenes composed from held-out photographs as the data set composes them: pictures, true names, captions."""
    photos, rng = read_photos(root, name), np.random.default_rng(seed)
    pick, kinds = Picker(photos), photos.kinds
    images, names, captions = [], [], []
    for _ in range(count):
        i, j = pick(rng), pick(rng) if rng.random() < 0.4 else None
        ground = str(rng.choice(NAMES))
        images.append(compose(photos, i, j, ground, rng))
        names.append(((kinds[i],) if j is None else (kinds[i], kinds[j]), ground))
        captions.append(main_caption(photos.phrases[i][0], None if j is None else photos.phrases[j][0], ground))
    return np.stack(images), names, captions


def train(args: argparse.Namespace) -> None:
    """Train the head on the stored latents of the training scenes."""
    where = begin(args)
    sets, table = load_scenes(args.out, args.seeds)
    latents = np.concatenate([np.load(args.out / f"latents-{s}.npy", mmap_mode="r") for s in args.seeds])
    corners = np.concatenate([_corners(s) for s in sets])
    all_kinds = [kind_of(p[1]) for p in read_words(args.data, "fruits_train")[0]]
    kinds = sorted(set(all_kinds))
    number = np.array([kinds.index(k) for k in all_kinds])
    first, second, ground = table.T
    # (an untouched photograph, -1 in the table, has a white ground)
    labels = np.stack([number[first], np.where(second < 0, len(kinds), number[second]), np.maximum(ground, 0)], 1)
    model = Classifier(kinds).to(where, memory_format=torch.channels_last)
    model.encoder.load_state_dict(load_vae(args.vae, where).encoder.state_dict())
    head = model.head.train()
    optimizer = Optimizer([head], args.rate)

    def loss_of(rng: np.random.Generator, _: Clock) -> torch.Tensor:
        chosen = rng.integers(len(table), size=args.batch)
        z = torch.from_numpy(latents[chosen]).to(where).permute(0, 3, 1, 2).float()
        c, y = torch.from_numpy(corners[chosen]).to(where), torch.from_numpy(labels[chosen]).to(where)
        z, c = jitter(z), c + 0.03 * torch.randn_like(c)
        with torch.autocast(where.type, torch.bfloat16):
            logits = head(z, c)
        return torch.stack(
            [F.cross_entropy(v.float(), y[:, n], label_smoothing=0.05) for n, v in enumerate(logits)]
        ).sum()

    if not fit(args, "classifier", {"head": head}, optimizer, loss_of, every=200):
        return
    args.weights.mkdir(parents=True, exist_ok=True)
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file(state, args.weights / "model.safetensors")
    (args.weights / "model.safetensors").chmod(0o644)
    (args.weights / "config.json").write_text(json.dumps({"kinds": kinds, "backgrounds": NAMES}) + "\n")
    for name in ("fruits_test_sequences", "fruits_test_objects"):
        images, names, _ = held_out(args.data, name, 400)
        right = [same(a, b) for a, b in zip(load(args.weights).name(images), names, strict=True)]
        print(json.dumps({"set": name, "scenes": len(names), "named": float(np.mean(right))}))


def _corners(images: np.ndarray) -> np.ndarray:
    """Mean colours of the four corners, as the classifier takes them, of a set of scenes; float32 (N, 12)."""
    edges = slice(0, 6), slice(-6, None)
    means = [images[:, v, h].mean((1, 2), dtype=np.float32) for v in edges for h in edges]
    return np.concatenate(means, 1) / 127.5 - 1


def jitter(z: torch.Tensor) -> torch.Tensor:
    """Noise, gain and offset of channels, a shift by up to four latent pixels: kinds must survive them."""
    n, c = z.shape[:2]
    z = z * (1 + 0.08 * torch.randn(n, c, 1, 1, device=z.device)) + 0.04 * torch.randn(n, c, 1, 1, device=z.device)
    z = z + 0.2 * torch.rand(n, 1, 1, 1, device=z.device) * torch.randn_like(z)
    side, (dx, dy) = z.shape[-1], torch.randint(0, 9, (2,)).tolist()
    return F.pad(z, (4, 4, 4, 4), mode="replicate")[..., dy : dy + side, dx : dx + side]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(p, minutes=8, batch=128, rate=2e-3)
    p.add_argument("--weights", type=Path, default=FOLDER, help="where the trained weights go")
    p.add_argument("--vae", type=Path, default=Path("runs/vae"), help="the autoencoder, its encoder frozen")
    train(p.parse_args())
