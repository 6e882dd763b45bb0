"""Train the head of the classifier that judges generated pictures and edits, on the stored latents of the training scenes."""

import argparse
import json

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from renoise.bench.classifier import KINDS, WEIGHTS, Head, held_out, load
from renoise.bench.fruits import NAMES, kind_of, read_words
from renoise.bench.tasks import same_label

from .common import Clock, arguments, begin, fit
from .data import load_scenes
from .denoiser import load_latents
from .optimizer import Optimizer


def train(args: argparse.Namespace) -> None:
    """Train the head on the stored latents of the training scenes."""
    where = begin(args)
    latents, table, _ = load_latents(args)
    corners = np.concatenate([_corners(s) for s in load_scenes(args.out, args.seeds)[0]])
    all_kinds = [kind_of(p[1]) for p in read_words(args.data, "fruits_train")[0]]
    kinds = sorted(set(all_kinds))
    number = np.array([kinds.index(k) for k in all_kinds])
    first, second, ground = table.T
    # (an untouched photograph, -1 in the table, has a white ground)
    labels = np.stack([number[first], np.where(second < 0, len(kinds), number[second]), np.maximum(ground, 0)], 1)
    head = Head(latents.shape[-1], len(kinds)).to(where, memory_format=torch.channels_last).train()
    optimizer = Optimizer([head], args.rate)

    def loss_of(rng: np.random.Generator, _: Clock) -> torch.Tensor:
        chosen = rng.integers(len(table), size=args.batch)
        z = torch.from_numpy(latents[chosen]).to(where).permute(0, 3, 1, 2).float()
        c, y = torch.from_numpy(corners[chosen]).to(where), torch.from_numpy(labels[chosen]).to(where)
        z, c = jitter(z), c + 0.03 * torch.randn_like(c)
        with torch.autocast(where.type, torch.bfloat16):
            logits = head(z, c)
        loss = torch.stack(
            [F.cross_entropy(v.float(), y[:, n], label_smoothing=0.05) for n, v in enumerate(logits)]
        ).sum()
        loss.backward()
        return loss.detach()

    if not fit(args, "classifier", {"head": head}, optimizer, loss_of, every=200):
        return
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in head.state_dict().items()}
    save_file(state, WEIGHTS)
    WEIGHTS.chmod(0o644)
    KINDS.write_text(json.dumps({"kinds": kinds, "backgrounds": NAMES}) + "\n", encoding="utf-8")
    for name in ("fruits_test_sequences", "fruits_test_objects"):
        images, names, _ = held_out(args.data, name, 400)
        right = [same_label(a, b) for a, b in zip(load().classify(images), names, strict=True)]
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
    train(p.parse_args())


if __name__ == "__main__":
    main()
