"""FlowEdit (arXiv 2412.08629): integrate from the photograph to the edit along the difference of the prompts'
velocities.

    x^src_t = α_t x_0 + σ_t w_t
    x^tar_t = x^src_t + (α_t + σ_t)(x − x_0)
    x ← x + Δτ [v(x^tar_t, target) − v(x^src_t, source)]

with τ = σ/(α + σ). The velocity v = ε̂ − x̂_0 is that of the rectified flow through x_t/(α + σ), so it exists for any
network. For flow models these are the formulas of the paper, with one noise sample w_t per step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from renoise.edits import SOURCE, TARGET, Edit, Source
from renoise.methods.method import PHOTOGRAPH, Method
from renoise.methods.sdedit import SDEdit
from renoise.programs import Inverted, Photograph, Program
from renoise.step import Step


@dataclass(frozen=True)
class FlowEdit(Method):
    """FlowEdit. It has no settings. The pipeline's guidance applies to both prompts."""

    name: ClassVar[str] = "flowedit"
    title: ClassVar[str] = "FlowEdit"
    needs: ClassVar[frozenset[str]] = frozenset({PHOTOGRAPH})
    takes: ClassVar[frozenset[str]] = frozenset()
    pipeline_guides_rows: ClassVar[bool] = True

    def invert(self, steps: Sequence[Step], photograph: Photograph) -> Program[Inverted]:
        """Noise x_0 as SDEdit does. FlowEdit needs no inversion, because `draw` starts from the photograph."""
        return SDEdit().invert(steps, photograph)

    def rows(self, edit: Edit) -> tuple[str, ...]:
        """Return the source prompt and the target prompt."""
        return SOURCE, TARGET

    def draw(self, steps: Sequence[Step], source: Source, edit: Edit) -> Program[Tensor]:
        """Integrate the difference of the velocities from x_0 (B, ...), with fresh noise at every level."""
        assert source.photograph is not None
        x = x_0 = source.photograph.x_0
        for i, (step, w) in enumerate(zip(steps, source.photograph.noise("guess", len(steps)), strict=True)):
            t, s = step.t, step.s
            x_source = t.alpha * x_0 + t.sigma * w
            inputs = torch.cat([x_source, x_source + (t.alpha + t.sigma) * (x - x_0)])
            v_source, v_target = step.velocity(inputs, (yield inputs, i).to(x.dtype)).chunk(2)
            x = x + (s.sigma / (s.alpha + s.sigma) - t.sigma / (t.alpha + t.sigma)) * (v_target - v_source)
        return x
