"""Derivatives of a kernel matrix by its inputs, tile by tile: what a tf.GradientTape asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.pairs import ImageBlock
from keras2gp.covariance.program import KernelKind, Program
from keras2gp.covariance.subprograms import differentiable
from keras2gp.graph.graph import Graph
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.footprint import footprint_of
from keras2gp.matrices.gradient import constants_of, require_tile, side_of

__all__ = ["InputGradient", "input_gradient_of"]


class InputGradient:
    """Derivatives of sum_ij G_ij k(x_i, x_j) by the images x, in float64.

    One reverse pass for each tile of pairs: the tape holds the maps of one tile.
    """

    def __init__(self, graph: Graph, kind: KernelKind) -> None:
        self._program = Program(graph, kind=kind, boundaries=False)
        positions = sum(math.prod(node.spatial) for node in graph.nodes)
        self._side, self._memory = side_of(positions + footprint_of(graph).kept)
        self._tile = tf.function(self._of_pairs, autograph=False)
        self._single = tf.function(self._of_images, autograph=False)

    def of_matrix(
        self,
        parameters: Mapping[str, LayerVariances],
        first: Sequence[Tensor],
        second: Sequence[Tensor] | None,
        upstream: Tensor,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The derivatives by the images of either side; those of a symmetric matrix by the first.

        first, second: images in float64, [N, *shape]; None for the matrix of the first
        upstream: G, of the shape of the matrix, [N1, N2, *positions], or two of them

        Raises: InputError if memory is short.
        """
        require_tile(self._memory)
        weights = self._pairs_last(upstream)
        others = first if second is None else second
        sizes = int(first[0].shape[0]), int(others[0].shape[0])
        starts = [range(0, n, self._side) for n in sizes]
        variances = constants_of(self._program.layers, parameters)
        rows: list[list[list[Tensor]]] = [[] for _ in starts[0]]
        columns: list[list[list[Tensor]]] = [[] for _ in starts[1]]
        for i, a in enumerate(starts[0]):
            for j, b in enumerate(starts[1]):
                cut = weights[..., a : a + self._side, b : b + self._side]
                on_diagonal = tf.zeros_like(cut[..., 0])
                if second is None and a == b:
                    on_diagonal = tf.linalg.diag_part(cut)
                    cut = tf.linalg.set_diag(cut, tf.zeros_like(on_diagonal))
                sides = (
                    [x[a : a + self._side] for x in first],
                    [x[b : b + self._side] for x in others],
                )
                one, other = self._tile(sides, (cut, on_diagonal), variances)
                rows[i].append(one)
                columns[j].append(other)
        left, right = _joined(rows), _joined(columns)
        if second is None:
            return [tf.add_n(pair) for pair in zip(left, right, strict=True)], []
        return left, right

    def of_diagonal(
        self, parameters: Mapping[str, LayerVariances], images: Sequence[Tensor], upstream: Tensor
    ) -> list[Tensor]:
        """The derivatives of sum_i G_i k(x_i, x_i); G is [N, *positions], or two of them."""
        require_tile(self._memory)
        lead = int(self._program.kind == "both")
        weights = tf.cast(upstream, tf.float64) if lead else tf.cast(upstream, tf.float64)[None]
        weights = tf.transpose(weights, [0, *range(2, weights.shape.rank), 1])
        variances = constants_of(self._program.layers, parameters)
        step = self._side**2
        parts = [
            self._single([x[s : s + step] for x in images], weights[..., s : s + step], *variances)
            for s in range(0, int(images[0].shape[0]), step)
        ]
        return [tf.concat(column, 0) for column in zip(*parts, strict=True)]

    def _pairs_last(self, upstream: Tensor) -> Tensor:
        """Weights of a matrix as the program gives its kernels, [kernels, *positions, N1, N2]."""
        weights = tf.cast(upstream, tf.float64)
        weights = weights if self._program.kind == "both" else weights[None]
        return tf.transpose(weights, [0, *range(3, weights.shape.rank), 1, 2])

    def _of_pairs(
        self,
        sides: tuple[list[Tensor], list[Tensor]],
        upstream: tuple[Tensor, Tensor],
        parameters: tuple[list[Tensor], list[Tensor]],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Derivatives by the images of either side of a tile.

        upstream: factors of the covariances of all pairs, and of the variances of the first side
        """
        (first, second), (pairs, on_diagonal), (weights, biases) = sides, upstream, parameters
        with differentiable(), tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([first, second])
            variances, x1, s1 = self._program.statistics(_images_last(first), weights, biases)
            _, x2, s2 = self._program.statistics(_images_last(second), weights, biases)
            blocks = ImageBlock(x1, s1), ImageBlock(x2, s2)
            kernels = self._program.cross(*blocks, weights, biases)
            value = tf.reduce_sum(pairs * tf.stack(kernels))
            value += tf.reduce_sum(on_diagonal * tf.stack(variances))
        found = tape.gradient(value, [first, second], unconnected_gradients="zero")
        return found[0], found[1]

    def _of_images(
        self, images: list[Tensor], upstream: Tensor, weights: list[Tensor], biases: list[Tensor]
    ) -> list[Tensor]:
        with differentiable(), tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            variances, *_ = self._program.statistics(_images_last(images), weights, biases)
            value = tf.reduce_sum(upstream * tf.stack(variances))
        found: list[Tensor] = tape.gradient(value, images, unconnected_gradients="zero")
        return found


@lru_cache(maxsize=8)
def input_gradient_of(graph: Graph, kind: KernelKind) -> InputGradient:
    """The derivatives of a graph's kernel by its inputs, one object for each graph and kind."""
    return InputGradient(graph, kind)


def _images_last(images: Sequence[Tensor]) -> list[Tensor]:
    return [tf.transpose(x, [*range(1, x.shape.rank), 0]) for x in images]


def _joined(parts: Sequence[Sequence[Sequence[Tensor]]]) -> list[Tensor]:
    """Sums over the tiles of each block of images, and the blocks below one another."""
    blocks = [[tf.add_n(list(t)) for t in zip(*tiles, strict=True)] for tiles in parts]
    return [tf.concat(column, 0) for column in zip(*blocks, strict=True)]
