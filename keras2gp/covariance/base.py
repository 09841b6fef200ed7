"""The base class of rules, and the values that rules compute on.

Glossary
  offset d  one integer per spatial axis
  k12       [*spatial, B1, B2]  E[A_g(x1_i) A_{g+d}(x2_j)] for one demanded offset d
  k11       [*spatial, B]       E[A_g(x_i)^2], the variances of one block of images
  Theta     the neural tangent kernel, of the shape of its covariance

The images are innermost, so a rule that touches the spatial axes only serves k12 and k11 alike.
The variances depend on one image: they are computed once per image, and the statistics that a rule
makes of them are handed to every tile that the image is in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Generic, Literal, TypeVar

import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap, Tensor
from keras2gp.covariance.seams import Cuts
from keras2gp.covariance.subprograms import Subprograms
from keras2gp.graph.ops import Input, Margin, Op

__all__ = [
    "Covariance",
    "ImageStatistics",
    "Offset",
    "Pairs",
    "Parameters",
    "Reach",
    "Rule",
    "RuleContext",
    "Statistics",
    "WindowMethod",
    "is_zero",
    "materialised",
]

AnyOp = TypeVar("AnyOp", bound=Op)
Maps = tuple[PairMap, ...]
Offset = tuple[Any, ...]
"""An offset d in one iteration of a loop: integers, or scalar tensors that hold them."""
ImageStatistics = tuple[Tensor, ...]
"""Per-image statistics, broadcastable against [*spatial, B1, B2]."""
Statistics = dict[str, ImageStatistics]
"""Statistics of one block of images by the node that needs them; [*spatial, ..., B]."""
Reach = Literal["narrow", "compact", "wide"]
"""The variances that a form in fewer operations holds for, compared with the function's others."""
WindowMethod = Literal["shifts", "conv2d"]


@dataclass(frozen=True)
class Covariance:
    """The maps of one node at one offset.

    nngp:   E[A_g(x1) A_{g+d}(x2)]
    ntk:    Theta; None where it is 0 or not asked for
    zeros:  whether `nngp` is 0 where g + d is beyond the border
    ntk_zeros: whether `ntk` is
    """

    nngp: PairMap
    ntk: PairMap | None = None
    zeros: bool = True
    ntk_zeros: bool = True


@dataclass(frozen=True)
class Parameters:
    """Variances of the layers with weights as tensors, so that new values compile nothing anew.

    One scalar per layer: slicing a vector gives many tiny ops, which XLA sends to its thread pool,
    and with them the whole block.

    boundaries: whether materialised() ends a fusion
    """

    order: tuple[str, ...]
    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    boundaries: bool = True

    @property
    def always(self) -> Tensor:
        """True, but known only at run time: variances are not negative."""
        return self.weights[0] >= 0

    def of(self, layer: str) -> tuple[Tensor, Tensor]:
        """w2 and b2 of a layer, scalars."""
        index = self.order.index(layer)
        return self.weights[index], self.biases[index]

    def with_values(self, values: Mapping[str, tuple[Tensor, Tensor]]) -> Parameters:
        """The same but for w2 and b2 of some layers."""
        both = [values.get(layer, self.of(layer)) for layer in self.order]
        weights, biases = zip(*both, strict=True)
        return replace(self, weights=weights, biases=biases)


