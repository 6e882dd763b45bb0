"""A blind test for the eye: how many fruits are named at a glance, and how many would pass for photographs?

Photographs and drawings with the same captions are shuffled, numbered and laid out on sheets, each set in a folder whose
name does not tell which it holds. Whoever judges a set reads `question.txt` in it, looks at its sheets and writes there any
number of answer files, `answers*.txt`, one a judge. `--score` then prints a table. The photographs are of the training set:
a model cannot know other sides of a fruit than it was shown.
"""

import argparse
import json
import re
from pathlib import Path
from string import ascii_uppercase

import numpy as np
from PIL import Image, ImageDraw

from renoise.bench import classifier
from renoise.bench.fruits import PREFIX, Photos, compose, parse, read_photos

from .common import device
from .evaluate import generate, load, one_of_each

COLUMNS, ROWS, ZOOM = 6, 3, 256
QUESTION = """Look at sheet1.png and so on in this folder, one after the other, as one who glances at each picture. Each shows one
or two fruits, vegetables or nuts on a plain ground. They may be photographs or drawn by a computer, in any share. Sizes do not
help: a cherry may be as large as a melon. Only these kinds occur:

{kinds}

For every number write one line to answers1.txt (answers2.txt, ... if there are some already) here:

NUMBER | first guess | second guess | yes or no

Guesses are kinds from the list; of two fruits name both, left first: walnut and pepper. Yes: it would pass for a photograph of
such a fruit, cut out and put on a plain ground, at this low resolution. Answer every number. Use your eyes only.
"""


def photographs(photos: Photos, captions: list[str], seed: int) -> np.ndarray:
    """A scene for each caption, composed of photographs that are described in its words, uint8 (N, 128, 128, 3)."""
    words, kinds = np.array([options[0] for options in photos.phrases]), sorted(set(photos.kinds))
    rng, made = np.random.default_rng(seed), []
    for caption in captions:
        shown = re.split(r" and (?=an? )", caption.removeprefix(PREFIX).rpartition(" on a")[0])
        chosen = [int(rng.choice(np.flatnonzero(words == phrase))) for phrase in shown]
        second = chosen[1] if len(chosen) > 1 else None
        made.append(compose(photos, chosen[0], second, parse(caption, kinds)[1], rng, vary=1.5))
    return np.stack(made)


def sheets(images: np.ndarray, folder: Path) -> None:
    """Numbered pictures, from 1, 18 to a PNG."""
    per, label = COLUMNS * ROWS, 24
    for first in range(0, len(images), per):
        sheet = Image.new("RGB", (COLUMNS * (ZOOM + 8), ROWS * (ZOOM + label)), "white")
        draw = ImageDraw.Draw(sheet)
        for k, image in enumerate(images[first : first + per]):
            x, y = k % COLUMNS * (ZOOM + 8), k // COLUMNS * (ZOOM + label)
            sheet.paste(Image.fromarray(image).resize((ZOOM, ZOOM), Image.Resampling.BICUBIC), (x, y + label))
            draw.text((x + 4, y + 4), str(first + k + 1), fill="black", font_size=18)
        sheet.save(folder / f"sheet{first // per + 1}.png")


def make(args: argparse.Namespace) -> None:
    """Lay out the sets of photographs and of drawings."""
    if args.out.exists():
        raise SystemExit(
            f"{args.out} is there already, perhaps with answers: move it away first, or name another --out"
        )
    photos = read_photos(args.data, "fruits_train")
    captions = [*classifier.held_out(args.data, "fruits_test_sequences", 40)[2], *one_of_each(args.data)]
    pipe = load(args.model, device())
    sets = [("drawings", generate(pipe, captions, seed)) for seed in args.seeds]
    sets += [("photographs", photographs(photos, captions, seed)) for seed in args.seeds]
    rng, key = np.random.default_rng(), {}
    for letter, n in zip(ascii_uppercase, rng.permutation(len(sets)), strict=False):
        what, images = sets[n]
        order, folder = rng.permutation(len(images)), args.out / letter
        folder.mkdir(parents=True, exist_ok=True)
        sheets(images[order], folder)
        (folder / "question.txt").write_text(QUESTION.format(kinds=", ".join(sorted(set(photos.kinds)))))
        key[letter] = {"what": what, "captions": [captions[k] for k in order]}
    (args.out / "key.json").write_text(json.dumps({"kinds": sorted(set(photos.kinds)), "sets": key}))


def score(lines: list[str], captions: list[str], kinds: list[str]) -> tuple[int, int, int]:
    """How many pictures one judge named at the first guess, at the first or second, and would take for photographs."""
    first = second = passed = 0
    for line in lines:
        number, *guesses, passes = (part.strip().lower() for part in line.split("|"))
        true = sorted(parse(captions[int(number) - 1], kinds)[0])
        right = [sorted(guess.split(" and ")) == true for guess in guesses]
        first, second, passed = first + right[0], second + any(right), passed + (passes == "yes")
    return first, second, passed


def table(folder: Path) -> str:
    """All answers as a Markdown table."""
    key = json.loads((folder / "key.json").read_text())
    rows = ["| set | judge | named | at the second guess | would pass |", "|---|---|---|---|---|"]
    for letter, of in sorted(key["sets"].items(), key=lambda item: item[1]["what"]):
        for file in sorted((folder / letter).glob("answers*.txt")):
            lines = [line for line in file.read_text().splitlines() if line.strip()]
            if sorted(int(line.split("|")[0]) for line in lines) != list(range(1, len(of["captions"]) + 1)):
                raise SystemExit(f"{file}: one line a picture, please, from 1 to {len(of['captions'])}")
            counts = " | ".join(map(str, score(lines, of["captions"], key["kinds"])))
            rows.append(f"| {of['what']} {letter} | {file.stem.removeprefix('answers')} | {counts} |")
    return "\n".join(rows)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="the data folder (only read)")
    p.add_argument("--model", type=Path, default=Path("src/renoise/orchard"))
    p.add_argument("--out", type=Path, default=Path("runs/blind"))
    p.add_argument(
        "--seeds", type=int, nargs="+", default=[1000, 3000], help="a set of photographs and one of drawings each"
    )
    p.add_argument("--score", action="store_true", help="of the answers in --out")
    args = p.parse_args()
    if not args.score:
        make(args)
    print(table(args.out) if args.score else f"{args.out}: the folders hold a set each, key.json tells which")


if __name__ == "__main__":
    main()
