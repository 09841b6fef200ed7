"""The forward pass over one set of pairs: stretch by stretch, offset by offset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import Covariance, Here, Pairs, Place, is_zero, materialised
from keras2gp.covariance.joint import apart, is_joint, joint
from keras2gp.covariance.moments import first_moment
from keras2gp.covariance.offset_mixing import Addition, additions, averaged
from keras2gp.covariance.pairs import CrossPairs, SelfPairs
from keras2gp.covariance.registry import rule_of
from keras2gp.covariance.stored_maps import Kept
from keras2gp.covariance.tangent import tangent, vanishes
from keras2gp.graph.mixing import Mixing
from keras2gp.graph.offsets import Stretch
from keras2gp.graph.ops import Offset, Op, Ratios, Spatial

if TYPE_CHECKING:
    from keras2gp.covariance.program import Program

__all__ = ["Walk"]


class Walk:
    """One pass of a program over pairs."""

    def __init__(self, program: Program, pairs: Pairs) -> None:
        self.program = program
        self.nodes = program.graph.nodes
        self.pairs = pairs
        self.kept: dict[int, Kept] = {}

    def output(self) -> Covariance:
        """The covariance of the output at offset 0."""
        *loops, last = self.program.stretches
        for stretch in loops:
            self.kept[stretch.result] = self._loop(stretch)
            self._mix_mean(stretch)
        return self._turn(last, last.offsets[0])

    def _loop(self, stretch: Stretch) -> Kept:
        """All turns of a stretch, and what is kept of them."""
        zero = (0,) * len(self.nodes[stretch.walked].spatial)
        at_zero = stretch.offsets.index(zero)
        results = _Results(self, stretch)
        array = results.empty()
        turns = list(range(len(stretch.offsets)))
        # Of an image with itself this turn makes the statistics of the others, where there are any.
        first = isinstance(self.pairs, SelfPairs) and bool(stretch.nodes)
        if first or len(turns) == 1:
            array = results.add(array, at_zero, self._turn(stretch, zero))
            turns.remove(at_zero)
        if turns:
            if isinstance(self.pairs, CrossPairs):
                self.pairs.before_loop(stretch.nodes)
            order, offsets = tf.constant(turns), tf.constant(stretch.offsets)

            def turn(i: Tensor, array: Any) -> tuple[Tensor, Any]:
                place = tuple(tf.unstack(offsets[order[i]], len(zero)))
                found = self._turn(stretch, place)
                return i + 1, results.add(array, order[i], found)

            _, array = tf.while_loop(
                lambda i, _: i < len(turns), turn, (tf.constant(0), array), parallel_iterations=1
            )
        return results.kept(array)

    def _mix_mean(self, stretch: Stretch) -> None:
        op = self.nodes[stretch.result].op
        if (
            isinstance(op, Mixing)
            and isinstance(self.pairs, SelfPairs)
            and stretch.result in self.program.means
        ):
            size = self.nodes[stretch.walked].spatial
            mean = averaged(op, self.pairs.means[stretch.walked], size)
            self.pairs.means[stretch.result] = mean

    def _turn(self, stretch: Stretch, offset: Place) -> Covariance:
        """The maps of the walked node at one offset."""
        maps: dict[int, Covariance] = {}
        borders = _Borders(self.pairs)
        for index in stretch.nodes:
            maps[index] = self._map(index, stretch.scales[index], offset, maps, borders)
        if not stretch.nodes:
            return self.kept[stretch.walked].at(offset)
        found = maps[stretch.walked]
        if stretch.mixes:
            return found
        scale = stretch.scales[stretch.walked]
        return borders.cleared(found, self.nodes[stretch.walked].spatial, scale, offset)

    def _map(
        self,
        index: int,
        scale: Ratios,
        offset: Place,
        maps: Mapping[int, Covariance],
        borders: _Borders,
    ) -> Covariance:
        node = self.nodes[index]
        read = node.op.input_offset(scale)
        wanted = _scaled(read, offset)
        inputs = [maps[i] if i in maps else self.kept[i].at(wanted) for i in node.inputs]
        if node.op.reads_outside:
            sizes = [self.nodes[i].spatial for i in node.inputs]
            inputs = [
                borders.cleared(k, n, read, wanted) for k, n in zip(inputs, sizes, strict=True)
            ]
        here = Here(self.pairs, index, node.inputs, _scaled(scale, offset))
        found = self._apply(node.op, inputs, here)
        if self.program.readers[index] > 1 and node.spatial:
            return self.keep(found)  # else every reader computes it again
        return found

    def _apply(self, op: Op, inputs: Sequence[Covariance], here: Here) -> Covariance:
        maps, thetas = tuple(k.nngp for k in inputs), tuple(k.ntk for k in inputs)
        if is_joint(op, thetas, self.pairs.method):
            k, ntk = apart(rule_of(op)(op, tuple(map(joint, maps, thetas)), here))
        else:
            k = rule_of(op)(op, maps, here)
            ntk = tangent(op, k, maps, thetas, here) if self.program.tangent else None
        if here.alone and here.index in self.program.means and isinstance(self.pairs, SelfPairs):
            self.pairs.means[here.index] = first_moment(op, maps, here)
        zeros, ntk_zeros = vanishes(op, inputs)
        return Covariance(k, ntk, zeros, ntk_zeros)

    def keep(self, k: Covariance) -> Covariance:
        """The same maps, computed once."""
        parameters = self.pairs.parameters
        if k.ntk is None:
            return replace(k, nngp=materialised(k.nngp, parameters))
        nngp, ntk = apart(materialised(joint(k.nngp, k.ntk), parameters))
        return replace(k, nngp=nngp, ntk=ntk)


def _scaled(scale: Ratios, offset: Place) -> Place:
    """The offset of a node as a multiple of that of the stretch, rounded down.

    Where it is not whole, the value does not matter: the op that divides gives 0 (Dilate).
    """
    if not any(scale):
        return (0,) * len(scale)
    ratios = [Fraction(ratio) for ratio in scale]
    return tuple(
        d if r == 1 else d * r.numerator // r.denominator
        for d, r in zip(offset, ratios, strict=True)
    )


class _Borders:
    """Where g and g + d are both inside, at the offsets of one turn: 1, else 0.

    One map for each size and offset, computed once: as a condition at every place that needs it,
    it costs more than the rest of the turn.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.known: dict[tuple[Spatial, Ratios], Tensor] = {}

    def cleared(self, k: Covariance, size: Spatial, scale: Ratios, place: Place) -> Covariance:
        """The maps of a node at an offset, with zeros where g + d is beyond the border."""
        known = k.zeros and (k.ntk is None or k.ntk_zeros)
        if known or is_zero(place):
            return k
        if (size, scale) not in self.known:
            self.known[size, scale] = self._inside(size, place, k.nngp.dtype)
        inside = self.known[size, scale]
        rest = k.nngp.shape.rank - len(size)
        inside = tf.reshape(inside, [*size, *[1] * rest])
        nngp = k.nngp if k.zeros else k.nngp * inside
        return Covariance(nngp, k.ntk if k.ntk is None or k.ntk_zeros else k.ntk * inside)

    def _inside(self, size: Spatial, place: Place, dtype: Any) -> Tensor:
        inside = tf.ones(size, tf.bool)
        for axis, (d, n) in enumerate(zip(place, size, strict=True)):
            there = tf.range(n) + d
            inside &= tf.reshape((there >= 0) & (there < n), [n, *[1] * (len(size) - axis - 1)])
        return materialised(tf.cast(inside, dtype), self.pairs.parameters)


