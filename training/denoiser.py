"""Train the denoiser and its text model together, on the latents of the frozen encoder.

Epsilon prediction on Stable Diffusion's noise schedule, weighted steps, a tenth of the captions empty (for
classifier-free guidance), an exponential moving average of the weights, a rate that falls to nothing at the planned end.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from .common import Checkpoint, Clock, Log, Optimizer, Peers, device
from .data import Captioner, load_scenes, read_words
from .text import encode, make_text_model, tokenizer_for

WIDTH = 160  # of the text model
# A background has one colour in all 1024 latent pixels: under white noise it would show in x_T still, and the network would
# read it there rather than in the caption. Noise that also shifts whole pictures hides it (offset noise). A schedule with more
# noise would too, but asks a network that predicts epsilon for more digits than it has in its first hours.
OFFSET = 0.15
SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
    prediction_type="epsilon",
)


def make_unet(channels: int, width: int = WIDTH, blocks: tuple[int, ...] = (32, 96, 128, 128)) -> UNet2DConditionModel:
    """A small U-Net at 32 (thin: a sixth of the cost), 16, 8 and 4 latent pixels.

    The text is attended to at the two lower levels, and a pooled vector of it joins the time embedding, which scales and
    shifts every block: kinds and colours are learnt through it long before attention tells left from right.
    """
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=blocks,
        layers_per_block=1,
        norm_num_groups=4,  # larger groups than usual: a channel normalised by itself forgets its mean, the colour
        cross_attention_dim=width,
        attention_head_dim=4,  # (diffusers' name for the number of heads)
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )


class Average:
    """Exponential moving average of several modules' weights, by name as in a checkpoint."""

    def __init__(self, modules: dict[str, nn.Module], decay: float) -> None:
        self.modules, self.decay, self.step = modules, decay, 0
        self.copies = {name: copy.deepcopy(m).requires_grad_(False).eval() for name, m in modules.items()}

    @torch.no_grad()
    def update(self) -> None:
        self.step += 1
        rate = 1 - min(self.decay, (1 + self.step) / (10 + self.step))
        for name, module in self.modules.items():
            mine, theirs = list(self.copies[name].parameters()), list(module.parameters())
            torch._foreach_lerp_(mine, theirs, rate)


def step_weights(alphas: torch.Tensor, limit: float = 5.0, most: float = 5.0) -> torch.Tensor:
    """Weight of each time step's squared epsilon error.

    Steps with next to no noise count for less (min-SNR, arXiv 2303.09556). Steps with much noise count for more, as they do
    under v prediction: there the error of epsilon is small whatever the caption, the one of the picture is not.
    """
    snr = alphas / (1 - alphas)
    return snr.clamp(max=limit) / snr * (1 / alphas).clamp(max=most)


def train(args: argparse.Namespace) -> None:
    where = device(args.device)
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    latents = np.concatenate([np.load(args.out / f"latents-{s}.npy", mmap_mode="r") for s in args.seeds])
    table = load_scenes(args.out, args.seeds)[1]
    scale = json.loads((args.out / "vae" / "config.json").read_text())["scaling_factor"]
    captioner = Captioner(*read_words(args.data, "fruits_train"))
    tokenizer = tokenizer_for(args.data)
    unet = make_unet(latents.shape[-1]).to(where, memory_format=torch.channels_last)
    text = make_text_model(tokenizer, WIDTH).to(where)
    if args.start:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(args.start / "unet").state_dict())
        text.load_state_dict(
            CLIPTextModel.from_pretrained(args.start / "text_encoder", dtype=torch.float32).state_dict()
        )
    average = Average({"unet": unet, "text": text}, args.decay)
    optimizer = Optimizer([unet, text], args.rate, betas=(0.9, 0.99))
    clock, log = Clock(args.minutes, args.steps), Log(args.out / "denoiser.jsonl")
    copies = {f"ema_{name}": m for name, m in average.copies.items()}
    checkpoint = Checkpoint(args.out / "denoiser", {"unet": unet, "text": text, **copies}, optimizer, clock)
    checkpoint.load()
    seen = checkpoint.note.get("seen", 0)
    average.step = clock.step
    peers = Peers(args, period=8)
    rng = np.random.default_rng([args.seed, clock.step, peers.rank])
    torch.manual_seed(args.seed + 1000 * clock.step + peers.rank)
    alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod.to(where)
    weights = step_weights(alphas)
    total, saved = torch.zeros((), device=where), time.time()
    over = clock.progress >= 1
    while not over:
        chosen = rng.integers(len(table), size=args.batch)
        x = torch.from_numpy(latents[chosen]).to(where).permute(0, 3, 1, 2).float() * scale
        ids = torch.tensor(encode(tokenizer, [captioner(row, rng) for row in table[chosen]]), device=where)
        # One time step from each of `batch` equal slices: less noise in the loss than independent draws.
        u = (rng.permutation(args.batch) + rng.random(args.batch)) / args.batch
        t = torch.from_numpy((u * len(alphas)).astype(np.int64)).to(where)
        noise = torch.randn(x.shape, device=where) + OFFSET * torch.randn(*x.shape[:2], 1, 1, device=where)
        noise = noise.contiguous(memory_format=torch.channels_last)
        a = alphas[t].view(-1, 1, 1, 1)
        with torch.autocast(where.type, torch.bfloat16):
            hidden = text(ids)[0]
            guess = unet(a.sqrt() * x + (1 - a).sqrt() * noise, t, hidden, return_dict=False)[0]
        loss = ((guess.float() - noise).square().mean((1, 2, 3)) * weights[t]).mean()
        loss.backward()
        optimizer.step(clock.rate(warmup=100, hold=args.hold))
        clock.step += 1
        over = peers.meet(optimizer.parameters, clock.progress >= 1 or clock.stopped)
        total += loss.detach()
        if peers.rank:
            continue
        average.update()
        if clock.step % 100 == 0:
            log(
                step=clock.step,
                images=seen + peers.total * args.batch,
                minutes=clock.elapsed / 60,
                loss=total.item() / 100,
            )
            total.zero_()
        if time.time() - saved > 240:
            checkpoint.save(seen=seen + peers.total * args.batch)
            saved = time.time()
    if not peers.rank:
        checkpoint.save(seen=seen + peers.total * args.batch)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="the data folder (only read)")
    p.add_argument("--out", type=Path, default=Path("runs"))
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="sets of scenes with latents")
    p.add_argument("--start", type=Path, help="go on from the weights of this folder, such as src/renoise/orchard")
    p.add_argument("--minutes", type=float, default=90)
    p.add_argument("--steps", type=int, help="train for so many steps instead of minutes")
    p.add_argument("--batch", type=int, default=32, help="in each process")
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--hold", type=float, default=0.3, help="share of the time before the rate starts to fall")
    p.add_argument("--decay", type=float, default=0.998, help="of the moving average of the weights")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device")
    p.add_argument("--threads", type=int)
    Peers.arguments(p)
    train(p.parse_args())


if __name__ == "__main__":
    main()
