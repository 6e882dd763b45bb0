"""What the command line shows: progress on stderr while it works, one report at the end, one line for an error."""

import dataclasses
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from renoise.inversion import Inversion
    from renoise.pipelines.presets import Preset

Format = Literal["human", "json"]
INTERRUPTED, WRONG_INPUT, INTERNAL = 130, 2, 1
_PIPE_WIDTH = 300
_OUT_OF_MAIN_MEMORY = ("can't allocate memory", "cannot allocate memory")
_OUT_OF_MEMORY = ("out of memory", *_OUT_OF_MAIN_MEMORY)
_UNREACHABLE = "the Hugging Face Hub cannot be reached, and the model is not in the local cache"
_HUB_TROUBLE = {  # by the name of the error that huggingface_hub raised, the most telling first
    "GatedRepoError": "accept its licence on its page at huggingface.co, then log in: hf auth login",
    "RepositoryNotFoundError": "there is no such model on the Hugging Face Hub, or it is private",
    "RevisionNotFoundError": "there is no such revision of it",
    "OfflineModeIsEnabled": "it is not in the local cache, and HF_HUB_OFFLINE is set",
    "ConnectError": _UNREACHABLE,
    "ConnectTimeout": _UNREACHABLE,
    "ReadTimeout": _UNREACHABLE,
    "LocalEntryNotFoundError": _UNREACHABLE,
}


@dataclasses.dataclass
class Report:
    """What one command did. `data` is the object that --format json prints."""

    format: Format = "human"
    data: dict[str, Any] = dataclasses.field(default_factory=lambda: {"outputs": []})
    lines: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def wrote(self, path: Path) -> None:
        """Add an output that now exists. People read its path at once, on stdout, so that paths can be piped on."""
        self.data["outputs"].append(str(path))
        if self.format == "human":
            print(path, flush=True)

    def warn(self, text: str) -> None:
        """Add a warning, once however often it comes."""
        text = one_line(text)
        if text not in self.warnings:
            self.warnings.append(text)

    def describe(self, inversion: "Inversion") -> None:
        """Add an inversion's own account: prompt, quality, cost, settings."""
        for text in inversion.warnings:
            self.warn(text)
        psnr, ceiling = _first(inversion.psnr), _first(inversion.autoencoder_psnr)
        evaluations, residuals = inversion.evaluations, [_first(step) for step in inversion.residuals]
        self.data |= {
            "model": inversion.record.model,
            "prompt": _first(inversion.record.prompt),
            "psnr": psnr,
            "autoencoder_psnr": ceiling,
            "evaluations": evaluations,
            "residuals": residuals,
            "method": inversion.record.method,
            "settings": inversion.record.settings,
        }
        self.lines += [f"reconstruction  {quality}" for quality in [self.quality()] if quality]
        largest = max((value for value in residuals if value is not None), default=None)
        residual = "" if largest is None else f", largest residual {largest:.2g}"
        self.lines.append(f"inversion       {evaluations:g} network calls in {len(residuals)} steps{residual}")

    def edited(self, evaluations: float) -> None:
        """Add what each edit cost on top of the inversion; finding its mask and guidance count."""
        self.data["edit_evaluations"] = evaluations
        self.lines.append(f"edit            {evaluations:g} network calls each")

    def quality(self) -> str:
        """How close the reconstruction is, and how close it could be; empty if that was not measured."""
        psnr, ceiling = self.data.get("psnr"), self.data.get("autoencoder_psnr")
        if psnr is None:
            return ""
        return f"{psnr:.1f} dB PSNR" + ("" if ceiling is None else f", the autoencoder alone {ceiling:.1f} dB")


