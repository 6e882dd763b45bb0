"""How a loaded pipeline is called: which arguments it accepts, what it is named, what size it draws, how much text it reads."""

import copy
import inspect
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from renoise.inversion import LARGEST_SIDE, Record
from renoise.pipelines.finding import find, network
from renoise.pipelines.latents import default_size
from renoise.pipelines.presets import PRESETS, Preset
from renoise.pipelines.schedulers import Reading
from renoise.samplers import DDIM, TCD, Sampler
from renoise.step import Step, plan

SPECIAL_TOKENS = 4  # that a tokenizer may add
UNLIMITED = 1e6  # a tokenizer that claims to read more has no limit of its own
TUPLE = "tuple"  # how a file names what JSON does not know
SAMPLES, OTHER = 64, 0.01  # weights that are compared, and the share by which those of another model differ at least
OURS = {"latents", "generator", "num_images_per_prompt", "return_dict", "output_type", "timesteps", "sigmas"}


def identity(pipe: Any) -> str:
    """What a pipeline is called: its preset, else where it was loaded from, else its class."""
    if preset := find(pipe):
        return preset.name
    return str(getattr(pipe.config, "_name_or_path", None) or type(pipe).__name__)


def adapters(pipe: Any) -> list[str]:
    """The names of the LoRAs that are active in a pipeline's network."""
    return list(network(pipe).active_adapters()) if getattr(network(pipe), "peft_config", None) else []


