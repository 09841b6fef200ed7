"""What the rules compute on: maps of covariances, with the pairs of images innermost.

Shapes
  k12  [*spatial, B1, B2]  Cov(A_g(x1_i), A_{g+d}(x2_j)) for one demanded offset d
  k11  [*spatial, B1]      Var(A_g(x1_i)), of one image each

The rules of linear ops are the same for both: they touch the spatial axes only. The variances
depend on one image, so they are computed once per image, and what the rules need of them
(`statistics`) is handed to every tile that the image is in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.graph.ops import Input

__all__ = [
    "Covariance",
    "Here",
    "Pairs",
    "Parameters",
    "Place",
    "Statistics",
    "WindowMethod",
    "is_zero",
    "materialised",
]

Place = tuple[Any, ...]
"""An offset d in one turn of a loop: integers, or tensors that hold them."""

Statistics = dict[str, tuple[Tensor, ...]]
"""What each node needs of one block of images, by its index."""

Made = tuple[Tensor, ...]
WindowMethod = Literal["shifts", "conv2d"]


@dataclass(frozen=True)
class Covariance:
    """The maps of one node at one offset.

    nngp:   E[A_g(x1) A_{g+d}(x2)]
    ntk:    the neural tangent kernel up to here; None where it is 0 or not asked for
    zeros:  whether `nngp` is 0 where g + d is beyond the border
    ntk_zeros: whether `ntk` is
    """

    nngp: Tensor
    ntk: Tensor | None = None
    zeros: bool = True
    ntk_zeros: bool = True


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
    """Which pairs of images the maps are of (pairs.py)."""

    parameters: Parameters
    method: WindowMethod
    with_means: frozenset[int]
    """Nodes whose statistics are means of their inputs."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """Numbers of images, behind the spatial axes of a map; integers where they are known."""

    def data(self, index: int, op: Input, place: Place) -> Tensor:
        """Mean over channels of x1 x2, the covariance of the data itself (equation 10)."""

    def alone(self, place: Place) -> bool:
        """Whether these are an image and itself at offset 0: the maps are variances."""

    def own(self, index: int, place: Place, make: Callable[[], Made]) -> tuple[Made, Made]:
        """Statistics of the first and the second image; see Here.own."""

    def mean(self, index: int) -> Tensor:
        """See Here.mean."""


@dataclass(frozen=True)
class Here:
    """Where a rule is applied: at which node, at which offset, to which pairs."""

    pairs: Pairs
    index: int
    inputs: tuple[int, ...]
    place: Place

    @property
    def parameters(self) -> Parameters:
        """Variances of the random layers."""
        return self.pairs.parameters

    @property
    def alone(self) -> bool:
        """Whether the maps are variances: of an image with itself at offset 0."""
        return self.pairs.alone(self.place)

    def own(self, make: Callable[[], Made]) -> tuple[Made, Made]:
        """Statistics of either image at g and at g + d, shaped to broadcast against the maps.

        make: gives them from the variances, each [*spatial, ..., B]; called where these are
              computed, once per image, and nowhere else.
        Beyond the border they are 0.
        """
        return self.pairs.own(self.index, self.place, make)

    def mean(self, position: int) -> Tensor:
        """E[A_g(x)] of an input, by its position; only from within `make`."""
        return self.pairs.mean(self.inputs[position])


def is_zero(place: Place) -> bool:
    """Whether the offset is known to be 0 when the program is traced."""
    return all(isinstance(d, int) and d == 0 for d in place)


def materialised(k: Tensor, parameters: Parameters) -> Tensor:
    """The map itself, computed once and kept: what comes before does not fuse into what follows.

    XLA on the CPU would fuse an activation into every shifted read of the window sum after it,
    and evaluate it once for each tap: 30 times slower, and minutes of compilation. It does not
    fuse across a branch on a value that it does not know, and hands the buffer through uncopied.
    """
    return tf.cond(parameters.always, lambda: tf.identity(k), lambda: -k)
