"""From the options of a command to the rows of data that it works on, before TensorFlow starts."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras2gp._util.arrays import Images, Targets
from keras2gp._util.paths import suffix_of
from keras2gp._util.progress import stage
from keras2gp._util.starting import start_tensorflow
from keras2gp._util.text import received_text, wrong_shape
from keras2gp.cli.arguments import IMAGES_VERIFIED, ROWS_PLOTTED
from keras2gp.cli.sources import NamedModel
from keras2gp.data.datasets import Dataset
from keras2gp.data.loading import images_of, load
from keras2gp.data.tables import is_table, numbers_of
from keras2gp.errors import DataError, InputError
from keras2gp.fit_record import FitRecord, data_digest, identity, input_shape
from keras2gp.modelfile.sources import stated_input

__all__ = [
    "Rows",
    "Unlabelled",
    "filled_shape",
    "images_to_predict",
    "images_to_verify",
    "is_flattened",
    "require_shape_of_model",
    "rows_of_demo",
    "rows_of_matrix",
    "rows_to_evaluate",
    "rows_to_fit",
    "rows_to_plot",
    "rows_to_search",
    "rows_to_test",
    "rows_to_tune",
    "rows_to_xray",
]

_NAMED = 10
"""Labels that are named."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Images and their targets as they are stored.

    name:     the data set
    notes:    what was done to the data, a sentence each
    warnings: what speaks against a measurement on these rows, a sentence each
    """

    name: str
    x: Images
    y: Targets
    notes: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Images as they are stored, without labels.

    notes: what was done to them, a sentence each
    """

    x: Images
    notes: tuple[str, ...] = ()

    def first(self, count: int | None) -> Unlabelled:
        """The first images, or all."""
        return Unlabelled(self.x[:count], self.notes)


def rows_to_fit(options: argparse.Namespace) -> Rows:
    """The first --train training rows, or those of --shuffle. Raises: DataError."""
    whole = _shuffled(_read(options, maps=True), options.shuffle)
    held = len(whole.x_train)
    if held < options.train:
        raise DataError(f"{whole.name}: --train {options.train}: it has {held} rows to train on")
    rows = _training(whole, options.train)
    y = _targets(rows.y, rows.name, regression=options.regression)
    warnings = [] if options.regression else _lacking_classes(y, whole.y_train, options)
    return Rows(rows.name, rows.x, y, rows.notes, warnings)


def _lacking_classes(y: Targets, every: Targets, options: argparse.Namespace) -> list[str]:
    """A sentence on the labels of the source that none of the rows has, if there are any.

    Raises: DataError if the rows have one label alone, and the source has more.
    """
    held, there = np.unique(y), np.unique(every)
    lacking = [received_text(label) for label in there.tolist() if label not in set(held.tolist())]
    if not lacking:
        return []
    names = ", ".join(lacking[:_NAMED]) + (", ..." if len(lacking) > _NAMED else "")
    which = "those of this seed" if options.shuffle is not None else "the first ones"
    hint = "another --shuffle" if options.shuffle is not None else "--shuffle"
    told = (
        f"the {len(y)} rows, {which}, hold {len(held)} of the {len(there)} classes of "
        f"{options.data}: none is of {names}"
    )
    if len(held) < 2:
        raise DataError(f"{told}. Try: {hint}, or more rows")
    return [f"{told}, which are never predicted. Try: {hint}, or more rows"]


def rows_to_tune(options: argparse.Namespace) -> Rows:
    """The first --train training rows. Raises: DataError."""
    return _training(_read(options), options.train)


def rows_to_xray(options: argparse.Namespace) -> Rows:
    """The first --train training rows, followed by --test test rows. Raises: DataError."""
    whole = _read(options)
    held = len(whole.x_train)
    if held < options.train:
        raise DataError(f"{whole.name}: --train {options.train}: it has {held} rows to train on")
    split = whole.split(options.train, options.test or 0)
    x, y = split.x_train, split.y_train
    if options.test is not None:
        test = _test(split)
        x, y = np.concatenate([x, test.x]), np.concatenate([y, test.y])
    if options.regression:
        y = _targets(y, split.name, regression=True)
    return Rows(split.name, x, y, whole.notes)


