"""Runs edit tasks through every way to edit and reports success against preservation: JSON, Markdown, a page of pictures."""

import csv
import html
import io
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from renoise import api, images
from renoise.bench.curve import curve
from renoise.bench.tasks import Namer, Naming, Task, as_tensor, resized, scores
from renoise.bench.ways import Way
from renoise.files import write
from renoise.inversion import Inversion
from renoise.page import data_url
from renoise.pipelines import perception
from renoise.pipelines.driver import count_rows

LPIPS = "needs torchvision and the weights of its networks, on which this project does not depend"
SHOWN = 3  # tasks of each kind on the page


def run(
    pipe: Any,
    tasks: Sequence[Task],
    ways: Iterable[Way],
    *,
    namer: Namer | None = None,
    batch: int = 8,
    progress: Callable[[str], None] = lambda line: None,
    about: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Every way's figures. What `publish` writes into `folder` is written anew after each way."""
    shown = [n for n in range(len(tasks)) if sum(t.edit == tasks[n].edit for t in tasks[:n]) < SHOWN]
    rows: list[dict[str, Any]] = []
    pages = [("source", [images.to_images(as_tensor(tasks[n].picture))[0] for n in shown])]
    report = {**about, "tasks": len(tasks), "batch": batch, "rows": rows}
    seers, missing = perception.load(pipe._execution_device)
    report["not measured"] = {"LPIPS": LPIPS, **missing}
    report["shown"] = [tasks[n].target for n in shown]
    report["edits"] = [{"edit": task.edit, "source": task.source, "target": task.target} for task in tasks]
    each: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # baselines do not converge, and are here to show it
        for way in ways:
            for strength, (pictures, calls, seconds) in _edited(pipe, way, tasks, batch).items():
                names: Sequence[Naming | None] = namer(pictures) if namer else [None] * len(tasks)
                scored = [scores(*one) for one in zip(tasks, pictures, names, strict=True)]
                for task, score, after in zip(tasks, scored, pictures, strict=True):
                    before, stays = as_tensor(task.picture)[0], torch.from_numpy(task.stays)[None]
                    for seer in seers:
                        score.update(seer(before, resized(after, before), stays, task.target))
                each += [{"way": way.name, "strength": strength, "number": n, **one} for n, one in enumerate(scored)]
                row = {
                    "way": way.name,
                    "strength": strength,
                    "baseline": way.baseline,
                    "calls": calls,
                    "seconds": seconds,
                }
                rows.append({**row, "scores": _summary(tasks, scored)})
                pages.append((f"{way.name} {strength}".strip(), images.to_images(pictures[shown])))
                progress(line(rows[-1]))
            publish(report, each, pages, folder)
    return report


def _edited(pipe: Any, way: Way, tasks: Sequence[Task], batch: int) -> dict[str, tuple[Tensor, float, float]]:
    """Edited pictures (N, 3, H, W) in [0, 1], network evaluations and seconds per picture, for each strength of a way."""
    more: dict[str, Any] = {} if way.eta is None else {"eta": way.eta}
    parts = [tasks[n : n + batch] for n in range(0, len(tasks), batch)]
    found: list[Inversion] = []
    began = time.perf_counter()
    for part in parts:
        prompts = [task.source for task in part]
        inversion = api.invert(pipe, [t.picture for t in part], prompts, measure=False, **way.invert, **more)
        assert inversion.course is not None
        found.append(replace(inversion, course=inversion.course.cpu()))  # there may be many
    inverting = time.perf_counter() - began
    made = {}
    for strength, arguments in way.edits.items():
        began, out = time.perf_counter(), []
        with ExitStack() as stack:
            rows = count_rows(pipe, stack)
            for part, inversion in zip(parts, found, strict=True):
                out.append(api.edit(pipe, inversion, [t.target for t in part], output_type="pt", **arguments).cpu())
        calls = rows[0] + sum(inversion.evaluations * len(inversion) for inversion in found)
        seconds = inverting + time.perf_counter() - began
        made[strength] = torch.cat(out), calls / len(tasks), seconds / len(tasks)
    return made


def _summary(tasks: Sequence[Task], each: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of all edits and of each kind: the median of every figure, the mean of the worst twentieth, the mean of success."""
    out = {}
    for edit in ("all", *dict.fromkeys(task.edit for task in tasks)):
        part = [score for task, score in zip(tasks, each, strict=True) if edit in ("all", task.edit)]
        out[edit] = {}
        for name in dict.fromkeys(name for score in part for name in score):
            values = sorted(score[name] for score in part if name in score)
            out[edit][name] = statistics.mean(values) if name == "success" else statistics.median(values)
            if name != "success":
                values = values[::-1] if name.startswith("structure") else values
                out[edit][f"{name}_worst"] = statistics.mean(values[: math.ceil(len(values) / 20)])
    return out


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = []
    for score in row["scores"].values():
        success = f"{score['success']:.2f} · " if "success" in score else ""
        exact = f" · {score['exact']:.1f}" if "exact" in score else ""
        exact += f" · {score['clip']:.1f}" if "clip" in score else ""
        exact += f" · {1000 * score['structure_distance']:.1f}" if "structure_distance" in score else ""
        kept = f"{score['kept']:.1f} ({score['kept_worst']:.1f})" if "kept" in score else "–"
        cells.append(f"{success}{kept}{exact}")
    return f"| {row['way']} | {row['strength']} | {row['calls']:.0f} | {row['seconds']:.1f} | {' | '.join(cells)} |"


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    edits = list(report["rows"][0]["scores"])
    return "\n".join(
        [
            f"`{report['model']}`, {report['tasks']} edits. Success · PSNR in dB of what must stay, median (worst 5 %) · "
            "PSNR against the right answer, where it is known · CLIP similarity, DINO structure distance x 1000, if measured.",
            "",
            "| way | strength | calls | s | " + " | ".join(edits) + " |",
            "|---|---|---|---|" + "---|" * len(edits),
            *map(line, report["rows"]),
            "",
            *(f"Not measured: {name} ({why})." for name, why in report["not measured"].items()),
        ]
    )


def publish(
    report: dict[str, Any], each: list[dict[str, Any]], pages: list[tuple[str, list[Any]]], folder: Path
) -> None:
    """Write report.json, report.md, page.html and edits.csv, each edit's own figures under its number in the report."""
    figures = io.StringIO()
    columns = csv.DictWriter(figures, list(dict.fromkeys(name for one in each for name in one)), lineterminator="\n")
    columns.writeheader()
    columns.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in one.items()} for one in each)
    write(folder / "edits.csv", figures.getvalue().encode())
    write(folder / "report.json", (json.dumps(report, indent=1) + "\n").encode())
    write(folder / "report.md", (table(report) + "\n").encode())
    write(folder / "page.html", _page(report, pages).encode())


def _page(report: dict[str, Any], pages: list[tuple[str, list[Any]]]) -> str:
    """A page that needs no other file: a column for each task, a row for each way; pointing at a picture shows its source."""
    sources = [data_url(picture) for picture in pages[0][1]]
    head = "".join(f"<th>{html.escape(target.removeprefix('a photo of '))}</th>" for target in report["shown"])
    rows = [
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(f'<td class="s{n}"><img src="{data_url(picture)}"></td>' for n, picture in enumerate(pictures))
        + "</tr>"
        for name, pictures in pages
    ]
    style = "".join(f".s{n}{{background-image:url({source})}}" for n, source in enumerate(sources)) + (
        "body{font:14px system-ui;margin:24px}td{padding:0;background-size:cover}img{width:128px;display:block}"
        "td:hover img{opacity:0}th{font-weight:500;text-align:left;max-width:128px;vertical-align:top}"
    )
    return (
        f"<!doctype html><meta charset=utf-8><title>Edits with {html.escape(report['model'])}</title><style>{style}</style>"
        f"<h1>Edits with {html.escape(report['model'])}</h1>{curve(report['rows'])}"
        "<p>Point at a dot to see its cost, at a picture to see its source.</p>"
        f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
    )
