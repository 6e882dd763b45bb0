"""The command `renoise bench eyes`, which counts what people answered to blind sheets."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from renoise.cli import console
from renoise.cli.options import REPORT, ReportOptions
from renoise.cli.values import FILE, FILES, WHOLE

Sheets = Annotated[
    int,
    WHOLE,
    Parameter(
        help="number of edits, drawings and photographs to judge by eye, mixed on sheets", validator=Number(gte=0)
    ),
]


def eyes(
    sheets: Annotated[Path, Parameter(help="folder of the sheets"), FILE],
    answers: Annotated[list[Path], Parameter(help="filled-in forms, one for each pair of eyes"), FILES],
    /,
    *,
    printed: ReportOptions = REPORT,
) -> None:
    """Compare the answers to blind sheets with each other and with the benchmark's own judge.

    renoise bench edit --sheets writes the sheets, and a form for the answers.
    """
    from renoise.bench import eyes as counting

    with console.reporting(printed) as report:
        figures = counting.compare(sheets, answers)
        for ending in ("json", "md"):
            report.wrote(sheets / f"eyes.{ending}")
        report.data["rows"] = figures["rows"]
        report.lines.append(counting.table(figures))
