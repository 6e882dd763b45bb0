"""One sampler step as an affine map, solved for each of its unknowns.

Source: ReNoise, arXiv 2403.14602, eq. 1-2.

    denoise:  x_s = a x_t + b out + c z           out = network(x_t, t), z ~ N(0, I)
    renoise:  x_t = (x_s − b out − c z) / a       the exact inverse, given out
    noise:    z   = (x_s − a x_t − b out) / c     the closed form of noise correction

With x̂_0 = p_0 x_t + q_0 out and ε̂ = p_ε x_t + q_ε out (prediction.py) and x_s = A x̂_0 + B ε̂ + C z (samplers.py),
a = A p_0 + B p_ε, b = A q_0 + B q_ε, c = C. The paper writes phi for a, psi for b and rho for c.
"""

import math
from dataclasses import dataclass, field

from torch import Tensor

from renoise.prediction import Prediction
from renoise.samplers import Mix, Sampler
from renoise.schedule import Level, Schedule

SMALLEST_A = 1e-3  # a smaller a would amplify an error in x_s more than a thousandfold


@dataclass(frozen=True)
class Step:
    """The step from the noisier level t to the cleaner level s.

    Latents, network outputs and noises all have the same shape (B, ...). The coefficients a, b and c are Python floats,
    so multiplying a tensor by them keeps its dtype.

    Args:
        t: the noisier level.
        s: the cleaner level.
        mix: coefficients A, B, C of the sampler.
        prediction: prediction type of the network.
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
        """Return whether the step draws fresh noise."""
        return self.c > 0

    def noise_from(self, noises: Tensor | None, i: int) -> Tensor | None:
        """Return the noise z of step i from all noises (m, B, ...) of a run, or None if the step draws no noise."""
        return noises[i] if noises is not None and self.stochastic else None

    def denoise(self, x_t: Tensor, out: Tensor, z: Tensor | None = None) -> Tensor:
        """Compute x_s from x_t, the network's output at x_t and, for a stochastic step, its fresh noise z."""
        return self._add_noise(self.a * x_t + self.b * out, z, self.c)

    def renoise(self, x_s: Tensor, out: Tensor, z: Tensor | None = None) -> Tensor:
        """Compute x_t from x_s, the network's output at x_t and, for a stochastic step, its fresh noise z (eq. 2).

        Raises:
            ValueError: if a is close to 0, so that x_s does not depend on x_t.
        """
        if abs(self.a) < SMALLEST_A:
            raise ValueError(
                f"the step from {self.t} to {self.s} forgets x_t and has no inverse: try a deterministic sampler"
            )
        return self._add_noise(x_s - self.b * out, z, -self.c) / self.a

    def noise(self, x_t: Tensor, x_s: Tensor, out: Tensor) -> Tensor:
        """Compute the noise z for which the step from x_t ends exactly at x_s.

        Raises:
            ValueError: if the step is deterministic (c = 0).
        """
        if not self.stochastic:
            raise ValueError(f"the step from {self.t} to {self.s} draws no noise, so there is none to correct")
        return (x_s - self.a * x_t - self.b * out) / self.c

    def required_output(self, x_t: Tensor, x_s: Tensor, z: Tensor | None = None) -> Tensor:
        """Compute the network output for which the step from x_t ends exactly at x_s."""
        return self._add_noise(x_s - self.a * x_t, z, -self.c) / self.b

    def epsilon(self, x_t: Tensor, out: Tensor) -> Tensor:
        """Compute ε̂, the noise that the network predicts in x_t."""
        p, q = self.prediction.epsilon(self.t)
        return p * x_t + q * out

    def velocity(self, x_t: Tensor, out: Tensor) -> Tensor:
        """Compute the velocity ε̂ − x̂_0, the predicted direction from the picture to the noise."""
        (p_0, q_0), (p_eps, q_eps) = self.prediction.x_0(self.t), self.prediction.epsilon(self.t)
        return (p_eps - p_0) * x_t + (q_eps - q_0) * out

    def output(self, x_t: Tensor, epsilon: Tensor) -> Tensor:
        """Compute the network output that corresponds to ε̂ = epsilon.

        Raises:
            ValueError: if ε̂ does not depend on the output at this level (v_prediction at alpha = 0).
        """
        p, q = self.prediction.epsilon(self.t)
        if q == 0:
            raise ValueError(f"at {self.t} the output of a {self.prediction.name} network does not determine the noise")
        return (epsilon - p * x_t) / q

    def extrapolate(self, x_s: Tensor, epsilon: Tensor, z: Tensor | None = None) -> Tensor:
        """Compute the x_t in which the network would predict ε̂ = epsilon. Needs no network evaluation."""
        A, B, C = self.mix
        x_0 = self._add_noise(x_s - B * epsilon, z, -C) / A
        return self.t.alpha * x_0 + self.t.sigma * epsilon

    def posterior(self, x_0: Tensor, x_s: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Draw x_t and z from their joint posterior given x_s and x_0, assuming that the network predicts x_0 at x_t.

        The noise n in x_s = A x_0 + √(B² + C²) n is split into the noise ε = (B n + C w)/√(B² + C²) of x_t and the
        fresh noise z = (C n − B w)/√(B² + C²). Both are white if n is white. For a deterministic step, ε = n.

        Args:
            x_0: clean latent (B, ...).
            x_s: latent (B, ...) at level s, which must not be the clean end.
            w: standard normal noise (B, ...) that selects the sample.
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
    """Return the steps of a sampler over the levels of a schedule, noisiest first."""
    return tuple(Step(t, s, sampler.mix(t, s), prediction) for t, s in schedule.pairs)
