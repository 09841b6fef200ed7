"""Rows added to a fit and removed from it, without a fit from scratch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple, Self, cast

import numpy as np

from keras2gp._util.arrays import (
    Array,
    Indices,
    InputsLike,
    Matrix,
    NoiseLike,
    Targets,
    TargetsLike,
    Vector,
    VectorLike,
)
from keras2gp._util.checks import whole_number
from keras2gp.errors import InputError
from keras2gp.gp.arguments.inputs import check_length
from keras2gp.gp.arguments.kernel_function import kernel_values
from keras2gp.gp.arguments.positions import by_row
from keras2gp.gp.arguments.rows import (
    RowNoise,
    observed_rows,
    row_noise,
    seen_targets,
    weights_of_rows,
)
from keras2gp.gp.process.base import GaussianProcess
from keras2gp.gp.process.evidence import log_evidence, output_factors
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.factor_updates import with_rows, without_rows
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.system import Fit

__all__ = ["UpdatedGaussianProcess"]


_ONE_FACTOR = "rows that come and go update one factor. Try: a new fit"


class _State(NamedTuple):
    """All that an update replaces besides the solution."""

    x_train_: Any
    observed_: Indices | None
    relative_noise_: Vector | None
    received: int


class UpdatedGaussianProcess(GaussianProcess):
    """A Gaussian process whose Cholesky factor follows when rows come and go."""

    def add_rows(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        y: TargetsLike,
        *,
        sample_weight: VectorLike = None,
        noise_variance: NoiseLike = None,
    ) -> Self:
        """Add inputs with their targets to the fit, as if they had been there from the start.

        The factor grows by N^2 operations for each row, and only the kernel between the new inputs
        and all is computed. Noise and jitter stay what they are: where they were chosen, a new
        fit might choose others. Targets are standardised anew, and probabilities fitted anew.

        There is no `partial_fit`: a fit holds all its rows, and grows with them.

        Args:
            X: new inputs; of a precomputed kernel their covariances with all rows, the new ones
                last, [k, N + k].
            y: their targets or labels, which may be of new classes.
            sample_weight: as for `fit`.
            noise_variance: of the new targets, where `fit` had one for each.

        Shapes:
            X [k, features] or [k, *shape]; y [k] or [k, C]; with positions as for `fit`.

        Returns:
            The estimator itself.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: an argument does not fit, or the solver keeps no factor.
            NumericalError: the larger matrix is not positive definite; nothing has changed then.

        >>> import numpy as np
        >>> from sklearn.gaussian_process.kernels import RBF
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor(RBF(1.0), noise_variance=0.1).fit([[0.0], [1.0]], [0.0, 1.0])
        >>> whole = GPRegressor(RBF(1.0), noise_variance=0.1)
        >>> whole = whole.fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
        >>> np.allclose(gp.add_rows([[2.0]], [2.0]).predict([[3.0]]), whole.predict([[3.0]]))
        True
        """
        factor, before = self._updated_factor(), self._received
        x, cross, corner = self._new_covariances(X, before)
        images = len(corner) // math.prod(self._positions)
        y = by_row(y, self._positions, images, outputs=True)
        if y is not None:
            check_length(corner, np.atleast_1d(np.asarray(y)), "targets")
        weights = weights_of_rows(sample_weight, self._positions, images)
        relative = self._new_noise(noise_variance, weights, len(corner))
        y, used = observed_rows(y, self.missing, weights)
        if self.missing == "ignore" and y is not None and (seen := seen_targets(y)) is not None:
            raise InputError(
                f"row {int((~seen).any(axis=1).argmax())} (counted from 0) of y lacks some outputs "
                f"and has others, which gives outputs matrices of their own: {_ONE_FACTOR}"
            )
        used = np.arange(len(corner)) if used is None else used
        values = self._new_values(y, None if x is None else self._rows(x)[used])
        cross, corner, relative = cross[used], corner[np.ix_(used, used)], relative[used]
        shift = self.noise_variance_ * relative + self.jitter_report_.added
        corner[np.diag_indices(len(used))] += shift
        error = relative_error(self.kernel_dtype_, factor.size + len(used))
        factor = with_rows(factor, cross, corner, error)
        count = before + images * math.prod(self._positions)
        observed = self.observed_
        if observed is not None or len(used) < count - before:
            old = np.arange(before) if observed is None else observed
            observed = np.concatenate([old, before + used])
        noises = self.relative_noise_
        if noises is not None or (relative != 1.0).any():
            old_noises = np.ones(self.system_.basis) if noises is None else noises
            noises = np.concatenate([old_noises, relative])
        x = None if x is None else np.concatenate([self.x_train_, x])
        state = _State(x, observed, noises, count)
        self._set_values(np.concatenate([self._values, values]), factor, state)
        return self

    def remove_rows(self, indices: VectorLike) -> Self:
        """Remove inputs from the fit, as if they had never been there.

        The factor is updated by (N - i)^2 operations for each row, i the first of them. Otherwise
        as `add_rows`.

        Args:
            indices: numbers of the inputs, among those of `fit` as `x_train_` has them.

        Returns:
            The estimator itself.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: an index is out of range or repeated, nothing would be left, or the solver
                keeps no factor.

        >>> import numpy as np
        >>> from sklearn.gaussian_process.kernels import RBF
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor(RBF(1.0), noise_variance=0.1)
        >>> gp = gp.fit([[0.0], [5.0], [1.0]], [0.0, 9.0, 1.0]).remove_rows([1])
        >>> whole = GPRegressor(RBF(1.0), noise_variance=0.1).fit([[0.0], [1.0]], [0.0, 1.0])
        >>> np.allclose(gp.predict([[3.0]]), whole.predict([[3.0]]))
        True
        """
        factor, positions = self._updated_factor(), math.prod(self._positions)
        images = self._received // positions
        gone = _row_numbers(indices, images)
        rows = (gone[:, None] * positions + np.arange(positions)).reshape(-1)
        left = np.delete(np.arange(self._received), rows)
        used = np.arange(self._received) if self.observed_ is None else self.observed_
        stays = np.isin(used, left)
        if not stays.any():
            raise InputError("no row with a target would be left of the fit")
        if not stays.all():
            factor = without_rows(factor, np.flatnonzero(~stays))
        observed = None if self.observed_ is None else np.searchsorted(left, used[stays])
        noises = None if self.relative_noise_ is None else self.relative_noise_[stays]
        x = None if self.x_train_ is None else np.delete(self.x_train_, gone, axis=0)
        self._set_values(self._values[stays], factor, _State(x, observed, noises, len(left)))
        return self

    @property
    def _values(self) -> Array:
        """Targets or labels of the rows of the fit, as they were before the fit."""
        raise NotImplementedError

    def _new_values(self, y: TargetsLike, rows: Any) -> Array:
        """Targets or labels of new rows, checked, as those of `_values`."""
        raise NotImplementedError

    def _set_values(self, values: Array, factor: CholeskyFactor, state: _State) -> None:
        """Solve for all targets or labels, and set the attributes of the fit."""
        raise NotImplementedError

    def _set_solution(self, targets: Targets, factor: CholeskyFactor, state: _State) -> None:
        alpha = factor.solve(targets)
        scaled = self.noise_curve_ is not None and not self._labels
        factors = output_factors(targets, alpha, len(targets)) if scaled else None
        fit = Fit(factor, alpha, alpha, factor.log_determinant, factor.report, self.kernel_dtype_)
        self.log_marginal_likelihood_value_ = log_evidence(targets, fit, factors, len(targets))
        self.targets_, self.alpha_, self.weights_ = targets, alpha, alpha
        self.system_, self.jitter_report_ = factor, factor.report
        self.x_train_, self.observed_ = state.x_train_, state.observed_
        self.relative_noise_ = state.relative_noise_
        if self.precomputed:
            self._set_input_shape((state.received,))
        reason = "the factor was updated by rows"
        self.solver_report_ = replace(self.solver_report_, reason=reason)

    @property
    def _received(self) -> int:
        """The number of rows that the fit received, with a target or without."""
        if self.x_train_ is None:
            return self.input_shape_[0]
        return len(self.x_train_) * math.prod(self._positions)

    def _updated_factor(self) -> CholeskyFactor:
        self._require_fitted()
        if self._by_output:
            gaps = self.observed_targets_ is not None
            cause = "lacks targets in rows" if gaps else "has a noise"
            raise InputError(
                f"each output {cause} of its own, and so has a matrix of its own: {_ONE_FACTOR}"
            )
        if not isinstance(self.system_, CholeskyFactor):
            raise InputError(
                f'solver "{self.solver_report_.solver}" keeps no Cholesky factor in float64, which '
                "is what follows rows that come and go. Try: solver='cholesky', or a new fit"
            )
        return self.system_

    def _new_covariances(self, x: InputsLike, before: int) -> tuple[Any, Matrix, Matrix]:
        """New inputs, and their covariances with the rows of the fit and with each other."""
        if not self.precomputed:
            images = self._new_inputs(x)
            rows = self._rows(images)
            count = len(rows)
            corner = kernel_values(self._covariance(rows), (count, count), "the kernel matrix")
            return images, self._cross(rows), corner.astype(np.float64)
        array = self._checked_inputs(x)
        if array.ndim != 2 or array.shape[1] != before + len(array):
            raise InputError(
                f"X has shape {array.shape}: expected [k, {before} + k], the covariances of k new "
                "rows with those of the fit and, last, with each other"
            )
        old = array[:, :before] if self.observed_ is None else array[:, self.observed_]
        parts = (old, array[:, before:])
        old, corner = (self._shifted(part).astype(np.float64) for part in parts)
        return None, old, corner

    def _new_noise(self, noise: Any, weights: Vector | None, rows: int) -> Vector:
        """The noise of new rows relative to noise_variance_, [k]."""
        own = bool(np.ndim(self.noise_variance))
        if own != (noise is not None):
            raise InputError(
                "noise_variance of the new rows is "
                + ("missing: `fit` had one for each row" if own else "given: `fit` had one for all")
            )
        if not own:
            given = RowNoise(1.0, None) if weights is None else row_noise(1.0, weights, rows)
            return np.ones(rows) if given.relative is None else given.relative
        whole = row_noise(np.broadcast_to(np.asarray(noise), (rows,)), weights, rows)
        common = cast("float", whole.common)
        variances = np.broadcast_to(np.asarray(whole.times(common)), (rows,))
        if not self.noise_variance_:
            if variances.any():
                raise InputError("every row of `fit` had noise 0: expected 0 for new rows too")
            return np.ones(rows)
        return variances / self.noise_variance_


def _row_numbers(indices: VectorLike, count: int) -> Indices:
    """Indices as sorted numbers of rows, below `count` and each of them once; or InputError."""
    listed = [
        whole_number(f"indices[{place}]", index, 0, count - 1)
        for place, index in enumerate(np.atleast_1d(indices))
    ]
    if not listed or len(set(listed)) < len(listed):
        raise InputError("indices: expected at least one number, and each of them once")
    return np.array(sorted(listed), dtype=np.intp)
