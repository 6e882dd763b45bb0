"""How a loaded pipeline is called: which arguments it accepts, what it is named, what size it draws, how much text it reads."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from renoise.pipelines.latents import default_size
from renoise.pipelines.presets import Preset, find
from renoise.pipelines.schedulers import Reading
from renoise.samplers import DDIM, Sampler
from renoise.step import Step, plan

OURS = {"latents", "generator", "num_images_per_prompt", "return_dict", "output_type", "timesteps", "sigmas"}
LARGEST_SIDE = 16384  # pixels


def identity(pipe: Any) -> str:
    """What a pipeline is called: its preset, else where it was loaded from, else its class."""
    if preset := find(pipe):
        return preset.name
    return str(getattr(pipe.config, "_name_or_path", None) or type(pipe).__name__)


def revision(pipe: Any) -> str | None:
    """The commit of the Hub that a pipeline was loaded from: its parts remember the folder of the cache."""
    network = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    found = re.search(
        r"snapshots/([0-9a-f]{40})\b", str(getattr(getattr(network, "config", None), "_name_or_path", ""))
    )
    return found and found[1]


def accepted(pipe: Any) -> Mapping[str, inspect.Parameter]:
    """The arguments of the pipeline's `__call__`."""
    return inspect.signature(type(pipe).__call__).parameters


def arguments(
    pipe: Any,
    prompts: list[str],
    negatives: list[str] | None,
    guidance_scale: float | None,
    height: int,
    width: int,
    steps: int,
    call: dict[str, Any],
) -> dict[str, Any]:
    """The pipeline's call: what it accepts of ours, and the user's own arguments as they are."""
    ours = {
        "prompt": prompts,
        "negative_prompt": negatives,
        "guidance_scale": guidance_scale,
        "height": height,
        "width": width,
        "num_inference_steps": steps,
        # for the latents that are thrown away: the global generator is the user's
        "generator": torch.Generator().manual_seed(0),
    }
    parameters = accepted(pipe)
    if negatives is not None and "negative_prompt" not in parameters:
        raise ValueError(f"{type(pipe).__name__} takes no negative_prompt: leave it out")
    user = {name: value for name, value in call.items() if name != "eta"}
    return {name: value for name, value in ours.items() if name in parameters and value is not None} | user


def refuse(pipe: Any, call: dict[str, Any]) -> None:
    """ValueError for arguments that are ours to give or that the pipeline does not have."""
    for name in call:
        if name in OURS:
            raise ValueError(f"{name} is set by renoise: leave it out")
        if name == "eta" and name not in inspect.signature(pipe.scheduler.step).parameters:
            raise ValueError(f"eta belongs to DDIM, this pipeline has {type(pipe.scheduler).__name__}: leave it out")
        if name not in accepted(pipe) and name != "eta":
            raise ValueError(f"{type(pipe).__name__} takes no argument {name}")


def default_steps(pipe: Any, preset: Preset | None) -> int:
    """The number of steps of the preset, or of the pipeline's own default."""
    return preset.steps if preset else accepted(pipe)["num_inference_steps"].default


def unguided(pipe: Any) -> float | None:
    """1.0, or None for a pipeline whose guidance_scale is for other checkpoints than most of its own (Qwen-Image)."""
    parameter = accepted(pipe).get("guidance_scale")
    return None if parameter is None or parameter.default is None else 1.0


def size(pipe: Any, preset: Preset | None, height: int | None, width: int | None) -> tuple[int, int]:
    """Height and width to invert at: the user's, the preset's or the pipeline's own. ValueError for none or an odd one."""
    if height is None or width is None:
        square = (preset.size, preset.size) if preset else default_size(pipe)
        height, width = height or square[0], width or square[1]
    for name, value in (("height", height), ("width", width)):
        if not 8 <= value <= LARGEST_SIDE or value % 8:
            near = min(max(8, round(value / 8) * 8), LARGEST_SIDE)
            raise ValueError(f"{name} must be a multiple of 8 in 8 … {LARGEST_SIDE}, got {value}: try {near}")
    return height, width


def spread(text: str | Sequence[str], images: int, name: str) -> list[str]:
    """One text for all images, or one for each."""
    texts = [text] * images if isinstance(text, str) else list(text)
    if len(texts) != images:
        raise ValueError(f"{name}: {len(texts)} texts for {images} images; give one for all or one for each")
    return texts


def too_long(pipe: Any, prompts: list[str]) -> list[str]:
    """One line for every prompt of which no tokenizer of the pipeline reads the end."""
    tokenizers: list[Any] = [t for name, t in pipe.components.items() if name.startswith("tokenizer") and t is not None]
    limits = [(t, t.model_max_length) for t in tokenizers if getattr(t, "model_max_length", 1e9) < 1e6]
    notes = []
    for prompt in prompts:
        counts = [(len(t(prompt, truncation=False, verbose=False).input_ids), limit) for t, limit in limits]
        if counts and all(count > limit for count, limit in counts):
            count, limit = max(counts, key=lambda pair: pair[1])
            notes.append(f"the prompt has {count} tokens, the text encoder reads the first {limit}: {prompt[:40]}…")
    return notes


def sampler(reading: Reading, call: dict[str, Any]) -> Sampler:
    """The pipeline's sampler; diffusers' `eta` argument makes DDIM stochastic."""
    return DDIM(call["eta"]) if "eta" in call else reading.sampler


def steps(reading: Reading, call: dict[str, Any]) -> tuple[Step, ...]:
    """The steps that the pipeline takes, noisiest first."""
    return plan(reading.schedule, sampler(reading, call), reading.prediction)
