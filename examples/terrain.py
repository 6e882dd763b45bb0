"""Edit a real elevation map with a diffusion model of terrain, without diffusers.

    pip install onnxruntime 'renoise[bench]' && pip install --no-deps adaptive-terrain-diffusion
    python examples/terrain.py

The model (PyPI, MIT, 39 MB) is a consistency model as an ONNX file. It draws height maps of 128 x 128 metres of a given
*difficulty*, 1 … 100, which is mostly their roughness. This project did not train it and has no settings for it: steps,
prediction and sampler are written down below, and the rest is the default of any model. Windows of matplotlib's sample of
the Jacksboro fault (USGS) are inverted as terrains of one difficulty and drawn again with another one.

*Roughness* is the root mean square of the slope, its mean over terrains a geometric one. *Correlation* compares the heights
with those of the source. The strip shows, from left to right, the source, what comes back of it with the remainder, the edit,
and a terrain of the new difficulty drawn from random noise.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from renoise.editing import with_editable_noise
from renoise.edits import Source
from renoise.methods.renoise import ReNoise
from renoise.prediction import EPSILON
from renoise.programs import Photograph, generate, run
from renoise.samplers import LCM
from renoise.schedule import Level, Schedule
from renoise.step import plan
from renoise.strip import strip

SIZE, HIGHEST, BEND = 128, 22.16864013671875, 0.1  # cells; metres; metres at which the model's scale of heights bends
CELL = 83.5  # metres between the points of the sample: its mean of 74 (west to east) and 93 (north to south)
SIGMAS = 80.0, 24.0, 5.0, 0.8  # noise levels of the steps, in units of the model's heights
STEPS = plan(
    Schedule((*(Level.exploding(sigma, sigma) for sigma in SIGMAS), Level(1.0, 0.0, 0.0))), LCM(math.inf), EPSILON
)
Denoise = Callable[
    [Tensor, float, int], Tensor
]  # heights (B, 1, 128, 128) + sigma · noise, sigma, difficulty -> heights


@dataclass(frozen=True)
class Edited:
    """A terrain and what became of it, each (1, 1, 128, 128) in the model's scale of heights.

    Args:
        source: the terrain.
        returned: what its noise draws with its own difficulty, and the remainder.
        remainder: the part of it that the noise does not draw.
        edit: what its noise draws with the new difficulty.
    """

    source: Tensor
    returned: Tensor
    remainder: Tensor
    edit: Tensor


def network(denoise: Denoise, difficulty: int) -> Callable[[Tensor, Level], Tensor]:
    """Return the function (x_t, level) -> ε̂ for terrains of one difficulty. The model itself predicts x_0."""

    def predict(x_t: Tensor, level: Level) -> Tensor:
        x_0 = denoise(x_t / level.alpha, level.sigma / level.alpha, difficulty)
        return (x_t - level.alpha * x_0) / level.sigma

    return predict


def edit(denoise: Denoise, x_0: Tensor, old: int, new: int, editability: float | None = None, seed: int = 0) -> Edited:
    """Invert a terrain (1, 1, 128, 128) as one of difficulty `old`, and draw it again with difficulty `new`."""
    method = ReNoise.for_steps(STEPS)
    found = run(method.invert(STEPS, Photograph(x_0, seed)), STEPS, network(denoise, old))
    drawn = run(generate(STEPS, found.x_T, found.noises), STEPS, network(denoise, old))
    e = torch.tensor([method.default_editability if editability is None else editability])
    noise = with_editable_noise(Source(found.x_T, found.noises), e, None, seed, aspect=1.0)
    edited = run(generate(STEPS, noise.x_T, noise.noises), STEPS, network(denoise, new))
    return Edited(x_0, drawn + (x_0 - drawn), x_0 - drawn, edited)


def draw(denoise: Denoise, difficulty: int, seed: int) -> Tensor:
    """Draw a terrain (1, 1, 128, 128) from random noise."""
    noise = torch.randn(len(STEPS), 1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return run(generate(STEPS, noise[0], noise[1:]), STEPS, network(denoise, difficulty))


def to_model(heights: Tensor) -> Tensor:
    """Convert heights in metres to the model's scale: -1 is 0 m, 1 is 22.2 m, and small heights are stretched."""
    bent = torch.asinh((heights - heights.amin((-2, -1), keepdim=True)).clamp_max(HIGHEST) / BEND)
    return 2 * bent / math.asinh(HIGHEST / BEND) - 1