class _Results:
    """What a loop leaves behind: a map for each offset, as it is or added up by a mixing op."""

    def __init__(self, walk: Walk, stretch: Stretch) -> None:
        self.walk = walk
        self.offsets: tuple[Offset, ...] = walk.program.offsets[stretch.result]
        self.size = walk.nodes[stretch.result].spatial
        self.additions: list[Addition] | None = None
        op = walk.nodes[stretch.result].op
        if stretch.mixes and isinstance(op, Mixing):
            size = walk.nodes[stretch.walked].spatial
            self.additions = additions(op, size, stretch.offsets, self.offsets)

    def empty(self) -> Any:
        """An array of zeros: of the NNGP, or of both kernels together."""
        shape = [len(self.offsets), *self.size, *self.walk.pairs.shape]
        dtype = self.walk.pairs.parameters.weights[0].dtype
        static = [n if isinstance(n, int) else None for n in shape[1:]]
        zeros = tf.zeros(shape if None not in static else tf.stack(shape), dtype)
        if self.walk.program.tangent:
            zeros = joint(zeros, zeros)
        array = tf.TensorArray(zeros.dtype, shape[0], clear_after_read=False, element_shape=static)
        return array.unstack(zeros)

    def add(self, array: Any, t: Any, found: Covariance) -> Any:
        """The array after turn t."""
        k = found.nngp
        if self.walk.program.tangent:
            k = joint(k, tf.zeros_like(k) if found.ntk is None else found.ntk)
        if self.additions is None or len(self.additions) > 1 or not self.additions[0].reads_once:
            k = materialised(k, self.walk.pairs.parameters)
        if self.additions is None:
            return array.write(t, k)
        for addition in self.additions:
            for slot, part in addition.parts(t, k):
                array = array.write(slot, array.read(slot) + part)
        return array

    def kept(self, array: Any) -> Kept:
        """The maps at all offsets."""
        return Kept(self.offsets, array.stack())
