"""The chart of success against preservation."""

from typing import Any
from xml.etree import ElementTree

from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from renoise.bench import chart


def row(way: str, baseline: bool, kept: float, success: float, calls: float = 4.0) -> dict[str, Any]:
    """A row of a report, as far as the chart reads it."""
    scores = {"all": {"kept": kept, "success": success}}
    return {"way": way, "strength": "w 1", "baseline": baseline, "calls": calls, "scores": scores}


ROWS = [row("ours", False, 40.0, 0.9), row("ours", False, 35.0, 1.0, 9.0), row("<SDEdit>", True, 20.0, 0.8)]


def drawn(rows: list[dict[str, Any]]) -> Figure:
    figure = chart.figure(rows)
    assert figure is not None
    return figure


def lines(figure: Figure) -> dict[str, Line2D]:
    """The lines of a chart that have a name, by it."""
    return {str(line.get_label()): line for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")}


def test_every_point_is_drawn_where_it_belongs():
    found = lines(drawn(ROWS))
    assert {name: (list(line.get_xdata()), list(line.get_ydata())) for name, line in found.items()} == {
        "ours (4–9 calls)": ([40.0, 35.0], [0.9, 1.0]),
        "<SDEdit> (4 calls)": ([20.0], [0.8]),
    }


def test_baselines_differ_in_colour_line_and_marker():
    own, baseline = lines(drawn(ROWS)).values()
    for look in (Line2D.get_color, Line2D.get_linestyle, Line2D.get_marker):
        assert look(own) != look(baseline)
    assert to_hex(baseline.get_markerfacecolor()) == "#ffffff"


def test_of_many_series_the_best_are_named_and_the_others_grey():
    many = [row(f"way {n}", False, 20.0 + n, 0.5 + n / 50) for n in range(20)]
    figure = drawn([*many, row("SDEdit", True, 20.0, 0.8)])
    named = [f"way {n} (4 calls)" for n in (0, 16, 17, 18, 19)]
    assert list(lines(figure)) == [*named, "SDEdit (4 calls)"]
    grey = [line for line in figure.axes[0].lines if line.get_color() == chart.OTHERS]
    assert len(grey) == 15
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["renoise", *named, "15 others", "", "baselines", "SDEdit (4 calls)"]


def test_the_legend_lies_beside_the_axes_and_inside_the_figure():
    figure = drawn([*(row(f"a way to edit with quite a long name {n}", n % 2 > 0, 20.0 + n, 0.5) for n in range(24))])
    figure.draw_without_rendering()
    legend, axes = figure.legends[0].get_window_extent(), figure.axes[0].get_tightbbox()
    assert axes is not None
    assert axes.x1 <= legend.x0
    assert legend.x1 <= figure.bbox.x1
    assert legend.y0 >= 0


def test_the_svg_goes_into_a_page_and_is_the_same_every_time():
    text = chart.svg(ROWS)
    assert text.startswith("<svg")
    assert text == chart.svg(ROWS)
    words = "".join(ElementTree.fromstring(text).itertext())
    assert all(word in words for word in ("<SDEdit> (4 calls)", "median PSNR of the preserved pixels (dB)"))


def test_without_a_success_rate_there_is_no_chart():
    rows = [{**row, "scores": {"all": {"kept": 30.0}}} for row in ROWS]
    assert chart.figure(rows) is None
    assert chart.svg(rows) == ""
