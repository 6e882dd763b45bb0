"""A grid of edits over two settings."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from renoise.cli import tasks
from renoise.cli.options import InversionOptions

if TYPE_CHECKING:
    from PIL.Image import Image

    from renoise.inversion import Inversion

_OF_EDITS = {"guidance": "guidance_scale", "source_correction": "source_correction"}
_INTEGERS = ("steps", "iterations")
_OF_INVERSIONS = ("strength", "steps", "iterations", "tolerance", "lambda_pair", "lambda_kl", "noise_correction")


def axis(option: str, text: str) -> tuple[str, list[float]]:
    """A setting and its values: "guidance=1,1.5,2"."""
    name, _, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in (known := (*_OF_EDITS, *_OF_INVERSIONS)):
        raise ValueError(f"{option} {text}: no setting {name!r}, there are {', '.join(known)}")
    try:
        numbers = [_number(name, value) for value in values.split(",")]
    except ValueError:
        kind = "whole numbers" if name in _INTEGERS else "numbers"
        raise ValueError(f"{option} {text}: write {kind} after the =, such as {name}=1,2,3") from None
    return name, numbers


def draw(
    pipe: Any,
    image: "Image",
    prompt: str,
    target: str,
    axes: list[tuple[str, list[float]]],
    options: InversionOptions,
    mask: str | None,
    path: Path,
) -> None:
    """Draw the edit at every pair of values; a photograph is inverted once for each setting of the inversion."""
    (row, rows), (column, columns) = axes
    found: dict[tuple, Inversion] = {}
    tiles = []
    for a in rows:
        for b in columns:
            values = {row: a, column: b}
            inverting: dict[str, Any] = {n: v for n, v in values.items() if n in _OF_INVERSIONS}
            key = tuple(inverting.items())
            if key not in found:
                found[key] = tasks.invert(pipe, image, prompt, dataclasses.replace(options, **inverting), to_edit=True)
            drawing: dict[str, Any] = {_OF_EDITS[n]: v for n, v in values.items() if n in _OF_EDITS}
            how = dataclasses.replace(tasks.EditOptions(mask=mask), **drawing)
            picture = tasks.edit(pipe, found[key], target, None, how)
            tiles.append((f"{row} {a:g}\n{column} {b:g}", picture))
        tasks.write_strip(tiles, path, columns=len(columns))  # what an interruption leaves


def _number(name: str, text: str) -> float | int:
    value = float(text)
    if name not in _INTEGERS:
        return value
    if value != int(value):
        raise ValueError(f"{name} is a whole number")
    return int(value)
