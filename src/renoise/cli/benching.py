"""`renoise bench edit`: finds the tasks in a folder, runs every way to edit, writes the report."""

from pathlib import Path
from typing import Any

from renoise.bench import edits as bench
from renoise.bench import pie, scenes
from renoise.bench.tasks import Namer, Task
from renoise.bench.ways import ways
from renoise.cli import console, tasks
from renoise.cli.options import ModelOptions
from renoise.pipelines import calling
from renoise.pipelines.finding import find
from renoise.pipelines.presets import Preset
from renoise.settings import ReNoise


def edits(
    data: Path,
    count: int,
    only: list[str] | None,
    batch: int,
    output: Path,
    model: ModelOptions,
    report: console.Report,
) -> list[Path]:
    """The files written. ValueError for a folder that is neither kind of benchmark."""
    tasks.check_output(output / "page.html", data, ".html")
    chosen, namer = _tasks(data, count, report)
    pipe = tasks.load(model, report)
    preset = find(pipe) or _unknown(pipe, calling.identity(pipe))
    every = list(ways(preset, flow="Flow" in type(pipe.scheduler).__name__))
    wanted = [way for way in every if not only or any(part in way.name for part in only)]
    if not wanted:
        raise ValueError(f"--only {' '.join(only or [])}: there are {', '.join(way.name for way in every)}")
    about = {"model": preset.name, "data": data.resolve().name}
    figures = bench.run(
        pipe, chosen, wanted, namer=namer, batch=batch, progress=console.note, about=about, folder=output
    )
    report.data["rows"] = figures["rows"]
    report.lines.append(bench.table(figures))
    return [output / name for name in ("report.json", "report.md", "edits.csv", "page.html")]


def _unknown(pipe: Any, name: str) -> Preset:
    """What stands in for the preset of a model that has none."""
    return Preset(
        name=name, repository=name, size=0, steps=calling.step_count(pipe, None, None),
        settings=ReNoise.for_pipeline(pipe), edit_guidance_scale=1.5, source="", license="", about="",
    )  # fmt: skip


def _tasks(data: Path, count: int, report: console.Report) -> tuple[list[Task], Namer | None]:
    """The tasks in a folder, and the classifier that can judge them."""
    if pie.is_pie(data):
        found, problems = pie.tasks(data, count)
        for problem in problems:
            report.warn(f"skipped {problem}")
        if not found:
            raise ValueError(f"{data}: no entry of {pie.MAPPING} can be used")
        return found, None
    if not (data / "128" / "fruits_test_sequences.npz").is_file():
        raise ValueError(
            f"{data} is neither the fruits' data folder (128/fruits_test_sequences.npz) nor PIE-Bench ({pie.MAPPING})"
        )
    from renoise.bench.classifier import load

    namer = load().name
    return scenes.tasks(data, count, namer), namer
