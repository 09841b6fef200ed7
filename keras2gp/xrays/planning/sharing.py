"""Programs of several variants: those that begin alike compute what they share once.

A variant that differs from the model behind a pooling has the same maps in front of it, at all of
their offsets, and these are most of its work. Without pooling, variants that differ in late layers
have the early ones in common. So the graphs of such variants are one graph, in which equal nodes
are one, and its output has a position for each variant. The values are those of kernels on their
own, up to the last digits of the dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from keras2gp._util.arrays import Indices
from keras2gp.graph.graph import Graph, GraphBuilder
from keras2gp.graph.ops import Axes, Op, Pad, Sum, Weighted
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.kernel import Kernel
from keras2gp.kernel.parts import KernelParts
from keras2gp.matrices.fingerprint import digest
from keras2gp.matrices.footprint import footprint_of
from keras2gp.xrays.variants.subject import Variant
from keras2gp.xrays.variants.work import entries_of, work_of, work_of_loops

__all__ = ["FEWEST", "Share", "chosen_rows", "joint_kernel", "shares_of"]

_MOST = 12
"""Kernels of one program: a larger one is compiled for minutes."""
_MOST_BYTES = 2**29
"""Memory of the matrices of one program."""
_HEAVY = 0.5
"""Share of a kernel's work that it must have in common with others."""
_BEGUN = 0.1
"""Share of a kernel's work that it must have in common with the model's, without offsets."""
_GAIN = 0.8
"""Work of a program relative to that of its kernels on their own, at most."""
FEWEST = 200
"""Rows that every variant is compared on, if there are so many."""
_SOON = 6e10
"""Entries of maps that take a minute of one core: a kernel of less has all rows."""


@dataclass(frozen=True, eq=False)
class Share:
    """How the matrix of one variant is computed.

    Attributes:
        own: the variant's kernel.
        kernel: of the program, whose output may have a position for each of several variants.
        key: names the matrix of the program.
        place: the variant's position; None where the program is of this variant alone.
        rows: number of images that the variant is compared on.
        work: of a pair of the whole program, relative to that of the model.
    """

    own: Kernel
    kernel: Kernel
    key: str
    place: int | None
    rows: int
    work: float

    def pairs(self, others: int) -> int:
        """Entries of the matrix of the variant's rows, and of that of so many others with them."""
        return self.rows * (self.rows + 1) // 2 + self.rows * others


