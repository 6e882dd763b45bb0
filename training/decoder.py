"""Finish the decoder, on latents as the denoiser draws them: sharp outlines, calm backgrounds.

The encoder stays as it is, and with it the latents and all that was trained on them. The decoder gets a block at full
resolution, which alone can paint an edge as hard as a cut-out's, and eight at 32 px, where they are cheap. It learns from the
scenes' own latents and from latents that the denoiser drew over noised ones (`--draw`), whose small errors it learns to
overlook. An adversary that sees patches at two scales (arXiv 1611.07004, hinge loss) asks for edges and texture where an
average of possible pictures would be soft.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from torch import nn

from renoise.bench.fruits import SIZE, read_scenes, read_words

from .autoencoder import CONFIG, SCALE, crop_arguments, crops, load_vae, reconstruction_loss, score
from .common import Clock, arguments, begin, fit, to_tensor
from .data import Captioner, load_scenes
from .denoiser import Average, load_latents
from .distill import Levels, trajectory
from .evaluate import load
from .optimizer import Optimizer
from .text import encode

BLOCKS = (12, 2, 1)  # of the finished decoder, at 32, 64 and 128 px
LAST = 999  # the time step at which drawing begins
# Scenes are noised to a time step in between and drawn again: outlines stay, texture is the denoiser's.
TIMES = (40, 620)


def grown(vae: AutoencoderTiny) -> AutoencoderTiny:
    """The same autoencoder with a decoder of `BLOCKS`; what is new in it adds nothing yet (its ReLU cuts what is negative)."""
    if tuple(vae.config.num_decoder_blocks) == BLOCKS:
        return vae
    wide = AutoencoderTiny(**CONFIG | {"num_decoder_blocks": BLOCKS})
    wide.register_to_config(scaling_factor=vae.config.scaling_factor)
    wide.encoder.load_state_dict(vae.encoder.state_dict())
    trained = list(vae.decoder.layers)
    for layer in wide.decoder.layers:
        if isinstance(layer, AutoencoderTinyBlock) and not isinstance(trained[0], AutoencoderTinyBlock):
            nn.init.zeros_(layer.conv[-1].weight)
            nn.init.zeros_(layer.conv[-1].bias)
        else:
            layer.load_state_dict(trained.pop(0).state_dict())
    return wide.to(memory_format=torch.channels_last)


class Adversary(nn.Module):
    """Says of every patch of a picture, and of the picture at half its size, whether it looks real (positive) or drawn.

    There are four times as many of the former, which count for as much more.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        normal = nn.utils.parametrizations.spectral_norm
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3, width, 4, 2, 1),
                nn.LeakyReLU(0.2),
                normal(nn.Conv2d(width, 2 * width, 4, 2, 1)),
                nn.LeakyReLU(0.2),
                normal(nn.Conv2d(2 * width, 4 * width, 3, 1, 1)),
                nn.LeakyReLU(0.2),
                nn.Conv2d(4 * width, 1, 3, 1, 1),
            )
            for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.scales[0](x).flatten(1), self.scales[1](F.avg_pool2d(x, 2)).flatten(1)], 1)


