"""Derivatives of a kernel matrix with respect to the variances of its layers, tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Tensor
from keras2gp._util.memory import NEGLIGIBLE, require_memory
from keras2gp.covariance.adjoint import AdjointPass, can_sweep
from keras2gp.covariance.base import Parameters
from keras2gp.covariance.duals.elementary import differentiable
from keras2gp.covariance.pairs import CrossPairs, ImageBlock
from keras2gp.covariance.program import Program
from keras2gp.errors import NumericalError
from keras2gp.graph.graph import Graph
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.footprint import footprint_of

__all__ = ["MatrixGradient", "constants_of", "gradient_of", "require_tile", "side_of"]

Derivatives = dict[str, tuple[float, float]]
Sum = tuple[list[Tensor], list[Tensor], Any]
"""Tensors on the tape, the derivatives of the sum by them, and what is known already."""

_TAPE_BYTES = 2**29
_TENSORS, _SWEPT = 6, 2
"""About the number of maps of doubles that a tape keeps for each node, and at most that a sweep
does."""
_LARGEST = 512


class MatrixGradient:
    """d/dv of sum_ij G_ij K_ij for all variances v of a graph's kernel matrix K, in float64.

    One reverse pass for each tile of pairs, whatever the size of the matrix. Graphs whose ops do
    not mix offsets are swept back node by node (covariance/adjoint.py), in half of the time and a
    third of the memory of a tape over all of them.

    Args:
        graph: the graph.
        sweep: whether to sweep; None where the graph allows it.
    """

    def __init__(self, graph: Graph, *, sweep: bool | None = None) -> None:
        self._program = Program(graph)
        self.layers = self._program.layers
        positions = sum(math.prod(node.spatial) for node in graph.nodes)
        sweeps = can_sweep(self._program.analysis) if sweep is None else sweep
        tensors = _SWEPT if sweeps else _TENSORS
        pair = 8 * tensors * max(positions + footprint_of(graph).kept, 1)
        self.side = _side(pair)
        self.memory = pair * self.side**2
        self._sum = self._swept if sweeps else self._taped
        # Backwards XLA needs to know the number of iterations of a loop.
        compiled = not footprint_of(graph).mixes
        self._tile = tf.function(self._gradient, jit_compile=compiled, autograph=False)

    def __call__(
        self,
        parameters: Mapping[str, LayerVariances],
        images: Sequence[Array],
        weights: Array,
        advance: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Derivatives:
        """The derivatives of the sum by (weight, bias) of every layer.

        images: as Kernel.images gives them; weights: G, [N, N], symmetric

        Raises: NumericalError if a derivative is not finite; InputError if memory is short.
        """
        require_tile(self.memory)
        count = len(weights)
        starts = range(0, count, self.side)
        tiles = [(i, j) for i in starts for j in starts if i <= j]
        variances = constants_of(self.layers, parameters)
        total = np.zeros((2, len(self.layers)))
        for number, (i, j) in enumerate(tiles, start=1):
            pairs, on_diagonal = self._weights(weights, i, j)
            sides = self._images(images, i), self._images(images, j)
            total += np.asarray(self._tile(sides, pairs, on_diagonal, *variances))
            advance(number, len(tiles))
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

    def _weights(self, weights: Array, i: int, j: int) -> tuple[Tensor, Tensor]:
        """Weights of a tile's pairs, (i, j) and (j, i) together, and of its variances."""
        side = self.side
        part = np.zeros((side, side))
        cut = weights[i : i + side, j : j + side]
        part[: cut.shape[0], : cut.shape[1]] = cut
        on_diagonal = np.zeros(side)
        if i == j:
            on_diagonal = np.diagonal(part).copy()
            np.fill_diagonal(part, 0.0)
        else:
            part *= 2.0
        return tf.constant(part), tf.constant(on_diagonal)

    def _images(self, images: Sequence[Array], start: int) -> list[Tensor]:
        """One side of a tile, pairs innermost; a ragged end repeats the first image."""
        parts = []
        for array in images:
            part = array[start : start + self.side].astype(np.float64)
            missing = self.side - len(part)
            part = np.concatenate([part, np.repeat(part[:1], missing, axis=0)])
            parts.append(tf.constant(np.moveaxis(part, 0, -1)))
        return parts

    def _gradient(
        self,
        sides: tuple[list[Tensor], list[Tensor]],
        pairs: Tensor,
        on_diagonal: Tensor,
        weights: list[Tensor],
        biases: list[Tensor],
    ) -> Tensor:
        """Derivatives by weights and biases, [2, layers], of one tile's part of the sum."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([weights, biases])
            with differentiable():
                (variances, *_), x1, s1 = self._program.statistics(sides[0], weights, biases)
                _, x2, s2 = self._program.statistics(sides[1], weights, biases)
            targets, factors = [variances], [on_diagonal]
            blocks = ImageBlock(x1, s1), ImageBlock(x2, s2)
            more, by, direct = self._sum(tape, blocks, pairs, weights, biases)
        found = tape.gradient(
            [*targets, *more], [*weights, *biases], [*factors, *by], unconnected_gradients="zero"
        )
        return tf.reshape(tf.stack(found) + direct, [2, len(weights)])

    def _taped(
        self,
        tape: tf.GradientTape,
        blocks: tuple[ImageBlock, ImageBlock],
        pairs: Tensor,
        weights: list[Tensor],
        biases: list[Tensor],
    ) -> Sum:
        """The sum itself, whose derivatives the tape has."""
        del tape
        with differentiable():
            (k,) = self._program.cross(*blocks, weights, biases)
        return [tf.reduce_sum(pairs * k)], [tf.ones([], k.dtype)], 0.0

    def _swept(
        self,
        tape: tf.GradientTape,
        blocks: tuple[ImageBlock, ImageBlock],
        pairs: Tensor,
        weights: list[Tensor],
        biases: list[Tensor],
    ) -> Sum:
        """The statistics, the sum's derivatives by them, and by the variances beside them."""
        program = self._program
        with tape.stop_recording():
            parameters = Parameters(program.layers, weights, biases, program.boundaries)
            analysis, rules = program.analysis, program.rules
            sides = CrossPairs(
                blocks, analysis.margins, parameters, program.method, analysis.needs_means
            )
            adjoint = AdjointPass(analysis, rules, sides)
            adjoint.output()
            with differentiable():
                adjoint.sweep(pairs)
        statistics: list[Tensor] = []
        by: list[Tensor] = []
        for block, found in zip(blocks, adjoint.statistics, strict=True):
            for name, values in found.items():
                statistics += block.statistics[name]
                by += values
        return statistics, by, tf.stack([*adjoint.weights, *adjoint.biases])


def require_tile(memory: int) -> None:
    """Refuse derivatives whose tile of so many bytes the memory does not hold.

    Raises: InputError with the amounts that are needed and available.
    """
    if memory > NEGLIGIBLE:
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
    side = _side(pair)
    return side, pair * side**2


def _side(pair: int) -> int:
    """Images of either side of a tile, a power of two, whose tape has `pair` bytes a pair."""
    side = 1 << max(math.isqrt(max(_TAPE_BYTES // pair, 1)).bit_length() - 1, 2)
    return min(side, _LARGEST)
