"""Loading a pipeline by its name."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from warnings import warn

import torch

from renoise.pipelines import checking, checkpoints
from renoise.pipelines.finding import locate, located
from renoise.pipelines.presets import Preset
from renoise.pipelines.quiet import missing_weights, silenced

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load(
    name: str = "orchard",
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    revision: str | None = None,
    variant: str | None = None,
    config: str | None = None,
    trust_remote_code: bool = False,
    local_files_only: bool = False,
) -> Any:
    """Load a DiffusionPipeline, ready to invert with: a preset (`renoise presets`), a local folder or file, or a Hub id.

    dtype    "auto": float32 on a CPU; on an accelerator float16 for UNets and bfloat16 for transformers. Or bf16, fp16, fp32
    device   None: the accelerator if there is one
    variant  of the weights, such as "fp16"; None: the plain ones, or where they are missing the variant that is there
    config   of a single .safetensors file: preset, folder or Hub id of a model with the same parts; None: the usual one

    Weights are read from safetensors only. ValueError for a name that is none of these, for a model that could not work
    and for an argument that would have no effect, OSError if the model cannot be had.
    """

    name = os.fspath(name)
    preset, where = locate(name)
    path = Path(where)
    ours, single = preset is not None and path.is_absolute(), path.is_file()
    if revision and ours:
        raise ValueError(f"{name} comes with renoise in one revision only: leave out revision={revision!r}")
    idle = {"revision": single and revision, "variant": (single or ours) and variant, "config": not single and config}
    for argument, value in idle.items():
        if value:
            raise ValueError(f"{argument}={value!r} has no effect on {name}: leave it out")
    dtype = _DTYPES.get(dtype, dtype) if isinstance(dtype, str) else dtype
    if dtype != "auto" and not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype must be auto, {', '.join(_DTYPES)} or a torch dtype, got {dtype!r}")
    device = usable(device or _accelerator() or "cpu")
    local = {"local_files_only": local_files_only or path.is_dir()}
    source = where  # of the configuration
    with silenced() if ours else missing_weights() as missing:
        try:
            if single:
                shapes = checkpoints.shapes_in(path)
                source = locate(config)[1] if config else checkpoints.usual_configuration(shapes)
                pipe = _from_file(path, source, dtype, device, local)
            else:
                options = dict(local, revision=revision or (preset.revision if preset else None))
                pipe = _from_parts(where, dtype, device, variant, trust_remote_code, options)
            if preset and preset.lora:
                pipe.load_lora_weights(
                    located(preset.lora),
                    weight_name=preset.lora_file,
                    adapter_name=preset.name,
                    local_files_only=local_files_only or Path(located(preset.lora)).is_absolute(),
                    use_safetensors=True,
                )
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # for files that are not what they should be the libraries raise every kind
            raise _trouble(name, source, error) from error
        checking.check(pipe, name)
        if preset and ours:
            checking.check_complete(pipe, name, _weights(path, preset))
    for owner, names in missing or []:
        more = f" and {len(names) - 1} other names" if len(names) > 1 else ""
        warn(f"{name} has no weights for {names[0]}{more} of its {owner}: they are random", stacklevel=2)
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


def usable(device: str | torch.device) -> torch.device:
    """Return the device of this name. Raise ValueError if tensors cannot be created on it."""
    try:
        found = torch.empty(0, device=device).device
    except Exception as error:  # every backend raises its own
        raise ValueError(f"device {device} cannot be used: {checkpoints.first_line(error)}") from error
    if found.type == "meta":
        raise ValueError(f"device {device} cannot be used: it holds no numbers")
    return torch.device(device)


def _from_parts(
    where: str,
    dtype: str | torch.dtype,
    device: torch.device,
    variant: str | None,
    trust_remote_code: bool,
    options: Mapping[str, Any],
) -> Any:
    """Load the pipeline of a folder or a Hub repository with one subfolder per part."""
    import diffusers

    folder = Path(where) if Path(where).is_dir() else None
    index: Any = diffusers.DiffusionPipeline.load_config(where, **options)
    if folder and variant is None:
        variant = checkpoints.variant_of(checkpoints.files_in(folder), index)
    call = dict(
        dtype=_dtype(dtype, device, index), trust_remote_code=trust_remote_code, use_safetensors=True, **options
    )
    try:
        return diffusers.DiffusionPipeline.from_pretrained(where, variant=variant, **call)
    except (OSError, ValueError) as error:  # the Hub is asked for the names of the files only if its plain weights fail
        if folder or variant or "safetensors" not in str(error):
            raise
        variant = checkpoints.variant_of(checkpoints.files_of(where, **options), index)
        if variant is None:
            raise
    return diffusers.DiffusionPipeline.from_pretrained(where, variant=variant, **call)


def _from_file(
    file: Path, source: str, dtype: str | torch.dtype, device: torch.device, options: Mapping[str, Any]
) -> Any:
    """Load the pipeline of a single file in the format of the model's authors, with the configuration of `source`."""
    import diffusers

    index: Any = diffusers.DiffusionPipeline.load_config(source, **options)
    pipeline = getattr(diffusers, index["_class_name"])
    if not hasattr(pipeline, "from_single_file"):
        raise ValueError(f"{pipeline.__name__} cannot be loaded from a single file")
    pipe = pipeline.from_single_file(str(file), config=source, dtype=_dtype(dtype, device, index), **options)
    pipe.register_to_config(_name_or_path=str(file))
    return pipe


def _trouble(name: str, source: str, error: Exception) -> Exception:
    """Return the error for a model that did not load: one line that names the model and what is wrong with it."""
    folder, single, origin = Path(source) if Path(source).is_dir() else None, Path(name).is_file(), ""
    if single and source != name:
        origin = f" with the configuration of {source}, which config= can change"
    elif source != name:
        origin = f" from {source}"
    elif not folder and not single:
        origin = " from the Hugging Face Hub, and there is no such folder here"
    kind = ValueError if (folder or single) and not isinstance(error, OSError) else OSError
    return kind(f"{name} cannot be loaded{origin}: {checking.reason(error, folder)}")


def _weights(folder: Path, preset: Preset) -> dict[str, list[Path]]:
    """Return the weight files of each part of an embedded model. The adapter's file belongs to the network."""
    found: dict[str, list[Path]] = {}
    for file in folder.glob("*/*.safetensors"):
        found.setdefault(file.parent.name, []).append(file)
    if preset.lora:
        found["unet"] += Path(located(preset.lora)).glob("*.safetensors")
    return found


def _dtype(dtype: str | torch.dtype, device: torch.device, index: Mapping[str, Any]) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if device.type == "cpu":
        return torch.float32
    return torch.float16 if "unet" in index else torch.bfloat16


def _accelerator() -> torch.device | None:
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
