"""The positions of an output at which random networks and the kernel are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

from keras2gp._util.arrays import InputsLike, Matrix, Tensor
from keras2gp.errors import InputError
from keras2gp.kernel.kernel import Kernel

__all__ = ["Places", "matrix_at", "places_of"]


@dataclass(frozen=True)
class Places:
    """Some positions of an output, as numbers in the order of its axes.

    Attributes:
        size: Sizes of the output's axes of positions; () for a vector.
        numbers: Of the positions that are compared.
    """

    size: tuple[int, ...] = ()
    numbers: tuple[int, ...] = (0,)

    def units(self, output: Tensor) -> Tensor:
        """The units of a network's output at these positions, [N, positions, units]."""
        if not self.size:
            return tf.reshape(output, [output.shape[0], 1, -1])
        shape = tuple(output.shape[1:])
        # Of axes that suit both orders, Keras's usual one.
        if shape[1:] == self.size and shape[:-1] != self.size:
            output = tf.transpose(output, [0, *range(2, len(shape) + 1), 1])
        by_position = tf.reshape(output, [output.shape[0], math.prod(self.size), -1])
        return tf.gather(by_position, self.numbers, axis=1)


def places_of(kernel: Kernel) -> Places:
    """The first position, one in the middle, and the last; without a rule between, the second."""
    count = math.prod(kernel.positions)
    if count == 1:
        return Places()
    middle = count // 2
    try:
        kernel.program_of("all")
    except InputError:
        return Places(kernel.positions, (middle,))
    return Places(kernel.positions, tuple(sorted({0, middle, count - 1})))


def matrix_at(kernel: Kernel, images: InputsLike, places: Places) -> Matrix:
    """The kernel's matrix of the images at these positions, image by image."""
    if len(places.numbers) == 1:
        matrix = kernel.matrix(images, get="nngp")
        return matrix.reshape(*matrix.shape[:2], -1)[..., places.numbers[0]]
    matrix = kernel.matrix(images, get="nngp", positions="all")
    count, positions = len(matrix), math.prod(places.size)
    numbers = list(places.numbers)
    chosen = matrix.reshape(count, positions, count, positions)[:, numbers][..., numbers]
    return chosen.reshape(count * len(numbers), -1)
