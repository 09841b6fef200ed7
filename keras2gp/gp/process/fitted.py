"""The training inputs of an estimator, as it remembers them, and checks of inputs by them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.exceptions
from sklearn.base import BaseEstimator, clone, is_classifier

from keras2gp._util.arrays import Array, GramLike, Images, InputsLike, Targets, Vector
from keras2gp._util.paths import as_path
from keras2gp.errors import InputError, ModelFileError, NotFittedError, PriorError, one_line
from keras2gp.fit_record import FitRecord
from keras2gp.gp.arguments.inputs import check_feature_names, check_inputs, check_texts
from keras2gp.gp.arguments.kernel_function import check_kernel, takes_text
from keras2gp.gp.process.fit_files import save_fit
from keras2gp.gp.process.out_of_distribution import InputRange, RangeWarning

__all__ = ["FittedInputs", "UnfittedError", "rows_of_batch"]

# Bytes of the float64 covariances between one batch of predictions and the training inputs.
_BATCH_BYTES = 64 * 2**20
_KERNEL = "kernel__"
"""The beginning of a setting of the kernel, in scikit-learn's notation."""


class UnfittedError(NotFittedError, sklearn.exceptions.NotFittedError):  # type: ignore[misc]
    """Predictions were asked of an estimator before `fit`; also an error of scikit-learn."""