def to_metres(x: Tensor) -> Tensor:
    """Convert the model's scale of heights to metres."""
    return BEND * torch.sinh((x.clamp(-1, 1) + 1) / 2 * math.asinh(HIGHEST / BEND))


def roughness(x: Tensor) -> float:
    """Return the root mean square of the slope of a terrain, in metres per metre."""
    heights = to_metres(x)
    return math.sqrt(heights.diff(dim=-1).square().mean().item() + heights.diff(dim=-2).square().mean().item())


def correlation(x: Tensor, y: Tensor) -> float:
    """Return the correlation of the heights of two terrains."""
    return torch.corrcoef(torch.stack([to_metres(x).flatten(), to_metres(y).flatten()]))[0, 1].item()


def windows(count: int) -> list[Tensor]:
    """Read `count` windows (1, 1, 128, 128) of the sample, in the model's scale.

    One cell is a metre for the model, so heights are divided by the size of a cell and slopes stay as they are.
    """
    from matplotlib import cbook

    with cbook.get_sample_data("jacksboro_fault_dem.npz") as sample:
        elevation = torch.from_numpy(sample["elevation"].astype(np.float32)) / CELL
    down, right = (range(0, side - SIZE + 1, step) for side, step in zip(elevation.shape, (72, 91), strict=True))
    corners = [(y, x) for y in down for x in right]
    return [to_model(elevation[y : y + SIZE, x : x + SIZE])[None, None] for y, x in corners[:count]]


def load() -> Denoise:
    """Load the terrain model."""
    from terrain_diffusion import TerrainGenerator

    session = TerrainGenerator(device="cpu").session

    def denoise(noisy: Tensor, sigma: float, difficulty: int) -> Tensor:
        shared = {"sigma": sigma, "difficulty": (difficulty - 1) / 99}
        inputs = {name: np.full(len(noisy), value, np.float32) for name, value in shared.items()}
        return torch.from_numpy(session.run(["denoised"], {"noisy": noisy.numpy(), **inputs})[0])

    return denoise


def shaded(x: Tensor) -> Image.Image:
    """Draw a terrain (1, 1, 128, 128), lit from the upper left and coloured by its height."""
    from matplotlib import colormaps
    from matplotlib.colors import LightSource

    colours = LightSource().shade(to_metres(x)[0, 0].numpy(), colormaps["gist_earth"], vert_exag=1, blend_mode="soft")
    return Image.fromarray((colours[..., :3] * 255).astype(np.uint8))


def geometric_mean(values: list[float]) -> float:
    """Return the geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=int, default=20, metavar="DIFFICULTY", help="of the sources (20)")
    parser.add_argument("--new", type=int, default=80, metavar="DIFFICULTY", help="of the edits (80)")
    parser.add_argument("--editability", type=float, help="0 … 1; the library's default if left out")
    parser.add_argument("--windows", type=int, default=16, help="number of windows (16)")
    parser.add_argument("--output", type=Path, default=Path("terrain.png"), help="picture (terrain.png)")
    args = parser.parse_args()

    denoise, edits, free = load(), [], []
    for n, x_0 in enumerate(windows(args.windows)):
        edits.append(edit(denoise, x_0, args.old, args.new, args.editability, seed=n))
        free.append(draw(denoise, args.new, seed=1000 + n))  # not the noise of an inversion
    rough = {name: geometric_mean([roughness(getattr(one, name)) for one in edits]) for name in ("source", "edit")}
    goal = geometric_mean([roughness(x) for x in free])
    share = sum((one.remainder.norm() / one.source.norm()).item() for one in edits) / len(edits)
    lost = max((one.returned - one.source).abs().max().item() for one in edits)
    kept = sum(correlation(one.edit, one.source) for one in edits) / len(edits)
    print(f"roughness: sources {rough['source']:.2f}, edits {rough['edit']:.2f}, drawn freely {goal:.2f}")
    print(f"edits / drawn freely {rough['edit'] / goal:.2f}; correlation of edits and sources {kept:.2f}")
    print(f"remainder {share:.0%} of the source; largest error of the return with it {lost:.1g}")

    tiles = []
    for one, other in list(zip(edits, free, strict=True))[:: max(1, len(edits) // 2)]:
        for name, x in {"source": one.source, "returned": one.returned, "edited": one.edit, "drawn": other}.items():
            tiles.append((f"{name}\nroughness {roughness(x):.2f}", shaded(x)))
    strip(tiles, columns=4).save(args.output)
    print(args.output)


if __name__ == "__main__":
    main()
