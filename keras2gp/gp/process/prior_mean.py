"""The mean of the prior: that of a kernel which says that its process has one."""

from __future__ import annotations

import numpy as np

from keras2gp._util.arrays import InputsLike, Matrix
from keras2gp.errors import InputError
from keras2gp.gp.arguments.kernel_function import KernelLike, kernel_values
from keras2gp.gp.arguments.positions import Positioned

__all__ = ["MeanWarning", "has_mean", "mean_of_rows"]


class MeanWarning(UserWarning):
    """The mean of the kernel's process is not used, for it has no meaning for the targets."""


def has_mean(kernel: KernelLike) -> bool:
    """Whether a kernel has a mean function: `kernel.mean`, m(x) -> [N, *positions, outputs]."""
    return not isinstance(kernel, str) and callable(getattr(kernel, "mean", None))


def mean_of_rows(kernel: KernelLike, rows: InputsLike, outputs: int) -> Matrix | float:
    """The prior mean of rows of the matrix, [M, outputs] or [M, 1]; 0.0 without a mean function.

    Args:
        kernel: the kernel, or "precomputed".
        rows: inputs [M, ...], or Positioned ones.
        outputs: C, of the targets; a mean of one output stands for all.

    Raises:
        InputError: the mean is of another number of outputs, or not finite.
    """
    if not has_mean(kernel):
        return 0.0
    images, chosen = rows.whole() if isinstance(rows, Positioned) else (rows, None)
    values = np.asarray(kernel.mean(images))
    values = values.reshape(-1, values.shape[-1])
    values = values if chosen is None else values[chosen]
    columns = values.shape[1]
    if columns not in (1, outputs):
        raise InputError(
            f"the kernel's mean is of {columns} outputs, and y has {outputs}. Try: targets [N, "
            f"{columns}], or kernel.without_mean()"
        )
    return kernel_values(values, (len(rows), columns), "the kernel's mean").astype(np.float64)
