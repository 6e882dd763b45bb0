"""Noise levels. Every latent of this package is x_t = alpha_t x_0 + sigma_t eps, eps ~ N(0, I), whatever its sampler or model.

Variance preserving models have alpha² + sigma² = 1, flow models alpha + sigma = 1; a variance exploding latent y = x_0 + s eps
is the variance preserving x = y / sqrt(1 + s²) in other units.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """One noise level: `alpha` and `sigma` as above, `time` the timestep that the network is told (0 … 1000)."""

    alpha: float
    sigma: float
    time: float


@dataclass(frozen=True)
class Schedule:
    """The n + 1 levels that n steps of a sampler visit, noisiest first; the last is the clean end.

    Raises ValueError if there are fewer than two levels, if a value is not finite or if noise does not decrease.
    """

    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        if len(self.levels) < 2:
            raise ValueError("a schedule needs at least one step: two levels")
        for level in self.levels:
            if not all(map(math.isfinite, (level.alpha, level.sigma, level.time))):
                raise ValueError(f"a schedule's levels must be finite, got {level}")
        for t, s in zip(self.levels, self.levels[1:], strict=False):
            if t.sigma * s.alpha <= s.sigma * t.alpha:  # sigma / alpha, without dividing by alpha_T = 0
                raise ValueError(f"noise must decrease from level to level, got {t} before {s}")

    @classmethod
    def preserving(cls, alphas_cumprod: Iterable[float], times: Iterable[float]) -> "Schedule":
        """Levels alpha² = alphas_cumprod, sigma² = 1 − alphas_cumprod (DDPM, arXiv 2006.11239, eq. 4)."""
        pairs = zip(alphas_cumprod, times, strict=True)
        return cls(tuple(Level(math.sqrt(a), math.sqrt(1 - a), time) for a, time in pairs))

    @classmethod
    def exploding(cls, sigmas: Iterable[float], times: Iterable[float]) -> "Schedule":
        """Levels of y = x_0 + s eps, rescaled to unit variance (EDM, arXiv 2206.00364, table 1)."""
        pairs = zip(sigmas, times, strict=True)
        return cls(tuple(Level(1 / math.hypot(1, s), s / math.hypot(1, s), time) for s, time in pairs))

    @classmethod
    def flow(cls, sigmas: Iterable[float], times: Iterable[float]) -> "Schedule":
        """Levels of x = (1 − s) x_0 + s eps (rectified flow, arXiv 2209.03003)."""
        return cls(tuple(Level(1 - s, s, time) for s, time in zip(sigmas, times, strict=True)))
