"""Benchmark of ways to edit: success of the edits against preservation of the rest."""

import csv
import io
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from renoise import api, images
from renoise.bench.controls import DRAWN, controls
from renoise.bench.judge import Verdict
from renoise.bench.page import page
from renoise.bench.tasks import Judging, Task, as_tensor, resized, scores
from renoise.bench.ways import Way
from renoise.blending import join_found
from renoise.files import write
from renoise.inversion import Inversion
from renoise.pipelines import perception
from renoise.pipelines.observing import counting
from renoise.replay import Replay

LPIPS = "needs torchvision and the weights of its networks, which are no dependencies of this project"
GROUPS = ("near", "far", "single", "scene")  # further groups of tasks whose scores are summarized
EXAMPLES = 3  # number of tasks of each kind on the page
FILES = ("report.json", "report.md", "edits.csv", "page.html")


def run(
    pipe: Any,
    tasks: Sequence[Task],
    ways: Iterable[Way],
    *,
    judge: Judging | None = None,
    draw: tuple[int, float] | None = None,
    batch: int = 8,
    progress: Callable[[str], None] = lambda line: None,
    keep: Callable[[str, str, Tensor, list[dict[str, float]]], None] = lambda *pictures: None,
    about: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Measure every way to edit, and write `FILES` to `folder` after each one, so that an interruption loses little.

    Args:
        pipe: the pipeline.
        tasks: the edit tasks.
        ways: the ways to edit.
        judge: judge of the success of the edits. None leaves success out.
        draw: number of steps and guidance scale with which the model draws the controls. None leaves controls out.
        batch: number of pictures per batch.
        progress: called with each finished row of the table.
        keep: called with every way or control, its strength, the pictures (N, 3, H, W) in [0, 1] and their scores.
        about: entries at the start of the report.
        folder: folder of the report.

    Returns:
        The report, as JSON values.
    """
    examples = [n for n in range(len(tasks)) if sum(t.edit == tasks[n].edit for t in tasks[:n]) < EXAMPLES]
    rows: list[dict[str, Any]] = []
    pictures = [("source", [images.to_images(as_tensor(tasks[n].picture))[0] for n in examples])]
    perceptual_metrics, missing = perception.load(pipe._execution_device)
    report: dict[str, Any] = {
        **about,
        "tasks": len(tasks),
        "batch": batch,
        "rows": rows,
        "not measured": {"LPIPS": LPIPS, **missing},
        "shown": [tasks[n].target for n in examples],
        "edits": [
            {"edit": task.edit, "source": task.source, "target": task.target}
            | {key: value for key in ("distance", "setting") if (value := getattr(task, key))}
            for task in tasks
        ],
    }
    figures: list[dict[str, Any]] = []

    def add(name: str, strength: str, kind: dict[str, bool], edited: Tensor, calls: float, seconds: float) -> None:
        # A drawing shows other fruits than the source, so it cannot be the right answer pixel by pixel.
        judged = [replace(task, answer=None) for task in tasks] if name == DRAWN else tasks
        scored = _score(judged, edited, judge, perceptual_metrics)
        figures.extend({"way": name, "strength": strength, "number": n, **s} for n, s in enumerate(scored))
        row = {"way": name, "strength": strength, **kind, "calls": calls, "seconds": seconds}
        rows.append({**row, "scores": _summarize(tasks, scored)})
        pictures.append((f"{name} {strength}".strip(), images.to_images(edited[examples])))
        keep(name, strength, edited, scored)
        progress(table_row(rows[-1]))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # baselines are expected not to converge
        for name, edited, calls, seconds in controls(pipe, tasks, *draw, batch) if draw else ():
            add(name, "", {"baseline": False, "control": True}, edited, calls, seconds)
        for way in ways:
            for strength, made in _edit(pipe, way, tasks, batch).items():
                add(way.name, strength, {"baseline": way.baseline, "control": False}, *made)
            _write(report, figures, pictures, folder)
    return report


def _edit(pipe: Any, way: Way, tasks: Sequence[Task], batch: int) -> dict[str, tuple[Tensor, float, float]]:
    """Edit every task. Return, by strength, pictures (N, 3, H, W) in [0, 1], evaluations and seconds per picture."""
    parts = [tasks[n : n + batch] for n in range(0, len(tasks), batch)]
    inverted = {name: _invert(pipe, parts, arguments) for name, arguments in way.invert.items()}
    found = _find_masks(pipe, parts) if way.joined else []
    edited = {}
    for strength in way.edits:
        inversions, evaluations, inverting = inverted[strength if strength in inverted else ""]
        began, out = time.perf_counter(), []
        with counting() as rows:
            for seed, (part, inversion) in enumerate(zip(parts, inversions, strict=True)):
                prompts, arguments = [task.target for task in part], way.arguments(strength, [t.source for t in part])
                out.append(api.edit(pipe, inversion, prompts, seed=seed, output_type="pt", **arguments).cpu())
        seconds = inverting + time.perf_counter() - began
        if way.joined:
            out = [join_found(pictures, *one) for pictures, one in zip(out, found, strict=True)]
        edited[strength] = torch.cat(out), rows[0] / len(tasks) + evaluations, seconds / len(tasks)
    return edited


def _invert(
    pipe: Any, parts: Sequence[Sequence[Task]], arguments: dict[str, Any]
) -> tuple[list[Inversion], float, float]:
    """Invert the photographs of tasks. Return the inversions, evaluations per picture and seconds."""
    inversions, began = list[Inversion](), time.perf_counter()
    for seed, part in enumerate(parts):  # one noise for all would decide how well all of them turn out
        prompts = [task.source for task in part]
        inversion = api.invert(pipe, [t.picture for t in part], prompts, measure=False, seed=seed, **arguments)
        assert inversion.trajectory is not None
        inversions.append(replace(inversion, trajectory=inversion.trajectory.cpu()))  # to save GPU memory
    evaluations = sum(inversion.evaluations * len(inversion) for inversion in inversions)
    return inversions, evaluations / sum(map(len, parts)), time.perf_counter() - began


def _find_masks(pipe: Any, parts: Sequence[Sequence[Task]]) -> list[tuple[Tensor, Tensor]]:
    """Return, for each batch of tasks, the photographs, and the masks that the default finds."""
    found = []
    for seed, part in enumerate(parts):
        prompts = [task.source for task in part]
        inversion = api.invert(pipe, [task.picture for task in part], prompts, measure=False, seed=seed)
        mask = Replay(pipe, inversion, {}, edit=True).found_mask([task.target for task in part])
        assert inversion.photographs is not None
        found.append((inversion.photographs, mask.cpu()))
    return found


def _score(
    tasks: Sequence[Task],
    edited: Tensor,
    judge: Judging | None,
    perceptual_metrics: Sequence[perception.PerceptualMetric],
) -> list[dict[str, float]]:
    """Score each edited picture against its task, and by the metrics of pretrained networks."""
    verdicts: Sequence[Verdict | None] = judge(edited) if judge else [None] * len(tasks)
    scored = [scores(*one) for one in zip(tasks, edited, verdicts, strict=True)]
    for task, score, after in zip(tasks, scored, edited, strict=True):
        before, preserved = as_tensor(task.picture)[0], torch.from_numpy(task.preserved)[None]
        for metric in perceptual_metrics:
            score.update(metric(before, resized(after, before), preserved, task.target))
    return scored


def _summarize(tasks: Sequence[Task], scored: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Summarize the scores of all edits, of each kind and of each of `GROUPS`.

    The success rate, or the median and the mean of the worst twentieth.
    """
    out = {}
    groups = [{"all", task.edit, task.distance, task.setting} - {""} for task in tasks]
    for edit in ("all", *dict.fromkeys(task.edit for task in tasks), *GROUPS):
        part = [score for group, score in zip(groups, scored, strict=True) if edit in group]
        if not part:
            continue
        out[edit] = {}
        for name in dict.fromkeys(name for score in part for name in score):
            values = sorted(score[name] for score in part if name in score)
            out[edit][name] = statistics.mean(values) if name == "success" else statistics.median(values)
            if name != "success":
                values = values[::-1] if name.startswith("structure") else values
                out[edit][f"{name}_worst"] = statistics.mean(values[: math.ceil(len(values) / 20)])
    return out


def table(report: dict[str, Any]) -> str:
    """Format a report as Markdown."""
    edits = list(report["rows"][0]["scores"])
    return "\n".join(
        [
            f"`{report['model']}`, {report['tasks']} edits. Success · PSNR in dB of the preserved pixels, "
            "median (worst 5 %) · PSNR against the right answer, if known · CLIP similarity, DINO structure "
            "distance x 1000, if measured.",
            "",
            "| way | strength | calls | s | " + " | ".join(edits) + " |",
            "|---|---|---|---|" + "---|" * len(edits),
            *map(table_row, report["rows"]),
            "",
            *(f"Not measured: {name} ({why})." for name, why in report["not measured"].items()),
        ]
    )


def table_row(row: dict[str, Any]) -> str:
    """Format a row as Markdown."""
    cells = []
    for score in row["scores"].values():
        success = f"{score['success']:.2f} · " if "success" in score else ""
        kept = f"{score['kept']:.1f} ({score['kept_worst']:.1f})" if "kept" in score else "–"
        more = f" · {score['exact']:.1f}" if "exact" in score else ""
        more += f" · {score['clip']:.1f}" if "clip" in score else ""
        more += f" · {1000 * score['structure_distance']:.1f}" if "structure_distance" in score else ""
        cells.append(f"{success}{kept}{more}")
    name = f"*{row['way']}* (control)" if row.get("control") else row["way"]
    return f"| {name} | {row['strength']} | {row['calls']:.0f} | {row['seconds']:.1f} | {' | '.join(cells)} |"


def _write(
    report: dict[str, Any], figures: list[dict[str, Any]], pictures: list[tuple[str, list[Any]]], folder: Path
) -> None:
    """Write the report, its table, a page of pictures, and the scores of each edit."""
    out = io.StringIO()
    columns = csv.DictWriter(out, list(dict.fromkeys(name for one in figures for name in one)), lineterminator="\n")
    columns.writeheader()
    columns.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in one.items()} for one in figures)
    write(folder / "edits.csv", out.getvalue().encode())
    write(folder / "report.json", (json.dumps(report, indent=1) + "\n").encode())
    write(folder / "report.md", (table(report) + "\n").encode())
    write(folder / "page.html", page(report, pictures).encode())
