"""Train the denoiser and its text model together, on the latents of the frozen encoder.

Epsilon prediction on Stable Diffusion's kind of noise schedule, weighted steps, a tenth of the captions empty (for
classifier-free guidance), an exponential moving average of the weights, a rate that falls to nothing at the planned end.
"""

import argparse
import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import CLIPTokenizer

from renoise.bench.fruits import kind_of, read_words

from .common import Clock, arguments, begin, fit
from .data import Captioner, load_scenes
from .optimizer import Optimizer, Replay
from .text import encode, make_text_model, tokenizer_for
from .widen import load_widened

WIDTH = 160  # of the text model
BLOCKS = (64, 96, 128, 192)  # channels of the U-Net at each of its levels
# A drawing begins with white noise alone, so at the last time step nothing of a picture may show (arXiv 2305.08891). What is
# alike in many latent pixels, a background's colour, a fruit's outline, shows through the most noise. Noise that also shifts
# whole pictures (offset noise) hides the colour. For the outline the schedule ends at alpha = 0.022, not at Stable Diffusion's
# 0.068, where white noise looked like a ground with a small fruit on it or none. Further out, epsilon would need more digits.
OFFSET = 0.15
# Kinds that were drawn worst, to the eye, when it was last trained on. A scene with one of them comes three times as often.
HARD = ("banana", "cactus fruit", "cherry", "coconut", "dragon fruit", "grape", "guava", "hazelnut", "mango")
HARD += ("mangosteen", "nectarine", "onion", "papaya", "passion fruit", "peach", "pear", "physalis", "pineapple")
HARD += ("plum", "pomelo", "potato", "raspberry", "star fruit", "strawberry", "sweet potato", "tamarillo")
SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.018,  # (Stable Diffusion: 0.012)
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
    prediction_type="epsilon",
)


def make_unet(channels: int, width: int = WIDTH, blocks: Sequence[int] = BLOCKS) -> UNet2DConditionModel:
    """A small U-Net at 32, 16, 8 and 4 latent pixels.

    The text is attended to at the two lower levels, and a pooled vector of it joins the time embedding, which scales and
    shifts every block: kinds and colours are learnt through it long before attention tells left from right.
    """
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=tuple(blocks),
        time_embedding_dim=128,
        layers_per_block=1,
        norm_num_groups=4,  # larger groups than usual: a channel normalised by itself forgets its mean, the colour
        cross_attention_dim=width,
        attention_head_dim=4,  # (diffusers' name for the number of heads)
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )


class Batches(IterableDataset):
    """Batches without end: which scenes (B,), their captions' tokens (B, L), and time steps (B,)."""

    def __init__(self, table: np.ndarray, captioner: Captioner, tokenizer: CLIPTokenizer, size: int, seed: int) -> None:
        self.table, self.captioner, self.tokenizer, self.size, self.seed = table, captioner, tokenizer, size, seed
        hard = np.array([*(kind_of(p[1]) in HARD for p in captioner.phrases), False])  # [-1]: no second fruit
        self.rows = np.repeat(np.arange(len(table)), 1 + 2 * hard[table[:, :2]].any(1))

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            chosen = rng.choice(self.rows, size=self.size)
            ids = encode(self.tokenizer, [self.captioner(row, rng) for row in self.table[chosen]])
            # One time step from each of `size` equal slices: less noise in the loss than independent draws.
            u = (rng.permutation(self.size) + rng.random(self.size)) / self.size
            t = (u * SCHEDULE["num_train_timesteps"]).astype(np.int64)
            yield torch.from_numpy(chosen), torch.tensor(ids), torch.from_numpy(t)


