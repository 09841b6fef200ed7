"""Duals of functions that are made of several ops, from their steps: x sigmoid(x), relu(x + 1).

Steps between corners are polynomials as long as their functions are: those of degree 2 at most have
the duals of such functions, exact or integrated. Other functions are expanded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import pairwise
from operator import mul
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.dual import Dual
from keras2gp.covariance.duals.elementary import polynomial
from keras2gp.covariance.duals.expanded import Expanded
from keras2gp.covariance.duals.hermite import Hermite
from keras2gp.covariance.duals.homogeneous import TwoSlopes
from keras2gp.covariance.duals.piecewise import Piecewise
from keras2gp.covariance.registry import OWN, dual_of, dual_of_function, has_dual
from keras2gp.errors import InputError
from keras2gp.graph.ops import Activation, Composed, Op, Scale, Shift, Steps, Sum

__all__ = ["Function", "dual_of_steps", "known_form", "reason_of_steps"]

_CLOSED = {
    "cos": tf.cos,
    "erf": tf.math.erf,
    "exp": tf.exp,
    "exponential": tf.exp,
    "gelu": lambda u: u * (1 + tf.math.erf(u / math.sqrt(2))) / 2,
    "sin": tf.sin,
}
"""Functions whose duals are closed forms and hold no function."""
_KNOWN = [
    "gelu",
    "gelu_tanh",
    "log_sigmoid",
    "mish",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "tanh",
    "tanh_shrink",
]
"""Functions that people write out."""
_PROBES = np.linspace(-9.0, 9.0, 91)
_SAME = 1e-13

Polynomial = tuple[float, ...]
"""Coefficients, the constant first."""


@dataclass(frozen=True)
class Pieces:
    """A function of polynomials between corners.

    edges:       the corners, in order
    polynomials: one more than corners
    """

    edges: tuple[float, ...]
    polynomials: tuple[Polynomial, ...]

    def at(self, edges: Sequence[float]) -> list[Polynomial]:
        """The polynomials between these corners, which hold its own."""
        ends = [-math.inf, *edges, math.inf]
        return [self.polynomials[_piece(self.edges, low, high)] for low, high in pairwise(ends)]


def _piece(edges: Sequence[float], low: float, high: float) -> int:
    """The number of the piece between two corners."""
    return sum(edge <= low for edge in edges) if low > -math.inf else sum(e < high for e in edges)


class Function(Expanded):
    """The expanded dual of a function that is made of several ops."""

    constants: ClassVar[tuple[str, ...]] = ("steps",)

    def __init__(self, steps: Steps, degree: float | None = None) -> None:
        self.steps = steps
        super().__init__(lambda u: _value(steps, u), _corners(steps), degree)


@dual_of_function(Composed)
def dual_of_steps(op: Composed) -> Dual:
    """The dual of a composed activation, at the degree that it states.

    Raises: InputError if the function of a step is not known, or jumps where that has no rule.
    """
    degree = dict(op.params).get("degree")
    dual = _dual(op.steps)
    return dual if degree is None else dual.with_degree(int(degree))


def reason_of_steps(op: Composed) -> tuple[str, str]:
    """Why a composed activation has no dual, and what would work instead."""
    try:
        dual_of_steps(op)
    except InputError as error:
        why, _, hint = str(error).partition(" Try: ")
        return why.rstrip("."), hint
    return "it has one", ""


def known_form(op: Activation) -> Activation:
    """The activation of one name that a composed one equals, such as silu; else itself."""
    if not isinstance(op, Composed) or not isinstance(dual_of(op), Function):
        return op
    u = tf.constant(_PROBES, tf.float64)
    values = _value(op.steps, u)
    for name in _KNOWN:
        error = tf.abs(_value(((Activation(name), (0,)),), u) - values)
        if float(tf.reduce_max(error / (1 + tf.abs(values)))) <= _SAME:
            return Activation(name)
    return op


@cache
def _dual(steps: Steps) -> Dual:
    with tf.init_scope():  # a program may be traced around it
        return _made(steps)


def _made(steps: Steps) -> Dual:
    for op, _ in steps:
        if isinstance(op, Activation):
            _require_function(op)
    pieces = _pieces(steps)[-1]
    if pieces is None:
        return Function(steps)
    edges, polynomials = _merged(pieces)
    if max(map(len, polynomials)) <= 2 and set(edges) <= {0.0}:
        left, right = ((*polynomials[i], 0.0)[:2] for i in (0, -1))
        if left[0] == right[0] == 0.0:
            return TwoSlopes(left[1], right[1])
    if max(map(len, polynomials)) > 3:
        return Function(steps)
    try:
        return Piecewise(edges, polynomials)
    except ValueError as error:
        raise InputError(f"it jumps, and {error}. Try: a continuous function") from error


def _require_function(op: Activation) -> None:
    """Raises: InputError if an activation's own function is not known here."""
    if not has_dual(op):
        raise InputError(f"{op.name} is not known here. Try: a dual: keras2gp.dual")
    dual = dual_of(op)
    holds = isinstance(dual, Hermite | Piecewise | TwoSlopes) or op.name in (*_CLOSED, "relu")
    if op.name.endswith(OWN) or not holds:
        raise InputError(
            f"nothing that a saved kernel can hold says which function {op.name} is. Try: the "
            "whole as one function of your own, activations={name: function}"
        )