@contextmanager
def reporting(output_format: Format) -> Iterator[Report]:
    """Time a command, collect its warnings and print its report, unless it fails."""
    report, began = Report(output_format), time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")  # deprecations and the like are for developers
        warnings.simplefilter("always", UserWarning)
        yield report
    for warning in caught:
        report.warn(str(warning.message))
    report.data |= {"seconds": round(time.perf_counter() - began, 3), "warnings": report.warnings}
    if output_format == "json":
        print_json(report.data)
        return
    lines = [*report.lines, f"time            {report.data['seconds']:.1f} s"]
    lines += [f"warning         {text}" for text in report.warnings]
    print(*lines, sep="\n", file=sys.stderr)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, if that is a terminal; yields the function that is told (evaluations done, evaluations expected)."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=max(done, total))


def note(text: str) -> None:
    """A line for people who wait: on stderr, if that is a terminal."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def print_json(data: Mapping[str, Any]) -> None:
    """One JSON object on stdout. JSON knows no infinity: it becomes the string "inf", and nan null."""
    print(json.dumps(_plain(data), ensure_ascii=False, indent=2), flush=True)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Names and values, one a line; what is nested bears its owner's name in front. Numbers are rounded, for people."""
    flat = dict(_flat(fields))
    width = max(map(len, flat))
    for name, value in flat.items():
        print(
            f"{name:<{width}}  {value if isinstance(value, str) else json.dumps(_rounded(value), ensure_ascii=False)}"
        )


def print_presets(presets: Iterable["Preset"]) -> None:
    """A table of presets."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("name", "repository", "steps", "kind", "licence", "settings", "of the paper"):
        table.add_column(heading, overflow="fold")
    for preset in presets:
        settings = preset.settings.source if preset.settings else "the rule for its sampler"
        paper = preset.paper or "none"
        cells = (preset.name, preset.repository, str(preset.steps), preset.about, preset.license, settings, paper)
        table.add_row(*map(Text, cells))  # Text: a bracket in a name is no markup
        table.add_row()
    console = Console()  # as wide as the terminal; into a file or pipe as wide as it needs
    (console if console.is_terminal else Console(width=_PIPE_WIDTH)).print(table)


def one_line(text: object) -> str:
    """A text with its line breaks and runs of spaces made single spaces."""
    return " ".join(str(text).split())


def explain(error: BaseException) -> tuple[int, str]:
    """The exit status and the one line for an error."""
    text = one_line(error) or type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _OUT_OF_MEMORY):
        main = isinstance(error, MemoryError) or any(sign in text.lower() for sign in _OUT_OF_MAIN_MEMORY)
        # a CPU calculates in bf16 many times slower, and has nowhere to offload to
        remedies = "--vae-tiling" if main or not accelerated() else "--dtype bf16, --vae-tiling, --cpu-offload"
        return WRONG_INPUT, f"out of memory: lower --width and --height, or try {remedies}"
    if hint := _hub_trouble(error):
        what = text.partition(": ")[0] if "cannot be loaded" in text else "a model cannot be loaded"
        return WRONG_INPUT, f"{what}: {hint}"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return WRONG_INPUT, f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError | ValueError):  # what the library and the system refuse
        return WRONG_INPUT, text
    return INTERNAL, f"{type(error).__name__}: {text} (unexpected; RENOISE_DEBUG=1 shows where)"


def accelerated() -> bool:
    """Whether there is something faster than the CPU."""
    import torch

    return torch.accelerator.is_available()


def _hub_trouble(error: BaseException | None) -> str | None:
    """What to do about an error that began at the Hugging Face Hub; None for any other."""
    names = set[str]()
    while error is not None:
        names.add(type(error).__name__)
        error = error.__cause__ or error.__context__
    return next((hint for name, hint in _HUB_TROUBLE.items() if name in names), None)


def _flat(fields: Mapping[str, Any], owner: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{owner}{name}.")
        else:
            yield owner + name, value


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else _plain(value)


def _first(values: Any) -> Any:
    """The command line works on one picture: of a batch's list, the only entry."""
    return values[0] if isinstance(values, list | tuple) and values else values


def _plain(value: Any) -> Any:
    """Made of what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
