"""Prediction types: how to compute x̂_0 and ε̂ from x_t and the network's output. Both are linear in x_t and out.

type           x̂_0                     ε̂                      source
epsilon        x/α − (σ/α) out         out                     DDPM, arXiv 2006.11239
v_prediction   α x − σ out             σ x + α out             progressive distillation, arXiv 2202.00512
flow           x − σ out               x + α out               rectified flow, arXiv 2209.03003 (out = ε − x_0)
sample         out                     x/σ − (α/σ) out
"""

from collections.abc import Callable
from dataclasses import dataclass

from renoise.schedule import Level

Pair = tuple[float, float]


@dataclass(frozen=True)
class Prediction:
    """A prediction type (parameterization) of a network.

    `x_0(level)` and `epsilon(level)` return the coefficients of (x_t, out). They raise ValueError where none exist: for
    epsilon at alpha = 0, and for sample at sigma = 0.
    """

    name: str
    _x_0: Callable[[Level], Pair]
    _epsilon: Callable[[Level], Pair]

    def x_0(self, level: Level) -> Pair:
        """Return (p, q) such that x̂_0 = p x_t + q out."""
        return self._coefficients(self._x_0, level)

    def epsilon(self, level: Level) -> Pair:
        """Return (p, q) such that ε̂ = p x_t + q out."""
        return self._coefficients(self._epsilon, level)

    def _coefficients(self, function: Callable[[Level], Pair], level: Level) -> Pair:
        try:
            return function(level)
        except ZeroDivisionError:
            raise ValueError(f"a network of type {self.name} is undefined at {level}: use v_prediction there") from None


EPSILON = Prediction("epsilon", lambda t: (1 / t.alpha, -t.sigma / t.alpha), lambda t: (0.0, 1.0))
V_PREDICTION = Prediction("v_prediction", lambda t: (t.alpha, -t.sigma), lambda t: (t.sigma, t.alpha))
FLOW = Prediction("flow", lambda t: (1.0, -t.sigma), lambda t: (1.0, t.alpha))
SAMPLE = Prediction("sample", lambda t: (0.0, 1.0), lambda t: (1 / t.sigma, -t.alpha / t.sigma))

PREDICTIONS = {p.name: p for p in (EPSILON, V_PREDICTION, FLOW, SAMPLE)}
