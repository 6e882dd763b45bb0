"""Every test runs offline and on one thread: tiny tensors gain nothing from more, and xdist's workers share the cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import json
from pathlib import Path

import pytest

DATA = Path(os.environ.get("RENOISE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    """A test's random numbers do not depend on which tests ran before it."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The data set's folder. Its photographs are no part of the repository (see CONTRIBUTING.md)."""
    if not DATA.is_dir():
        pytest.skip(f"needs the photographs: no folder {DATA}, set RENOISE_DATA")
    return DATA


@pytest.fixture(scope="session")
def scenes(data: Path) -> list[tuple[Path, str]]:
    """Held-out photographs of scenes, with their captions."""
    lines = (data / "photos" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [entry for entry in map(json.loads, lines) if entry["file_name"].startswith("scene")]
    return [(data / "photos" / entry["file_name"], entry["text"]) for entry in entries]
