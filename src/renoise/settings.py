"""The method's settings, and the rule that picks them for a pipeline never seen before."""

import inspect
import math
from dataclasses import dataclass, replace
from typing import Any

FIRST_GUESSES = ("latent", "epsilon", "posterior")
FEW_STEPS = 8  # distilled models run 1 … 8 steps


@dataclass(frozen=True)
class ReNoise:
    """Settings of ReNoise (arXiv 2403.14602). Latents have about unit variance; tolerances and lengths are relative to it.

    iterations      K: at most K + 1 evaluations a step; 0 is plain DDIM inversion
    tolerance       an image whose residual ‖z^(k) − z^(k−1)‖/√numel falls below needs no further iteration; 0: iterate to the end
    weights_low     w_1 … w_{K+1} for timesteps below `boundary`; None: the last iterate alone. An image that has converged gives
    weights_high    its last iterate the weights of those it no longer needs: the mean of a convergent sequence has the same limit
    boundary        timestep (0 … 1000) between the two
    lambda_pair     strengths of the edit losses (regularize.py), applied to every prediction with w_k > 0 of an iterated step
    lambda_kl
    correction      noise correction of stochastic samplers: how far z may move, as a fraction of √numel; 0 none, inf override;
                    inf with the first guess "posterior" closes a stochastic step without iterating
    anderson        mix in the two answers before the last (Anderson acceleration, m = 2): fewer iterations
    first_guess     "latent": z^(0) = x_s, as in the paper; "epsilon": x_s carried on along the last step's ε̂, which is free;
                    "posterior": x_0 noised as the sampler would have noised it, and z with it (Step.posterior)
    source          where these values come from

    ValueError names the field that is out of range or would silently do nothing.
    """

    iterations: int = 30
    tolerance: float = 0.0025
    weights_low: tuple[float, ...] | None = None
    weights_high: tuple[float, ...] | None = None
    boundary: float = 250.0
    lambda_pair: float = 0.0
    lambda_kl: float = 0.0
    correction: float = 0.0
    anderson: bool = False
    first_guess: str = "latent"
    source: str = ""

    def __post_init__(self) -> None:
        if type(self.iterations) is not int or not 0 <= self.iterations <= 1000:
            raise ValueError(f"iterations must be an integer in 0 … 1000, got {self.iterations}")
        for name in ("tolerance", "boundary", "lambda_pair", "lambda_kl", "correction"):
            value = getattr(self, name)
            if not value >= 0 or (math.isinf(value) and name != "correction"):
                raise ValueError(f"{name} must be a finite number, not negative, got {value}")
        for name in ("weights_low", "weights_high"):
            weights = getattr(self, name)
            if weights is None:
                continue
            object.__setattr__(self, name, tuple(weights))
            if len(weights) != self.iterations + 1:
                raise ValueError(f"{name} needs iterations + 1 = {self.iterations + 1} weights, got {len(weights)}")
            if min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=1e-6):
                raise ValueError(f"{name} must be the weights of a mean, not negative and of sum 1, got {weights}")
        if self.first_guess not in FIRST_GUESSES:
            raise ValueError(f"first_guess must be one of {', '.join(FIRST_GUESSES)}, got {self.first_guess!r}")
        if self.anderson and self.iterations < 2:
            raise ValueError("anderson mixes answers: it does nothing with iterations < 2, set it to False")

    def weights(self, time: float) -> tuple[float, ...]:
        """w_1 … w_{K+1} of the step from timestep `time`."""
        return (self.weights_low if time < self.boundary else self.weights_high) or (0.0,) * self.iterations + (1.0,)

    @classmethod
    def for_pipeline(cls, pipe: Any, num_inference_steps: int | None = None) -> "ReNoise":
        """Settings for a loaded diffusers pipeline that nobody has tuned; `source` says what was chosen and why.

        Every kind of model iterates until it has converged; few long steps get more iterations. Stochastic samplers get their
        noises from the posterior, which then close their steps without iterating. `num_inference_steps` is what will be run;
        None: the pipeline's own default.
        """
        if not hasattr(pipe, "scheduler"):
            raise ValueError(
                f"{type(pipe).__name__} has no scheduler of its own: load the pipeline that draws the picture"
            )
        steps = num_inference_steps or inspect.signature(type(pipe).__call__).parameters["num_inference_steps"].default
        config, sampler = pipe.scheduler.config, type(pipe.scheduler).__name__
        stochastic = any(word in sampler for word in ("Ancestral", "DDPM", "LCM", "TCD", "SCM")) or bool(
            config.get("stochastic_sampling")
        )
        flow = (
            "Flow" in sampler
            or config.get("prediction_type") == "flow_prediction"
            or bool(config.get("use_flow_sigmas"))
        )
        kind = "stochastic" if stochastic else "deterministic"
        kind = f"{'few' if steps <= FEW_STEPS else 'many'} steps ({steps}), {kind} {sampler}"
        kind += ", flow matching" if flow else ""
        chosen = CLOSED if stochastic else ADAPTIVE
        return replace(chosen, iterations=chosen.iterations if steps <= FEW_STEPS else 10, source=f"rule for {kind}")

    @property
    def regularized(self) -> bool:
        """Whether an edit loss is on."""
        return self.lambda_pair > 0 or self.lambda_kl > 0


# For stochastic samplers: only the last step is left to iterate, and few-step models come back well before it has converged
# (benchmarks/few_step.py --search, on orchard-turbo and orchard-lcm: looser than this costs tenths of a dB, tighter gains one).
CLOSED = ReNoise(tolerance=0.01, anderson=True, first_guess="posterior", correction=math.inf)
# benchmarks/tolerance.py is the search for its tolerance; benchmarks/reconstruction.py, on other photographs, settled the last
# digit
ADAPTIVE = ReNoise(anderson=True, first_guess="epsilon")
