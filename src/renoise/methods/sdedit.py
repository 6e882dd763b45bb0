"""SDEdit (arXiv 2108.01073): noise the photograph instead of inverting it, and draw from there.

    x_t = α_t x_0 + σ_t w,   w ~ N(0, I)

`strength` of `renoise.invert` is how far it is noised. The network is not asked, and nothing of the photograph is kept but what
shows through the noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from renoise.methods.method import AUTO_MASK, EDIT_OPTIONS, Method, is_stochastic
from renoise.programs import Inverted, Photograph, Program
from renoise.step import Step


@dataclass(frozen=True)
class SDEdit(Method):
    """SDEdit has no settings of its own. It cannot find a mask, for it has not inverted the photograph."""

    name: ClassVar[str] = "sdedit"
    title: ClassVar[str] = "SDEdit"
    takes: ClassVar[frozenset[str]] = EDIT_OPTIONS - {AUTO_MASK}

    def invert(self, steps: Sequence[Step], photograph: Photograph) -> Program[Inverted]:
        """Noise x_0 to the level of the first step."""
        x_0, w = photograph.x_0, photograph.noise("guess", 1)[0]
        noises = photograph.noise("sampler", sum(step.stochastic for step in steps)) if is_stochastic(steps) else None
        trajectory = [step.s.alpha * x_0 + step.s.sigma * w for step in steps[:-1]] + [x_0]
        x_T = steps[0].t.alpha * x_0 + steps[0].t.sigma * w
        return Inverted.without_iteration(x_T, noises, trajectory, calls=[0] * len(steps))
        yield  # makes this a program, although it asks nothing
