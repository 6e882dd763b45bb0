"""One-line explanations of what is wrong with a model: in its folder if it did not load, or in its parts if it did."""

import inspect
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from traceback import walk_tb
from typing import Any

import torch
from safetensors.torch import load_file

from renoise.pipelines.checkpoints import PICKLES, damage, first_line, no_model

_CONFIGURATIONS = ("model_index.json", "config.json", "scheduler_config.json", "tokenizer_config.json")
_LOADERS = ("load_sub_model", "load_single_file_sub_model")  # of diffusers: they know which part they load
_MOST_TIMESTEPS = 1_000_000
_SAMPLE = 16  # numbers of a tensor that tell it from others


def reason(error: BaseException, folder: Path | None) -> str:
    """Explain why a model did not load: by what is wrong in its folder, or by the library's own message."""
    said = first_line(error)
    part = next(
        (frame.f_locals.get("name") for frame, _ in walk_tb(error.__traceback__) if frame.f_code.co_name in _LOADERS),
        None,
    )
    with suppress(Exception):  # what keeps the libraries from being imported keeps their classes from being looked at
        if folder and (fault := next(_faults(folder), None)):
            return fault
    if "necessary `safetensors` weights" in said:
        return "it has no safetensors weights, and others can run code"
    if part and any(sign in said for sign in ("mismatched", "expected shape", "size mismatch")):
        return f"the weights of its {part} have not the shapes that {part}/config.json asks for"
    if part and "meta tensor" in said:
        return f"it has not all weights of its {part}"
    if part and part not in said:
        return f"its {part}: {said}"
    return said


def check(pipe: Any, name: str) -> None:
    """Raise ValueError for a pipeline that loaded but cannot work: weights without numbers, no vocabulary, no noise levels."""
    for part, component in pipe.components.items():
        if fault := _unusable(component):
            raise ValueError(f"{name} cannot be used: its {part} {fault}")


def check_complete(pipe: Any, name: str, files: Mapping[str, Iterable[Path]]) -> None:
    """Raise ValueError for a part whose parameters differ from its files, because the library made some up or left some out.

    Compared are numbers and not names, which versions of the libraries change.
    """
    for part, paths in files.items():
        own = {_mark(parameter): key for key, parameter in getattr(pipe, part).named_parameters()}
        dtypes = {parameter.dtype for parameter in getattr(pipe, part).parameters()}
        stored = {
            key: {_mark(tensor.to(dtype)) for dtype in dtypes}
            for path in paths
            for key, tensor in load_file(path).items()
            if tensor.is_floating_point()
        }
        made_up = own.keys() - set[Any]().union(*stored.values())
        lost = [key for key, marks in stored.items() if own.keys().isdisjoint(marks)]
        if wrong := [*(own[mark] for mark in made_up), *lost]:
            raise ValueError(
                f"{name} cannot be loaded: {len(wrong)} weights of its {part}, such as {min(wrong)}, are not those of "
                "its files: update transformers, diffusers and peft"
            )


def _mark(tensor: torch.Tensor) -> Any:
    return tuple(tensor.shape), tuple(tensor.detach().flatten()[:_SAMPLE].tolist())


def _unusable(component: Any) -> str | None:
    if isinstance(component, torch.nn.Module):
        empty = [name for name, parameter in component.named_parameters() if parameter.is_meta]
        return f"has no weights for {empty[0]} and {len(empty) - 1} other names" if empty else None
    if hasattr(component, "all_special_tokens") and hasattr(component, "__len__"):
        # without its files a tokenizer has the special tokens only, T5's one more
        return None if len(component) > len(component.all_special_tokens) + 1 else "has no vocabulary"
    if hasattr(component, "set_timesteps"):
        return next(_wrong_numbers(type(component), component.config), None) or _wrong_levels(component)
    return None


def _wrong_levels(scheduler: Any) -> str | None:
    """Return what is wrong with a scheduler's tables. alpha^2 must fall from about 1 to 0, and only the last value may be 0."""
    alphas, sigmas = getattr(scheduler, "alphas_cumprod", None), getattr(scheduler, "sigmas", None)
    hint = "see beta_start, beta_end, beta_schedule and trained_betas in its configuration"
    if isinstance(alphas, torch.Tensor):
        if len(alphas) < scheduler.config.get("num_train_timesteps", 1):
            return f"has {len(alphas)} noise levels for {scheduler.config['num_train_timesteps']} timesteps: {hint}"
        if not (alphas.isfinite().all() and alphas.min() >= 0 and alphas.max() <= 1):
            return f"has noise levels that are not between 0 and 1: {hint}"
        if len(alphas) > 1 and not (alphas[-1] < alphas[0] and alphas[-2] > 0):
            return f"has noise levels that do not rise from little noise to noise alone: {hint}"
    if isinstance(sigmas, torch.Tensor) and sigmas.isnan().any():
        return "has noise levels that are not numbers: see the values in its configuration"
    return None


