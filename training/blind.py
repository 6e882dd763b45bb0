"""A blind test for the eye: how many fruits are named at a glance, and how many would pass for photographs?

Photographs and drawings with the same captions are shuffled, numbered and laid out on sheets, each set in a folder whose
name does not tell which it holds. Whoever judges a set reads `question.txt` in it, looks at its sheets and writes there any
number of answer files, `answers*.txt`, one a judge. `--score` then prints a table. The photographs are of the training set:
a model cannot know other sides of a fruit than it was shown.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from renoise.bench.fruits import Photos, compose, described, kind_of, parse, read_photos
from renoise.strip import strip

from .common import device
from .data import held_out
from .evaluate import generate, load, one_of_each

COLUMNS, PER_SHEET = 6, 18
QUESTION = """Look at sheet1.png and so on in this folder, one after the other, as one who glances at each picture. Its number
is beneath it. Each shows one or two fruits, vegetables or nuts on a plain ground. They may be photographs or drawn by a
computer, in any share. Sizes do not help: a cherry may be as large as a melon. Only these kinds occur:

{kinds}

For every number write one line to answers1.txt (answers2.txt, ... if there are some already) here:

NUMBER | first guess | second guess | yes or no

Guesses are kinds from the list; of two fruits name both, left first: walnut and pepper. Yes: it would pass for a photograph of
such a fruit, cut out and put on a plain ground, at this low resolution. Answer every number. Use your eyes only.
"""


def photographs(photos: Photos, captions: list[str], seed: int) -> np.ndarray:
    """A scene for each caption, composed of photographs that are described in its words, uint8 (N, 128, 128, 3)."""
    words, rng = np.array([kind_of(options[0]) for options in photos.phrases]), np.random.default_rng(seed)
    made = []
    for caption in captions:
        phrases, background = described(caption)
        chosen = [int(rng.choice(np.flatnonzero(words == phrase))) for phrase in phrases]
        second = chosen[1] if len(chosen) > 1 else None
        made.append(compose(photos, chosen[0], second, background, rng, vary=1.5))
    return np.stack(made)


def sheets(images: np.ndarray, folder: Path) -> None:
    """Pictures uint8 (N, 128, 128, 3) as PNGs of 18, twice as large, numbered from 1."""
    tiles = [(str(n), Image.fromarray(image)) for n, image in enumerate(images, 1)]
    for n in range(0, len(tiles), PER_SHEET):
        strip(tiles[n : n + PER_SHEET], columns=COLUMNS).save(folder / f"sheet{n // PER_SHEET + 1}.png")


def make(args: argparse.Namespace) -> None:
    """Lay out the sets of photographs and of drawings."""
    if args.out.exists():
        raise SystemExit(
            f"{args.out} is there already, perhaps with answers: move it away first, or name another --out"
        )
    photos = read_photos(args.data, "fruits_train")
    captions = [*held_out(read_photos(args.data, "fruits_test_sequences"), 40)[2], *one_of_each(args.data)]
    pipe = load(args.model, device())
    sets = [("drawings", generate(pipe, captions, seed)) for seed in args.seeds]
    sets += [("photographs", photographs(photos, captions, seed)) for seed in args.seeds]
    kinds, rng, key = sorted(set(photos.kinds)), np.random.default_rng(), {}
    for number, n in enumerate(rng.permutation(len(sets)), 1):
        what, images = sets[n]
        order, folder = rng.permutation(len(images)), args.out / str(number)
        folder.mkdir(parents=True)
        sheets(images[order], folder)
        (folder / "question.txt").write_text(QUESTION.format(kinds=", ".join(kinds)))
        key[number] = {"what": what, "captions": [captions[k] for k in order]}
    (args.out / "key.json").write_text(json.dumps({"kinds": kinds, "sets": key}, indent=0) + "\n")


def score(answers: list[list[str]], captions: list[str], kinds: list[str]) -> tuple[int, int, int]:
    """How many pictures one judge named at the first guess, at the first or second, and would take for photographs.

    An answer is four strings: number, first guess, second guess, yes or no. Two fruits count in either order.
    """
    first = second = passed = 0
    for number, *guesses, passes in answers:
        true = sorted(parse(captions[int(number) - 1], kinds)[0])
        right = [sorted(guess.split(" and ")) == true for guess in guesses]
        first, second, passed = first + right[0], second + any(right), passed + (passes == "yes")
    return first, second, passed


def table(folder: Path) -> str:
    """All answers as a Markdown table. SystemExit where a file does not hold one line of four parts a picture."""
    key = json.loads((folder / "key.json").read_text())
    rows = ["| set | judge | named | at the second guess | would pass |", "|---|---|---|---|---|"]
    for name, of in sorted(key["sets"].items(), key=lambda item: (item[1]["what"], item[0])):
        wanted = sorted(str(n) for n in range(1, len(of["captions"]) + 1))
        for file in sorted((folder / name).glob("answers*.txt")):
            lines = [line for line in file.read_text().splitlines() if line.strip()]
            answers = [[part.strip().lower() for part in line.split("|")] for line in lines]
            if sorted(parts[0] for parts in answers) != wanted or {len(parts) for parts in answers} != {4}:
                raise SystemExit(f"{file}: one line of four parts a picture, please, from 1 to {len(wanted)}")
            counts = " | ".join(map(str, score(answers, of["captions"], key["kinds"])))
            rows.append(f"| {of['what']} {name} | {file.stem.removeprefix('answers')} | {counts} |")
    return "\n".join(rows)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    task = p.add_mutually_exclusive_group(required=True)
    task.add_argument("--data", type=Path, help="lay out sets from this data folder (only read)")
    task.add_argument("--score", type=Path, metavar="FOLDER", help="count the answers in such a folder")
    p.add_argument("--model", type=Path, default=Path("src/renoise/orchard"))
    p.add_argument("--out", type=Path, default=Path("runs/blind"))
    p.add_argument(
        "--seeds", type=int, nargs="+", default=[1000, 3000], help="a set of photographs and one of drawings each"
    )
    args = p.parse_args()
    if args.score:
        print(table(args.score))
    else:
        make(args)
        print(f"{args.out}: the folders hold a set each, key.json tells which")


if __name__ == "__main__":
    main()
