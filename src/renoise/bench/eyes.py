"""Answers to blind sheets (`sheets.py`), and how far they agree with each other and with the benchmark's own judge.

A pair of eyes *accepts* a picture if both answers are yes: it is what was asked for, and acceptable.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renoise.bench.report import write_report
from renoise.bench.sheets import COLUMNS, KEY

WORDS = {"yes": True, "no": False}
Answers = dict[int, tuple[bool, bool]]  # by the number of the picture: is it what was asked for, is it accepted


@dataclass(frozen=True)
class Key:
    """What is known of a numbered picture: what made it, whether one thing was asked for, and the judge's verdict."""

    way: str
    single: bool
    success: bool | None


def read_key(folder: Path) -> dict[int, Key]:
    """Read the key of a folder of sheets. Raise ValueError if it cannot be used."""
    path = folder / KEY
    if not path.is_file():
        raise ValueError(f"{folder} holds no {KEY}: name the folder that renoise bench edit --sheets wrote")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        key = {int(n): Key(str(one["way"]), bool(one["single"]), one["success"]) for n, one in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no key of sheets: {error}") from None
    if not key or any(one.success not in (True, False, None) for one in key.values()):
        raise ValueError(f"{path} is no key of sheets")
    return key


def read_answers(path: Path, numbers: Sequence[int]) -> Answers:
    """Read a filled-in form, which answers every one of `numbers`. Raise ValueError that names the line otherwise."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(enumerate(csv.reader(file), 1))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as CSV: {error}") from None
    rows = [(line, [cell.strip().lower() for cell in row]) for line, row in rows if any(map(str.strip, row))]
    if not rows or tuple(rows[0][1]) != COLUMNS:
        raise ValueError(f"{path}: the first line must be {','.join(COLUMNS)}")
    answers: Answers = {}
    for line, row in rows[1:]:
        where = f"{path}, line {line}"
        if len(row) != len(COLUMNS):
            raise ValueError(f"{where} must have {len(COLUMNS)} values, got {len(row)}")
        if not row[0].isdecimal() or int(row[0]) not in numbers:
            raise ValueError(f"{where}: no picture has the number {row[0]!r}")
        number, words = int(row[0]), row[1:]
        if number in answers:
            raise ValueError(f"{where}: picture {number} is answered twice")
        for column, word in zip(COLUMNS[1:], words, strict=True):
            if word not in WORDS:
                raise ValueError(f"{where}: {column} must be yes or no, got {word!r}")
        answers[number] = WORDS[words[0]], WORDS[words[1]]
    if missing := [str(number) for number in numbers if number not in answers]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ValueError(f"{path} has no answer for picture {', '.join(missing[:5])}{more}")
    return answers


def compare(folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Count the answers of several pairs of eyes, and write `eyes.json` and `eyes.md` beside the sheets.

    Returns:
        The counts, of each way and of all, as JSON values. They do not tell which picture was made by what.

    Raises:
        ValueError: if the key or an answer cannot be used, or a file is named twice.
    """
    if not files:
        raise ValueError("name at least one file of answers")
    key = read_key(folder)
    if len({file.resolve() for file in files}) < len(files):
        raise ValueError("each file holds the answers of another pair of eyes: name it once")
    every = [read_answers(file, list(key)) for file in files]
    stems = [file.stem for file in files]
    names = stems if len(set(stems)) == len(stems) else [str(file) for file in files]
    rows = []
    for way in [*sorted({one.way for one in key.values()}), "all"]:
        for kind, wanted in (("single", (True,)), ("scene", (False,)), ("all", (True, False))):
            part = [n for n, one in key.items() if way in (one.way, "all") and one.single in wanted]
            if part:
                rows.append({"way": way, "kind": kind, **_counts(part, key, every)})
    figures = {"pictures": len(key), "eyes": names, "rows": rows}
    write_report(figures, table(figures), folder / "eyes")
    return figures


def _counts(part: Sequence[int], key: dict[int, Key], every: Sequence[Answers]) -> dict[str, Any]:
    """Count what the eyes and the judge say of some pictures."""
    asked = [sum(answers[n][0] for n in part) for answers in every]
    accepted = [[all(answers[n]) for n in part] for answers in every]
    by_all = [all(ways) for ways in zip(*accepted, strict=True)]
    by_none = [not any(ways) for ways in zip(*accepted, strict=True)]
    judged = [key[n].success for n in part]
    return {
        "pictures": len(part),
        "asked_for": asked,
        "accepted": [sum(one) for one in accepted],
        "accepted_by_all": sum(by_all),
        "eyes_differ": len(part) - sum(by_all) - sum(by_none),
        "judged": sum(verdict is not None for verdict in judged),
        "judge_success": sum(verdict is True for verdict in judged),
        "success_but_rejected": sum(v is True and none for v, none in zip(judged, by_none, strict=True)),
        "failure_but_accepted": sum(v is False and both for v, both in zip(judged, by_all, strict=True)),
    }


def table(figures: dict[str, Any]) -> str:
    """Format the counts as Markdown."""
    heads = [f"{name}: asked for, accepted" for name in figures["eyes"]]
    several = len(heads) > 1
    heads += ["accepted by all", "eyes differ"] if several else []
    heads += ["judge", "judge yes, eyes no", "judge no, eyes yes", "disagreement"]
    return "\n".join(
        [
            f"{figures['pictures']} pictures. *Accepted*: what was asked for, and acceptable. The judge "
            "disagrees where it says success and every pair of eyes rejects, or failure and every pair accepts.",
            "",
            f"| way | | pictures | {' | '.join(heads)} |",
            "|---|---|---|" + "---|" * len(heads),
            *(_table_row(row, several) for row in figures["rows"]),
        ]
    )


def _table_row(row: dict[str, Any], several: bool) -> str:
    cells = [f"{asked}, {accepted}" for asked, accepted in zip(row["asked_for"], row["accepted"], strict=True)]
    cells += [row["accepted_by_all"], row["eyes_differ"]] if several else []
    wrong, judged = (row["success_but_rejected"], row["failure_but_accepted"]), row["judged"]
    cells += [row["judge_success"], *wrong, f"{sum(wrong) / judged:.0%}"] if judged else ["–"] * 4
    return f"| {row['way']} | {row['kind']} | {row['pictures']} | {' | '.join(map(str, cells))} |"
