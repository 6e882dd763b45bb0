"""The held-out photographs of the benchmarks."""

import json
from pathlib import Path
from typing import Any

import torch

from renoise import images
from renoise.bench.fruits import SIZE, read_scenes
from renoise.pipelines.latents import default_size

METADATA = Path("photos", "metadata.jsonl")
Photographs = tuple[torch.Tensor, list[str]]  # (N, 3, 128, 128) in [0, 1], and their captions


def load(data: Path, count: int, kind: str = "") -> Photographs:
    """Read the first `count` photographs of the evaluation set whose file names start with `kind`.

    Raises:
        ValueError: if the folder has none, or its list of photographs is invalid.
    """
    try:
        entries = [entry for entry in _metadata(data) if entry["file_name"].startswith(kind)][:count]
        pictures = [images.open_image(data / "photos" / entry["file_name"]) for entry in entries]
        captions = [entry["text"] for entry in entries]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{data / METADATA}: every line needs file_name and text ({error!r})") from None
    if not pictures:
        raise ValueError(f"{data / METADATA} lists no photographs")
    return images.batch(pictures, SIZE, SIZE), captions


def load_others(data: Path, count: int) -> Photographs:
    """Read `count` held-out scenes outside the evaluation set, for the choice of settings."""
    taken = {entry.get("source") for entry in _metadata(data)}
    pictures, captions, _ = read_scenes(data)
    chosen = [n for n in range(len(pictures)) if f"scenes_test[{n}]" not in taken][:count]
    return torch.tensor(pictures[chosen]).permute(0, 3, 1, 2) / 255, [captions[n] for n in chosen]


def check_size(pipe: Any) -> None:
    """Raise ValueError unless the model draws pictures of the size of the photographs."""
    height, width = default_size(pipe)
    if (height, width) != (SIZE, SIZE):
        raise ValueError(f"the photographs have {SIZE} x {SIZE} pixels, and this model draws {width} x {height}")


def decode(pipe: Any, x_0: torch.Tensor) -> torch.Tensor:
    """Decode latents x_0 (B, ...) to pictures (B, 3, H, W) in [0, 1], and return them on the CPU."""
    z = x_0.to(pipe._execution_device, pipe.vae.dtype) / pipe.vae.config.scaling_factor
    with torch.no_grad():
        return (pipe.vae.decode(z).sample.float().cpu() / 2 + 0.5).clamp(0, 1)


def _metadata(data: Path) -> list[dict[str, Any]]:
    """Read the list of photographs of the evaluation set."""
    path = data / METADATA
    if not path.is_file():
        raise ValueError(f"{data} is no folder of photographs: it has no {METADATA}")
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
