"""Draw the edits that used to fail, before and after, as docs/images/before-after.png.

    python examples/before_after.py DATA docs/images/before-after.png

DATA is the folder of photographs (see training/README.md). *Before* is the noise as exact inversion finds it: every step is
solved, and the noise is not changed (editability 0), without guidance. *After* is the default.
"""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import renoise
from renoise import images
from renoise.methods.renoise import FOR_DETERMINISTIC, FOR_STOCHASTIC
from renoise.strip import strip

MODELS = {"orchard": FOR_DETERMINISTIC, "orchard-turbo": FOR_STOCHASTIC, "orchard-lcm": FOR_STOCHASTIC}
CASES = [
    ("object-02", "a light green apple", "a red strawberry", "white"),
    ("object-14", "a yellow lemon", "a red tomato", "white"),
    ("object-08", "a beige cantaloupe", "a purple plum", "white"),
    ("object-20", "a light green pear", "a light green grape", "white"),
    ("object-18", "a red and orange peach", "a yellow banana", "white"),
    ("scene-61", "a red tomato", "a yellow lemon", "blue"),
]


def main(data: Path, output: Path) -> None:
    """Edit every case with every model, and write one picture: a row for each model, before and after."""
    photographs = [data / "photos" / f"{name}.png" for name, *_ in CASES]
    sources, targets = ([f"a photo of {case[n]} on a {case[3]} background" for case in CASES] for n in (1, 2))
    tiles = []
    for model, settings in MODELS.items():
        pipe, solved = renoise.load(model), replace(settings, noised_below=0.0)
        for when, method, editability in (("before", solved, 0.0), ("after", None, None)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about noise that is unlike noise
                found = renoise.invert(pipe, photographs, sources, method=method, measure=False)
            guidance = 1.0 if when == "before" else None
            pictures = renoise.edit(pipe, found, targets, editability=editability, guidance_scale=guidance, mask="auto")
            words = [f"{model}, {when}\n{case[1]} → {case[2]}" for case in CASES]
            tiles += zip(words, pictures, strict=True)
    images.save(strip(tiles, columns=len(CASES), side=128), output)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
