"""Measure the few-step siblings beside their teacher: names, sharpness, time; prints one JSON object and a Markdown table.

*Named right*: how often the judge names the generated scenes as their captions do, against the teacher with guidance at 50
DDIM steps. *Sharpness*: RMS of the pictures' Laplacian, against that of real scenes with the same captions.
"""

import argparse
import json
import time
from pathlib import Path

import renoise
from renoise.bench import judge as judges
from renoise.bench.fruits import read_photos

from .data import held_out
from .evaluate import SHOWN, generate, grid, named, sharpness

ROWS = [  # model, steps, guidance
    ("orchard", 50, 3.0),
    ("orchard", 4, 3.0),
    ("orchard-turbo", 1, 0.0),
    ("orchard-turbo", 2, 0.0),
    ("orchard-turbo", 3, 0.0),
    ("orchard-turbo", 4, 0.0),
    ("orchard-lcm", 2, 1.0),
    ("orchard-lcm", 4, 1.0),
    ("orchard-lcm", 8, 1.0),
]


def evaluate(args: argparse.Namespace) -> list[dict]:
    judge = judges.load()
    real, names, captions = held_out(read_photos(args.data, "fruits_test_sequences"), args.count)
    rows = [{"model": "real scenes", "both": named(judge, real, names)["both"], "sharpness": sharpness(real)}]
    for model, steps, guidance in ROWS:
        pipe, begin = renoise.load(model, device="cpu"), time.time()
        made = generate(pipe, captions, args.seed, guidance, steps)
        row = {"model": model, "steps": steps, "guidance": guidance, **named(judge, made, names)}
        rows.append({**row, "sharpness": sharpness(made), "seconds": (time.time() - begin) / args.count})
        print(json.dumps(rows[-1]), flush=True)
        if steps == 4 and model != "orchard":
            shown = generate(pipe, SHOWN, args.seed, guidance, steps)
            grid(shown, 8, args.grids / f"{model}.png", 2)
    return rows


def markdown(rows: list[dict], count: int) -> str:
    """The report as a table."""
    lines = ["| | steps | guidance | named right | of the teacher's | sharpness | s |", "|---|---|---|---|---|---|---|"]
    teacher = next(row for row in rows if row["model"] == "orchard")
    for row in rows:
        share = f"{row['both'] / teacher['both']:.3f}" if "steps" in row else ""
        lines.append(
            f"| {row['model']} | {row.get('steps', '')} | {row.get('guidance', '')} | {row['both']:.3f} | {share} "
            f"| {row['sharpness']:.3f} | {row['seconds']:.2f} |"
            if "steps" in row
            else f"| {row['model']} | | | {row['both']:.3f} | | {row['sharpness']:.3f} | |"
        )
    return "\n".join(
        [*lines, "", f"{count} captions for each row; seconds per picture, one after another in batches of 20.", ""]
    )


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="the data folder (only read)")
    p.add_argument("--report", type=Path, default=Path("training/siblings"), help="written with .json and .md")
    p.add_argument("--grids", type=Path, default=Path("training/grids"))
    p.add_argument("--count", type=int, default=400, help="captions, one picture each")
    p.add_argument("--seed", type=int, default=1000)
    args = p.parse_args()
    rows = evaluate(args)
    args.report.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    args.report.with_suffix(".md").write_text("# The few-step siblings\n\n" + markdown(rows, args.count))
    print(markdown(rows, args.count))


if __name__ == "__main__":
    main()
