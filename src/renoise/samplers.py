"""Samplers. One step combines x̂_0, ε̂ and fresh noise z:  x_s = A x̂_0 + B ε̂ + C z.

    DDIM(η)   A = α_s                      B = sqrt(σ_s² − C²)     C = η σ_s sqrt(1 − (α_t σ_s / α_s σ_t)²)
    DDPM      A = α_s β/σ_t² + κ α_t       B = κ σ_t               C = sqrt(β) σ_s/σ_t,  κ = sqrt(1 − β) σ_s²/σ_t²
    LCM       A = α_s (c_out + c_skip α_t) B = α_s c_skip σ_t      C = σ_s
    TCD(γ)    A = α_s                      B = α_s σ_d/α_d         C = sqrt(σ_s² − B²)

DDIM (arXiv 2010.02502, eq. 12 and 16). η = 0 gives DDIM, Euler and flow-matching Euler; η = 1 gives DDPM and ancestral
    Euler.
DDPM (arXiv 2006.11239, eq. 7) in its original form, with β = 1 − ᾱ_t/ᾱ_s.
LCM (arXiv 2310.04378, appendix C; consistency models, arXiv 2303.01469). With u = timestep_scaling · time and the
    standard deviation d of the data, c_skip = d²/(u² + d²) and c_out = u/sqrt(u² + d²). An infinite timestep_scaling
    (c_skip = 0, c_out = 1) gives stochastic flow sampling.
TCD (arXiv 2402.19159, section 4). The step denoises to level d, at (1 − γ) times the timestep of s, then adds noise up
    to s. γ = 0 gives DDIM.
"""

import math
from ctypes import c_float
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from renoise.schedule import Level


class Mix(NamedTuple):
    """Coefficients of a sampler step, x_s = A x̂_0 + B ε̂ + C z."""

    A: float
    B: float
    C: float


class Sampler(Protocol):
    """A sampler: any object that gives the coefficients of a step."""

    def mix(self, t: Level, s: Level) -> Mix:
        """Return the coefficients of the step from the noisier level t to the cleaner level s."""
        ...


@dataclass(frozen=True)
class DDIM:
    """Denoising diffusion implicit models.

    Args:
        eta: amount of fresh noise, from 0 (deterministic) to 1 (DDPM, ancestral Euler).

    Raises:
        ValueError: if `eta` is not in [0, 1].
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {self.eta}")

    def mix(self, t: Level, s: Level) -> Mix:
        ratio = t.alpha * s.sigma / (s.alpha * t.sigma)
        C = self.eta * s.sigma * math.sqrt(1 - ratio * ratio)
        return Mix(s.alpha, math.sqrt(max(s.sigma * s.sigma - C * C, 0.0)), C)


@dataclass(frozen=True)
class DDPM:
    """Denoising diffusion probabilistic models, mathematically the same as DDIM(1).

    Args:
        single: round ᾱ_t/ᾱ_s to float32 (single precision), as schedulers with float32 tables do. For short steps β
            then loses precision, exactly as in the scheduler.
    """

    single: bool = True

    def mix(self, t: Level, s: Level) -> Mix:
        ratio = (t.alpha / s.alpha) ** 2
        beta = 1 - (c_float(ratio).value if self.single else ratio)
        kappa = math.sqrt(1 - beta) * (s.sigma / t.sigma) ** 2
        return Mix(s.alpha * beta / t.sigma**2 + kappa * t.alpha, kappa * t.sigma, math.sqrt(beta) * s.sigma / t.sigma)


@dataclass(frozen=True)
class LCM:
    """Multistep consistency sampling: predict x̂_0, then add fresh noise to it.

    Args:
        timestep_scaling: factor of the timestep in c_skip and c_out; inf gives stochastic flow sampling.
        sigma_data: standard deviation of the data.
    """

    timestep_scaling: float = 10.0
    sigma_data: float = 0.5

    def mix(self, t: Level, s: Level) -> Mix:
        if math.isinf(self.timestep_scaling):
            return Mix(s.alpha, 0.0, s.sigma)
        u = self.timestep_scaling * t.time
        c_skip = self.sigma_data**2 / (u * u + self.sigma_data**2)
        c_out = u / math.hypot(u, self.sigma_data)
        return Mix(s.alpha * (c_out + c_skip * t.alpha), s.alpha * c_skip * t.sigma, s.sigma)


@dataclass(frozen=True)
class TCD:
    """Trajectory consistency sampling.

    Args:
        gamma: amount of fresh noise, from 0 (deterministic) to 1.
        alphas_cumprod: the model's table of ᾱ over its training timesteps, used to look up the intermediate level d.

    Raises:
        ValueError: if `gamma` is not in [0, 1].
    """

    gamma: float
    alphas_cumprod: tuple[float, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must lie in [0, 1], got {self.gamma}")

    def mix(self, t: Level, s: Level) -> Mix:
        alpha_bar_d = self.alphas_cumprod[int((1 - self.gamma) * s.time)]
        B = s.alpha * math.sqrt((1 - alpha_bar_d) / alpha_bar_d)
        variance = s.sigma * s.sigma - B * B
        return Mix(s.alpha, B, math.sqrt(variance) if variance > 1e-12 else 0.0)  # below: rounding, not noise
