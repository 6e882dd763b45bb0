"""Distil `orchard` into its few-step siblings: `turbo`, a network of its own, and `lcm`, a LoRA.

Multistep consistency distillation (arXiv 2403.06807; latent consistency models, arXiv 2310.04378): between the four time steps at
which the student is asked, the teacher walks its own guided DDIM course; the student learns to see, from the noisier end, the
picture that its own moving average sees from the cleaner one, and at the last step the teacher's picture itself.

    x_t = alpha_t x_0 + sigma_t eps;   x_s = the teacher's guided DDIM from x_t to s;   loss = |x̂_0(x_t, t) − x̂_0^EMA(x_s, s)|

Guidance is in the teacher's course, so that the student needs none. Both siblings see the picture as epsilon says, x̂_0 = (x_t −
sigma_t ε̂) / alpha_t: LCM's own skip is below 1e-5 from time step 20 on.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .common import Checkpoint, Clock, Log, Optimizer, Peers, device
from .data import Captioner, load_scenes, read_words
from .denoiser import Average
from .text import encode

TIMES = (999, 749, 499, 249, -1)  # four trailing steps; −1 is the clean end
RANK = 32


def lora() -> LoraConfig:
    """Which layers the `lcm` adapter changes: the linear and the convolutional ones of every block."""
    layers = ["to_q", "to_k", "to_v", "to_out.0", "proj", "net.2", "proj_in", "proj_out"]
    layers += ["conv1", "conv2", "time_emb_proj", "conv_shortcut", "conv"]
    return LoraConfig(r=RANK, lora_alpha=RANK, target_modules=layers)


class Levels:
    """The teacher's alpha and sigma at every time step, and at −1 where its sampler ends."""

    def __init__(self, where: torch.device, schedule: DDIMScheduler) -> None:
        cumulative = torch.cat([schedule.alphas_cumprod, schedule.final_alpha_cumprod[None]]).to(where)
        self.alphas, self.sigmas = cumulative.sqrt(), (1 - cumulative).sqrt()

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Of time steps (B,): alpha and sigma (B, 1, 1, 1)."""
        return self.alphas[t].view(-1, 1, 1, 1), self.sigmas[t].view(-1, 1, 1, 1)

    def picture(self, x: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """x̂_0 of latents x at time steps t."""
        alpha, sigma = self(t)
        return (x - sigma * epsilon.float()) / alpha


def course(
    teacher: UNet2DConditionModel,
    levels: Levels,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    hidden: Tensor,
    empty: Tensor,
    args: argparse.Namespace,
) -> Tensor:
    """The teacher's guided DDIM from time steps t to s (both (B,)), in equal strides."""
    for k in range(args.substeps):
        here = t + ((s - t) * k) // args.substeps
        there = t + ((s - t) * (k + 1)) // args.substeps
        both = teacher(torch.cat([x, x]), here.repeat(2), torch.cat([empty, hidden]), return_dict=False)[0].float()
        plain, asked = both.chunk(2)
        epsilon = plain + args.guidance * (asked - plain)
        alpha, sigma = levels(there)
        x = alpha * levels.picture(x, here, epsilon) + sigma * epsilon
    return x


