"""Output of the command line: progress on stderr, outputs' names on stdout, and one report at the end."""

import dataclasses
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape as as_is
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from renoise.cli.errors import SomeFailed, escaped, escaped_json, is_out_of_memory, one_line
from renoise.cli.options import REPORT, ReportOptions
from renoise.cli.values import STREAM

if TYPE_CHECKING:
    from renoise.inversion import Inversion


@dataclasses.dataclass
class Report:
    """The report of one command, or of one file of a command that works on several.

    Args:
        options: format "human" prints lines of text, "json" prints `data`.
        data: names and values of the results.
        lines: lines of text for people.
        warnings: messages of one line each.
        timings: seconds of each kind of work.
        position: which file this is about, such as "3/97 apple.png".
        failed: how many files of the command failed.
        parent: the report of the whole command, if this is about one of its files.
        tiling_helps: tells whether --vae-tiling is worth recommending when memory runs out.
    """

    options: ReportOptions = REPORT
    data: dict[str, Any] = dataclasses.field(default_factory=lambda: {"outputs": []})
    lines: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    timings: dict[str, float] = dataclasses.field(default_factory=dict)
    position: str = ""
    failed: int = 0
    parent: "Report | None" = None
    tiling_helps: Callable[[], bool] = lambda: True

    @property
    def human(self) -> bool:
        """Return whether the report is text."""
        return self.options.format == "human"

    def wrote(self, path: Path) -> None:
        """Add an output file. In human format, print its path to stdout at once, so that it can be piped."""
        self.data["outputs"].append("-" if path == STREAM else str(path))
        if self.human and path != STREAM:
            print(escaped(path) if sys.stdout.isatty() else path, flush=True)

    def say(self, label: str, text: str) -> None:
        """Add a line of text for people."""
        self.lines.append(f"{label:<16}{escaped(text)}")

    def warn(self, text: object) -> None:
        """Add a warning, unless it was added before."""
        text = one_line(text)
        if text not in self.warnings:
            self.warnings.append(text)

    def note(self, text: str) -> None:
        """Print a status line to stderr, if that is a terminal."""
        if sys.stderr.isatty() and not self.options.quiet:
            print(escaped(text), file=sys.stderr)

    @contextmanager
    def working(self, what: str, doing: str) -> Iterator[Callable[[int, int], None]]:
        """Measure the time of some work, and show a progress bar on stderr if that is a terminal.

        Yields:
            A function to call with (evaluations done, evaluations expected).
        """
        console, began = Console(stderr=True), time.perf_counter()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        hidden = self.options.quiet or not console.is_terminal
        try:
            with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
                task = bar.add_task(as_is(escaped(f"{doing} {self.position}".strip())), total=None)
                yield lambda done, total: bar.update(task, completed=done, total=max(done, total))
        except Exception as error:
            if is_out_of_memory(error):
                error.tiling_helps = (self.parent or self).tiling_helps()  # pyright: ignore[reportAttributeAccessIssue]
            raise
        finally:
            for report in filter(None, (self, self.parent)):
                report.timings[what] = report.timings.get(what, 0.0) + time.perf_counter() - began

    def describe(self, inversion: "Inversion", *, recorded: bool = False) -> None:
        """Add the prompt, quality, cost, settings and warnings of an inversion.

        Args:
            recorded: whether it comes from a file. Its figures are then those of the day when the file was made.
        """
        record = inversion.record
        residuals = [_first(step) for step in inversion.residuals]
        figures = {
            "psnr": _first(inversion.psnr),
            "autoencoder_psnr": _first(inversion.autoencoder_psnr),
            "evaluations": inversion.evaluations,
            "residuals": residuals,
            "method": record.method,
            "settings": record.settings,
        }
        self.data |= {"model": record.model, "prompt": _first(record.prompt)}
        cost = _cost(inversion.evaluations, residuals)
        if recorded:
            self.data["recorded"] = {**figures, "seconds": record.metrics.seconds, "warnings": inversion.warnings}
            self.say("recorded", "when it was inverted: " + "; ".join(filter(None, [quality(figures), cost])))
            self.lines += [f"{'recorded':<16}warning: {one_line(text)}" for text in inversion.warnings]
        else:
            self.data |= figures
            for text in inversion.warnings:
                self.warn(text)
            if measured := quality(figures):
                self.say("reconstruction", measured)
            self.say("inversion", cost)
        if self.options.verbose:
            self.say("residuals", " ".join("-" if value is None else f"{value:.2g}" for value in residuals))

    def calls(self, what: str, evaluations: float, each: bool = False) -> None:
        """Add the network calls of a reconstruction or of each edit, including guidance and an automatic mask."""
        self.data[f"{what}_evaluations"] = evaluations
        self.say(what, f"{evaluations:g} network calls{' each' if each else ''}")


def quality(figures: Mapping[str, Any]) -> str:
    """Describe the PSNR of a reconstruction, with and without the remainder. Empty if it was not measured."""
    alone, whole = figures.get("psnr"), figures.get("autoencoder_psnr")
    return "" if alone is None or whole is None else f"{whole:.1f} dB PSNR, {alone:.1f} dB without the remainder"


@contextmanager
def reporting(options: ReportOptions) -> Iterator[Report]:
    """Measure the time of a command, collect its warnings, and print its report if it succeeds."""
    report, began = Report(options), time.perf_counter()
    with collecting(report):
        yield report
    report.data["seconds"] = round(time.perf_counter() - began, 3)
    report.data["timings"] = {what: round(seconds, 3) for what, seconds in report.timings.items()}
    report.data["warnings"] = report.warnings
    if options.format == "json":
        print_json(report.data)
    elif not options.quiet:
        _print_lines(report)
    if report.failed:
        raise SomeFailed


def _print_lines(report: Report) -> None:
    parts = [f"{what} {seconds:.1f} s" for what, seconds in report.timings.items()] if report.options.verbose else []
    report.say("time", f"{report.data['seconds']:.1f} s" + (f": {', '.join(parts)}" if parts else ""))
    lines = [*report.lines, *(f"{'warning':<16}{text}" for text in report.warnings)]
    print(*lines, sep="\n", file=sys.stderr)


@contextmanager
def collecting(report: Report) -> Iterator[None]:
    """Add the warnings of some work to a report."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")  # deprecations and the like are for developers
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for warning in caught:
                report.warn(warning.message)


def print_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object to stdout. Infinity becomes the string "inf", and nan becomes null."""
    print(escaped_json(json.dumps(_to_json(data), ensure_ascii=False, indent=2)), flush=True)


def _cost(evaluations: float, residuals: list[float | None]) -> str:
    largest = max((value for value in residuals if value is not None), default=None)
    residual = "" if largest is None else f", largest residual {largest:.2g}"
    return f"{evaluations:g} network calls in {len(residuals)} steps{residual}"


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
