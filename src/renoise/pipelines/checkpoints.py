"""Recognizes model files by their names and the names of their tensors: variants, single files, adapters, pickles."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_SHARD = r"(?:-\d{5}-of-\d{5})?"
_WEIGHTS = re.compile(rf"(?:diffusion_pytorch_model|model){_SHARD}(?:\.(?P<variant>[\w-]+?))?{_SHARD}\.safetensors")
_ADAPTER = re.compile(r"(^|[._])(lora|hada|lokr|loha|dora)_|\.lora\.")
_ADAPTER_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_POINTER = b"version https://git-lfs"
_LEND_LORA = "load the model that it was made for, and this with --lora or load_lora_weights"


def variant_of(files: Iterable[str], index: Mapping[str, Any]) -> str | None:
    """Name the variant to load, such as fp16; None where every part has plain weights, which are preferred."""
    plain, variants = set[str](), dict[str, set[str]]()
    for file in files:
        part, _, name = file.rpartition("/")
        if part in index and (found := _WEIGHTS.fullmatch(name)):
            if found["variant"] is None:
                plain.add(part)
            else:
                variants.setdefault(part, set()).add(found["variant"])
    needed = [names for part, names in variants.items() if part not in plain]
    if not needed:
        return None
    common = set.intersection(*needed) or set.union(*needed)
    return "fp16" if "fp16" in common else min(common)


def files_in(folder: Path) -> list[str]:
    """List the files of a model's folder and of its parts' folders, as names inside it."""
    return [path.relative_to(folder).as_posix() for path in [*folder.glob("*"), *folder.glob("*/*")] if path.is_file()]


def files_of(repository: str, revision: str | None, local_files_only: bool) -> list[str]:
    """List the files of a repository of the Hub: those in the cache if it cannot or shall not be asked."""
    from huggingface_hub import list_repo_files, snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if not (local_files_only or HF_HUB_OFFLINE):
        return list_repo_files(repository, revision=revision)
    return files_in(Path(snapshot_download(repository, revision=revision, local_files_only=True)))


def usual_configuration(shapes: Mapping[str, torch.Tensor]) -> str:
    """Name the repository whose configuration fits a checkpoint, as diffusers infers it from the tensors."""
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    repository = fetch_diffusers_config(shapes)["pretrained_model_name_or_path"]
    fallback = fetch_diffusers_config({})[
        "pretrained_model_name_or_path"
    ]  # Stable Diffusion 1: for what is not known, too
    if repository == fallback and not any(name.startswith("model.diffusion_model.") for name in shapes):
        raise ValueError(
            "it holds no whole model that diffusers knows, perhaps one part: load the model that it is for"
        )
    return repository


def damage(file: Path) -> str | None:
    """Return what is wrong with a file of weights, or None. Only its header is read."""
    try:
        with safe_open(file, framework="pt"):
            return None
    except (SafetensorError, OSError) as error:
        with file.open("rb") as opened:
            if opened.read(len(_POINTER)) == _POINTER:
                return "is a pointer of Git LFS and not the weights: git lfs pull fetches them"
        return f"is no complete safetensors file ({first_line(error)})"


def shapes_in(file: Path) -> dict[str, torch.Tensor]:
    """Return the shapes of a file's tensors. Raise ValueError if it is not a checkpoint of a whole pipeline."""
    if file.suffix.lower() in PICKLES:
        raise ValueError("it is a pickle, which can run code: only .safetensors files are loaded")
    if file.suffix.lower() != ".safetensors":
        raise ValueError("it is no model: a model is a folder, a .safetensors file or a Hub id")
    if fault := damage(file):
        raise ValueError(f"it {fault}")
    with safe_open(file, framework="pt") as opened:
        names = list(opened.keys())
        if any(_ADAPTER.search(name) for name in names):
            raise ValueError(f"it is a LoRA and not a model: {_LEND_LORA}")
        whole = file.parent.parent
        if _WEIGHTS.fullmatch(file.name) and (whole / "model_index.json").is_file():
            raise ValueError(f"it is one part of a model: load its folder, {whole}")
        return {name: torch.empty(opened.get_slice(name).get_shape(), device="meta") for name in names}


def no_model(folder: Path) -> str | None:
    """Return what a folder without model_index.json is, or None if it has one."""
    if (folder / "model_index.json").is_file():
        return None
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    checkpoints = [name for name in files if name.endswith(".safetensors")]
    if any(name in _ADAPTER_FILES for name in files):
        return f"holds a LoRA and not a model: {_LEND_LORA}"
    if (folder.parent / "model_index.json").is_file():
        return f"is one part of a model and has no model_index.json: load {folder.parent}"
    if checkpoints and "config.json" not in files:
        return f"has no model_index.json: load one of its files, such as {folder / checkpoints[0]}"
    return "has no model_index.json, so it is no pipeline of diffusers"


def first_line(error: BaseException) -> str:
    """Give an error's first line that says something, with those that it announces by a colon; else its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    end = next((number for number, line in enumerate(lines, start=1) if not line.endswith(":")), len(lines))
    return " ".join(lines[:end]) or type(error).__name__
