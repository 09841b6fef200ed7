"""A Gaussian tensor beside functions of its multiples: x + gelu(LN(x)), x * sigmoid(LN(x)).

LN(x) of a Gaussian x is x times a positive number r of the image. A sum with a function of it is
    s x + f phi(r x) = (s + f r E[phi'(r x)]) x + f (phi(r x) - E[phi'(r x)] r x),
a multiple of x and a rest that is uncorrelated with it (Stein's lemma). A product with one is
    x phi(r x) = (1 / r) v phi(v),  v = r x,
and x + x phi(r x) = (1 / r) (v + v phi(v)), one function of v times one number.
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

__all__ = [
    "ScaledNode",
    "base_of",
    "gated_product",
    "gates_of",
    "quotient",
    "ratio",
    "scaled_by",
    "split",
    "sum_of_multiples",
]

Terms = tuple[tuple[float, Activation, int], ...]
"""Coefficients, functions, and nodes that are positive multiples of one tensor."""


@dataclass(frozen=True)
class ScaledNode:
    """A node times a number known of each image: the op, and the nodes that it reads in order."""

    op: Multiple
    inputs: tuple[int, ...]


def split(
    index: int,
    other: int,
    factors: tuple[float, float],
    nodes: Sequence[Node],
    kinds: Sequence[Kind],
) -> tuple[ScaledNode, Rest, int] | None:
    """factors[0] phi(v) + factors[1] u as a multiple of one Gaussian tensor and a rest.

    Returns: the multiple, the rest and its argument v; None unless u and v are multiples of one
        Gaussian tensor and phi is neither even nor a Rest.
    """
    phi = nodes[index].op
    if not isinstance(phi, Activation) or isinstance(phi, Rest) or phi.even:
        return None
    (v,) = nodes[index].inputs
    if {kinds[v], kinds[other]} != {Kind.GAUSSIAN}:
        return None
    signs, forms = _scale_bases(v, nodes), _forms(other, nodes)
    for base, terms in forms.items():
        if base in signs:
            straight = ((factors[1] * c, function, node) for c, function, node in terms)
            number = (*straight, (factors[0] * signs[base], phi, v))
            return scaled_by(base, base, number), Rest.beside_slope(phi), v
    return None


def sum_of_multiples(
    pair: tuple[int, int],
    factors: tuple[float, float],
    nodes: Sequence[Node],
    kinds: Sequence[Kind],
) -> ScaledNode | None:
    """A sum of two multiples of one Gaussian tensor as one multiple of it.

    None unless both are such multiples, and one of them is a Multiple or a NormalizeAdded.
    """
    if {kinds[i] for i in pair} != {Kind.GAUSSIAN}:
        return None
    first, second = (_forms(i, nodes) for i in pair)
    for base in first:
        if base in second and base not in pair and (len(first[base]) + len(second[base])) > 2:
            both = zip(factors, (first[base], second[base]), strict=True)
            return scaled_by(base, base, tuple((f * c, phi, v) for f, t in both for c, phi, v in t))
        if base in pair and base in second and len(second[base]) > 1:
            straight = (factors[0], STRAIGHT, base)
            number = (straight, *((factors[1] * c, phi, v) for c, phi, v in second[base]))
            return scaled_by(base, base, number) if base == pair[0] else None
    return None


def gated_product(
    pair: tuple[int, int], nodes: Sequence[Node], kinds: Sequence[Kind]
) -> tuple[int, Composed, Terms] | None:
    """A product of u and a function of its multiple v, as a function of v times a number.

    u is a Gaussian tensor, or a homogeneous function of one: relu(u) = (u / v) relu(v) for a number
    u / v from 0 on.

    Returns: v, the function, and u / v by nodes; None unless u and v are multiples of one Gaussian
        tensor.
    """
    for u, other in (pair, pair[::-1]):
        head, argument = _homogeneous(u, nodes, kinds)
        function = None if argument is None else function_of([other], nodes, kinds)
        if function is None or argument is None:
            continue
        v, steps, (place,) = function
        terms = ratio_of_nodes(argument, v, nodes)
        if terms is not None and (head is None or _is_positive(terms)):
            at = 0 if head is None else len(steps) + 1
            outer = () if head is None else ((head, (0,)),)
            return v, Composed.of((*steps, *outer, (Product(), (at, place)))), terms
    return None


def quotient(
    index: int, v: int, nodes: Sequence[Node], kinds: Sequence[Kind]
) -> tuple[int, Activation | None, Terms] | None:
    """A node as F, or as a homogeneous function of F, times a number; F is a function of v.

    Returns: F, the homogeneous function or None, and the number by its terms over v.
    """
    factor, index = unscaled(index, nodes)
    node = nodes[index]
    if isinstance(node.op, Multiple) and node.inputs[1] == v != node.inputs[0]:
        terms_of_op = zip(node.op.coefficients, node.op.functions, node.inputs[2:], strict=True)
        return node.inputs[0], None, tuple((factor * c, phi, i) for c, phi, i in terms_of_op)
    head, argument = _homogeneous(index, nodes, kinds)
    terms = None if argument is None else ratio_of_nodes(argument, v, nodes)
    if terms is None or (head is not None and not _is_positive(terms)):
        return None
    return v, head, tuple((factor * c, phi, i) for c, phi, i in terms)


def gates_of(pair: tuple[int, int], nodes: Sequence[Node]) -> list[int]:
    """The tensors of which one of two nodes is a function, times a number."""
    unscaled_nodes = (nodes[unscaled(index, nodes)[1]] for index in pair)
    multiples = [n for n in unscaled_nodes if isinstance(n.op, Multiple)]
    return [n.inputs[1] for n in multiples if n.inputs[0] != n.inputs[1]]


def ratio(first: Terms, second: Terms) -> float | None:
    """The number that the second is times the first; None if they are not proportional."""
    if [term[1:] for term in first] != [term[1:] for term in second] or not first[0][0]:
        return None
    number = second[0][0] / first[0][0]
    pairs = zip(first, second, strict=True)
    return number if all(number * one[0] == other[0] for one, other in pairs) else None


def base_of(u: int, v: int, nodes: Sequence[Node]) -> int | None:
    """The nearest tensor that two Gaussian ones are numbers times; None if there is none."""
    known = _scale_bases(v, nodes)
    return next((base for base in _scale_bases(u, nodes) if base in known), None)


def ratio_of_nodes(u: int, v: int, nodes: Sequence[Node]) -> Terms | None:
    """u / v by nodes, where both are Gaussian and multiples of one tensor; else None."""
    signs, forms = _scale_bases(v, nodes), _forms(u, nodes)
    for base, terms in forms.items():
        if base in signs:
            return tuple(
                _unscaled_term(signs[base] * c, phi, node, nodes) for c, phi, node in terms
            )
    return None


def _unscaled_term(
    c: float, phi: Activation, node: int, nodes: Sequence[Node]
) -> tuple[float, Activation, int]:
    """A term of a number; where phi is linear, the node is replaced by the one that it scales."""
    if phi != STRAIGHT:
        return c, phi, node
    factor, inner = unscaled(node, nodes)
    return c * abs(factor), phi, inner


def _homogeneous(
    index: int, nodes: Sequence[Node], kinds: Sequence[Kind]
) -> tuple[Activation | None, int | None]:
    """A homogeneous function and its Gaussian argument, or None and a Gaussian node."""
    if kinds[index] is Kind.GAUSSIAN:
        return None, index
    op = nodes[index].op
    if isinstance(op, Activation) and op.homogeneous:
        (argument,) = nodes[index].inputs
        if kinds[argument] is Kind.GAUSSIAN:
            return op, argument
    return None, None


def _is_positive(terms: Terms) -> bool:
    """Whether a number is from 0 on whatever the image."""
    return all(c >= 0.0 and phi == STRAIGHT for c, phi, _ in terms)


def scaled_by(index: int, base: int, terms: Terms) -> ScaledNode:
    """A node times the number that the terms, multiples of `base`, add up to."""
    coefficients, functions, others = zip(*terms, strict=True)
    return ScaledNode(Multiple(coefficients, functions), (index, base, *others))


def _scale_bases(index: int, nodes: Sequence[Node]) -> dict[int, float]:
    """The tensors that a node is a multiple of, through scales and norms, with the signs."""
    sign, signs = 1.0, {index: 1.0}
    while True:
        node = nodes[index]
        if isinstance(node.op, Scale) and node.op.factor:
            sign *= 1.0 if node.op.factor > 0.0 else -1.0
            (index,) = node.inputs
        elif type(node.op) is Normalize:
            index = node.inputs[node.op.group]
        else:
            return signs
        signs[index] = sign


def _forms(index: int, nodes: Sequence[Node]) -> dict[int, Terms]:
    """The tensors that a node is a multiple of, with the number's terms; the nearest first."""
    forms: dict[int, Terms] = {
        base: ((sign, STRAIGHT, index),) for base, sign in _scale_bases(index, nodes).items()
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
        terms = zip(node.op.coefficients, node.op.functions, node.inputs[2:], strict=True)
        forms[node.inputs[1]] = tuple((factor * c, phi, v) for c, phi, v in terms)
    return forms
