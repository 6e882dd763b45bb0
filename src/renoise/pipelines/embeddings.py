"""Prompt embeddings, which users who weight their prompts pass instead of texts.

A pipeline takes them under names such as prompt_embeds, pooled_prompt_embeds and prompt_attention_mask. Those of the negative
prompt have the same names with "negative_" in front.
"""

from typing import Any

import torch
from torch import Tensor

NEGATIVE = "negative_"


def is_embedding(name: str) -> bool:
    """Whether an argument of this name is made of a prompt by a text encoder."""
    return "prompt" in name and ("embed" in name or "mask" in name)


def is_positive(name: str) -> bool:
    """Whether it is made of the prompt itself, not of the negative one."""
    return is_embedding(name) and not name.startswith(NEGATIVE)


def is_negative(name: str) -> bool:
    """Whether it is made of the negative prompt."""
    return is_embedding(name) and name.startswith(NEGATIVE)


def replaces_text(call: dict[str, Any], negative: bool = False) -> bool:
    """Whether a call brings embeddings in place of its prompt, or of its negative prompt."""
    return any(
        is_embedding(name) and is_positive(name) != negative for name, value in call.items() if value is not None
    )


def for_images(call: dict[str, Any], images: int) -> dict[str, Any]:
    """Return the call with one embedding for each image, given one for all or one for each. ValueError for any other number."""
    return {name: _for_images(name, value, images) if is_embedding(name) else value for name, value in call.items()}


def from_negative(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call's negative embeddings under the names of the prompt's own."""
    return {n.removeprefix(NEGATIVE): value for n, value in call.items() if is_negative(n)}


def stacked(sources: list[dict[str, Any]], target: dict[str, Any]) -> dict[str, Any]:
    """Return the embeddings of a batch of several rows: the sources', then the target's. ValueError if some of them are texts."""
    every = [
        {n: value for n, value in one.items() if is_positive(n) and value is not None} for one in (*sources, target)
    ]
    if any(one.keys() != every[-1].keys() for one in every):
        raise ValueError(
            "source, target and negative prompt must all be texts or all be prompt embeddings where one batch holds them, "
            "as for source_correction, pseudo_guidance and FlowEdit: give negative_prompt= or negative_prompt_embeds= to suit"
        )
    return {name: _joined([one[name] for one in every], name) for name in every[-1]}


def _for_images(name: str, value: Any, images: int) -> Any:
    if value is None or len(value) == images:
        return value
    if len(value) != 1:
        raise ValueError(f"{name}: {len(value)} embeddings for {images} images; give one for all or one for each")
    return value.expand(images, *value.shape[1:]) if isinstance(value, Tensor) else list(value) * images


def _joined(values: list[Any], name: str) -> Any:
    if not isinstance(values[0], Tensor):
        return [one for value in values for one in value]
    if len({value.shape[1:] for value in values}) > 1:
        raise ValueError(f"{name}: the embeddings of source and target differ in shape; pad them to one length")
    return torch.cat(values)
