"""Names for arrays, each of which states its shape; the one glossary of shapes.

N         number of rows: images, or inputs of any kind
M         number of rows of a second set
C         number of classes, or of outputs
B1, B2    numbers of images of either side of a tile of pairs
spatial   sizes of the spatial axes of a map, () for a vector
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

__all__ = [
    "Array",
    "ImageMap",
    "Images",
    "Indices",
    "Matrix",
    "Noise",
    "PairMap",
    "Targets",
    "Tensor",
    "Vector",
]

Array: TypeAlias = np.ndarray[Any, Any]
"""A numpy array of any shape."""

Vector: TypeAlias = Array
"""One number for each row, [N]."""

Noise: TypeAlias = float | Vector
"""A variance on the diagonal: one number for all rows, or one for each, [N]."""

Indices: TypeAlias = Array
"""Row numbers, whole numbers [count]."""

Matrix: TypeAlias = Array
"""A matrix: covariances [N, M], or columns of right-hand sides [N, C]."""

Images: TypeAlias = Array
"""Inputs with the rows first, [N, *shape]."""

Targets: TypeAlias = Array
"""Targets of a fit, [N] or [N, C]."""

Tensor: TypeAlias = Any
"""A TensorFlow tensor of any shape; TensorFlow ships no types."""

PairMap: TypeAlias = Tensor
"""A covariance at one offset of all pairs of a tile, [*spatial, B1, B2]."""

ImageMap: TypeAlias = Tensor
"""A quantity of single images at every position, [*spatial, B]."""
