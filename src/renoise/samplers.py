"""Samplers: what one step makes of (x̂_0, ε̂) and fresh noise z,  x_s = A x̂_0 + B ε̂ + C z.

    DDIM(η)   A = α_s                      B = sqrt(σ_s² − C²)     C = η σ_s sqrt(1 − (α_t σ_s / α_s σ_t)²)
    DDPM      A = α_s β/σ_t² + κ α_t       B = κ σ_t               C = sqrt(β) σ_s/σ_t,  κ = sqrt(1 − β) σ_s²/σ_t²
    LCM       A = α_s (keep + skip α_t)    B = α_s skip σ_t        C = σ_s
    TCD(γ)    A = α_s                      B = α_s σ_d/α_d         C = sqrt(σ_s² − B²),  d the level at (1 − γ) of s's timestep

DDIM (arXiv 2010.02502, eq. 12 and 16): η = 0 is DDIM, Euler and flow-matching Euler; η = 1 is DDPM and ancestral Euler.
DDPM (arXiv 2006.11239, eq. 7) as it was first written, with β = 1 − ᾱ_t/ᾱ_s.
LCM (arXiv 2310.04378, appendix C; consistency models, arXiv 2303.01469): with u = scaling · time, skip = d²/(u² + d²) and
keep = u/sqrt(u² + d²), d the data's standard deviation; scaling = inf (skip 0, keep 1) is stochastic flow sampling.
TCD (arXiv 2402.19159, section 4): down to level d, then noised up to s; γ = 0 is DDIM.
"""

import math
from ctypes import c_float
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from renoise.schedule import Level


class Mix(NamedTuple):
    """x_s = A x̂_0 + B ε̂ + C z."""

    A: float
    B: float
    C: float


class Sampler(Protocol):
    """Anything that mixes x̂_0, ε̂ and fresh noise into the next latent."""

    def mix(self, t: Level, s: Level) -> Mix:
        """The coefficients of the step from the noisier level t to the cleaner level s."""
        ...


@dataclass(frozen=True)
class DDIM:
    """Denoising diffusion implicit models; `eta` from 0 (deterministic) to 1 (DDPM, ancestral Euler)."""

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {self.eta}")

    def mix(self, t: Level, s: Level) -> Mix:
        kept = t.alpha * s.sigma / (s.alpha * t.sigma)
        C = self.eta * s.sigma * math.sqrt(1 - kept * kept)
        return Mix(s.alpha, math.sqrt(max(s.sigma * s.sigma - C * C, 0.0)), C)


@dataclass(frozen=True)
class DDPM:
    """DDIM(1), but that ᾱ_t/ᾱ_s is a float32, as in a scheduler whose tables are, if `single`.

    Where steps are short β then lacks digits, and so do the scheduler's own latents.
    """

    single: bool = True

    def mix(self, t: Level, s: Level) -> Mix:
        ratio = (t.alpha / s.alpha) ** 2
        beta = 1 - (c_float(ratio).value if self.single else ratio)
        kept = math.sqrt(1 - beta) * (s.sigma / t.sigma) ** 2
        return Mix(s.alpha * beta / t.sigma**2 + kept * t.alpha, kept * t.sigma, math.sqrt(beta) * s.sigma / t.sigma)


@dataclass(frozen=True)
class LCM:
    """Multistep consistency sampling: jump to x̂_0, then noise it afresh."""

    timestep_scaling: float = 10.0
    sigma_data: float = 0.5

    def mix(self, t: Level, s: Level) -> Mix:
        if math.isinf(self.timestep_scaling):
            return Mix(s.alpha, 0.0, s.sigma)
        u = self.timestep_scaling * t.time
        skip = self.sigma_data**2 / (u * u + self.sigma_data**2)
        keep = u / math.hypot(u, self.sigma_data)
        return Mix(s.alpha * (keep + skip * t.alpha), s.alpha * skip * t.sigma, s.sigma)


@dataclass(frozen=True)
class TCD:
    """Trajectory consistency sampling; `gamma` from 0 (deterministic) to 1, the model's table of ᾱ tells the level between."""

    gamma: float
    alphas_cumprod: tuple[float, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must lie in [0, 1], got {self.gamma}")

    def mix(self, t: Level, s: Level) -> Mix:
        between = self.alphas_cumprod[int((1 - self.gamma) * s.time)]
        B = s.alpha * math.sqrt((1 - between) / between)
        return Mix(s.alpha, B, math.sqrt(max(s.sigma * s.sigma - B * B, 0.0)))