class Average:
    """Exponential moving average of several modules' weights, by name as in a checkpoint."""

    def __init__(self, modules: dict[str, nn.Module], decay: float) -> None:
        self.modules, self.decay = modules, decay
        self.copies = {name: copy.deepcopy(m).requires_grad_(False).eval() for name, m in modules.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After step number `step` (from 1)."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, module in self.modules.items():
            mine, theirs = list(self.copies[name].parameters()), list(module.parameters())
            torch._foreach_lerp_(mine, theirs, rate)


def averaged(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """The moving average of one network's weights, from a checkpoint of training or from a model that was made of one."""
    if (folder / "model_index.json").exists():
        part = folder / {"unet": "unet", "student": "unet", "text": "text_encoder"}[name]
        (file,) = part.glob("*.safetensors")
        return {key: tensor.float() for key, tensor in load_file(file).items()}
    prefix = f"ema_{name}."
    state = load_file(folder / "state.safetensors")
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def step_weights(alphas: torch.Tensor, limit: float = 20.0, most: float = 400.0) -> torch.Tensor:
    """Weight of each time step's squared epsilon error.

    Steps with next to no noise count for less (min-SNR, arXiv 2303.09556). Steps with much noise count for more, as they do
    under v prediction: there the error of epsilon is small whatever the caption, the one of the picture is not.
    """
    snr = alphas / (1 - alphas)
    return snr.clamp(max=limit) / snr * (1 / alphas).clamp(max=most)


def train(args: argparse.Namespace) -> None:
    where = begin(args)
    latents, table, scale = load_latents(args)
    tokenizer = tokenizer_for(args.data)
    unet, text = make_unet(latents.shape[-1], blocks=args.blocks), make_text_model(tokenizer, WIDTH)
    if args.start:
        load_widened(unet, averaged(args.start, "unet"))
        text.load_state_dict(averaged(args.start, "text"))
    unet, text = unet.to(where, memory_format=torch.channels_last), text.to(where)
    average = Average({"unet": unet, "text": text}, args.decay)
    alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod.to(where)
    weights = step_weights(alphas)
    gpu = where.type == "cuda"  # which keeps the latents in its own memory, and has other processes write the captions
    stored = torch.from_numpy(latents).to(where)
    predict, read = (torch.compile(unet), torch.compile(text)) if gpu else (unet, text)
    captioner = Captioner(*read_words(args.data, "fruits_train"))
    batches: Iterator[tuple[torch.Tensor, ...]] | None = None

    def learn(chosen: torch.Tensor, ids: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        x = stored[chosen].permute(0, 3, 1, 2).float() * scale
        noise = torch.randn(x.shape, device=where) + OFFSET * torch.randn(*x.shape[:2], 1, 1, device=where)
        noise = noise.contiguous(memory_format=torch.channels_last)
        a = alphas[t].view(-1, 1, 1, 1)
        # (on a CPU the plain attention is faster than the fused one, by a twelfth of the whole)
        with torch.autocast(where.type, torch.bfloat16), nullcontext() if gpu else sdpa_kernel(SDPBackend.MATH):
            guess = predict(a.sqrt() * x + (1 - a).sqrt() * noise, t, read(ids)[0], return_dict=False)[0]
        loss = ((guess.float() - noise).square().mean((1, 2, 3)) * weights[t]).mean()
        loss.backward()
        return loss.detach()

    replay = Replay(learn, where, [*unet.parameters(), *text.parameters()])

    def loss_of(rng: np.random.Generator, _: Clock) -> torch.Tensor:
        nonlocal batches
        if batches is None:
            drawn = Batches(table, captioner, tokenizer, args.batch, int(rng.integers(2**32)))
            batches = iter(DataLoader(drawn, batch_size=None, num_workers=8 if gpu else 0, pin_memory=gpu))
        return replay(*(part.to(where, non_blocking=True) for part in next(batches)))

    modules: dict[str, nn.Module] = {"unet": unet, "text": text}
    modules |= {f"ema_{name}": m for name, m in average.copies.items()}
    optimizer = Optimizer([unet, text], args.rate, betas=(0.9, 0.99))
    fit(args, args.name, modules, optimizer, loss_of, every=100, warmup=100, hold=args.hold, after=average.update)


def load_latents(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, float]:
    """Latents (N, 32, 32, C) and table of all sets of scenes, and the scale that gives the latents deviation 1."""
    latents = np.concatenate([np.load(args.out / f"latents-{s}.npy", mmap_mode="r") for s in args.seeds])
    scale = json.loads((args.out / "vae" / "config.json").read_text())["scaling_factor"]
    return latents, load_scenes(args.out, args.seeds)[1], scale


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(p, minutes=90, batch=32, rate=2e-3)
    p.add_argument("--name", default="denoiser", help="of the checkpoint in --out")
    p.add_argument("--blocks", type=int, nargs=4, default=BLOCKS, help="channels of the U-Net's levels")
    p.add_argument(
        "--start",
        type=Path,
        help="start from this checkpoint or model, whose top level may be half as wide, or whose lowest two thirds",
    )
    p.add_argument("--hold", type=float, default=0.3, help="share of the time before the rate starts to fall")
    p.add_argument("--decay", type=float, default=0.998, help="of the moving average of the weights")
    train(p.parse_args())


if __name__ == "__main__":
    main()
