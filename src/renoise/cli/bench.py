"""The commands `renoise bench …`. Each one reads its data, runs a benchmark of `renoise.bench` and writes a report."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from renoise.cli import console, examples, models, outputs
from renoise.cli.eyes import Sheets, eyes
from renoise.cli.options import DEFAULT_MODEL, MODEL, REPORT, ModelOptions, ReportOptions
from renoise.cli.values import WHOLE, WHOLES

if TYPE_CHECKING:
    from renoise.bench.tasks import Judging, Task

app = App(
    name="bench", help="Measure the quality and cost of reconstructions and edits on photographs with known answers."
)

app.command(eyes, help_epilogue=examples.BENCH_EYES)
_POSITIVE = Number(gte=1)
Data = Annotated[Path, Parameter(help="folder with the photographs")]
Photos = Annotated[int, Parameter(help="number of photographs", validator=_POSITIVE), WHOLE]
TasksOfEach = Annotated[
    int, WHOLE, Parameter(name="--tasks", help="number of tasks of each kind of edit", validator=_POSITIVE)
]
Batch = Annotated[int, Parameter(help="number of pictures per batch", validator=_POSITIVE), WHOLE]
Only = Annotated[
    list[str] | None,
    Parameter(help="run only rows whose names contain this text; repeat the option for more", negative=""),
]
OnlyWays = Annotated[
    list[str] | None,
    Parameter(help="run only ways to edit whose names contain this text; repeat the option for more", negative=""),
]
Folder = Annotated[Path, Parameter(name=["--output", "-o"], help="folder for the report")]
FOLDER = Path("renoise-bench")
UNKNOWN_GUIDANCE = 1.5  # guidance scale for edits with a model that has no preset
_ORCHARD = ModelOptions(model=DEFAULT_MODEL)


@app.command(help_epilogue=examples.BENCH_RECONSTRUCTION)
def reconstruction(
    data: Data,
    /,
    *,
    photos: Photos = 64,
    only: Only = None,
    batch: Batch = 8,
    output: Folder = FOLDER,
    printed: ReportOptions = REPORT,
) -> None:
    """Measure the quality of reconstructions with orchard against the number of network calls."""
    from renoise.bench import photographs
    from renoise.bench import reconstruction as benchmark
    from renoise.bench.report import select

    with console.reporting(printed) as report:
        path = _output(output, "reconstruction", data)
        rows = select(benchmark.ROWS, only)
        chosen = photographs.load(data, photos, "scene")
        pipe = models.load(_ORCHARD, report)
        figures = benchmark.run(pipe, chosen, rows, batch=batch, progress=report.note)
        _write(report, figures, benchmark.table(figures), path)


@app.command(help_epilogue=examples.BENCH_FEW_STEPS)
def few_steps(
    data: Data,
    /,
    *,
    sampler: Annotated[
        str | None, Parameter(help="scheduler class of diffusers to use instead of the model's own")
    ] = None,
    steps: Annotated[int, Parameter(help="number of sampler steps", validator=_POSITIVE), WHOLE] = 4,
    search: Annotated[
        bool, Parameter(help="vary the settings of the model, on other photographs", negative="", show_default=False)
    ] = False,
    photos: Annotated[
        int | None,
        WHOLE,
        Parameter(help="number of photographs (default: 48, or 32 with --search)", validator=_POSITIVE),
    ] = None,
    only: Only = None,
    batch: Batch = 8,
    output: Folder = FOLDER,
    printed: ReportOptions = REPORT,
    model: ModelOptions = MODEL,
) -> None:
    """Measure the effect of each part of the method on a few-step model, such as orchard-turbo."""
    from renoise.bench import few_steps as benchmark
    from renoise.bench import photographs
    from renoise.bench.report import select
    from renoise.pipelines.defaults import default_method
    from renoise.pipelines.loading import scheduler_class

    with console.reporting(printed) as report:
        model = _with_default(model)
        scheduler = scheduler_class(sampler) if sampler else None
        parts = ("few-steps", Path(model.model or "").name, (sampler or "").removesuffix("Scheduler").lower())
        path = _output(output, "-".join(filter(None, (*parts, "search" if search else ""))), data)
        load, count = (photographs.load_others, 32) if search else (photographs.load, 48)
        chosen = load(data, photos or count)
        pipe = models.load(model, report)
        photographs.check_size(pipe)
        if scheduler:
            pipe.scheduler = scheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
        own = default_method(pipe, steps)
        settings = benchmark.search(own) if search else benchmark.rows(own)
        settings = {name: settings[name] for name in select(settings, only)}
        figures = benchmark.run(pipe, chosen, settings, steps=steps, batch=batch, progress=report.note)
        _write(report, figures, benchmark.table(figures), path)


@app.command(help_epilogue=examples.BENCH_TOLERANCE)
def tolerance(
    data: Data,
    /,
    *,
    photos: Photos = 16,
    tolerances: Annotated[
        list[float] | None,
        Parameter(
            name="--tolerance",
            help="residual to stop at (default: 0.02 … 0.0025); repeat the option for more",
            negative="",
        ),
    ] = None,
    batch: Batch = 8,
    output: Folder = FOLDER,
    printed: ReportOptions = REPORT,
) -> None:
    """Measure the error with orchard against the number of network calls, for several tolerances."""
    from renoise.bench import photographs
    from renoise.bench import tolerance as benchmark

    with console.reporting(printed) as report:
        path = _output(output, "tolerance", data)
        rows = benchmark.rows(tolerances or benchmark.TOLERANCES)
        chosen = photographs.load_others(data, photos)
        pipe = models.load(_ORCHARD, report)
        figures = benchmark.run(pipe, chosen, rows, batch=batch, progress=report.note)
        _write(report, figures, benchmark.table(figures), path)


@app.command(help_epilogue=examples.BENCH_REDRAWING)
def redrawing(
    data: Data,
    /,
    *,
    tasks_of_each: TasksOfEach = 4,
    iterations: Annotated[
        list[int] | None,
        WHOLES,
        Parameter(
            help="renoising iterations K per step (default: 0, 1, 4, 9); repeat the option for more",
            validator=Number(gte=0),
            negative="",
        ),
    ] = None,
    guidance: Annotated[float, Parameter(help="guidance scale of the edits", validator=Number(gte=0))] = 1.5,
    batch: Batch = 16,
    output: Folder = FOLDER,
    printed: ReportOptions = REPORT,
) -> None:
    """Measure whether renoising the steps of an edit with orchard improves it."""
    from renoise.bench import redrawing as benchmark

    with console.reporting(printed) as report:
        path = _output(output, "redrawing", data)
        _check_scenes(data)
        pipe = models.load(dataclasses.replace(_ORCHARD, device="cpu"), report)
        chosen, judge = _compose_scenes(data, tasks_of_each)
        figures = benchmark.run(
            pipe, chosen, judge, iterations or benchmark.ITERATIONS,
            guidance=guidance, batch=batch, progress=report.note,
        )  # fmt: skip
        _write(report, figures, benchmark.table(figures), path)


@app.command(help_epilogue=examples.BENCH_EDIT)
def edit(
    data: Data,
    /,
    *,
    tasks_of_each: TasksOfEach = 42,
    final: Annotated[
        bool, Parameter(help="use the tasks that are kept for the last run, of other photographs", negative="")
    ] = False,
    only: OnlyWays = None,
    sheets: Sheets = 0,
    batch: Batch = 8,
    output: Folder = FOLDER,
    printed: ReportOptions = REPORT,
    model: ModelOptions = MODEL,
) -> None:
    """Compare ways to edit on photographs with known answers.

    The folder is the data folder of the fruits, or one of PIE-Bench. --sheets adds a blind test to the report.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("renoise bench edit draws a chart with matplotlib: pip install 'renoise[bench]'")
    from renoise.bench import edits as benchmark
    from renoise.bench import pie
    from renoise.bench.report import select
    from renoise.bench.sheets import Album, write_sheets
    from renoise.bench.ways import ways
    from renoise.pipelines.arguments import step_count
    from renoise.pipelines.defaults import default_method
    from renoise.pipelines.finding import find
    from renoise.pipelines.identity import identity

    with console.reporting(printed) as report:
        outputs.check(output / "page.html", ".html")
        chosen, judge = [], None
        if pie.is_pie(data):
            chosen = _read_pie_tasks(data, tasks_of_each, report)
        else:
            _check_scenes(data, f"nor PIE-Bench ({pie.MAPPING})")
        pipe = models.load(_with_default(model), report)
        own, steps = default_method(pipe), step_count(pipe, None, find(pipe))
        guidance = getattr(find(pipe), "edit_guidance_scale", UNKNOWN_GUIDANCE)
        every = ways(own, guidance, steps, flow="Flow" in type(pipe.scheduler).__name__)
        known = {way.name: way for way in every}
        wanted = [known[name] for name in select(known, only)]
        if not chosen:
            chosen, judge = _compose_scenes(data, tasks_of_each, final)
        about = {"model": identity(pipe), "data": data.resolve().name, "set": "final" if final else "tasks"}
        album = Album(chosen, sheets, output / "sheets")
        figures = benchmark.run(
            pipe, chosen, wanted, judge=judge, draw=(steps, guidance), batch=batch, progress=report.note,
            keep=album.add, about=about, folder=output,
        )  # fmt: skip
        report.data["rows"] = figures["rows"]
        report.lines.append(benchmark.table(figures))
        written = [output / name for name in benchmark.FILES]
        for path in written + (write_sheets(album.choose(), album.folder) if sheets else []):
            report.wrote(path)


