"""Derivatives of a kernel matrix with respect to the variances of its layers, tile by tile."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Tensor
from keras2gp._util.memory import require_memory
from keras2gp._util.progress import Advance
from keras2gp.covariance.adjoint import can_sweep
from keras2gp.covariance.duals.homogeneous import Relu, TwoSlopes
from keras2gp.covariance.pairs import ImageBlock
from keras2gp.covariance.program import Program
from keras2gp.covariance.registry import dual_of
from keras2gp.covariance.subprograms import differentiable
from keras2gp.errors import NumericalError
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Activation, Affine, Depthwise, Input, Sum
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.footprint import footprint_of
from keras2gp.matrices.sweep import Sweep, block_weights, innermost_of

__all__ = [
    "MatrixGradient",
    "constants_of",
    "degrees_of",
    "gradient_of",
    "require_tile",
    "side_of",
]

Derivatives = dict[str, tuple[float, float]]

_TAPE_BYTES = 2**29
_TENSORS = 6
"""About the number of maps of doubles that a tape keeps for each node."""
_LARGEST = 512
_MOST = 2**30
"""Most bytes that blocks take side by side."""


class MatrixGradient:
    """d/dv of sum_ij G_ij K_ij for all variances v of a graph's kernel matrix K, in float64.

    Graphs whose ops do not mix offsets are swept back node by node (sweep.py, and
    covariance/adjoint.py). A tape over all of it is for the others, tile by tile.

    Args:
        graph: the graph.
        sweep: whether to sweep; None where the graph allows it.
        compiled: whether XLA compiles what it can.
    """

    def __init__(self, graph: Graph, *, sweep: bool | None = None, compiled: bool = True) -> None:
        program = Program(graph)
        self.layers = program.layers
        self.sweeps = can_sweep(program.analysis) if sweep is None else sweep
        self._way = (Sweep if self.sweeps else _Tape)(program, compiled=compiled)
        self.memory = self._way.memory

    def __call__(
        self,
        parameters: Mapping[str, LayerVariances],
        images: Sequence[Array],
        weights: Array,
        advance: Advance = lambda _done, _total: None,
    ) -> Derivatives:
        """The derivatives of the sum by (weight, bias) of every layer.

        images: as Kernel.images gives them; weights: G, [N, N], symmetric

        Raises: NumericalError if a derivative is not finite; InputError if memory is short.
        """
        require_tile(self.memory)
        variances = constants_of(self.layers, parameters)
        threads = max(min(os.cpu_count() or 1, _MOST // self.memory), 1)
        total = self._way.total(variances, images, weights, threads=threads, advance=advance)
        if not np.isfinite(total).all():
            layer = self.layers[int(np.argwhere(~np.isfinite(total))[0][1])]
            raise NumericalError(
                f"the derivative of the kernel by the variances of {layer} is not finite. "
                "Try: bias variances above 0, or another start"
            )
        return {
            layer: (float(weight), float(bias))
            for layer, weight, bias in zip(self.layers, *total, strict=True)
        }


class _Tape:
    """One reverse pass for each tile of pairs, whatever the size of the matrix."""

    def __init__(self, program: Program, *, compiled: bool) -> None:
        self._program = program
        graph = program.graph
        positions = sum(math.prod(node.spatial) for node in graph.nodes)
        self.side, self.memory = side_of(positions + footprint_of(graph).kept)
        # Backwards XLA needs to know the number of iterations of a loop.
        compiled = compiled and not footprint_of(graph).mixes
        self._tile = tf.function(self._gradient, jit_compile=compiled, autograph=False)

    def total(
        self,
        variances: tuple[list[Tensor], list[Tensor]],
        images: Sequence[Array],
        weights: Array,
        *,
        threads: int,
        advance: Advance,
    ) -> Array:
        """The derivatives by weights and biases, [2, layers]; TensorFlow has threads of its own."""
        del threads
        starts = range(0, len(weights), self.side)
        tiles = [(i, j) for i in starts for j in starts if i <= j]
        total = np.zeros((2, len(self._program.layers)))
        for number, (i, j) in enumerate(tiles, start=1):
            pairs, on_diagonal = block_weights(weights, i, j, self.side)
            sides = [innermost_of(images, start, self.side) for start in (i, j)]
            weighted = tf.constant(pairs), tf.constant(on_diagonal)
            total += np.asarray(self._tile(sides, *weighted, *variances))
            advance(number, len(tiles))
        return total

    def _gradient(
        self,
        sides: tuple[list[Tensor], list[Tensor]],
        pairs: Tensor,
        on_diagonal: Tensor,
        weights: list[Tensor],
        biases: list[Tensor],
    ) -> Tensor:
        """Derivatives by weights and biases, [2, layers], of one tile's part of the sum."""
        sources = [*weights, *biases]
        with differentiable(), tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            (variances, *_), x1, s1 = self._program.statistics(sides[0], weights, biases)
            _, x2, s2 = self._program.statistics(sides[1], weights, biases)
            blocks = ImageBlock(x1, s1), ImageBlock(x2, s2)
            (k,) = self._program.cross(*blocks, weights, biases)
            value = tf.reduce_sum(pairs * k) + tf.reduce_sum(on_diagonal * variances)
        found = tape.gradient(value, sources, unconnected_gradients="zero")
        return tf.reshape(tf.stack(found), [2, len(weights)])