def _value(steps: Steps, u: Tensor) -> Tensor:
    """The function at points u."""
    values = [u]
    for op, inputs in steps:
        read = [values[i] for i in inputs]
        values.append(_step(op, read))
    return values[-1]


def _step(op: Op, read: Sequence[Tensor]) -> Tensor:
    if isinstance(op, Scale):
        return op.factor * read[0]
    if isinstance(op, Shift):
        return read[0] + op.constant
    if isinstance(op, Sum):
        return sum(c * x for c, x in zip(op.coefficients, read, strict=True))
    if not isinstance(op, Activation):
        return reduce(mul, read)
    pieces = _pieces_of(op)
    if pieces is not None:
        return _joined(pieces, read[0])
    if op.name in _CLOSED:
        return _CLOSED[op.name](read[0])
    phi: Tensor = _expansion(op).phi(read[0])
    return phi


def _expansion(op: Activation) -> Hermite:
    """The dual of an activation that holds its function."""
    dual = dual_of(op)
    if not isinstance(dual, Hermite):
        raise InputError(f"the function of {op.name} is not known here")
    return dual


def _joined(pieces: Pieces, u: Tensor) -> Tensor:
    """Polynomials between corners, at points."""
    first, *rest = (polynomial(p, u) + tf.zeros_like(u) for p in pieces.polynomials)
    value = first
    for edge, other in zip(pieces.edges, rest, strict=True):
        value = tf.where(u > edge, other, value)
    return value


def _pieces_of(op: Activation) -> Pieces | None:
    """The polynomials of an activation that is made of them."""
    if op.name == "linear":
        return Pieces((), ((0.0, 1.0),))
    dual = dual_of(op)
    if isinstance(dual, Piecewise):
        return Pieces(dual.edges, dual.polynomials)
    if op.name == "relu":
        return Pieces((0.0,), ((0.0,), (0.0, 1.0)))
    if isinstance(dual, TwoSlopes):
        return Pieces((0.0,), ((0.0, dual.left), (0.0, dual.right)))
    return None


def _pieces(steps: Steps) -> list[Pieces | None]:
    """u and every step as polynomials between corners; None for those that are none."""
    results: list[Pieces | None] = [Pieces((), ((0.0, 1.0),))]
    for op, inputs in steps:
        read = [results[i] for i in inputs]
        results.append(_combined(op, [p for p in read if p is not None]) if all(read) else None)
    return results


