"""What the benchmarks share: the photographs, their decoding, and how a figure spreads over them."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from renoise import images


def load(data: Path, count: int, kind: str = "scene") -> tuple[torch.Tensor, list[str]]:
    """The first `count` photographs of the evaluation set whose name begins with `kind`: (N, 3, 128, 128) in [0, 1], captions."""
    lines = (data / "photos" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [entry for entry in map(json.loads, lines) if entry["file_name"].startswith(kind)][:count]
    pictures = [images.open_image(data / "photos" / entry["file_name"]) for entry in entries]
    return images.batch(pictures, 128, 128), [entry["text"] for entry in entries]


def decode(pipe: Any, x_0: torch.Tensor) -> torch.Tensor:
    """Pictures (B, 3, H, W) in [0, 1] of latents x_0."""
    with torch.no_grad():
        return (pipe.vae.decode(x_0 / pipe.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


def ceiling_line(report: dict[str, Any]) -> str:
    """What a report is about: how many photographs, and how close the autoencoder alone comes to them."""
    ceiling = ", ".join(f"{name} {value:.2f}" for name, value in report["ceiling"].items())
    count, batch = report["photographs"], report["batch"]
    return f"{count} photographs, batches of {batch}; PSNR of the autoencoder alone: {ceiling} dB."


def publish(report: dict[str, Any], table: str, output: Path | None) -> None:
    """Print the table, and write it and the report beside each other as `output` .md and .json, if asked for."""
    print(table)
    if output:
        output.with_suffix(".md").write_text(table + "\n", encoding="utf-8")
        output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, mean, and the mean of the worst twentieth (the smallest values), rounded up."""
    worst = sorted(values)[: math.ceil(len(values) / 20)]
    return {"median": statistics.median(values), "mean": statistics.mean(values), "worst": statistics.mean(worst)}
