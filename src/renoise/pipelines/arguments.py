"""Arguments of a pipeline's call: which ones it accepts, which ones renoise sets, and which ones a file can store."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

from renoise.pipelines.presets import Preset
from renoise.record import MOST_STEPS, NAMED, OURS, TUPLE, check_call
from renoise.scalars import integer

FRAMES = ("num_frames", "video_length", "frames")  # how pipelines call the length of a video


def accepted(pipe: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of the pipeline's `__call__`."""
    return inspect.signature(type(pipe).__call__).parameters


def check_arguments(pipe: Any, call: dict[str, Any]) -> None:
    """Raise ValueError for arguments that are renoise's to give or that the pipeline does not have."""
    for name in call:
        if name in OURS | NAMED:
            raise ValueError(f"{name} is set by renoise: leave it out")
        if name == "eta" and name not in inspect.signature(pipe.scheduler.step).parameters:
            raise ValueError(
                f"eta belongs to DDIM and TCD, this pipeline has {type(pipe.scheduler).__name__}: leave it out"
            )
        if name not in accepted(pipe) and name != "eta":
            raise ValueError(f"{type(pipe).__name__} takes no argument {name}")


def split_for_file(call: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the extra arguments that a file can hold, and the names of those that must be given again. Callbacks are neither."""
    plain, required = {}, []
    for name, value in call.items():
        try:
            kept = json.loads(json.dumps(value))
            kept = {TUPLE: kept} if isinstance(value, tuple) else kept
            check_call({name: kept})
            plain[name] = kept
        except (TypeError, ValueError):
            required += [] if name.startswith("callback") else [name]
    return plain, sorted(required)


def restored(plain: dict[str, Any]) -> dict[str, Any]:
    """Undo `split_for_file`: make tuples of what were tuples, because SDXL adds its sizes up as such."""
    return {k: tuple(v[TUPLE]) if isinstance(v, dict) and v.keys() == {TUPLE} else v for k, v in plain.items()}


def step_count(pipe: Any, given: int | None, preset: Preset | None) -> int:
    """Return the number of steps given, or the preset's, or the pipeline's default. ValueError unless it is a positive int."""
    if given is None and preset is None and "num_inference_steps" not in accepted(pipe):
        raise ValueError(f"{type(pipe).__name__} is a chain of pipelines: load the one that draws the picture")
    count = given if given is not None else preset.steps if preset else accepted(pipe)["num_inference_steps"].default
    count = integer("num_inference_steps", count)
    tabulated = hasattr(getattr(pipe, "scheduler", None), "alphas_cumprod")  # a step then needs a timestep of its own
    limit = pipe.scheduler.config.get("num_train_timesteps", MOST_STEPS) if tabulated else MOST_STEPS
    if not 1 <= count <= limit:
        raise ValueError(f"num_inference_steps must be an integer of at least 1 and at most {limit}, got {count}")
    return count


def eta_of(pipe: Any, call: dict[str, Any]) -> float | None:
    """Return the `eta` with which the pipeline calls its scheduler, DDIM's η or TCD's γ; None if its scheduler takes none."""
    if "eta" not in inspect.signature(pipe.scheduler.step).parameters:
        return None
    eta = call.get("eta", getattr(accepted(pipe).get("eta"), "default", None))
    return None if eta is None else float(eta)
