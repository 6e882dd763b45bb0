"""Does renoising help while denoising? The edits of `renoise bench edit`, each step of the drawing renoised and taken again.

    python -m benchmarks.redrawing --data ../shared/data --tasks 4 --output benchmarks/redrawing

A step goes from x_t to x_s = a x_t + b out(x_t). Renoised, x_s is followed back as in inversion, z^(0) = x_s and
z^(k) = (x_s − b out(z^(k−1)))/a, for K + 1 evaluations, and the step is taken again from there, all under the new prompt with
guidance. `orchard`, inverted with its own settings; no mask, so that the drawing alone keeps or changes. *Calls* count the
drawing; *moved* is how far x_0 ends from the one drawn without renoising, ‖Δx_0‖/√numel.
"""

import argparse
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import renoise
from benchmarks.photographs import decode, publish, spread
from renoise import Inversion, algorithm
from renoise.algorithm import Program
from renoise.bench import classifier, scenes
from renoise.bench.tasks import Task, scores
from renoise.prediction import EPSILON
from renoise.samplers import DDIM
from renoise.schedule import Level, Schedule
from renoise.step import Step, plan

ROWS: dict[str, int | None] = {"plain": None, "K = 0": 0, "K = 1": 1, "K = 4": 4, "K = 9": 9}


def redraw(steps: Sequence[Step], x_T: Tensor, iterations: int | None) -> Program[Tensor]:
    """Denoise x_T (B, ...), every step renoised with K = `iterations` and taken again; None: as it is -> x_0."""
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
    """The network under the targets, guided away from the sources."""
    prompts = [task.source for task in part] + [task.target for task in part]
    hidden = pipe.encode_prompt(prompts, pipe.device, 1, False)[0]

    def predict(x: Tensor, level: Level) -> Tensor:
        plain, asked = pipe.unet(torch.cat([x, x]), level.time, hidden, return_dict=False)[0].chunk(2)
        return plain + scale * (asked - plain)

    return predict


def measure(
    pipe: Any, parts: list[tuple[Sequence[Task], Inversion]], iterations: int | None, scale: float
) -> tuple[list[Tensor], dict[str, float]]:
    """The pictures' latents, and a row of the table."""
    latents, each, namer = [], [], classifier.load().name
    for part, found in parts:
        levels = tuple(Level(*level) for level in found.record.levels)
        steps = plan(Schedule(levels), DDIM(), EPSILON)
        x_0 = algorithm.run(redraw(steps, found.latents, iterations), steps, guided(pipe, part, scale))
        pictures = decode(pipe, x_0)
        latents.append(x_0)
        each += [scores(*one) for one in zip(part, pictures, namer(pictures), strict=True)]
    calls = 2 * len(parts[0][1].residuals) * (1 if iterations is None else iterations + 3)
    figures = {f"kept_{name}": value for name, value in spread([score["kept"] for score in each]).items()}
    exact = statistics.median([score["exact"] for score in each if "exact" in score])
    return latents, {
        "calls": calls,
        "success": statistics.mean(score["success"] for score in each),
        **figures,
        "exact": exact,
    }


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        f"`orchard`, {report['edits']} edits, guidance {report['guidance']:g}, no mask.",
        "",
        "| renoised | calls | success | kept: PSNR median | worst 5 % | against the right answer | moved |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in report["rows"].items():
        lines.append(
            f"| {name} | {row['calls']} | {row['success']:.2f} | {row['kept_median']:.1f} | {row['kept_worst']:.1f} "
            f"| {row['exact']:.1f} | {row['moved']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the photographs")
    parser.add_argument("--tasks", type=int, default=16, help="of each kind of edit")
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--output", type=Path, help="write the report here too, as .json and .md")
    options = parser.parse_args()

    warnings.simplefilter("ignore")
    pipe = renoise.load("orchard", device="cpu")
    tasks = scenes.tasks(options.data, options.tasks, classifier.load().name)
    parts = []
    for n in range(0, len(tasks), options.batch):
        part = tasks[n : n + options.batch]
        found = renoise.invert(pipe, [task.picture for task in part], [task.source for task in part], measure=False)
        parts.append((part, found))
    report: dict[str, Any] = {"edits": len(tasks), "guidance": options.guidance, "rows": {}}
    first: list[Tensor] = []
    for name, iterations in ROWS.items():
        latents, row = measure(pipe, parts, iterations, options.guidance)
        first = first or latents
        apart = [(a - b).flatten(1).square().mean(1).sqrt() for a, b in zip(latents, first, strict=True)]
        report["rows"][name] = {**row, "moved": torch.cat(apart).median().item()}
        print(f"{name}: {report['rows'][name]}", file=sys.stderr)
    publish(report, table(report), options.output)


if __name__ == "__main__":
    main()
