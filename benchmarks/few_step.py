"""What each part of the method adds on a few-step model: the paper's table 2 in miniature.

    python -m benchmarks.few_step --data ../shared/data --model orchard-turbo          # ancestral Euler, 4 steps
    python -m benchmarks.few_step --data ../shared/data --model orchard-lcm --sampler DDIMScheduler
    python -m benchmarks.few_step --data ../shared/data --model orchard-turbo --search # settings one by one, other scenes

The 96 photographs' own captions, no guidance. The rows add one part of the method after the other, with the paper's settings for
SDXL Turbo (its table 3). Then come this project's changes, from the bare nine renoising iterations again: noises drawn from the
posterior instead of the prior; these closing the stochastic steps instead of iterating there; Anderson mixing. The last row has
the model's own settings. *L2* is the mean squared error of the picture in [0, 1]. *std* is the standard deviation of what was
found, 1 for noise. The *residual* is ‖z^(k) − z^(k−1)‖/√numel of each step's last iterate, the median over the photographs,
noisiest step first.
"""

import argparse
import math
import statistics
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch

import renoise
from benchmarks.photographs import ceiling_line, decode, load, publish, spread
from benchmarks.tolerance import unused
from renoise import PRESETS, ReNoise
from renoise.metrics import psnr
from renoise.pipelines.latents import encode

PAPER = PRESETS["sdxl-turbo"].settings
BARE = replace(PAPER, weights_low=None, weights_high=None, lambda_pair=0.0, lambda_kl=0.0, correction=0.0)


def rows(own: ReNoise) -> dict[str, ReNoise]:
    """The settings of each row: one part of the method after the other, then those that the model is used with."""
    return {
        "plain inversion": replace(BARE, iterations=0),
        "+1 renoising": replace(BARE, iterations=1),
        "+4 renoising": replace(BARE, iterations=4),
        "+9 renoising": BARE,
        "+averaging": replace(BARE, weights_low=PAPER.weights_low, weights_high=PAPER.weights_high),
        "+edit losses": replace(PAPER, correction=0.0),
        "+noise correction": PAPER,
        "posterior noises": replace(BARE, first_guess="posterior"),
        "+closed by noise": replace(BARE, first_guess="posterior", correction=math.inf),
        "+Anderson": replace(BARE, first_guess="posterior", correction=math.inf, anderson=True),
        "own settings": own,
    }


def variants(own: ReNoise) -> dict[str, ReNoise]:
    """The model's own settings with one of them changed."""
    bare = replace(own, anderson=False, tolerance=0.0, iterations=9)
    changed = {
        "own settings": own,
        "first guess latent": replace(own, first_guess="latent"),
        "first guess epsilon": replace(own, first_guess="epsilon"),
        "first guess posterior": replace(own, first_guess="posterior"),
        "anderson off": replace(own, anderson=False),
        "9 iterations": bare,
        "9 iterations, averaged": replace(bare, weights_low=PAPER.weights_low, weights_high=PAPER.weights_high),
        "9 iterations, last three averaged": replace(
            bare, weights_low=PAPER.weights_high, weights_high=PAPER.weights_high
        ),
        "edit losses": replace(own, lambda_pair=PAPER.lambda_pair, lambda_kl=PAPER.lambda_kl),
        **{f"tolerance {value:g}": replace(own, tolerance=value) for value in (0.0035, 0.01, 0.02, 0.03, 0.05)},
        **{f"correction {value:g}": replace(own, correction=value) for value in (0.0, 0.14, math.inf)},
    }
    return {name: settings for name, settings in changed.items() if name == "own settings" or settings != own}


def measure(
    pipe: Any, pictures: torch.Tensor, captions: list[str], settings: ReNoise, steps: int, batch: int
) -> dict[str, Any]:
    """One row of the table."""
    errors, calls, seconds = [], [], 0.0
    residuals: list[list[float]] = []
    deviations, noises = [], []
    for i in range(0, len(pictures), batch):
        part = slice(i, i + batch)
        began = time.perf_counter()
        found = renoise.invert(
            pipe, pictures[part], captions[part], settings=settings, num_inference_steps=steps, measure=False
        )
        seconds += time.perf_counter() - began
        drawn = renoise.reconstruct(pipe, found, output_type="pt").to(pictures.device)
        errors += (drawn - pictures[part]).square().mean((1, 2, 3)).tolist()
        calls += [found.evaluations + len(found.residuals)] * len(found)
        deviations += found.record.metrics["std"]
        noises.append(1.0 if found.noises is None else found.noises.std().item())
        residuals += [
            [float("inf") if r is None else r for r in column] for column in zip(*found.residuals, strict=True)
        ]
    values = [-10 * torch.tensor(error).log10().item() for error in errors]
    return {
        "l2": statistics.mean(errors),
        **{f"psnr_{name}": value for name, value in spread(values).items()},
        "evaluations": statistics.mean(calls),
        "seconds": seconds / len(pictures),
        "std": statistics.median(deviations),
        "std_noises": statistics.median(noises),
        "residual": [statistics.median(step) for step in zip(*residuals, strict=True)],
    }


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        f"`{report['model']}`, {report['sampler']}, {report['steps']} steps; {ceiling_line(report)}",
        "",
        "| | L2 | PSNR median | mean | worst 5 % | calls | s | std of x_T | of z | median residual, noisiest step first |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in report["rows"].items():
        residual = " · ".join(f"{value:.3f}" for value in row["residual"])
        lines.append(
            f"| {name} | {row['l2']:.5f} | {row['psnr_median']:.2f} | {row['psnr_mean']:.2f} | {row['psnr_worst']:.2f} "
            f"| {row['evaluations']:.1f} | {row['seconds']:.2f} | {row['std']:.2f} | {row['std_noises']:.2f} | {residual} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the photographs, with photos/metadata.jsonl"
    )
    parser.add_argument("--model", default="orchard", help="a preset or a folder")
    parser.add_argument(
        "--sampler", help="a scheduler of diffusers, with trailing timesteps, instead of the model's own"
    )
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--output", type=Path, help="write the report here too, as .json and .md")
    parser.add_argument("--search", action="store_true", help="vary the model's own settings, on 32 other scenes")
    options = parser.parse_args()

    warnings.simplefilter("ignore")  # plain inversion does not converge, and is here to show it
    pipe = renoise.load(options.model)
    if options.sampler:
        kind = getattr(diffusers, options.sampler)
        pipe.scheduler = kind.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    pictures, captions = unused(options.data, 32) if options.search else load(options.data, options.photos, "")
    ceiling = psnr(decode(pipe, encode(pipe, pictures)), pictures).tolist()
    preset = PRESETS.get(options.model)
    own = preset.settings if preset and not options.sampler else ReNoise.for_pipeline(pipe, options.steps)
    report: dict[str, Any] = {
        "model": options.model,
        "sampler": type(pipe.scheduler).__name__.removesuffix("Scheduler"),
        "steps": options.steps,
        "photographs": len(pictures),
        "batch": options.batch,
        "ceiling": spread(ceiling),
        "rows": {},
    }
    for name, settings in (variants(own) if options.search else rows(own)).items():
        try:
            report["rows"][name] = measure(pipe, pictures, captions, settings, options.steps, options.batch)
        except ValueError as error:
            if "stochastic sampler" not in str(error):
                raise
            continue  # nothing to correct: the row above stands for this one
        print(f"{name}: {report['rows'][name]}", file=sys.stderr)
    publish(report, table(report), options.output)


if __name__ == "__main__":
    main()
