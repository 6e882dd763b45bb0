"""Loading a pipeline by its name."""

import difflib
from pathlib import Path
from typing import Any

import torch

from renoise.pipelines.finding import find, get, located


def load(
    name: str = "orchard",
    *,
    dtype: str | torch.dtype = "auto",
    device: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    local_files_only: bool = False,
) -> Any:
    """A DiffusionPipeline, ready to invert with: a preset (`renoise presets`), a local folder, or an id of the Hub.

    dtype    "auto": float32 on a CPU; on an accelerator float16 for UNets and bfloat16 for transformers. Or bf16, fp16, fp32
    device   None: the accelerator if there is one; "meta" and the like are torch's

    Weights are read from safetensors only. ValueError for a name that is none of the three and for a
    `revision` of a model that comes with renoise, OSError if it cannot be had.
    """
    import diffusers

    folder = Path(name).is_dir()
    preset = find(name) if folder or name.count("/") == 1 else get(name)
    where = located(preset.repository) if preset else name
    local = Path(where).is_absolute()
    if revision and preset and local:
        raise ValueError(f"{name} comes with renoise in one revision only: leave out revision={revision!r}")
    revision = revision or (preset.revision if preset else None)
    options: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only or local}
    try:
        config = diffusers.DiffusionPipeline.load_config(where, **options)
        device = device or _accelerator() or "cpu"
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            where,
            dtype=_dtype(dtype, device, config),
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            **options,
        )
        if preset and preset.lora:
            pipe.load_lora_weights(
                located(preset.lora),
                weight_name=preset.lora_file,
                adapter_name=preset.name,
                local_files_only=local_files_only or Path(located(preset.lora)).is_absolute(),
                use_safetensors=True,
            )
    except OSError as error:
        raise OSError(f"{name} cannot be loaded from {where}: {str(error).splitlines()[0]}") from error
    if preset and (preset.scheduler[1] or type(pipe.scheduler).__name__ != preset.scheduler[0]):
        scheduler, change = preset.scheduler
        pipe.scheduler = scheduler_class(scheduler).from_config(pipe.scheduler.config, **change)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def scheduler_class(name: str) -> Any:
    """Return the scheduler of diffusers with this name, such as "DDIMScheduler". Raises ValueError with the nearest names."""
    import diffusers

    names = [known for known in dir(diffusers) if known.endswith("Scheduler")]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=4, cutoff=0.3) or names
        raise ValueError(f"diffusers has no scheduler {name!r}: there are {', '.join(near)} …")
    return getattr(diffusers, name)


def _dtype(dtype: str | torch.dtype, device: str, config: Any) -> torch.dtype:
    names = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype in names:
        return names[dtype]
    if dtype != "auto":
        raise ValueError(f"dtype must be auto, {', '.join(names)} or a torch dtype, got {dtype!r}")
    if device == "cpu":
        return torch.float32
    return torch.float16 if "unet" in config else torch.bfloat16


def _accelerator() -> str | None:
    return str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else None
