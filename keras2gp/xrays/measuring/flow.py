"""How signal flows through a network: the kernel of every layer, in one forward pass.

The kernel of a layer with positions is the mean of its covariances over equal positions: what a
linear readout of all of them sees.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, InputsLike, Matrix, Tensor, Vector
from keras2gp.covariance.base import Covariance, Parameters, is_zero
from keras2gp.covariance.forward_pass import ForwardPass
from keras2gp.covariance.pairs import CrossPairs, ImageBlock
from keras2gp.covariance.program import Program
from keras2gp.covariance.stored_maps import StoredMaps
from keras2gp.graph.graph import Node
from keras2gp.graph.offsets import Loop
from keras2gp.graph.ops import Activation, Input
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices import compiled
from keras2gp.matrices.gradient import constants_of
from keras2gp.matrices.speed import tried_images
from keras2gp.xrays.rows import take_rows

__all__ = ["LayerKernel", "layer_kernels", "seconds_of"]

_TILE = 48
"""Images on a side of a tile, at most: maps of all layers are kept until they are averaged."""


@dataclass(frozen=True, eq=False)
class LayerKernel:
    """The kernel of one layer.

    Attributes:
        path: of the layer; "input" for the data.
        sources: the layers that it reads.
        is_data: whether it is an input of the network.
        matrix: its covariances of the images, [N, N], in float64.
    """

    path: str
    sources: tuple[str, ...]
    is_data: bool
    matrix: Matrix


def layer_kernels(kernel: Kernel, x: InputsLike) -> tuple[list[LayerKernel], dict[int, Vector]]:
    """The kernels of all layers, from one pass over the graph.

    Args:
        kernel: of the whole network.
        x: images, as for the kernel.

    Returns:
        A kernel for each layer, in the order of the graph, of which the last one is the network's;
        and the variances of the images, [N], in front of activations, by the node that they read.
    """
    images = [np.asarray(a, np.float64) for a in kernel.images(x)]
    last, read = _last_nodes(kernel), _read_by_activations(kernel)
    observe, tile = _observer(kernel), _tile(kernel)
    count = len(images[0])
    matrices = {node: np.empty((count, count)) for node in observe.nodes}
    for i in range(0, count, tile):
        for j in range(i, count, tile):
            maps = observe(_side(images, i, tile), _side(images, j, tile))
            for node, values in maps.items():
                rows, columns = slice(i, i + tile), slice(j, j + tile)
                part = values[: count - i, : count - j]
                matrices[node][rows, columns] = part
                matrices[node][columns, rows] = part.T
    sources = _sources(kernel, last)
    data = {node for node in last.values() if isinstance(kernel.graph.nodes[node].op, Input)}
    layers = [
        LayerKernel(path, sources[path], node in data, matrices[node])
        for path, node in last.items()
    ]
    return layers, {node: np.diagonal(matrices[node]) for node in read}


def seconds_of(kernel: Kernel, x: InputsLike, count: int) -> tuple[float, int]:
    """The time of `layer_kernels` on so many images, measured on one tile.

    It is of the size that is computed: smaller maps stay in the cache.

    Args:
        kernel: of the whole network.
        x: images, as for the kernel, of which the first few are taken.
        count: number of images.

    Returns:
        Seconds, and the number of layers.
    """
    most = _tile(kernel)
    few = kernel.images(take_rows(x, slice(0, most)))
    images = [np.asarray(a, np.float64) for a in few]
    side, tile = _side(images, 0, most), min(most, count)
    observe = _observer(kernel)
    times = []
    for _ in range(2):
        began = time.perf_counter()
        observe(side, side)
        times.append(time.perf_counter() - began)
    blocks = -(-count // tile)
    area = blocks * (blocks + 1) / 2 * (tile / len(images[0])) ** 2
    return max(times[0] - times[1], 0.0) + area * times[1], len(_last_nodes(kernel))


@lru_cache(maxsize=1)
def _observer(kernel: Kernel) -> _Observer:
    """The observer of all layers: the measurement and the flow share what is compiled."""
    return _Observer(kernel, (*_last_nodes(kernel).values(), *_read_by_activations(kernel)))


def _tile(kernel: Kernel) -> int:
    """Images on a side of a tile: few where a pair takes long, so that one is measured soon."""
    return tried_images(kernel, _TILE)


class _Observer:
    """Computes the covariances at some nodes, tile by tile.

    Args:
        kernel: of the whole network.
        nodes: numbers of the nodes.
    """

    def __init__(self, kernel: Kernel, nodes: tuple[int, ...]) -> None:
        self.nodes = tuple(dict.fromkeys(nodes))
        self._program = Program(kernel.graph, "shifts", "nngp")
        self._variances = constants_of(self._program.layers, kernel.parameters)
        self._traced: dict[Any, Any] = {}

    def __call__(self, first: list[Tensor], second: list[Tensor]) -> dict[int, Matrix]:
        """The covariances of all pairs of two sets of images, all of one size, by node."""
        shapes = tuple(tuple(image.shape) for image in (*first, *second))
        if shapes not in self._traced:  # TensorFlow warns of functions that it traces often
            function = tf.function(self._observed, jit_compile=compiled.XLA, autograph=False)
            self._traced[shapes] = function.get_concrete_function(first, second)
        maps = self._traced[shapes](first, second)
        return {node: values.numpy() for node, values in zip(self.nodes, maps, strict=True)}

    def _observed(self, first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
        return _observed(self._program, first, second, self._variances, self.nodes)


def _read_by_activations(kernel: Kernel) -> list[int]:
    return [n.inputs[0] for n in kernel.graph.nodes if isinstance(n.op.function, Activation)]


def _side(images: list[Array], start: int, tile: int) -> list[Tensor]:
    """One side of a tile, the images innermost; the last one is filled up with zeros."""
    parts = []
    for array in images:
        part = array[start : start + tile]
        short = min(tile, len(array)) - len(part)
        part = np.pad(part, [(0, short)] + [(0, 0)] * (array.ndim - 1))
        parts.append(tf.constant(np.moveaxis(part, 0, -1)))
    return parts


def _observed(
    program: Program,
    first: list[Tensor],
    second: list[Tensor],
    variances: tuple[list[Tensor], list[Tensor]],
    wanted: tuple[int, ...],
) -> list[Tensor]:
    """The covariances of all pairs of two sets of images at the wanted nodes, [B1, B2] each."""
    blocks = []
    for images in (first, second):
        _, prepared, statistics = program.statistics(images, *variances)
        blocks.append(ImageBlock(prepared, statistics))
    analysis = program.analysis
    parameters = Parameters(program.layers, *variances, False)
    pairs = CrossPairs(
        (blocks[0], blocks[1]), analysis.margins, parameters, program.method, analysis.needs_means
    )
    forward = _Observed(analysis, program.rules, pairs, tangent=False)
    forward.output()
    shape = (first[0].shape[-1], second[0].shape[-1])
    result = []
    for node in wanted:
        seen = forward.seen[node]
        mean = tf.reduce_mean(seen, axis=list(range(seen.shape.rank - 2)))
        result.append(tf.broadcast_to(mean, shape))
    return result


class _Observed(ForwardPass):
    """A forward pass that keeps the maps of every node at offset 0."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.seen: dict[int, Tensor] = {}

    def _loop(self, loop: Loop) -> StoredMaps:
        zero = (0,) * len(self.nodes[loop.last].spatial)
        if len(loop.turns) > 1 and loop.nodes:  # the turns of a loop in TensorFlow are not seen
            self._iteration(loop, zero)
        stored = super()._loop(loop)
        if loop.result != loop.last:
            at = (0,) * len(self.nodes[loop.result].spatial)
            self.seen[loop.result] = stored.at(at).nngp
        return stored

    def _map(
        self, index: int, loop: Loop, offset: Any, maps: Mapping[int, Covariance], borders: Any
    ) -> Covariance:
        result = super()._map(index, loop, offset, maps, borders)
        if is_zero(offset):
            self.seen[index] = result.nngp
        return result


def _last_nodes(kernel: Kernel) -> dict[str, int]:
    """The last node of each layer in the graph, by its path."""
    last: dict[str, int] = {}
    for number, node in enumerate(kernel.graph.nodes):
        path = _path(node)
        last.pop(path, None)
        last[path] = number
    return last


def _path(node: Node) -> str:
    """The layer of a node; data has a name of its own."""
    if isinstance(node.op, Input):
        return f"input {node.op.index + 1}" if node.op.index else "input"
    return node.path


def _sources(kernel: Kernel, last: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """The layers that each layer reads."""
    found: dict[str, dict[str, None]] = {path: {} for path in last}
    for node in kernel.graph.nodes:
        for i in node.inputs:
            before = _path(kernel.graph.nodes[i])
            if before != _path(node):
                found[_path(node)][before] = None
    return {path: tuple(names) for path, names in found.items()}
