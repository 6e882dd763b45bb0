"""How closely and at what cost photographs come back: the paper's table 1 in miniature, on `orchard`.

    python -m benchmarks.reconstruction --data ../shared/data              # the table, as Markdown and JSON
    python -m benchmarks.reconstruction --data ../shared/data --photos 8 --only default

DDIM, the photographs' own captions, no guidance. A row is inversion steps / denoising steps / renoising iterations. *PSNR*
is that of the reconstruction against the photograph; no row can pass the autoencoder's own (the *ceiling*), so the *latent
error*, ‖x̂_0 − x_0‖/‖x_0‖, tells the rows apart. *Worst 5 %* is the mean over the worst twentieth, rounded up.
"""

import argparse
import statistics
import sys
import time
import warnings
from pathlib import Path

import renoise
from benchmarks.photographs import ceiling_line, decode, load, publish, spread
from renoise import PRESETS, ReNoise
from renoise.metrics import psnr
from renoise.pipelines.latents import encode

TOLERANT = ReNoise(iterations=100, tolerance=0.005)  # the paper's iteration, but for when it stops


def fixed(iterations: int) -> ReNoise:
    """`iterations` renoising iterations at every step."""
    return ReNoise(iterations=iterations, tolerance=0.0)


ROWS: dict[str, tuple[int, int, ReNoise]] = {
    "50/50/0": (50, 50, fixed(0)),
    "25/25/2": (25, 25, fixed(2)),
    "20/20/3": (20, 20, fixed(3)),
    "10/10/8": (10, 10, fixed(8)),
    "10/10/0": (10, 10, fixed(0)),
    "4/4/0": (4, 4, fixed(0)),
    "4/4/9": (4, 4, fixed(9)),
    "50/50, tolerance": (50, 50, TOLERANT),
    "10/10, tolerance": (10, 10, TOLERANT),
    "default": (PRESETS["orchard"].steps, PRESETS["orchard"].steps, PRESETS["orchard"].settings),
}


def measure(pipe, pictures, captions, x_0, row: tuple[int, int, ReNoise], batch: int) -> dict[str, float]:
    """One row of the table."""
    inversion_steps, steps, settings = row
    values: dict[str, list[float]] = {name: [] for name in ("psnr", "error", "evaluations", "std", "seconds")}
    for i in range(0, len(pictures), batch):
        part = slice(i, i + batch)
        began = time.perf_counter()
        found = renoise.invert(
            pipe, pictures[part], captions[part], settings=settings, num_inference_steps=inversion_steps, measure=False
        )
        seconds = time.perf_counter() - began
        count = len(found)
        drawn = renoise.reconstruct(pipe, found, output_type="latent", num_inference_steps=steps)
        values["error"] += ((drawn - x_0[part]).flatten(1).norm(dim=1) / x_0[part].flatten(1).norm(dim=1)).tolist()
        values["psnr"] += psnr(decode(pipe, drawn), pictures[part]).tolist()
        values["evaluations"] += [found.evaluations + steps] * count
        values["std"] += found.record.metrics["std"]
        values["seconds"] += [seconds / count] * count
    return {
        **{f"psnr_{name}": value for name, value in spread(values["psnr"]).items()},
        "latent_error": statistics.mean(values["error"]),
        "latent_error_worst": max(values["error"]),
        "evaluations": statistics.mean(values["evaluations"]),
        "seconds": statistics.mean(values["seconds"]),
        "std_x_T": statistics.mean(values["std"]),
    }


def table(report: dict) -> str:
    """The report as Markdown."""
    lines = [
        ceiling_line(report),
        "",
        "| inversion/denoising/renoising | network calls | PSNR median | mean | worst 5 % | latent error | std of x_T | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in report["rows"].items():
        lines.append(
            f"| {name} | {row['evaluations']:.1f} | {row['psnr_median']:.2f} | {row['psnr_mean']:.2f} | {row['psnr_worst']:.2f} "
            f"| {row['latent_error']:.2%} | {row['std_x_T']:.3f} | {row['seconds']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the photographs, with photos/metadata.jsonl"
    )
    parser.add_argument("--photos", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--output", type=Path, help="write the report here too, as .json and .md")
    options = parser.parse_args()

    warnings.simplefilter("ignore")  # plain inversion does not converge, and is here to show it
    pipe = renoise.load("orchard")
    pictures, captions = load(options.data, options.photos)
    x_0 = encode(pipe, pictures)
    ceiling = psnr(decode(pipe, x_0), pictures).tolist()
    report = {
        "photographs": len(pictures),
        "batch": options.batch,
        "ceiling": spread(ceiling),
        "rows": {},
    }
    for name in options.only:
        report["rows"][name] = measure(pipe, pictures, captions, x_0, ROWS[name], options.batch)
        print(f"{name}: {report['rows'][name]}", file=sys.stderr)
    publish(report, table(report), options.output)


if __name__ == "__main__":
    main()
