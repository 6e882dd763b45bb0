"""A grid of edits that varies two settings."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from renoise.cli import tasks
from renoise.cli.console import Report
from renoise.cli.options import Editability, Guidance, InversionOptions, SourceCorrection

if TYPE_CHECKING:
    from PIL.Image import Image

    from renoise.inversion import Inversion

_EDIT_SETTINGS = {
    "editability": "editability", "guidance": "guidance_scale", "source_correction": "source_correction"
}  # fmt: skip
_INTEGER_SETTINGS = ("steps", "iterations")
_INVERSION_SETTINGS = (
    "strength",
    "steps",
    "iterations",
    "tolerance",
    "lambda_pair",
    "lambda_kl",
    "noise_correction",
    "noised_below",
)


def parse_axis(option: str, text: str) -> tuple[str, list[float]]:
    """Parse a setting and its values, as in "guidance=1,1.5,2".

    Raises:
        ValueError: if there is no such setting, or a value is not a number. The message names `option`.
    """
    name, _, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in (known := (*_EDIT_SETTINGS, *_INVERSION_SETTINGS)):
        raise ValueError(f"{option} {text}: no setting {name!r}, choose one of {', '.join(known)}")
    try:
        numbers = [_parse_number(name, value) for value in values.split(",")]
    except ValueError:
        kind = "whole numbers" if name in _INTEGER_SETTINGS else "numbers"
        raise ValueError(f"{option} {text}: write {kind} after the =, such as {name}=1,2,3") from None
    for number in numbers:
        try:
            _check_range(name, number)
        except ValueError as error:
            raise ValueError(f"{option} {text}: {name} {number:g} cannot be used. {error}") from None
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{option} {text}: a value is there twice, leave one out")
    return name, numbers


def steps(axes: list[tuple[str, list[float]]]) -> list[int]:
    """Return the numbers of sampler steps that a grid tries."""
    return [int(value) for name, values in axes if name == "steps" for value in values]


def draw(
    report: Report,
    pipe: Any,
    image: "Image",
    prompt: str,
    target: str,
    axes: list[tuple[str, list[float]]],
    options: InversionOptions,
    mask: str | None,
    path: Path,
) -> None:
    """Draw an edit for every pair of values, and write the grid to `path` after each row.

    The photograph is inverted once for each combination of inversion settings.
    """
    (row, rows), (column, columns) = axes
    found: dict[tuple, Inversion] = {}
    tiles = []
    for a in rows:
        for b in columns:
            values = {row: a, column: b}
            inverting: dict[str, Any] = {n: v for n, v in values.items() if n in _INVERSION_SETTINGS}
            key = tuple(inverting.items())
            if key not in found:
                found[key] = tasks.invert(
                    report, pipe, image, prompt, dataclasses.replace(options, **inverting), measure=False
                )
            drawing: dict[str, Any] = {_EDIT_SETTINGS[n]: v for n, v in values.items() if n in _EDIT_SETTINGS}
            edit_options = dataclasses.replace(tasks.EditOptions(mask=mask, seed=options.seed), **drawing)
            picture = tasks.edit(report, pipe, found[key], target, None, edit_options)
            tiles.append((f"{row} {a:g}\n{column} {b:g}", picture))
        tasks.write_strip(tiles, path, columns=len(columns))  # an interruption keeps the finished rows


def _check_range(name: str, number: float) -> None:
    """Raise ValueError for a value that the option of this name does not take."""
    options = get_type_hints(InversionOptions, include_extras=True)
    options |= {"editability": Editability, "guidance": Guidance, "source_correction": SourceCorrection}
    for parameter in get_args(options[name])[1:]:
        validators = parameter.validator if isinstance(parameter.validator, tuple) else (parameter.validator,)
        for validator in filter(None, validators):
            validator(type(number), number)


def _parse_number(name: str, text: str) -> float | int:
    value = float(text)
    if math.isnan(value):
        raise ValueError("nan is no number")
    if name not in _INTEGER_SETTINGS:
        return value
    if not value.is_integer():
        raise ValueError(f"{name} is a whole number")
    return int(value)