class FittedInputs(BaseEstimator):  # type: ignore[misc]
    """The shape and the names of the training inputs, and the checks of inputs by them."""

    kernel: Any
    input_shape_: tuple[int, ...]
    x_train_: Images | None
    targets_: Targets
    input_range_: InputRange | None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.precomputed
        tags.input_tags.three_d_array = not self.precomputed
        return tags

    def __sklearn_clone__(self) -> Any:
        # A kernel is a function: a clone shares it, unless it is one of scikit-learn's kernels,
        # which are estimators themselves. Compiled kernels are expensive to copy.
        settings = self.get_params(deep=False)
        if hasattr(self.kernel, "get_params"):
            settings["kernel"] = clone(self.kernel)
        return type(self)(**settings)

    @property
    def precomputed(self) -> bool:
        """Whether X is a kernel matrix, and not inputs."""
        return isinstance(self.kernel, str)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings; with deep=True the variances of the kernel's layers too.

        Args:
            deep: whether to name the variances, kernel__LAYER__weight and kernel__LAYER__bias.

        Returns:
            The settings by name.
        """
        settings: dict[str, Any] = super().get_params(deep=deep)
        if deep and _has_layers(self.kernel):
            for layer, variances in self.kernel.parameters.items():
                settings[f"kernel__{layer}__weight"] = variances.weight
                settings[f"kernel__{layer}__bias"] = variances.bias
        return settings

    def set_params(self, **params: Any) -> Any:
        """Change settings, also variances of the kernel's layers, as GridSearchCV does.

        The kernel itself is not changed: the estimator takes another one, without compiling again.

        Args:
            params: settings by name; kernel__LAYER__weight and kernel__LAYER__bias for the layers
                of a kernel of keras2gp, where LAYER may be a pattern, as for with_parameters.

        Returns:
            The estimator itself.

        Raises:
            PriorError: there is no such layer or setting of the kernel, or a value is no variance.

        >>> import keras, keras2gp
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="dense")])
        >>> gp = keras2gp.GPRegressor(keras2gp.convert(model))
        >>> gp.set_params(kernel__dense__weight=3.0).kernel.parameters
        {'dense': LayerVariances(weight=3.0, bias=0.0)}
        """
        kernel = params.get("kernel", self.kernel)
        ours = [name for name in params if name.startswith(_KERNEL)] if _has_layers(kernel) else []
        super().set_params(**{k: v for k, v in params.items() if k not in ours})
        for name in ours:
            layer, _, field = name.removeprefix(_KERNEL).rpartition("__")
            if not layer:
                raise PriorError(
                    f"{name} is no setting of a kernel. Try: kernel__LAYER__weight or "
                    "kernel__LAYER__bias, the variances of a layer"
                )
            self.kernel = self.kernel.with_parameters({layer: {field: params[name]}})
        return self

    def save(self, directory: str | Path) -> None:
        """Write the fit, with its kernel, as the command `fit` does; `keras2gp.load` reads it.

        DIR/kernel is what `Kernel.save` writes, DIR/head what `save_head` writes, and DIR/fit.json
        says what the fit is of. The commands evaluate, predict, export and plot take the directory.
        A kernel that is none of keras2gp's is not saved: `load` takes it as `kernel=`.

        Args:
            directory: where to; a fit that it holds is replaced at the end.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: labels that JSON cannot hold (anything but strings, numbers and booleans).
            ModelFileError: the directory holds something else than a fit.
            StoreError: the directory cannot be written, or holds a file that is none of a fit's.

        >>> import keras, keras2gp, tempfile
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> kernel = keras2gp.convert(model, overrides={"*": (1.0, 1.0)})
        >>> gp = keras2gp.GPRegressor(kernel, 0.1).fit([[0.0], [1.0]], [0.0, 1.0])
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     gp.save(directory + "/fit")
        ...     again = keras2gp.load(directory + "/fit")
        >>> bool(again.predict([[0.5]]) == gp.predict([[0.5]]))
        True
        """
        self._require_fitted()
        record = FitRecord(
            task="classification" if is_classifier(self) else "regression",
            model=_name_of(self.kernel),
            source="arrays of Python",
            identity="",
            rows=len(self.targets_ if self.x_train_ is None else self.x_train_),
            sha256="",
        )
        save_fit(self, as_path("directory", directory), record)

    def settings_state(self) -> dict[str, Any]:
        """The settings without the kernel, as data for JSON; `save` uses it.

        Raises:
            NotImplementedError: always, here.
        """
        raise NotImplementedError

    @classmethod
    def settings_from_state(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a `settings_state`; KeyError and the like where it is malformed.

        Args:
            state: what `settings_state` gave.

        Returns:
            Arguments of the class.

        Raises:
            InputError: a setting is out of range.
            NotImplementedError: always, here.
        """
        raise NotImplementedError

    def fit_state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The facts of a fit as data for JSON, and its arrays by file name; `save` uses it.

        Raises:
            NotImplementedError: always, here.
        """
        raise NotImplementedError

    def restore_fit(
        self, facts: Mapping[str, Any], arrays: Mapping[str, Array], gram: GramLike
    ) -> None:
        """Set the attributes of a fit from its `fit_state`; `load_head` uses it.

        Malformed facts raise KeyError, TypeError, ValueError and the like.

        Args:
            facts: the first part of a fit_state.
            arrays: the second part.
            gram: the matrix of the training inputs, if it exists already.

        Raises:
            ModelFileError: the arrays do not fit each other.
            NotImplementedError: always, here.
        """
        raise NotImplementedError

    def _set_input_shape(self, shape: tuple[int, ...]) -> None:
        """Set the shape of the inputs, whose training inputs are set already."""
        self.input_shape_ = shape
        self.input_range_ = InputRange.of(self.x_train_)
        if len(shape) == 1:
            self.n_features_in_ = shape[0]
        elif hasattr(self, "n_features_in_"):
            del self.n_features_in_

    def _set_feature_names(self, names: Vector | None) -> None:
        if names is not None:
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _names_state(self) -> dict[str, Any]:
        """The names of the features as data for JSON; empty where they have none."""
        named = hasattr(self, "feature_names_in_")
        return {"feature_names": self.feature_names_in_.tolist()} if named else {}

    def _restore_names(self, facts: Mapping[str, Any], features: int) -> None:
        """Set the names of a `_names_state` among the facts. Raises: ModelFileError for others."""
        names = facts.get("feature_names")
        if names is not None and not (
            len(names) == features and all(isinstance(name, str) for name in names)
        ):
            raise ModelFileError("the arrays do not fit each other")
        self._set_feature_names(None if names is None else np.array(names, dtype=object))

    def _require_fitted(self) -> None:
        if not hasattr(self, "input_shape_"):
            raise UnfittedError(f"this {type(self).__name__} is not fitted: call fit first")

    def _checked_inputs(self, x: InputsLike) -> Images:
        check_kernel(self.kernel)
        if takes_text(self.kernel):
            return check_texts(x)
        return check_inputs(x, precomputed=self.precomputed)

    def _inputs_beside(self, x: InputsLike, gram: GramLike) -> Images | None:
        """Training inputs; None where `gram` stands in the place of a precomputed X.

        Raises:
            InputError: the arguments do not fit each other.
        """
        if not self.precomputed or gram is None:
            return self._checked_inputs(x)
        if x is not None:
            raise InputError("with kernel='precomputed' the matrix is either X or gram: one")
        return None

    def _new_inputs(self, x: InputsLike) -> Images:
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
        if self.input_range_ is not None and (told := self.input_range_.warning(array)):
            warnings.warn(told, RangeWarning, stacklevel=4)
        return array


def rows_of_batch(numbers: int) -> int:
    """Inputs that are predicted together, of so many float64 numbers each."""
    return max(1, _BATCH_BYTES // (8 * numbers))


def _has_layers(kernel: Any) -> bool:
    """Whether a kernel is one of keras2gp's, whose layers have variances."""
    return hasattr(kernel, "with_parameters") and hasattr(kernel, "parameters")


def _name_of(kernel: Any) -> str:
    """The name of a kernel's model, or what else it is, on one line."""
    report = getattr(kernel, "report", None)
    name = getattr(report, "model", None) or (kernel if isinstance(kernel, str) else repr(kernel))
    return one_line(str(name))[:200]
