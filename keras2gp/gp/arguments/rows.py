"""Rows of a fit that are not alike: noise and weight of each, and rows without a target."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras2gp._util.arrays import (
    Array,
    Indices,
    Matrix,
    Noise,
    NoiseLike,
    TargetsLike,
    Vector,
    VectorLike,
)
from keras2gp._util.checks import is_missing, one_of
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.arguments.inputs import real_numbers
from keras2gp.gp.arguments.noise import BY_OUTPUT, check_noise_setting

__all__ = [
    "RowNoise",
    "UsedRows",
    "lacking",
    "observed_rows",
    "row_noise",
    "seen_targets",
    "weights_of_rows",
]


@dataclass(frozen=True, eq=False)
class RowNoise:
    """The noise of the rows of a fit: row i has the variance common * relative_i.

    Attributes:
        common: None where it is to be chosen; those of the outputs, [C], where each has its own.
        relative: [N]; None for 1.
        by_output: whether each output has a noise of its own.
    """

    common: float | Vector | None
    relative: Vector | None
    by_output: bool = False

    def of(self, rows: Indices | None) -> RowNoise:
        """The noise of some of the rows; None for all."""
        if rows is None or self.relative is None:
            return self
        return replace(self, relative=self.relative[rows])

    def times(self, common: float) -> Noise:
        """The variances of the rows for a common factor."""
        return common if self.relative is None else common * self.relative

    def of_outputs(self, common: Vector) -> Matrix:
        """The variances of rows and outputs, [N, C], or [1, C] where rows are alike."""
        rows = np.ones(1) if self.relative is None else self.relative
        result: Matrix = rows[:, None] * common
        return result


@dataclass(frozen=True, eq=False)
class UsedRows:
    """The rows of a fit among those that it received.

    Attributes:
        noise: of the rows that are used.
        numbers: of the rows that are used; None for all.
        images: the inputs that were received; None for a precomputed kernel.
        count: how many rows were received.
        seen: whether a row that is used has a target of an output, [N, C]; None where all have.
    """

    noise: RowNoise
    numbers: Indices | None
    images: Any
    count: int
    seen: Array | None = None


def row_noise(
    setting: NoiseLike, weights: Vector | None, rows: int, outputs: int | None = None
) -> RowNoise:
    """The noise of every row, from the setting `noise_variance` and the weights.

    Math: variance_i = noise_variance_i / weight_i

    Args:
        setting: "auto", "auto-per-output", a number, one for each row, or one for each output.
        weights: of the rows, positive where the row is used; None for 1.
        rows: their number.
        outputs: C, of targets with an axis of outputs; None without one.

    Raises:
        InputError: a variance or weight is out of range, or there are not as many as rows or
            outputs.
    """
    by_output = isinstance(setting, str) and setting == BY_OUTPUT and (outputs or 1) > 1
    common: float | Vector | None
    if isinstance(setting, str) or np.ndim(setting) == 0:
        common, relative = check_noise_setting(setting), None
        if weights is not None and np.ptp(weights[weights > 0.0]) > 0.0 and common == 0.0:
            raise InputError(
                "noise_variance is 0, and weights act on the noise: variance / weight. Try: "
                'noise_variance="auto", or a number above 0'
            )
    else:
        noises = real_numbers(setting, "noise_variance").reshape(-1)
        by_output = outputs is not None and _is_of_outputs(np.shape(setting), rows, outputs)
        count = outputs if by_output else rows
        if noises.size > rows and noises.size % rows == 0 and not by_output:
            raise InputError(
                f"noise_variance has {noises.size} numbers for {rows} rows: with noises of rows "
                "that differ between outputs every output would have a matrix of its own. Try: one "
                "for each row or each output; or a fit for each column of y, with gram= so that "
                "the kernel is computed once"
            )
        if noises.shape != (count,) or noises.min() < 0.0:
            other = "" if outputs is None else f", or {outputs}, one for each output"
            raise InputError(
                f"noise_variance is {received_text(setting)}: expected {rows} numbers, one for "
                f"each target{other}, finite and 0 or more"
            )
        if by_output:
            common, relative = (noises, None) if noises.size > 1 else (float(noises[0]), None)
            by_output = noises.size > 1
        else:
            common = float(noises.mean())
            relative = noises / common if common > 0.0 else None
    if weights is not None and (common is None or np.any(common)):
        with np.errstate(over="ignore"):
            inverse = 1.0 / np.where(weights > 0.0, weights, 1.0)
        if not np.isfinite(inverse).all():
            raise InputError(
                f"sample_weight holds {weights[weights > 0.0].min():g}, and the noise of a row, "
                "variance / weight, is beyond float64. Try: 0 for a row to leave out, or "
                "sample_weight / sample_weight.max()"
            )
        relative = inverse if relative is None else relative * inverse
    return RowNoise(common, relative, by_output)


def _is_of_outputs(shape: tuple[int, ...], rows: int, outputs: int) -> bool:
    """Whether a noise of this shape is one for each output.

    Raises:
        InputError: it may be one for each row as well.
    """
    if shape == (outputs,) == (rows,) and outputs > 1:
        raise InputError(
            f"noise_variance has {rows} numbers, and y has {rows} rows and {outputs} outputs: of "
            "which are they? Try: shape [N, 1] for those of rows, [1, C] for those of outputs"
        )
    return shape in ((outputs,), (1, outputs)) and (rows, 1) != shape


def weights_of_rows(weights: VectorLike, positions: tuple[int, ...], images: int) -> Vector | None:
    """The weight of every row, from those of images or of images at positions.

    Raises:
        InputError: they are no finite numbers, 0 or more, of the shape of the targets; or all 0.
    """
    if weights is None:
        return None
    array = real_numbers(weights, "sample_weight")
    if array.shape == (images,):
        array = np.repeat(array, math.prod(positions))
    elif array.shape != (images, *positions):
        expected = f"[{images}]" + (f" or {[images, *positions]}" if positions else "")
        raise InputError(f"sample_weight has shape {array.shape}: expected {expected}")
    array = array.reshape(-1)
    if array.min() < 0.0:
        place = int(array.argmin())
        raise InputError(f"sample_weight holds {array[place]:g}: expected numbers, 0 or more")
    if not array.any():
        raise InputError("sample_weight: every weight is zero, and no row is left")
    return array


def observed_rows(
    y: TargetsLike, missing: Any, weights: Vector | None
) -> tuple[Any, Indices | None]:
    """The targets, and the rows that have one and a weight above 0; None for all of them.

    Args:
        y: targets or labels by row, as the user hands them in.
        missing: "refuse", or "ignore" for rows whose target is NaN (or None): of every output,
            where there are several.
        weights: of the rows, or None.

    Raises:
        InputError: another setting; or no row is left.
    """
    one_of("missing", missing, ("refuse", "ignore"))
    used = None if weights is None else weights > 0.0
    if missing == "ignore" and y is not None:
        array = np.asarray(y)
        gaps: Array = lacking(array)
        if gaps.ndim > 1:
            gaps = np.asarray(gaps.all(axis=1))
        used = ~gaps if used is None else used & ~gaps
    if used is None or used.all():
        return y, None
    if not used.any():
        raise InputError("no row has a target and a weight above 0")
    rows = np.flatnonzero(used)
    return np.asarray(y)[rows], rows


def seen_targets(y: TargetsLike) -> Array | None:
    """Which targets of several outputs are there, [N, C]; None where all are.

    Args:
        y: targets of the rows that are used.

    Raises:
        InputError: an output has no target in any row.
    """
    array = np.asarray(y)
    seen = ~lacking(array)
    if array.ndim != 2 or seen.all():
        return None
    if not seen.any(axis=0).all():
        raise InputError(
            f"output {int((~seen.any(axis=0)).argmax())} (counted from 0) of y has no target in "
            "any row. Try: y without that column"
        )
    return seen


def lacking(array: Array) -> Array:
    """Which entries are missing, as an array of the same shape."""
    if array.dtype.kind == "f":
        return np.isnan(array)
    if array.dtype.kind == "O":
        return np.array([is_missing(value) for value in array.flat], dtype=bool).reshape(
            array.shape
        )
    return np.zeros(array.shape, dtype=bool)
