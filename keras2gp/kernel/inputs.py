"""The inputs of a kernel, and the one check of the arrays that a user hands in for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Images, InputsLike
from keras2gp._util.checks import as_float, numbers_of, require_plain
from keras2gp._util.keras_objects import KerasModel
from keras2gp._util.memory import require_memory
from keras2gp._util.text import received_text, wrong_shape
from keras2gp.errors import InputError
from keras2gp.graph.ops import Input, Tokens

__all__ = [
    "InputSpec",
    "as_inputs",
    "checked",
    "numbers_per_image",
    "require_eager",
    "require_tokens",
    "separated",
]


@dataclass(frozen=True)
class InputSpec:
    """One input of the model: its name and the shape of one image, without the batch axis.

    A size is None where a deterministic layer, such as Resizing, takes any. The dtype is Keras's
    of an input of integers, booleans or text, such as "int32", and "" for real numbers of the
    kernel's own dtype.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = ""

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an image of this shape can be handed in."""
        return len(shape) == len(self.shape) and all(
            expected in (None, size) for expected, size in zip(self.shape, shape, strict=True)
        )


def numbers_per_image(model: KerasModel) -> int:
    """Numbers that a Keras model holds for one image while it runs: Keras keeps every tensor."""
    tensors = keras.tree.flatten([operation.output for operation in model.operations])
    return sum(math.prod(size or 1 for size in tensor.shape[1:]) for tensor in tensors)


def require_tokens(images: Sequence[Images], inputs: Sequence[Input], name: str = "x") -> None:
    """Refuse integers that an Embedding does not have, and numbers that are none.

    Args:
        images: the data tensors of a graph, [N, *shape] each.
        inputs: the inputs of the graph that they are for.
        name: name of the argument, for messages.

    Raises:
        InputError: with the first such value, its place, and the integers that there are.
    """
    for array, op in zip(images, inputs, strict=True):
        if not isinstance(op, Tokens):
            continue
        bad = np.argwhere((array != np.floor(array)) | (array < 0) | (array >= op.vocabulary))
        if len(bad):
            place = tuple(int(i) for i in bad[0])
            raise InputError(
                f"{name}: the value at {place[:-1]} (counted from 0) is {float(array[place]):g}, "
                f"and an Embedding takes the integers from 0 to {op.vocabulary - 1}. Try: an "
                "Embedding of a larger input_dim, or the integers with which the model was trained"
            )


def require_eager(what: str) -> None:
    """Refuse to compute where TensorFlow writes operations down and computes nothing.

    Args:
        what: what is asked for, for the message.

    Raises:
        InputError: the call is within a tf.function, a function of a tf.data set, or a tf.Graph.
    """
    if not tf.executing_eagerly():
        raise InputError(
            f"{what} within a tf.function or a tf.Graph, where nothing has values yet. Try: the "
            "same call outside of it, or in tf.numpy_function; a saved kernel and an exported fit "
            "are SavedModels, which run inside"
        )


def as_inputs(arrays: Sequence[Array]) -> list[Any]:
    """Arrays as a Keras model takes them: tensors where one is text, which Keras does not mix."""
    text = any(array.dtype.kind == "U" for array in arrays)
    return [tf.constant(array) for array in arrays] if text else list(arrays)


def checked(x: InputsLike, specs: Sequence[InputSpec], dtype: str, name: str = "x") -> list[Images]:
    """The arrays of x in the given dtype, one for each input of the model.

    Args:
        x: an array or tensor; for several inputs a list of them, a dict by input name, a data
            frame with a column for each, or a table [N, columns] of the inputs side by side.
        specs: the inputs of the model.
        dtype: "float32" or "float64"; inputs of integers and of text keep their own.
        name: name of the argument, for messages.

    Raises:
        InputError: with the input, what was received, and what is expected.

    Shapes:
        x [N, *shape] each, or [N, features] where prod(shape) is that number; results [N, *shape].
    """
    require_eager(f"{name}: a kernel's inputs")
    arrays = [
        _array(value, spec, dtype, name if len(specs) == 1 else f"{name}: the input {spec.name}")
        for value, spec in zip(separated(x, specs, name), specs, strict=True)
    ]
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        raise InputError(f"{name}: the inputs have different numbers of images: {sorted(counts)}")
    return arrays


def separated(x: InputsLike, specs: Sequence[InputSpec], name: str) -> list[Any]:
    """One argument for each input of the model. Raises: InputError if they do not fit."""
    require_plain(name, x)
    if isinstance(x, Mapping) or (len(specs) > 1 and hasattr(x, "columns")):
        missing = [spec.name for spec in specs if spec.name not in x]
        if missing:
            raise InputError(f"{name}: no array for the inputs {missing}; received {list(x)}")
        return [x[spec.name] for spec in specs]
    if len(specs) == 1:
        return [x]
    table = None if isinstance(x, list | tuple) else _columns(np.asarray(x), specs, name)
    if table is not None:
        return table
    if not isinstance(x, list | tuple) or len(x) != len(specs):
        names = ", ".join(spec.name for spec in specs)
        raise InputError(
            f"{name}: the model has {len(specs)} inputs: hand in a list of as many "
            f"arrays, or a dict with the keys {names}"
        )
    return list(x)


def _columns(table: Array, specs: Sequence[InputSpec], name: str) -> list[Any] | None:
    """The columns of each input in a table [N, columns]; None for anything else."""
    counts = [math.prod(size or 0 for size in spec.shape) for spec in specs]
    if table.ndim != 2 or table.shape[1] != sum(counts) or not all(counts):
        return None
    parts = np.split(table, np.cumsum(counts)[:-1], axis=1)
    return [_cells(part, spec, name) for part, spec in zip(parts, specs, strict=True)]


def _cells(part: Array, spec: InputSpec, name: str) -> Array:
    """Columns of a table as one input: numbers may be written as text beside columns of text."""
    array = part.reshape(len(part), *(size or 1 for size in spec.shape))
    if spec.dtype == "string" or part.dtype.kind not in "OU":
        return array
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: the input {spec.name} takes numbers: {error}") from error


def _texts(array: Array, name: str) -> Array:
    """Text, [N, *shape]. Raises: InputError for anything else, such as a missing value."""
    if array.dtype.kind == "O":
        for place, value in np.ndenumerate(array):
            if not isinstance(value, str):
                raise InputError(
                    f"{name}: the value at {place} (counted from 0) is {received_text(value)}, "
                    "expected text. Try: '' for what is missing, astype(str) for numbers"
                )
        return array.astype(str)
    if array.dtype.kind != "U":
        raise InputError(f"{name}: values of type {array.dtype}, expected text (str)")
    return array


def _integers(array: Array, dtype: str, name: str) -> Array:
    """Whole numbers in a dtype of integers, into which Keras would cut any number."""
    least, most = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    bad = np.argwhere(~((array == np.floor(array)) & (array >= least) & (array <= most)))
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        raise InputError(
            f"{name}: the value at {place} (counted from 0) is {float(array[place]):g}, and the "
            f"model's input takes integers of {dtype}"
        )
    return array.astype(dtype)


def _array(value: Any, spec: InputSpec, dtype: str, name: str) -> Array:
    require_plain(name, value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: not an array: {error}") from error
    if array.dtype == np.uint8 and not spec.dtype:
        raise InputError(
            f"{name}: uint8 pixels. They are not scaled here, since the model may rescale them "
            f"itself. Try: {name}.astype('float32') / 255, or without the division if the model "
            "has a Rescaling or Normalization layer"
        )
    if spec.dtype == "string":
        array = _texts(array, name)
    elif array.dtype.kind == "O" and array.ndim:
        array = numbers_of(name, array)
    elif array.dtype.kind not in "fiub":
        raise InputError(f"{name}: values of type {array.dtype}, expected real numbers")
    array = _shaped(array, spec, name)
    if spec.dtype == "string":
        return array
    if spec.dtype:
        return _integers(array, spec.dtype, name)
    return _reals(array, dtype, name)


def _shaped(array: Array, spec: InputSpec, name: str) -> Array:
    """The array as [N, *shape]. Raises: InputError for other sizes, or no images."""
    fixed = [size for size in spec.shape if size is not None]
    whole = len(fixed) == len(spec.shape)
    flat = array.ndim == 2 and whole and array.shape[1] == math.prod(fixed)
    flat |= array.ndim == 1 and spec.shape == (1,)
    if not spec.fits(array.shape[1:]) and not flat:
        raise InputError(wrong_shape(name, array.shape, spec.shape))
    if len(array) == 0:
        raise InputError(f"{name}: no images: shape {array.shape}")
    return array.reshape(len(array), *(fixed if whole else array.shape[1:]))


def _reals(array: Array, dtype: str, name: str) -> Array:
    """Finite real numbers in the given dtype. Raises: InputError for any other."""
    size = array.size * (np.dtype(dtype).itemsize + 1)
    require_memory(size, f"{name}: {len(array)} images in {dtype}", "fewer images at a time")
    cast = as_float(name, array, dtype)
    if not np.isfinite(cast).all():
        bad = np.argwhere(~np.isfinite(cast))
        place = tuple(int(i) for i in bad[0])
        if np.isfinite(array[place]):
            larger = dtype == "float32" and np.isfinite(np.float64(array[place]))
            remedy = ", or convert(..., dtype='float64')" if larger else ""
            raise InputError(
                f"{name}: the value at {place} (counted from 0) is {array[place]!s}, which "
                f"{dtype} cannot hold. Try: inputs of another unit{remedy}"
            )
        raise InputError(
            f"{name}: {len(bad)} values are not finite (NaN or infinite), the first at {place} "
            "(counted from 0). Expected real numbers"
        )
    # An image of numbers so small that all become 0 is not a black one.
    rows = tuple(range(1, cast.ndim))
    if cast.dtype != array.dtype and (vanished := array.any(rows) & ~cast.any(rows)).any():
        image = int(vanished.argmax())
        raise InputError(
            f"{name}: the values of image {image} (counted from 0) are up to "
            f"{float(np.abs(array[image]).max()):g}, which is 0 in {dtype}. Try: "
            "inputs of another unit, or convert(..., dtype='float64')"
        )
    return cast
