"""ReNoise: iterative noising of a real image (arXiv 2403.14602), written once for every sampler, model and device.

A sampler step reads x_s = a x_t + b out(x_t) + c z (step.py). Inversion looks for the x_t that would have given x_s:

    z^(0) = x_s;   z^(k) = (x_s − b out(z^(k−1)) − c z) / a,   k = 1 … K + 1;   x_t = Σ_k w_k z^(k)

so K = 0 is plain DDIM inversion. `solve` is this iteration, `correct` the noise correction of stochastic samplers. Both are
programs (programs.py) of one step; methods/renoise.py takes them through all steps.
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

# An image stalls after some iterations in which its residual does not fall by a tenth: half of those allowed, within these
# bounds.
PATIENCE, IMPROVEMENT = (5, 15), 0.9
# It has diverged if it ends with this many times its smallest residual, unless that is rounding.
GROWTH, ROUNDING = 2.0, 1e-4
# Anderson acceleration: how many earlier iterates it mixes, and the bound of each coefficient.
MEMORY, LARGEST_COEFFICIENT = 2, 4.0


@dataclass(frozen=True)
class Solution:
    """One solved step: x_t (B, ...), ε̂ at its last evaluation, and what it took.

    Args:
        residual, iterations, diverged: per image (B,), see `programs.Inverted`.
        calls: evaluations of the whole batch.
    """

    x_t: Tensor
    epsilon: Tensor
    residual: Tensor
    iterations: Tensor
    diverged: Tensor
    calls: int

    @classmethod
    def without_iteration(cls, x_t: Tensor) -> "Solution":
        """An x_t that the noise correction will make exact: there is nothing to solve."""
        none = torch.zeros(len(x_t), device=x_t.device)
        return cls(x_t, torch.zeros_like(x_t), none, none.long(), none > 0, 0)


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
    """Find the x_t from which step number i leads to x_s, by fixed-point iteration (section 3.2).

    Args:
        x_s: the cleaner latent (B, ...).
        guess: z^(0) (B, ...), where the network is asked first.
        z: the fresh noise (B, ...) of a stochastic step.
        weights: w_1 … w_{K+1} of the averaged iterates; as many evaluations are made at most.
        tolerance: an image whose residual falls below needs no further iteration; 0 makes all iterations.
        anderson: mix earlier iterates into the next question (Anderson acceleration).
        edit_loss: moves the predictions of the iterates that count (section 3.4).
    """
    images, mean = _Images(x_s, tolerance, len(weights)), _WeightedMean(x_s)
    accelerate = _Anderson() if anderson else _plain
    x, k = guess, 0
    for k, weight in enumerate(weights, start=1):
        out = (yield x, i).to(x.dtype)  # ask
        iterate = step.renoise(x_s, out, z)  # renoise
        epsilon = step.epsilon(x, out)
        counts = images.compare(x, iterate, epsilon, weight, last=k == len(weights))
        if edit_loss is not None and bool(counts.any()):
            moved = step.renoise(x_s, step.output(x, edit_loss(epsilon, k)), z)
            iterate = torch.where(_wide(counts, x), moved, iterate)
            images.moved = counts
        mean.add(iterate, weight, counts, images.ending)  # average
        if images.all_ended():  # stop
            break
        x = torch.where(_wide(images.active, x), accelerate(x, iterate), x)
    return Solution(
        torch.where(_wide(images.diverged, x_s), images.best, mean.value),
        images.epsilon, images.residual, images.iterations.long(), images.diverged, k,
    )  # fmt: skip


def correct(step: Step, x_t: Tensor, x_s: Tensor, out: Tensor, z: Tensor, length: float) -> Tensor:
    """Move the noise z towards the one that makes the step exact, by at most length · √numel (section 3.5)."""
    move = step.noise(x_t, x_s, out) - z
    scale = (length / _rms(move).clamp_min(torch.finfo(z.dtype).tiny)).clamp_max(1.0)
    return z + _wide(scale, z) * move


def correction(
    step: Step, i: int, solution: Solution, x_s: Tensor, z: Tensor, length: float
) -> Program[tuple[Solution, Tensor]]:
    """Ask for the output at the solution, and `correct` the step's noise with it.

    An output that is not finite corrects nothing.
    """
    out = (yield solution.x_t, i).to(x_s.dtype)
    finite = _rms(out).isfinite()
    z = torch.where(_wide(finite, z), correct(step, solution.x_t, x_s, out, z, length), z)
    epsilon = torch.where(_wide(finite, z), step.epsilon(solution.x_t, out), solution.epsilon)
    return replace(solution, epsilon=epsilon, diverged=solution.diverged | ~finite, calls=solution.calls + 1), z


def assemble(solutions: Sequence[Solution], trajectory: Sequence[Tensor], noises: Sequence[Tensor]) -> Inverted:
    """Put an inversion together from its steps, cleanest first: solutions, the x_s they lead to, noises of stochastic steps."""
    columns = zip(
        *((s.residual, s.iterations, s.diverged, torch.tensor(s.calls)) for s in reversed(solutions)), strict=True
    )
    residuals, iterations, diverged, calls = map(torch.stack, columns)
    drawn = torch.stack(tuple(reversed(noises))) if noises else None
    path = torch.stack(tuple(reversed(trajectory)))
    return Inverted(solutions[-1].x_t, drawn, path, residuals, iterations, diverged, calls)


class _Images:
    """What is known of each image while its step is iterated, (B,) each.

    active      still iterating, before the present iterate was compared
    ending      the present iterate is its last
    residual    ‖z^(k) − z^(k−1)‖/√numel of the iterate that is taken
    best        the iterate (B, ...) of the smallest residual, which is taken where the iteration diverged
    moved       an edit loss has moved its last iterate, so that the next residual says nothing
    """

    def __init__(self, x_s: Tensor, tolerance: float, allowed: int) -> None:
        self.tolerance, self.patience = tolerance, min(max(PATIENCE[0], allowed // 2), PATIENCE[1])
        none = torch.zeros(len(x_s), device=x_s.device)
        self.active, self.ending, self.diverged, self.moved, self.grown = none == 0, *(none > 0 for _ in range(4))
        self.residual, self.smallest, self.reference = (none + math.inf for _ in range(3))
        self.iterations, self.waited = none, none
        self.best, self.epsilon = x_s, torch.zeros_like(x_s)

    def compare(self, x: Tensor, iterate: Tensor, epsilon: Tensor, weight: float, last: bool) -> Tensor:
        """Take note of an iterate, and of ε̂ at x where the network was asked; whose mean it counts for (B,)."""
        change = _rms(iterate - x)
        finite, comparable = change.isfinite(), self.active & ~self.moved
        converged = comparable & (change < self.tolerance)
        better = comparable & finite & (change < self.smallest)
        self.best = torch.where(_wide(better, x), iterate, self.best)
        self.smallest = torch.where(better, change, self.smallest)

        improved = change < IMPROVEMENT * self.reference
        self.reference, self.waited = (
            torch.where(improved, change, self.reference),
            torch.where(improved, 0, self.waited + 1),
        )
        # Half precision stalls for good, at its rounding. Other plateaus may be left again: hence the patience.
        stalled = comparable & (self.waited >= self.patience) & (self.tolerance > 0)
        grown = ~converged & (change > GROWTH * self.smallest.clamp_min(ROUNDING))
        self.grown = torch.where(comparable, grown, self.grown)

        self.ending = self.active & (converged | stalled | ~finite | last)
        failed = self.ending & (~finite | self.grown)
        self.residual = torch.where(self.ending, torch.where(failed, self.smallest, change), self.residual)
        self.diverged = self.diverged | failed
        self.iterations = self.iterations + self.active
        self.epsilon = torch.where(_wide(self.active & finite, x), epsilon, self.epsilon)
        self.moved = torch.zeros_like(self.moved)
        return self.active & finite & (self.ending | (weight > 0))

    def all_ended(self) -> bool:
        """Retire the images whose last iterate this was; whether none is left."""
        self.active = self.active & ~self.ending
        return not bool(self.active.any())


class _WeightedMean:
    """Σ_k w_k z^(k) (section 3.3). An image that ends early gives its last iterate the weights that are left.

    The mean of a convergent sequence has the same limit.
    """

    def __init__(self, like: Tensor) -> None:
        self.value, self.spent = torch.zeros_like(like), torch.zeros(len(like), device=like.device)

    def add(self, iterate: Tensor, weight: float, counts: Tensor, ending: Tensor) -> None:
        """Add an iterate (B, ...) to the means of the images (B,) for which it `counts`."""
        share = torch.where(ending, 1 - self.spent, weight) * counts
        self.spent = self.spent + share
        self.value = torch.where(_wide(share > 0, iterate), self.value + _wide(share, iterate) * iterate, self.value)


def _plain(x: Tensor, iterate: Tensor) -> Tensor:
    """Ask next at the last iterate, as the paper does."""
    return iterate


class _Anderson:
    """Anderson acceleration: the next question minimises the residual over the last `MEMORY` changes.

    With f_k = z^(k) − y_k the residual of the question y_k, the next question is z^(k) − Σ_j θ_j Δz_j, where θ fits f_k by the
    changes of f in least squares. Walker and Ni 2011, "Anderson acceleration for fixed-point iterations".
    """

    def __init__(self) -> None:
        self.pairs = deque[tuple[Tensor, Tensor]](maxlen=MEMORY + 1)

    def __call__(self, x: Tensor, iterate: Tensor) -> Tensor:
        """The next question after `iterate` (B, ...), the answer to the question x."""
        self.pairs.append((x, iterate))
        if len(self.pairs) < 2:
            return iterate
        asked, answers = (
            torch.stack(side, -1).flatten(1, -2) for side in zip(*self.pairs, strict=True)
        )  # (B, numel, pairs)
        f, changes = answers - asked, answers.diff()
        d = f.diff()
        # No matrix products, for they would follow autocast and TF32.
        products = ((d.unsqueeze(-1) * part.unsqueeze(-2)).sum(1) for part in (d, f[..., -1:]))
        # An image may have ended in numbers that are not finite, and pinv would raise.
        gram, right = (m.cpu().double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) for m in products)
        theta = (torch.linalg.pinv(gram, rtol=1e-6, hermitian=True) @ right).clamp(
            -LARGEST_COEFFICIENT, LARGEST_COEFFICIENT
        )
        return (answers[..., -1] - (changes * theta.to(f).mT).sum(-1)).view_as(iterate)


def _rms(x: Tensor) -> Tensor:
    """‖x‖/√numel of each image: (B, ...) -> (B,)."""
    return x.flatten(1).to(torch.promote_types(x.dtype, torch.float32)).square().mean(1).sqrt()


def _wide(value: Tensor, like: Tensor) -> Tensor:
    """Reshape a value per image, (B,) -> (B, 1, ...), so that it broadcasts over latents like `like`."""
    return value.reshape(-1, *(1,) * (like.ndim - 1))
