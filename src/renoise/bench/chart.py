"""Chart of the success of edits against preservation.

Each way to edit is a line, and each strength of its parameter a marker.
"""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

Row = dict[str, Any]
HIGHLIGHTED = 5  # number of series per group with their own colour
OTHERS = "#9a9ea6"


class Style(NamedTuple):
    """Line style of a group of series."""

    title: str
    colours: Sequence[str]
    markers: str
    other: str
    line: str
    filled: bool


OWN = Style("renoise", ("#0b3c8c", "#0090d0", "#009e73", "#6a51c8", "#117733"), "*oDsp", "o", "-", True)
BASELINE = Style("baselines", ("#d55e00", "#e69f00", "#c2417c", "#8c2d04", "#a6761d"), "s^vdh", "s", "--", False)


class Series(NamedTuple):
    """The points of one way to edit, ordered by strength.

    `kept` is the PSNR in dB of the preserved pixels, `success` the share of successful edits, and `calls` the number of
    network evaluations per picture.
    """

    name: str
    kept: list[float]
    success: list[float]
    calls: list[float]

    @property
    def points(self) -> list[tuple[float, float]]:
        return list(zip(self.kept, self.success, strict=True))

    @property
    def label(self) -> str:
        low, high = (f"{value:.0f}" for value in (min(self.calls), max(self.calls)))
        return f"{self.name} ({low if low == high else f'{low}–{high}'} calls)"


def svg(rows: Sequence[Row]) -> str:
    """Draw the rows of a report as an `<svg>` element. Return an empty text if no row has a success rate."""
    drawn = figure(rows)
    if drawn is None:
        return ""
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "renoise"}):  # real text, reproducible ids
        drawn.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def figure(rows: Sequence[Row]) -> Figure | None:
    """Draw the rows of a report. Return None if no row has a success rate.

    x is the median PSNR in dB of the pixels that must not change, and y is the share of successful edits, so up and to
    the right is better. In each group the best few series are coloured and the others are grey.
    """
    groups = [(style, series) for style in (OWN, BASELINE) if (series := _series(rows, style is BASELINE))]
    if not groups:
        return None
    drawn = Figure(figsize=(10, 5.2), layout="constrained")
    axes = drawn.add_subplot()
    handles: list[Line2D] = []
    for style, series in groups:
        handles += [_heading("")] * bool(handles) + [_heading(style.title), *_draw(axes, style, series)]
    axes.set_xlabel("median PSNR of the preserved pixels (dB)")
    axes.set_ylabel("successful edits (%)")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    axes.grid(color="#e6e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    legend = drawn.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9, handlelength=2.6)
    for text in legend.get_texts():
        if text.get_text() in (OWN.title, BASELINE.title):
            text.set_fontweight("bold")
    return drawn


def _series(rows: Sequence[Row], baseline: bool) -> list[Series]:
    """Return the series with a success rate, either of this project's own ways to edit or of the baselines."""
    found: dict[str, Series] = {}
    for row in rows:
        score = row["scores"]["all"]
        if row["baseline"] == baseline and not row.get("control") and "success" in score and "kept" in score:
            series = found.setdefault(row["way"], Series(row["way"], [], [], []))
            series.kept.append(score["kept"])
            series.success.append(score["success"])
            series.calls.append(row["calls"])
    return list(found.values())


def _draw(axes: Axes, style: Style, series: Sequence[Series]) -> list[Line2D]:
    """Draw the series of a group, the first one on top, and return their legend entries."""
    best = _best(series)
    others = [one for one in series if one not in best]
    grey: dict[str, Any] = dict(color=OTHERS, linestyle=style.line, linewidth=0.7, markersize=4, marker=style.other)
    grey |= {} if style.filled else dict(markerfacecolor="white")
    for one in others:
        axes.plot(one.kept, one.success, **grey, alpha=0.7)
    handles = []
    for n, one in enumerate(best):
        look: dict[str, Any] = dict(
            color=style.colours[n], linestyle=style.line, linewidth=1.6, marker=style.markers[n]
        )
        look |= dict(markeredgecolor="white") if style.filled else dict(markerfacecolor="white")
        size = 15 if style.markers[n] == "*" else 8
        handles += axes.plot(one.kept, one.success, **look, markersize=size, label=one.label, zorder=4 - n / 10)
    if others:
        handles.append(Line2D([], [], **grey, label=f"{len(others)} others"))
    return handles


def _best(series: Sequence[Series]) -> list[Series]:
    """Return the first series and those nearest to the Pareto front of success and preservation, in the given order."""
    points = [point for one in series for point in one.points]
    depth = {one.name: min(_count_dominating(point, points) for point in one.points) for one in series}
    nearest = sorted(series[1:], key=lambda one: depth[one.name])[: HIGHLIGHTED - 1]
    return [one for one in series if one is series[0] or one in nearest]


def _count_dominating(point: tuple[float, float], points: Sequence[tuple[float, float]]) -> int:
    """Count the points that dominate this one: at least as good in both coordinates, and better in one."""
    return sum(x >= point[0] and y >= point[1] and (x, y) != point for x, y in points)


def _heading(text: str) -> Line2D:
    return Line2D([], [], linestyle="none", label=text)
