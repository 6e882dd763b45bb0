"""Train the autoencoder: pictures of 128 px to 32 x 32 latents and back.

With `--encode` it encodes the training scenes instead, for the denoiser.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from renoise.bench.fruits import SIZE, read_scenes

from .common import Clock, arguments, begin, device, fit, psnr, to_tensor
from .data import load_scenes
from .optimizer import Optimizer

SCALE, LATENT_CHANNELS = 4, 8  # pixels a latent pixel, and numbers in it
# A decoder of nearest upsampling and convolutions learns very slowly to paint different pixels from one latent pixel: at 8
# pixels a latent pixel and as many numbers in all, it stood at 33.7 dB after 14 minutes, blurred, and two minutes
# on one core now do better. Narrow, because steps are what is short on a CPU (other widths than multiples of 32 are slow in
# bfloat16). No block works at full resolution: these would take half the time.
CONFIG = dict(
    latent_channels=LATENT_CHANNELS,
    encoder_block_out_channels=(32, 32, 32),
    decoder_block_out_channels=(32, 32, 32),
    num_encoder_blocks=(0, 1, 3),
    num_decoder_blocks=(4, 2, 0),
)


def batches(images: list[np.ndarray], rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """Random crops of `size` px (at any offset), or whole pictures, mirrored at random."""
    out = np.empty((count, size, size, 3), np.uint8)
    for n in range(count):
        part = images[rng.integers(len(images))]
        y, x = rng.integers(SIZE - size + 1, size=2)
        crop = part[rng.integers(len(part)), y : y + size, x : x + size]
        out[n] = crop[:, ::-1] if rng.random() < 0.5 else crop
    return out


def crops(args: argparse.Namespace, clock: Clock) -> tuple[int, int]:
    """Side in pixels and number of a batch's crops: whole pictures at the end, since a crop's edge is not a picture's."""
    return (SIZE, args.batch // 4) if clock.progress > args.crops else (SIZE // 2, args.batch)


def crop_arguments(p: argparse.ArgumentParser, share: float) -> None:
    """How the pictures are cut and their latents disturbed; `share` of the time goes to crops unless said otherwise."""
    p.add_argument(
        "--crops", type=float, default=share, help="share of the time spent on crops of 64 px, --batch of them"
    )
    p.add_argument("--noise", type=float, default=0.02, help="noise on the latents")


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """L1 of pixels, of 4 x 4 means (true colours) and of differences between neighbours (edges and texture)."""
    d = y - x
    loss = d.abs().mean() + F.avg_pool2d(d, 4).abs().mean()
    edges = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    return loss + edges + d.square().mean()


@torch.no_grad()
def score(vae: AutoencoderTiny, images: torch.Tensor) -> float:
    """Mean PSNR in dB after a round trip."""
    out = []
    for part in images.split(20):
        with torch.autocast(part.device.type, torch.bfloat16):
            y = vae.decoder(vae.encoder(part))
        out.append(psnr(y.float(), part))
    return torch.cat(out).mean().item()


def load_vae(folder: Path, where: torch.device) -> AutoencoderTiny:
    return AutoencoderTiny.from_pretrained(folder).to(where, memory_format=torch.channels_last)


@torch.no_grad()
def encode_scenes(args: argparse.Namespace) -> None:
    """Store the latents of every set of scenes as float16 (N, 32, 32, C), and their deviation in the autoencoder's config."""
    start, vae = time.time(), load_vae(args.out / "vae", device(args.device))
    for seed in args.seeds:
        images = load_scenes(args.out, [seed])[0][0]
        latents = torch.cat([_encode(vae, images[n : n + 50]) for n in range(0, len(images), 50)])
        with (args.out / f"latents-{seed}.npy").open("wb") as f:
            np.save(f, latents.permute(0, 2, 3, 1).half().cpu().numpy())
        print(f"set {seed} encoded after {time.time() - start:.0f} s", flush=True)
    vae.register_to_config(scaling_factor=1 / latents.std().item())  # the denoiser's noise has deviation 1
    vae.save_pretrained(args.out / "vae")


def _encode(vae: AutoencoderTiny, images: np.ndarray) -> torch.Tensor:
    with torch.autocast(vae.device.type, torch.bfloat16):
        return vae.encoder(to_tensor(images, vae.device)).float()


def train(args: argparse.Namespace) -> None:
    where = begin(args)
    images, _ = load_scenes(args.out, args.seeds)
    held = to_tensor(read_scenes(args.data)[0][::4], where)
    vae = AutoencoderTiny(**CONFIG).to(where, memory_format=torch.channels_last)

    def loss_of(rng: np.random.Generator, clock: Clock) -> torch.Tensor:
        size, count = crops(args, clock)
        x = to_tensor(batches(images, rng, size, count), where)
        with torch.autocast(where.type, torch.bfloat16):
            z = vae.encoder(x)
            y = vae.decoder(z + args.noise * torch.randn_like(z))
        # the second term keeps the latents' scale from drifting
        loss = reconstruction_loss(y.float(), x) + 1e-3 * z.float().square().mean()
        loss.backward()
        return loss.detach()

    def extra() -> dict[str, float]:
        return {"psnr": score(vae, held)}

    optimizer = Optimizer([vae], args.rate)
    if fit(args, "autoencoder", {"vae": vae}, optimizer, loss_of, every=500, hold=0.4, period=3, extra=extra):
        vae.save_pretrained(args.out / "vae")
        print(extra())


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(p, minutes=10, batch=12, rate=2e-3)
    p.add_argument("--encode", action="store_true", help="encode the scenes with the trained weights")
    crop_arguments(p, 0.75)
    args = p.parse_args()
    encode_scenes(args) if args.encode else train(args)


if __name__ == "__main__":
    main()
