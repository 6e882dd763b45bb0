"""ReNoise (arXiv 2403.14602): invert each sampler step by fixed-point iteration.

    x^(0) = x_s;   x^(k) = (x_s − b out(x^(k−1)) − c z) / a,   k = 1 … K + 1;   x_t = Σ_k w_k x^(k)

`iterations=0` is plain DDIM inversion. algorithm.py solves one step. This file defines the settings and runs all steps,
from the clean end to the noise. docs/method.md lists the differences from the paper.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from renoise.methods.method import Method, is_stochastic
from renoise.scalars import plain

if TYPE_CHECKING:
    from torch import Tensor

    from renoise.programs import Inverted, Photograph, Program
    from renoise.regularize import EditLoss
    from renoise.step import Step

FIRST_GUESSES = ("latent", "epsilon", "posterior")
FEW_STEPS = 8  # distilled models take 1 … 8 steps
EDITABILITY = 0.5  # fit for fruits and for terrain alike (examples/terrain.py)
MORE_SIGNAL = 1.0  # noise level σ/α below which a latent holds more signal than noise


@dataclass(frozen=True)
class ReNoise(Method):
    """ReNoise and its settings.

    Latents have about unit variance, and the values of `tolerance` and `noise_correction` assume this.

    Args:
        iterations: K, the number of renoising iterations per step, 0 … 1000. A step takes at most K + 1 evaluations. 0
            is plain DDIM inversion.
        tolerance: an image stops iterating when its residual ‖x^(k) − x^(k−1)‖/√numel falls below this value. 0 always
            runs all iterations.
        weights_low: weights w_1 … w_{K+1} of the iterates in the mean, for timesteps below `boundary`. None uses the
            last iterate.
        weights_high: the same for timesteps from `boundary`.
        boundary: timestep (0 … 1000) that separates `weights_low` from `weights_high`.
        lambda_pair: weight of the edit loss L_pair (regularize.py), for every iterate with w_k > 0.
        lambda_kl: weight of the edit loss L_patchKL. It costs one more evaluation per step.
        noise_correction: maximum change of the noise z of a stochastic step, as a fraction of √numel. 0 leaves the
            noise as drawn, inf makes the step exact. It costs one more evaluation per stochastic step.
        anderson: use Anderson acceleration, which needs fewer evaluations.
        first_guess: first iterate x^(0). "latent" is x_s, as in the paper. "epsilon" extrapolates x_s along the ε̂ of
            the last step, without further evaluations. "posterior" draws x^(0) and z from their posterior given x_0 and
            x_s (`Step.posterior`). With "posterior" and noise_correction=inf, stochastic steps need no iteration.
        noised_below: noise level σ_t/α_t below which a step is noised instead of inverted, x_t = α_t x_0 + σ_t w. 0
            inverts all steps. What the noise then does not draw is the inversion's remainder.
        editability: how freely an edit may depart from the photograph if `renoise.edit` is not told, 0 … 1 (spectrum.py).
        source: origin of these values, as text.

    Raises:
        ValueError: if a value is out of range, or would have no effect.
    """

    iterations: int = 30
    tolerance: float = 0.0025
    weights_low: tuple[float, ...] | None = None
    weights_high: tuple[float, ...] | None = None
    boundary: float = 250.0
    lambda_pair: float = 0.0
    lambda_kl: float = 0.0
    noise_correction: float = 0.0
    anderson: bool = False
    first_guess: str = "latent"
    noised_below: float = 0.0
    editability: float = EDITABILITY
    source: str = ""

    name: ClassVar[str] = "renoise"
    title: ClassVar[str] = "ReNoise"
    reconstructs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("iterations", "tolerance", "boundary", "lambda_pair", "lambda_kl", "noise_correction", "anderson",
                     "noised_below", "editability"):  # fmt: skip
            object.__setattr__(self, name, plain(getattr(self, name)))
        if type(self.iterations) is not int or not 0 <= self.iterations <= 1000:
            raise ValueError(f"iterations must be an integer in 0 … 1000, got {self.iterations}")
        for name in ("tolerance", "boundary", "lambda_pair", "lambda_kl", "noise_correction", "noised_below"):
            value = getattr(self, name)
            if not value >= 0 or (math.isinf(value) and name != "noise_correction"):
                raise ValueError(f"{name} must be a finite number and not negative, got {value}")
        if not 0 <= self.editability <= 1:
            raise ValueError(f"editability must lie in [0, 1], got {self.editability}")
        for name in ("weights_low", "weights_high"):
            weights = getattr(self, name)
            if weights is None:
                continue
            object.__setattr__(self, name, tuple(float(weight) for weight in weights))
            if len(weights) != self.iterations + 1:
                raise ValueError(f"{name} needs iterations + 1 = {self.iterations + 1} weights, got {len(weights)}")
            if min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=1e-6):
                raise ValueError(f"{name} must be non-negative weights with sum 1, got {weights}")
        if self.first_guess not in FIRST_GUESSES:
            raise ValueError(f"first_guess must be one of {', '.join(FIRST_GUESSES)}, got {self.first_guess!r}")
        if self.anderson and self.iterations < 2:
            raise ValueError("anderson has no effect with iterations < 2: set it to False")

    @classmethod
    def paper(cls, model: str) -> "ReNoise":
        """Return the settings of the paper (table 3) for "sd15", "sdxl", "sdxl-turbo" or "lcm-sdxl".

        Raises:
            ValueError: if the paper has no settings for this model.
        """
        if model not in PAPER:
            raise ValueError(f"the paper has no settings for {model!r}, only for {', '.join(PAPER)}")
        return PAPER[model]

    @classmethod
    def for_steps(cls, steps: "Sequence[Step]") -> "ReNoise":
        """Return settings for a model without measured settings, given its sampler steps.

        Every image iterates until it converges, with more iterations for few long steps than for many short ones. For a
        stochastic sampler, noises drawn from the posterior make the steps exact without iterations.
        """
        few, stochastic = len(steps) <= FEW_STEPS, is_stochastic(steps)
        chosen = FOR_STOCHASTIC if stochastic else FOR_DETERMINISTIC
        kind = f"{'few' if few else 'many'} steps ({len(steps)}) of a {'stochastic' if stochastic else 'deterministic'}"
        return replace(chosen, iterations=chosen.iterations if few else 10, source=f"rule for {kind} sampler")

    @property
    def default_editability(self) -> float:
        """Return `editability`."""
        return self.editability

    def prepare(self, steps: "Sequence[Step]", start: int) -> "ReNoise":
        """Return the method without noise correction if the steps from index `start` draw no noise.

        Raises:
            ValueError: if noise correction is on, but none of the steps draws noise.
        """
        if self.noise_correction > 0 and not is_stochastic(steps):
            raise ValueError(
                "noise_correction needs a stochastic sampler (ancestral Euler, LCM, DDPM): set it to 0 for this one"
            )
        return self if is_stochastic(steps[start:]) else replace(self, noise_correction=0.0)

    def invert(self, steps: "Sequence[Step]", photograph: "Photograph") -> "Program[Inverted]":
        """Solve all steps that are not only noised, from the clean end to the noise."""
        from renoise import algorithm  # imported here because it imports torch

        x_0, draw = photograph.x_0, photograph.noise
        noised = sum(step.t.sigma < self.noised_below * step.t.alpha for step in steps)  # the last ones
        sampler_noises = draw("sampler", sum(step.stochastic for step in steps)) if is_stochastic(steps) else None
        references = draw("reference", len(steps)) if self.lambda_kl > 0 else None
        guesses = draw("guess", len(steps)) if self.first_guess == "posterior" or noised else None
        x_s, epsilon = x_0, None
        solutions, trajectory, noises = [], [], []
        for i, step in reversed(list(enumerate(steps))):
            z = step.noise_from(sampler_noises, i)
            is_noised, clean = i >= len(steps) - noised, i == len(steps) - 1
            w = guesses[i] if guesses is not None and (is_noised or self.first_guess == "posterior") else None
            guess, z = self._first_guess(step, x_0, x_s, z, epsilon, w, clean)
            if is_noised:
                solution = algorithm.Solution.without_iteration(guess, (guess - step.t.alpha * x_0) / step.t.sigma)
            elif z is not None and self.closes_noises:
                solution = algorithm.Solution.without_iteration(guess)
            else:
                noisy = None if references is None else step.t.alpha * x_0 + step.t.sigma * references[i]
                loss, loss_calls = yield from self._edit_loss(step, i, noisy, photograph)
                solution = yield from algorithm.solve(
                    step, i, x_s, guess, z,
                    weights=self.weights(step.t.time), tolerance=self.tolerance, anderson=self.anderson, edit_loss=loss,
                )  # fmt: skip
                solution = replace(solution, calls=solution.calls + loss_calls)
            if z is not None:
                if self.noise_correction > 0 and not is_noised:
                    solution, z = yield from algorithm.correction(step, i, solution, x_s, z, self.noise_correction)
                noises.append(z)
            solutions.append(solution)
            trajectory.append(x_s)
            x_s, epsilon = solution.x_t, solution.epsilon
        return algorithm.assemble(solutions, trajectory, noises)

    def _first_guess(
        self,
        step: "Step",
        x_0: "Tensor",
        x_s: "Tensor",
        z: "Tensor | None",
        epsilon: "Tensor | None",
        w: "Tensor | None",
        clean: bool,
    ) -> "tuple[Tensor, Tensor | None]":
        """Return x^(0) and the noise of the step; `clean` says that x_s is x_0, which contains no noise yet."""
        if w is not None and clean:
            return step.t.alpha * x_0 + step.t.sigma * w, z
        if w is not None:
            x_t, drawn = step.posterior(x_0, x_s, w)
            return x_t, drawn if step.stochastic else None
        if self.first_guess == "epsilon" and epsilon is not None:
            return step.extrapolate(x_s, epsilon, z), z
        return x_s, z

    def _edit_loss(
        self, step: "Step", i: int, noised: "Tensor | None", photograph: "Photograph"
    ) -> "Program[tuple[EditLoss | None, int]]":
        """Return the edit loss of step i, or None, and the number of evaluations that it took.

        `noised` is x_0 with noise of the step's level, if `lambda_kl` needs it.
        """
        from renoise.regularize import EditLoss

        # At alpha = 0 the output of a v-prediction does not contain ε̂, so there is nothing to regularize.
        if not (self.lambda_pair > 0 or self.lambda_kl > 0) or step.t.alpha == 0:
            return None, 0
        reference = None if noised is None else step.epsilon(noised, (yield noised, i).to(noised.dtype))
        loss = EditLoss(self.lambda_pair, self.lambda_kl, reference, f"{photograph.seed}/{i}", photograph.aspect)
        return loss, 0 if reference is None else 1

    @property
    def closes_noises(self) -> bool:
        """Return whether the corrected noise makes stochastic steps exact, so that they need no iteration."""
        return self.first_guess == "posterior" and math.isinf(self.noise_correction)

    def warnings(self, found: "Inverted", steps: "Sequence[Step]", spectrum: "Tensor | None") -> list[str]:
        """Return a warning for each step that did not converge, and the warnings of the base class."""
        lines = []
        for step, residual, diverged in zip(steps, found.residuals, found.diverged, strict=True):
            where = f"timestep {step.t.time:.0f}: residual {residual.max():.2g}"
            if bool(diverged.any()):
                what = f"the iteration diverged on {int(diverged.sum())} of {len(diverged)} images"
                lines.append(f"{where}; {what}, the best iterate was used: try more steps or anderson=True")
            elif self.tolerance > 0 and bool((residual > 10 * self.tolerance).any()):
                what = f"is far from the tolerance {self.tolerance:.2g}"
                lines.append(f"{where} {what}: try more steps, more iterations or anderson=True")
        return lines + super().warnings(found, steps, spectrum)

    def weights(self, time: float) -> tuple[float, ...]:
        """Return the weights w_1 … w_k of the step at timestep `time`, up to the last one that is not 0."""
        weights = (self.weights_low if time < self.boundary else self.weights_high) or (0.0,) * self.iterations + (1.0,)
        return weights[: max(k for k, weight in enumerate(weights, start=1) if weight > 0)]


def _mean(count: int, first: int, last: int) -> tuple[float, ...]:
    """Return `count` weights: equal ones from number `first` to `last`, counted from 1, and 0 elsewhere."""
    return tuple(1 / (last - first + 1) if first <= k <= last else 0.0 for k in range(1, count + 1))


PLAIN = ReNoise(iterations=0, tolerance=0.0, editability=0.0, source="plain DDIM inversion")

# The settings of `for_steps`. `renoise bench tolerance` found the first tolerance, on other photographs than those of
# `renoise bench reconstruction`. `renoise bench few-steps --search` found the second, on orchard-turbo and orchard-lcm.
FOR_DETERMINISTIC = ReNoise(anderson=True, first_guess="epsilon", noised_below=MORE_SIGNAL)
FOR_STOCHASTIC = ReNoise(
    tolerance=0.01, anderson=True, first_guess="posterior", noise_correction=math.inf, noised_below=MORE_SIGNAL
)

_TABLE_3 = "arXiv 2403.14602, table 3"
_SD15 = ReNoise(
    iterations=1, tolerance=0.0, weights_low=_mean(2, 1, 2), weights_high=_mean(2, 2, 2),
    lambda_pair=10.0, lambda_kl=0.05, editability=0.0, source=f"{_TABLE_3}, Stable Diffusion",
)  # fmt: skip
# The paper's noise correction has length 18 on a latent of 4·64·64 values, which is 0.14 √numel.
PAPER = {
    "sd15": _SD15,
    "sdxl": replace(_SD15, lambda_kl=0.055, source=f"{_TABLE_3}, SDXL"),
    "sdxl-turbo": ReNoise(
        iterations=9, tolerance=0.0, weights_low=_mean(10, 1, 4), weights_high=_mean(10, 8, 10),
        lambda_pair=10.0, lambda_kl=0.055, noise_correction=0.14, editability=0.0, source=f"{_TABLE_3}, SDXL Turbo",
    ),
    "lcm-sdxl": ReNoise(
        iterations=7, tolerance=0.0, weights_low=_mean(8, 1, 4), weights_high=_mean(8, 6, 8),
        lambda_pair=20.0, lambda_kl=0.075, editability=0.0, source=f"{_TABLE_3}, LCM-LoRA",
    ),
}  # fmt: skip
