"""Summaries and reports of benchmarks."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from renoise.files import write


def summarize(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the mean, and the mean of the worst twentieth (the smallest values, rounded up)."""
    worst = sorted(values)[: math.ceil(len(values) / 20)]
    return {"median": statistics.median(values), "mean": statistics.mean(values), "worst": statistics.mean(worst)}


def select(names: Iterable[str], only: Sequence[str] | None) -> list[str]:
    """Return the names that contain one of `only`, or all names if it is empty. Raise ValueError if none matches."""
    names = list(names)
    selected = [name for name in names if not only or any(part in name for part in only)]
    if not selected:
        raise ValueError(f"--only {' '.join(only or [])}: the names are {'; '.join(names)}")
    return selected


def photographs_line(report: dict[str, Any]) -> str:
    """Describe the photographs of a report: their number, and the PSNR of the autoencoder alone."""
    ceiling = ", ".join(f"{name} {value:.2f}" for name, value in report["ceiling"].items())
    count, batch = report["photographs"], report["batch"]
    return f"{count} photographs, batches of {batch}; PSNR of the autoencoder alone: {ceiling} dB."


def write_report(report: dict[str, Any], table: str, path: Path) -> list[Path]:
    """Write a report as `path`.json and its table as `path`.md, and return both paths."""
    return [
        write(path.with_name(path.name + ".json"), (json.dumps(report, indent=1) + "\n").encode()),
        write(path.with_name(path.name + ".md"), (table + "\n").encode()),
    ]
