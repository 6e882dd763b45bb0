"""Output of the command line: progress on stderr, one report at the end, and one line for an error."""

import dataclasses
import json
import math
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from renoise.inversion import Inversion
    from renoise.pipelines.presets import Preset

Format = Literal["human", "json"]
INTERRUPTED, WRONG_INPUT, INTERNAL = 130, 2, 1
_WIDTH = 80
_OUT_OF_MAIN_MEMORY = ("can't allocate memory", "cannot allocate memory")
_OUT_OF_MEMORY = ("out of memory", *_OUT_OF_MAIN_MEMORY)
_UNREACHABLE = "the Hugging Face Hub cannot be reached, and the model is not in the local cache"
_HUB_HINTS = {  # by the class name of the error of huggingface_hub, the most specific first
    "GatedRepoError": "accept its license on its page at huggingface.co, then log in: hf auth login",
    "RepositoryNotFoundError": "there is no such model on the Hugging Face Hub, or it is private",
    "RevisionNotFoundError": "there is no such revision of this model",
    "OfflineModeIsEnabled": "it is not in the local cache, and HF_HUB_OFFLINE is set",
    "ConnectError": _UNREACHABLE,
    "ConnectTimeout": _UNREACHABLE,
    "ReadTimeout": _UNREACHABLE,
    "LocalEntryNotFoundError": _UNREACHABLE,
}


@dataclasses.dataclass
class Report:
    """The report of one command.

    Args:
        format: "human" prints lines of text, "json" prints `data`.
        data: names and values of the results.
        lines: lines of text for people.
        warnings: messages of one line each.
    """

    format: Format = "human"
    data: dict[str, Any] = dataclasses.field(default_factory=lambda: {"outputs": []})
    lines: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def wrote(self, path: Path) -> None:
        """Add an output file. In human format, print its path to stdout at once, so that it can be piped."""
        self.data["outputs"].append(str(path))
        if self.format == "human":
            print(path, flush=True)

    def warn(self, text: str) -> None:
        """Add a warning, unless it was added before."""
        text = one_line(text)
        if text not in self.warnings:
            self.warnings.append(text)

    def describe(self, inversion: "Inversion") -> None:
        """Add the prompt, quality, cost, settings and warnings of an inversion."""
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
        """Add the network calls of each edit, including guidance and an automatic mask but not the inversion."""
        self.data["edit_evaluations"] = evaluations
        self.lines.append(f"edit            {evaluations:g} network calls each")

    def quality(self) -> str:
        """Describe the PSNR of the reconstruction and of the autoencoder alone. Empty if it was not measured."""
        psnr, ceiling = self.data.get("psnr"), self.data.get("autoencoder_psnr")
        if psnr is None:
            return ""
        return f"{psnr:.1f} dB PSNR" + ("" if ceiling is None else f", the autoencoder alone {ceiling:.1f} dB")


@contextmanager
def reporting(output_format: Format) -> Iterator[Report]:
    """Measure the time of a command, collect its warnings, and print its report if it succeeds."""
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
    """Show a progress bar on stderr, if that is a terminal.

    Yields:
        A function to call with (evaluations done, evaluations expected).
    """
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
    """Print a status line to stderr, if that is a terminal."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def print_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object to stdout. Infinity becomes the string "inf", and nan becomes null."""
    print(json.dumps(_to_json(data), ensure_ascii=False, indent=2), flush=True)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, one per line. Nested names are joined by dots, and numbers are rounded."""
    flat = dict(_flatten(fields))
    width = max(map(len, flat))
    for name, value in flat.items():
        print(f"{name:<{width}}  {value if isinstance(value, str) else json.dumps(_round(value), ensure_ascii=False)}")


def print_presets(presets: Iterable["Preset"]) -> None:
    """Print presets for people, in lines of at most 80 characters."""
    row = "{:<16} {:>4} {:>5}  {:<8}  {}"
    print(row.format("name", "size", "steps", "settings", "settings of the paper"))
    for preset in presets:
        settings = "measured" if preset.settings else "rule"
        print(row.format(preset.name, preset.size, preset.steps, settings, preset.paper or "none"))
        for text in (preset.about, f"license: {preset.license}"):
            print(textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="  "))
    print(
        "\nsize: width and height in pixels"
        "\nsettings: measured for this model, or chosen by a rule for its sampler"
        "\nsettings of the paper: used by --settings paper"
        "\nAll fields, such as the repository: renoise presets --format json"
    )


def one_line(text: object) -> str:
    """Replace line breaks and repeated spaces of a text by single spaces."""
    return " ".join(str(text).split())


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit status and the one-line message of an error."""
    text = one_line(error) or type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _OUT_OF_MEMORY):
        main = isinstance(error, MemoryError) or any(sign in text.lower() for sign in _OUT_OF_MAIN_MEMORY)
        # A CPU computes in bf16 many times slower, and offloading needs an accelerator.
        remedies = "--vae-tiling" if main or not has_accelerator() else "--dtype bf16, --vae-tiling, --cpu-offload"
        return WRONG_INPUT, f"out of memory: lower --width and --height, or try {remedies}"
    if hint := _hub_hint(error):
        what = text.partition(": ")[0] if "cannot be loaded" in text else "a model cannot be loaded"
        return WRONG_INPUT, f"{what}: {hint}"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return WRONG_INPUT, f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError | ValueError):  # errors of the library and the operating system
        return WRONG_INPUT, text
    return INTERNAL, f"{type(error).__name__}: {text} (unexpected; RENOISE_DEBUG=1 shows where)"


def has_accelerator() -> bool:
    """Return whether there is an accelerator, such as a GPU."""
    import torch

    return torch.accelerator.is_available()


def _hub_hint(error: BaseException | None) -> str | None:
    """Return a hint for an error that the Hugging Face Hub caused, or None for any other error."""
    names = set[str]()
    while error is not None:
        names.add(type(error).__name__)
        error = error.__cause__ or error.__context__
    return next((hint for name, hint in _HUB_HINTS.items() if name in names), None)


def _flatten(fields: Mapping[str, Any], owner: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{owner}{name}.")
        else:
            yield owner + name, value


def _round(value: Any) -> Any:
    if isinstance(value, list):
        return [_round(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else _to_json(value)


def _first(values: Any) -> Any:
    """Return the first entry of a list. The command line works on one picture, so batches have one entry."""
    return values[0] if isinstance(values, list | tuple) and values else values


def _to_json(value: Any) -> Any:
    """Convert a value to types that JSON supports."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _to_json(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
