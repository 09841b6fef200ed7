"""A kernel as estimators see one: a function with a diagonal, and checks of its values."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from sklearn.gaussian_process.kernels import KernelOperator

from keras2gp._util.arrays import Array, ArrayLike, Images, InputsLike, Vector, VectorLike
from keras2gp._util.checks import require_plain
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.arguments.inputs import require_finite_input

__all__ = [
    "KernelFunction",
    "KernelLike",
    "check_kernel",
    "check_unused_variances",
    "check_variances",
    "kernel_values",
    "prior_variances",
    "takes_text",
]


@runtime_checkable
class KernelFunction(Protocol):
    """A covariance function of two sets of inputs.

    >>> from keras2gp.gp import KernelFunction
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> isinstance(RBF(1.0), KernelFunction)
    True
    """

    def __call__(self, x1: InputsLike, x2: InputsLike = None, /) -> Any:
        """The matrix [N1, N2], as an array or tensor; x2=None stands for x1.

        Args:
            x1: inputs, [N1, ...].
            x2: inputs, [N2, ...]; None for x1.

        Returns:
            Covariances k(x1, x2).
        """
        ...

    def diag(self, x: InputsLike, /) -> Any:
        """The variances [N], as an array or tensor.

        Args:
            x: inputs, [N, ...].

        Returns:
            Variances k(x, x).
        """
        ...


KernelLike: TypeAlias = Any
"""What a user states: a KernelFunction, or "precomputed" where inputs are covariances."""


def check_kernel(kernel: object) -> None:
    """Refuse a setting `kernel` that is neither a kernel nor "precomputed".

    Raises:
        InputError: it is neither; or it is a sum or product of scikit-learn with a kernel of
            another library, which it holds as a constant.
    """
    if isinstance(kernel, str) and kernel == "precomputed":
        return
    settings = kernel.get_params() if isinstance(kernel, KernelOperator) else {}
    if any(n.endswith("constant_value") and callable(v) for n, v in settings.items()):
        raise InputError(
            f"kernel is a {type(kernel).__name__} of scikit-learn, which takes the kernel on the "
            "right for a constant. Try: the kernel of scikit-learn on the right, k + RBF(1.0); or "
            "RBF(1.0) + keras2gp.adapters.sklearn_kernel(k)"
        )
    if isinstance(kernel, type) or not isinstance(kernel, KernelFunction):
        # This package does without Keras here; a Keras model is a callable with layers.
        is_model = hasattr(kernel, "layers") and callable(kernel)
        hint = ". Try: keras2gp.convert(model), the kernel of a Keras model" if is_model else ""
        raise InputError(
            f'kernel is {received_text(kernel)}: expected "precomputed", or a kernel such as '
            f"keras2gp.convert gives: kernel(x1, x2) -> [N1, N2] and kernel.diag(x) -> [N]{hint}"
        )


def takes_text(kernel: object) -> bool:
    """Whether an input of a kernel is text, so that a table for it is text too."""
    return any(getattr(spec, "dtype", "") == "string" for spec in getattr(kernel, "inputs", ()))


def kernel_values(values: ArrayLike, shape: tuple[int, ...], what: str) -> Array:
    """The result of a kernel as an array of the expected shape; its floating-point type is kept.

    Raises:
        InputError: the shape is another, or a value is masked or not a finite real number.
    """
    require_plain(what, values)
    array = np.asarray(values)
    if array.shape != shape:
        raise InputError(f"{what} has shape {array.shape}; expected {shape}")
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.dtype.kind != "f":
        raise InputError(f"{what} holds values of type {array.dtype}; expected real numbers")
    require_finite_input(array, what)
    return array


def check_variances(values: VectorLike, count: int, what: str) -> Vector:
    """Prior variances, [count], in float64.

    Raises:
        InputError: the shape is another, or a value is negative or not finite.
    """
    variances = kernel_values(values, (count,), what).astype(np.float64)
    if variances.min() < 0.0:
        index = int(variances.argmin())
        raise InputError(
            f"{what} holds a negative variance: entry {index} (counted from 0) is "
            f"{variances[index]}"
        )
    return variances


def require_no_diag(kernel: KernelLike, diag: VectorLike) -> None:
    """Refuse prior variances beside a kernel that computes them, with an InputError."""
    if diag is not None and not isinstance(kernel, str):
        raise InputError(
            "diag has the prior variances of a precomputed kernel, and this kernel computes its "
            "own. Try: without diag"
        )


def prior_variances(kernel: KernelLike, x: Images, diag: VectorLike) -> Vector:
    """The variances k(x, x) of inputs, [M]; `diag` has them for a precomputed kernel.

    Raises:
        InputError: they are not given, or are no variances.
    """
    if not isinstance(kernel, str):
        require_no_diag(kernel, diag)
        return check_variances(kernel.diag(x), len(x), "the diagonal of the kernel")
    if diag is None:
        raise InputError(
            "variances of a precomputed kernel need diag=, the prior variance k(x, x) of each "
            "input, [M]"
        )
    return check_variances(diag, len(x), "diag")


def check_unused_variances(kernel: KernelLike, x: Images, diag: VectorLike) -> None:
    """Refuse prior variances that do not fit, where they are not used.

    Raises:
        InputError: the kernel is not precomputed, or they are no variances.
    """
    if diag is not None:
        prior_variances(kernel, x, diag)
