"""What a network's output means: how (x_t, out) reads as (x̂_0, ε̂), both linear in x_t and out.

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
    """A parameterisation: `x_0(level)` and `epsilon(level)` give the coefficients of (x_t, out).

    epsilon at alpha = 0 and sample at sigma = 0 have no such coefficients: ValueError.
    """

    name: str
    _x_0: Callable[[Level], Pair]
    _epsilon: Callable[[Level], Pair]

    def x_0(self, level: Level) -> Pair:
        """(p, q) with x̂_0 = p x_t + q out."""
        return self._read(self._x_0, level)

    def epsilon(self, level: Level) -> Pair:
        """(p, q) with ε̂ = p x_t + q out."""
        return self._read(self._epsilon, level)

    def _read(self, coefficients: Callable[[Level], Pair], level: Level) -> Pair:
        try:
            return coefficients(level)
        except ZeroDivisionError:
            raise ValueError(f"a network of type {self.name} says nothing at {level}: use v_prediction there") from None


EPSILON = Prediction("epsilon", lambda t: (1 / t.alpha, -t.sigma / t.alpha), lambda t: (0.0, 1.0))
V_PREDICTION = Prediction("v_prediction", lambda t: (t.alpha, -t.sigma), lambda t: (t.sigma, t.alpha))
FLOW = Prediction("flow", lambda t: (1.0, -t.sigma), lambda t: (1.0, t.alpha))
SAMPLE = Prediction("sample", lambda t: (0.0, 1.0), lambda t: (1 / t.sigma, -t.alpha / t.sigma))

PREDICTIONS = {p.name: p for p in (EPSILON, V_PREDICTION, FLOW, SAMPLE)}
