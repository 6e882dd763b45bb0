"""Noise levels and noise schedules.

For every sampler and model, a latent of this package is x_t = alpha_t x_0 + sigma_t eps with eps ~ N(0, I).

Variance-preserving models have alpha² + sigma² = 1, and flow models have alpha + sigma = 1. A variance-exploding latent
y = x_0 + s eps is rescaled to the variance-preserving latent x = y / sqrt(1 + s²).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """One noise level.

    Args:
        alpha: scale of x_0 in x_t.
        sigma: scale of the noise in x_t.
        time: timestep that is passed to the network, 0 … 1000.
    """

    alpha: float
    sigma: float
    time: float

    @classmethod
    def preserving(cls, alphas_cumprod: float, time: float) -> "Level":
        """Return the variance-preserving level with alpha² = alphas_cumprod and sigma² = 1 − alphas_cumprod.

        Source: DDPM, arXiv 2006.11239, eq. 4.
        """
        return cls(math.sqrt(alphas_cumprod), math.sqrt(1 - alphas_cumprod), time)

    @classmethod
    def exploding(cls, sigma: float, time: float) -> "Level":
        """Return the level of y = x_0 + sigma eps, rescaled to unit variance (EDM, arXiv 2206.00364, table 1)."""
        return cls(1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma), time)

    @classmethod
    def flow(cls, sigma: float, time: float) -> "Level":
        """Return the level of x = (1 − sigma) x_0 + sigma eps (rectified flow, arXiv 2209.03003)."""
        return cls(1 - sigma, sigma, time)


@dataclass(frozen=True)
class Schedule:
    """The noise levels of a sampler with n steps.

    Args:
        levels: the n + 1 levels, noisiest first. The last one is the clean end.
        arrivals: the n levels at which the steps end, if these differ from the next entries of `levels`. This happens
            with DDIM, which always takes strides of equal length, even if the timesteps are not evenly spaced.

    Raises:
        ValueError: if there are fewer than two levels, a value is not finite, or the noise does not decrease.
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
        """Return the levels (t, s) of each of the n steps, noisiest first."""
        return tuple(zip(self.levels[:-1], self.arrivals or self.levels[1:], strict=True))

    @classmethod
    def preserving(cls, alphas_cumprod: Iterable[float], times: Iterable[float]) -> "Schedule":
        """Build a schedule of variance-preserving levels, see `Level.preserving`."""
        return cls(tuple(Level.preserving(a, t) for a, t in zip(alphas_cumprod, times, strict=True)))

    @classmethod
    def flow(cls, sigmas: Iterable[float], times: Iterable[float]) -> "Schedule":
        """Build a schedule of flow levels, see `Level.flow`."""
        return cls(tuple(Level.flow(s, t) for s, t in zip(sigmas, times, strict=True)))
