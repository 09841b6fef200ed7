"""Kernels for the tests of the head: no TensorFlow, and small enough to check by hand."""

from __future__ import annotations

import numpy as np


class TensorLike:
    """Something that is no array but becomes one, as a tf.Tensor does."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype=dtype)


class OnlyProducts:
    """A matrix of which no block can be read, as one on a cluster."""

    def __init__(self, matrix):
        self.matrix, self.shape, self.dtype = matrix, matrix.shape, matrix.dtype

    def diagonal(self):
        return np.diagonal(self.matrix)

    def columns(self, indices):
        return self.matrix[:, list(indices)]

    def corner(self, indices):
        return self.matrix[np.ix_(list(indices), list(indices))]

    def product(self, b):
        return self.matrix @ b


class ImageKernel:
    """exp(-|x1 - x2|^2 / (2 l^2)) of images of any shape, times a variance."""

    def __init__(self, length=1.0, variance=2.0, dtype="float64"):
        self.length = length
        self.variance = variance
        self.dtype = dtype

    def __call__(self, x1, x2=None):
        first = np.asarray(x1, dtype=np.float64).reshape(len(x1), -1)
        second = first if x2 is None else np.asarray(x2, dtype=np.float64).reshape(len(x2), -1)
        squares = ((first[:, None, :] - second[None, :, :]) ** 2).sum(axis=2)
        values = self.variance * np.exp(-squares / (2.0 * self.length**2))
        return TensorLike(values.astype(self.dtype))

    def diag(self, x):
        return TensorLike(np.full(len(x), self.variance, dtype=self.dtype))


class TwoPositions(ImageKernel):
    """Outputs at two positions, of a function that they share and of a part of their own."""

    positions = (2,)

    def __call__(self, x1, x2=None, /, *, positions="equal"):
        first, second = (None if x is None else np.repeat(x, 2, axis=0) for x in (x1, x2))
        values = np.array(super().__call__(first, second))
        n, m = len(x1), len(x1 if x2 is None else x2)
        values += 0.5 * np.kron(np.ones((n, m)), np.eye(2))
        return values.reshape(n, 2, m, 2)

    def diag(self, x):
        return np.repeat(np.array(super().diag(x))[:, None], 2, axis=1) + 0.5


def images(count, seed=0, shape=(3, 3, 1)):
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def positive_definite(size, seed=0):
    a = np.random.default_rng(seed).standard_normal((size, size))
    return a @ a.T / size + 0.1 * np.eye(size)


class Frame:
    """A table with named columns, as data frames of any library show themselves."""

    def __init__(self, values, names):
        self.values, self.names = np.asarray(values), list(names)
        self.shape, self.ndim = self.values.shape, 2

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype=dtype)

    def __dataframe__(self):
        return self

    def column_names(self):
        return self.names
