"""Linear systems of outputs that lack targets in different rows: A_c of the rows that output c has.

Outputs with the same missing rows and the same noise share a factor. A row that an output lacks has
no part in its A_c: entries of results for it are 0 where they are weights, and NaN where they are
variances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self, cast

import numpy as np

from keras2gp._util.arrays import Array, Indices, Matrix, Noise, Targets
from keras2gp._util.progress import Advance
from keras2gp._util.text import size_text
from keras2gp.errors import InputError, ModelFileError, NumericalError
from keras2gp.gp.solvers.cholesky import cholesky_memory
from keras2gp.gp.solvers.factor import PREFIX, CholeskyFactor
from keras2gp.gp.solvers.output_factors import NOISES, FactorsOfOutputs, fit_of, noises_of, worst_of
from keras2gp.gp.solvers.panels import PackedPanels
from keras2gp.gp.solvers.report import CholeskyReport
from keras2gp.gp.solvers.system import Fit, Origin, Solver
from keras2gp.gp.solvers.training import Training

__all__ = [
    "PatternFactors",
    "distinct_patterns",
    "fit_patterns",
    "pattern_memory",
    "require_pattern_memory",
]

_FACTORS, _SEEN = "pattern_factors.npy", "patterns.npy"
_REMEDY = (
    "outputs that lack the same rows, fewer outputs at a time with gram= so that the kernel is "
    "computed once, or fewer training inputs"
)


class PatternFactors(FactorsOfOutputs):
    """A Cholesky factor for each distinct pair of missing rows and noise.

    Args:
        factors: of A_c on its own rows, one for each of `distinct_patterns`, in that order.
        noises: the noise variances of the outputs, [1, C], or of rows and outputs, [N, C].
        seen: whether a row has a target of an output, [N, C].
    """

    closed_form: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = (_FACTORS, NOISES, _SEEN)

    def __init__(self, factors: Sequence[CholeskyFactor], noises: Matrix, seen: Array) -> None:
        first, of = distinct_patterns(seen, noises)
        super().__init__(factors, noises, of)
        self.seen = seen
        self._rows = [np.flatnonzero(seen[:, output]) for output in first]

    @property
    def basis(self) -> int:
        """N."""
        return len(self.seen)

    def explained(self, cross: Matrix) -> Matrix:
        """diag(k* A_c^-1 k*^T), [M, C], for k* of shape [M, N]."""
        pairs = zip(self._factors, self._rows, strict=True)
        parts = [factor.explained(cross[:, rows]) for factor, rows in pairs]
        return np.stack(parts, axis=-1)[..., self._of]

    def explained_covariance(self, cross: Matrix) -> Array:
        """k* A_c^-1 k*^T, [M, M, C], for k* of shape [M, N]."""
        pairs = zip(self._factors, self._rows, strict=True)
        parts = [factor.explained_covariance(cross[:, rows]) for factor, rows in pairs]
        return np.stack(parts, axis=-1)[..., self._of]

    def inverse_diagonal(self, rows: Indices) -> Matrix:
        """Entries of the diagonals of A_c^-1, [rows, C]; NaN where a target is missing."""
        parts = np.full((self.basis, len(self._factors)), np.nan)
        for number, (factor, own) in enumerate(zip(self._factors, self._rows, strict=True)):
            parts[own, number] = factor.inverse_diagonal()
        result: Matrix = parts[rows][:, self._of]
        return result

    def solve(self, b: Matrix) -> Matrix:
        """A_c^-1 b_c for b of shape [N, C k], the k columns of an output side by side.

        Entries of b of missing targets are not read, and 0 in the result.
        """
        parts = b.reshape(len(b), len(self._of), -1)
        result = np.zeros_like(parts)
        for number, (factor, rows) in enumerate(zip(self._factors, self._rows, strict=True)):
            own = np.flatnonzero(self._of == number)
            place = np.ix_(rows, own)
            some = parts[place]
            result[place] = factor.solve(some.reshape(len(rows), -1)).reshape(some.shape)
        return result.reshape(b.shape)

    def corner_rows(self, count: int) -> Indices:
        """The rows of `kernel_corner`: the first that output 0 has."""
        return self._rows[int(self._of[0])][:count]

    def kernel_corner(self, count: int, added: Noise) -> Matrix:
        """The kernel matrix of `corner_rows`; `added` is not read: the factors know it."""
        number = int(self._of[0])
        own = self.added[:, 0]
        own = own[self._rows[number]] if len(own) > 1 else own
        return self._factors[number].kernel_corner(count, own if len(own) > 1 else float(own[0]))

    def state(self) -> dict[str, Array]:
        """See LinearSystem.state."""
        vectors = np.concatenate([factor.as_vector() for factor in self._factors])
        return {
            _FACTORS: vectors,
            NOISES: self._noises,
            _SEEN: self.seen.astype(np.float64),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Array], origin: Origin) -> Self:
        """See LinearSystem.from_state."""
        noises, stated = noises_of(state, origin), state[_SEEN]
        if (
            stated.ndim != 2
            or len(stated) != len(origin.training)
            or not np.isin(stated, (0.0, 1.0)).all()
        ):
            raise ModelFileError(f"{_SEEN} is not of these training inputs")
        seen: Array = stated == 1.0
        if not (seen.any(axis=0).all() and seen.any(axis=1).all()):
            raise ModelFileError(f"{_SEEN} has a row or an output without any target")
        if noises.shape[1] != seen.shape[1]:
            raise ModelFileError(f"{NOISES} holds no noise variances of these outputs")
        first, _ = distinct_patterns(seen, noises)
        vectors, factors, start = state[_FACTORS], [], 0
        if vectors.ndim != 1 or not np.isfinite(vectors).all():
            raise ModelFileError(f"{_FACTORS} does not hold factors")
        for rows in seen[:, first].sum(axis=0):
            tile = int(vectors[start + 2 : start + 3].sum())
            if not 0 < tile <= rows:
                raise ModelFileError(f"{_FACTORS} does not hold a factor for each pattern")
            length = PREFIX + PackedPanels.length(int(rows), tile)
            part = np.array(vectors[start : start + length])
            factors.append(CholeskyFactor.from_vector(part, _FACTORS))
            if factors[-1].size != rows:
                raise ModelFileError(f"{_FACTORS} has a factor of another number of rows")
            start += length
        if start != len(vectors):
            raise ModelFileError(f"{_FACTORS} does not hold a factor for each pattern")
        return cls(factors, noises, seen)


def distinct_patterns(seen: Array, noises: Matrix | None = None) -> tuple[Indices, Indices]:
    """The first output of each distinct pattern and noise, and the number of each output's, [C].

    Args:
        seen: whether a row has a target of an output, [N, C].
        noises: of the outputs, [1, C], or of rows and outputs, [N, C]; None for one of all.

    Noises of rows that an output lacks do not tell patterns apart: they are common noises times one
    number a row.
    """
    columns = seen.astype(np.float64)
    whole = columns if noises is None else np.concatenate([columns, noises])
    _, first, of = np.unique(whole, axis=1, return_index=True, return_inverse=True)
    return first, of.reshape(-1)


def pattern_memory(training: Training, seen: Array, noises: Matrix | None) -> int:
    """Bytes beyond the kernel matrix of `fit_patterns`: all factors, and one matrix of its rows.

    Args:
        training: the covariance of the training inputs.
        seen: whether a row has a target of an output, [N, C].
        noises: as for `distinct_patterns`.
    """
    counts = seen[:, distinct_patterns(seen, noises)[0]].sum(axis=0).tolist()
    size = np.dtype(training.dtype).itemsize
    factors = sum(cholesky_memory(count) for count in counts)
    return int(factors + size * max(counts) ** 2 + 16 * seen.size)


def require_pattern_memory(training: Training, seen: Array, noises: Matrix | None) -> int:
    """The bytes of `pattern_memory`; InputError where they are not available."""
    needed, count = pattern_memory(training, seen, noises), len(distinct_patterns(seen, noises)[0])
    factors = "a Cholesky factor" if count == 1 else f"{count} Cholesky factors"
    what = f"{factors}, one for each pattern of missing targets,"
    training.require(needed, what, _REMEDY)
    return needed


def fit_patterns(
    training: Training,
    targets: Targets,
    noises: Matrix,
    seen: Array,
    solver: Solver,
    *,
    jitter: float | str,
    progress: Advance | None,
) -> tuple[Fit, str]:
    """Solve for targets [N, C], each output on the rows that it has; the way, in words.

    Args:
        training: the covariance of the training inputs, with its matrix.
        targets: Y, [N, C]; entries that are missing are not read.
        noises: of the outputs, [1, C], or of rows and outputs, [N, C].
        seen: whether a row has a target of an output, [N, C].
        solver: the solver of a factor.
        jitter: "auto", or a number relative to the mean diagonal.
        progress: called with (steps done, steps in all); it starts again for each factor.

    Raises:
        InputError: the memory does not suffice, or the matrix is no array.
        NumericalError: a matrix is not positive definite.
    """
    if not isinstance(training.given, np.ndarray):
        raise InputError(
            f"gram is a {type(training.given).__name__}, and outputs of y lack targets in "
            "different rows, each of which takes a part of the matrix. Try: an array (gram[:, :] "
            "of a store), or a fit for each column of y"
        )
    require_pattern_memory(training, seen, noises)
    first, of = distinct_patterns(seen, noises)
    alpha, factors, reports, dtype = np.zeros_like(targets), [], [], ""
    for number, output in enumerate(first):
        own, rows = np.flatnonzero(of == number), np.flatnonzero(seen[:, output])
        noise = noises[rows, output] if len(noises) > 1 else float(noises[0, output])
        part = training.of_rows(None if len(rows) == len(seen) else rows)
        try:
            fit = solver.fit(part, targets[np.ix_(rows, own)], noise, jitter, progress)
        except NumericalError as error:
            if len(rows) == len(seen):
                raise
            which = f"output {output}, among the {len(rows)} rows that have a target of it"
            raise NumericalError(f"{which}: {error}") from error
        reports.append(_of_all_rows(fit.report, rows))
        alpha[np.ix_(rows, own)], dtype = fit.alpha, fit.dtype
        factors.append(cast("CholeskyFactor", fit.system))
    system = PatternFactors(factors, noises, seen)
    patterns = len(distinct_patterns(seen)[0])
    many = "a factor" if len(factors) == 1 else f"{len(factors)} factors"
    many += " for one pattern" if patterns == 1 else f" for {patterns} patterns"
    how = f"{many} of missing targets, {size_text(sum(one.nbytes for one in factors))}"
    return fit_of(system, alpha, worst_of(reports), dtype), how


def _of_all_rows(report: CholeskyReport, rows: Indices) -> CholeskyReport:
    """A report on some rows whose numbers are those of all rows of the fit."""
    steps = tuple(replace(step, index=int(rows[step.index])) for step in report.steps)
    pair = report.duplicate
    pair = None if pair is None else (int(rows[pair[0]]), int(rows[pair[1]]))
    return replace(report, steps=steps, duplicate=pair)
