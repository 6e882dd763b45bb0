"""What an edit starts from, and how it is drawn."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from renoise.programs import Photograph

# The prompts under which the rows of a batch ask the network.
SOURCE, NEGATIVE, TARGET = "source", "negative", "target"


@dataclass(frozen=True)
class Source:
    """An inverted photograph, as an edit starts from it.

    Args:
        x_T: the noise (B, ...); `noises` (m, B, ...) is that of the stochastic steps, or None.
        trajectory: latents (n, B, ...) after each step of the inversion; None unless the edit needs them.
        photograph: its clean latents and random numbers; None unless the method needs the photograph.
    """

    x_T: "Tensor"
    noises: "Tensor | None" = None
    trajectory: "Tensor | None" = None
    photograph: "Photograph | None" = None


@dataclass(frozen=True)
class Edit:
    """How an edit is drawn.

    Args:
        guidance: scale of the guidance that the rows make themselves; None leaves it to the pipeline.
        source_correction: 0 … 1, see editing.py.
        mask: where the latents may change, broadcasting over (B, ...); None is everywhere.
    """

    guidance: float | None = None
    source_correction: float = 0.0
    mask: "Tensor | None" = None
