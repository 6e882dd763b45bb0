"""Other ways from a photograph to an edit, to compare with: programs like `algorithm.invert` and `editing.redraw`.

Plain DDIM inversion is not here: it is ReNoise with K = 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from renoise.algorithm import Program, Trajectory
from renoise.step import Step

METHODS = ("renoise", "sdedit", "edit-friendly", "flowedit")  # of `renoise.invert`


def sdedit(steps: Sequence[Step], x_0: Tensor, w: Tensor, noises: Tensor | None, start: int) -> Program[Trajectory]:
    """SDEdit (arXiv 2108.01073): x_0 (B, ...) noised with w to the level of step `start`; nothing is asked, nothing kept."""
    course = [step.s.alpha * x_0 + step.s.sigma * w for step in steps[start:-1]]
    x_T = steps[start].t.alpha * x_0 + steps[start].t.sigma * w
    return _trajectory(x_T, noises, [*course, x_0], calls=[0] * len(steps[start:]))
    yield  # a program that asks nothing is a program too


def edit_friendly(steps: Sequence[Step], x_0: Tensor, ws: Tensor, start: int) -> Program[Trajectory]:
    """Edit-friendly DDPM inversion (arXiv 2304.06140): x_0 (B, ...) noised independently, with ws (n, B, ...), to every level.

    Each step's noise z is then what leads from one of these latents to the next. ValueError unless every step draws noise, but
    for the last, where those of few-step samplers do not: there the method reconstructs no better than the network draws.
    """
    drawn = [step.stochastic for step in steps[start:]]
    if not any(drawn) or not all(drawn[:-1]):
        raise ValueError(
            "edit-friendly inversion needs a stochastic sampler: DDIM with eta=1.0, ancestral Euler, DDPM, LCM"
        )
    levels = [step.t for step in steps[start:]]
    course = [level.alpha * x_0 + level.sigma * w for level, w in zip(levels, ws, strict=True)] + [x_0]
    noises = []
    for n, i in enumerate(range(start, len(steps))):
        if steps[i].stochastic:
            out = (yield course[n], i).to(x_0.dtype)
            noises.append(steps[i].noise(course[n], course[n + 1], out))
    return _trajectory(course[0], torch.stack(noises), course[1:], calls=[int(noisy) for noisy in drawn])


def flow_edit(steps: Sequence[Step], x_0: Tensor, ws: Tensor, start: int) -> Program[Tensor]:
    """FlowEdit (arXiv 2412.08629): from x_0 (B, ...) straight to the edit, along the difference of the two prompts' velocities.

    At every level x_0 is noised afresh, with ws (n, B, ...); one noise a level, and the pipeline's guidance for both prompts.
    Asks about rows (2B, ...), source first. Every network of this library tells a velocity ε̂ − x̂_0, that of the rectified flow
    through x_t/(α + σ) at time σ/(α + σ); for flow models these are the method's own formulas.
    """
    edited = x_0
    for i, w in zip(range(start, len(steps)), ws, strict=True):
        step, t, s = steps[i], steps[i].t, steps[i].s
        source = t.alpha * x_0 + t.sigma * w
        x = torch.cat([source, source + (t.alpha + t.sigma) * (edited - x_0)])
        plain, asked = step.velocity(x, (yield x, i).to(x.dtype)).chunk(2)
        stride = s.sigma / (s.alpha + s.sigma) - t.sigma / (t.alpha + t.sigma)
        edited = edited + stride * (asked - plain)
    return edited


def _trajectory(x_T: Tensor, noises: Tensor | None, course: list[Tensor], calls: list[int]) -> Trajectory:
    none = torch.zeros(len(course), len(x_T), device=x_T.device)
    counts = torch.tensor(calls)
    iterations = counts[:, None].expand(-1, len(x_T))
    return Trajectory(x_T, noises, torch.stack(course), none, iterations, none > 0, counts)
