"""Which channels of which random layers one channel of a tensor depends on.

Covariances of summed branches add if no weights are shared. The moments of a product are products
of moments only if the factors are independent. An ordinary layer sums over ever more channels: its
output does not depend on any of them. A depthwise convolution acts on each channel alone: it is
uncorrelated with its input, and not independent of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from keras2gp.graph.ops import Kind, Op

__all__ = ["Origins", "OtherChannels", "may_depend", "origins"]

Origins = frozenset[tuple[int, int | None]]
"""Nodes of random layers, with how far their channels are renumbered; None: any channel."""


@dataclass(frozen=True)
class OtherChannels(Op):
    """The same tensor with its channels renumbered: channel c is channel c + shift of the input.

    On a source it acts as another source, since the channels of a source are independent and alike.
    """

    shift: int
    random: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """The input's kind."""
        return inputs[0]

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True if the input is never negative."""
        return inputs[0]

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """True if the mean of the input is 0."""
        return inputs[0]


def origins(op: Op, index: int, inputs: Sequence[Origins]) -> Origins:
    """The sources that one channel of a node depends on, from the same of its inputs.

    index: the node
    """
    if isinstance(op, OtherChannels):
        return frozenset((n, None if s is None else s + op.shift) for n, s in inputs[0])
    if op.single or op.moves_channels:
        return frozenset((n, None) for source in inputs for n, _ in source)
    if not op.random:
        own = op.sources(index, [frozenset([i]) for i in range(len(inputs))])
        return frozenset[tuple[int, int | None]]().union(*(inputs[i] for i in own))
    own_channel: Origins = frozenset([(index, 0)])
    if not op.channelwise:
        return own_channel
    return own_channel | {(n, None) for source in inputs for n, _ in source}


def may_depend(first: Origins, second: Origins) -> frozenset[int]:
    """The nodes that two tensors may share a channel of; none if they are independent."""
    pairs = ((n, s, t) for n, s in first for m, t in second if n == m)
    return frozenset(n for n, s, t in pairs if s == t or None in (s, t))
