"""Data sets by name: embedded MNIST digits, tfds:NAME, .npz, .csv, folders of images or arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.checks import truth
from keras2gp._util.paths import expanded, suffix_of
from keras2gp._util.text import did_you_mean, quoted_text
from keras2gp.data.datasets import EXPECTED, SPLIT_KEYS, Dataset, dataset_of
from keras2gp.data.files import read_idx_folder, read_npy, read_npy_folder, read_npz
from keras2gp.data.pictures import holds_class_folders, holds_images, read_image_folder, read_images
from keras2gp.data.tables import TARGET, read_csv, require_target, without_target
from keras2gp.errors import DataError

__all__ = ["images_of", "load"]

_NPZ_IMAGES = ("x", "x_test", "x_train")
_SOURCES = (
    "expected 'sample', 'tfds:NAME', the path of an .npz archive or a .csv file, or a folder of "
    "images (a folder for each class), of x.npy and y.npy, or of IDX files"
)


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
    if target is not None and suffix_of(source) != ".csv":
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
    if is_file and suffix_of(path) == ".npz":
        return _npz(source, path, maps=maps)
    if is_file and suffix_of(path) == ".csv":
        return _csv(source, path, TARGET if target is None else target)
    if is_file and suffix_of(path) == ".npy":
        raise DataError(
            f"{source}: an .npy file holds one array, and labels are needed beside the images. "
            "Try: a folder that holds x.npy and y.npy, or an .npz archive"
        )
    problem = (
        "neither an .npz archive, a .csv file nor a folder" if is_file else "no such file or folder"
    )
    hint = f". Did you mean tfds:{source}?" if source.isidentifier() else ""
    raise DataError(f"{source!r}: {problem}; {_SOURCES}{hint}")


def images_of(
    source: str, *, download: bool = False, stated: str | None = None, target: str | None = None
) -> tuple[Array, tuple[str, ...]]:
    """The images of a source without their labels: its test images if it has any, otherwise all.

    An .npz file needs no labels: its x is taken, or else x_test, or x_train. A CSV file needs no
    column of targets, an .npy file is the images, and images in a folder need no folders of
    classes.

    Args:
        source: see `load`; or the path of an .npy file.
        download: see `load`.
        stated: the column of targets of a CSV file, which has to have it.
        target: that column where none is stated, which the file need not have.

    Returns:
        The images, and what was done to them, a sentence each.

    Raises:
        DataError: the source is unknown, missing or damaged.
    """
    path = expanded(source)
    if suffix_of(path) == ".npz" and path.is_file():
        arrays, others = read_npz(path, _NPZ_IMAGES)
        for name in _NPZ_IMAGES:
            if name in arrays:
                return _require_rows(arrays[name], source), ()
        raise DataError(f"{source}: holds {', '.join(others) or 'no arrays'}; expected x")
    if suffix_of(path) == ".csv" and path.is_file():
        table = read_csv(path)
        if stated is not None:
            require_target(table, source, stated)
        return without_target(table, source, stated or target or TARGET)[0], ()
    if suffix_of(path) == ".npy" and path.is_file():
        return _require_rows(read_npy(path), source), ()
    named = source == "sample" or source.startswith("tfds:")
    if not named and holds_images(path) and not holds_class_folders(path):
        images, notes = read_images(path)
        return images, tuple(notes)
    data = load(source, download=download, maps=True)
    return data.x_train if data.x_test is None else data.x_test, data.notes


def _require_rows(images: Array, source: str) -> Array:
    """The array of a file. Raises: DataError if it is a single number, or has no rows."""
    if not images.ndim:
        raise DataError(f"{source}: shape (), expected [N, *shape]")
    if not len(images):
        raise DataError(f"{source}: images: shape {images.shape}: there are none")
    return images


def _sample() -> Dataset:
    file = resources.files("keras2gp.data") / "sample" / "mnist_sample.npz"
    with resources.as_file(file) as path:
        arrays, _ = read_npz(path, SPLIT_KEYS)
    return dataset_of("sample", arrays)


def _folder(source: str, path: Path, *, maps: bool) -> Dataset:
    arrays = read_npy_folder(path, ("x", "y", *SPLIT_KEYS))
    if arrays:
        return _arrays(source, arrays, ", ".join(f"{name}.npy" for name in arrays), maps=maps)
    if holds_class_folders(path):
        arrays, notes = read_image_folder(path)
        dataset = dataset_of(source, arrays)
        return replace(dataset, notes=(*dataset.notes, *notes))
    if holds_images(path):
        raise DataError(
            f"{source}: its images lie in no folders of classes, so that they have no labels. Try: "
            "a folder for each class, whose name is the label"
        )
    return dataset_of(source, read_idx_folder(path))


def _arrays(source: str, arrays: Mapping[str, Array], named: str, *, maps: bool) -> Dataset:
    """A Dataset of x and y, or of x_train, y_train and so on."""
    if "x" in arrays or "y" in arrays:
        if set(arrays) != {"x", "y"}:
            raise DataError(f"{source}: holds {named}; {EXPECTED}")
        arrays = {"x_train": arrays["x"], "y_train": arrays["y"]}
    return dataset_of(source, arrays, named, maps=maps)


def _npz(source: str, path: Path, *, maps: bool) -> Dataset:
    arrays, others = read_npz(path, ("x", "y", *SPLIT_KEYS))
    named = ", ".join([*arrays, *others]) or "no arrays"
    dataset = _arrays(source, arrays, named, maps=maps)
    if others:
        dataset = replace(dataset, notes=(*dataset.notes, f"not used: {', '.join(others)}"))
    return dataset


def _csv(source: str, path: Path, target: str) -> Dataset:
    table = read_csv(path)
    require_target(table, source, target)
    x, y = without_target(table, source, target)
    return dataset_of(source, {"x_train": x, "y_train": np.asarray(y)})


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
    except tfds.core.registered.DatasetNotFoundError as error:
        base = name.partition("/")[0].partition(":")[0]
        names = tfds.list_builders(with_community_datasets=False)
        hint = did_you_mean(base, names, before="tfds:")
        raise DataError(
            f"{source}: tensorflow_datasets has no data set {base!r}."
            + (hint or " Try: a name of its catalogue, such as tfds:fashion_mnist")
        ) from error
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
    dataset = dataset_of(source, arrays)
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
