"""Data sets by name: embedded MNIST digits, tfds:NAME, .npz, .csv, folders of images or arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.checks import truth, whole_number
from keras2gp._util.paths import expanded
from keras2gp._util.text import quoted_text
from keras2gp.data.files import read_idx_folder, read_npy_folder, read_npz
from keras2gp.data.images import as_floats, not_finite
from keras2gp.data.pictures import holds_class_folders, holds_images, read_image_folder
from keras2gp.data.tables import TARGET, is_table, read_csv, require_target, without_target
from keras2gp.errors import DataError, InputError

__all__ = ["Dataset", "load"]


_SOURCES = (
    "expected 'sample', 'tfds:NAME', the path of an .npz archive or a .csv file, or a folder of "
    "images (a folder for each class), of x.npy and y.npy, or of IDX files"
)
_SPLIT_KEYS = ("x_train", "y_train", "x_test", "y_test")
_NPZ_KEYS = "expected x and y; or x_train, y_train and, both or neither, x_test and y_test"


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
        return replace(self, x_train=x, y_train=y, notes=(*self.notes, note))

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
        for word, number in (("training", n_train), ("test", n_test)):
            whole_number(f"{word} rows", number, error=DataError)
        rows = len(self.x_train)
        if n_train > rows:
            raise DataError(
                f"{self.name}: {n_train} rows to train on were asked for; it has {rows}"
            )
        train = self.x_train[:n_train], self.y_train[:n_train]
        if self.x_test is None or self.y_test is None:
            if n_train + n_test > rows:
                raise DataError(
                    f"{self.name}: {n_train} rows to train on and {n_test} to test on were asked "
                    f"for; it has {rows} and no test split, so that they would overlap"
                )
            test = self.x_train[rows - n_test :], self.y_train[rows - n_test :]
            note = f"it has no test split: its last {n_test} rows of {rows} are tested on"
            return Dataset(self.name, *train, *test, (*self.notes, note))
        if n_test > len(self.x_test):
            raise DataError(
                f"{self.name}: {n_test} rows to test on were asked for; it has {len(self.x_test)}"
            )
        return Dataset(self.name, *train, self.x_test[:n_test], self.y_test[:n_test], self.notes)


def load(
    source: str, *, download: bool = False, maps: bool = False, target: str | None = None
) -> Dataset:
    """Load the data set that a source names.

    Args:
        source: one of

            - "sample": 4000 training and 2000 test digits of MNIST, which come with the package;
              each ten rows hold each digit once.
            - "tfds:NAME": a data set of tensorflow_datasets, its splits train and, if any, test.
            - the path of an .npz archive that holds x and y; or x_train, y_train and, if any,
              x_test and y_test.
            - the path of a .csv file whose first line names its columns, y or `target` among them.
            - the path of a folder that holds a folder of images for each class, whose name is the
              label (.png, .jpg, .bmp, .ppm, .webp); or folders train and test of such folders.
            - the path of a folder that holds x.npy and y.npy, or x_train.npy and so on.
            - the path of a folder of IDX files with MNIST's names, also packed (.gz).
        download: let tensorflow_datasets download and prepare a data set that is not prepared.
        maps: whether y may have more axes, as of images or sequences; of an .npz archive
            or .npy files.
        target: the column of labels or targets of a .csv file; None for "y".

    Returns:
        The images and labels, a Dataset.

    Raises:
        DataError: the source is unknown, missing, damaged, or not images with labels; `target` is
            stated for another one than a .csv file.

    >>> from keras2gp.data import load
    >>> load("sample").x_test.shape
    (2000, 28, 28, 1)
    """
    source = str(source)
    download, maps = truth("download", download), truth("maps", maps)
    if target is not None and not source.endswith(".csv"):
        raise DataError(
            f"{source!r}: target is the name of a column of a .csv file, and this is none. Try: "
            "without target (--target)"
        )
    if source == "sample":
        return _sample()
    if source.startswith("tfds:"):
        return _tfds(source, download=download)
    path = expanded(source)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise DataError(f"{source!r}: {error.strerror}; {_SOURCES}") from error
    if is_folder:
        return _folder(source, path, maps=maps)
    if is_file and path.suffix == ".npz":
        return _npz(source, path, maps=maps)
    if is_file and path.suffix == ".csv":
        return _csv(source, path, TARGET if target is None else target)
    if is_file and path.suffix == ".npy":
        raise DataError(
            f"{source}: an .npy file holds one array, and labels are needed beside the images. "
            "Try: a folder that holds x.npy and y.npy, or an .npz archive"
        )
    problem = (
        "neither an .npz archive, a .csv file nor a folder" if is_file else "no such file or folder"
    )
    hint = f". Did you mean tfds:{source}?" if source.isidentifier() else ""
    raise DataError(f"{source!r}: {problem}; {_SOURCES}{hint}")


def _sample() -> Dataset:
    file = resources.files("keras2gp.data") / "sample" / "mnist_sample.npz"
    with resources.as_file(file) as path:
        arrays, _ = read_npz(path, _SPLIT_KEYS)
    return _dataset("sample", arrays)


def _folder(source: str, path: Path, *, maps: bool) -> Dataset:
    arrays = read_npy_folder(path, ("x", "y", *_SPLIT_KEYS))
    if arrays:
        return _arrays(source, arrays, ", ".join(f"{name}.npy" for name in arrays), maps=maps)
    if holds_class_folders(path):
        arrays, notes = read_image_folder(path)
        dataset = _dataset(source, arrays)
        return replace(dataset, notes=(*dataset.notes, *notes))
    if holds_images(path):
        raise DataError(
            f"{source}: its images lie in no folders of classes, so that they have no labels. Try: "
            "a folder for each class, whose name is the label"
        )
    return _dataset(source, read_idx_folder(path))


def _arrays(source: str, arrays: Mapping[str, Array], named: str, *, maps: bool) -> Dataset:
    """A Dataset of x and y, or of x_train, y_train and so on."""
    if "x" in arrays or "y" in arrays:
        if set(arrays) != {"x", "y"}:
            raise DataError(f"{source}: holds {named}; {_NPZ_KEYS}")
        arrays = {"x_train": arrays["x"], "y_train": arrays["y"]}
    return _dataset(source, arrays, named, maps=maps)


def _npz(source: str, path: Path, *, maps: bool) -> Dataset:
    arrays, others = read_npz(path, ("x", "y", *_SPLIT_KEYS))
    named = ", ".join([*arrays, *others]) or "no arrays"
    dataset = _arrays(source, arrays, named, maps=maps)
    if others:
        dataset = replace(dataset, notes=(*dataset.notes, f"not used: {', '.join(others)}"))
    return dataset


def _csv(source: str, path: Path, target: str) -> Dataset:
    table = read_csv(path)
    require_target(table, source, target)
    x, y = without_target(table, source, target)
    return _dataset(source, {"x_train": x, "y_train": np.asarray(y)})


def _tfds(source: str, *, download: bool) -> Dataset:
    name = source.removeprefix("tfds:")
    try:
        import tensorflow_datasets as tfds  # noqa: PLC0415 (slow)
    except ImportError as error:
        raise DataError(
            f"{source}: tensorflow_datasets does not start ({error}). Try: python -m pip install "
            "tensorflow-datasets importlib_resources"
        ) from error
    try:
        builder = tfds.builder(name)
        if download:
            builder.download_and_prepare()
        return _prepared(source, builder)
    except DataError:
        raise
    except Exception as error:  # each data set's own code is run, and may raise anything
        raise DataError(f"{source}: tensorflow_datasets says: {quoted_text(error)}") from error


def _prepared(source: str, builder: Any) -> Dataset:
    if builder.info.supervised_keys is None:
        raise DataError(f"{source}: it does not say which of its features are image and label")
    splits = set(builder.info.splits)  # empty for a data set that is not prepared
    if splits and "train" not in splits:
        raise DataError(f"{source}: no split 'train'; it has {', '.join(sorted(splits))}")
    arrays = {}
    for split in ("train", "test") if not splits or "test" in splits else ("train",):
        try:
            rows = builder.as_dataset(split=split, as_supervised=True)
        except AssertionError as error:
            raise DataError(
                f"{source}: it is not prepared on this machine. Try: set TFDS_DATA_DIR to a folder "
                "that holds it prepared, or have it downloaded (download=True, --download)"
            ) from error
        arrays[f"x_{split}"], arrays[f"y_{split}"] = _stacked(source, rows)
    dataset = _dataset(source, arrays)
    return replace(dataset, notes=(*dataset.notes, f"read {builder.info.full_name}"))


def _stacked(source: str, rows: Any) -> tuple[Array, Array]:
    for spec in rows.element_spec:
        shape = getattr(spec, "shape", None)
        if shape is None or not shape.is_fully_defined():
            raise DataError(f"{source}: its rows differ in shape ({shape}), or are no arrays")
    batches = list(rows.batch(4096).as_numpy_iterator())
    if not batches:
        raise DataError(f"{source}: a split without rows")
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return x, y


def _dataset(
    source: str, arrays: Mapping[str, Array], named: str = "", *, maps: bool = False
) -> Dataset:
    """A Dataset of the arrays x_train and y_train and, both or neither, x_test and y_test."""
    pairs = ["train", "test"] if {"x_test", "y_test"} & set(arrays) else ["train"]
    missing = [key for p in pairs for key in (f"x_{p}", f"y_{p}") if key not in arrays]
    if missing:
        raise DataError(f"{source}: holds {named}; {_NPZ_KEYS}")
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
    return Dataset(source, **checked, notes=tuple(notes))


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
        raise DataError(f"{where}: {not_finite(y)}")
    # Labels are int64 for every source: tensorflow_datasets gives int64, IDX files uint8.
    integer = y.dtype.kind in "iu" and np.can_cast(y.dtype, np.int64)
    return y.astype(np.int64) if integer else y
