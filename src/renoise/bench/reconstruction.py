"""Benchmark of the quality and cost of reconstructions on `orchard`, after table 1 of the paper.

The sampler is DDIM, and DDIM with eta = 1 in the row *default*. The prompts are the captions of the photographs,
without guidance. A row is inversion steps / denoising steps / renoising iterations. The noise alone draws the
pictures, without the remainder, with which every row would reach the ceiling. *PSNR* compares the reconstruction with
the photograph. It cannot exceed that of the autoencoder alone (the *ceiling*), so the *latent error* ‖x̂_0 − x_0‖/‖x_0‖
distinguishes the rows better. *Worst 5 %* is the mean of the worst twentieth, rounded up.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from renoise import api
from renoise.bench.photographs import Photographs, decode
from renoise.bench.report import photographs_line, summarize
from renoise.methods.renoise import FOR_DETERMINISTIC, FOR_STOCHASTIC, ReNoise
from renoise.metrics import psnr
from renoise.pipelines.latents import encode
from renoise.pipelines.presets import PRESETS

SOLVED = replace(FOR_DETERMINISTIC, noised_below=0.0)  # every step inverted to the tolerance
TOLERANT = ReNoise(iterations=100, tolerance=0.005)  # the paper's iteration with a stopping criterion
Row = tuple[int, int, ReNoise]  # inversion steps, denoising steps, settings


def fixed_iterations(iterations: int) -> ReNoise:
    """Return settings with a fixed number of renoising iterations per step."""
    return ReNoise(iterations=iterations, tolerance=0.0)


ROWS: dict[str, Row] = {
    "50/50/0": (50, 50, fixed_iterations(0)),
    "25/25/2": (25, 25, fixed_iterations(2)),
    "20/20/3": (20, 20, fixed_iterations(3)),
    "10/10/8": (10, 10, fixed_iterations(8)),
    "10/10/0": (10, 10, fixed_iterations(0)),
    "4/4/0": (4, 4, fixed_iterations(0)),
    "4/4/9": (4, 4, fixed_iterations(9)),
    "50/50, tolerance": (50, 50, TOLERANT),
    "10/10, tolerance": (10, 10, TOLERANT),
    "the paper's settings": (50, 50, ReNoise.paper("sd15")),
    "10/10, solved to the end": (10, 10, SOLVED),
    "10/10, clean steps noised": (10, 10, FOR_DETERMINISTIC),
    "default": (PRESETS["orchard"].steps, PRESETS["orchard"].steps, FOR_STOCHASTIC),
}


def run(
    pipe: Any,
    photographs: Photographs,
    rows: Sequence[str],
    *,
    batch: int = 8,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure the rows of `ROWS` with these names."""
    pictures, _ = photographs
    x_0 = encode(pipe, pictures).cpu()
    report: dict[str, Any] = {
        "photographs": len(pictures),
        "batch": batch,
        "ceiling": summarize(psnr(decode(pipe, x_0), pictures).tolist()),
        "rows": {},
    }
    for name in rows:
        report["rows"][name] = measure(pipe, photographs, x_0, ROWS[name], batch)
        progress(table_row(name, report["rows"][name]))
    return report


def measure(pipe: Any, photographs: Photographs, x_0: Tensor, row: Row, batch: int) -> dict[str, float]:
    """Measure one row: invert and reconstruct the photographs, whose latents are x_0, in batches."""
    pictures, captions = photographs
    inversion_steps, steps, settings = row
    values: dict[str, list[float]] = {name: [] for name in ("psnr", "error", "evaluations", "std", "seconds")}
    for i in range(0, len(pictures), batch):
        part = slice(i, i + batch)
        count = len(pictures[part])
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # plain inversion is expected not to converge
            inversion = api.invert(
                pipe,
                pictures[part],
                captions[part],
                method=settings,
                num_inference_steps=inversion_steps,
                measure=False,
            )
            seconds = time.perf_counter() - began
            drawn = api.reconstruct(pipe, inversion, output_type="latent", num_inference_steps=steps, remainder=False)
        values["error"] += _relative_error(torch.as_tensor(drawn).float().cpu(), x_0[part])
        values["psnr"] += psnr(decode(pipe, drawn), pictures[part]).tolist()
        values["evaluations"] += [inversion.evaluations + steps] * count
        values["std"] += inversion.latents.flatten(1).std(1).tolist()
        values["seconds"] += [seconds / count] * count
    return {
        **{f"psnr_{name}": value for name, value in summarize(values["psnr"]).items()},
        "latent_error": statistics.mean(values["error"]),
        "latent_error_worst": max(values["error"]),
        "evaluations": statistics.mean(values["evaluations"]),
        "seconds": statistics.mean(values["seconds"]),
        "std_x_T": statistics.mean(values["std"]),
    }


def _relative_error(x: Tensor, y: Tensor) -> list[float]:
    """Return ‖x − y‖/‖y‖ of each latent."""
    return ((x - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)).tolist()


def table(report: dict[str, Any]) -> str:
    """Format a report as Markdown."""
    return "\n".join(
        [
            photographs_line(report),
            "",
            "| inversion/denoising/renoising | network calls | PSNR median | mean | worst 5 % | latent error "
            "| std of x_T | s |",
            "|---|---|---|---|---|---|---|---|",
            *(table_row(name, row) for name, row in report["rows"].items()),
        ]
    )


def table_row(name: str, row: dict[str, float]) -> str:
    """Format a row as Markdown."""
    return (
        f"| {name} | {row['evaluations']:.1f} | {row['psnr_median']:.2f} | {row['psnr_mean']:.2f} "
        f"| {row['psnr_worst']:.2f} | {row['latent_error']:.2%} | {row['std_x_T']:.3f} | {row['seconds']:.2f} |"
    )
