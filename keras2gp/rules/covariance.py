"""What the rules compute on: maps of covariances, with the pairs of images innermost.

Shapes
  k12  [*spatial, B1, B2]  Cov(A_g(x1_i), A_{g+d}(x2_j)) for one demanded offset d
  k11  [*spatial, B1]      Var(A_g(x1_i)), of one image each

The rules of linear ops are the same for both: they touch the spatial axes only. The variances
depend on one image, so they are computed once per image, and what the activations need of them
(`statistics`) is handed to every tile that the image is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import tensorflow as tf

from keras2gp.graph.ops import Activation, Input

__all__ = [
    "CrossPairs",
    "Pairs",
    "Parameters",
    "SelfPairs",
    "Side",
    "Statistics",
    "WindowMethod",
    "in_runs",
    "materialised",
]

Tensor = Any
Statistics = dict[str, tuple[Tensor, ...]]
"""What each activation needs of one block of images, by the index of its node."""

WindowMethod = Literal["shifts", "conv2d"]
_FEW_CHANNELS = 16


@dataclass(frozen=True)
class Parameters:
    """Variances of the random layers as tensors, so that changing one compiles nothing anew.

    A scalar each: cut from one vector they would be a crowd of independent steps, which XLA hands
    to its thread pool, and the whole block with them, whoever called it.
    """

    order: tuple[str, ...]
    weights: Sequence[Tensor]
    biases: Sequence[Tensor]

    @property
    def always(self) -> Tensor:
        """True, but known only at run time: variances are not negative."""
        return self.weights[0] >= 0

    def of(self, layer: str) -> tuple[Tensor, Tensor]:
        """w2 and b2 of a layer, scalars."""
        index = self.order.index(layer)
        return self.weights[index], self.biases[index]


class Pairs(Protocol):
    """Which pairs of images the maps are of."""

    parameters: Parameters
    method: WindowMethod

    def data(self, op: Input) -> Tensor:
        """Mean over channels of x1 x2, the covariance of the data itself (equation 10)."""

    def activation(self, index: int, op: Activation, k: Tensor) -> Tensor:
        """Covariance of phi(u), where k is that of u."""


class SelfPairs:
    """Every image with itself, [*spatial, B]: gives variances, and collects the statistics."""

    def __init__(
        self, images: tuple[Tensor, ...], parameters: Parameters, method: WindowMethod
    ) -> None:
        self.images = images
        self.parameters = parameters
        self.method = method
        self.statistics: Statistics = {}

    def data(self, op: Input) -> Tensor:
        """Mean over channels of x^2."""
        return tf.reduce_mean(tf.square(self.images[op.index]), axis=-2)

    def activation(self, index: int, op: Activation, k: Tensor) -> Tensor:
        """E[phi(u)^2]; keeps what the pairs will need."""
        from keras2gp.rules.registry import dual_of  # noqa: PLC0415 (registry types name Pairs)

        dual = dual_of(op)
        self.statistics[str(index)] = dual.prepare(k)
        return dual.second_moment(k)


@dataclass(frozen=True)
class Side:
    """The images of one side of a tile: `count` of them from `start` on, out of a larger block.

    Without `start` all of them are meant, and the tensors have the images innermost, [*spatial,
    S]. With it they are in runs, [S / run, *spatial, run], so that what a tile reads lies
    together; a tile does not cross the end of a run.
    """

    images: Sequence[Tensor]
    statistics: Statistics
    start: Tensor | None = None
    count: int = 0

    def cut(self, tensor: Tensor) -> Tensor:
        """The tile's images of one tensor of the block, [*spatial, count]."""
        if self.start is None:
            return tensor
        run = tensor.shape[-1]
        middle = tf.zeros([tensor.shape.rank - 2], tf.int32)
        begin = tf.concat([[self.start // run], middle, [self.start % run]], 0)
        return tf.slice(tensor, begin, [1, *tensor.shape[1:-1], self.count])[0]


def in_runs(tensor: Tensor, run: int) -> Tensor:
    """The images of a block in runs, [S / run, *spatial, run], for `Side`."""
    parts = tf.reshape(tensor, [*tensor.shape[:-1], tensor.shape[-1] // run, run])
    rank = parts.shape.rank
    return tf.transpose(parts, [rank - 2, *range(rank - 2), rank - 1])


class CrossPairs:
    """All B1 x B2 pairs of the images of two sides, [*spatial, B1, B2]."""

    def __init__(
        self, sides: tuple[Side, Side], parameters: Parameters, method: WindowMethod
    ) -> None:
        self.sides = sides
        self.parameters = parameters
        self.method = method

    def data(self, op: Input) -> Tensor:
        """Mean over channels of x1 x2."""
        x1, x2 = (side.cut(side.images[op.index]) for side in self.sides)
        if op.channels > _FEW_CHANNELS:
            return tf.matmul(x1, x2, transpose_a=True) / op.channels
        # A matrix product over a handful of channels costs more than writing it out.
        products = (x1[..., c, :, None] * x2[..., c, None, :] for c in range(op.channels))
        return sum(products) / op.channels

    def activation(self, index: int, op: Activation, k: Tensor) -> Tensor:
        """E[phi(u) phi(v)] from the covariance and either image's statistics."""
        from keras2gp.rules.registry import dual_of  # noqa: PLC0415 (registry types name Pairs)

        first, second = self.sides
        s1 = tuple(tf.expand_dims(first.cut(s), -1) for s in first.statistics[str(index)])
        s2 = tuple(tf.expand_dims(second.cut(s), -2) for s in second.statistics[str(index)])
        return dual_of(op).covariance(k, s1, s2)


def materialised(k: Tensor, parameters: Parameters) -> Tensor:
    """The map itself, computed once and kept: what comes before does not fuse into what follows.

    XLA on the CPU would fuse an activation into every shifted read of the window sum after it,
    and evaluate it once for each tap: 30 times slower, and minutes of compilation. It does not
    fuse across a branch on a value that it does not know, and hands the buffer through uncopied.
    """
    return tf.cond(parameters.always, lambda: tf.identity(k), lambda: -k)