@torch.no_grad()
def draw(args: argparse.Namespace) -> None:
    """Draw for every set of scenes, and store the latents as float16.

    `out/redrawn-{seed}.npy`: the first `--count` scenes, noised and drawn again. `out/drawn-{seed}.npy`: a quarter as many new
    pictures, with the same captions, from noise alone.
    """
    where, start = begin(args), time.time()
    pipe = load(args.model, where)
    pipe.unet.to(memory_format=torch.channels_last)
    captioner = Captioner(*read_words(args.data, "fruits_train"), empty=0.0)
    for seed in args.seeds:
        latents, table, scale = load_latents(argparse.Namespace(out=args.out, seeds=[seed]))
        rng = np.random.default_rng([args.seed, seed])
        for name, count in (("redrawn", args.count), ("drawn", args.count // 4)):
            out = []
            for n in range(0, count, args.batch):
                rows = range(n, min(n + args.batch, count))
                x_0 = torch.from_numpy(latents[rows]).to(where).permute(0, 3, 1, 2).float() * scale
                captions = [captioner(row, rng) for row in table[rows]]
                if name == "redrawn":
                    x_0 = redrawn(pipe, x_0, captions, rng.integers(*TIMES, len(rows)), guidance=1.5, substeps=8)
                else:
                    x_0 = redrawn(pipe, 0 * x_0, captions, np.full(len(rows), LAST), guidance=3.0, substeps=25)
                out.append((x_0 / scale).permute(0, 2, 3, 1).half().cpu().numpy())
                print(f"{name}-{seed}: {rows.stop} of {count} after {time.time() - start:.0f} s", flush=True)
            np.save(args.out / f"{name}-{seed}.npy", np.concatenate(out))


def redrawn(
    pipe: StableDiffusionPipeline, x_0: torch.Tensor, captions: list[str], times: np.ndarray, **how: float
) -> torch.Tensor:
    """Latents x_0 (B, C, H, W) noised to `times` (B,) and drawn again; `how`: guidance and substeps of `distill.trajectory`."""
    levels, t = Levels(x_0.device, pipe.scheduler), torch.from_numpy(times).to(x_0.device)
    alpha, sigma = levels(t)
    x_t = (alpha * x_0 + sigma * torch.randn_like(x_0)).contiguous(memory_format=torch.channels_last)
    hidden = pipe.text_encoder(torch.tensor(encode(pipe.tokenizer, [*captions, ""]), device=x_0.device))[0]
    empty, clean = hidden[-1:].expand(len(x_0), -1, -1), torch.full_like(t, -1)
    with torch.autocast(x_0.device.type, torch.bfloat16):
        return trajectory(pipe.unet, levels, x_t, t, clean, hidden[:-1], empty, argparse.Namespace(**how))


def pieces(
    latents: np.ndarray, images: np.ndarray, count: int, size: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops of `size` latent pixels at random places, and what the pictures of the same rows show there."""
    z, x = [], []
    for row in rng.integers(len(latents), size=count):
        i, j = rng.integers(SIZE // SCALE - size + 1, size=2)
        z.append(latents[row, i : i + size, j : j + size])
        x.append(images[row, i * SCALE : (i + size) * SCALE, j * SCALE : (j + size) * SCALE])
    return torch.from_numpy(np.stack(z)).permute(0, 3, 1, 2).float(), to_tensor(np.stack(x), torch.device("cpu"))


def train(args: argparse.Namespace) -> None:
    where = begin(args)
    images = [load_scenes(args.out, [seed])[0][0] for seed in args.seeds]
    kinds = [
        [np.load(args.out / f"{name}-{seed}.npy", mmap_mode="r") for seed in args.seeds]
        for name in ("latents", "redrawn", "drawn")
    ]
    held = to_tensor(read_scenes(args.data)[0][::4], where)
    vae, judge = grown(load_vae(args.out / "vae", where)), Adversary().to(where, memory_format=torch.channels_last)
    vae.encoder.requires_grad_(False)
    average, judging = Average({"decoder": vae.decoder}, args.decay), Optimizer([judge], args.rate)

    def loss_of(rng: np.random.Generator, clock: Clock) -> torch.Tensor:
        size, count = crops(args, clock)
        k = rng.integers(len(images))
        parts = [pieces(latents[k], images[k], count, size // SCALE, rng) for latents in kinds]
        z, x = (torch.cat(p).to(where, memory_format=torch.channels_last) for p in zip(*parts, strict=True))
        x = x[: 2 * count]  # no picture belongs to what was drawn from noise alone
        with torch.autocast(where.type, torch.bfloat16):
            y = vae.decoder(z + args.noise * torch.randn_like(z)).float()
            judge.requires_grad_(True)
            real, fake = judge(x).float(), judge(y.detach()).float()
            (F.relu(1 - real).mean() + F.relu(1 + fake).mean()).backward()
            judging.step(clock.rate(hold=0.4))
            judge.requires_grad_(False)
            said = judge(y).float().mean()
        same, near = reconstruction_loss(y[:count], x[:count]), reconstruction_loss(y[count : 2 * count], x[count:])
        loss = same + 0.5 * near - (args.adversary if clock.progress > 0.1 else 0.0) * said
        loss.backward()
        return loss.detach()

    def extra() -> dict[str, float]:
        return {"psnr": score(vae, held)}

    optimizer = Optimizer([vae.decoder], args.rate)
    modules = {"decoder": vae.decoder, "judge": judge, "ema_decoder": average.copies["decoder"]}
    if fit(args, "decoder", modules, optimizer, loss_of, every=200, hold=0.4, after=average.update, extra=extra):
        vae.decoder.load_state_dict(average.copies["decoder"].state_dict())
        vae.save_pretrained(args.out / "vae")
        print(extra())


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(p, minutes=15, batch=16, rate=1e-3)
    p.add_argument("--draw", action="store_true", help="draw over noised scenes, before the training")
    p.add_argument("--count", type=int, default=4000, help="scenes of each set to draw over, a quarter from noise")
    p.add_argument("--model", type=Path, default=Path("src/renoise/orchard"), help="the model that draws")
    p.add_argument("--adversary", type=float, default=0.05, help="weight of the adversary")
    crop_arguments(p, 0.6)
    p.add_argument("--decay", type=float, default=0.995, help="of the moving average of the weights")
    args = p.parse_args()
    draw(args) if args.draw else train(args)


if __name__ == "__main__":
    main()
