"""ReNoise (arXiv 2403.14602): ask the network again at its own last answer, until x_t leads to x_s.

    z^(0) = x_s;   z^(k) = (x_s − b out(z^(k−1)) − c z) / a,   k = 1 … K + 1;   x_t = Σ_k w_k z^(k)

`iterations=0` is plain DDIM inversion. algorithm.py solves one step; this file holds the settings and goes through the steps,
from the clean end to the noise. docs/method.md says where it departs from the paper.
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
FEW_STEPS = 8  # distilled models run 1 … 8 steps


@dataclass(frozen=True)
class ReNoise(Method):
    """Settings of ReNoise. Latents have about unit variance; tolerances and lengths are relative to it.

    Args:
        iterations: K, 0 … 1000. A step makes at most K + 1 evaluations; 0 is plain DDIM inversion.
        tolerance: an image needs no further iteration once its residual ‖z^(k) − z^(k−1)‖/√numel is below. 0 makes all
            iterations.
        weights_low: w_1 … w_{K+1} of the mean for timesteps below `boundary`; None takes the last iterate alone.
        weights_high: the same for timesteps from `boundary` on.
        boundary: timestep (0 … 1000) between the two.
        lambda_pair: strength of the edit loss L_pair (regularize.py), for every iterate with w_k > 0.
        lambda_kl: strength of the edit loss L_patchKL; costs one evaluation more a step.
        noise_correction: how far the noise z of a stochastic step may move to make the step exact, as a fraction of √numel;
            0 leaves it as drawn, inf makes the step exact. Costs one evaluation more a stochastic step.
        anderson: Anderson acceleration of the iteration; needs fewer evaluations.
        first_guess: z^(0). "latent" is x_s, as in the paper; "epsilon" continues x_s along the last step's ε̂, at no cost;
            "posterior" noises x_0 as the sampler would have, and draws z with it (`Step.posterior`). With "posterior" and
            noise_correction=inf a stochastic step needs no iteration.
        source: where these values come from.

    Raises:
        ValueError: a value is out of range, or would silently do nothing.
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
    source: str = ""

    name: ClassVar[str] = "renoise"
    title: ClassVar[str] = "ReNoise"
    reconstructs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("iterations", "tolerance", "boundary", "lambda_pair", "lambda_kl", "noise_correction", "anderson"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        if type(self.iterations) is not int or not 0 <= self.iterations <= 1000:
            raise ValueError(f"iterations must be an integer in 0 … 1000, got {self.iterations}")
        for name in ("tolerance", "boundary", "lambda_pair", "lambda_kl", "noise_correction"):
            value = getattr(self, name)
            if not value >= 0 or (math.isinf(value) and name != "noise_correction"):
                raise ValueError(f"{name} must be a finite number, not negative, got {value}")
        for name in ("weights_low", "weights_high"):
            weights = getattr(self, name)
            if weights is None:
                continue
            object.__setattr__(self, name, tuple(float(weight) for weight in weights))
            if len(weights) != self.iterations + 1:
                raise ValueError(f"{name} needs iterations + 1 = {self.iterations + 1} weights, got {len(weights)}")
            if min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=1e-6):
                raise ValueError(f"{name} must be the weights of a mean, not negative and of sum 1, got {weights}")
        if self.first_guess not in FIRST_GUESSES:
            raise ValueError(f"first_guess must be one of {', '.join(FIRST_GUESSES)}, got {self.first_guess!r}")
        if self.anderson and self.iterations < 2:
            raise ValueError("anderson mixes iterates and does nothing with iterations < 2: set it to False")

    @classmethod
    def paper(cls, model: str) -> "ReNoise":
        """Return the paper's own settings (its table 3) for "sd15", "sdxl", "sdxl-turbo" or "lcm-sdxl".

        Raises:
            ValueError: the paper has no settings for this model.
        """
        if model not in PAPER:
            raise ValueError(f"the paper has no settings for {model!r}, only for {', '.join(PAPER)}")
        return PAPER[model]

    @classmethod
    def for_steps(cls, steps: "Sequence[Step]") -> "ReNoise":
        """Return the settings for a model that nobody has tuned, given the steps that its sampler takes.

        Every image iterates until it has converged, and few long steps get more iterations than many short ones. A stochastic
        sampler gets its noises from the posterior, which make its steps exact without iterating.
        """
        few, stochastic = len(steps) <= FEW_STEPS, is_stochastic(steps)
        chosen = STOCHASTIC if stochastic else DETERMINISTIC
        kind = f"{'few' if few else 'many'} steps ({len(steps)}) of a {'stochastic' if stochastic else 'deterministic'} sampler"
        return replace(chosen, iterations=chosen.iterations if few else 10, source=f"rule for {kind}")

    def prepare(self, steps: "Sequence[Step]", start: int) -> "ReNoise":
        """Drop the noise correction where the steps from `start` on draw no noise. ValueError if the sampler never draws any."""
        if self.noise_correction > 0 and not is_stochastic(steps):
            raise ValueError(
                "noise_correction needs a stochastic sampler (ancestral Euler, LCM, DDPM): set it to 0 for this one"
            )
        return self if is_stochastic(steps[start:]) else replace(self, noise_correction=0.0)

    def invert(self, steps: "Sequence[Step]", photograph: "Photograph") -> "Program[Inverted]":
        """Solve every step, from the clean end up to the noisiest -> `programs.Inverted`."""
        from renoise import algorithm  # brings torch; the settings alone are light

        x_0, draw = photograph.x_0, photograph.noise
        sampler_noises = draw("sampler", sum(step.stochastic for step in steps)) if is_stochastic(steps) else None
        references = draw("reference", len(steps)) if self.lambda_kl > 0 else None
        guesses = draw("guess", len(steps)) if self.first_guess == "posterior" else None
        x, epsilon = x_0, None
        solutions, trajectory, noises = [], [], []
        for i, step in reversed(list(enumerate(steps))):
            z = step.noise_from(sampler_noises, i)
            guess = x
            if self.first_guess == "epsilon" and epsilon is not None:
                guess = step.extrapolate(x, epsilon, z)
            elif guesses is not None and i == len(steps) - 1:  # there is no noise in x_0 yet
                guess = step.t.alpha * x_0 + step.t.sigma * guesses[i]
            elif guesses is not None:
                guess, drawn = step.posterior(x_0, x, guesses[i])
                z = drawn if step.stochastic else None

            if z is not None and self.makes_steps_exact:
                solution = algorithm.Solution.without_iteration(guess)
            else:
                noised = None if references is None else step.t.alpha * x_0 + step.t.sigma * references[i]
                loss, asked = yield from self._edit_loss(step, i, noised, photograph)
                solution = yield from algorithm.solve(
                    step, i, x, guess, z,
                    weights=self.weights(step.t.time), tolerance=self.tolerance, anderson=self.anderson, edit_loss=loss,
                )  # fmt: skip
                solution = replace(solution, calls=solution.calls + asked)
            if z is not None:
                if self.noise_correction > 0:
                    solution, z = yield from algorithm.correction(step, i, solution, x, z, self.noise_correction)
                noises.append(z)
            solutions.append(solution)
            trajectory.append(x)
            x, epsilon = solution.x_t, solution.epsilon
        return algorithm.assemble(solutions, trajectory, noises)

    def _edit_loss(
        self, step: "Step", i: int, noised: "Tensor | None", photograph: "Photograph"
    ) -> "Program[tuple[EditLoss | None, int]]":
        """The edit loss of step number i, and the evaluations that it took; `noised` is x_0 at the step's noise level."""
        from renoise.regularize import EditLoss

        if not (self.lambda_pair > 0 or self.lambda_kl > 0) or step.t.alpha == 0:  # where out says nothing of the noise
            return None, 0
        reference = None if noised is None else step.epsilon(noised, (yield noised, i).to(noised.dtype))
        seed = f"{photograph.seed}/{i}"
        return EditLoss(self.lambda_pair, self.lambda_kl, reference, seed, photograph.aspect), int(
            reference is not None
        )

    @property
    def makes_steps_exact(self) -> bool:
        """Whether the noise of a stochastic step makes it exact, so that there is nothing to iterate for."""
        return self.first_guess == "posterior" and math.isinf(self.noise_correction)

    def warnings(self, found: "Inverted", steps: "Sequence[Step]", to_noise: bool) -> list[str]:
        """Return a line for every step on which some image did not converge, and the lines of every method."""
        lines = []
        for step, residual, diverged in zip(steps, found.residuals, found.diverged, strict=True):
            where = f"timestep {step.t.time:.0f}: residual {residual.max():.2g}"
            if bool(diverged.any()):
                what = f"the iteration diverged on {int(diverged.sum())} of {len(diverged)} images"
                lines.append(f"{where}; {what}, the best iterate was kept: try more steps or anderson=True")
            elif self.tolerance > 0 and bool((residual > 10 * self.tolerance).any()):
                what = f"is far from the tolerance {self.tolerance:.2g}"
                lines.append(f"{where} {what}: try more steps, more iterations or anderson=True")
        return lines + super().warnings(found, steps, to_noise)

    def weights(self, time: float) -> tuple[float, ...]:
        """Return w_1 … w_k of the step from timestep `time`, up to the last iterate that counts."""
        weights = (self.weights_low if time < self.boundary else self.weights_high) or (0.0,) * self.iterations + (1.0,)
        return weights[: max(k for k, weight in enumerate(weights, start=1) if weight > 0)]