class Pairs:
    """The pairs of images that the maps are of: SelfPairs or CrossPairs (pairs.py).

    margins:     what surrounds the tensors of each node, so that they are read at an offset
    needs_means: nodes whose statistics are made of the means of their inputs
    turn:        in a repetition, the number of the stretch: statistics are of all stretches
    """

    zero_first: ClassVar[bool] = False
    """Whether offset 0 computes the statistics that the other offsets read."""

    def __init__(
        self,
        margins: Mapping[int, Margin],
        parameters: Parameters,
        method: WindowMethod,
        needs_means: frozenset[int],
    ) -> None:
        self.margins = margins
        self.parameters = parameters
        self.method = method
        self.needs_means = needs_means
        self.subprograms = Subprograms()
        self.turn: Tensor | None = None

    @contextmanager
    def in_turn(self, turn: Tensor, parameters: Parameters) -> Iterator[None]:
        """The stretch of a repetition that is computed, and its variances."""
        before = self.parameters
        self.turn, self.parameters = turn, parameters
        try:
            yield
        finally:
            self.turn, self.parameters = None, before

    def statistics_of(self, nodes: Iterable[int]) -> dict[int, ImageStatistics]:
        """Takes what was made for nodes of a repetition, with their margins."""
        raise NotImplementedError

    def store_statistics(self, index: int, statistics: ImageStatistics) -> None:
        """Store those of all stretches of a repetition, [count, ...], for a node of the first."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[Any, ...]:
        """Numbers of images, behind the spatial axes of a map; integers where they are known."""
        raise NotImplementedError

    def data(self, index: int, op: Input, offset: Offset) -> PairMap:
        """Mean over channels of x1 x2, the covariance of the data itself (equation 10)."""
        raise NotImplementedError

    def equal(self, index: int, op: Input, offset: Offset) -> PairMap:
        """1 where the data of one channel is equal, x1 = x2, else 0."""
        raise NotImplementedError

    def is_variance(self, offset: Offset) -> bool:
        """Whether the maps are variances: of an image with itself at offset 0."""
        del offset
        return False

    def statistics(
        self, index: int, offset: Offset, make: Callable[[], ImageStatistics]
    ) -> tuple[ImageStatistics, ImageStatistics]:
        """Statistics of the first and the second image (see RuleContext.statistics)."""
        raise NotImplementedError

    def before_loop(self, nodes: Iterable[int]) -> None:
        """Prepare for the iterations of a loop over these nodes."""

    def store_mean(self, index: int, make: Callable[[], ImageMap]) -> None:
        """Store a node's mean if these pairs have one; called where the maps are at offset 0."""

    def data_mean(self, index: int, op: Input) -> ImageMap:
        """Mean over channels of x_g, [*spatial, B]."""
        raise NotImplementedError

    def mean(self, index: int) -> ImageMap:
        """E[A_g(x)] of a node, [*spatial, B]."""
        raise NotImplementedError


@dataclass(frozen=True)
class RuleContext:
    """The place where a rule is applied: a node, an offset and pairs of images.

    cuts: in a cyclic loop the factors of the op's taps, by which they do not cross a seam
    """

    pairs: Pairs
    index: int
    inputs: tuple[int, ...]
    offset: Offset
    cuts: Cuts = ()

    @property
    def parameters(self) -> Parameters:
        """Variances of the layers with weights."""
        return self.pairs.parameters

    @property
    def is_variance(self) -> bool:
        """Whether the maps are variances: of an image with itself at offset 0."""
        return self.pairs.is_variance(self.offset)

    @property
    def needs_means(self) -> bool:
        """Whether the node's covariance is made of the means of its inputs too."""
        return self.index in self.pairs.needs_means

    def statistics(
        self, make: Callable[[], ImageStatistics]
    ) -> tuple[ImageStatistics, ImageStatistics]:
        """Statistics of the first image at g and of the second at g + d; 0 beyond the border.

        make: computes them from the variances, each [*spatial, ..., B]; called once per image
        """
        return self.pairs.statistics(self.index, self.offset, make)

    def mean(self, position: int) -> ImageMap:
        """E[A_g(x)] of an input, by its position; only from within `make`."""
        return self.pairs.mean(self.inputs[position])

    def materialised(self, k: Tensor) -> Tensor:
        """The tensor, computed once and stored (see the function)."""
        return materialised(k, self.parameters)

    def called(self, name: Hashable, part: Callable[..., Any], *tensors: Tensor) -> Any:
        """A pure function of tensors, traced once for all nodes (see Subprograms.call)."""
        return self.pairs.subprograms.call(name, part, *tensors)


