"""Benchmark of each part of the method on a few-step model, after table 2 of the paper.

The prompts are the captions of the photographs, without guidance. The first rows add one part of the method after the
other, with the paper's settings for SDXL Turbo (table 3). The next rows start again from nine renoising iterations
alone, and add the changes of this project: noises drawn from the posterior instead of the prior, a noise correction
that makes stochastic steps exact without iterations, and Anderson acceleration. The last two rows use the model's own
settings, with every step inverted and as they are. The pictures are drawn by the noise alone, without the remainder.

*L2* is the mean squared error of the picture in [0, 1]. *std* is the standard deviation of the inverted noise, ideally
1. The *residual* is ‖x^(k) − x^(k−1)‖/√numel of the last iterate of each step, noisiest step first, as the median over
the photographs.
"""

import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from renoise import api
from renoise.bench.photographs import Photographs, decode
from renoise.bench.report import photographs_line, summarize
from renoise.methods.renoise import ReNoise
from renoise.metrics import psnr
from renoise.pipelines.defaults import default_method
from renoise.pipelines.identity import identity
from renoise.pipelines.latents import encode

PAPER = ReNoise.paper("sdxl-turbo")
BARE = replace(PAPER, weights_low=None, weights_high=None, lambda_pair=0.0, lambda_kl=0.0, noise_correction=0.0)


def rows(own: ReNoise) -> dict[str, ReNoise]:
    """Return the settings of each row, see the module's documentation. The last ones are `own`."""
    return {
        "plain inversion": replace(BARE, iterations=0),
        "+1 renoising": replace(BARE, iterations=1),
        "+4 renoising": replace(BARE, iterations=4),
        "+9 renoising": BARE,
        "+averaging": replace(BARE, weights_low=PAPER.weights_low, weights_high=PAPER.weights_high),
        "+edit losses": replace(PAPER, noise_correction=0.0),
        "+noise correction": PAPER,
        "posterior noises": replace(BARE, first_guess="posterior"),
        "+closed by noise": replace(BARE, first_guess="posterior", noise_correction=math.inf),
        "+Anderson": replace(BARE, first_guess="posterior", noise_correction=math.inf, anderson=True),
        "solved to the end": replace(own, noised_below=0.0),
        "own settings": own,
    }


def search(own: ReNoise) -> dict[str, ReNoise]:
    """Return the model's own settings with every step inverted, and variants that each change one of them."""
    own = replace(own, noised_below=0.0)
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
        **{f"correction {value:g}": replace(own, noise_correction=value) for value in (0.0, 0.14, math.inf)},
    }
    return {name: settings for name, settings in changed.items() if name == "own settings" or settings != own}


def run(
    pipe: Any,
    photographs: Photographs,
    settings: dict[str, ReNoise],
    *,
    steps: int = 4,
    batch: int = 8,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure one row for each of the settings. Deterministic samplers skip those with noise correction."""
    pictures, _ = photographs
    ceiling = psnr(decode(pipe, encode(pipe, pictures)), pictures).tolist()
    report: dict[str, Any] = {
        "model": identity(pipe),
        "sampler": type(pipe.scheduler).__name__.removesuffix("Scheduler"),
        "steps": steps,
        "photographs": len(pictures),
        "batch": batch,
        "ceiling": summarize(ceiling),
        "rows": {},
    }
    stochastic = default_method(pipe, steps).noise_correction > 0
    for name, one in settings.items():
        if stochastic or one.noise_correction == 0:
            report["rows"][name] = measure(pipe, photographs, one, steps, batch)
            progress(table_row(name, report["rows"][name]))
    return report


def measure(pipe: Any, photographs: Photographs, settings: ReNoise, steps: int, batch: int) -> dict[str, Any]:
    """Measure one row: invert and reconstruct the photographs in batches."""
    pictures, captions = photographs
    errors, calls, seconds = [], [], 0.0
    residuals: list[list[float]] = []
    deviations, noises = [], []
    for i in range(0, len(pictures), batch):
        part = slice(i, i + batch)
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # plain inversion is expected not to converge
            inversion = api.invert(
                pipe, pictures[part], captions[part], method=settings, num_inference_steps=steps, measure=False
            )
            seconds += time.perf_counter() - began
            drawn = torch.as_tensor(api.reconstruct(pipe, inversion, output_type="pt", remainder=False)).float().cpu()
        errors += (drawn - pictures[part]).square().mean((1, 2, 3)).tolist()
        calls += [inversion.evaluations + len(inversion.residuals)] * len(inversion)
        deviations += inversion.latents.flatten(1).std(1).tolist()
        noises.append(1.0 if inversion.noises is None else inversion.noises.std().item())
        columns = zip(*inversion.residuals, strict=True)
        residuals += [[math.inf if value is None else value for value in column] for column in columns]
    values = [-10 * torch.tensor(error).log10().item() for error in errors]
    return {
        "l2": statistics.mean(errors),
        **{f"psnr_{name}": value for name, value in summarize(values).items()},
        "evaluations": statistics.mean(calls),
        "seconds": seconds / len(pictures),
        "std": statistics.median(deviations),
        "std_noises": statistics.median(noises),
        "residual": [statistics.median(step) for step in zip(*residuals, strict=True)],
    }


def table(report: dict[str, Any]) -> str:
    """Format a report as Markdown."""
    return "\n".join(
        [
            f"`{report['model']}`, {report['sampler']}, {report['steps']} steps; {photographs_line(report)}",
            "",
            "| | L2 | PSNR median | mean | worst 5 % | calls | s | std of x_T | of z "
            "| median residual, noisiest step first |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(table_row(name, row) for name, row in report["rows"].items()),
        ]
    )


def table_row(name: str, row: dict[str, Any]) -> str:
    """Format a row as Markdown."""
    residual = " · ".join(f"{value:.3f}" for value in row["residual"])
    return (
        f"| {name} | {row['l2']:.5f} | {row['psnr_median']:.2f} | {row['psnr_mean']:.2f} | {row['psnr_worst']:.2f} "
        f"| {row['evaluations']:.1f} | {row['seconds']:.2f} | {row['std']:.2f} | {row['std_noises']:.2f} | {residual} |"
    )
