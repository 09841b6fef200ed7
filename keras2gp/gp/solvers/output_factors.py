"""The parts that linear systems share whose outputs have matrices of their own, A_c."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from keras2gp._util.arrays import Array, Indices, Matrix, Vector
from keras2gp.errors import ModelFileError
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.report import CholeskyReport
from keras2gp.gp.solvers.system import Fit, LinearSystem, Origin

__all__ = ["NOISES", "FactorsOfOutputs", "OfOutputs", "fit_of", "noises_of", "worst_of"]

NOISES = "noises.npy"
"""The file of the noise variances of the outputs."""


class OfOutputs(LinearSystem, Protocol):
    """A linear system with a matrix for each output."""

    @property
    def log_determinants(self) -> Vector:
        """log det A_c, [C]."""


class FactorsOfOutputs:
    """A Cholesky factor for each distinct matrix among the A_c.

    Args:
        factors: of the distinct matrices.
        noises: the noise variances of the outputs, [1, C], or of rows and outputs, [N, C].
        of: the number of the factor of each output, [C].
    """

    def __init__(self, factors: Sequence[CholeskyFactor], noises: Matrix, of: Indices) -> None:
        self._factors, self._noises, self._of = tuple(factors), noises, of

    @property
    def added(self) -> Matrix:
        """Noise and jitter on the diagonal of every A_c, [1, C] or [N, C]."""
        jitters = np.array([factor.report.added for factor in self._factors])
        result: Matrix = self._noises + jitters[self._of]
        return result

    @property
    def log_determinants(self) -> Vector:
        """log det A_c, [C]."""
        values = np.array([factor.log_determinant for factor in self._factors])
        return values[self._of]


def noises_of(state: Mapping[str, Array], origin: Origin) -> Matrix:
    """The noises of a state; ModelFileError where they are none of these training inputs."""
    noises = state[NOISES]
    if noises.ndim != 2 or len(noises) not in (1, len(origin.training)) or not noises.size:
        raise ModelFileError(f"{NOISES} has shape {noises.shape}")
    if noises.dtype.kind != "f" or not np.isfinite(noises).all() or noises.min() < 0.0:
        raise ModelFileError(f"{NOISES} holds no noise variances")
    return noises


def worst_of(reports: Sequence[CholeskyReport]) -> CholeskyReport:
    """The report of the factor that is nearest to singular."""
    return max(reports, key=lambda report: (report.jitter, -report.smallest_pivot))


def fit_of(system: OfOutputs, alpha: Matrix, report: CholeskyReport, dtype: str) -> Fit:
    """The fit of a system: its determinant is the mean of the outputs', which count C times."""
    determinant = float(system.log_determinants.mean())
    return Fit(system, alpha, alpha, determinant, report, dtype)
