"""A picture, a folder as PIE-Bench has it, and an empty current folder for what commands write."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import renoise
from renoise.bench.tasks import as_tensor
from renoise.cli import main

EXAMPLE = Path(renoise.__file__).parent / "orchard" / "example.png"
Run = Callable[..., dict]


def picture() -> torch.Tensor:
    """A picture (1, 3, 128, 128) in [0, 1]."""
    return as_tensor(Image.open(EXAMPLE))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bench(here: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a subcommand of `renoise bench`; what it prints as JSON."""

    def bench(*argv: object) -> dict:
        assert main(["bench", *map(str, argv), "--format", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    return bench


def pie_folder(tmp_path: Path, **changes: object) -> Path:
    """A folder as PIE-Bench has it, of one photograph."""
    (tmp_path / "annotation_images").mkdir()
    Image.open(EXAMPLE).resize((512, 512)).save(tmp_path / "annotation_images" / "a.png")
    entry = {
        "image_path": "a.png",
        "original_prompt": "a photo of a red tomato on a [green] background",
        "editing_prompt": "a photo of a red tomato on a [blue] background",
        "editing_type_id": "8",
        "mask": [512 * 100, 512 * 50],
    }
    entries = {"1": entry, "2": {**entry, **changes}} if changes else {"1": entry}
    (tmp_path / "mapping_file.json").write_text(json.dumps(entries))
    return tmp_path