def train(args: argparse.Namespace) -> None:
    where = device(args.device)
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    latents = np.concatenate([np.load(args.out / f"latents-{s}.npy", mmap_mode="r") for s in args.seeds])
    table = load_scenes(args.out, args.seeds)[1]
    captioner = Captioner(*read_words(args.data, "fruits_train"), empty=0.0)
    scale = json.loads((args.teacher / "vae" / "config.json").read_text())["scaling_factor"]
    tokenizer = CLIPTokenizer.from_pretrained(args.teacher / "tokenizer")
    text = CLIPTextModel.from_pretrained(args.teacher / "text_encoder", dtype=torch.float32).to(where).eval()
    teacher = UNet2DConditionModel.from_pretrained(args.teacher / "unet").to(where, memory_format=torch.channels_last)
    student = UNet2DConditionModel.from_pretrained(args.teacher / "unet").to(where, memory_format=torch.channels_last)
    teacher.requires_grad_(False).eval()
    text.requires_grad_(False)
    if args.kind == "lcm":
        student.requires_grad_(False)
        student.add_adapter(lora())
        student.to(memory_format=torch.channels_last)
    average = Average({"student": student}, args.decay)
    optimizer = Optimizer([student], args.rate, betas=(0.9, 0.99))
    clock, log = Clock(args.minutes, args.steps), Log(args.out / f"{args.kind}.jsonl")
    modules: dict[str, nn.Module] = {"student": student, "ema_student": average.copies["student"]}
    checkpoint = Checkpoint(args.out / args.kind, modules, optimizer, clock)
    checkpoint.load()
    average.step = clock.step
    peers = Peers(args, period=8)
    rng = np.random.default_rng([args.seed, clock.step, peers.rank])
    torch.manual_seed(args.seed + 1000 * clock.step + peers.rank)
    levels = Levels(where, DDIMScheduler.from_pretrained(args.teacher / "scheduler"))
    times = torch.tensor(TIMES, device=where)
    total, saved = torch.zeros((), device=where), time.time()
    over = clock.progress >= 1
    while not over:
        chosen = rng.integers(len(table), size=args.batch)
        x_0 = torch.from_numpy(latents[chosen]).to(where).permute(0, 3, 1, 2).float() * scale
        ids = encode(tokenizer, [captioner(row, rng) for row in table[chosen]] + [""])
        section = torch.from_numpy(rng.permutation(args.batch) % 4).to(where)
        t, s = times[section], times[section + 1]
        alpha, sigma = levels(t)
        x_t = alpha * x_0 + sigma * torch.randn_like(x_0)
        with torch.autocast(where.type, torch.bfloat16):
            with torch.no_grad():
                hidden = text(torch.tensor(ids, device=where))[0]
                hidden, empty = hidden[:-1], hidden[-1:].expand(args.batch, -1, -1)
                x_s = course(teacher, levels, x_t, t, s, hidden, empty, args)
                seen = average.copies["student"](x_s, s.clamp_min(0), hidden, return_dict=False)[0]
                target = torch.where((s < 0).view(-1, 1, 1, 1), x_s, levels.picture(x_s, s, seen))
            guess = levels.picture(x_t, t, student(x_t, t, hidden, return_dict=False)[0])
        # pseudo-Huber (arXiv 2310.14189): outliers of the first step do not drown the last one's texture
        distance = (guess - target).square().mean((1, 2, 3))
        loss = ((distance + args.huber**2).sqrt() - args.huber).mean()
        loss.backward()
        optimizer.step(clock.rate(warmup=50, hold=0.3))
        clock.step += 1
        over = peers.meet(optimizer.parameters, clock.progress >= 1 or clock.stopped)
        average.update()
        total += loss.detach()
        if peers.rank:
            continue
        if clock.step % 50 == 0:
            log(step=clock.step, images=peers.total * args.batch, minutes=clock.elapsed / 60, loss=total.item() / 50)
            total.zero_()
        if time.time() - saved > 240:
            checkpoint.save()
            saved = time.time()
    if not peers.rank:
        checkpoint.save()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("kind", choices=("turbo", "lcm"))
    p.add_argument("--data", type=Path, required=True, help="the data folder (only read)")
    p.add_argument("--out", type=Path, default=Path("runs"))
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="sets of scenes with latents")
    p.add_argument("--teacher", type=Path, default=Path("src/renoise/orchard"))
    p.add_argument("--minutes", type=float, default=30)
    p.add_argument("--steps", type=int, help="train for so many steps instead of minutes")
    p.add_argument("--batch", type=int, default=32, help="in each process")
    p.add_argument("--rate", type=float, default=5e-4)
    p.add_argument("--guidance", type=float, default=3.0, help="of the teacher")
    p.add_argument("--substeps", type=int, default=2, help="of the teacher, between two of the student's time steps")
    p.add_argument("--huber", type=float, default=0.1, help="where the loss turns from squares to lengths")
    p.add_argument("--decay", type=float, default=0.98, help="of the moving average of the weights")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device")
    p.add_argument("--threads", type=int)
    Peers.arguments(p)
    train(p.parse_args())


if __name__ == "__main__":
    main()
