"""The training covariance of the arguments of `fit`: inputs, and a matrix if it is given."""

from __future__ import annotations

import numpy as np

from keras2gp._util.arrays import GramLike, Images, Indices
from keras2gp.errors import InputError
from keras2gp.gp.arguments.kernel_function import KernelLike, check_variances, kernel_values
from keras2gp.gp.solvers.matrices import check_shape
from keras2gp.gp.solvers.training import SAME_VARIANCE, Training

__all__ = ["training_of"]


def training_of(
    kernel: KernelLike, x: Images | None, gram: GramLike, inducing: Indices | None = None
) -> Training:
    """The training covariance of the arguments of `fit`.

    Args:
        kernel: a function of inputs, or "precomputed".
        x: inputs; None for a precomputed kernel.
        gram: the matrix, if it exists already; None otherwise.
        inducing: rows of the inducing inputs of a solver that takes the covariances with them
            alone, [N, M]; None for any other.

    Raises:
        InputError: gram is not square, not of these inputs, or not of this kernel.
    """
    precomputed = isinstance(kernel, str)
    if gram is None:
        if precomputed and x is not None and x.shape != (len(x), len(x)):
            raise InputError(
                f"X has shape {x.shape}: with kernel='precomputed' fit expects the square "
                "matrix [N, N] of the training inputs"
            )
        return Training(kernel, None, x) if precomputed else Training(kernel, x, None)
    if isinstance(gram, np.ndarray) or not hasattr(gram, "shape"):
        gram = kernel_values(gram, np.shape(gram), "gram")
    if _is_rectangle(gram):
        return _with_rectangle(kernel, x, gram, inducing)
    size = check_shape(gram)
    if precomputed:
        return Training(kernel, None, gram)
    if x is None or len(x) != size:
        raise InputError(f"gram is {size} x {size}, and X has {0 if x is None else len(x)} inputs")
    training = Training(kernel, x, gram)
    _require_same(kernel, training)
    return training


def _is_rectangle(gram: GramLike) -> bool:
    """Whether a matrix is one of two sets of inputs."""
    shape = tuple(gram.shape)
    square = len(shape) != 2 or shape[0] == shape[1]
    return not square or not getattr(gram, "symmetric", True)


def _with_rectangle(
    kernel: KernelLike, x: Images | None, gram: GramLike, inducing: Indices | None
) -> Training:
    """The training inputs and their covariances with the inducing ones; InputError for others."""
    if x is None or isinstance(kernel, str):
        raise InputError(
            f"gram has shape {tuple(gram.shape)}, and kernel='precomputed' takes the square matrix "
            "of the training inputs, of which the solver reads the columns that it needs"
        )
    if inducing is None:
        raise InputError(
            f"gram holds the matrix of two sets of inputs, of shape {tuple(gram.shape)}; expected "
            "that of one with itself, or solver='projected', which takes the covariances with "
            "its inducing inputs"
        )
    if tuple(gram.shape) != (len(x), len(inducing)):
        raise InputError(
            f"gram has shape {tuple(gram.shape)}, and the solver has {len(inducing)} inducing ones "
            f"of {len(x)} inputs. Try: keras2gp.gram(kernel, X, X[solver.rows(len(X))], out=...)"
        )
    return Training(kernel, x, None, rectangle=gram)


def _require_same(kernel: KernelLike, training: Training) -> None:
    """Refuse a given matrix whose diagonal is not that of the kernel, with an InputError."""
    diagonal, count = training.diagonal(), len(training)
    expected = check_variances(kernel.diag(training.x), count, "the diagonal of the kernel")
    gap = np.abs(diagonal - expected)
    at = int(gap.argmax())
    if gap[at] > SAME_VARIANCE * np.abs(expected).max():
        raise InputError(
            f"gram is not the kernel's matrix of these inputs: entry {at} of its diagonal "
            f"(counted from 0) is {diagonal[at]:.6g}, and the kernel's variance there is "
            f"{expected[at]:.6g}"
        )
