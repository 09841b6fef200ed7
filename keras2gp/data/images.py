"""Arrays in the types that kernels take: float32 or float64, finite, of a model's shape."""

from __future__ import annotations

import math

import numpy as np

from keras2gp._util.arrays import Array, InputsLike
from keras2gp._util.text import wrong_shape
from keras2gp.errors import InputError

__all__ = ["as_floats", "not_finite", "prepare_images"]

_EXACT_IN_FLOAT32, _EXACT_IN_FLOAT64 = 2**24, 2**53
"""Integers up to here are exact in float32, and in float64."""


def prepare_images(
    x: InputsLike, *, model_rescales: bool, sample_shape: tuple[int, ...]
) -> tuple[Array, list[str]]:
    """Bring images into the type and shape that a kernel takes.

    Args:
        x: images, real numbers.
        model_rescales: whether the model itself brings pixels into range (Rescaling,
            Normalization). If so, uint8 pixels keep their values; if not, they are divided by 255.
        sample_shape: shape of one image for the model; if it ends in 1, x may lack that axis.

    Returns:
        The images, in float64 if x is float64 and in float32 otherwise, and the changes that were
        made to them, a sentence each.

    Raises:
        InputError: x is empty, has another shape or type, or is not finite.

    Shapes:
        x [N, *shape]; result [N, *sample_shape].

    >>> import numpy
    >>> from keras2gp.data import prepare_images
    >>> pixels = numpy.full((3, 2, 2), 51, "uint8")
    >>> images, notes = prepare_images(pixels, model_rescales=False, sample_shape=(2, 2, 1))
    >>> images.shape, images.dtype, round(float(images[0, 0, 0, 0]), 4)
    ((3, 2, 2, 1), dtype('float32'), 0.2)
    >>> notes
    ['added the channel axis that the model expects', 'uint8 pixels divided by 255, to [0, 1]']
    """
    images = np.asarray(x)
    notes = []
    if images.ndim == 0 or len(images) == 0:
        raise InputError(f"images: shape {images.shape}: there are none")
    if sample_shape[-1:] == (1,) and images.shape[1:] == tuple(sample_shape[:-1]):
        images = images[..., np.newaxis]
        notes.append("added the channel axis that the model expects")
    if images.shape[1:] != tuple(sample_shape):
        raise InputError(wrong_shape("images", images.shape, sample_shape))
    if images.dtype != np.uint8:
        floats, done = as_floats(images, "images")
        return floats, notes + done
    if model_rescales:
        notes.append("uint8 pixels kept in 0..255, since the model rescales them itself")
        return images.astype(np.float32), notes
    notes.append("uint8 pixels divided by 255, to [0, 1]")
    return np.divide(images, np.float32(255), dtype=np.float32), notes


def as_floats(x: Array, where: str) -> tuple[Array, list[str]]:
    """The same values in float32 or float64; InputError if they are not finite real numbers."""
    if x.dtype.kind not in "biuf":
        raise InputError(f"{where}: values of type {x.dtype}, expected real numbers")
    if x.dtype.kind == "f":
        exact = x.dtype.itemsize <= 4
    else:
        largest = max(abs(int(x.min())), abs(int(x.max())))
        if largest > _EXACT_IN_FLOAT64:
            raise InputError(
                f"{where}: integers up to {largest}, of which float64 loses the last digits. Try: "
                "subtract an offset, or divide by a unit"
            )
        exact = largest <= _EXACT_IN_FLOAT32
    dtype = np.dtype(np.float32 if exact else np.float64)
    with np.errstate(over="ignore"):
        floats = x.astype(dtype, copy=False)
    if not np.isfinite(floats).all():
        raise InputError(f"{where}: {not_finite(floats)}")
    return floats, [] if x.dtype == dtype else [f"{x.dtype} values cast to {dtype}, not scaled"]


def not_finite(values: Array) -> str:
    """How many values are NaN or infinite, and where the first one lies."""
    bad = np.argwhere(~np.isfinite(values))
    first, count = tuple(int(i) for i in bad[0]), math.prod(values.shape)
    return f"{len(bad)} of {count} values are NaN or infinite, first at {first} (counted from 0)"
