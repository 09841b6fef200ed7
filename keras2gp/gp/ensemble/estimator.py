"""The ensemble of infinitely wide networks that gradient descent has trained."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
from sklearn.base import RegressorMixin

from keras2gp._util.arrays import Array, GramLike, Images, InputsLike, TargetsLike, Vector
from keras2gp._util.memory import require_memory
from keras2gp._util.progress import bars_inside
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, ModelFileError, NumericalError
from keras2gp.gp.arguments.inputs import check_length, check_targets, feature_names
from keras2gp.gp.arguments.kernel_function import (
    KernelFunction,
    KernelLike,
    check_kernel,
    kernel_values,
)
from keras2gp.gp.arguments.positions import positions_of
from keras2gp.gp.ensemble.moments import EnsembleMoments, amount
from keras2gp.gp.solvers.matrices import check_symmetry
from keras2gp.gp.solvers.precision import precision_hint, relative_error
from keras2gp.gp.solvers.system import PROBE

__all__ = ["TrainedEnsemble"]

# Matrices [N, N] of float64 that a fit needs: both kernels, the eigenvectors, LAPACK's work.
_MATRICES = 6


class TrainedEnsemble(RegressorMixin, EnsembleMoments):  # type: ignore[misc]
    """Networks of infinite width, each drawn at random and trained by gradient descent.

    Their outputs are jointly Gaussian, and this is their exact mean and covariance at every time
    of the training. It is no posterior: its deviation is that between networks which differ in
    their initial weights alone. GPRegressor(kernel) is the Bayesian posterior of the same
    architecture, and GPRegressor of the tangent kernel has the ensemble's mean at the end, but
    not its deviation.

    The training is gradient flow (gradient descent of small steps) of all weights on
    sum_n |f(x_n) - y_n|^2 / 2 + regularization |w - w_0|^2 / 2, from the initial weights w_0. One
    unit of time is a learning rate of 1: descent at a rate of 1e-3 reaches time 1 in 1000 steps.
    Where the loss is the mean over N inputs (and C outputs), the same takes N (N C) times as long.

    Math: mean = m* + M (y - m);  covariance = K** + M K M^T - M K*^T - K* M^T
        M = T* (T + r I)^-1 (I - exp(-(T + r I) time))
        K the NNGP kernel, T the tangent kernel, r the regularization, * of new inputs,
        m the mean of the untrained networks: 0, or kernel.mean where there is one

    Args:
        kernel: a kernel of keras2gp.convert, whose tangent kernel exists.
        time: training time, from 0 (untrained) to infinity (trained to the end).
        regularization: weight of the squared distance from the initial weights.

    Attributes:
        x_train_: training inputs.
        targets_: targets less the mean of the untrained networks, [N, C].
        rates_: rates at which the components of the error decay, eigenvalues of T + r I from the
            smallest, [N].
        n_features_in_: number of features, if X has two axes.

    References:
        Lee et al., "Wide Neural Networks of Any Depth Evolve as Linear Models Under Gradient
        Descent", 2019, equations 14 to 16.

    >>> import keras, keras2gp, numpy as np
    >>> from keras2gp.gp import TrainedEnsemble
    >>> relu = keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal")
    >>> model = keras.Sequential([keras.Input((1,)), relu, keras.layers.Dense(1)])
    >>> kernel = keras2gp.convert(model, overrides={"*": (2.0, 0.1)}, dtype="float64")
    >>> ensemble = TrainedEnsemble(kernel).fit([[-1.0], [0.0], [1.0]], [1.0, 0.0, 1.0])
    >>> mean, std = ensemble.predict([[1.0], [3.0]], return_std=True)
    >>> bool(abs(mean[0] - 1.0) < 1e-7), bool(std[0] < 1e-6 < std[1])
    (True, True)
    """

    x_train_: Images
    files: ClassVar[tuple[str, ...]] = ("rates.npy", "vectors.npy", "prior.npy")
    """Array files of a fit beside its inputs and targets."""

    def __init__(
        self, kernel: KernelLike, time: float = math.inf, regularization: float = 0.0
    ) -> None:
        self.kernel = kernel
        self.time = time
        self.regularization = regularization

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        y: TargetsLike,
        gram: GramLike = None,
        progress: bool = True,
    ) -> TrainedEnsemble:
        """Decompose the kernels of the training inputs: every time of the training follows.

        Args:
            X: inputs.
            y: targets.
            gram: both kernels of X, if they exist already, as kernel(X, get="both") gives them.
            progress: True for a bar on a terminal's stderr while they are computed, from the third
                second on.

        Shapes:
            X [N, features] or [N, *shape]; y [N] or [N, C]; gram [2, N, N].

        Returns:
            The estimator itself.

        Raises:
            InputError: arguments do not fit, or the memory does not suffice.
            NumericalError: the tangent kernel is not positive semi-definite, or singular where the
                training has no end.
        """
        self._check_settings()
        regularization = amount("regularization", self.regularization)
        x, names = self._checked_inputs(X), feature_names(X)
        targets = check_targets(y)
        check_length(x, targets, "targets")
        count = len(x)
        require_memory(
            _MATRICES * 8 * count**2,
            f"the eigenvectors of {count} training inputs",
            "fewer inputs, or GPRegressor with the tangent kernel, whose mean is the ensemble's",
        )
        with bars_inside(progress):
            values = self.kernel(x, get="both") if gram is None else gram
        values = kernel_values(values, (2, count, count), "the pair of kernels")
        for matrix in values:
            check_symmetry(matrix)
        dtype, (nngp, tangent) = str(values.dtype), values.astype(np.float64)
        rates, vectors = scipy.linalg.eigh(tangent, overwrite_a=True, check_finite=False)
        error = relative_error(dtype, count)
        _require_semidefinite(rates, error, dtype)
        self.rates_ = np.maximum(rates, 0.0) + regularization
        self._error, self._dtype = error, dtype
        self._vectors = vectors
        self._prior = vectors.T @ nngp @ vectors
        self.x_train_ = np.array(x)
        self.targets_ = self._less_the_mean(x, targets.reshape(count, -1))
        self._single = targets.ndim == 1
        self._components = vectors.T @ self.targets_
        self._set_input_shape(x.shape[1:])
        self._set_feature_names(names)
        self._steps(amount("time", self.time, infinite=True))
        return self

    def settings_state(self) -> dict[str, Any]:
        """See FittedInputs.settings_state; JSON has no infinity."""
        time = amount("time", self.time, infinite=True)
        return {
            "time": "infinity" if math.isinf(time) else time,
            "regularization": amount("regularization", self.regularization),
        }

    @classmethod
    def settings_from_state(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """See FittedInputs.settings_from_state."""
        time = math.inf if state["time"] == "infinity" else amount("time", state["time"])
        return {"time": time, "regularization": amount("regularization", state["regularization"])}

    def fit_state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """See FittedInputs.fit_state."""
        facts = {
            "input_shape": list(self.input_shape_),
            "kernel_dtype": self._dtype,
            "single_output": self._single,
            **self._names_state(),
        }
        arrays = {
            "x_train.npy": self.x_train_,
            "y.npy": self.targets_,
            "rates.npy": self.rates_,
            "vectors.npy": self._vectors,
            "prior.npy": self._prior,
        }
        return facts, arrays

    def restore_fit(
        self, facts: Mapping[str, Any], arrays: Mapping[str, Array], gram: GramLike
    ) -> None:
        """See FittedInputs.restore_fit; a fit keeps what it needs of the matrices.

        Raises:
            ModelFileError: the arrays do not fit each other.
        """
        del gram
        self._check_settings()
        x, targets, rates = (arrays[name] for name in ("x_train.npy", "y.npy", "rates.npy"))
        square, shape = (len(targets),) * 2, tuple(int(n) for n in facts["input_shape"])
        # LAPACK leaves eigenvectors in columns: products round as before only in that order.
        vectors, prior = np.asfortranarray(arrays["vectors.npy"]), arrays["prior.npy"]
        fits = (
            targets.ndim == 2
            and x.shape == (len(targets), *shape)
            and rates.shape == square[:1]
            and vectors.shape == prior.shape == square
            and bool((np.diff(rates) >= 0.0).all())
        )
        if not fits or type(facts["single_output"]) is not bool:
            raise ModelFileError("the arrays do not fit each other")
        self._dtype = str(np.finfo(facts["kernel_dtype"]).dtype)
        self._error = relative_error(self._dtype, len(x))
        self.x_train_, self.targets_, self.rates_ = x, targets, rates
        self._vectors, self._prior = vectors, prior
        self._components = vectors.T @ targets
        self._single = facts["single_output"]
        self._set_input_shape(shape)
        self._restore_names(facts, shape[0])

    def probe(self) -> tuple[Any, Array]:
        """Both kernels between a few training inputs, and those that the fit had, [2, n, n]."""
        rows = self._vectors[:PROBE]
        nngp = rows @ self._prior @ rows.T
        tangent = (rows * (self.rates_ - self.regularization)) @ rows.T
        return self.kernel(self.x_train_[:PROBE], get="both"), np.stack([nngp, tangent])

    def _check_settings(self) -> None:
        kernel = self.kernel
        check_kernel(kernel)
        if not _gives_both(kernel):
            raise InputError(
                f"kernel is {received_text(kernel)}: expected a kernel such as keras2gp.convert "
                'gives, with kernel(x1, x2, get="both") -> [2, N1, N2]'
            )
        if positions := positions_of(kernel):
            raise InputError(
                f"the kernel's output has positions {positions}. Try: one of them, "
                "kernel.at(position), or a network that ends in Flatten"
            )


def _gives_both(kernel: object) -> bool:
    """Whether calls of a kernel take get=, with which it gives NNGP and NTK in one pass."""
    if not isinstance(kernel, KernelFunction):
        return False
    taken = inspect.signature(kernel.__call__).parameters.values()
    return any(each.name == "get" or each.kind is each.VAR_KEYWORD for each in taken)


def _require_semidefinite(rates: Vector, error: float, dtype: str) -> None:
    """Refuse eigenvalues further below zero than errors of the entries explain."""
    if rates[0] < -error * np.abs(rates).sum():
        low, remedy = precision_hint(dtype)
        raise NumericalError(
            "the tangent kernel is not positive semi-definite: its smallest eigenvalue is "
            f"{rates[0]:.3g}, the largest {rates[-1]:.3g}.{low} Try: {remedy}the matrices that the "
            "kernel itself gives"
        )