def _combined(op: Op, read: Sequence[Pieces]) -> Pieces | None:
    """One step of polynomials between corners."""
    if isinstance(op, Activation):
        outer = _pieces_of(op)
        return None if outer is None else _inserted(outer, read[0])
    edges = sorted({edge for pieces in read for edge in pieces.edges})
    columns = list(zip(*(pieces.at(edges) for pieces in read), strict=True))
    poly = np.polynomial.polynomial
    if isinstance(op, Scale):
        made = [np.multiply(op.factor, p) for (p,) in columns]
    elif isinstance(op, Shift):
        made = [poly.polyadd(p, (op.constant,)) for (p,) in columns]
    elif isinstance(op, Sum):
        made = [
            reduce(
                poly.polyadd, [np.multiply(c, p) for c, p in zip(op.coefficients, ps, strict=True)]
            )
            for ps in columns
        ]
    else:
        made = [reduce(poly.polymul, ps) for ps in columns]
    return Pieces(tuple(edges), tuple(tuple(map(float, p)) for p in made))


def _inserted(outer: Pieces, inner: Pieces) -> Pieces | None:
    """A function of polynomials of another; None if it has corners and that is not straight."""
    polynomials = [np.polynomial.polynomial.polytrim(p) for p in inner.polynomials]
    if outer.edges and any(len(p) > 2 for p in polynomials):
        return None
    ends = [-math.inf, *inner.edges, math.inf]
    edges = set(inner.edges)
    for p, (low, high) in zip(polynomials, pairwise(ends), strict=True):
        if len(p) == 2:
            crossings = ((edge - p[0]) / p[1] for edge in outer.edges)
            edges |= {float(u) for u in crossings if low < u < high}
    ordered = sorted(edges)
    pieces: list[Polynomial] = []
    for number, straight in enumerate(inner.at(ordered)):
        low, high = [-math.inf, *ordered, math.inf][number : number + 2]
        middle = _between(low, high)
        value = float(np.polynomial.polynomial.polyval(middle, straight))
        chosen = outer.polynomials[sum(edge < value for edge in outer.edges)]
        value_of: Any = np.polynomial.Polynomial(chosen)(np.polynomial.Polynomial(straight))
        pieces.append(tuple(float(a) for a in np.ravel(getattr(value_of, "coef", value_of))))
    return Pieces(tuple(ordered), tuple(pieces))


def _between(low: float, high: float) -> float:
    """A number between two, which may be infinite."""
    if low == -math.inf:
        return 0.0 if high == math.inf else high - 1.0
    return low + 1.0 if high == math.inf else (low + high) / 2


def _merged(pieces: Pieces) -> tuple[list[float], list[Polynomial]]:
    """Corners and polynomials without corners at which nothing changes, or trailing zeros."""
    trimmed = [tuple(map(float, np.polynomial.polynomial.polytrim(p))) for p in pieces.polynomials]
    edges: list[float] = []
    polynomials = trimmed[:1]
    for edge, piece in zip(pieces.edges, trimmed[1:], strict=True):
        if piece != polynomials[-1]:
            edges.append(edge)
            polynomials.append(piece)
    return edges, polynomials


def _corners(steps: Steps) -> list[float]:
    """Where a derivative of a step may jump, as far as its argument is straight there."""
    corners: set[float] = set()
    pieces = _pieces(steps)
    for op, inputs in steps:
        read = pieces[inputs[0]]
        if not isinstance(op, Activation) or read is None:
            continue
        outer = _pieces_of(op)
        dual = dual_of(op)
        kinks = outer.edges if outer else dual.kinks if isinstance(dual, Hermite) else ()
        stepped = Pieces(tuple(kinks), tuple((float(i),) for i in range(len(kinks) + 1)))
        inserted = _inserted(stepped, read)
        corners |= set(inserted.edges if inserted else read.edges)
    return sorted(corners)
