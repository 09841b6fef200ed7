"""Dataset: images with their labels, checked, in the order of their source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.checks import whole_number
from keras2gp.data.images import as_floats, not_finite
from keras2gp.data.tables import is_table
from keras2gp.errors import DataError, InputError

__all__ = ["EXPECTED", "SPLIT_KEYS", "Dataset", "dataset_of"]


SPLIT_KEYS = ("x_train", "y_train", "x_test", "y_test")
EXPECTED = "expected x and y; or x_train, y_train and, both or neither, x_test and y_test"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and their labels or targets, in the order of their source.

    Attributes:
        name: the source, as it was handed to `load`.
        x_train: images, uint8 as stored, or float32 or float64; finite. Or text; or a table of a
            CSV file, a structured array of text, [N].
        y_train: labels (integers, booleans or strings), or finite real targets.
        x_test: images of the source's test split; None if it has none. split() makes one.
        y_test: labels or targets of the test split; None if it has none.
        notes: changes that were made to the arrays, a sentence each.
        seed: of the random order in which the training rows stand; None for that of the source.

    Shapes:
        x_train, x_test [N, *shape]; y_train, y_test [N], or [N, *positions] if asked for.

    >>> from keras2gp.data import load
    >>> sample = load("sample")
    >>> sample.x_train.shape, sample.x_train.dtype, sample.y_train[:3].tolist()
    ((4000, 28, 28, 1), dtype('uint8'), [9, 3, 0])
    """

    name: str
    x_train: Array
    y_train: Array
    x_test: Array | None = None
    y_test: Array | None = None
    notes: tuple[str, ...] = ()
    seed: int | None = None

    def shuffled(self, seed: int) -> Dataset:
        """The same rows with those to train on in a random order, the same for every machine.

        A test split keeps its order. Rows that `split` tests on where there is none are the last
        of the new order.

        Args:
            seed: of the order, from 0 to 2^32 - 1.

        Returns:
            A Dataset of copied rows.

        Raises:
            DataError: the seed is another number.

        >>> from keras2gp.data import load
        >>> load("sample").shuffled(0).y_train[:5].tolist() == load("sample").y_train[:5].tolist()
        False
        """
        whole_number("shuffle", seed, 0, 2**32 - 1, DataError)
        # Only this generator promises the same numbers in every release of numpy.
        order = np.random.RandomState(seed).permutation(len(self.x_train))
        note = f"training rows in random order (seed {seed})"
        x, y = self.x_train[order], self.y_train[order]
        return replace(self, x_train=x, y_train=y, notes=(*self.notes, note), seed=seed)

    def split(self, n_train: int, n_test: int) -> Dataset:
        """Take the first n_train rows to train on, and n_test rows to test on, as views.

        The test rows are the first rows of the source's own test split. A source without one gives
        its last rows, which must not overlap the rows to train on.

        Args:
            n_train: number of rows to train on, from 0.
            n_test: number of rows to test on, from 0.

        Returns:
            A Dataset with a test split.

        Raises:
            DataError: a number is not a whole number from 0, or there are too few rows.

        >>> from keras2gp.data import load
        >>> part = load("sample").split(100, 50)
        >>> len(part.x_train), len(part.x_test)
        (100, 50)
        """
        whole_number("n_train", n_train, error=DataError)
        whole_number("n_test", n_test, error=DataError)
        rows = len(self.x_train)
        if n_train > rows:
            raise DataError(
                f"{self.name}: {n_train} rows to train on were asked for; it has {rows}"
            )
        part = replace(self, x_train=self.x_train[:n_train], y_train=self.y_train[:n_train])
        if self.x_test is None or self.y_test is None:
            if n_train + n_test > rows:
                raise DataError(
                    f"{self.name}: {n_train} rows to train on and {n_test} to test on were asked "
                    f"for; it has {rows} and no test split, so that they would overlap"
                )
            x_test, y_test = self.x_train[rows - n_test :], self.y_train[rows - n_test :]
            order = "" if self.seed is None else ", in that order,"
            note = f"it has no test split: its last {n_test} rows of {rows}{order} are tested on"
            return replace(part, x_test=x_test, y_test=y_test, notes=(*self.notes, note))
        if n_test > len(self.x_test):
            raise DataError(
                f"{self.name}: {n_test} rows to test on were asked for; it has {len(self.x_test)}"
            )
        return replace(part, x_test=self.x_test[:n_test], y_test=self.y_test[:n_test])


def dataset_of(
    source: str, arrays: Mapping[str, Array], named: str = "", *, maps: bool = False
) -> Dataset:
    """A Dataset of the arrays x_train and y_train and, both or neither, x_test and y_test."""
    pairs = ["train", "test"] if {"x_test", "y_test"} & set(arrays) else ["train"]
    missing = [key for p in pairs for key in (f"x_{p}", f"y_{p}") if key not in arrays]
    if missing:
        raise DataError(f"{source}: holds {named}; {EXPECTED}")
    checked: dict[str, Array] = {}
    notes: list[str] = []
    for pair in pairs:
        x, done = _images(arrays[f"x_{pair}"], f"{source}: x_{pair}")
        y = _targets(arrays[f"y_{pair}"], f"{source}: y_{pair}", maps=maps)
        if len(x) != len(y):
            raise DataError(f"{source}: x_{pair} has {len(x)} rows and y_{pair} has {len(y)}")
        checked |= {f"x_{pair}": x, f"y_{pair}": y}
        notes += [f"x_{pair}: {note}" for note in done]
    test = checked.get("x_test")
    if test is not None and test.shape[1:] != checked["x_train"].shape[1:]:
        raise DataError(
            f"{source}: x_train is {checked['x_train'].shape} and x_test {test.shape}: images of "
            "different shapes"
        )
    train = checked["x_train"], checked["y_train"]
    return Dataset(source, *train, test, checked.get("y_test"), tuple(notes))


def _images(x: Array, where: str) -> tuple[Array, list[str]]:
    if is_table(x):
        return x, []
    if x.ndim < 2 or x.size == 0:
        raise DataError(f"{where}: shape {x.shape}, expected [N, *shape] with no axis of length 0")
    try:
        if x.dtype == np.uint8 or x.dtype.kind == "U":
            return x, []
        return as_floats(x, where)
    except InputError as error:
        raise DataError(str(error)) from error


def _targets(y: Array, where: str, *, maps: bool) -> Array:
    if y.ndim != 1 and not (maps and y.size and y.ndim):
        raise DataError(
            f"{where}: shape {y.shape}, expected [N]: one label or target a row. If it is one-hot, "
            "try y.argmax(axis=1)"
        )
    if y.dtype.kind not in "biufU":
        raise DataError(f"{where}: values of type {y.dtype}, expected labels or real numbers")
    if y.dtype.kind == "U":
        for label in np.unique(y):
            if any(0xD800 <= ord(character) <= 0xDFFF for character in label):
                raise DataError(
                    f"{where}: the label {str(label)!a} is no text in UTF-8. Try: another "
                    "name of that class, or of its folder"
                )
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise DataError(
            f"{where}: {not_finite(y)}. Try: the rows without them; or, for targets that are "
            'missing, GPRegressor(kernel, missing="ignore") in Python'
        )
    # Labels are int64 for every source: tensorflow_datasets gives int64, IDX files uint8.
    integer = y.dtype.kind in "iu" and np.can_cast(y.dtype, np.int64)
    return y.astype(np.int64) if integer else y
