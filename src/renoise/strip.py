"""Labelled picture strips: source, reconstruction and edits side by side."""

import bisect
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from renoise.picture_files import open_image

_PAPER, _INK, _SOFT, _EDGE = "#ffffff", "#16181d", "#6a7080", "#d9dce3"
_ASCII_BESIDES = " ·–—‘’“”…×°±²³"  # further characters that Pillow's built-in font contains
_WIDE_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")


@dataclass(frozen=True)
class _Tile:
    picture: Image.Image
    title: list[str]
    detail: list[str]


def strip(
    pictures: Sequence[tuple[str, Image.Image]], *, columns: int | None = None, side: int = 256, max_side: int = 512
) -> Image.Image:
    """Draw labelled pictures in rows on a white background.

    Args:
        pictures: pairs of a label and a picture. The first line of a label is its title, further lines are smaller and
            grey. Long lines are wrapped.
        columns: pictures per row. None draws all of them in one row.
        side: a picture whose longer side is below this many pixels is enlarged by an integer factor.
        max_side: a picture whose longer side is above this many pixels is scaled down.

    Raises:
        ValueError: if there is no picture.
    """
    if not pictures:
        raise ValueError("a strip needs at least one picture")
    shown = [(label, _to_size(picture, side, max_side)) for label, picture in pictures]
    width = max(picture.width for _, picture in shown)
    title, detail = _font_size(width), round(_font_size(width) * 0.8)
    tiles = [_tile(label, picture, width, title, detail) for label, picture in shown]

    columns = min(columns or len(tiles), len(tiles))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    gap = max(12, width // 16)
    heights = [_row_height(row, title, detail, gap) for row in rows]
    page = Image.new("RGB", (gap + columns * (width + gap), gap + sum(heights)), _PAPER)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        picture_height = max(tile.picture.height for tile in row)
        for column, tile in enumerate(row):
            _draw(page, tile, gap + column * (width + gap), top, width, picture_height, title, detail)
        top += height
    return page


def _to_size(picture: Image.Image, side: int, max_side: int) -> Image.Image:
    picture = open_image(picture)
    longest = max(picture.size)
    if longest < side:
        factor = math.ceil(side / longest)
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
    if longest > max_side:
        ratio = max_side / longest
        size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
        return picture.resize(size, Image.Resampling.LANCZOS)
    return picture


def _font_size(width: int) -> int:
    return max(14, round(width / 16))


def _font(size: int, text: str) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return _loaded(size, any(not (" " <= letter <= "ÿ" or letter in _ASCII_BESIDES) for letter in text))


@functools.lru_cache(16)
def _loaded(size: int, wide: bool) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    if wide:
        for name in _WIDE_FONTS:  # system fonts, for prompts in other scripts
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def _tile(label: str, picture: Image.Image, width: int, title: int, detail: int) -> _Tile:
    first, *rest = label.split("\n")
    return _Tile(picture, _wrap(first, width, title), [part for line in rest for part in _wrap(line, width, detail)])


def _wrap(text: str, width: int, size: int) -> list[str]:
    """Wrap a text into lines of at most `width` pixels. Words longer than a line are broken."""
    font = _font(size, text)
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while (cut := _count_fitting(word, width, font)) < len(word):
            lines.append(word[:cut])
            word = word[cut:]
        line = word
    return [*lines, line] if line else lines


def _count_fitting(word: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> int:
    """Count the letters of a word that fit into a line, at least one.

    The search doubles the length first, so that a very long word is not measured as a whole.
    """
    fits, over = 1, 2
    while over <= len(word) and font.getlength(word[:over]) <= width:
        fits, over = over, 2 * over
    over = min(over, len(word) + 1)
    return fits + bisect.bisect_left(range(fits + 1, over), True, key=lambda n: font.getlength(word[:n]) > width)


def _line_height(size: int) -> int:
    return round(size * 1.35)


def _text_height(tile: _Tile, title: int, detail: int) -> int:
    return len(tile.title) * _line_height(title) + len(tile.detail) * _line_height(detail)


def _row_height(row: Sequence[_Tile], title: int, detail: int, gap: int) -> int:
    return max(tile.picture.height for tile in row) + gap // 2 + max(_text_height(t, title, detail) for t in row) + gap


def _draw(
    page: Image.Image, tile: _Tile, left: int, top: int, width: int, picture_height: int, title: int, detail: int
) -> None:
    x = left + (width - tile.picture.width) // 2
    y = top + (picture_height - tile.picture.height) // 2
    page.paste(tile.picture, (x, y))
    draw = ImageDraw.Draw(page)
    draw.rectangle((x - 1, y - 1, x + tile.picture.width, y + tile.picture.height), outline=_EDGE)
    y = top + picture_height + max(12, width // 16) // 2
    for lines, size, colour in ((tile.title, title, _INK), (tile.detail, detail, _SOFT)):
        for line in lines:
            draw.text((left, y), line, fill=colour, font=_font(size, line))
            y += _line_height(size)
