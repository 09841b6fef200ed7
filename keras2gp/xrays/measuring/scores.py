"""The predictions of one kernel: leave-one-out and test losses of each row and of subsets."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from keras2gp._util.arrays import Indices, Matrix, Targets, Vector
from keras2gp.errors import NumericalError
from keras2gp.gp.classification.classifier import GPClassifier
from keras2gp.gp.metrics import (
    calibration_error_by_chance,
    expected_calibration_error,
)
from keras2gp.gp.noise.noise_warnings import NoiseWarning
from keras2gp.gp.process.base import JitterWarning
from keras2gp.gp.process.student import Student
from keras2gp.gp.regression.regressor import GPRegressor
from keras2gp.xrays.rows import ScoredTargets

__all__ = ["SPREAD", "HalfScores", "Scores", "rounds_of", "score_kernel"]

SPREAD = 4
"""Halves whose nats are stored row by row: they say how much these vary in half of the rows."""

_SMALL = 2000
"""Up to this many rows fits run side by side, one core each: the threads of one decomposition wait
for each other at this size."""


@dataclass(frozen=True)
class HalfScores:
    """Mean losses of a Gaussian process that is fitted to one half of the rows.

    Attributes:
        error, nats: mean losses of its leave-one-out predictions; see Scores.
        evidence: log p(Y) in nats for each row.
        test_error: error of the test rows; None without any.
        rows: nats of each row, stored for the first SPREAD halves of a classification; else ().
    """

    error: float
    nats: float
    evidence: float
    test_error: float | None = None
    rows: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scores:
    """Losses of one kernel, with a noise and a scale of its own.

    Attributes:
        error: error of each row, predicted from all others: 1 for a wrong label, else 0; in a
            regression the squared error relative to the variance of the targets.
        nats: minus the log probability of the row's label, or of its targets.
        test_error: error of each test row, predicted from all rows; see `error`.
        parts: mean losses of halves of the rows.
        evidence: log p(Y) at the best scale, in nats for each row.
        calibration: expected calibration error of the leave-one-out probabilities; of a regression
            the share of targets outside of their intervals of 95%.
        calibration_by_chance: `calibration` of perfectly calibrated predictions.
        noise: noise variance relative to the mean variance of the kernel.
        jitter: jitter of a singular matrix, relative to the mean variance of the kernel.
    """

    error: tuple[float, ...]
    nats: tuple[float, ...]
    test_error: tuple[float, ...]
    parts: tuple[HalfScores, ...]
    evidence: float
    calibration: float
    calibration_by_chance: float
    noise: float
    jitter: float

    def state(self) -> dict[str, Any]:
        """The scores as data for JSON."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Scores:
        """The scores of a `state`; KeyError, TypeError or ValueError where it is malformed."""
        error, nats, test = (
            tuple(map(float, state[name])) for name in ("error", "nats", "test_error")
        )
        parts = tuple(
            HalfScores(**{**part, "rows": tuple(part.get("rows", ()))}) for part in state["parts"]
        )
        names = ("evidence", "calibration", "calibration_by_chance", "noise", "jitter")
        return cls(error, nats, test, parts, *(float(state[name]) for name in names))


def score_kernel(
    matrix: Matrix,
    targets: ScoredTargets,
    subsets: Sequence[Indices] = (),
    cross: Matrix | None = None,
) -> Scores:
    """The scores of a kernel.

    Args:
        matrix: kernel matrix of the rows, [N, N].
        targets: the targets.
        subsets: halves of the rows; the two of one halving follow each other.
        cross: kernel matrix of test rows and rows, [M, N]; None without test rows.

    Raises:
        NumericalError: the matrix is not positive definite.
        InputError: the targets are of one class.
    """

    def of_subset(number: int) -> HalfScores:
        rows = subsets[number]
        part = _Fit(matrix[np.ix_(rows, rows)], targets.y[rows], regression=targets.regression)
        error, nats = float(part.error.mean()), float(part.nats.mean())
        tested = None
        if cross is not None and targets.test is not None:
            tested = float(part.tested(cross[:, rows], targets.test).mean())
        is_stored = number < SPREAD and not targets.regression
        by_row = tuple(part.nats.tolist()) if is_stored else ()
        return HalfScores(error, nats, part.evidence, tested, by_row)

    with _side_by_side(len(targets.y)) as each:
        (whole,) = each(lambda y: _Fit(matrix, y, regression=targets.regression), [targets.y])
        parts = list(each(of_subset, range(len(subsets))))
    test: tuple[float, ...] = ()
    if cross is not None and targets.test is not None:
        test = tuple(whole.tested(cross, targets.test).tolist())
    unit = float(np.diagonal(matrix).mean(dtype=np.float64))
    return Scores(
        error=tuple(whole.error.tolist()),
        nats=tuple(whole.nats.tolist()),
        test_error=test,
        parts=tuple(parts),
        evidence=whole.evidence,
        calibration=whole.calibration,
        calibration_by_chance=whole.by_chance,
        noise=whole.gp.noise_variance_ / unit,
        jitter=whole.gp.jitter_report_.jitter,
    )


