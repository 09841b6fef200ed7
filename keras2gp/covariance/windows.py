"""Rule of convolution windows: the mean of a map over the taps, by shifts or by a convolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import tensorflow as tf

from keras2gp._util.arrays import PairMap, Tensor
from keras2gp.covariance.base import (
    Maps,
    Parameters,
    Rule,
    RuleContext,
    WindowMethod,
    materialised,
)
from keras2gp.covariance.joint import scaled
from keras2gp.covariance.registry import rule
from keras2gp.covariance.seams import Cuts, cut
from keras2gp.graph.ops import Patches

__all__ = ["PatchesRule", "window_adjoint", "window_sum"]

_FEW_TAPS = 9


@rule(Patches)
class PatchesRule(Rule[Patches]):
    """k'[g] = 1/taps sum over the taps a of k[s g + r a], 0 outside (equation 11)."""

    joint = True

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """The window sum over the number of taps."""
        op, method, boundaries = self.op, context.pairs.method, context.parameters.boundaries
        places = tuple(tuple(factor is not None for factor in taps) for taps in context.cuts)

        def window(k: Tensor, weight: Tensor, *factors: Tensor) -> Tensor:
            parameters, rest = Parameters((), [weight], [], boundaries), iter(factors)
            cuts = tuple(tuple(next(rest) if here else None for here in taps) for taps in places)
            summed = window_sum(k, op, method, lambda k: materialised(k, parameters), cuts)
            return scaled(summed, 1 / op.taps)

        factors = [factor for taps in context.cuts for factor in taps if factor is not None]
        name = op, method, boundaries, places
        return context.called(name, window, maps[0], context.parameters.weights[0], *factors)


def window_sum(
    k: Tensor,
    op: Patches,
    method: WindowMethod,
    keep: Callable[[Tensor], Tensor] = lambda k: k,
    cuts: Cuts = (),
) -> Tensor:
    """Sum of k, [*spatial, *pairs], over the taps of the window at each output position.

    shifts: shifted adds over long contiguous rows; on a CPU about a nanosecond per position,
            where a convolution takes several.
    conv2d: tf.nn.conv2d with the pairs as channel groups: the natural form on a GPU.
    keep:   ends a fusion, so that the map is not computed anew for each tap
    cuts:   factors of the taps along each axis, where there are any (shifts alone)
    """
    if method == "conv2d":
        return _by_convolution(k, op)
    cuts = cuts or tuple((None,) * taps for taps in op.window)
    if op.taps == 1:
        k = _strided(_padded(k, op, range(len(op.window))), op)
        for axis, (factor,) in enumerate(cuts):
            k = cut(k, axis, factor)
        return k
    # One pass writes the padded map; a small window's sum then fuses into whatever reads it. A
    # large one is summed along one axis after another, each a pass of its own.
    together = (
        [range(len(op.window))] if op.taps <= _FEW_TAPS else [[a] for a in range(len(op.window))]
    )
    for axes in together:
        k = keep(_padded(k, op, axes))
        for axis in axes:
            k = _shifted_adds(k, op, axis, cuts[axis])
    return k


def window_adjoint(
    k: Tensor, op: Patches, size: Sequence[int], keep: Callable[[Tensor], Tensor]
) -> Tensor:
    """The transpose of `window_sum`: from a map of outputs to one of the inputs.

    Math: k'[g] = sum over the taps a of k[(g + p - r a) / s], where that is a whole number

    k:    [*output, *pairs]
    size: of the inputs, [*spatial, ...]
    """
    for axis, (taps, stride, step) in enumerate(
        zip(op.window, op.strides, op.dilation, strict=True)
    ):
        if stride > 1:
            k = _spread(k, axis, stride)
        reach = (taps - 1) * step
        before = reach - op.pads[axis][0]
        after = size[axis] + reach - before - k.shape[axis]
        widths = [(0, 0)] * k.shape.rank
        widths[axis] = (max(before, 0), max(after, 0))
        lead = (slice(None),) * axis
        k = tf.pad(k, widths)[(*lead, slice(max(-before, 0), None))]
        k = k[(*lead, slice(0, size[axis] + reach))]
    k = keep(k)
    for axis, (taps, step) in enumerate(zip(op.window, op.dilation, strict=True)):
        lead = (slice(None),) * axis
        last = k.shape[axis] - (taps - 1) * step
        k = sum(k[(*lead, slice(t * step, t * step + last))] for t in range(taps))
    return k


def _spread(k: Tensor, axis: int, stride: int) -> Tensor:
    """The map with stride - 1 zeros after each entry along an axis, but for the last."""
    count = k.shape[axis]
    widths = [(0, 0)] * (k.shape.rank + 1)
    widths[axis + 1] = (0, stride - 1)
    wide = tf.pad(tf.expand_dims(k, axis + 1), widths)
    shape = [*k.shape[:axis], count * stride, *k.shape[axis + 1 :]]
    lead = (slice(None),) * axis
    return tf.reshape(wide, shape)[(*lead, slice(0, (count - 1) * stride + 1))]


def _padded(k: Tensor, op: Patches, axes: Iterable[int]) -> Tensor:
    widths = [(0, 0)] * k.shape.rank
    for axis in axes:
        widths[axis] = op.pads[axis]
    return tf.pad(k, widths)


def _strided(k: Tensor, op: Patches) -> Tensor:
    return k[tuple(slice(None, None, stride) for stride in op.strides)]


def _shifted_adds(k: Tensor, op: Patches, axis: int, cuts: Sequence[Tensor | None]) -> Tensor:
    taps, stride, step = op.window[axis], op.strides[axis], op.dilation[axis]
    last = k.shape[axis] - (taps - 1) * step  # one past the last place where tap 0 can lie
    lead = (slice(None),) * axis
    parts = (k[(*lead, slice(t * step, t * step + last, stride))] for t in range(taps))
    return sum(cut(part, axis, factor) for part, factor in zip(parts, cuts, strict=True))


def _by_convolution(k: Tensor, op: Patches) -> Tensor:
    """The last two axes in one convolution; an earlier one with what is behind it as a row."""
    rank = len(op.window)
    pairs = tf.unstack(tf.shape(k)[rank:])
    size = list(k.shape[:rank])
    for axis in range(rank - 2 if rank > 1 else 0, -1, -1):
        pair = (axis, axis + 1) if axis == rank - 2 else (axis,)
        ahead, behind = math.prod(size[:axis]), math.prod(size[axis + len(pair) :])
        rows = size[axis]
        columns = size[axis + 1] * behind if len(pair) == 2 else behind
        summed = _convolution(tf.reshape(k, [ahead, rows, columns, -1]), op, pair)
        size[axis : axis + len(pair)] = summed.shape[1 : 1 + len(pair)]
        k = tf.reshape(summed, [*size, *pairs])
    return k


def _convolution(rows: Tensor, op: Patches, axes: tuple[int, ...]) -> Tensor:
    """tf.nn.conv2d of [n, rows, columns, pairs], every pair a channel group of its own."""

    def both(values: tuple[int, ...]) -> list[int]:
        return [values[axis] for axis in axes] + [1] * (2 - len(axes))

    padding = [(0, 0), *(op.pads[axis] for axis in axes), *[(0, 0)] * (3 - len(axes))]
    padded = tf.pad(rows, padding)
    ones = tf.ones([*both(op.window), 1, tf.shape(rows)[-1]], rows.dtype)
    strides, dilation = both(op.strides), both(op.dilation)
    return tf.nn.conv2d(padded, ones, strides, "VALID", dilations=dilation)