def degrees_of(graph: Graph, parameters: Mapping[str, LayerVariances]) -> dict[str, int] | None:
    """The powers of the weight variances that a kernel is proportional to; None if it is not.

    Math: k = k_0 times the product of w2^degree over the layers, where no layer has biases, every
        activation is homogeneous, and terms of a sum have the same degrees: dk/dw2 is then
        degree k / w2, by no pass at all.
    """
    degrees: list[dict[str, int]] = []
    for node in graph.nodes:
        op, before = node.op, [degrees[i] for i in node.inputs]
        if isinstance(op, Input):
            degrees.append({})
            continue
        homogeneous = isinstance(op, Activation) and isinstance(dual_of(op), Relu | TwoSlopes)
        if isinstance(op, Affine | Depthwise):
            variances = parameters[op.layer]
            if variances.bias or not variances.weight:
                return None
            before = [{**before[0], op.layer: before[0].get(op.layer, 0) + 1}]
        elif not (homogeneous or op.linear or isinstance(op, Sum)):
            return None
        if any(found != before[0] for found in before[1:]):
            return None
        degrees.append(before[0])
    return degrees[graph.output]


def require_tile(memory: int) -> None:
    """Refuse derivatives whose tile of so many bytes the memory does not hold.

    Raises: InputError with the amounts that are needed and available.
    """
    purpose, hint = "a tile of the kernel's derivatives", "a smaller network or input"
    require_memory(memory, purpose, hint)


def constants_of(
    layers: Sequence[str], parameters: Mapping[str, LayerVariances]
) -> tuple[list[Tensor], list[Tensor]]:
    """The weight and the bias variances of layers, in float64."""
    ordered = [parameters[layer] for layer in layers]
    return (
        [tf.constant(v.weight, tf.float64) for v in ordered],
        [tf.constant(v.bias, tf.float64) for v in ordered],
    )


@lru_cache(maxsize=8)
def gradient_of(graph: Graph) -> MatrixGradient:
    """The compiled derivatives of a graph, one object for each graph."""
    return MatrixGradient(graph)


def side_of(positions: int) -> tuple[int, int]:
    """Images of either side of a tile whose tape holds all maps of a pair, and its bytes.

    positions: of all maps of a pair
    """
    pair = 8 * _TENSORS * max(positions, 1)
    side = 1 << max(math.isqrt(max(_TAPE_BYTES // pair, 1)).bit_length() - 1, 2)
    side = min(side, _LARGEST)
    return side, pair * side**2