def shares_of(variants: Sequence[Variant], rows: int, others: int, full_work: float) -> list[Share]:
    """How the matrices of variants that have kernels are computed, in their order.

    Args:
        variants: the model as it is first.
        rows: number of images.
        others: number of test images.
        full_work: a kernel of more work than so many times the model's has fewer rows.
    """
    kernels = {v.key: v.kernel for v in variants if v.kernel is not None}
    base = work_of(kernels[variants[0].key])
    shares: dict[str, Share] = {}
    most = min(_MOST, _MOST_BYTES // (4 * rows * (rows + others)))
    for alike in (_alike, partial(_begun_alike, variants[0])):
        left = [v for v in variants if v.key not in shares]
        for group in alike(left, kernels, most):
            own = [kernels[v.key] for v in group]
            kernel = joint_kernel(own)
            work = work_of(kernel)
            if work > _GAIN * sum(map(work_of, own)):
                continue
            key = digest({"kernels": [v.key for v in group]})[:16]
            for place, variant in enumerate(group):
                shares[variant.key] = Share(own[place], kernel, key, place, rows, work / base)
    for variant in variants:
        count = rows
        if variant.key not in shares and variant is not variants[0]:
            count = _rows(variant.work, rows, full_work, 0.5 * base * rows**2)
        kernel = kernels[variant.key]
        alone = Share(kernel, kernel, variant.key, None, count, variant.work)
        shares.setdefault(variant.key, alone)
    return [shares[variant.key] for variant in variants]


def chosen_rows(count: int, of: int, seed: int) -> Indices:
    """The rows that a variant with fewer than all is compared on: random ones, sorted."""
    order = np.random.default_rng((seed, 0x20F5)).permutation(of)
    return np.sort(order[:count])


def _rows(work: float, rows: int, full_work: float, base: float) -> int:
    """Rows on which a kernel takes as long as one of the allowed work does on all of them."""
    allowed = max(full_work, _SOON / base)
    if work <= allowed:
        return rows
    return min(rows, max(FEWEST, int(rows * (allowed / work) ** 0.5)))


def _alike(
    variants: Sequence[Variant], kernels: Mapping[str, Kernel], most: int
) -> list[list[Variant]]:
    """Variants whose heaviest loop gives maps of the first of them, of the same images.

    It takes no more turns than that of the first one: further offsets would be of one variant.
    """
    merged = _Merged()
    groups: dict[Any, list[tuple[int, list[Variant]]]] = {}
    for variant in variants:
        kernel = kernels[variant.key]
        loops, works = kernel.program.program.analysis.loops, work_of_loops(kernel)
        heaviest = int(np.argmax(works))
        if heaviest == len(loops) - 1 or works[heaviest] < _HEAVY * sum(works):
            continue
        turns = len(loops[heaviest].turns)
        result = merged.add(kernel)[loops[heaviest].result]
        begun = groups.setdefault((variant.data, result), [])
        for most_turns, group in begun:
            if turns <= most_turns and len(group) < most:
                group.append(variant)
                break
        else:
            begun.append((turns, [variant]))
    every = (group for begun in groups.values() for _, group in begun)
    return [group for group in every if len(group) > 1]


def _begun_alike(
    base: Variant, variants: Sequence[Variant], kernels: Mapping[str, Kernel], most: int
) -> list[list[Variant]]:
    """Variants without loops over offsets: those together that leave the model's layers late.

    Tiles suit the activation with the most statistics, so that those with more are on their own.
    """
    merged, shared = _Merged(), list[tuple[float, Variant]]()
    places = set(merged.add(kernels[base.key]))
    columns = footprint_of(kernels[base.key].graph).columns
    for variant in variants:
        kernel = kernels[variant.key]
        turns = max(len(loop.turns) for loop in kernel.program.program.analysis.loops)
        others = variant.data != base.data
        if others or turns > 1 or footprint_of(kernel.graph).columns > columns:
            continue
        works = [entries_of(node) for node in kernel.graph.nodes]
        both = zip(works, merged.add(kernel), strict=True)
        common = sum(work for work, place in both if place in places) / max(sum(works), 1.0)
        if common >= _BEGUN:
            shared.append((common, variant))
    shared.sort(key=lambda pair: -pair[0])  # the model as it is first
    found = [shared[i : i + most] for i in range(0, len(shared), max(most, 1))]
    return [[variant for _, variant in group] for group in found if len(group) > 1]


class _Merged:
    """The nodes of several kernels in one graph, where equal ones with equal variances are one."""

    def __init__(self) -> None:
        self.builder = GraphBuilder()
        self.parameters: dict[str, LayerVariances] = {}
        self._names: dict[tuple[str, LayerVariances], str] = {}

    def add(self, kernel: Kernel) -> list[int]:
        """Add a kernel. Returns: the node of the graph for each of its nodes."""
        places: list[int] = []
        for node in kernel.graph.nodes:
            inputs = tuple(places[i] for i in node.inputs)
            places.append(self.builder.add(self._named(node.op, kernel), inputs, node.path))
        return places

    def _named(self, op: Op, kernel: Kernel) -> Op:
        """The op with a layer's name that no layer of other variances has."""
        if not isinstance(op, Weighted):
            return op
        fact = op.layer, kernel.parameters[op.layer]
        if fact not in self._names:
            name, number = op.layer, 0
            while name in self.parameters:
                number += 1
                name = f"{op.layer} of {number}"
            self._names[fact], self.parameters[name] = name, fact[1]
        return replace(op, layer=self._names[fact])


def joint_kernel(kernels: Sequence[Kernel]) -> Kernel:
    """One kernel whose output has a position for each kernel, of outputs without positions.

    Args:
        kernels: of the same inputs, kind and dtype.
    """
    first, merged = kernels[0].parts, _Merged()
    builder = merged.builder
    places: list[int] = []
    for number, kernel in enumerate(kernels):
        output = merged.add(kernel)[kernel.graph.output]
        rank = len(kernel.graph.nodes[kernel.graph.output].spatial)
        one = builder.add(Axes((rank,), rank), (output,), "one")
        zeros = Pad(((number, len(kernels) - 1 - number),))
        places.append(builder.add(zeros, (one,), "place"))
    whole = builder.add(Sum((1.0,) * len(places)), tuple(places), "all")
    graph = Graph(tuple(builder.nodes), whole)
    others = first.inputs, first.preprocessor, first.report
    return Kernel.from_parts(
        KernelParts(graph, first.kind, first.dtype, merged.parameters, *others)
    )
