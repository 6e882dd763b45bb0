"""One sampler step as one affine map, and that map solved for each of its unknowns (ReNoise, arXiv 2403.14602, eq. 1-2).

    denoise:  x_s = a x_t + b out + c z           out = network(x_t, t), z ~ N(0, I)
    renoise:  x_t = (x_s − b out − c z) / a       the exact inverse, given out
    noise:    z   = (x_s − a x_t − b out) / c     the closed form of noise correction

With x̂_0 = p_0 x_t + q_0 out and ε̂ = p_ε x_t + q_ε out (prediction.py) and x_s = A x̂_0 + B ε̂ + C z (samplers.py),
a = A p_0 + B p_ε, b = A q_0 + B q_ε, c = C. In the paper's letters phi = a, psi = b, rho = c.
"""

import math
from dataclasses import dataclass, field

from torch import Tensor

from renoise.prediction import Prediction
from renoise.samplers import Mix, Sampler
from renoise.schedule import Level, Schedule

SMALLEST_A = 1e-3  # below, an error in x_s would come back a thousandfold


@dataclass(frozen=True)
class Step:
    """The step from level t (noisier) to level s (cleaner). Latents, outputs and noises share one shape (B, ...).

    Coefficients are Python floats (doubles): they multiply tensors of any dtype without changing it.
    """

    t: Level
    s: Level
    mix: Mix
    prediction: Prediction
    a: float = field(init=False)
    b: float = field(init=False)
    c: float = field(init=False)

    def __post_init__(self) -> None:
        (p_0, q_0), (p_eps, q_eps) = self.prediction.x_0(self.t), self.prediction.epsilon(self.t)
        object.__setattr__(self, "a", self.mix.A * p_0 + self.mix.B * p_eps)
        object.__setattr__(self, "b", self.mix.A * q_0 + self.mix.B * q_eps)
        object.__setattr__(self, "c", self.mix.C)

    @property
    def stochastic(self) -> bool:
        """Whether the step draws fresh noise."""
        return self.c > 0

    def noise_from(self, noises: Tensor | None, i: int) -> Tensor | None:
        """Return step number i's z among the noises (m, B, ...) of a run's stochastic steps; None if it draws none."""
        return noises[i] if noises is not None and self.stochastic else None

    def denoise(self, x_t: Tensor, out: Tensor, z: Tensor | None = None) -> Tensor:
        """x_s, from x_t and the network's output there; z is the fresh noise of a stochastic step."""
        return self._add_noise(self.a * x_t + self.b * out, z, self.c)

    def renoise(self, x_s: Tensor, out: Tensor, z: Tensor | None = None) -> Tensor:
        """x_t, from x_s and the network's output at x_t (eq. 2). ValueError where the step forgets x_t (a near 0)."""
        if abs(self.a) < SMALLEST_A:
            raise ValueError(
                f"the step from {self.t} to {self.s} forgets x_t: it has no inverse. Try a deterministic sampler"
            )
        return self._add_noise(x_s - self.b * out, z, -self.c) / self.a

    def noise(self, x_t: Tensor, x_s: Tensor, out: Tensor) -> Tensor:
        """The z that makes the step from x_t end in x_s exactly. ValueError for a deterministic step (c = 0)."""
        if not self.stochastic:
            raise ValueError(f"the step from {self.t} to {self.s} draws no noise: there is none to correct")
        return (x_s - self.a * x_t - self.b * out) / self.c

    def required(self, x_t: Tensor, x_s: Tensor, z: Tensor | None = None) -> Tensor:
        """The network output that would make the step from x_t end in x_s exactly."""
        return self._add_noise(x_s - self.a * x_t, z, -self.c) / self.b

    def epsilon(self, x_t: Tensor, out: Tensor) -> Tensor:
        """ε̂, the noise that the network sees in x_t."""
        p, q = self.prediction.epsilon(self.t)
        return p * x_t + q * out

    def velocity(self, x_t: Tensor, out: Tensor) -> Tensor:
        """ε̂ − x̂_0, the direction from the picture to the noise that the network sees in x_t."""
        (p_0, q_0), (p_eps, q_eps) = self.prediction.x_0(self.t), self.prediction.epsilon(self.t)
        return (p_eps - p_0) * x_t + (q_eps - q_0) * out

    def output(self, x_t: Tensor, epsilon: Tensor) -> Tensor:
        """The network output that would mean ε̂ = epsilon. ValueError where the output says nothing of ε̂ (v at alpha = 0)."""
        p, q = self.prediction.epsilon(self.t)
        if q == 0:
            raise ValueError(f"at {self.t} the output of a {self.prediction.name} network says nothing about the noise")
        return (epsilon - p * x_t) / q

    def extrapolate(self, x_s: Tensor, epsilon: Tensor, z: Tensor | None = None) -> Tensor:
        """Continue x_s along a known ε̂ -> the x_t in which the network would see ε̂ = epsilon. No evaluation is needed."""
        A, B, C = self.mix
        x_0 = self._add_noise(x_s - B * epsilon, z, -C) / A
        return self.t.alpha * x_0 + self.t.sigma * epsilon

    def posterior(self, x_0: Tensor, x_s: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and z as the sampler would have drawn them on its way to x_s, had the network seen x_0 in x_t; w ~ N(0, I) decides.

        The noise n in x_s = A x_0 + √(B² + C²) n is split: ε = (B n + C w)/√(B² + C²) was in x_t, z = (C n − B w)/√(B² + C²)
        came after. Both are white if n is, and a deterministic step leaves n as it is. For s noisier than the clean end.
        """
        A, B, C = self.mix
        size = math.hypot(B, C)
        n = (x_s - A * x_0) / size
        return self.t.alpha * x_0 + self.t.sigma * (B / size * n + C / size * w), C / size * n - B / size * w

    def _add_noise(self, x: Tensor, z: Tensor | None, scale: float) -> Tensor:
        if not self.stochastic:
            return x
        if z is None:
            raise ValueError(f"the step from {self.t} to {self.s} is stochastic: pass its noise z")
        return x + scale * z


def plan(schedule: Schedule, sampler: Sampler, prediction: Prediction) -> tuple[Step, ...]:
    """The steps of a sampler over a schedule's levels, noisiest first."""
    return tuple(Step(t, s, sampler.mix(t, s), prediction) for t, s in schedule.pairs)
