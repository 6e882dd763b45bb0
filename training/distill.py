"""Distil `orchard` into its few-step siblings: `turbo`, a network of its own, and `lcm`, a LoRA.

Multistep consistency distillation (arXiv 2403.06807; latent consistency models, arXiv 2310.04378): between the four time steps at
which the student is asked, the teacher walks its own guided DDIM trajectory; the student learns to see, from the noisier end, the
picture that its own moving average sees from the cleaner one, and at the last step the teacher's picture itself.

    x_t = alpha_t x_0 + sigma_t eps;   x_s = the teacher's guided DDIM from x_t to s;   loss = |x̂_0(x_t, t) − x̂_0^EMA(x_s, s)|

Guidance is in the teacher's trajectory, so that the student needs none. Both siblings see the picture as epsilon says, x̂_0 =
(x_t − sigma_t ε̂) / alpha_t: LCM's own skip is below 1e-5 from time step 20 on. Half of the inner time steps are moved, so that
fewer steps and other grids work too; some captions are those of other pictures, as in an edit.
"""

import argparse
import copy
from collections import deque
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from renoise.bench.fruits import read_words

from .common import Clock, arguments, begin, fit
from .data import Captioner
from .denoiser import Average, averaged, load_latents
from .optimizer import Optimizer, Replay
from .text import encode

TIMES = (999, 749, 499, 249, -1)  # four trailing steps; −1 is the clean end
SHIFT = 84  # how far an inner one is moved: three steps (999, 666, 333) are then within reach
RANK = 14


def lora() -> LoraConfig:
    """Which layers the `lcm` adapter changes: the linear and the convolutional ones of every block."""
    layers = ["to_q", "to_k", "to_v", "to_out.0", "proj", "net.2", "proj_in", "proj_out"]
    layers += ["conv1", "conv2", "time_emb_proj", "conv_shortcut", "conv"]
    return LoraConfig(r=RANK, lora_alpha=RANK, target_modules=layers)


@torch.no_grad()
def start_lora(student: UNet2DConditionModel, turbo: dict[str, Tensor]) -> None:
    """Set a student's adapter to the best approximation of its rank to what `turbo` changed in each layer."""
    for name, layer in student.named_modules():
        if hasattr(layer, "lora_A") and "default" in layer.lora_A:
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            change = turbo[name + ".weight"].to(a.device) - layer.base_layer.weight
            u, s, v = torch.linalg.svd(change.flatten(1), full_matrices=False)
            rank = min(len(a), len(s))
            a[:rank] = (s[:rank, None].sqrt() * v[:rank]).view(rank, *a.shape[1:])
            b[:, :rank] = (u[:, :rank] * s[:rank].sqrt()).view(len(b), rank, *b.shape[2:])
            a[rank:], b[:, rank:] = 0, 0


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


