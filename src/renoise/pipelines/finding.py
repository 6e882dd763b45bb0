"""Finds the preset of a name, a folder or a loaded pipeline, and the folders of the embedded models."""

import difflib
import re
from pathlib import Path
from typing import Any

from renoise.pipelines.presets import PRESETS, Preset

PACKAGE = Path(__file__).resolve().parents[1]
_HUB_ID = re.compile(r"(?![.~])[\w.-]+/(?!.*\.(?:safetensors|ckpt|pt|pth|bin|gguf)$)[\w.-]+")
_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
EMBEDDED = ("orchard", "orchard-turbo", "orchard-lcm")  # folders of the package: two pipelines and a LoRA


def located(repository: str) -> str:
    """Return where a preset's repository is: a Hub id unchanged, or the folder of an embedded model."""
    return str(PACKAGE / repository) if repository in EMBEDDED else repository


def network(pipe: Any) -> Any:
    """Return the denoising network of a pipeline, or None."""
    unet = getattr(pipe, "unet", None)  # compared with None, because a compiled module has no truth value
    return unet if unet is not None else getattr(pipe, "transformer", None)


def find(model: Any) -> Preset | None:
    """Return the preset of a name, a repository or a loaded pipeline, or None.

    A repository that several presets share is the one without an adapter; a pipeline with adapters that are not
    a preset's has none, because they may turn it into another model.
    """
    if isinstance(model, (str, Path)):
        name, adapters = str(model), set[str]()
        if name in PRESETS:
            return PRESETS[name]
    else:
        name = str(getattr(getattr(model, "config", None), "_name_or_path", None) or "")
        adapters = set(getattr(network(model), "peft_config", {}))
    for preset in PRESETS.values():
        if adapters == ({preset.name} if preset.lora else set()) and _same(name, preset.repository):
            return preset
    return None


def get(name: str) -> Preset:
    """Return the preset of this name. Raise ValueError with the nearest names if there is none."""
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name.lower(), PRESETS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(PRESETS)}."
    raise ValueError(f"no preset {name!r}: {hint} A folder or a Hub id such as owner/name works too.")


def locate(name: str) -> tuple[Preset | None, str]:
    """Return the preset of a name, if any, and the location of the model: a folder, a file or a Hub id.

    ValueError with the nearest names for what is none of these, FileNotFoundError for a path that leads nowhere.
    """
    path = Path(name)
    if name in PRESETS or (name and path.is_dir()) or _HUB_ID.fullmatch(name):
        preset = find(name)
        return preset, located(preset.repository) if preset else name
    if path.is_file():
        return None, name
    if "://" in name:
        raise ValueError(f"{name} is a link: load the file that it leads to, or a Hub id such as owner/name")
    if "/" in name or "\\" in name or name.startswith((".", "~")) or path.suffix in _WEIGHTS:
        raise FileNotFoundError(f"there is no folder or file {name}")
    return get(name), name


def _same(name: str, repository: str) -> bool:
    """Return whether a name means a repository. Hub ids are compared as text, embedded models by their resolved folders."""
    if repository in EMBEDDED:
        return name == repository or (Path(name).is_absolute() and Path(name).resolve() == PACKAGE / repository)
    return name == repository
