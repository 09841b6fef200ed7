"""Student's t as the distribution of a prediction whose scale was learned from the targets.

Math: y ~ N(0, s A), p(s) = 1 / s; for a new observation of mean m and variance s v
    (y* - m) / (q v / R)^(1/2) ~ t_R,  q = y^T A^-1 y

R is the number of targets N, which makes this exact. Where their mean was subtracted R is N - 1,
which leaves out by what that mean is uncertain. The deviation of t_R exists for R > 2: fewer rows
count as LEAST, and their intervals are too narrow.

References:
    O'Hagan and Forster, Kendall's Advanced Theory of Statistics 2B, section 11.3: unknown scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from keras2gp._util.arrays import Array, Matrix, Vector

__all__ = ["LEAST", "Student"]

LEAST = 3
"""The fewest degrees of freedom that a deviation exists of, in whole numbers."""


@dataclass(frozen=True)
class Student:
    """Student's t, by its degrees of freedom and with a deviation of 1; a Gaussian for infinity.

    Attributes:
        degrees: degrees of freedom, more than 2; of outputs that have different numbers of targets
            those of each, [C], which belong to the last axis of values.
    """

    degrees: float | Vector = math.inf

    @classmethod
    def of_rows(cls, rows: int | Vector, *, shifted: bool) -> Student:
        """The distribution after so many targets, whose mean was subtracted from them or not."""
        if np.ndim(rows):
            return cls(np.maximum(np.asarray(rows, dtype=np.float64) - shifted, LEAST))
        return cls(float(max(rows - shifted, LEAST)))

    @property
    def gaussian(self) -> bool:
        """Whether this is a Gaussian."""
        return bool(np.isinf(self.degrees).all())

    @property
    def left_out(self) -> Student:
        """The distribution of one of the targets, given all others."""
        fewer = np.maximum(np.asarray(self.degrees) - 1.0, float(LEAST))
        return Student(fewer if fewer.ndim else float(fewer))

    @property
    def divisor(self) -> float | Vector:
        """d in the variance q v / d of a prediction, q = y^T A^-1 y."""
        return self.degrees - 2.0

    @property
    def _unit(self) -> float | Vector:
        """The scale of the t distribution whose deviation is 1."""
        unit = np.sqrt(1.0 - 2.0 / np.asarray(self.degrees))
        return unit if unit.ndim else float(unit)

    def width(self, level: float) -> float | Vector:
        """Deviations on either side of the mean, between which lies a share `level`."""
        upper = 0.5 + level / 2.0
        if self.gaussian:
            return float(special.ndtri(upper))
        width = self._unit * special.stdtrit(self.degrees, upper)
        return width if np.ndim(width) else float(width)

    def log_density(self, distance: Array, deviation: Array) -> Array:
        """Log density at a distance from the mean; -infinity off the mean for a deviation of 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            square = (distance / deviation) ** 2
            if self.gaussian:
                kernel = -0.5 * square - 0.5 * math.log(2.0 * math.pi)
            else:
                half = 0.5 * (self.degrees + 1.0)
                constant = special.gammaln(half) - special.gammaln(0.5 * self.degrees)
                constant = constant - 0.5 * np.log(math.pi * (self.degrees - 2.0))
                kernel = constant - half * np.log1p(square / (self.degrees - 2.0))
            density = kernel - np.log(deviation)
        certain = np.where(distance == 0.0, math.inf, -math.inf)
        result: Array = np.where(deviation > 0.0, density, certain)
        return result

    def factors(
        self, factors: Vector, rows: int | Vector, count: int, random: np.random.RandomState
    ) -> Matrix:
        """Factors on the covariance of draws from a Gaussian, [C, count], which make draws of t.

        Math: factor_c N / chi^2_R, whose mean is factor_c N / (R - 2)

        Args:
            factors: y_c^T A^-1 y_c / N of each output, [C]; 1 where the scale is known.
            rows: N, or the number of targets of each output, [C].
            count: number of draws.
            random: the generator.
        """
        if self.gaussian:
            return np.repeat(factors[:, None], count, axis=1)
        degrees = np.asarray(self.degrees)
        squares = random.chisquare(
            degrees.reshape(-1, 1) if degrees.ndim else self.degrees, (len(factors), count)
        )
        result: Matrix = (factors * rows)[:, None] / squares
        return result
