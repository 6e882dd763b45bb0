"""Lists what renoise makes of every text-to-image class of the installed diffusers: python -m tests.survey

    driven     a tiny pipeline of the class is inverted in tests/test_pipelines.py
    refused    by what its class is, before anything runs, with this message
    untested   nothing speaks against it, and nobody has tried

A class is text-to-image if diffusers' own tables say so, or if its call takes a prompt.
"""

import inspect
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import diffusers

from renoise.pipelines.support import class_of, class_refusal, text_to_image_classes
from tests.tiny import TINY

DRIVEN, REFUSED, UNTESTED = "driven", "refused", "untested"


class Entry(NamedTuple):
    """A pipeline class, what renoise makes of it, and the tiny pipelines or the message."""

    name: str
    state: str
    detail: str


def classes() -> Iterator[Any]:
    """Yield the classes of diffusers' text-to-image table, and all others whose call takes a prompt."""
    known = text_to_image_classes()
    for name in sorted(name for name in dir(diffusers) if "Pipeline" in name):
        cls = class_of(name)
        if cls is None or not issubclass(cls, diffusers.DiffusionPipeline):
            continue
        if cls in known or "prompt" in inspect.signature(cls.__call__).parameters:
            yield cls


def survey() -> list[Entry]:
    """Return an entry for every text-to-image class."""
    covered: dict[str, list[str]] = {}
    for name, build in TINY.items():
        covered.setdefault(type(build().pipe).__name__, []).append(name)
    entries = list[Entry]()
    for cls in classes():
        why = class_refusal(cls)
        if why:
            entries.append(Entry(cls.__name__, REFUSED, f"it {why}"))
        elif tiny := covered.get(cls.__name__):
            entries.append(Entry(cls.__name__, DRIVEN, ", ".join(tiny)))
        else:
            entries.append(Entry(cls.__name__, UNTESTED, ""))
    return entries


def main() -> None:
    """Print the entries, those of one state together, and how many there are of each."""
    warnings.simplefilter("ignore")
    entries = survey()
    for state in (DRIVEN, REFUSED, UNTESTED):
        for entry in entries:
            if entry.state == state:
                print(f"{state:9} {entry.name:48} {entry.detail}".rstrip())
    counts = {state: sum(entry.state == state for entry in entries) for state in (DRIVEN, REFUSED, UNTESTED)}
    print(", ".join(f"{count} {state}" for state, count in counts.items()), f"of {len(entries)} classes")
    table = [entry for entry in entries if entry.name in {cls.__name__ for cls in text_to_image_classes()}]
    counts = {state: sum(entry.state == state for entry in table) for state in counts}
    print(
        ", ".join(f"{count} {state}" for state, count in counts.items()), f"of the {len(table)} in diffusers' own table"
    )


if __name__ == "__main__":
    main()
