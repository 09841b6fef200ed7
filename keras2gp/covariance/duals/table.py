"""Functions of a variance, tabulated: polynomials on intervals of log(1 + sqrt(q))."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Tensor

__all__ = ["INTERPOLATION", "LARGEST_VARIANCE", "Table", "nodes"]


LARGEST_VARIANCE = 1e12
INTERPOLATION = 1e-8
"""Of what is between the nodes: the relative error is a few 1e-9 (tanh_shrink, gelu_tanh)."""
_INTERVALS = 96
_ORDER = 10
_END = math.log1p(math.sqrt(LARGEST_VARIANCE))
_CHEBYSHEV = np.polynomial.chebyshev.chebpts1(_ORDER)


def nodes() -> Array:
    """Values of sqrt(q) that a table is made from, [intervals * order]."""
    middle = (np.arange(_INTERVALS) + 0.5)[:, None]
    return np.expm1((middle + _CHEBYSHEV / 2).ravel() * (_END / _INTERVALS))


class Table:
    """Columns of values at `nodes`, interpolated between them."""

    def __init__(self, values: Array) -> None:
        """values: [nodes, columns]."""
        values = values.reshape(_INTERVALS, _ORDER, -1)
        powers = np.linalg.inv(np.vander(_CHEBYSHEV, increasing=True))
        self._coefficients = np.einsum("pn,inc->pic", powers, values)

    def __call__(self, root: Tensor) -> Tensor:
        """The columns at sqrt(q), of any shape: [..., columns].

        Not a number beyond LARGEST_VARIANCE, which a kernel refuses at its end.
        """
        x = tf.math.log1p(root) * (_INTERVALS / _END)
        interval = tf.clip_by_value(tf.floor(x), 0, _INTERVALS - 1)
        t = tf.where(x <= _INTERVALS, 2 * (x - interval) - 1, math.nan)[..., None]
        rows = tf.cast(interval, tf.int32)
        first, *rest = (tf.constant(p, root.dtype) for p in reversed(self._coefficients))
        value = tf.gather(first, rows)
        for coefficients in rest:
            value = value * t + tf.gather(coefficients, rows)
        return value
