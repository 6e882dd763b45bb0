"""Benchmark of renoising during denoising, on `orchard`: each step of an edit is renoised and repeated.

A denoising step goes from x_t to x_s = a x_t + b out(x_t). Renoising inverts it again, with x^(0) = x_s and
x^(k) = (x_s − b out(x^(k−1)))/a for K + 1 evaluations, and the step is then repeated from the last iterate. All
evaluations use the new prompt with guidance. Every step of the inversion is solved, with deterministic DDIM. There is no
mask, so that the result depends on the denoising alone. *Calls* are the evaluations of the edit without the inversion.
*moved* is the distance ‖Δx_0‖/√numel to the result without renoising.
"""

import statistics
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from renoise import api
from renoise.bench.photographs import decode
from renoise.bench.reconstruction import SOLVED
from renoise.bench.report import summarize
from renoise.bench.tasks import Judging, Task, scores
from renoise.inversion import Inversion
from renoise.prediction import EPSILON
from renoise.programs import Program
from renoise.programs import run as run_program
from renoise.samplers import DDIM
from renoise.schedule import Level, Schedule
from renoise.step import Step, plan

ITERATIONS = (0, 1, 4, 9)


def run(
    pipe: Any,
    tasks: Sequence[Task],
    judge: Judging,
    iterations: Sequence[int] = ITERATIONS,
    *,
    guidance: float = 1.5,
    batch: int = 16,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure the edits without renoising, and with each number K of renoising iterations."""
    inverted = []
    for n in range(0, len(tasks), batch):
        part = tasks[n : n + batch]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = api.invert(pipe, [t.picture for t in part], [t.source for t in part], method=SOLVED, measure=False)
        inverted.append((part, found))
    report: dict[str, Any] = {"edits": len(tasks), "guidance": guidance, "rows": {}}
    plain: list[Tensor] = []
    for name, count in {"plain": None, **{f"K = {count}": count for count in iterations}}.items():
        latents, row = measure(pipe, inverted, judge, count, guidance)
        plain = plain or latents
        distances = [(a - b).flatten(1).square().mean(1).sqrt() for a, b in zip(latents, plain, strict=True)]
        report["rows"][name] = {**row, "moved": torch.cat(distances).median().item()}
        progress(table_row(name, report["rows"][name]))
    return report


def redraw(steps: Sequence[Step], x_T: Tensor, iterations: int | None) -> Program[Tensor]:
    """Denoise x_T (B, ...) to x_0, renoising and repeating every step with K = `iterations`. None only denoises."""
    x_t = x_T
    for i, step in enumerate(steps):
        x_s = step.denoise(x_t, (yield x_t, i))
        if iterations is not None:
            z = x_s
            for _ in range(iterations + 1):
                z = step.renoise(x_s, (yield z, i))
            x_s = step.denoise(z, (yield z, i))
        x_t = x_s
    return x_t


def guided(pipe: Any, part: Sequence[Task], scale: float) -> Callable[[Tensor, Level], Tensor]:
    """Return a function that evaluates the network with guidance: target prompts against source prompts."""
    prompts = [task.source for task in part] + [task.target for task in part]
    hidden = pipe.encode_prompt(prompts, pipe.device, 1, False)[0]

    def predict(x: Tensor, level: Level) -> Tensor:
        source, target = pipe.unet(torch.cat([x, x]), level.time, hidden, return_dict=False)[0].chunk(2)
        return source + scale * (target - source)

    return predict


def measure(
    pipe: Any,
    inverted: Sequence[tuple[Sequence[Task], Inversion]],
    judge: Judging,
    iterations: int | None,
    guidance: float,
) -> tuple[list[Tensor], dict[str, float]]:
    """Edit every batch of tasks from its inversion. Return the latents x_0 and a row of the table."""
    latents, scored = [], []
    for part, inversion in inverted:
        levels = tuple(Level(*level) for level in inversion.record.levels)
        steps = plan(Schedule(levels), DDIM(), EPSILON)
        x_0 = run_program(redraw(steps, inversion.latents, iterations), steps, guided(pipe, part, guidance))
        pictures = decode(pipe, x_0)
        latents.append(x_0)
        scored += [scores(*one) for one in zip(part, pictures, judge(pictures), strict=True)]
    kept = [score["kept"] for score in scored if "kept" in score]
    calls = 2 * len(inverted[0][1].residuals) * (1 if iterations is None else iterations + 3)
    return latents, {
        "calls": calls,
        "success": statistics.mean(score["success"] for score in scored),
        **{f"kept_{name}": value for name, value in summarize(kept).items()},
        "exact": statistics.median([score["exact"] for score in scored if "exact" in score]),
    }


def table(report: dict[str, Any]) -> str:
    """Format a report as Markdown."""
    return "\n".join(
        [
            f"`orchard`, {report['edits']} edits, guidance {report['guidance']:g}, no mask.",
            "",
            "| renoised | calls | success | kept: PSNR median | worst 5 % | against the right answer | moved |",
            "|---|---|---|---|---|---|---|",
            *(table_row(name, row) for name, row in report["rows"].items()),
        ]
    )


def table_row(name: str, row: dict[str, float]) -> str:
    """Format a row as Markdown."""
    return (
        f"| {name} | {row['calls']} | {row['success']:.2f} | {row['kept_median']:.1f} | {row['kept_worst']:.1f} "
        f"| {row['exact']:.1f} | {row['moved']:.3f} |"
    )
