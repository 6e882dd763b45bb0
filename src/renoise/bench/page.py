"""HTML page of a report: its chart and a table of edited pictures."""

import html
from collections.abc import Sequence
from typing import Any

from PIL import Image

from renoise.bench import chart
from renoise.page import data_url

_STYLE = (
    "body{font:14px system-ui;margin:24px}svg{max-width:100%;height:auto}td{padding:0;background-size:cover}"
    "img{width:128px;display:block}td:hover img{opacity:0}"
    "th{font-weight:500;text-align:left;max-width:128px;vertical-align:top}"
)
_CHART = (
    "<p>Up and to the right is better. The markers of a line are the strengths of its parameter; calls are network "
    "evaluations per picture, including its inversion. Grey: the other ways to edit, which the report lists.</p>"
)


def page(report: dict[str, Any], pictures: Sequence[tuple[str, Sequence[Image.Image]]]) -> str:
    """Return a self-contained page with a column for each task and a row for each way to edit, below the sources."""
    sources = [data_url(picture) for picture in pictures[0][1]]
    heads = "".join(f"<th>{html.escape(target.removeprefix('a photo of '))}</th>" for target in report["shown"])
    rows = [
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(f'<td class="s{n}"><img src="{data_url(picture)}"></td>' for n, picture in enumerate(row))
        + "</tr>"
        for name, row in pictures
    ]
    style = "".join(f".s{n}{{background-image:url({source})}}" for n, source in enumerate(sources)) + _STYLE
    title, drawn = f"Edits with {html.escape(report['model'])}", chart.svg(report["rows"])
    return (
        f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{style}</style><h1>{title}</h1>"
        f"{drawn}{_CHART if drawn else ''}<p>Point at a picture to see its source.</p>"
        f"<table><tr><th></th>{heads}</tr>{''.join(rows)}</table>"
    )
