"""Train the autoencoder: pictures of 128 px to 16 x 16 latents and back.

Three stages. `joint` trains encoder and decoder together. `latents` freezes the encoder, standardises its latents and
encodes the training scenes, so that the denoiser can start. `decoder` meanwhile goes on with the decoder alone, from the
stored latents, which spares the encoder's time.
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from .common import Checkpoint, Clock, Log, Peers, device, psnr, to_tensor
from .data import SIZE, load_scenes, read_scenes

LATENT_CHANNELS = 16
# Uniform widths in multiples of 32 keep bfloat16 convolutions fast on a CPU. No block works at full resolution: these
# would take half the time, and a convolution after the last upsampling can paint 2 x 2 pixels from one rich feature.
CONFIG = dict(
    latent_channels=LATENT_CHANNELS,
    encoder_block_out_channels=(64, 64, 64, 64),
    decoder_block_out_channels=(64, 64, 64, 64),
    num_encoder_blocks=(0, 2, 2, 2),
    num_decoder_blocks=(3, 3, 2, 0),
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


class Critic(nn.Module):
    """Tells pictures from reconstructions patch by patch; it is also shown the blurred picture, so it minds texture."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (6, width, 2 * width, 2 * width)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(2 * width, 1, 3, 1, 1)))

    def forward(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        blurred = F.interpolate(F.avg_pool2d(x, 8), scale_factor=8, mode="bilinear")
        return self.layers(torch.cat([y, blurred], 1)).float()


@torch.no_grad()
def score(vae: AutoencoderTiny, images: torch.Tensor) -> float:
    """Mean PSNR in dB after a round trip."""
    out = []
    for part in images.split(20):
        with torch.autocast(part.device.type, torch.bfloat16):
            y = vae.decoder(vae.encoder(part))
        out.append(psnr(y.float(), part))
    return torch.cat(out).mean().item()


@torch.no_grad()
def standardise(vae: AutoencoderTiny, latents: torch.Tensor, target: float = 0.5) -> None:
    """Centre the latent channels and bring their deviations nearer one another, folded into the convolutions next door.

    Trained with the same noise on all, a channel's deviation says how much it matters in pixels: the strong ones carry
    colour and shape, the weak ones fine texture. Equal deviations would ask the denoiser to care as much for texture as
    for shape, the trained ones would drown the weak in noise at once; the square root is between. `target` (root mean
    square over the channels) stays near what the decoder was trained with, because its input passes a tanh.
    """
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    factor = target * (std / std.mean()).sqrt() / std
    last, first = vae.encoder.layers[-1], vae.decoder.layers[0]
    last.weight.mul_(factor.view(-1, 1, 1, 1))
    last.bias.sub_(mean).mul_(factor)
    first.bias.add_((first.weight * mean.view(1, -1, 1, 1)).sum((1, 2, 3)))
    first.weight.div_(factor.view(1, -1, 1, 1))
    vae.register_to_config(scaling_factor=1 / target)


def load_vae(folder: Path, where: torch.device) -> AutoencoderTiny:
    return AutoencoderTiny.from_pretrained(folder).to(where, memory_format=torch.channels_last)


@torch.no_grad()
def encode_scenes(args: argparse.Namespace) -> None:
    """Freeze the encoder and store the latents of every set of scenes as float16 (N, 16, 16, C)."""
    where = device(args.device)
    frozen, start = args.out / "vae-frozen", time.time()
    if not frozen.exists():
        vae = load_vae(args.out / "vae-joint", where)
        sample = load_scenes(args.out, args.seeds[:1])[0][0][:2000]
        latents = torch.cat([_encode(vae, part) for part in np.array_split(sample, 40)])
        standardise(vae, latents)
        print("deviation of the channels:", [round(v, 3) for v in latents.std((0, 2, 3)).tolist()], flush=True)
        vae.save_pretrained(frozen)
    vae = load_vae(frozen, where)
    for seed in args.seeds:
        path = args.out / f"latents-{seed}.npy"
        if path.exists():
            continue
        images = load_scenes(args.out, [seed])[0][0]
        parts = [_encode(vae, images[n : n + 50]) for n in range(0, len(images), 50)]
        with path.with_suffix(".part").open("wb") as f:
            np.save(f, torch.cat(parts).permute(0, 2, 3, 1).half().cpu().numpy())
        path.with_suffix(".part").rename(path)
        print(f"set {seed} encoded after {time.time() - start:.0f} s", flush=True)


def _encode(vae: AutoencoderTiny, images: np.ndarray) -> torch.Tensor:
    with torch.autocast(vae.device.type, torch.bfloat16):
        return vae.encoder(to_tensor(images, vae.device)).float()


def latent_batches(
    images: list[np.ndarray], latents: list[np.ndarray], rng: np.random.Generator, size: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Crops on the latent grid, as pictures and latents. (No mirroring: the stored latents are of the pictures as are.)"""
    x = np.empty((count, size, size, 3), np.uint8)
    z = np.empty((count, size // 8, size // 8, latents[0].shape[-1]), np.float32)
    for n in range(count):
        k = rng.integers(len(images))
        i, (r, c) = rng.integers(len(images[k])), rng.integers((SIZE - size) // 8 + 1, size=2)
        x[n] = images[k][i, 8 * r : 8 * r + size, 8 * c : 8 * c + size]
        z[n] = latents[k][i, r : r + size // 8, c : c + size // 8]
    return x, z


@torch.no_grad()
def widen(vae: AutoencoderTiny, folder: Path) -> None:
    """Start from trained weights, which may have fewer latent channels: what overlaps is copied."""
    old = AutoencoderTiny.from_pretrained(folder).state_dict()
    for name, value in vae.state_dict().items():
        part = tuple(slice(0, n) for n in old[name].shape)
        value[part] = old[name]


def loss_gradient(
    args: argparse.Namespace,
    critic: Critic,
    judging: torch.optim.Optimizer,
    x: torch.Tensor,
    y: torch.Tensor,
    loss: torch.Tensor,
    progress: float,
) -> torch.Tensor:
    """Gradient of the picture: the reconstruction's, and the critic's scaled to a fixed share of the former's length.

    The critic learns from the same batch. A share instead of a weight keeps the balance whatever either loss does.
    """
    fake = y.detach()
    with torch.autocast(x.device.type, torch.bfloat16):
        judged = F.relu(1 - critic(x, x)).mean() + F.relu(1 + critic(fake, x)).mean()
    judging.zero_grad()
    judged.backward()
    judging.step()
    (pull,) = torch.autograd.grad(loss, y, retain_graph=True)
    share = args.sharpness * min(1.0, max(0.0, progress - 0.05) / 0.15)
    if share == 0:
        return pull
    judged_y = fake.requires_grad_()
    with torch.autocast(x.device.type, torch.bfloat16):
        liked = -critic(judged_y, x).mean()
    (push,) = torch.autograd.grad(liked, judged_y)
    pull, push = pull.float(), push.float()
    return (pull + push * (share * pull.norm() / push.norm().clamp_min(1e-12))).to(y.dtype)


def train(args: argparse.Namespace) -> None:
    where, joint = device(args.device), args.stage == "joint"
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    images, _ = load_scenes(args.out, args.seeds)
    held = to_tensor(read_scenes(args.data)[0][::4], where)
    if joint:
        vae = AutoencoderTiny(**CONFIG).to(where, memory_format=torch.channels_last)
    else:
        vae = load_vae(args.out / "vae-frozen", where)
        vae.encoder.requires_grad_(False)
        latents = [np.load(args.out / f"latents-{s}.npy", mmap_mode="r") for s in args.seeds]
    parameters = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=args.rate, betas=(0.9, 0.98), weight_decay=1e-4)
    clock, log = Clock(args.minutes, args.steps), Log(args.out / f"autoencoder-{args.stage}.jsonl")
    critic = Critic().to(where, memory_format=torch.channels_last)
    judging = torch.optim.AdamW(critic.parameters(), lr=args.rate, betas=(0.5, 0.98))
    modules = {"vae": vae} if joint else {"vae": vae, "critic": critic}
    checkpoint = Checkpoint(args.out / f"autoencoder-{args.stage}", modules, optimizer, clock)
    if not checkpoint.load() and joint and args.start:
        widen(vae, args.start)
    peers = Peers(args, period=3)
    rng = np.random.default_rng([args.seed, clock.step, peers.rank])
    torch.manual_seed(args.seed + 1000 * clock.step + peers.rank)
    total, saved = torch.zeros((), device=where), time.time()
    over = clock.progress >= 1
    while not over:
        whole = clock.progress > args.crops
        size, count = (SIZE, args.batch // 4) if whole else (64, args.batch)
        for group in optimizer.param_groups:
            group["lr"] = args.rate * clock.rate(hold=0.2)
        if joint:
            x = to_tensor(batches(images, rng, size, count), where)
        else:
            pixels, stored = latent_batches(images, latents, rng, size, count)
            x, z = to_tensor(pixels, where), torch.from_numpy(stored).to(where).permute(0, 3, 1, 2)
        with torch.autocast(where.type, torch.bfloat16):
            if joint:
                z = vae.encoder(x)
            y = vae.decoder(z + args.noise * torch.randn_like(z))
        loss = reconstruction_loss(y.float(), x)
        if joint:
            loss = loss + 1e-3 * z.float().square().mean()  # keeps the latents' scale from drifting
        optimizer.zero_grad()
        if joint or not args.sharpness:
            loss.backward()
        else:
            y.backward(loss_gradient(args, critic, judging, x, y, loss, clock.progress))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        clock.step += 1
        over = peers.meet(parameters, clock.progress >= 1 or clock.stopped)
        total += loss.detach()
        if peers.rank:
            continue
        if clock.step % 500 == 0:
            log(step=clock.step, minutes=clock.elapsed / 60, loss=total.item() / 500, psnr=score(vae, held))
            total.zero_()
        if time.time() - saved > 240:
            checkpoint.save()
            vae.save_pretrained(args.out / f"vae-{args.stage}")
            saved = time.time()
    if peers.rank:
        return
    checkpoint.save()
    vae.save_pretrained(args.out / f"vae-{args.stage}")
    log(step=clock.step, minutes=clock.elapsed / 60, psnr=score(vae, held))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="the data folder (only read)")
    p.add_argument("--out", type=Path, default=Path("runs"))
    p.add_argument("--stage", choices=("joint", "latents", "decoder"), default="joint")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="sets of scenes (training.data)")
    p.add_argument("--minutes", type=float, default=28)
    p.add_argument("--steps", type=int, help="train for so many steps instead of minutes")
    p.add_argument("--batch", type=int, default=12, help="crops of 64 px in a batch; a quarter as many whole pictures")
    p.add_argument("--crops", type=float, default=0.75, help="share of the time spent on crops")
    p.add_argument("--rate", type=float, default=1e-3)
    p.add_argument("--start", type=Path, help="weights to start the joint stage from; channels may have been fewer")
    p.add_argument("--noise", type=float, default=0.02, help="noise on the latents")
    p.add_argument("--sharpness", type=float, default=0.08, help="share of the critic in the decoder stage's gradient")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device")
    p.add_argument("--threads", type=int)
    Peers.arguments(p)
    args = p.parse_args()
    encode_scenes(args) if args.stage == "latents" else train(args)


if __name__ == "__main__":
    main()
