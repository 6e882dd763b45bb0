"""Blind sheets: numbered pictures with their prompts, which people judge without knowing what made them.

Edits, drawings from random noise and photographs of the same things are shuffled. `write_sheets` writes to a folder

    sheet-01.png …   the pictures, each with its number and prompt
    answers.csv      to copy and fill in, one copy for each pair of eyes
    key.json         what made each picture, and what the benchmark's own judge says of it

and `eyes.py` compares the answers with the key.
"""

import csv
import io
import json
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from renoise import images
from renoise.bench.controls import DRAWN, PHOTOGRAPHS, UNEDITED
from renoise.bench.tasks import Task, as_tensor, resized
from renoise.bench.ways import DEFAULT
from renoise.files import write
from renoise.strip import strip

QUESTION = "Is this what was asked for, and would you accept it?"
COLUMNS = ("number", "asked_for", "accept")  # of answers.csv
KEY, ANSWERS = "key.json", "answers.csv"
PER_SHEET, PER_ROW = 12, 4
OTHERS = 2  # ways besides the default one, the drawings and the photographs


@dataclass(frozen=True)
class Shown:
    """A picture for the sheets.

    Args:
        way: what made it.
        task_number: number of its task.
        edit: kind of the edit.
        prompt: what was asked for.
        picture: the picture.
        single: whether the picture that is edited shows a single thing instead of a scene.
        success: verdict of the benchmark's judge, or None without one.
    """

    way: str
    task_number: int
    edit: str
    prompt: str
    picture: Image.Image
    single: bool
    success: bool | None = None


@dataclass
class Album:
    """Collects pictures while a benchmark runs. Only those of `count` tasks, drawn at random, are kept.

    Args:
        tasks: the tasks of the benchmark.
        count: number of pictures to show. 0 keeps none.
        folder: folder of the sheets.
        seed: seed of the choice.

    Raises:
        ValueError: if the folder holds sheets already, and there are pictures to show.
    """

    tasks: Sequence[Task]
    count: int
    folder: Path
    seed: int = 0
    shown: list[Shown] = field(default_factory=list)
    # Of each other way: the successes of its best strength, and its name with that strength.
    best: dict[str, tuple[float, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count:
            check_folder(self.folder)
        order = np.random.default_rng(self.seed).permutation(len(self.tasks))
        self.numbers = sorted(order[: self.count].tolist())

    def add(self, way: str, strength: str, pictures: Tensor, scores: Sequence[Mapping[str, float]]) -> None:
        """Add what one way made at one strength: a picture (3, h, w) in [0, 1] for each task, and their scores.

        Pictures get the size of their tasks' photographs, so that their sharpness does not tell them apart.
        """
        name = f"{way} {strength}".strip()
        for n in self.numbers:
            task, success = self.tasks[n], scores[n].get("success")
            image = images.to_images(resized(pictures[n], as_tensor(task.picture)[0])[None])[0]
            single, verdict = task.setting != "scene", None if success is None else bool(success)
            self.shown.append(Shown(name, n, task.edit, task.target, image, single, verdict))
        successes = sum(score.get("success", 0.0) for score in scores)
        if way not in (DEFAULT, DRAWN, PHOTOGRAPHS, UNEDITED) and successes > self.best.get(way, (-1.0, ""))[0]:
            self.best[way] = successes, name

    def choose(self) -> list[Shown]:
        """Choose the pictures: of the default way, of the `OTHERS` that the judge prefers, drawings and photographs."""
        others = sorted(self.best.values(), key=lambda one: -one[0])[:OTHERS]
        wanted = {DEFAULT, DRAWN, PHOTOGRAPHS, *(name for _, name in others)}
        return choose([one for one in self.shown if one.way in wanted], self.count, self.seed)


def choose(shown: Sequence[Shown], count: int, seed: int = 0) -> list[Shown]:
    """Choose `count` pictures at random, in random order: as many of each way, half of them single things if possible.

    Pictures of the same task would betray each other, so each one is taken from a task that is shown least so far.
    """
    rng = np.random.default_rng(seed)
    left = [shown[n] for n in rng.permutation(len(shown))]
    ways = [str(way) for way in rng.permutation(sorted({one.way for one in shown}))]
    chosen: list[Shown] = []
    tasks, cells = Counter[int](), Counter[tuple[str, bool]]()
    while left and len(chosen) < count:
        for way in ways:
            if not (own := [one for one in left if one.way == way]) or len(chosen) == count:
                continue
            one = min(own, key=lambda one: (tasks[one.task_number], cells[way, one.single]))
            left.remove(one)
            chosen.append(one)
            tasks[one.task_number] += 1
            cells[way, one.single] += 1
    return [chosen[n] for n in rng.permutation(len(chosen))]


def write_sheets(shown: Sequence[Shown], folder: Path) -> list[Path]:
    """Number pictures from 1, and write their sheets, their key and an empty form for answers.

    Returns:
        The files, sheets first.

    Raises:
        ValueError: if there are no pictures, or the folder holds a form already, perhaps with answers.
    """
    if not shown:
        raise ValueError("sheets need at least one picture")
    check_folder(folder)
    files = []
    for n in range(0, len(shown), PER_SHEET):
        part = [(f"{n + k}\n{one.prompt}", one.picture) for k, one in enumerate(shown[n : n + PER_SHEET], 1)]
        sheet, file = io.BytesIO(), folder / f"sheet-{n // PER_SHEET + 1:02d}.png"
        _headed(strip(part, columns=PER_ROW)).save(sheet, "PNG")
        files.append(write(file, sheet.getvalue()))
    form = io.StringIO()
    rows = csv.writer(form, lineterminator="\n")
    rows.writerows([COLUMNS, *((n, "", "") for n in range(1, len(shown) + 1))])
    key = {
        n: {
            "way": one.way,
            "task": one.task_number,
            "edit": one.edit,
            "prompt": one.prompt,
            "single": one.single,
            "success": one.success,
        }
        for n, one in enumerate(shown, 1)
    }
    files.append(write(folder / ANSWERS, form.getvalue().encode()))
    files.append(write(folder / KEY, (json.dumps(key, indent=1) + "\n").encode()))
    return files


def check_folder(folder: Path) -> None:
    """Raise ValueError if a folder holds sheets already: the answers to them must not be lost, nor get another key."""
    if any((folder / name).exists() for name in (ANSWERS, KEY)):
        raise ValueError(f"{folder} holds sheets already, perhaps with answers: move it away, or name another output")


def _headed(page: Image.Image) -> Image.Image:
    """Add the question at the top of a page."""
    size, text = 20, f"{QUESTION} Answer yes or no to both, for every number."
    font = ImageFont.load_default(size)
    lines = textwrap.wrap(text, int(len(text) * (page.width - 2 * size) / font.getlength(text)) - 4)
    top = size + len(lines) * round(1.35 * size)
    out = Image.new("RGB", (page.width, top + page.height), "#ffffff")
    out.paste(page, (0, top))
    ImageDraw.Draw(out).multiline_text((size, size), "\n".join(lines), "#16181d", font, spacing=0.35 * size)
    return out
