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

    @classmethod
    def preserving(cls, alphas_cumprod: float, time: float) -> "Level":
        """alpha² = alphas_cumprod, sigma² = 1 − alphas_cumprod (DDPM, arXiv 2006.11239, eq. 4)."""
        return cls(math.sqrt(alphas_cumprod), math.sqrt(1 - alphas_cumprod), time)

    @classmethod
    def exploding(cls, sigma: float, time: float) -> "Level":
        """The level of y = x_0 + sigma eps, rescaled to unit variance (EDM, arXiv 2206.00364, table 1)."""
        return cls(1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma), time)

    @classmethod
    def flow(cls, sigma: float, time: float) -> "Level":
        """The level of x = (1 − sigma) x_0 + sigma eps (rectified flow, arXiv 2209.03003)."""
        return cls(1 - sigma, sigma, time)


@dataclass(frozen=True)
class Schedule:
    """The n + 1 levels that n steps of a sampler visit, noisiest first; the last is the clean end.

    `arrivals`, if any, are the n levels at which the steps end where those are not the next ones: DDIM takes strides of one
    length, also over timesteps that are not evenly spaced. Raises ValueError if there are fewer than two levels, if a value is
    not finite or if noise does not decrease.
    """

    levels: tuple[Level, ...]
    arrivals: tuple[Level, ...] = ()

    def __post_init__(self) -> None:
        if len(self.levels) < 2:
            raise ValueError("a schedule needs at least one step: two levels")
        for level in (*self.levels, *self.arrivals):
            if not all(map(math.isfinite, (level.alpha, level.sigma, level.time))):
                raise ValueError(f"a schedule's levels must be finite, got {level}")
        for t, s in (*zip(self.levels, self.levels[1:], strict=False), *self.pairs):
            if t.sigma * s.alpha <= s.sigma * t.alpha:  # sigma / alpha, without dividing by alpha_T = 0
                raise ValueError(f"noise must decrease from level to level, got {t} before {s}")

    @property
    def pairs(self) -> tuple[tuple[Level, Level], ...]:
        """(t, s) of each of the n steps, noisiest first."""
        return tuple(zip(self.levels[:-1], self.arrivals or self.levels[1:], strict=True))

    @classmethod
    def preserving(cls, alphas_cumprod: Iterable[float], times: Iterable[float]) -> "Schedule":
        """Variance preserving levels, see `Level.preserving`."""
        return cls(tuple(Level.preserving(a, t) for a, t in zip(alphas_cumprod, times, strict=True)))

    @classmethod
    def flow(cls, sigmas: Iterable[float], times: Iterable[float]) -> "Schedule":
        """Flow levels, see `Level.flow`."""
        return cls(tuple(Level.flow(s, t) for s, t in zip(sigmas, times, strict=True)))