class Rule(Generic[AnyOp]):
    """The equations of one op: its covariance, tangent kernel, mean and zeros.

    The defaults are those of a linear op, whose covariance is a linear map of its inputs' ones: the
    same map takes their tangent kernels and their means.
    """

    joint: ClassVar[bool] = False
    """Whether both kernels go through `covariance` as one complex map: it stores its input."""
    limited: bool = False
    """Whether it holds for images of small variances alone: the first statistic of another one is
    not a number."""
    reaches: bool = False
    """Whether it is the rule of the reach that was asked for, not the compact one in its place."""
    needs_inside: bool = False
    """Whether the covariance has to be 0 beyond the border: there it can exceed the variances."""

    def __init__(self, op: AnyOp) -> None:
        self.op = op

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k' for the covariances of the inputs."""
        raise NotImplementedError

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """Theta' for the tangent kernels of the inputs.

        k:    the op's own covariance
        maps: the covariances of its inputs
        """
        del k, maps
        return self.covariance(thetas, context)

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """m' from the means of the inputs, 0 after weights; `maps` are their variances."""
        if self.op.random:
            return tf.zeros_like(maps[0])
        return self.covariance(tuple(context.mean(i) for i in range(len(maps))), context)

    def compact(self, *, tangent: bool, reach: Reach = "compact") -> Rule[AnyOp]:
        """The rule in fewer operations, for images of small variances alone; itself without one.

        reach: where there is such a rule (Dual.compact), else the compact one
        """
        del tangent, reach
        return self

    def in_turn(self, ops: Sequence[AnyOp], turn: Tensor, dtype: Any) -> Rule[AnyOp]:
        """The rule of one of several ops that are equal but for their numbers and layers."""
        del ops, turn, dtype
        return self

    def vanishes(self, inputs: Sequence[Covariance]) -> tuple[bool, bool]:
        """Whether k' and Theta' are 0 where g + d is beyond the border."""
        keeps = self.op.keeps_zeros
        zeros = all(k.zeros for k in inputs)
        return keeps and zeros, keeps and all(k.ntk is None or k.ntk_zeros for k in inputs)

    @property
    def columns(self) -> int:
        """How many numbers of each image and position the rule needs."""
        return 2


def is_zero(offset: Offset) -> bool:
    """Whether the offset is known to be 0 when the program is traced."""
    return all(isinstance(d, int) and d == 0 for d in offset)


def materialised(k: Tensor, parameters: Parameters) -> Tensor:
    """The tensor, computed once and stored: no op before it fuses into an op after it.

    XLA on the CPU would fuse an activation into every shifted read of the window sum after it,
    and evaluate it once for each tap: 30 times slower, and minutes of compilation. It does not
    fuse across a branch on a value that it does not know, and hands the buffer through uncopied.

    Without `boundaries` it is the tensor itself. XLA on a GPU evaluates no activation anew, and
    each branch there is a copy to the host and a wait: on an H100 a block of ResNet-32 takes 1.4
    times longer with them in tiles of 256 x 256 pairs, and 3 times longer in tiles of 64 x 64.
    """
    if not parameters.boundaries:
        return k
    if tf.executing_eagerly():
        return k
    then_branch, else_branch = _branches(k.dtype)
    return tf.raw_ops.StatelessIf(
        cond=parameters.always,
        input=[k],
        Tout=[k.dtype],
        then_branch=then_branch,
        else_branch=else_branch,
        output_shapes=[k.shape],
    )[0]


@cache
def _branches(dtype: Any) -> tuple[Any, Any]:
    """The branches of `materialised`, k and -k, traced once: tf.cond takes 10 ms each time."""
    spec = tf.TensorSpec(None, dtype)
    with tf.init_scope():
        traced = (
            tf.function(branch, autograph=False).get_concrete_function(spec)
            for branch in (tf.identity, tf.negative)
        )
        return tuple(traced)
