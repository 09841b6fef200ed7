"""The program of a graph, compiled for blocks of images: one executable for each block shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Tensor
from keras2gp.covariance.base import Reach, WindowMethod
from keras2gp.covariance.program import KernelKind, Program
from keras2gp.errors import NumericalError
from keras2gp.graph.graph import Graph
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.blocks import Block, BlockShape
from keras2gp.matrices.fingerprint import graph_identity
from keras2gp.matrices.form import Form, FormResults, Variances, innermost
from keras2gp.matrices.plan import Device, Partition, images_at_once, inner_tiles, working_set
from keras2gp.matrices.ranges import require_range
from keras2gp.matrices.room import demands_of
from keras2gp.matrices.tiles import places_of
from keras2gp.matrices.xla import set_up_xla

__all__ = ["CompiledProgram"]

XLA = True
"""Whether XLA compiles programs. It never gives an executable back: tests that make thousands of
small kernels, whose values they compare, turn it off."""


class CompiledProgram:
    """A program under XLA. Variances are arguments: another prior compiles nothing anew.

    A block is computed tile by tile in a loop inside the executable, so that the maps of one tile
    stay in the cache, and one call from Python costs a second of work rather than milliseconds.

    dtype:  "float32" or "float64"
    method: how window sums are computed (covariance/windows.py)
    kind:   "nngp", "ntk", or "both"; the arrays of both have a leading axis [2]
    device: "cpu" or "gpu", for which fusions and tiles are chosen; None: "gpu" where there is one

    On an H100 shifted adds compute a block of ResNet-32 at 13.3 million pairs a second in tiles of
    128 x 128, and tf.nn.conv2d, whose groups are the pairs, at 8.5 million: so shifted adds are the
    default on a GPU too.
    """

    def __init__(
        self,
        graph: Graph,
        dtype: str,
        method: WindowMethod = "shifts",
        kind: KernelKind = "nngp",
        device: Device | None = None,
    ) -> None:
        self.graph = graph
        self.dtype = dtype
        self.kind = kind
        has_gpu = bool(tf.config.list_physical_devices("GPU"))
        self.device: Device = device or ("gpu" if has_gpu else "cpu")
        if self.device == "gpu":
            # TF32 products keep ten bits of mantissa: every entry would lose three digits.
            tf.config.experimental.enable_tensor_float_32_execution(False)
        else:
            set_up_xla()
        on_cpu = self.device == "cpu"
        self.program = Program(graph, method, kind, boundaries=on_cpu, repeats=on_cpu)
        self._general = Form(self.program, dtype, jit_compile=XLA)
        self.statistics, self.cross = self._general.statistics, self._general.cross
        self._within = tf.function(self._positions_within, jit_compile=XLA, autograph=False)

    @cached_property
    def forms(self) -> list[Form]:
        """The forms of the program, the fastest first; the last one holds for all images."""
        if self.dtype == "float64":
            return [self._general]
        reaches: tuple[Reach, ...] = "narrow", "compact", "wide"
        limited = (
            Program(
                self.graph,
                self.program.method,
                self.kind,
                boundaries=self.program.boundaries,
                reach=reach,
                repeats=self.program.boundaries,
            )
            for reach in reaches
        )
        made = [Form(p, self.dtype, jit_compile=XLA) for p in limited if p.reaches]
        return [*made, self._general]

    def partition(self, n1: int, n2: int | None, shape: BlockShape | None = None) -> Partition:
        """How a matrix is cut; n2=None for the symmetric matrix of n1 images."""
        return Partition.of(self.graph, n1, n2, shape, self.device)

    def working_set(self, shape: BlockShape, threads: int) -> int:
        """Entries that threads need, each at a block of its own; both kernels go together."""
        return working_set(self.graph, shape, threads) * (1 if self.kind == "nngp" else 2)

    def demands(self, shape: BlockShape, available: int) -> tuple[str, str]:
        """The reason for the memory of a block that does not fit, and what would need less."""
        itemsize = np.dtype(self.dtype).itemsize * (1 if self.kind == "nngp" else 2)
        return demands_of(self.graph, shape.per_image(self.rows), itemsize, available)

    def identity(self, parameters: Mapping[str, LayerVariances]) -> dict[str, Any]:
        """The architecture and the variances, for JSON."""
        return graph_identity(self.graph, parameters)

    def variances(self, parameters: Mapping[str, LayerVariances]) -> Variances:
        """Weight and bias variances as scalars in the program's order of layers.

        Raises:
            NumericalError: a variance is below the dtype, and would be taken for 0.
        """
        ordered = [parameters[layer] for layer in self.program.layers]
        least = float(np.finfo(self.dtype).tiny)
        for layer, both in zip(self.program.layers, ordered, strict=True):
            for name, value in (("weight", both.weight), ("bias", both.bias)):
                if 0.0 < value < least:
                    wider = "dtype='float64', or " if value >= np.finfo(np.float64).tiny else ""
                    raise NumericalError(
                        f"{layer}: its {name} variance {value:g} is below the least normal number "
                        f"of {self.dtype}, {least:.2g}. Try: {wider}a larger variance, or 0"
                    )
        weights = [tf.constant(v.weight, self.dtype) for v in ordered]
        biases = [tf.constant(v.bias, self.dtype) for v in ordered]
        return weights, biases

    def diagonal(
        self, images: Sequence[Array], start: int, shape: BlockShape, variances: Variances
    ) -> Array:
        """Output variances of the block's images from `start` on.

        Shapes: [shape.columns, *positions]; [shape.columns] between positions, whose rows they are
        """
        start, shape = start // self.rows, shape.per_image(self.rows)
        _, ((values, *_),) = self._formed([(images, start, shape.columns)], shape, variances)
        diagonal = np.moveaxis(np.asarray(values), -1, 1)
        if self.graph.between:
            diagonal = diagonal.reshape(len(diagonal), -1)
        return diagonal if self.kind == "both" else diagonal[0]

    def within(self, images: Sequence[Array], start: int, size: int, variances: Variances) -> Array:
        """Covariances between all positions of each of `size` images, from `start` on.

        Shapes: [size, *positions, *positions]
        """
        block = self._images(images, start, size)
        values = np.moveaxis(
            np.asarray(self._run(self._general, self._within, block, *variances)), -1, 1
        )
        return values if self.kind == "both" else values[0]

    def _positions_within(
        self, images: Sequence[Tensor], weights: list[Tensor], biases: list[Tensor]
    ) -> tuple[Tensor, ...]:
        return self.program.within(innermost(images), weights, biases)

    @property
    def rows(self) -> int:
        """Rows of the matrix for each image: one, or one for each position (Graph.between)."""
        return math.prod(self.graph.positions) if self.graph.between else 1

    def block(
        self,
        first: Sequence[Array],
        second: Sequence[Array],
        block: Block,
        shape: BlockShape,
        variances: Variances,
        *,
        into: Array | None = None,
    ) -> Array:
        """One block of the matrix, [block.rows, block.columns]; a pure function of its arguments.

        Each entry is a map of the covariances at equal positions, [rows, columns, *positions], if
        the output has positions; between positions each row and column is an image at a position.

        In a block on the diagonal of a symmetric matrix only the tiles that touch the upper
        triangle are computed; the other entries are zero, or as they were in `into`.

        `into` is a place for the values, which a kernel of one number for each pair fills.

        Raises:
            NumericalError: the variance of an image overflows or underflows the dtype.
        """
        block, shape = block.per_image(self.rows), shape.per_image(self.rows)
        images = [(first, block.row, shape.rows)]
        if not (block.symmetric and block.row == block.column and shape.rows == shape.columns):
            images.append((second, block.column, shape.columns))
        form, found = self._formed(images, shape, variances)
        (_, x1, s1), (_, x2, s2) = found[0], found[-1]
        shape = inner_tiles(self.graph, shape, self.device, compact=form.program.reach is not None)
        starts = list(shape.tiles(block))
        tile = (shape.tile_rows, shape.tile_columns)
        sides = (x1, s1), (x2, s2)
        places = places_of(shape, starts)
        tiles = self._run(form, form.cross, *sides, places, variances, tile=tile)
        values = None if self.graph.positions else into
        if values is None:
            values = np.zeros((*tiles.shape[1:-2], block.rows, block.columns), self.dtype)
        for (i, j), part in zip(starts, tiles.numpy(), strict=False):
            place = values[..., i : i + tile[0], j : j + tile[1]]
            place[...] = part[..., : place.shape[-2], : place.shape[-1]]
        return values if values is into else self._arranged(values)

    def _run(self, form: Form, function: Any, *arguments: Any, **settings: Any) -> Any:
        """A function's results; on CPUs by what an earlier process has traced and compiled."""
        if XLA and self.device == "cpu":
            return form.kept.call(function, *arguments, **settings)
        return function(*arguments, **settings)

    def _arranged(self, values: Array) -> Array:
        """A block whose axes of positions come first, in the order of the matrix's axes."""
        rank, lead = len(self.graph.positions), int(self.kind == "both")
        if not rank:
            return values
        if not self.graph.between:
            return np.moveaxis(values, (-2, -1), (lead, lead + 1))
        values = np.moveaxis(values, (-2, -1), (lead, lead + rank + 1))
        sides = (n * self.rows for n in (values.shape[lead], values.shape[lead + rank + 1]))
        return values.reshape(*values.shape[:lead], *sides)

    def _formed(
        self,
        sides: Sequence[tuple[Sequence[Array], int, int]],
        shape: BlockShape,
        variances: Variances,
    ) -> tuple[Form, list[FormResults]]:
        """The first form that holds for all sides, (images, start, size), and their statistics."""
        for form in self.forms:
            found: list[FormResults] = []
            for side in sides:
                results = self._statistics_of(form, side, shape, variances)
                if results is None:
                    break
                found.append(results)
            else:
                break
        return form, found

    def _statistics_of(
        self,
        form: Form,
        side: tuple[Sequence[Array], int, int],
        shape: BlockShape,
        variances: Variances,
    ) -> FormResults | None:
        """Statistics of a side (images, start, size), of as many images at once as memory takes.

        None where the form does not hold for them.
        """
        images, start, size = side
        together = images_at_once(self.graph, size, shape.tile_columns)
        parts: list[FormResults] = []
        for first in range(start, start + size, together):
            if parts and first >= len(images[0]):  # a ragged end, which no entry reads
                parts.append(parts[0])
                continue
            part = self._checked_statistics(form, (images, first, together), shape, variances)
            if part is None:
                return None
            parts.append(part)
        return parts[0] if len(parts) == 1 else form.side_by_side(parts)

    def _checked_statistics(
        self,
        form: Form,
        side: tuple[Sequence[Array], int, int],
        shape: BlockShape,
        variances: Variances,
    ) -> FormResults | None:
        """Statistics of a side (images, start, size) of a block, whose variances the dtype holds.

        None where the form does not hold for them.
        """
        images, start, size = side

        def values(images: Sequence[Array], *variances: list[Tensor]) -> tuple[Tensor, ...]:
            block = self._images(images, 0, size)
            outputs, *_ = self.statistics(block, *variances, run=shape.tile_columns)
            return outputs  # type: ignore[no-any-return]

        block = self._images(images, start, size)
        results = self._run(form, form.statistics, block, *variances, run=shape.tile_columns)
        if not form.program.fits(results[2]):
            return None
        part = [array[start : start + size] for array in images]
        require_range(results[0], part, start, *variances, program=self.program, statistics=values)
        return results  # type: ignore[no-any-return]

    def _images(self, images: Sequence[Array], start: int, size: int) -> list[Tensor]:
        """Images [start, start + size) with the pairs innermost, [*spatial, C, size].

        Vectors are rows, [size, C]: the program turns them faster, where it has to.
        A ragged end is filled up with zeros, so that it needs no executable of its own.
        """
        blocks = []
        for array in images:
            part = array[start : start + size]
            if len(part) < size:
                part = np.pad(part, [(0, size - len(part))] + [(0, 0)] * (array.ndim - 1))
            blocks.append(tf.constant(part if part.ndim == 2 else np.moveaxis(part, 0, -1)))
        return blocks