def rows_of_matrix(options: argparse.Namespace) -> Rows:
    """The first --rows training rows, or all, in the order of --shuffle. Raises: DataError."""
    whole = _shuffled(_read(options, maps=True), options.shuffle)
    return _training(whole, options.rows or len(whole.x_train))


def rows_to_plot(options: argparse.Namespace) -> Rows:
    """The first --rows training rows, or ROWS_PLOTTED if there are so many. Raises: DataError."""
    whole = _read(options)
    return _training(whole, options.rows or min(ROWS_PLOTTED, len(whole.x_train)))


def rows_to_search(options: argparse.Namespace) -> Rows:
    """The rows to train on, followed by those to validate on, with labels. Raises: DataError."""
    whole = _read(options)
    count = options.train + (options.validation or 0)
    if count > len(whole.x_train):
        raise DataError(f"{whole.name}: {count} rows were asked for; it has {len(whole.x_train)}")
    rows = _training(whole, count)
    if rows.y.dtype.kind == "f":
        raise DataError(f"{rows.name}: y holds real numbers, and a search is for labels")
    return rows


def rows_to_test(options: argparse.Namespace) -> Rows:
    """The first --test test rows, none of which are rows of the fit.

    Raises: DataError if training and test rows of one source overlap, or there are too few.
    """
    record: FitRecord = options.record
    whole, warnings = _read(options, maps=True, target=record.target), []
    if identity(options.data) != record.identity:
        data = whole.split(0, options.test)
    else:
        data = _shuffled(whole, record.shuffle).split(record.rows, options.test)
        if record.sha256 not in _digests(data.x_train, data.y_train):
            warnings.append(
                f"{options.data} is not what it was: its training rows differ from those fitted"
            )
    rows = _test(data)
    _require_shape(rows.x, options, options.data)
    y = _targets(rows.y, rows.name, regression=record.task == "regression")
    return Rows(rows.name, rows.x, y, rows.notes, warnings)


def _digests(x: Images, y: Targets) -> set[str]:
    """Digests of rows, and of them in fits of earlier versions, which took 001 for a number."""
    digests = {data_digest(x, y)}
    if y.dtype.kind == "U":
        with suppress(ValueError, OverflowError):
            digests.add(data_digest(x, numbers_of(y, np.int64)))
    return digests


def rows_to_evaluate(options: argparse.Namespace) -> tuple[Rows, Unlabelled | None]:
    """The test rows, and as many images of --ood at most. Raises: DataError."""
    rows = rows_to_test(options)
    if options.ood is None:
        return rows, None
    stated = None if suffix_of(options.data) == ".csv" else options.target
    default = options.target or options.record.target
    images = _unlabelled(options.ood, options.download, stated, default)
    _require_shape(images.x, options, f"--ood {options.ood}")
    return rows, images.first(options.test)


def rows_of_demo(options: argparse.Namespace) -> tuple[Rows, Rows]:
    """Digits to train on and to test on. Raises: DataError if there are too few."""
    split = load("sample").split(options.train, options.test)
    return _training(split, options.train), _test(split)


def images_to_predict(options: argparse.Namespace) -> Unlabelled:
    """All images to predict, or the first --limit. Raises: DataError."""
    target = options.record.target
    images = _unlabelled(options.data, options.download, options.target, target)
    _require_shape(images.x, options, options.data)
    return images.first(options.limit)


def images_to_verify(options: argparse.Namespace) -> Unlabelled | None:
    """The first images of the data, None for random ones. Raises: DataError."""
    if options.data is None:
        return None
    images = _unlabelled(options.data, options.download, options.target)
    if options.images is not None and options.images > len(images.x):
        raise DataError(f"{options.data}: --images {options.images}: it has {len(images.x)}")
    return images.first(options.images or IMAGES_VERIFIED)