def trajectory(
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


class Lesson(NamedTuple):
    """A stretch of the teacher's trajectory, from time steps t to s (B,): its start and end (B, C, H, W), and its captions."""

    x_t: Tensor
    t: Tensor
    x_s: Tensor
    s: Tensor
    hidden: Tensor


def train(args: argparse.Namespace) -> None:
    where = begin(args)
    latents, table, scale = load_latents(args)
    captioner = Captioner(*read_words(args.data, "fruits_train"), empty=0.0)
    tokenizer = CLIPTokenizer.from_pretrained(args.teacher / "tokenizer")
    text = CLIPTextModel.from_pretrained(args.teacher / "text_encoder", dtype=torch.float32).to(where).eval()
    teacher = UNet2DConditionModel.from_pretrained(args.teacher / "unet").to(where, memory_format=torch.channels_last)
    student = copy.deepcopy(teacher)
    teacher.requires_grad_(False).eval()
    text.requires_grad_(False)
    if args.kind == "lcm":
        student.requires_grad_(False)
        student.add_adapter(lora())
        if args.start:
            start_lora(student, averaged(args.start, "student"))
        student.to(memory_format=torch.channels_last)
    elif args.start:
        student.load_state_dict(averaged(args.start, "student"))
    average = Average({"student": student}, args.decay)
    levels = Levels(where, DDIMScheduler.from_pretrained(args.teacher / "scheduler"))
    times = torch.tensor(TIMES, device=where)
    lessons: deque[Lesson] = deque(maxlen=32)

    def teach(x_t: Tensor, t: Tensor, s: Tensor, hidden: Tensor, empty: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(where.type, torch.bfloat16):
            return trajectory(teacher, levels, x_t, t, s, hidden, empty, args)

    def learn(x_t: Tensor, t: Tensor, x_s: Tensor, s: Tensor, hidden: Tensor) -> Tensor:
        with torch.autocast(where.type, torch.bfloat16):
            with torch.no_grad():
                seen = average.copies["student"](x_s, s.clamp_min(0), hidden, return_dict=False)[0]
                target = torch.where((s < 0).view(-1, 1, 1, 1), x_s, levels.picture(x_s, s, seen))
            guess = levels.picture(x_t, t, student(x_t, t, hidden, return_dict=False)[0])
        # pseudo-Huber (arXiv 2310.14189): outliers of the first step do not drown the last one's texture
        distance = (guess - target).square().mean((1, 2, 3))
        loss = ((distance + args.huber**2).sqrt() - args.huber).mean()
        loss.backward()
        return loss.detach()

    teaching, learning = Replay(teach, where), Replay(learn, where, student.parameters())

    def lesson(rng: np.random.Generator) -> Lesson:
        chosen = rng.integers(len(table), size=args.batch)
        x_0 = torch.from_numpy(latents[chosen]).to(where).permute(0, 3, 1, 2).float() * scale
        rows = np.where(rng.random(args.batch) < args.exchange, rng.permutation(chosen), chosen)
        ids = torch.tensor(encode(tokenizer, [captioner(row, rng) for row in table[rows]] + [""]), device=where)
        section = torch.from_numpy(rng.permutation(args.batch) % 4).to(where)
        t, s = (_moved(times[n], rng) for n in (section, section + 1))
        alpha, sigma = levels(t)
        # a drawing begins with white noise and nothing else; an inverted photograph keeps a trace of itself
        alpha = torch.where(
            (t == TIMES[0]) & (torch.from_numpy(rng.random(args.batch)).to(where) < 0.75), 0.0, alpha.flatten()
        )
        x_t = alpha.view(-1, 1, 1, 1) * x_0 + sigma * torch.randn_like(x_0)
        x_t = x_t.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(where.type, torch.bfloat16):
            hidden = text(ids)[0].float()
        hidden, empty = hidden[:-1], hidden[-1:].repeat(args.batch, 1, 1)
        return Lesson(x_t, t, teaching(x_t, t, s, hidden, empty).clone(), s, hidden)

    def loss_of(rng: np.random.Generator, clock: Clock) -> Tensor:
        if clock.step % args.reuse == 0 or not lessons:
            lessons.append(lesson(rng))
            return learning(*lessons[-1])
        return learning(*lessons[rng.integers(len(lessons))])

    modules: dict[str, nn.Module] = {"student": student, "ema_student": average.copies["student"]}
    optimizer = Optimizer([student], args.rate, betas=(0.9, 0.99))
    fit(args, args.kind, modules, optimizer, loss_of, every=50, hold=0.3, after=average.update)


def _moved(times: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the inner time steps (B,) moved by up to SHIFT."""
    shift = rng.integers(-SHIFT, SHIFT + 1, len(times)) * (rng.random(len(times)) < 0.5)
    inner = (times > TIMES[-1]) & (times < TIMES[0])
    return times + torch.from_numpy(shift).to(times) * inner


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("kind", choices=("turbo", "lcm"))
    arguments(p, minutes=30, batch=32, rate=1e-3)
    p.add_argument(
        "--start",
        type=Path,
        help="a checkpoint of turbo, or turbo itself, to start from; lcm: as far as a LoRA can hold it",
    )
    p.add_argument("--teacher", type=Path, default=Path("src/renoise/orchard"))
    p.add_argument("--guidance", type=float, default=3.0, help="of the teacher")
    p.add_argument("--substeps", type=int, default=3, help="of the teacher, between two of the student's time steps")
    p.add_argument(
        "--reuse", type=int, default=4, help="how often each stretch of the teacher's trajectory is learnt from"
    )
    p.add_argument("--exchange", type=float, default=0.15, help="share of captions that are another picture's")
    p.add_argument("--huber", type=float, default=0.1, help="where the loss turns from squares to lengths")
    p.add_argument("--decay", type=float, default=0.98, help="of the moving average of the weights")
    train(p.parse_args())


if __name__ == "__main__":
    main()
