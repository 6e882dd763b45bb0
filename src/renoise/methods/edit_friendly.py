"""Edit-friendly DDPM inversion (arXiv 2304.06140).

The photograph is noised to every level independently. The noise of each sampler step is chosen so that it connects two
levels.

    x_t = α_t x_0 + σ_t w_t,   w_t ~ N(0, I);      z_t = (x_s − a x_t − b out(x_t)) / c

This takes one network evaluation per step. The last step of few-step samplers draws no noise, so their reconstruction
is not exact but the network's prediction from the last level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from renoise.methods.method import STOCHASTIC, Method
from renoise.programs import Inverted, Photograph, Program
from renoise.step import Step


@dataclass(frozen=True)
class EditFriendly(Method):
    """Edit-friendly DDPM inversion. It has no settings.

    It needs a stochastic sampler. A pipeline with DDIM is run with eta = 1.
    """

    name: ClassVar[str] = "edit-friendly"
    title: ClassVar[str] = "edit-friendly inversion"
    needs: ClassVar[frozenset[str]] = frozenset({STOCHASTIC})

    def invert(self, steps: Sequence[Step], photograph: Photograph) -> Program[Inverted]:
        """Noise x_0 (B, ...) to every level, and compute the noises that lead from each level to the next."""
        x_0, ws = photograph.x_0, photograph.noise("guess", len(steps))
        latents = [step.t.alpha * x_0 + step.t.sigma * w for step, w in zip(steps, ws, strict=True)] + [x_0]
        noises = []
        for i, step in enumerate(steps):
            if step.stochastic:
                out = (yield latents[i], i).to(x_0.dtype)
                noises.append(step.noise(latents[i], latents[i + 1], out))
        calls = [int(step.stochastic) for step in steps]
        return Inverted.without_iteration(latents[0], torch.stack(noises), latents[1:], calls)
