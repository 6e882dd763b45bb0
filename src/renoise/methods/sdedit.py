"""SDEdit (arXiv 2108.01073): add noise to the photograph instead of inverting it, and denoise from there.

    x_t = α_t x_0 + σ_t w,   w ~ N(0, I)

The argument `strength` of `renoise.invert` sets the noise level. The network is not evaluated. The edit preserves of
the photograph only what is visible through the noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from renoise.methods.method import AUTO_MASK, EDIT_OPTIONS, Method, is_stochastic
from renoise.programs import Inverted, Photograph, Program
from renoise.step import Step


@dataclass(frozen=True)
class SDEdit(Method):
    """SDEdit. It has no settings. It cannot compute an automatic mask, because it does not invert the photograph."""

    name: ClassVar[str] = "sdedit"
    title: ClassVar[str] = "SDEdit"
    takes: ClassVar[frozenset[str]] = EDIT_OPTIONS - {AUTO_MASK, "editability"}

    def invert(self, steps: Sequence[Step], photograph: Photograph) -> Program[Inverted]:
        """Noise x_0 (B, ...) to the level of the first step."""
        x_0, w = photograph.x_0, photograph.noise("guess", 1)[0]
        noises = photograph.noise("sampler", sum(step.stochastic for step in steps)) if is_stochastic(steps) else None
        trajectory = [step.s.alpha * x_0 + step.s.sigma * w for step in steps[:-1]] + [x_0]
        x_T = steps[0].t.alpha * x_0 + steps[0].t.sigma * w
        return Inverted.without_iteration(x_T, noises, trajectory, calls=[0] * len(steps))
        yield  # makes this function a program, although it requests no evaluation
