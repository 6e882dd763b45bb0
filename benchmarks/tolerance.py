"""When to stop: latent error against network evaluations for several tolerances, on `orchard`.

    python -m benchmarks.tolerance --data ../shared/data

This is the search behind the default tolerance. It runs on held-out scenes that are not among the photographs of the other
benchmarks, DDIM, 10 steps, the scenes' own captions, no guidance; 10/10/8 is the mark to reach.
"""

import argparse
import itertools
import json
import warnings
from dataclasses import replace
from pathlib import Path

import torch

import renoise
from benchmarks.reconstruction import fixed, measure
from renoise import PRESETS
from renoise.bench.fruits import read_scenes
from renoise.pipelines.latents import encode

STEPS = 10


def unused(data: Path, count: int) -> tuple[torch.Tensor, list[str]]:
    """Scenes (N, 3, 128, 128) in [0, 1] that the evaluation set leaves out, and their captions."""
    lines = (data / "photos" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    taken = {json.loads(line)["source"] for line in lines}
    images, captions, _ = read_scenes(data)
    chosen = [n for n in range(len(images)) if f"scenes_test[{n}]" not in taken][:count]
    return torch.tensor(images[chosen]).permute(0, 3, 1, 2) / 255, [captions[n] for n in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the photographs")
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tolerances", type=float, nargs="+", default=[0.02, 0.01, 0.007, 0.005, 0.0035, 0.0025])
    options = parser.parse_args()

    warnings.simplefilter("ignore")
    pipe = renoise.load("orchard")
    pictures, captions = unused(options.data, options.scenes)
    x_0 = encode(pipe, pictures)
    preset = PRESETS["orchard"].settings
    settings = {"10/10/8": fixed(8)}
    for tolerance, anderson, guess in itertools.product(options.tolerances, (True, False), ("epsilon", "latent")):
        name = f"{tolerance:g}, {'Anderson' if anderson else 'plain'}, from {guess}"
        settings[name] = replace(preset, tolerance=tolerance, anderson=anderson, first_guess=guess)
    print(f"{len(pictures)} scenes, batches of {options.batch}, {STEPS} steps.\n")
    print("| | network calls | latent error | worst |\n|---|---|---|---|")
    for name, one in settings.items():
        row = measure(pipe, pictures, captions, x_0, (STEPS, STEPS, one), options.batch)
        print(
            f"| {name} | {row['evaluations']:.1f} | {row['latent_error']:.2%} | {row['latent_error_worst']:.2%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
