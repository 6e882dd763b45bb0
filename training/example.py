"""Draw the example picture of `renoise demo` with the trained model: src/renoise/orchard/example.png and its caption.

python -m training.example
"""

import argparse
import json

import torch

import renoise
from renoise import images
from renoise.pipelines.finding import PACKAGE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", default="a photo of a red apple on a green background")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=3.0)
    given = parser.parse_args()
    pipe = renoise.load("orchard", device="cpu")
    picture = pipe(
        given.prompt,
        num_inference_steps=given.steps,
        guidance_scale=given.guidance,
        generator=torch.Generator().manual_seed(given.seed),
    ).images[0]
    made = {"model": "orchard", **vars(given)}
    images.save(picture, PACKAGE / "orchard" / "example.png", made)
    (PACKAGE / "orchard" / "example.json").write_text(
        json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