def _mean(count: int, first: int, last: int) -> tuple[float, ...]:
    """`count` weights, those numbered first … last (from 1) equal and the others 0."""
    return tuple(1 / (last - first + 1) if first <= k <= last else 0.0 for k in range(1, count + 1))


PLAIN = ReNoise(iterations=0, tolerance=0.0, source="plain DDIM inversion")

# The rule of `for_steps`. `renoise bench tolerance` is the search for the first tolerance, on other photographs than those of
# `renoise bench reconstruction`; `renoise bench few-steps --search` for the second, on orchard-turbo and orchard-lcm.
DETERMINISTIC = ReNoise(anderson=True, first_guess="epsilon")
STOCHASTIC = ReNoise(tolerance=0.01, anderson=True, first_guess="posterior", noise_correction=math.inf)

_TABLE_3 = "arXiv 2403.14602, table 3"
_SD15 = ReNoise(
    iterations=1, tolerance=0.0, weights_low=_mean(2, 1, 2), weights_high=_mean(2, 2, 2),
    lambda_pair=10.0, lambda_kl=0.05, source=f"{_TABLE_3}, Stable Diffusion",
)  # fmt: skip
# The length of the paper's noise correction is 18 on a latent of 4·64·64 numbers: 0.14 √numel.
PAPER = {
    "sd15": _SD15,
    "sdxl": replace(_SD15, lambda_kl=0.055, source=f"{_TABLE_3}, SDXL"),
    "sdxl-turbo": ReNoise(
        iterations=9, tolerance=0.0, weights_low=_mean(10, 1, 4), weights_high=_mean(10, 8, 10),
        lambda_pair=10.0, lambda_kl=0.055, noise_correction=0.14, source=f"{_TABLE_3}, SDXL Turbo",
    ),
    "lcm-sdxl": ReNoise(
        iterations=7, tolerance=0.0, weights_low=_mean(8, 1, 4), weights_high=_mean(8, 6, 8),
        lambda_pair=20.0, lambda_kl=0.075, source=f"{_TABLE_3}, LCM-LoRA",
    ),
}  # fmt: skip
