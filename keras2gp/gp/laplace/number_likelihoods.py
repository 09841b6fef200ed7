"""Likelihoods of numbers: counts, outliers, and targets that are cut off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import gammaln, log_ndtr

from keras2gp._util.arrays import Array, Matrix, TargetsLike, Vector
from keras2gp._util.checks import is_number
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.laplace.base import LOG_ROOT, Likelihood, check_positive, numbers_of

__all__ = ["Poisson", "StudentT", "Tobit"]


@dataclass(frozen=True)
class Poisson(Likelihood):
    """Counts, whose rate is exp(f).

    Attributes:
        name: "poisson".

    >>> import numpy as np
    >>> from keras2gp.gp import Poisson
    >>> Poisson().response(np.zeros((1, 1)))
    array([1.])
    """

    name: ClassVar[str] = "poisson"

    def observed(self, y: TargetsLike, variance: float) -> tuple[Likelihood, Array, Vector | None]:
        """See Likelihood.observed."""
        counts = numbers_of(y)
        if (counts < 0.0).any() or (counts != np.floor(counts)).any():
            raise InputError(
                'y holds values that are no counts, 0 or more, of likelihood="poisson"'
            )
        return self, counts, None

    def value(self, f: Matrix, y: Array) -> Vector:
        """See Likelihood.value."""
        with np.errstate(over="ignore"):
            result: Vector = y * f[:, 0] - np.exp(f[:, 0]) - gammaln(y + 1.0)
        return result

    def gradient(self, f: Matrix, y: Array) -> Matrix:
        """See Likelihood.gradient."""
        result: Matrix = y[:, None] - np.exp(f)
        return result

    def weights(self, f: Matrix, y: Array) -> Matrix:
        """See Likelihood.weights."""
        result: Matrix = np.exp(f)
        return result

    def response(self, f: Matrix) -> Array:
        """See Likelihood.response: the rate, which is the median of the posterior's."""
        result: Array = np.exp(f[:, 0])
        return result


@dataclass(frozen=True)
class StudentT(Likelihood):
    """Robust regression: y = f + scale t, t of Student's distribution.

    It is not log-concave: the mode that is found can be one of several.

    Args:
        df: degrees of freedom.
        scale: in the units of y.

    >>> import numpy as np
    >>> from keras2gp.gp import StudentT
    >>> StudentT(df=1.0).value(np.zeros((1, 1)), np.zeros(1)).round(4)
    array([-1.1447])
    """

    df: float = 4.0
    scale: float = 1.0
    name: ClassVar[str] = "student"

    def __post_init__(self) -> None:
        check_positive("df", self.df)
        check_positive("scale", self.scale)

    def observed(self, y: TargetsLike, variance: float) -> tuple[Likelihood, Array, Vector | None]:
        """See Likelihood.observed."""
        return self, numbers_of(y), None

    def value(self, f: Matrix, y: Array) -> Vector:
        """See Likelihood.value."""
        v, s = self.df, self.scale
        constant = gammaln((v + 1.0) / 2.0) - gammaln(v / 2.0) - 0.5 * math.log(v * math.pi)
        rest = (y - f[:, 0]) / s
        result: Vector = constant - math.log(s) - 0.5 * (v + 1.0) * np.log1p(rest**2 / v)
        return result

    def gradient(self, f: Matrix, y: Array) -> Matrix:
        """See Likelihood.gradient."""
        rest = y[:, None] - f
        result: Matrix = (self.df + 1.0) * rest / (self.df * self.scale**2 + rest**2)
        return result

    def weights(self, f: Matrix, y: Array) -> Matrix:
        """See Likelihood.weights; negative far from f."""
        square, core = (y[:, None] - f) ** 2, self.df * self.scale**2
        result: Matrix = (self.df + 1.0) * (core - square) / (core + square) ** 2
        return result


@dataclass(frozen=True)
class Tobit(Likelihood):
    """Censored regression: y = f + scale e, e standard normal, cut off at limits.

    A target at or below `lower` says that the value lies there or below; at or above `upper`
    likewise.

    Args:
        scale: standard deviation of the noise.
        lower: None for no limit.
        upper: None for no limit.

    >>> import numpy as np
    >>> from keras2gp.gp import Tobit
    >>> np.exp(Tobit(lower=0.0).value(np.zeros((1, 1)), np.zeros(1)))
    array([0.5])
    """

    scale: float = 1.0
    lower: float | None = None
    upper: float | None = None
    name: ClassVar[str] = "tobit"

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)
        low = -math.inf if self.lower is None else self.lower
        high = math.inf if self.upper is None else self.upper
        if not (is_number(low) and is_number(high) and low < high):
            raise InputError(
                f"lower is {received_text(self.lower)} and upper {received_text(self.upper)}: "
                "expected numbers, the first below the second, or None"
            )

    def observed(self, y: TargetsLike, variance: float) -> tuple[Likelihood, Array, Vector | None]:
        """See Likelihood.observed."""
        return self, numbers_of(y), None

    def value(self, f: Matrix, y: Array) -> Vector:
        """See Likelihood.value."""
        side, z = self._sides(f[:, 0], y)
        exact = -0.5 * z**2 - LOG_ROOT - math.log(self.scale)
        return np.where(side == 0, exact, log_ndtr(z))

    def gradient(self, f: Matrix, y: Array) -> Matrix:
        """See Likelihood.gradient."""
        side, z = self._sides(f[:, 0], y)
        result: Matrix = np.where(side == 0, z, side * _hazard(z))[:, None] / self.scale
        return result

    def weights(self, f: Matrix, y: Array) -> Matrix:
        """See Likelihood.weights."""
        side, z = self._sides(f[:, 0], y)
        hazard = _hazard(z)
        result: Matrix = np.where(side == 0, 1.0, hazard * (hazard + z))[:, None] / self.scale**2
        return result

    def _sides(self, f: Vector, y: Array) -> tuple[Array, Vector]:
        """-1 below, 1 above, 0 between the limits; and the standardised distance from there."""
        below = np.zeros(len(y), bool) if self.lower is None else y <= self.lower
        above = np.zeros(len(y), bool) if self.upper is None else y >= self.upper
        side = above.astype(int) - below
        edge = np.where(below, self.lower or 0.0, np.where(above, self.upper or 0.0, y))
        distance = (edge - f) / self.scale
        return side, np.where(above, -distance, distance)


def _hazard(z: Vector) -> Vector:
    """phi(z) / Phi(z)."""
    result: Vector = np.exp(-0.5 * z**2 - LOG_ROOT - log_ndtr(z))
    return result