def filled_shape(expected: Sequence[int | None], received: Sequence[int]) -> tuple[int, ...]:
    """The shape of one image that a kernel takes, with the images' own sizes where it is open.

    expected: of the kernel's input
    received: of the images, [N, *shape]
    """
    sizes = (*received[1:], *[1] * len(expected))
    return tuple(
        own if stated is None else stated for stated, own in zip(expected, sizes, strict=False)
    )


def is_flattened(x: Images, shape: Sequence[int]) -> bool:
    """Whether images of several axes are handed on as the vectors that a kernel takes."""
    return len(shape) == 1 and x.ndim > 2 and math.prod(x.shape[1:]) == shape[0]


def _require_shape(x: Images, options: argparse.Namespace, source: str) -> None:
    """Refuse images that a fit does not take, before it is loaded. Raises: InputError."""
    _require(x, input_shape(options.fit / "kernel"), source)


def require_shape_of_model(x: Images, options: argparse.Namespace) -> None:
    """Refuse images that MODEL does not take, before TensorFlow starts. Raises: InputError."""
    source = getattr(options, "source", None)
    if isinstance(source, NamedModel) and getattr(options, "input_shape", None) is None:
        path = Path(source.name)
        if source.kind != "zoo":  # which is built for the images
            expected = input_shape(path) if source.kind == "kernel" else stated_input(path)
            _require(x, expected, options.data)


def _require(x: Images, expected: Sequence[int | None] | None, source: str) -> None:
    """Refuse images of another shape than the expected one of each, if there is one.

    Raises: InputError
    """
    if expected is None or is_table(x) or x.dtype.kind not in "biuf" or x.ndim < 2:
        return
    shape, sizes = filled_shape(expected, x.shape), x.shape[1:]
    if sizes != shape and not is_flattened(x, shape) and (*sizes, 1) != shape:
        raise InputError(f"{source}: {wrong_shape('images', x.shape, shape)}")


def _read(options: argparse.Namespace, *, maps: bool = False, target: str | None = None) -> Dataset:
    """The data; target: that of a fit, where the options name none."""
    stated = _target_of(options.data, options.target or target)
    return _data_set(options.data, download=options.download, maps=maps, target=stated)


def _target_of(source: str, target: str | None) -> str | None:
    """The column of the target where the source is a table; None for any other."""
    return target if suffix_of(source) == ".csv" else None


def _shuffled(whole: Dataset, seed: int | None) -> Dataset:
    return whole if seed is None else whole.shuffled(seed)


def _data_set(
    source: str, *, download: bool, maps: bool = False, target: str | None = None
) -> Dataset:
    if source.startswith("tfds:"):
        start_tensorflow()
    with stage(f"reading {source}"):
        return load(source, download=download, maps=maps, target=target)


def _unlabelled(
    source: str, download: bool, stated: str | None, target: str | None = None
) -> Unlabelled:
    """The images of a source; see `images_of`. Raises: DataError."""
    if source.startswith("tfds:"):
        start_tensorflow()
    with stage(f"reading {source}"):
        return Unlabelled(*images_of(source, download=download, stated=stated, target=target))


def _training(whole: Dataset, count: int) -> Rows:
    split = whole.split(count, 0)
    return Rows(split.name, split.x_train, split.y_train, whole.notes)


def _test(split: Dataset) -> Rows:
    if split.x_test is None or split.y_test is None:
        raise DataError(f"{split.name}: it has no rows to test on")
    return Rows(split.name, split.x_test, split.y_test, split.notes)


def _targets(y: Targets, source: str, *, regression: bool) -> Targets:
    """Labels, or real numbers for a regression. Raises: DataError if y is of the other kind."""
    if regression and y.dtype.kind == "U" and suffix_of(source) == ".csv":
        with suppress(ValueError):
            y = numbers_of(y, np.float64)  # whole numbers with leading zeros
    if regression and y.dtype.kind not in "biuf":
        raise DataError(
            f"{source}: y holds labels of type {y.dtype}: no targets of a regression. Try: "
            "no --regression"
        )
    if not regression and y.dtype.kind == "f":
        raise DataError(f"{source}: y holds real numbers, not labels. Try: fit --regression")
    return y.astype(np.float64) if regression else y
