"""Damages the file of an inversion in random ways: what loads must be usable, all else must be one clear ValueError.

    python -m tests.mutate --count 10000 --seed 0

An inversion is usable if a pipeline reconstructs and edits it, or refuses it with a ValueError.
"""

import argparse
import copy
import json
import random
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

import renoise
from renoise import Inversion, ReNoise
from renoise.inversion import UNSIGNED, checksum
from tests.tiny import TINY, Tiny

JUNK = [
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 2**70, -(2**70), 0.5, -0.5, 1e308, float("inf"), float("nan"), "", "x", "inf",
    "\x1b[31mred", "a" * 100_000, [], [[]], {}, {"tuple": 5}, {"tuple": [1, 2]}, [None], ["x"], [1.0, 2.0], {"a": {"b": []}},
]  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A file with one to three faults: in its bytes, or in the JSON of its record."""
    if rng.random() < 0.2:
        return _bytes(data, rng)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    record = json.loads(header["__metadata__"]["renoise"])
    for _ in range(rng.randint(1, 3)):
        _value(record, rng)
    text = json.dumps(record)
    if isinstance(record, dict) and "checksum" in record and rng.random() < 0.8:  # as if it were not damaged but forged
        record["checksum"] = UNSIGNED
        text = json.dumps(record)
        text = text.replace(UNSIGNED, checksum(text, _tensors(data)))
    header["__metadata__"]["renoise"] = text
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _tensors(data: bytes) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(data)


def _bytes(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    kind = rng.choice(["cut", "flip", "zero", "swap", "append"])
    start = rng.randrange(len(damaged))
    end = min(len(damaged), start + rng.randint(1, 64))
    if kind == "cut":
        return bytes(damaged[:start])
    if kind == "append":
        return bytes(damaged) + rng.randbytes(rng.randint(1, 64))
    if kind == "flip":
        damaged[start] ^= 1 << rng.randrange(8)
    elif kind == "zero":
        damaged[start:end] = bytes(end - start)
    else:
        damaged[start:end] = damaged[start:end][::-1]
    return bytes(damaged)


def _value(record: Any, rng: random.Random) -> None:
    """Change one value somewhere inside a record."""
    places = [(record, key) for key in record]
    for holder, key in places:
        value = holder[key]
        inner = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        places += [(value, one) for one in inner]
    holder, key = rng.choice(places)
    kind = rng.choice(["junk", "junk", "junk", "delete", "repeat", "scale"])
    if kind == "delete":
        del holder[key]
    elif kind == "repeat" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif kind == "scale" and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] *= rng.choice([-1, 0, 2, 1000])
    else:
        holder[key] = copy.deepcopy(rng.choice(JUNK))


def outcome(tiny: Tiny, data: bytes, path: Path) -> str:
    """What becomes of a file: "refused at load", "refused in use" or "used". Any other error is raised."""
    path.write_bytes(data)
    try:
        found = Inversion.load(path)
    except ValueError as error:
        if "\n" in str(error).strip():
            raise RuntimeError("the message has more than one line") from error
        return "refused at load"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            renoise.reconstruct(tiny.pipe, found, output_type="latent")
            renoise.edit(tiny.pipe, found, "an elephant", output_type="latent")
            repr(found[0].psnr), found[-1].residuals, found.evaluations + 0.0, " ".join(found.warnings)
    except ValueError:
        return "refused in use"
    return "used"


def original(folder: Path) -> tuple[Tiny, bytes]:
    """A tiny pipeline and the file of an inversion made with it."""
    tiny = TINY["sdxl_turbo"](contractive=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = renoise.invert(
            tiny.pipe, tiny.images(), tiny.prompts, method=ReNoise(iterations=2, tolerance=0, noise_correction=0.1),
            num_inference_steps=2, original_size=(32, 32), **tiny.call,
        )  # fmt: skip
    return tiny, found.save(folder / "original.safetensors").read_bytes()


def run(count: int, seed: int) -> Counter[str]:
    """Damage so many files and count what became of them. Raises what none of them may raise."""
    outcomes, rng = Counter[str](), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        tiny, data = original(Path(folder))
        assert outcome(tiny, data, Path(folder) / "x.safetensors") == "used"
        for n in range(count):
            damaged = mutated(data, rng)
            try:
                outcomes[outcome(tiny, damaged, Path(folder) / "x.safetensors")] += 1
            except Exception as error:
                error.add_note(f"file number {n} of seed {seed}")
                raise
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(", ".join(f"{number} {what}" for what, number in run(options.count, options.seed).items()))


if __name__ == "__main__":
    main()
