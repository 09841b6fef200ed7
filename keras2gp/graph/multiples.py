"""A Gaussian tensor beside functions of its multiples: x + gelu(LN(x)), x * sigmoid(LN(x)).

LN(x) of a Gaussian x is x times a positive number r of the image. A sum with a function of it is
    s x + f phi(r x) = (s + f r E[phi'(r x)]) x + f (phi(r x) - E[phi'(r x)] r x),
a multiple of x and a rest that is uncorrelated with it (Stein's lemma). A product with one is
    x phi(r x) = (1 / r) v phi(v),  v = r x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras2gp.graph.composition import function_of
from keras2gp.graph.graph import Node
from keras2gp.graph.normed import unscaled
from keras2gp.graph.ops import (
    STRAIGHT,
    Activation,
    Composed,
    Kind,
    Multiple,
    Normalize,
    NormalizeAdded,
    Product,
    Rest,
    Scale,
)

__all__ = ["Split", "added", "gated", "split", "times"]

Terms = tuple[tuple[float, Activation, int], ...]
"""Coefficients, functions, and nodes that are positive multiples of one tensor."""


@dataclass(frozen=True)
class Split:
    """An op on nodes: its inputs in order."""

    op: Multiple
    inputs: tuple[int, ...]


def split(
    index: int,
    other: int,
    factors: tuple[float, float],
    nodes: Sequence[Node],
    kinds: Sequence[Kind],
) -> tuple[Split, Rest, int] | None:
    """factors[0] phi(v) + factors[1] u as a multiple of one Gaussian tensor and a rest.

    Returns: the multiple, the rest and its argument v; None if they are no such tensors.
    """
    phi = nodes[index].op
    if not isinstance(phi, Activation) or isinstance(phi, Rest) or phi.even:
        return None
    (v,) = nodes[index].inputs
    if {kinds[v], kinds[other]} != {Kind.GAUSSIAN}:
        return None
    signs, forms = _signs(v, nodes), _forms(other, nodes)
    for base, terms in forms.items():
        if base in signs:
            straight = ((factors[1] * c, function, node) for c, function, node in terms)
            whole = (*straight, (factors[0] * signs[base], phi, v))
            return times(base, base, whole), Rest.beside_slope(phi), v
    return None


def added(
    pair: tuple[int, int],
    factors: tuple[float, float],
    nodes: Sequence[Node],
    kinds: Sequence[Kind],
) -> Split | None:
    """A sum of two multiples of one Gaussian tensor as one, if one of them is an op of its own."""
    if {kinds[i] for i in pair} != {Kind.GAUSSIAN}:
        return None
    first, second = (_forms(i, nodes) for i in pair)
    for base in first:
        if base in second and base not in pair and (len(first[base]) + len(second[base])) > 2:
            both = zip(factors, (first[base], second[base]), strict=True)
            return times(base, base, tuple((f * c, phi, v) for f, t in both for c, phi, v in t))
        if base in pair and base in second and len(second[base]) > 1:
            straight = (factors[0], STRAIGHT, base)
            whole = (straight, *((factors[1] * c, phi, v) for c, phi, v in second[base]))
            return times(base, base, whole) if base == pair[0] else None
    return None


def gated(
    pair: tuple[int, int], nodes: Sequence[Node], kinds: Sequence[Kind]
) -> tuple[int, Composed, Terms] | None:
    """A product of a Gaussian u and a function of its multiple v, as one of v times a number.

    Returns: v, the function v phi(v), and u / v by nodes; None if they are no such tensors.
    """
    for u, other in (pair, pair[::-1]):
        found = function_of([other], nodes, kinds) if kinds[u] is Kind.GAUSSIAN else None
        if found is None:
            continue
        v, steps, (place,) = found
        signs, forms = _signs(v, nodes), _forms(u, nodes)
        for base, terms in forms.items():
            if base in signs:
                whole = Composed.of((*steps, (Product(), (0, place))))
                return v, whole, tuple((signs[base] * c, phi, node) for c, phi, node in terms)
    return None


def times(index: int, base: int, terms: Terms) -> Split:
    """A node times a number that multiples of `base` state."""
    coefficients, functions, others = zip(*terms, strict=True)
    return Split(Multiple(coefficients, functions), (index, base, *others))


def _signs(index: int, nodes: Sequence[Node]) -> dict[int, float]:
    """The tensors that a node is a number times, through scales and norms, with its sign."""
    sign, found = 1.0, {index: 1.0}
    while True:
        node = nodes[index]
        if isinstance(node.op, Scale) and node.op.factor:
            sign *= 1.0 if node.op.factor > 0.0 else -1.0
            (index,) = node.inputs
        elif type(node.op) is Normalize:
            index = node.inputs[node.op.group]
        else:
            return found
        found[index] = sign


def _forms(index: int, nodes: Sequence[Node]) -> dict[int, Terms]:
    """The tensors that a node is a multiple of, and as which; the nearest first."""
    forms: dict[int, Terms] = {
        base: ((sign, STRAIGHT, index),) for base, sign in _signs(index, nodes).items()
    }
    factor, index = unscaled(index, nodes)
    node = nodes[index]
    if isinstance(node.op, NormalizeAdded):
        norm = node.op.plain
        known = [i for i, n in enumerate(nodes) if n.op == norm and n.inputs == node.inputs]
        base = node.inputs[node.op.group]
        for at in known[:1]:
            straight = (factor * node.op.skip, STRAIGHT, base)
            forms[base] = straight, (factor * node.op.factor, STRAIGHT, at)
    if isinstance(node.op, Multiple) and node.inputs[0] == node.inputs[1]:
        stated = zip(node.op.coefficients, node.op.functions, node.inputs[2:], strict=True)
        forms[node.inputs[1]] = tuple((factor * c, phi, v) for c, phi, v in stated)
    return forms
