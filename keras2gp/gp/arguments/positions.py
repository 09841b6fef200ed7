"""Outputs with positions: the Gaussian process is over images at positions, a row for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from keras2gp._util import memory
from keras2gp._util.arrays import Array, Images, Indices, Matrix, TargetsLike, Vector, VectorLike
from keras2gp._util.checks import require_plain
from keras2gp._util.text import size_text
from keras2gp.errors import InputError
from keras2gp.gp.arguments.kernel_function import KernelLike, kernel_values
from keras2gp.gp.arguments.rows import lacking, weights_of_rows

__all__ = ["AtPositions", "Positioned", "by_row", "positions_of", "require_room", "score_of_rows"]


def positions_of(kernel: KernelLike) -> tuple[int, ...]:
    """Sizes of the axes of positions of a kernel's output; () for one number an input."""
    positions = getattr(kernel, "positions", ())
    return positions if isinstance(positions, tuple) else ()


class Positioned:
    """Images at positions, in the place of inputs: row n P + p is image n at position p.

    Args:
        images: the images, [N, *shape].
        count: P, the number of positions.
        rows: numbers of the rows; None for all N P.
    """

    def __init__(self, images: Images, count: int, rows: Indices | None = None) -> None:
        self.images = images
        self.count = count
        self.rows = np.arange(len(images) * count) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Any:
        """Some rows; of a single one the image's numbers and the position, as one vector."""
        if isinstance(key, int | np.integer):
            image, position = divmod(int(self.rows[key]), self.count)
            return np.append(self.images[image].ravel(), position)
        return Positioned(self.images, self.count, self.rows[key])

    def whole(self) -> tuple[Images, Indices | None]:
        """The images of these rows, and the rows among theirs; None for all, in their order."""
        image, position = np.divmod(self.rows, self.count)
        used, place = np.unique(image, return_inverse=True)
        rows = place * self.count + position
        every = np.array_equal(rows, np.arange(len(used) * self.count))
        images: Images = self.images if len(used) == len(self.images) else self.images[used]
        return images, None if every else rows


class AtPositions:
    """A kernel with positions as a kernel of images at positions, of Positioned inputs.

    Args:
        kernel: kernel(x1, x2, positions="all") -> [N1, *positions, N2, *positions], and
            kernel.diag(x) -> [N, *positions].
    """

    def __init__(self, kernel: KernelLike) -> None:
        self._kernel = kernel
        self._positions = positions_of(kernel)
        if hasattr(kernel, "dtype"):
            self.dtype = kernel.dtype

    def __call__(self, x1: Positioned, x2: Positioned | None = None, /) -> Matrix:
        """The matrix [rows of x1, rows of x2]; x2=None stands for x1."""
        first, rows = x1.whole()
        second, columns = (first, rows) if x2 is None else x2.whole()
        inputs = (first,) if x2 is None else (first, second)
        shape = (len(first), *self._positions, len(second), *self._positions)
        values = self._kernel(*inputs, positions="all")
        matrix = kernel_values(values, shape, "the kernel between positions")
        count = math.prod(self._positions)
        matrix = matrix.reshape(len(first) * count, len(second) * count)
        if rows is not None:
            matrix = matrix[rows]
        return matrix if columns is None else matrix[:, columns]

    def diag(self, x: Positioned, /) -> Vector:
        """The variances of the rows."""
        images, rows = x.whole()
        shape = (len(images), *self._positions)
        variances = kernel_values(self._kernel.diag(images), shape, "the diagonal of the kernel")
        return variances.reshape(-1) if rows is None else variances.reshape(-1)[rows]


def by_row(y: TargetsLike, positions: tuple[int, ...], count: int, *, outputs: bool) -> Any:
    """Targets or labels of images at positions, [N, *positions] or [N, *positions, C], by row.

    Args:
        y: as a user hands them in.
        positions: of the kernel; without any y is returned as it is.
        count: N.
        outputs: whether there may be an axis of outputs.

    Raises:
        InputError: another shape.

    Shapes:
        result [N P] or [N P, C].
    """
    if not positions or y is None:
        return y
    require_plain("y", y)
    try:
        array: Array = np.asarray(y)
    except (TypeError, ValueError) as error:
        raise InputError(f"y is no array: {error}") from error
    rank = 1 + len(positions)
    if array.shape[:rank] != (count, *positions) or array.ndim > rank + outputs:
        expected = f"[{', '.join(map(str, (count, *positions)))}{', C' if outputs else ''}]"
        hint = f"y.reshape({count}, {', '.join(map(str, positions))}"
        raise InputError(
            f"y has shape {array.shape}: expected {expected}"
            f"{' or without C' if outputs else ''}, "
            f"since the kernel's output has positions {positions}. Try: {hint}"
            f"{', -1' if outputs else ''}) where the network ends in Flatten; one position, "
            "kernel.at(position), with one target for each image"
        )
    return array.reshape(-1, *array.shape[rank:])


def score_of_rows(
    metric: Callable[..., Any],
    y: TargetsLike,
    predicted: Array,
    weights: VectorLike,
    positions: tuple[int, ...],
    *,
    outputs: bool,
) -> float:
    """A score of the predictions, those at all positions of all images together.

    Args:
        metric: a function of scikit-learn of targets, predictions and sample_weight.
        y: as for `by_row`.
        predicted: the predictions, [N, *positions] or [N, *positions, C].
        weights: a weight for each image, or for each image at each position; None for 1.
        positions: of the kernel.
        outputs: whether there may be an axis of outputs.

    Raises:
        InputError: y or the weights do not fit.
    """
    require_plain("y", y)
    images = len(predicted)
    weights = weights_of_rows(weights, positions, images)
    try:
        if positions:
            y = by_row(y, positions, images, outputs=outputs)
            predicted = predicted.reshape(-1, *predicted.shape[1 + len(positions) :])
        if predicted.dtype.kind == "f" and np.asarray(y).dtype.kind in "SU":
            raise InputError("y holds texts, and the predictions are numbers")
        if predicted.dtype.kind == "f" and lacking(np.asarray(y)).any():
            raise InputError(
                "y holds NaN, and a target that is missing has no score. Try: the rows without, or "
                "metrics of each column on the rows that it has"
            )
        score = float(metric(y, predicted, sample_weight=weights))
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"y or sample_weight does not fit the predictions: {error}") from error
    if weights is not None and not math.isfinite(score):
        raise InputError(f"the score with these weights is {score}: expected some above 0")
    return score


def require_room(images: int, positions: tuple[int, ...], itemsize: int) -> None:
    """Refuse a fit whose matrix between all images at all positions does not fit in memory.

    Args:
        images: their number.
        positions: of the kernel.
        itemsize: bytes of an entry.

    Raises:
        InputError: with what it takes, and with what would fit.
    """
    count = math.prod(positions)
    rows, available = images * count, memory.available_memory()
    needed = itemsize * rows**2
    if available is None or needed <= available:
        return
    # With the Cholesky factor, of half of the entries in double precision.
    most = math.isqrt(available // (itemsize + 4)) // count
    place = ", ".join("0" for _ in positions)
    fewer = f"at most {most} images" if most else "smaller images"
    raise InputError(
        f"a fit of {images} images at {' x '.join(map(str, positions))} positions has a matrix of "
        f"{rows} x {rows}, which needs {size_text(needed)} of memory, and {size_text(available)} "
        f"is available. Try: {fewer}; independent positions, a fit for each position such as "
        f"kernel.at([{place}]) and y[:, {place}]; or a matrix on disk, solver='cg' with "
        "gram=keras2gp.gram(kernel, X, out='K.zarr', positions='all')"
    )
