"""Blind sheets: what is shown, what the key knows, and how answers are counted."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from renoise.bench import eyes, sheets
from renoise.bench.controls import DRAWN, PHOTOGRAPHS
from renoise.bench.sheets import ANSWERS, KEY, Shown
from renoise.cli import main
from tests.bench.conftest import EXAMPLE, Run

WAYS = (sheets.DEFAULT, DRAWN, PHOTOGRAPHS)


def shown(count: int = 12) -> list[Shown]:
    """A picture of each way for each task; every third task is of single things, and the judge accepts the edits."""
    picture = Image.open(EXAMPLE)
    return [
        Shown(way, n, "kind", f"a photo of thing {n}", picture, n % 3 == 0, way == sheets.DEFAULT)
        for n in range(count)
        for way in WAYS
    ]


def fill(form: Path, numbers: dict[int, tuple[str, str]]) -> Path:
    """Fill in a form."""
    with form.open("w", newline="") as file:
        csv.writer(file).writerows([sheets.COLUMNS, *((n, *words) for n, words in numbers.items())])
    return form


def test_ways_and_single_things_get_equal_shares_and_no_task_is_shown_twice():
    chosen = sheets.choose(shown(), 12)
    assert Counter(one.way for one in chosen) == dict.fromkeys(WAYS, 4)
    assert len({one.task_number for one in chosen}) == 12
    assert sum(one.single for one in chosen) >= 4
    assert chosen == sheets.choose(shown(), 12)
    assert chosen != sheets.choose(shown(), 12, seed=1)
    assert [one.way for one in chosen] != sorted(one.way for one in chosen)
    assert len(sheets.choose(shown(4), 100)) == 12


def test_a_sheet_shows_numbers_and_prompts_and_the_key_knows_the_rest(tmp_path: Path):
    pictures = sheets.choose(shown(), 14)
    files = sheets.write_sheets(pictures, tmp_path / "new")
    assert [file.name for file in files] == ["sheet-01.png", "sheet-02.png", ANSWERS, KEY]
    page = Image.open(files[0])
    assert page.info == {}
    example = np.asarray(Image.open(EXAMPLE).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC))
    assert any(
        (np.asarray(page)[y : y + 256, 16:272] == example).all() for y in range(100)
    )  # twice as large, below the question
    assert (tmp_path / "new" / ANSWERS).read_text().splitlines()[:2] == ["number,asked_for,accept", "1,,"]
    key = json.loads((tmp_path / "new" / KEY).read_text())
    assert list(key) == [str(n) for n in range(1, 15)]
    for one, entry in zip(pictures, key.values(), strict=True):
        assert (entry["way"], entry["task"], entry["prompt"]) == (one.way, one.task_number, one.prompt)
    with pytest.raises(ValueError, match="holds sheets already"):
        sheets.write_sheets(pictures, tmp_path / "new")
    with pytest.raises(ValueError, match="at least one"):
        sheets.write_sheets([], tmp_path / "other")


def test_answers_are_counted_for_each_way(tmp_path: Path):
    pictures = sorted(shown(2), key=lambda one: one.way)  # default, default, drawn, drawn, photograph, photograph
    sheets.write_sheets(pictures, tmp_path)
    yes, no, fake = ("yes", "yes"), ("no", "no"), ("Yes ", "NO")
    anna = fill(tmp_path / "anna.csv", {1: no, 2: yes, 3: yes, 4: no, 5: yes, 6: yes})
    bert = fill(tmp_path / "bert.csv", {6: yes, 5: fake, 4: no, 3: yes, 2: fake, 1: fake})
    figures = eyes.compare(tmp_path, [anna, bert])
    rows = {(row["way"], row["kind"]): row for row in figures["rows"]}
    assert figures["eyes"] == ["anna", "bert"]
    assert rows["default", "all"] == {
        "way": "default", "kind": "all", "pictures": 2, "asked_for": [1, 2], "accepted": [1, 0], "accepted_by_all": 0,
        "eyes_differ": 1, "judged": 2, "judge_success": 2, "success_but_rejected": 1, "failure_but_accepted": 0,
    }  # fmt: skip
    assert rows["default", "single"]["pictures"] == rows["default", "scene"]["pictures"] == 1
    assert rows["all", "all"]["accepted"] == [4, 2]
    assert (rows["all", "all"]["failure_but_accepted"], rows["all", "all"]["success_but_rejected"]) == (2, 1)
    assert "| all | all | 6 | 4, 4 | 5, 2 | 2 | 2 | 2 | 1 | 2 | 50% |" in (tmp_path / "eyes.md").read_text()
    assert json.loads((tmp_path / "eyes.json").read_text()) == figures


def test_without_a_judge_nothing_is_said_of_one(tmp_path: Path):
    sheets.write_sheets([Shown("default", 0, "kind", "a cat", Image.open(EXAMPLE), True)], tmp_path)
    figures = eyes.compare(tmp_path, [fill(tmp_path / "a.csv", {1: ("yes", "yes")})])
    assert eyes.table(figures).endswith("| all | all | 1 | 1, 1 | – | – | – | – |")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the first line must be number,asked_for,accept"),
        ("1,yes,yes\n", "the first line must be"),
        ("number;asked_for;accept\n1;yes;yes\n", "the first line must be"),
        ("number,asked_for,accept\n1,yes,yes\n", "no answer for picture 2"),
        ("number,asked_for,accept\n1,yes,\n2,yes,yes\n", "line 2: accept must be yes or no, got ''"),
        ("number,asked_for,accept\n1,maybe,no\n2,yes,yes\n", "line 2: asked_for must be yes or no, got 'maybe'"),
        ("number,asked_for,accept\n1,yes,yes\n3,yes,yes\n", "line 3: no picture has the number '3'"),
        ("number,asked_for,accept\n1,yes,yes\n1,yes,yes\n", "line 3: picture 1 is answered twice"),
        ("number,asked_for,accept\n1,yes\n2,yes,yes\n", "line 2 must have 3 values, got 2"),
        ("number,asked_for,accept\n1,yes,\xff\n2,yes,yes\n", "cannot be read as CSV"),
    ],
)
def test_a_form_that_is_not_filled_in_right_is_refused(text: str, says: str, here: Path, capsys):
    picture = Image.open(EXAMPLE)
    sheets.write_sheets([Shown("default", n, "kind", "a cat", picture, True, True) for n in range(2)], here)
    (here / "a.csv").write_bytes(text.encode("latin-1"))
    assert main(["bench", "eyes", ".", "a.csv"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert not (here / "eyes.md").exists()


def test_what_is_no_folder_of_sheets_is_refused(here: Path, capsys):
    for argv, says in [
        (["nowhere", "a.csv"], "holds no key.json"),
        ([".", "a.csv"], "a.csv does not exist"),
        ([".", ANSWERS, f"../{here.name}/{ANSWERS}"], "name it once"),
        ([str(EXAMPLE.parent), "a.csv"], "holds no key.json"),
    ]:
        if argv[0] == "." and not (here / KEY).exists():
            sheets.write_sheets([Shown("default", 0, "kind", "a cat", Image.open(EXAMPLE), True)], here)
        assert main(["bench", "eyes", *argv]) == 2
        assert says in capsys.readouterr().err
    for text in ("{", "[]", "{}", '{"1": {"way": "default"}}', '{"1": {"way": "x", "single": true, "success": 3}}'):
        (here / KEY).write_text(text)
        assert main(["bench", "eyes", ".", ANSWERS]) == 2
        assert "no key of sheets" in capsys.readouterr().err


def test_a_benchmark_shows_edits_drawings_and_photographs(data: Path, here: Path, bench: Run):
    command = ("edit", data, "--model", "orchard-turbo", "--tasks", "2", "--only", "default", "--only", "plain")
    files = bench(*command, "--sheets", "8")["outputs"]
    folder = here / "renoise-bench" / "sheets"
    assert files[-3:] == [f"renoise-bench/sheets/{name}" for name in ("sheet-01.png", ANSWERS, KEY)]
    key = json.loads((folder / KEY).read_text())
    ways = Counter(entry["way"] for entry in key.values())
    assert len(ways) == 4
    assert set(ways.values()) == {2}
    assert all(entry["success"] in (True, False) for entry in key.values())
    assert len({entry["task"] for entry in key.values()}) == 8
    assert DRAWN in ways
    assert PHOTOGRAPHS in ways
    answers = fill(folder / "mine.csv", {int(n): ("yes", "yes") for n in key})
    all_ways = bench("eyes", folder, answers)["rows"][-1]
    assert (all_ways["way"], all_ways["pictures"], all_ways["accepted"]) == ("all", 8, [8])
    assert main(["bench", *map(str, command), "--sheets", "8"]) == 2
