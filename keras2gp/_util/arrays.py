"""Names for arrays, each of which states its shape; the one glossary of shapes.

Names that end in "Like" are arguments as a user hands them: an array, a table of a library, or
nested lists, which are checked and become arrays.

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
    "ArrayLike",
    "GramLike",
    "ImageMap",
    "Images",
    "Indices",
    "InputsLike",
    "KerasTensor",
    "LabelsLike",
    "Matrix",
    "Noise",
    "NoiseLike",
    "PairMap",
    "ProbabilitiesLike",
    "Targets",
    "TargetsLike",
    "Tensor",
    "Vector",
    "VectorLike",
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

KerasTensor: TypeAlias = Any
"""A tensor of Keras, symbolic or with values, [batch, *shape]."""

PairMap: TypeAlias = Tensor
"""A covariance at one offset of all pairs of a tile, [*spatial, B1, B2]."""

ImageMap: TypeAlias = Tensor
"""A quantity of single images at every position, [*spatial, B]."""

InputsLike: TypeAlias = Any
"""Inputs with the rows first, [N, *shape], or one such array for each input of the model."""

TargetsLike: TypeAlias = Any
"""Targets, [N] or [N, C], with positions [N, *spatial] or [N, *spatial, C]."""

LabelsLike: TypeAlias = Any
"""Class labels, whole numbers or texts: those of rows, [N], or each class once, [C]."""

ProbabilitiesLike: TypeAlias = Any
"""Probabilities of classes, [N, C]; those of a row sum to 1."""

ArrayLike: TypeAlias = Any
"""Numbers of any shape, in an array or in nested lists."""

NoiseLike: TypeAlias = Any
"""A variance on the diagonal: one number, one for each row, [N], or "auto" where it is chosen."""

VectorLike: TypeAlias = Any
"""One number for each row, [N]."""

GramLike: TypeAlias = Any
"""The covariances of all pairs of rows, [N, N]: an array, a store on disk, or an object that has
products alone (`keras2gp.gp.MatrixProduct`); None if a kernel computes them."""
