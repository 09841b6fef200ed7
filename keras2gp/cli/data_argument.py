"""From the argument D to arrays that a kernel takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras2gp import data
from keras2gp._util.arrays import Array
from keras2gp.cli.progress import stage
from keras2gp.cli.start import start_tensorflow
from keras2gp.data.files import read_npz
from keras2gp.errors import DataError, InputError

if TYPE_CHECKING:
    from keras2gp.kernel.kernel import Kernel

__all__ = ["image_shape", "images_only", "prepared", "read_data", "targets", "test_rows"]

_NPZ_IMAGES = ("x", "x_test", "x_train")


def read_data(source: str, *, download: bool) -> data.Dataset:
    """The data set; before TensorFlow starts, unless it is read with it. Raises: DataError."""
    if source.startswith("tfds:"):
        start_tensorflow()
    with stage(f"reading {source}"):
        return data.load(source, download=download)


def images_only(source: str, *, download: bool) -> Array:
    """Images to predict: the source's test images if it has any, otherwise all.

    An .npz file needs no labels: its x is taken, or else x_test, or x_train. Raises: DataError.
    """
    path = Path(source).expanduser()
    if path.suffix == ".npz" and path.is_file():
        with stage(f"reading {source}"):
            found, others = read_npz(path, _NPZ_IMAGES)
        for name in _NPZ_IMAGES:
            if name in found:
                return found[name]
        raise DataError(f"{source}: holds {', '.join(others) or 'no arrays'}; expected x")
    dataset = read_data(source, download=download)
    return dataset.x_train if dataset.x_test is None else dataset.x_test


def image_shape(x: Array) -> tuple[int, ...]:
    """Height, width and channels of images, for a network of the zoo."""
    return tuple(x.shape[1:]) if x.ndim != 3 else (*x.shape[1:], 1)


def prepared(kernel: Kernel, x: Array, *, rescales: bool) -> tuple[Array, list[str]]:
    """Images as the kernel takes them, and what was done to them. Raises: InputError."""
    if len(kernel.inputs) != 1:
        names = ", ".join(spec.name for spec in kernel.inputs)
        raise InputError(
            f"the model has the inputs {names}, and the command line has data for one. "
            "Try: the Python interface, which takes a list of arrays"
        )
    shape = _sizes(kernel.inputs[0].shape, x.shape[1:])
    notes = []
    if len(shape) == 1 and x.ndim > 2 and x[:1].size == shape[0]:
        x = x.reshape(len(x), -1)
        notes.append("images flattened, since the model takes vectors")
    images, done = data.prepare_images(x, model_rescales=rescales, sample_shape=shape)
    return images, notes + done


def test_rows(split: data.Dataset) -> tuple[Array, Array]:
    """Images and labels to test on. Raises: DataError if there are none."""
    if split.x_test is None or split.y_test is None:
        raise DataError(f"{split.name}: it has no rows to test on")
    return split.x_test, split.y_test


def _sizes(wanted: tuple[int | None, ...], found: tuple[int, ...]) -> tuple[int, ...]:
    """What the model wants, with the images' own sizes where it takes any."""
    padded = (*found, *[1] * len(wanted))
    return tuple(f if w is None else w for w, f in zip(wanted, padded, strict=False))


def targets(y: Array, source: str, *, regression: bool) -> Array:
    """Labels, or real numbers for a regression. Raises: DataError if y is of the other kind."""
    if regression and y.dtype.kind not in "biuf":
        raise DataError(f"{source}: y holds labels of type {y.dtype}: no targets of a regression")
    if not regression and y.dtype.kind == "f":
        raise DataError(f"{source}: y holds real numbers, not labels. Try: fit --regression")
    return y.astype(np.float64) if regression else y
