"""Classifier-free guidance: by the pipeline itself, or by several rows of one batch."""

import copy
from collections.abc import Sequence
from typing import Any

import torch

from renoise.edits import NEGATIVE, SOURCE, TARGET
from renoise.pipelines.arguments import accepted
from renoise.pipelines.embeddings import is_negative, is_positive
from renoise.pipelines.prompts import per_image


def needs_negative(pipe: Any) -> bool:
    """Whether the pipeline guides by `true_cfg_scale`, and only if it is given a negative prompt."""
    return "true_cfg_scale" in accepted(pipe)


def guides(pipe: Any, guidance_scale: float | None, call: dict[str, Any]) -> bool:
    """Whether the pipeline, called so with a negative prompt, evaluates its network on that too."""
    if "negative_prompt" not in accepted(pipe):
        return False
    if needs_negative(pipe):
        return call.get("true_cfg_scale", 1.0) > 1
    twin = copy.copy(pipe)
    vars(twin)["_guidance_scale"] = guidance_scale or 0.0
    return bool(getattr(twin, "do_classifier_free_guidance", (guidance_scale or 0.0) > 1))


def unguided(pipe: Any) -> float | None:
    """Return the guidance_scale that guides nothing: 1.0, 0.0 where 1.0 does guide (Z-Image), None without a default."""
    parameter = accepted(pipe).get("guidance_scale")
    if parameter is None or parameter.default is None:
        return None
    return 0.0 if guides(pipe, 1.0, {}) else 1.0


def row_guidance(pipe: Any, guidance_scale: float | None, call: dict[str, Any]) -> float:
    """Return the w of  negative + w (target − negative)  with which the pipeline would guide, 1.0 if it would not."""
    if not guides(pipe, guidance_scale, call):
        return 1.0
    if needs_negative(pipe):
        return float(call["true_cfg_scale"])
    return float(guidance_scale or 0.0) + (1.0 if unguided(pipe) == 0.0 else 0.0)


def stacked(
    rows: Sequence[str], texts: dict[str, list[str]], record_call: dict[str, Any], call: dict[str, Any]
) -> dict[str, Any]:
    """Return the extra arguments for a batch of several rows, of SOURCE, NEGATIVE and TARGET, given their prompts.

    What holds a text or a value for each image is repeated. The pipeline's own guidance is switched off: negative prompts are
    None and `true_cfg_scale` is 1.
    """
    merged, out, count = {**record_call, **call}, dict(call), len(texts[TARGET])
    for name, value in merged.items():
        if is_positive(name):
            continue  # see embeddings.stacked
        if name.startswith("prompt_"):
            own = {SOURCE: record_call.get(name), NEGATIVE: merged.get(f"negative_{name}"), TARGET: value}
            given = [texts[row] if own[row] is None else per_image(own[row], count, name) for row in rows]
            out[name] = [text for part in given for text in part]
        elif name.startswith("negative_prompt") or is_negative(name):
            out[name] = None
        elif name == "true_cfg_scale":
            out[name] = 1.0
        elif isinstance(value, list) and value and all(isinstance(one, torch.Tensor) for one in value):
            out[name] = [torch.cat([one] * len(rows)) for one in value]  # one for each IP-Adapter
        elif isinstance(value, list) and len(value) == count:
            out[name] = value * len(rows)
        elif isinstance(value, torch.Tensor) and value.ndim > 3 and len(value) == count > 1:
            out[name] = torch.cat([value] * len(rows))
    return out
