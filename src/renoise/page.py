"""Self-contained HTML pages that compare a photograph with its edits by sliders."""

import base64
import html
import io
from collections.abc import Sequence

from PIL import Image

_STYLE = (
    "body{font:15px/1.4 system-ui,sans-serif;margin:24px;color:#16181d}main{display:flex;flex-wrap:wrap;gap:24px}"
    "figure{margin:0;width:min(512px,100%)}.pair{position:relative}.pair img{width:100%;display:block}"
    ".pair img+img{position:absolute;inset:0;clip-path:inset(0 0 0 50%)}input{width:100%}figcaption{color:#6a7080}"
)
_MOVE = "this.parentNode.querySelector('img+img').style.clipPath='inset(0 0 0 '+this.value+'%)'"


def data_url(picture: Image.Image) -> str:
    """Encode a picture as a data URL, so that an HTML page can embed it."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def sliders(title: str, before: Image.Image, edits: Sequence[tuple[str, Image.Image]]) -> str:
    """Return an HTML page with a slider for each edit: the photograph on its left, the edit on its right.

    Args:
        title: heading of the page, as plain text.
        before: the photograph.
        edits: pairs of a caption, as plain text, and an edited picture.
    """
    source, heading = data_url(before), html.escape(title)
    figures = "".join(
        f'<figure><div class="pair"><img src="{source}" alt="before"><img src="{data_url(after)}" alt="after"></div>'
        f'<input type="range" value="50" aria-label="before and after" oninput="{_MOVE}">'
        f"<figcaption>{html.escape(label)}</figcaption></figure>"
        for label, after in edits
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{heading}</title><style>{_STYLE}</style><h1>{heading}</h1><main>{figures}</main></html>\n"
    )