def _wrong_numbers(scheduler: Any, config: Mapping[str, Any]) -> Iterator[str]:
    """Return the fields of a scheduler's configuration that should be numbers but are not."""
    for name, parameter in inspect.signature(scheduler.__init__).parameters.items():
        default, value = parameter.default, config.get(name, parameter.default)
        if isinstance(default, bool) or not isinstance(default, int | float):
            continue
        if isinstance(value, str | list | dict) or (isinstance(value, float) and math.isnan(value)):
            yield f"has {name}={value!r} in its configuration, which should be a number such as {default}"


def _faults(folder: Path) -> Iterator[str]:
    """Yield what is wrong in the folder of a model that did not load, the most important problem first."""
    import diffusers
    import transformers

    if fault := no_model(folder):
        yield f"it {fault}"
    for path in [folder / "model_index.json", *sorted(folder.glob("*/*.json"))]:
        content = _json(path)
        if content is None or (path.name in _CONFIGURATIONS and not isinstance(content, dict)):
            yield f"its {path.relative_to(folder).as_posix()} is no JSON object"
    index = _json(folder / "model_index.json")
    if not isinstance(index, dict):
        return
    named = index.get("_class_name")
    pipeline = getattr(diffusers, named, None) if isinstance(named, str) else None
    own_code = isinstance(named, list) and named and (folder / f"{named[0]}.py").is_file()
    if not own_code and not _is_pipeline(pipeline):
        yield f"its model_index.json names no pipeline of diffusers {diffusers.__version__}: _class_name is {named!r}"
    parts = {name: value for name, value in index.items() if not name.startswith("_")}
    for part, entry in parts.items():
        own = folder / part
        if not isinstance(entry, list):
            continue
        if len(entry) != 2 or len({type(value) for value in entry} - {str}) > (entry == [None, None]):
            yield f"its model_index.json says {entry!r} of {part}, and not a library and a class"
            continue
        library = {"diffusers": diffusers, "transformers": transformers}.get(entry[0])
        if library and not hasattr(library, entry[1]):
            yield f"its {part} is a {entry[1]}, which {entry[0]} {library.__version__} does not have"
        if entry[0] is not None and not own.is_dir():
            yield f"it has no folder {part}, which its model_index.json names"
        for file in sorted(own.glob("*.safetensors")):
            if damaged := damage(file):
                yield f"its {part}/{file.name} {damaged}"
        if not list(own.glob("*.safetensors")) and any(file.suffix in PICKLES for file in own.glob("*")):
            yield f"its {part} has no .safetensors file, and others can run code"
        config = _json(own / "scheduler_config.json")
        if library and isinstance(config, dict) and hasattr(library, entry[1]):
            yield from (f"its {part} {fault}" for fault in _wrong_numbers(getattr(library, entry[1]), config))
            yield from _wrong_counts(part, config)
    for part in _required(pipeline) if _is_pipeline(pipeline) else []:
        if not isinstance(parts.get(part), list) or parts[part] == [None, None]:
            yield f"its model_index.json names no {part}, which a {named} needs"


def _wrong_counts(part: str, config: Mapping[str, Any]) -> Iterator[str]:
    """Yield numbers with which the scheduler cannot be created. They explain a failure, but do not prove one."""
    for name in ("num_train_timesteps", "beta_start", "beta_end"):
        value, most = config.get(name, 1), _MOST_TIMESTEPS if name == "num_train_timesteps" else 1
        if not isinstance(value, int | float) or not 0 <= value <= most or (most > 1 and value not in range(1, most)):
            yield f"its {part} has {name}={value!r} in its configuration: that cannot be"


def _required(pipeline: Any) -> list[str]:
    parameters = list(inspect.signature(pipeline.__init__).parameters.values())[1:]
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return [name for name in needed if name not in pipeline._optional_components]


def _is_pipeline(value: Any) -> bool:
    import diffusers

    base = diffusers.DiffusionPipeline
    return inspect.isclass(value) and issubclass(value, base) and value is not base


def _json(path: Path) -> Any:
    """Return the content of a JSON file, None if it is not valid JSON, or an empty object if there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError):
        return None
