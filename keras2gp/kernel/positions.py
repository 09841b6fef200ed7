"""The programs of a kernel: at equal positions of the output, at one, and between all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from keras2gp._util.checks import is_whole_number
from keras2gp._util.text import received_text
from keras2gp.covariance.program import KernelKind, check_tangent
from keras2gp.errors import InputError
from keras2gp.graph.graph import Graph, Node
from keras2gp.graph.offsets import check_offsets
from keras2gp.graph.ops import Crop, Reshape
from keras2gp.matrices.compiled import CompiledProgram

__all__ = ["Positions", "Programs", "place_of"]

Positions = Literal["equal", "all"]
"""The pairs of positions whose covariance is asked for."""


class Programs:
    """The compiled programs of one conversion, by the kind of kernel and the positions.

    program: that of the output at equal positions
    """

    def __init__(self, program: CompiledProgram) -> None:
        self._first = program
        self._programs: dict[tuple[Any, KernelKind], CompiledProgram] = {
            ("equal", program.kind): program
        }

    def of(self, place: Positions | tuple[int, ...], kind: KernelKind) -> CompiledProgram:
        """The program at equal positions, between all of them, or at one; compiled once.

        Raises: InputError if there is no rule for what is asked for.
        """
        graph = self._first.graph
        if not graph.positions:
            place = "equal"
        if (place, kind) not in self._programs:
            if kind not in ("nngp", self._first.kind) and (obstacles := check_tangent(graph)):
                raise InputError(f"there is no tangent kernel. {obstacles[0]}")
            if place == "all":
                graph = _between_positions(graph)
            elif isinstance(place, tuple):
                graph = _at_position(graph, place)
            self._programs[place, kind] = CompiledProgram(graph, self._first.dtype, kind=kind)
        return self._programs[place, kind]


def place_of(position: Any, positions: tuple[int, ...]) -> tuple[int, ...]:
    """A position as one index for each axis, counted from 0.

    Raises: InputError if there is no such position.
    """
    position = position.tolist() if hasattr(position, "tolist") else position  # of numpy
    given = position if isinstance(position, tuple | list) else (position,)
    if given and not positions:
        raise InputError(
            f"position={received_text(position)}: the model's output is a vector, which has no "
            "positions. Try: without it"
        )
    if not all(map(is_whole_number, given)) or len(given) != len(positions):
        raise InputError(
            f"position={received_text(position)}: expected {len(positions)} whole numbers, an "
            f"index for each of the output's axes of positions {positions}"
        )
    for i, n in zip(given, positions, strict=True):
        if not -n <= int(i) < n:
            raise InputError(f"position={received_text(position)}: the output has {positions}")
    return tuple(int(i) % n for i, n in zip(given, positions, strict=True))


def _at_position(graph: Graph, place: tuple[int, ...]) -> Graph:
    """The graph of the output at one position: all others are cropped."""
    node = graph.nodes[graph.output]
    crops = tuple((i, n - 1 - i) for i, n in zip(place, node.spatial, strict=True))
    cropped = Node(Crop(crops), (graph.output,), (1,) * len(place), node.path)
    return Graph((*graph.nodes, cropped), len(graph.nodes))


def _between_positions(graph: Graph) -> Graph:
    """The graph whose covariance is asked for between all positions, in their order.

    A Reshape at the output keeps the order of positions, so that it is left out: offsets do not
    survive it.

    Raises: InputError if the network has no rule for different positions.
    """
    while isinstance(graph.nodes[graph.output].op, Reshape):
        graph = graph.pruned(graph.nodes[graph.output].inputs[0])
    if not graph.positions:
        return graph
    graph = replace(graph, between=True)
    if obstacles := check_offsets(graph):
        why = obstacles[0]
        raise InputError(
            f"there is no covariance between different positions of the output. {why.where}: "
            f"{why.why}. Try: equal positions alone, or position="
        )
    return graph