def revision(pipe: Any) -> str | None:
    """The commit of the Hub that a pipeline was loaded from: its parts remember the folder of the cache."""
    config = getattr(network(pipe), "config", None)
    found = re.search(r"snapshots/([0-9a-f]{40})\b", str(getattr(config, "_name_or_path", "")))
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
    ours: dict[str, Any] = {
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
    if guidance_scale is not None and "guidance_scale" not in parameters:
        raise ValueError(
            f"{type(pipe).__name__} takes no guidance_scale: see its own arguments, such as true_cfg_scale"
        )
    if negatives is not None and not guides(pipe, guidance_scale, call):
        scale = "true_cfg_scale" if "true_cfg_scale" in parameters else "guidance_scale"
        raise ValueError(f"negative_prompt has no effect here: set {scale} above 1, or leave it out")
    if "use_kv_cache" in parameters:  # filled at the first step, which is not the first that is asked about
        ours["use_kv_cache"] = False
    user = {name: value for name, value in call.items() if name != "eta"}
    return {name: value for name, value in ours.items() if name in parameters and value is not None} | user


def stacked(
    sources: list[str], targets: list[str], record_call: dict[str, Any], call: dict[str, Any]
) -> dict[str, Any]:
    """The call for a batch of one or two sources' parts, then the target's, without the pipeline's own guidance.

    What holds a text or a value for each image is repeated; negative prompts and `true_cfg_scale` are switched off (None, 1).
    """
    merged, out, count = {**record_call, **call}, dict(call), len(targets)
    rows = len(sources) // count + 1
    for name, value in merged.items():
        if name.startswith("prompt_"):
            source = spread(record_call[name], count, name) * (rows - 1) if name in record_call else sources
            out[name] = source + spread(value, count, name)
        elif name.startswith("negative_prompt"):
            out[name] = None
        elif name == "true_cfg_scale":
            out[name] = 1.0
        elif isinstance(value, list) and value and all(isinstance(one, torch.Tensor) for one in value):
            out[name] = [torch.cat([one] * rows) for one in value]  # one for each IP-Adapter
        elif isinstance(value, list) and len(value) == count:
            out[name] = value * rows
        elif isinstance(value, torch.Tensor) and value.ndim > 3 and len(value) == count > 1:
            out[name] = torch.cat([value] * rows)
    return out


def row_guidance(pipe: Any, guidance_scale: float | None, call: dict[str, Any]) -> float:
    """The factor w in plain + w (asked - plain) that the pipeline would guide with, 1.0 if it would not."""
    if not guides(pipe, guidance_scale, call):
        return 1.0
    if "true_cfg_scale" in accepted(pipe):
        return float(call["true_cfg_scale"])
    return float(guidance_scale or 0.0) + (1.0 if unguided(pipe) == 0.0 else 0.0)


def refuse(pipe: Any, call: dict[str, Any]) -> None:
    """ValueError for arguments that are ours to give or that the pipeline does not have."""
    for name in call:
        if name in OURS:
            raise ValueError(f"{name} is set by renoise: leave it out")
        if name == "eta" and name not in inspect.signature(pipe.scheduler.step).parameters:
            raise ValueError(
                f"eta belongs to DDIM and TCD, this pipeline has {type(pipe.scheduler).__name__}: leave it out"
            )
        if name not in accepted(pipe) and name != "eta":
            raise ValueError(f"{type(pipe).__name__} takes no argument {name}")


def parts(call: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The extra arguments that a file can hold, and the names of those that must be given again; callbacks are neither."""
    plain, needs = {}, []
    for name, value in call.items():
        try:
            kept = json.loads(json.dumps(value))
            plain[name] = {TUPLE: kept} if isinstance(value, tuple) else kept
        except TypeError:
            needs += [] if name.startswith("callback") else [name]
    return plain, sorted(needs)


def restored(plain: dict[str, Any]) -> dict[str, Any]:
    """The arguments that `parts` made plain, their tuples tuples again: SDXL adds its sizes up as such."""
    return {k: tuple(v[TUPLE]) if isinstance(v, dict) and v.keys() == {TUPLE} else v for k, v in plain.items()}


def step_count(pipe: Any, given: int | None, preset: Preset | None) -> int:
    """The number of steps given, or the preset's, or the pipeline's own default. ValueError unless it is a positive int."""
    if given is None and preset is None and "num_inference_steps" not in accepted(pipe):
        raise ValueError(f"{type(pipe).__name__} is a chain of pipelines: load the one that draws the picture")
    count = given if given is not None else preset.steps if preset else accepted(pipe)["num_inference_steps"].default
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"num_inference_steps must be an integer of at least 1, got {count}")
    return count


def guides(pipe: Any, guidance_scale: float | None, call: dict[str, Any]) -> bool:
    """Whether the pipeline, called so, evaluates its network on a negative prompt too."""
    if "negative_prompt" not in accepted(pipe):
        return False
    if "true_cfg_scale" in accepted(pipe):
        return call.get("true_cfg_scale", 1.0) > 1
    twin = copy.copy(pipe)
    vars(twin)["_guidance_scale"] = guidance_scale or 0.0
    return bool(getattr(twin, "do_classifier_free_guidance", (guidance_scale or 0.0) > 1))


def unguided(pipe: Any) -> float | None:
    """The guidance_scale that guides nothing: 1.0, 0.0 where 1.0 does guide (Z-Image), None where it has no default."""
    parameter = accepted(pipe).get("guidance_scale")
    if parameter is None or parameter.default is None:
        return None
    return 0.0 if guides(pipe, 1.0, {}) else 1.0


def weights(pipe: Any) -> str | None:
    """A few weights from all over the network, float16 in hexadecimal; None where they are no plain numbers here (quantized)."""
    module = network(pipe)
    if not isinstance(module, torch.nn.Module):
        return None
    plain = [p for n, p in module.named_parameters() if p.ndim > 1 and p.is_floating_point() and "lora_" not in n]
    if not plain or any(p.is_meta for p in plain):
        return None
    chosen = [plain[len(plain) * i // SAMPLES].detach() for i in range(SAMPLES)]
    places = [torch.tensor(p.numel() * i // SAMPLES, device=p.device) for i, p in enumerate(chosen)]
    drawn = torch.stack(
        [p.take(place).float().cpu() for p, place in zip(chosen, places, strict=True)]
    )  # copies no weight
    return drawn.half().numpy().tobytes().hex()


def _other_weights(mine: str | None, theirs: str | None) -> bool | None:
    """Whether two samples differ by more than what half precision or a light touch does; None if one is missing."""
    if mine is None or theirs is None:
        return None
    a, b = (torch.frombuffer(bytearray.fromhex(text), dtype=torch.float16).float() for text in (mine, theirs))
    return len(a) != len(b) or not bool((a - b).abs().sum() <= OTHER * a.abs().sum())


def check_model(pipe: Any, record: Record) -> None:
    """ValueError if an inversion was made with another model; a warning if only its folder has another name.

    Where weights can be compared they decide, else the names do.
    """
    mine = identity(pipe)
    if bool(adapters(pipe)) != bool(record.adapters):
        then, now = (", ".join(names) or "none" for names in (record.adapters, adapters(pipe)))
        raise ValueError(f"the inversion was made with the LoRA {then}, this pipeline has {now}: make it as it was")
    made, this = f"{record.model} ({record.pipeline})", f"{mine} ({type(pipe).__name__})"
    if type(pipe).__name__ != record.pipeline:
        raise ValueError(f"the inversion was made with {made}, this pipeline is {this}: load {record.model}")
    other = _other_weights(weights(pipe), record.weights)
    if other:
        raise ValueError(
            f"the inversion was made with {made}, this pipeline is {this} with other weights: load the same"
        )
    if other is False or mine == record.model:
        return
    if all(name in PRESETS or re.fullmatch(r"[\w.-]+/[\w.-]+", name) for name in (mine, record.model)):
        raise ValueError(f"the inversion was made with {record.model}, this pipeline is {mine}: load {record.model}")
    if Path(mine).name != Path(record.model).name:  # folders may have moved
        warnings.warn(f"the inversion was made with {record.model}, this pipeline is {mine}", stacklevel=4)


def size(pipe: Any, preset: Preset | None, height: int | None, width: int | None) -> tuple[int, int]:
    """Height and width to invert at: the user's, the preset's or the pipeline's own. ValueError for none or an odd one."""
    if height is None or width is None:
        square = (preset.size, preset.size) if preset else default_size(pipe)
        height, width = square[0] if height is None else height, square[1] if width is None else width
    unit = math.lcm(8, getattr(pipe, "vae_scale_factor", 8) * (2 if hasattr(pipe, "_pack_latents") else 1))
    for name, value in (("height", height), ("width", width)):
        if not unit <= value <= LARGEST_SIDE or value % unit:
            near = min(max(unit, round(value / unit) * unit), LARGEST_SIDE // unit * unit)
            raise ValueError(f"{name} must be a multiple of {unit} in {unit} … {LARGEST_SIDE}, got {value}: try {near}")
    return height, width


def spread(text: str | Sequence[str], images: int, name: str) -> list[str]:
    """One text for all images, or one for each."""
    texts = [text] * images if isinstance(text, str) else list(text or ())
    if len(texts) != images:
        raise ValueError(f"{name}: {len(texts)} texts for {images} images; give one for all or one for each")
    return texts


def too_long(pipe: Any, prompts: list[str], call: dict[str, Any]) -> list[str]:
    """One line for every prompt of which no tokenizer of the pipeline reads the end."""
    limit = getattr(accepted(pipe).get("max_sequence_length"), "default", None)
    limit = call.get("max_sequence_length", limit) or math.inf  # which CLIP's encoders know nothing of
    tokenizers = [t for name, t in pipe.components.items() if name.startswith("tokenizer") and t is not None]
    limits = []
    for t in tokenizers:
        own = getattr(t, "model_max_length", math.inf)
        limits.append((t, own if type(t).__name__.startswith("CLIP") else min(own, limit)))
    limits = [(t, int(n)) for t, n in limits if n < UNLIMITED]
    notes = []
    for prompt in prompts:
        if not limits or len(prompt.encode()) + SPECIAL_TOKENS <= max(n for _, n in limits):
            continue  # a token is at least a byte
        # on copies: a tokenizer keeps the truncation and padding it was last called with, and other threads may use it
        counts = [(len(copy.deepcopy(t)(prompt, truncation=False, verbose=False).input_ids), n) for t, n in limits]
        if all(count > n for count, n in counts):
            count, n = max(counts, key=lambda pair: pair[1])
            notes.append(f"the prompt has {count} tokens, the text encoder reads the first {n}: {prompt[:40]}…")
    return notes


def noisiness(pipe: Any, call: dict[str, Any]) -> float | None:
    """The `eta` with which the pipeline calls its scheduler, DDIM's η or TCD's γ; None if its scheduler takes none."""
    if "eta" not in inspect.signature(pipe.scheduler.step).parameters:
        return None
    eta = call.get("eta", getattr(accepted(pipe).get("eta"), "default", None))
    return None if eta is None else float(eta)


def sampler(reading: Reading, eta: float | None) -> Sampler:
    """The scheduler's own sampler, as `noisiness` sets it."""
    if eta is None:
        return reading.sampler
    return replace(reading.sampler, gamma=eta) if isinstance(reading.sampler, TCD) else DDIM(eta)


def steps(reading: Reading, eta: float | None) -> tuple[Step, ...]:
    """The steps that the pipeline takes, noisiest first."""
    return plan(reading.schedule, sampler(reading, eta), reading.prediction)
