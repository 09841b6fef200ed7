"""Degrees of expanded activations, which a graph holds, and the notes on them in a report."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from keras2gp.covariance.base import Reach
from keras2gp.covariance.dual import Dual, Limited
from keras2gp.covariance.duals.composed import known_form
from keras2gp.covariance.duals.hermite import Hermite
from keras2gp.covariance.duals.piecewise import Piecewise
from keras2gp.covariance.registry import dual_of, has_dual
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Activation, Composed

__all__ = ["with_degrees"]

_VARIANCES = np.array([1.0, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 5.0, 10.0, 20.0, 50.0, 100.0])
_LARGE = 10.0 ** np.arange(0, 12.5, 0.5)
"""Variances whose largest error is that at any."""


def with_degrees(graph: Graph, tolerance: float) -> tuple[Graph, list[str]]:
    """The graph with the degree of every expansion, and one note for each function.

    tolerance: error of the covariance after an activation, relative to the root of both variances
    """
    nodes = list(graph.nodes)
    notes: dict[Activation, str] = {}
    for index, node in enumerate(nodes):
        op = node.op.function
        if not isinstance(op, Activation) or not has_dual(op):
            continue
        if isinstance(op, Composed):
            op, stated = known_form(op), op
            nodes[index] = replace(node, op=op)
            if not isinstance(op, Composed):
                notes[stated] = f"{stated.name} is {op.name}"
        dual = dual_of(op)
        if isinstance(dual, Piecewise) and dual.edges and op not in notes:
            notes[op] = _integrated(op.name, dual)
        elif dual.saturates and op not in notes:
            notes[op] = f"{op.name} in closed form{_rounding_note(dual)}"
        if isinstance(dual, Hermite):
            dual = dual.with_degree(dual.least_degree(tolerance))
            params = {**dict(op.params), "degree": float(dual.degree)}
            op = replace(op, params=tuple(sorted(params.items())))
            nodes[index] = replace(node, op=node.op.with_function(op))
            if op not in notes:
                notes[op] = _note(op.name, dual, tolerance)
    return replace(graph, nodes=tuple(nodes)), list(notes.values())


def _integrated(name: str, dual: Piecewise) -> str:
    error = "1e-5 (float64: 1e-9)" if dual.differentiable else "2e-4 (float64: 1e-6)"
    beyond = "1e-4 (float64: 1e-7)" if dual.differentiable else "2e-4 (float64: 1e-5)"
    return (
        f"{name} integrated numerically: relative error at most {error} up to a variance of 100, "
        f"and {beyond} beyond{_compact_note(dual)}{_rounding_note(dual)}"
    )


def _rounding_note(dual: Dual) -> str:
    """How exact float32 is where a function that saturates is given large inputs.

    Math: such a function is a step then, of height h, whose k(x, x) is h^2 / 4 or more. Rounding of
        c by e q moves its covariance by h^2 sqrt(2 e) / 2 pi: 4.4e-4 of that for e = 2.4e-7.
    """
    if not dual.saturates:
        return ""
    return (
        "; in float32, nearly parallel inputs of variances from 1e4 on are as exact as the "
        "rounding of their own covariance allows: to 5e-4 (float64: 1e-5)"
    )


def _note(name: str, dual: Hermite, tolerance: float) -> str:
    at_one, *bounds = dual.bounds(_VARIANCES)
    slope = dual.bounds(_VARIANCES[:1], derivative=True)[0]
    within = [q for q, bound in zip(_VARIANCES[1:], bounds, strict=True) if bound <= tolerance]
    reach = f"up to a variance of {within[-1]:g}" if within else "at no variance from 0.1 on"
    return (
        f"{name} expanded to degree {dual.degree}: relative error at most {at_one:.1g} at a "
        f"variance of 1 ({slope:.1g} in a tangent kernel), and at most {tolerance:g} {reach}"
        f"{_beyond_note(dual)}{_end_note(dual)}{_compact_note(dual)}"
    )


def _beyond_note(dual: Hermite) -> str:
    """The errors at larger variances: up to 10, up to 100, and at any that is not refused."""
    parts = []
    for largest in (10.0, 100.0, math.inf):
        q = _LARGE[min(largest, dual.reach) >= _LARGE]
        if len(q) == 0 or (math.isfinite(largest) and largest > dual.reach):
            continue
        error, slope = (_rounded_up(dual.bounds(q, derivative=d).max()) for d in (False, True))
        where = "at any" if math.isinf(largest) else f"up to {largest:g}"
        parts.append(f"{error} ({slope}) {where}")
    return f"; at larger variances at most {', '.join(parts)}" if parts else ""


def _rounded_up(bound: float) -> str:
    """A bound as one digit, which is not below it."""
    unit = 10.0 ** math.floor(math.log10(bound))
    return f"{math.ceil(bound / unit - 1e-9) * unit:.1g}"


def _end_note(dual: Hermite) -> str:
    """The largest variance, where it is less than that of all expansions."""
    if math.isinf(dual.reach):
        return ""
    return f", and refused beyond one of {dual.reach:.3g}, where the bound of the error is 20%"


def _compact_note(dual: Dual) -> str:
    reaches: tuple[Reach, ...] = "compact", "narrow", "wide"
    forms = [form for r in reaches if isinstance(form := dual.compact(reach=r), Limited)]
    if not forms:
        return ""
    start = "; in float32, where no variance of a block of images is above "
    return start + ", and where none is above ".join(map(_within_its_limit, forms))


def _within_its_limit(dual: Limited) -> str:
    form = f"in {dual.width} {dual.parts}" if dual.width else "by its two slopes next to 0"
    return f"{dual.limit:.4g}, {form} with an error of at most {dual.errors[0]:.1g}"
