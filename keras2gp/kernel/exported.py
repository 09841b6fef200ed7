"""The kernel as a tf.Module for SavedModels, with a free number of images."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.pairs import ImageBlock
from keras2gp.covariance.program import Program
from keras2gp.kernel.parts import KernelParts
from keras2gp.matrices.compiled import CompiledProgram

__all__ = ["ExportedKernel"]

_ROWS = 16
"""Rows of the matrix that one step of the loop computes."""


class ExportedKernel(tf.Module):  # type: ignore[misc]
    """Pure functions of images [N, *shape]; the prior variances are tf.Variables.

    Images are transposed to [*spatial, C, N] behind the preprocessor, as `ImageBlock` holds them.
    """

    def __init__(self, parts: KernelParts) -> None:
        super().__init__()
        self._program = Program(parts.graph, kind=parts.kind)
        compiled = CompiledProgram(parts.graph, parts.dtype)
        weights, biases = compiled.variances(parts.parameters)
        self._weights = [tf.Variable(value) for value in weights]
        self._biases = [tf.Variable(value) for value in biases]
        self.dtype = tf.as_dtype(parts.dtype)
        self._preprocessor = parts.preprocessor

    def images(self, arrays: Sequence[Tensor]) -> list[Tensor]:
        """Images behind the preprocessor, [*spatial, C, N]."""
        tensors = list(arrays)
        if self._preprocessor is not None:
            outputs = self._preprocessor(tensors, training=False)
            tensors = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        tensors = tensors[: len(self._program.graph.inputs)]  # the mean reads the others
        last = [tf.concat([tf.range(1, t.shape.rank), [0]], 0) for t in tensors]
        return [
            tf.transpose(tf.cast(t, self.dtype), perm)
            for t, perm in zip(tensors, last, strict=True)
        ]

    def side(self, images: Sequence[Tensor]) -> tuple[Tensor, ImageBlock]:
        """Variances of the output, [N, *positions], and the statistics that `cross` reads."""
        outputs, prepared, statistics = self._program.statistics(
            images, self._weights, self._biases
        )
        return _images_first(outputs[0], 1), ImageBlock(prepared, statistics)

    def cross(self, images: Sequence[Tensor], second: ImageBlock) -> tuple[Tensor, Tensor]:
        """The matrix, [N1, N2, *positions], and the variances of the first images."""
        positions = self._program.graph.positions
        count, columns = tf.shape(images[0])[-1], tf.shape(second.images[0])[-1]

        def rows(start: Tensor, matrix: Tensor, diagonal: Tensor) -> tuple[Tensor, ...]:
            variances, first = self.side([x[..., start : start + _ROWS] for x in images])
            (values,) = self._program.cross(first, second, self._weights, self._biases)
            matrix = tf.concat([matrix, _images_first(values, 2)], 0)
            return start + _ROWS, matrix, tf.concat([diagonal, variances], 0)

        empty = [
            tf.zeros([0, columns, *positions], self.dtype),
            tf.zeros([0, *positions], self.dtype),
        ]
        _, matrix, diagonal = tf.while_loop(
            lambda start, *_: start < count,
            rows,
            [tf.constant(0), *empty],
            shape_invariants=[
                tf.TensorShape(s) for s in ([], [None, None, *positions], [None, *positions])
            ],
            parallel_iterations=1,
        )
        return matrix, diagonal


def _images_first(values: Tensor, count: int) -> Tensor:
    """Values with the axes of images, the last `count`, before those of positions."""
    rank = values.shape.rank
    if rank == count:
        return values
    return tf.transpose(values, [*range(rank - count, rank), *range(rank - count)])