def rounds_of(fits: int, rows: int) -> int:
    """The number of fits of so many rows that go one after the other, of so many in all."""
    return -(-fits // (os.cpu_count() or 1)) if rows <= _SMALL else fits


@contextmanager
def _side_by_side(rows: int) -> Iterator[Callable[[Callable[[Any], Any], Iterable[Any]], Any]]:
    """Apply a function to each entry of a list, on one core each where fits are small."""
    with warnings.catch_warnings():  # here: filters are those of all threads
        for kind in (JitterWarning, NoiseWarning):  # they are numbers of the scores
            warnings.simplefilter("ignore", kind)
        if rows > _SMALL:
            yield map
            return
        with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            yield pool.map


class _Fit:
    """A Gaussian process of some rows, and the losses of its leave-one-out predictions."""

    def __init__(self, matrix: Matrix, y: Targets, *, regression: bool) -> None:
        self.regression = regression
        if regression:
            self.gp: Any = GPRegressor("precomputed")
        else:
            self.gp = GPClassifier("precomputed", probabilities="temperature", intercept=0.0)
        self.gp.fit(matrix, y, progress=False)
        if regression:
            self._of_regression(y)
        else:
            self._of_labels(y)
        if not np.isfinite(self.nats).all():
            raise NumericalError("a leave-one-out likelihood is not finite")

    def _of_labels(self, y: Vector) -> None:
        gp = self.gp
        means = gp.leave_one_out()[0]
        log_p = log_softmax(means / gp.temperature_, axis=1)
        self.error = (gp.classes_[means.argmax(axis=1)] != y).astype(np.float64)
        self.nats = -log_p[np.arange(len(y)), np.searchsorted(gp.classes_, y)]
        p = np.exp(log_p)
        p /= p.sum(axis=1, keepdims=True)
        self.calibration = expected_calibration_error(y, p, gp.classes_)
        self.by_chance = calibration_error_by_chance(p)
        # At the best factor s on the kernel, y^T A^-1 y / s is the number of targets.
        size, explained = gp.targets_.size, gp.scale_ * gp.targets_.size
        evidence = gp.log_marginal_likelihood_value_ + 0.5 * explained
        evidence -= 0.5 * size * (1.0 + np.log(gp.scale_))
        self.evidence = float(evidence) / len(y)

    def _of_regression(self, y: Targets) -> None:
        gp = self.gp
        mean, variance = (_columns(v) for v in gp.leave_one_out())
        columns = _columns(y)
        self._unit = columns.var(axis=0)
        self._unit = np.where(self._unit > 0.0, self._unit, 1.0)
        self.error = ((columns - mean) ** 2 / self._unit).mean(axis=1)
        self.nats = -_columns(gp.leave_one_out_log_density()).sum(axis=1)
        width = Student(gp.degrees_of_freedom_).left_out.width(0.95)
        outside = np.abs(columns - mean) > width * np.sqrt(variance)
        self.calibration, self.by_chance = float(outside.mean()), 0.05
        scale = float(np.log(gp.y_scale_).sum())
        self.evidence = gp.log_marginal_likelihood_value_ / len(y) - scale

    def tested(self, cross: Matrix, y: Targets) -> Vector:
        """Errors of test rows, [M]."""
        predicted = self.gp.predict(cross)
        if not self.regression:
            return np.asarray(predicted != y, np.float64)
        squares = (_columns(y) - _columns(predicted)) ** 2 / self._unit
        return np.asarray(squares.mean(axis=1))


def _columns(values: Any) -> Matrix:
    array = np.asarray(values, np.float64)
    return array[:, None] if array.ndim == 1 else array
