"""Benchmark of tolerances on `orchard`: latent error against network evaluations.

It was used to choose the default tolerance. It uses DDIM with 10 steps on held-out scenes outside the other benchmarks,
with their captions as prompts and without guidance. The row 10/10/8, with 8 fixed iterations, is the reference.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from renoise.bench.photographs import Photographs
from renoise.bench.reconstruction import SOLVED, fixed_iterations, measure
from renoise.methods.renoise import ReNoise
from renoise.pipelines.latents import encode

STEPS = 10
TOLERANCES = (0.02, 0.01, 0.007, 0.005, 0.0035, 0.0025)


def rows(tolerances: Iterable[float]) -> dict[str, ReNoise]:
    """Return the settings for each tolerance, with and without Anderson acceleration, from both first guesses."""
    settings = {"10/10/8": fixed_iterations(8)}
    for tolerance, anderson, guess in itertools.product(tolerances, (True, False), ("epsilon", "latent")):
        name = f"{tolerance:g}, {'Anderson' if anderson else 'plain'}, from {guess}"
        settings[name] = replace(SOLVED, tolerance=tolerance, anderson=anderson, first_guess=guess)
    return settings


def run(
    pipe: Any,
    photographs: Photographs,
    settings: Mapping[str, ReNoise],
    *,
    batch: int = 8,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure one row for each of the settings."""
    pictures, _ = photographs
    x_0 = encode(pipe, pictures).cpu()
    report: dict[str, Any] = {"photographs": len(pictures), "batch": batch, "steps": STEPS, "rows": {}}
    for name, one in settings.items():
        report["rows"][name] = measure(pipe, photographs, x_0, (STEPS, STEPS, one), batch)
        progress(table_row(name, report["rows"][name]))
    return report


def table(report: dict[str, Any]) -> str:
    """Format a report as Markdown."""
    return "\n".join(
        [
            f"{report['photographs']} scenes, batches of {report['batch']}, {report['steps']} steps.",
            "",
            "| | network calls | latent error | worst |",
            "|---|---|---|---|",
            *(table_row(name, row) for name, row in report["rows"].items()),
        ]
    )


def table_row(name: str, row: dict[str, float]) -> str:
    """Format a row as Markdown."""
    return f"| {name} | {row['evaluations']:.1f} | {row['latent_error']:.2%} | {row['latent_error_worst']:.2%} |"
