"""Reader of PIE-Bench folders (arXiv 2310.01506): photographs, prompts and masks of what an edit may change."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from renoise import images
from renoise.bench.tasks import Task

SIZE = 512
KINDS = (
    "random", "change object", "add object", "delete object", "change content", "change pose", "change colour",
    "change material", "change background", "change style",
)  # fmt: skip
MAPPING = "mapping_file.json"


def is_pie(folder: Path) -> bool:
    """Return whether a folder contains PIE-Bench."""
    return (folder / MAPPING).is_file()


def tasks(folder: Path, count: int | None = None) -> tuple[list[Task], list[str]]:
    """Read the first `count` tasks of each kind of edit.

    Returns:
        The tasks, and a message for each entry that cannot be used.

    Raises:
        ValueError: if the mapping file of the folder cannot be read.
    """
    try:
        entries = json.loads((folder / MAPPING).read_text(encoding="utf-8"))
        items = list(entries.items())
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{folder / MAPPING} cannot be read: {error}") from None
    found: list[Task] = []
    problems: list[str] = []
    taken: dict[str, int] = {}
    for name, entry in items:
        try:
            kind = KINDS[int(entry["editing_type_id"])]
            if count is not None and taken.get(kind, 0) >= count:
                continue
            found.append(_task(folder, kind, entry))
            taken[kind] = taken.get(kind, 0) + 1
        except (KeyError, TypeError, ValueError, IndexError, OSError) as error:
            problems.append(f"{name}: {type(error).__name__}: {error}")
    return found, problems


def _task(folder: Path, kind: str, entry: dict[str, Any]) -> Task:
    path = folder / "annotation_images" / entry["image_path"]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{entry['image_path']} lies outside the folder")
    picture = images.fit(images.open_image(path), SIZE, SIZE)
    source, target = (_plain_prompt(entry[key]) for key in ("original_prompt", "editing_prompt"))
    return Task(kind, picture, source, target, 1 - decode_mask(entry["mask"]))


def decode_mask(runs: list[int]) -> np.ndarray:
    """Decode a mask (512, 512) of 0 and 1 from run lengths (start, length, …).

    Runs are cut off at the end of the picture. The outermost pixels are set to 1, as the authors do.

    Raises:
        ValueError: if a run is negative or incomplete.
    """
    mask = np.zeros(SIZE * SIZE, np.float32)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        if start < 0 or length < 0:
            raise ValueError(f"a run of the mask ({start}, {length}) is negative")
        mask[start : start + length] = 1
    mask = mask.reshape(SIZE, SIZE)
    mask[[0, -1]] = mask[:, [0, -1]] = 1
    return mask


def _plain_prompt(prompt: Any) -> str:
    if not isinstance(prompt, str):
        raise TypeError(f"a prompt must be text, got {prompt!r}")
    return prompt.replace("[", "").replace("]", "")
