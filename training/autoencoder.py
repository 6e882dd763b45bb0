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

from .common import Checkpoint, Clock, Log, Optimizer, Peers, device, psnr, to_tensor
from .data import SIZE, load_scenes, read_scenes

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
    where = device(args.device)
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    images, _ = load_scenes(args.out, args.seeds)
    held = to_tensor(read_scenes(args.data)[0][::4], where)
    vae = AutoencoderTiny(**CONFIG).to(where, memory_format=torch.channels_last)
    optimizer = Optimizer([vae], args.rate)
    clock, log = Clock(args.minutes, args.steps), Log(args.out / "autoencoder.jsonl")
    checkpoint = Checkpoint(args.out / "autoencoder", {"vae": vae}, optimizer, clock)
    checkpoint.load()
    peers = Peers(args, period=3)
    rng = np.random.default_rng([args.seed, clock.step, peers.rank])
    torch.manual_seed(args.seed + 1000 * clock.step + peers.rank)
    total, saved = torch.zeros((), device=where), time.time()
    over = clock.progress >= 1
    while not over:
        whole = clock.progress > args.crops
        size, count = (SIZE, args.batch // 4) if whole else (64, args.batch)
        x = to_tensor(batches(images, rng, size, count), where)
        with torch.autocast(where.type, torch.bfloat16):
            z = vae.encoder(x)
            y = vae.decoder(z + args.noise * torch.randn_like(z))
        # the second term keeps the latents' scale from drifting
        loss = reconstruction_loss(y.float(), x) + 1e-3 * z.float().square().mean()
        loss.backward()
        optimizer.step(clock.rate(warmup=50, hold=0.4))
        clock.step += 1
        over = peers.meet(optimizer.parameters, clock.progress >= 1 or clock.stopped)
        total += loss.detach()
        if peers.rank:
            continue
        if clock.step % 500 == 0:
            log(step=clock.step, minutes=clock.elapsed / 60, loss=total.item() / 500, psnr=score(vae, held))
            total.zero_()
        if time.time() - saved > 240:
            checkpoint.save()
            saved = time.time()
    if peers.rank:
        return
    checkpoint.save()
    vae.save_pretrained(args.out / "vae")
    log(step=clock.step, minutes=clock.elapsed / 60, psnr=score(vae, held))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="the data folder (only read)")
    p.add_argument("--out", type=Path, default=Path("runs"))
    p.add_argument("--encode", action="store_true", help="encode the scenes with the trained weights")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="sets of scenes (training.data)")
    p.add_argument("--minutes", type=float, default=10)
    p.add_argument("--steps", type=int, help="train for so many steps instead of minutes")
    p.add_argument("--batch", type=int, default=12, help="crops of 64 px in a batch; a quarter as many whole pictures")
    p.add_argument("--crops", type=float, default=0.75, help="share of the time spent on crops")
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--noise", type=float, default=0.02, help="noise on the latents")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device")
    p.add_argument("--threads", type=int)
    Peers.arguments(p)
    args = p.parse_args()
    encode_scenes(args) if args.encode else train(args)


if __name__ == "__main__":
    main()
