"""How the texts of a command line become values: whole numbers, paths and prompts, checked at once."""

import re
from pathlib import Path
from typing import Any

from cyclopts import Parameter

STREAM = Path("\0")  # stands for standard input and output, which the command line calls "-"; no file has this name


def _whole(_: Any, tokens: Any) -> Any:
    """Convert texts to an int, or to a list for an option that may be repeated. Cyclopts would round 1.5."""
    try:
        numbers = [int(token.value) for token in tokens]
    except ValueError:
        raise ValueError(f"{tokens[-1].value} is not a whole number") from None
    return numbers


def _one_whole(type_: Any, tokens: Any) -> int:
    return _whole(type_, tokens)[0]


def _paths(_: Any, tokens: Any) -> list[Path]:
    """Convert texts to paths. An empty text would be the current folder, and an address a path to nowhere."""
    for token in tokens:
        if not token.value:
            raise ValueError("the name is empty")
        if re.match(r"[a-z][a-z0-9+.-]+://", token.value.lower()):
            raise ValueError(f"{token.value} is an address: download the picture and pass the file")
    return [Path(token.value) for token in tokens]


def _one_path(type_: Any, tokens: Any) -> Path:
    return _paths(type_, tokens)[0]


FILE, FILES = Parameter(converter=_one_path), Parameter(converter=_paths, json_list=False)
WHOLE, WHOLES = Parameter(converter=_one_whole), Parameter(converter=_whole)


def check_text(_: Any, texts: str | list[str] | None) -> None:
    """Raise ValueError for a text that is not valid UTF-8, or that stands for standard input.

    Python decodes invalid bytes of the command line as lone surrogates.
    """
    for text in [texts] if isinstance(texts, str) else texts or []:
        if text == str(STREAM):
            raise ValueError("The text is missing: - stands for standard input and output.")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError("The text is not valid UTF-8.")


def check_name(_: Any, name: str | None) -> None:
    """Raise ValueError for an empty name, which an unset variable of the shell leaves."""
    if name is not None and not name.strip():
        raise ValueError("The name is empty.")
