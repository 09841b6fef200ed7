"""A kernel for scikit-learn's Gaussian processes."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from sklearn.gaussian_process.kernels import Kernel

from keras2gp._util.arrays import Array, InputsLike
from keras2gp.adapters.values import KernelValues
from keras2gp.errors import InputError
from keras2gp.gp.arguments.kernel_function import KernelLike

__all__ = ["NetworkKernel"]


class NetworkKernel(Kernel):  # type: ignore[misc]
    """The kernel of a network, with its variances fixed: theta has length 0."""

    def __init__(self, kernel: KernelLike) -> None:
        self.kernel = kernel
        self._values = KernelValues(kernel)

    def __sklearn_clone__(self) -> NetworkKernel:
        # Compiled programs cannot be copied, and need not be.
        return copy(self)

    def __call__(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        Y: InputsLike = None,  # noqa: N803
        eval_gradient: bool = False,
    ) -> Any:
        """The matrix [N, M], and with eval_gradient its gradient in theta, [N, N, 0]."""
        if eval_gradient and Y is not None:
            raise InputError("the gradient can only be evaluated when Y is None")
        x = np.asarray(X)
        values = np.array(self._values.matrix(x, None if Y is None else np.asarray(Y)))
        return (values, np.empty((*values.shape, 0))) if eval_gradient else values

    def diag(self, X: InputsLike) -> Array:  # noqa: N803
        """The variances, [N]."""
        return self._values.diagonal(np.asarray(X))

    def is_stationary(self) -> bool:
        """No: k(x, x) depends on x."""
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NetworkKernel) and self.kernel is other.kernel

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"NetworkKernel({self.kernel!r})"
