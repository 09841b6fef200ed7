"""The training inputs of an estimator, as it remembers them, and checks of inputs by them."""

from __future__ import annotations

from typing import Any

import sklearn.exceptions
from sklearn.base import BaseEstimator

from keras2gp._util.arrays import Images, Vector
from keras2gp.errors import InputError, NotFittedError
from keras2gp.gp.inputs import (
    check_feature_names,
    check_inputs,
    check_kernel,
    check_texts,
    takes_text,
)

__all__ = ["FittedInputs", "UnfittedError", "rows_of_batch"]

# Bytes of the float64 covariances between one batch of predictions and the training inputs.
_BATCH_BYTES = 64 * 2**20


class UnfittedError(NotFittedError, sklearn.exceptions.NotFittedError):  # type: ignore[misc]
    """Predictions were asked of an estimator before `fit`; also an error of scikit-learn."""


class FittedInputs(BaseEstimator):  # type: ignore[misc]
    """The shape and the names of the training inputs, and the checks of inputs by them."""

    kernel: Any
    input_shape_: tuple[int, ...]

    @property
    def precomputed(self) -> bool:
        """Whether X is a kernel matrix, and not inputs."""
        return isinstance(self.kernel, str)

    def _set_input_shape(self, shape: tuple[int, ...]) -> None:
        self.input_shape_ = shape
        if len(shape) == 1:
            self.n_features_in_ = shape[0]
        elif hasattr(self, "n_features_in_"):
            del self.n_features_in_

    def _set_feature_names(self, names: Vector | None) -> None:
        if names is not None:
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _require_fitted(self) -> None:
        if not hasattr(self, "input_shape_"):
            raise UnfittedError(f"this {type(self).__name__} is not fitted: call fit first")

    def _checked_inputs(self, x: Any) -> Images:
        check_kernel(self.kernel)
        if takes_text(self.kernel):
            return check_texts(x)
        return check_inputs(x, precomputed=self.precomputed)

    def _new_inputs(self, x: Any) -> Images:
        """Inputs of the shape of the training inputs; InputError for any others."""
        self._require_fitted()
        check_feature_names(self, x)
        array = self._checked_inputs(x)
        if array.shape[1:] != self.input_shape_:
            raise InputError(
                f"X has {array.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.input_shape_[0]} features as input"
                if array.ndim == 2 and len(self.input_shape_) == 1
                else f"X has shape {array.shape}; fitted to [N, *{list(self.input_shape_)}]"
            )
        return array


def rows_of_batch(numbers: int) -> int:
    """Inputs that are predicted together, of so many float64 numbers each."""
    return max(1, _BATCH_BYTES // (8 * numbers))
