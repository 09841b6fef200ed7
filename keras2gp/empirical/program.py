"""The blocks of a finite network's kernel matrix: products of its derivatives."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Images, Matrix, Tensor, Vector
from keras2gp._util.memory import available_memory, require_memory
from keras2gp.empirical.derivatives import Derivatives
from keras2gp.errors import InputError, NumericalError
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.blocks import Block, BlockShape
from keras2gp.matrices.plan import Partition

__all__ = ["EmpiricalProgram"]

_ENTRIES = 2**25
"""Derivatives of either side of a product: 256 MB in float64."""
_COPIES = 4
"""Arrays of derivatives at a time: those of either side, and of one of them the parts."""
_LARGEST = 1024


class EmpiricalProgram:
    """Computes the blocks of the kernel matrix of one finite network, one block at a time.

    Math:
        K[i, j] = sum_u sum_p J[i, u, p] J[j, u, p] / U

    Args:
        derivatives: J.
        kind: "ntk" or "nngp".
        dtype: type of the entries.
        unit: the output unit whose kernel it is; None for the mean over all U units.
        settings: everything else that the kernel depends on, for JSON.
    """

    def __init__(
        self,
        derivatives: Derivatives,
        kind: str,
        dtype: str,
        unit: int | None,
        settings: Mapping[str, Any],
    ) -> None:
        self.kind, self.dtype = kind, dtype
        self._derivatives, self._unit = derivatives, unit
        self._settings = dict(settings)
        self._lock = threading.Lock()  # TensorFlow's threads share a block; one Jacobian at a time

    @property
    def units(self) -> list[int]:
        """The output units that the kernel is the mean of.

        Raises:
            InputError: the model has no such unit.
        """
        count = self._derivatives.network.units or 1
        if self._unit is None:
            return list(range(count))
        if not -count <= self._unit < count:
            raise InputError(f"unit={self._unit}: the output has {count} units")
        return [self._unit % count]

    def partition(self, n1: int, n2: int | None, shape: BlockShape | None = None) -> Partition:
        """How a matrix is cut; n2=None for the symmetric matrix of n1 images."""
        columns = n1 if n2 is None else n2
        if shape is None:
            most = max(_ENTRIES // self._derivatives.width, 16)
            side = min(_LARGEST, 1 << (most.bit_length() - 1))
            while side > 16 and side // 2 >= max(n1, columns):
                side //= 2
            shape = BlockShape(side, side, side, side)
        return Partition(n1, columns, n2 is None, shape)

    def working_set(self, shape: BlockShape, threads: int) -> int:
        """Entries that threads need: one block's derivatives, and the values of theirs."""
        images, units = self._batch(shape.rows, len(self.units))
        return self._numbers(images, units) + 2 * threads * shape.rows * shape.columns

    def demands(self, shape: BlockShape, available: int) -> tuple[str, str]:
        """The derivatives of a few images by all weights."""
        del available
        what = f"a block of {shape.rows} x {shape.columns} images, their derivatives by all weights"
        return what, "a smaller model"

    def identity(self, parameters: Mapping[str, LayerVariances]) -> dict[str, Any]:
        """The computation and the weights, for JSON."""
        network = self._derivatives.network
        weights = hashlib.sha256()
        for array in network.arrays:
            weights.update(f"{array.dtype.str} {array.shape} ".encode())
            weights.update(np.ascontiguousarray(array).tobytes())
        graph = {"finite": network.computation, "unit": self._unit, **self._settings}
        return {"graph": graph, "parameters": weights.hexdigest()}

    def variances(self, parameters: Mapping[str, LayerVariances]) -> None:
        """None: weights have values here, and no variances."""

    def diagonal(
        self, images: Sequence[Images], start: int, shape: BlockShape, variances: Any
    ) -> Vector:
        """Variances of the images from `start` on, [shape.columns], or fewer at the end."""
        count = min(shape.columns, len(images[0]) - start)
        values = np.zeros(count, self.dtype)
        with self._lock:
            for units, batch in self._runs(count):
                for i in range(0, count, batch):
                    part = self._of(images, start + i, min(batch, count - i), units)
                    values[i : i + batch] += tf.reduce_sum(tf.square(part), [1, 2]).numpy()
        values /= len(self.units)
        return values

    def block(
        self,
        first: Sequence[Images],
        second: Sequence[Images],
        block: Block,
        shape: BlockShape,
        variances: Any,
        *,
        into: Matrix | None = None,
    ) -> Matrix:
        """The values of one block, [block.rows, block.columns]; zero below a diagonal."""
        values = np.empty((block.rows, block.columns), self.dtype) if into is None else into
        values[...] = 0
        with self._lock:
            for units, batch in self._runs(max(block.rows, block.columns)):
                for i in range(0, block.rows, batch):
                    rows, top = min(batch, block.rows - i), block.row + i
                    left = _flat(self._of(first, top, rows, units))
                    for j in range(0, block.columns, batch):
                        columns, start = min(batch, block.columns - j), block.column + j
                        if block.symmetric and start + columns <= top:
                            continue
                        right = left
                        if not block.symmetric or (start, columns) != (top, rows):
                            right = _flat(self._of(second, start, columns, units))
                        product = tf.matmul(left, right, transpose_b=True)
                        values[i : i + rows, j : j + columns] += product.numpy()
        values /= len(self.units)
        return values

    def full(self, first: Sequence[Images], second: Sequence[Images]) -> Array:
        """The kernel between all pairs of units, [N1, N2, U, U].

        Raises:
            InputError: it does not fit in memory.
            NumericalError: a derivative is not finite.
        """
        units = list(range(self._derivatives.network.units or 1))
        n1, n2, count = len(first[0]), len(second[0]), len(units)
        batch = max(1, _ENTRIES // (self._derivatives.width * count))
        numbers = n1 * n2 * count**2 + self._numbers(min(batch, max(n1, n2)), count)
        purpose = f"the kernel of {n1} x {n2} images and {count} x {count} units"
        hint = "fewer images at a time, unit=, or sketch="
        require_memory(np.dtype(self.dtype).itemsize * numbers, purpose, hint)
        values = np.empty((n1, n2, count, count), self.dtype)
        with self._lock:
            for i in range(0, n1, batch):
                left = self._of(first, i, min(batch, n1 - i), units)
                for j in range(0, n2, batch):
                    right = self._of(second, j, min(batch, n2 - j), units)
                    product = tf.einsum("iup,jvp->ijuv", left, right).numpy()
                    values[i : i + batch, j : j + batch] = product
        return values

    def _runs(self, count: int) -> list[tuple[list[int], int]]:
        """Runs of units, and how many images are at work at a time, at most `count`."""
        units = self.units
        images, most = self._batch(count, len(units))
        return [(units[i : i + most], images) for i in range(0, len(units), most)]

    def _batch(self, count: int, units: int) -> tuple[int, int]:
        """Images and units of a batch, fewer where memory is short.

        Raises:
            InputError: the memory does not hold the derivatives of one image.
        """
        width = self._derivatives.width
        units = max(1, min(units, _ENTRIES // width))
        images = max(1, min(count, _ENTRIES // (width * units)))
        size, available = np.dtype(self.dtype).itemsize, available_memory()
        while available is not None and size * self._numbers(images, units) > available:
            if images == units == 1:
                break
            images, units = (-(-images // 2), units) if images > 1 else (1, -(-units // 2))
        require_memory(
            size * self._numbers(images, units),
            f"one image's derivatives by {width} weights",
            "sketch=1000, or fewer trainable layers",
        )
        return images, units

    def _numbers(self, images: int, units: int) -> int:
        beside = self._derivatives.working_numbers(images)
        return _COPIES * images * units * self._derivatives.width + beside

    def _of(self, images: Sequence[Images], start: int, count: int, units: list[int]) -> Tensor:
        """The derivatives of some images, [count, units, width].

        Raises:
            NumericalError: one is not finite.
        """
        values = self._derivatives([array[start : start + count] for array in images], units)
        finite = tf.reduce_all(tf.math.is_finite(values), [1, 2]).numpy()
        if not finite.all():
            place = start + int(np.argmin(finite))
            raise NumericalError(
                f"the derivatives of {self._derivatives.network.name} at image {place} "
                "(counted from 0) are not finite. Try: smaller inputs, or a model in float64"
            )
        return values


def _flat(derivatives: Tensor) -> Tensor:
    return tf.reshape(derivatives, [derivatives.shape[0], -1])
