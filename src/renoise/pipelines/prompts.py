"""Prompts: one for each image, and a warning for those that a pipeline does not read to the end."""

import copy
import math
from collections.abc import Sequence
from typing import Any

from renoise.pipelines.arguments import accepted

SPECIAL_TOKENS = 4  # that a tokenizer may add
UNLIMITED = 1e6  # a tokenizer that claims to read more has no limit of its own


def per_image(text: str | Sequence[str], images: int, name: str) -> list[str]:
    """Return one text for each image, given one for all or one for each. ValueError for any other number."""
    texts: list[Any] = [text] * images if isinstance(text, str) or not hasattr(text, "__iter__") else list(text)
    if wrong := [one for one in texts if not isinstance(one, str)]:
        raise ValueError(f"{name}: a text must be a string, got {type(wrong[0]).__name__}")
    texts = [str(one) for one in texts]  # NumPy's strings are strings, but no file can hold them
    if len(texts) != images:
        raise ValueError(f"{name}: {len(texts)} texts for {images} images; give one for all or one for each")
    return texts


def too_long(pipe: Any, prompts: list[str], call: dict[str, Any]) -> list[str]:
    """Return a warning for every prompt whose end no tokenizer of the pipeline reads."""
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