def _output(folder: Path, name: str, data: Path) -> Path:
    """Return the path of a report without its suffix. Raise ValueError if it cannot be written."""
    outputs.check(folder / f"{name}.json", ".json")
    return folder / name


def _write(report: console.Report, figures: dict[str, Any], table: str, path: Path) -> None:
    from renoise.bench.report import write_report

    for file in write_report(figures, table, path):
        report.wrote(file)
    report.data["rows"] = figures["rows"]
    report.lines.append(table)


def _with_default(model: ModelOptions) -> ModelOptions:
    """Return the options with the default model named, which avoids the warning that it knows only fruits."""
    return dataclasses.replace(model, model=model.model or DEFAULT_MODEL)


def _check_scenes(data: Path, otherwise: str = "") -> None:
    """Raise ValueError unless a folder contains the photographs from which scenes are composed."""
    from renoise.bench import scenes

    if not scenes.has_photos(data):
        where = f"the fruits' data folder ({', '.join(f'128/{name}.npz' for name in scenes.PHOTOS)})"
        raise ValueError(f"{data} is neither {where} {otherwise}" if otherwise else f"{data} is not {where}")


def _compose_scenes(data: Path, count: int, final: bool = False) -> "tuple[list[Task], Judging]":
    """Compose tasks, and return them with the judge of their edits."""
    from renoise.bench import judge, scenes

    found = judge.load()
    return scenes.tasks(data, count, found, final=final), found.judge


def _read_pie_tasks(data: Path, count: int, report: console.Report) -> "list[Task]":
    """Read the tasks of PIE-Bench, with a warning for each unusable entry. Raise ValueError if all are unusable."""
    from renoise.bench import pie

    found, problems = pie.tasks(data, count)
    for problem in problems:
        report.warn(f"skipped {problem}")
    if not found:
        raise ValueError(f"{data}: no entry of {pie.MAPPING} can be used")
    return found
