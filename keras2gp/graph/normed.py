"""A tensor beside its normalisation, and beside homogeneous functions of it: x + relu(LN(x)).

LN(x) is x times a number that depends on the image, less a mean. Sums of x and LN(x) are therefore
one op, NormalizeAdded. A homogeneous function of a Gaussian tensor v is straight but for its size,
    relu(v) = v / 2 + |v| / 2,    leaky_relu(v) = (1 + a) / 2 v + (1 - a) / 2 |v|,
and E[u |v|] = 0 for jointly Gaussian u and v: what is left beside |v| are sums of x and LN(x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras2gp.graph.graph import Node
from keras2gp.graph.ops import Activation, Composed, Kind, Normalize, NormalizeAdded, Scale

__all__ = ["Normed", "beside", "halves", "slopes", "unscaled"]


@dataclass(frozen=True)
class Normed:
    """A tensor as skip A + factor (A - mean) r of one tensor A.

    base:   the node A
    norm:   the normalisation, and all its inputs; None where there is none
    """

    base: int
    norm: tuple[Normalize, tuple[int, ...]] | None
    skip: float
    factor: float

    def added(self, other: Normed, first: float, second: float) -> Normed | None:
        """The sum of both, with a coefficient each; None if their tensors or norms differ."""
        norms = {each.norm for each in (self, other) if each.norm is not None}
        if self.base != other.base or len(norms) != 1:
            return None
        (norm,) = norms
        skip = first * self.skip + second * other.skip
        return Normed(self.base, norm, skip, first * self.factor + second * other.factor)

    @property
    def op(self) -> NormalizeAdded | None:
        """The tensor as an op on the inputs of the normalisation; None without a normalisation."""
        return None if self.norm is None else self.norm[0].beside(self.skip, self.factor)


def beside(
    pair: tuple[int, int], terms: Mapping[int, float], nodes: Sequence[Node]
) -> Normed | None:
    """Two terms of a sum as one tensor beside its normalisation; None if they are not."""
    first, second = pair
    for one in _forms(first, nodes):
        for two in _forms(second, nodes):
            both = one.added(two, terms[first], terms[second])
            if both is not None:
                return both
    return None


def slopes(
    index: int, other: int, nodes: Sequence[Node], kinds: Sequence[Kind]
) -> tuple[int, float, float] | None:
    """An activation as a v + b |v|, if v and the other node are Gaussian and numbers times one A.

    Returns: v, a and b.
    """
    op = nodes[index].op
    parts = halves(index, nodes, kinds)
    if (
        parts is None
        or kinds[other] is not Kind.GAUSSIAN
        or (isinstance(op, Activation) and op.even)
    ):
        return None
    bases = ({form.base for form in _forms(i, nodes)} for i in (parts[0], other))
    return parts if set.intersection(*bases) else None


def halves(
    index: int, nodes: Sequence[Node], kinds: Sequence[Kind]
) -> tuple[int, float, float] | None:
    """An activation of a Gaussian v as a v + b |v|; None if it is not homogeneous.

    Returns: v, a and b.
    """
    op = nodes[index].op
    if not isinstance(op, Activation):
        return None
    (v,) = nodes[index].inputs
    above, below = _value(op, 1.0), _value(op, -1.0)
    if above is None or below is None or kinds[v] is not Kind.GAUSSIAN:
        return None
    return v, (above - below) / 2.0, (above + below) / 2.0


def _value(op: Activation, u: float) -> float | None:
    """A function at a point, if it has a slope on each side of 0 and is 0 there; else None."""
    if not isinstance(op, Composed):
        if not op.homogeneous:
            return None
        slope = dict(op.params).get("negative_slope", -1.0 if op.even else 0.0)
        return u if u >= 0.0 or op.name == "linear" else slope * u
    values: list[float] = [u]
    for step, inputs in op.steps:
        read = [values[i] for i in inputs]
        value = _value(step, read[0]) if isinstance(step, Activation) else None
        if step.sum_weights:
            value = sum(c * x for c, x in zip(step.sum_weights, read, strict=True))
        if value is None:
            return None
        values.append(value)
    return values[-1]


def _forms(index: int, nodes: Sequence[Node]) -> list[Normed]:
    """A node as a factor times a tensor; and, for a normalisation, as a form of its argument."""
    scale, index = unscaled(index, nodes)
    forms = [Normed(index, None, scale, 0.0)]
    node = nodes[index]
    op = node.op
    if isinstance(op, Normalize):
        skip, factor = (op.skip, op.factor) if isinstance(op, NormalizeAdded) else (0.0, 1.0)
        norm = op.plain, node.inputs
        forms.append(Normed(node.inputs[op.group], norm, scale * skip, scale * factor))
    return forms


def unscaled(index: int, nodes: Sequence[Node]) -> tuple[float, int]:
    """A node as a number times another node, which is not a Scale."""
    factor = 1.0
    while isinstance(op := nodes[index].op, Scale):
        factor *= op.factor
        (index,) = nodes[index].inputs
    return factor, index
