"""The footprint of a graph: how many entries its program keeps for a pair of images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from operator import add

from keras2gp.covariance.program import Program
from keras2gp.graph.graph import Graph

__all__ = ["Footprint", "footprint_of"]


@dataclass(frozen=True)
class Footprint:
    """Entries that a graph's program keeps, in its dtype.

    Attributes:
        largest: positions of the largest map, for one pair.
        kept: entries of the maps that loops over offsets keep, for one pair.
        image: entries of the statistics of one image, with margins.
        columns: the largest number of statistics at one position of an image.
        iterations: iterations of all loops.
        result: entries of the result of one pair of images: positions, or pairs of them.
        entries: entries of all maps of one pair, at all offsets: about a nanosecond each.
        nodes: nodes of the graph, of which each takes time to compile.
        widest: path of the node whose maps take the most of `kept`; empty if there is none.
        offsets: offsets at which these maps are kept.
    """

    largest: int
    kept: int
    image: int
    columns: int
    iterations: int
    result: int = 1
    entries: int = 0
    nodes: int = 0
    widest: str = ""
    offsets: int = 0

    @property
    def mixes(self) -> bool:
        """Whether offsets are mixed: a block then costs many times as much as its statistics."""
        return self.kept > 0


@lru_cache(maxsize=64)
def footprint_of(graph: Graph) -> Footprint:
    """The footprint of a graph."""
    program = Program(graph)
    analysis = program.analysis
    sizes = [node.spatial for node in graph.nodes]
    columns = {index: rule.columns for index, rule in program.rules.items()}
    image = sum(
        columns[index] * math.prod(map(add, sizes[index], margin.added))
        for index, margin in analysis.margins.items()
    )
    positions = math.prod(graph.positions)
    result = positions**2 if graph.between else positions
    loops = analysis.loops if graph.between else analysis.loops[:-1]
    kept = {i: len(analysis.slots(i)) * math.prod(sizes[i]) for i in {p.result for p in loops}}
    widest = max(kept, key=lambda index: kept[index], default=None)
    return Footprint(
        largest=max(map(math.prod, sizes)),
        kept=sum(kept.values()) + (result if graph.between else 0),
        image=image,
        columns=max(columns.values()),
        iterations=sum(len(loop.turns) for loop in loops),
        result=result,
        entries=sum(
            len(analysis.offsets[index]) * math.prod(sizes[index])
            for loop in analysis.loops
            for index in loop.nodes
        ),
        nodes=len(graph.nodes),
        widest="" if widest is None else graph.nodes[widest].path,
        offsets=0 if widest is None else len(analysis.slots(widest)),
    )
