"""ReNoise: iterative noising of a real image (arXiv 2403.14602), one step of it, for every sampler, model and device.

A sampler step reads x_s = a x_t + b out(x_t) + c z (step.py). Inversion looks for the x_t that would have given x_s:

    x^(0) = x_s;   x^(k) = (x_s − b out(x^(k−1)) − c z) / a,   k = 1 … K + 1;   x_t = Σ_k w_k x^(k)

so K = 0 is plain DDIM inversion. In the paper's letters x_t is z_t, x_s is z_{t−1}, z is ε_t, and a, b, c are φ, ψ, ρ; out is ε_θ
where the network predicts noise. `solve` is this iteration, and `correction` the noise correction of stochastic samplers.
Both are programs (programs.py). methods/renoise.py takes them through all steps.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from renoise.programs import Inverted, Program
from renoise.regularize import EditLoss
from renoise.step import Step

# An image stalls, and stops, without a 10 % fall of its residual within half of the allowed iterations (at least 5, at most 15).
PATIENCE, IMPROVEMENT = (5, 15), 0.9
# An image has diverged if its last residual exceeds GROWTH times its smallest one. ROUNDING excludes rounding errors.
GROWTH, ROUNDING = 2.0, 1e-4
# Anderson acceleration: number of earlier iterates, and bound of their coefficients.
MEMORY, LARGEST_COEFFICIENT = 2, 4.0


@dataclass(frozen=True)
class Solution:
    """The solution of one step.

    Args:
        x_t: the noisier latent (B, ...).
        epsilon: ε̂ (B, ...) at the last evaluation.
        residual, iterations, diverged: statistics (B,) of each image, see `programs.Inverted`.
        calls: number of network evaluations of the whole batch.
    """

    x_t: Tensor
    epsilon: Tensor
    residual: Tensor
    iterations: Tensor
    diverged: Tensor
    calls: int

    @classmethod
    def without_iteration(cls, x_t: Tensor, epsilon: Tensor | None = None) -> "Solution":
        """Return a given x_t as the solution, with its noise ε if that is known."""
        none = torch.zeros(len(x_t), device=x_t.device)
        return cls(x_t, torch.zeros_like(x_t) if epsilon is None else epsilon, none, none.long(), none > 0, 0)


def solve(
    step: Step,
    i: int,
    x_s: Tensor,
    guess: Tensor,
    z: Tensor | None = None,
    *,
    weights: Sequence[float],
    tolerance: float = 0.0,
    anderson: bool = False,
    edit_loss: EditLoss | None = None,
) -> Program[Solution]:
    """Find the x_t from which step i leads to x_s, by fixed-point iteration (section 3.2).

    Without tolerance, acceleration and edit loss it is the paper's algorithm:

        x, x_t = guess, 0
        for w in weights:
            out = yield x, i
            x = step.renoise(x_s, out, z)
            x_t = x_t + w * x

    Args:
        step: the step.
        i: its index, passed on with every request.
        x_s: the cleaner latent (B, ...).
        guess: first iterate x^(0) (B, ...).
        z: the fresh noise (B, ...) of a stochastic step.
        weights: weights w_1 … w_{K+1} of the iterates in the mean. Their number is the maximum number of evaluations.
        tolerance: an image stops when its residual falls below this value. 0 always runs all iterations.
        anderson: use Anderson acceleration, which mixes earlier iterates into the next request.
        edit_loss: changes the predictions of the iterates in the mean (section 3.4).
    """
    images, mean = _Images(x_s, tolerance, len(weights)), _WeightedMean(x_s)
    accelerate = _Anderson() if anderson else _plain
    x, k = guess, 0
    for k, weight in enumerate(weights, start=1):
        out = (yield x, i).to(x.dtype)
        iterate, epsilon = step.renoise(x_s, out, z), step.epsilon(x, out)
        images.update(x, iterate, epsilon, is_last=k == len(weights))
        in_mean = images.in_mean(weight)
        if edit_loss is not None and bool(in_mean.any()):
            moved = step.renoise(x_s, step.output(x, edit_loss(epsilon, k)), z)
            iterate = torch.where(_broadcast(in_mean, x), moved, iterate)
            images.moved_by_edit_loss(in_mean)
        mean.add(iterate, weight, in_mean, images.ends_here)
        if images.all_ended():
            break
        # An image that has ended keeps its x, so that the batch stays one call.
        x = torch.where(_broadcast(images.active, x), accelerate(x, iterate), x)
    x_t = torch.where(_broadcast(images.diverged, x_s), images.best, mean.value)
    return Solution(x_t, images.epsilon, images.residual, images.iterations.long(), images.diverged, k)


def correct(step: Step, x_t: Tensor, x_s: Tensor, out: Tensor, z: Tensor, length: float) -> Tensor:
    """Move the noise z towards the noise that makes the step exact, by at most length · √numel (section 3.5)."""
    move = step.noise(x_t, x_s, out) - z
    scale = (length / _rms(move).clamp_min(torch.finfo(z.dtype).tiny)).clamp_max(1.0)
    return z + _broadcast(scale, z) * move


def correction(
    step: Step, i: int, solution: Solution, x_s: Tensor, z: Tensor, length: float
) -> Program[tuple[Solution, Tensor]]:
    """Evaluate the network at the solution, and `correct` the noise of the step with its output.

    Images whose output is not finite keep their noise and count as diverged.
    """
    out = (yield solution.x_t, i).to(x_s.dtype)
    finite = _rms(out).isfinite()
    z = torch.where(_broadcast(finite, z), correct(step, solution.x_t, x_s, out, z, length), z)
    epsilon = torch.where(_broadcast(finite, z), step.epsilon(solution.x_t, out), solution.epsilon)
    return replace(solution, epsilon=epsilon, diverged=solution.diverged | ~finite, calls=solution.calls + 1), z


def assemble(solutions: Sequence[Solution], trajectory: Sequence[Tensor], noises: Sequence[Tensor]) -> Inverted:
    """Build the result of an inversion from its steps.

    Args:
        solutions: solution of each step, cleanest step first.
        trajectory: latent x_s (B, ...) to which each step leads, in the same order.
        noises: noise (B, ...) of each stochastic step, in the same order.
    """
    columns = zip(
        *((s.residual, s.iterations, s.diverged, torch.tensor(s.calls)) for s in reversed(solutions)), strict=True
    )
    residuals, iterations, diverged, calls = map(torch.stack, columns)
    drawn = torch.stack(tuple(reversed(noises))) if noises else None
    path = torch.stack(tuple(reversed(trajectory)))
    return Inverted(solutions[-1].x_t, drawn, path, residuals, iterations, diverged, calls)


class _Images:
    """State of each image of the batch during the iteration, (B,) unless noted.

    Attributes:
        active: the image was still iterating before the current iterate.
        ends_here: the current iterate is its last one.
        iterations: evaluations that it needed so far.
        residual: ‖x^(k) − x‖/√numel of the accepted iterate, x the latent at which the network was evaluated.
        best: the iterate (B, ...) with the smallest residual, used if the iteration diverges.
        diverged: the iteration ended in numbers that are not finite, or far above its smallest residual.
        epsilon: ε̂ (B, ...) at the last evaluation.
    """

    def __init__(self, x_s: Tensor, tolerance: float, allowed: int) -> None:
        self.tolerance, self.patience = tolerance, min(max(PATIENCE[0], allowed // 2), PATIENCE[1])
        zero = torch.zeros(len(x_s), device=x_s.device)
        self.active, self.ends_here, self.diverged = zero == 0, zero > 0, zero > 0
        self._finite, self._grown, self._moved = zero == 0, zero > 0, zero > 0
        self.residual, self._smallest, self._improved_to = (zero + math.inf for _ in range(3))
        self.iterations, self._waited = zero, zero
        self.best, self.epsilon = x_s, torch.zeros_like(x_s)

    def update(self, x: Tensor, iterate: Tensor, epsilon: Tensor, is_last: bool) -> None:
        """Compare an iterate (B, ...) with the latents x at which the network was evaluated, and decide which images end."""
        residual = _rms(iterate - x)
        self._finite = residual.isfinite()
        comparable = self.active & ~self._moved
        self._moved = torch.zeros_like(self._moved)
        self.iterations = self.iterations + self.active
        self.epsilon = torch.where(_broadcast(self.active & self._finite, x), epsilon, self.epsilon)

        better = comparable & self._finite & (residual < self._smallest)
        self.best = torch.where(_broadcast(better, x), iterate, self.best)
        self._smallest = torch.where(better, residual, self._smallest)

        converged = comparable & (residual < self.tolerance)
        grown = ~converged & (residual > GROWTH * self._smallest.clamp_min(ROUNDING))
        self._grown = torch.where(comparable, grown, self._grown)
        self.ends_here = self.active & (converged | self._stalled(residual, comparable) | ~self._finite | is_last)

        failed = self.ends_here & (~self._finite | self._grown)
        self.residual = torch.where(self.ends_here, torch.where(failed, self._smallest, residual), self.residual)
        self.diverged = self.diverged | failed

    def in_mean(self, weight: float) -> Tensor:
        """Return for which images (B,) an iterate of this weight counts: the last one of an image always does."""
        return self.active & self._finite & (self.ends_here | (weight > 0))

    def moved_by_edit_loss(self, images: Tensor) -> None:
        """Note that an edit loss has changed the iterates of these images (B,), so that their next residual says nothing."""
        self._moved = images

    def all_ended(self) -> bool:
        """Deactivate the images that have ended, and return whether no active image is left."""
        self.active = self.active & ~self.ends_here
        return not bool(self.active.any())

    def _stalled(self, residual: Tensor, comparable: Tensor) -> Tensor:
        # A plateau may be temporary, so it must last for `patience` iterations. In half precision it is the rounding error.
        improved = residual < IMPROVEMENT * self._improved_to
        self._improved_to = torch.where(improved, residual, self._improved_to)
        self._waited = torch.where(improved, 0, self._waited + 1)
        return comparable & (self._waited >= self.patience) & (self.tolerance > 0)


class _WeightedMean:
    """The weighted mean Σ_k w_k x^(k) of each image (section 3.3).

    If an image ends early, its last iterate gets the remaining weight. The limit of a convergent sequence is the same.
    """

    def __init__(self, like: Tensor) -> None:
        self.value, self.spent = torch.zeros_like(like), torch.zeros(len(like), device=like.device)

    def add(self, iterate: Tensor, weight: float, counts: Tensor, ending: Tensor) -> None:
        """Add an iterate (B, ...) to the mean of the images for which `counts` (B,) is True."""
        share = torch.where(ending, 1 - self.spent, weight) * counts
        self.spent = self.spent + share
        self.value = torch.where(
            _broadcast(share > 0, iterate), self.value + _broadcast(share, iterate) * iterate, self.value
        )


def _plain(x: Tensor, iterate: Tensor) -> Tensor:
    """Return the last iterate as the next evaluation point, as in the paper."""
    return iterate


class _Anderson:
    """Anderson acceleration of the fixed-point iteration.

    Let f_k = x^(k) − y_k be the residual at the evaluation point y_k. The next evaluation point is x^(k) − Σ_j θ_j Δz_j
    over the last `MEMORY` differences, where θ is the least-squares fit of f_k by the differences Δf_j.

    Source: Walker and Ni 2011, "Anderson acceleration for fixed-point iterations".
    """

    def __init__(self) -> None:
        self.pairs = deque[tuple[Tensor, Tensor]](maxlen=MEMORY + 1)

    def __call__(self, x: Tensor, iterate: Tensor) -> Tensor:
        """Return the next evaluation point, given the last one x (B, ...) and the `iterate` (B, ...) computed there."""
        self.pairs.append((x, iterate))
        if len(self.pairs) < 2:
            return iterate
        points, iterates = (
            torch.stack(side, -1).flatten(1, -2) for side in zip(*self.pairs, strict=True)
        )  # (B, numel, pairs)
        f, changes = iterates - points, iterates.diff()
        d = f.diff()
        # Avoids matrix products, which autocast and TF32 would run in lower precision.
        products = ((d.unsqueeze(-1) * part.unsqueeze(-2)).sum(1) for part in (d, f[..., -1:]))
        # Values of images that have ended may be not finite, and pinv would raise.
        gram, right = (m.cpu().double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) for m in products)
        theta = (torch.linalg.pinv(gram, rtol=1e-6, hermitian=True) @ right).clamp(
            -LARGEST_COEFFICIENT, LARGEST_COEFFICIENT
        )
        return (iterates[..., -1] - (changes * theta.to(f).mT).sum(-1)).view_as(iterate)


def _rms(x: Tensor) -> Tensor:
    """Compute ‖x‖/√numel of each image: (B, ...) -> (B,)."""
    return x.flatten(1).to(torch.promote_types(x.dtype, torch.float32)).square().mean(1).sqrt()


def _broadcast(value: Tensor, like: Tensor) -> Tensor:
    """Reshape one value per image, (B,) -> (B, 1, ...), so that it broadcasts over latents like `like`."""
    return value.reshape(-1, *(1,) * (like.ndim - 1))
