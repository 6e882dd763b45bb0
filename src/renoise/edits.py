"""Data classes for an edit: its source and its settings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from renoise.programs import Photograph

# The prompts under which a row of a batch evaluates the network.
SOURCE, NEGATIVE, TARGET = "source", "negative", "target"


@dataclass(frozen=True)
class Source:
    """An inverted photograph, the starting point of an edit.

    Args:
        x_T: the inverted noise (B, ...).
        noises: fresh noise (m, B, ...) of the m stochastic steps, or None for a deterministic sampler.
        trajectory: latents (n, B, ...) after each of the n steps, noisiest first. None if the edit does not need them.
        photograph: the clean latents and random numbers. None if the method does not need the photograph.
        remainder: x_0 − (what the noise draws) (B, ...), or None if it is not known.
    """

    x_T: "Tensor"
    noises: "Tensor | None" = None
    trajectory: "Tensor | None" = None
    photograph: "Photograph | None" = None
    remainder: "Tensor | None" = None


@dataclass(frozen=True)
class Edit:
    """Settings of an edit.

    Args:
        guidance: scale of the guidance that is computed from the rows. None leaves guidance to the pipeline.
        source_correction: weight of the source correction, 0 … 1, see editing.py.
        mask: where (B or 1, 1, H, W) of the maps the layout may change, 0 or 1. None changes all.
        ground: clean latents (B, ...) outside the mask, instead of the photograph's.
    """

    guidance: float | None = None
    source_correction: float = 0.0
    mask: "Tensor | None" = None
    ground: "Tensor | None" = None
