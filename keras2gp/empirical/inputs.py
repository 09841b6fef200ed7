"""The images of a finite network: checked, and in the form in which its model takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras2gp._util.arrays import Array, Images, InputsLike, Tensor
from keras2gp._util.checks import require_plain
from keras2gp._util.text import received_text, wrong_shape
from keras2gp.errors import InputError
from keras2gp.kernel.inputs import InputSpec, checked

__all__ = ["ImageInputs"]


class ImageInputs:
    """The inputs of a model: of a functional one their shapes and types, else what is handed in.

    A subclassed model states no inputs. The first images set the form, an array, a list of
    arrays or a dict of them, and later images must have it too.

    Args:
        functional: the functional model; None for a model that states no inputs.
        dtype: type of the floating-point numbers that a model without stated inputs receives.
    """

    def __init__(self, functional: Any | None, dtype: str) -> None:
        self._dtype = dtype
        self._structure: Any = None
        self._tensors: Sequence[Any] = ()
        if functional is not None:
            self._structure = functional._inputs_struct  # noqa: SLF001
            self._tensors = tuple(functional.inputs)
        names = [tensor.name for tensor in self._tensors]
        if isinstance(self._structure, Mapping):
            names = sorted(self._structure)  # the order in which Keras flattens a dict
        sizes = [tuple(tensor.shape[1:]) for tensor in self._tensors]
        self._specs = tuple(map(InputSpec, names, sizes))

    def arrays(self, x: InputsLike, name: str) -> list[Images]:
        """The arrays of x, one for each input.

        Args:
            x: an array; a list of arrays, or a dict by input name, for several inputs.
            name: name of the argument, for messages.

        Returns:
            Arrays [N, *shape] of the types that the inputs have.

        Raises:
            InputError: arrays that do not fit, or numbers that are not finite.
        """
        arrays = self._stated(x, name) if self._specs else self._free(x, name)
        counts = {len(array) for array in arrays}
        if len(counts) > 1:
            text = f"the inputs have different numbers of images: {sorted(counts)}"
            raise InputError(f"{name}: {text}")
        return arrays

    def packed(self, tensors: Sequence[Tensor]) -> Any:
        """The tensors as the model's argument."""
        return keras.tree.pack_sequence_as(self._structure, list(tensors))

    def _stated(self, x: InputsLike, name: str) -> list[Images]:
        types = [keras.backend.standardize_dtype(tensor.dtype) for tensor in self._tensors]
        if all(kind.startswith(("float", "bfloat")) for kind in types):
            dtype = "float64" if "float64" in types else "float32"
            arrays = checked(x, self._specs, dtype, name)
            return [a.astype("float32" if t != "float64" else t) for a, t in _zip(arrays, types)]
        values = _separated(x, self._specs, name)
        arrays = []
        for value, spec, kind in zip(values, self._specs, types, strict=True):
            if kind.startswith(("float", "bfloat")):
                wide = "float64" if kind == "float64" else "float32"
                arrays += checked([value], [spec], wide, name)
                continue
            array = _array(value, name)
            if not spec.fits(array.shape[1:]):
                raise InputError(wrong_shape(name, array.shape, spec.shape))
            arrays.append(_text(array, name) if kind == "string" else _whole(array, kind, name))
        return arrays

    def _free(self, x: InputsLike, name: str) -> list[Images]:
        tree = {k: _array(v, name) for k, v in x.items()} if isinstance(x, Mapping) else x
        several = isinstance(x, list | tuple) and any(hasattr(part, "shape") for part in x)
        if several:
            tree = type(x)(_array(part, name) for part in x)
        elif not isinstance(x, Mapping):
            tree = _array(x, name)
        structure = keras.tree.map_structure(lambda _: 0, tree)
        if self._structure is None:
            self._structure = structure
        if structure != self._structure:
            raise InputError(
                f"{name}={received_text(x)}: expected the form of the first images that this "
                "kernel was given: an array, a list of as many, or a dict with the same keys"
            )
        arrays = []
        for array in keras.tree.flatten(tree):
            if array.dtype.kind == "f":
                arrays.append(_finite(array.astype(self._dtype), name))
            else:
                arrays.append(_text(array, name) if array.dtype.kind in "SUO" else array)
        return arrays


def _zip(arrays: Sequence[Array], types: Sequence[str]) -> Any:
    return zip(arrays, types, strict=True)


def _separated(x: InputsLike, specs: Sequence[InputSpec], name: str) -> list[Any]:
    names = [spec.name for spec in specs]
    if isinstance(x, Mapping):
        if missing := [key for key in names if key not in x]:
            raise InputError(f"{name}: no array for the inputs {missing}; received {list(x)}")
        return [x[key] for key in names]
    if len(specs) == 1:
        return [x]
    if not isinstance(x, list | tuple) or len(x) != len(specs):
        raise InputError(
            f"{name}: the model has {len(specs)} inputs: hand in a list of as many arrays, or a "
            f"dict with the keys {', '.join(names)}"
        )
    return list(x)


def _array(value: Any, name: str) -> Array:
    require_plain(name, value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InputError(f"{name}: not an array: {error}") from error
    if array.dtype.kind not in "fiubSUO" or not array.ndim:
        raise InputError(f"{name}={received_text(value)}: expected an array of numbers, [N, ...]")
    if not len(array):
        raise InputError(f"{name}: no images: shape {array.shape}")
    return array


def _finite(array: Array, name: str) -> Array:
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"{name}: the value at {place} is not finite in {array.dtype}")
    return array


def _whole(array: Array, dtype: str, name: str) -> Array:
    """Whole numbers of the type of an input, from numbers of any type."""
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name}: values of type {array.dtype}, expected whole numbers")
    with np.errstate(invalid="ignore"):
        whole = array.astype(dtype)
    if not np.array_equal(whole, array):
        raise InputError(f"{name}: values that {dtype} does not hold, expected whole numbers")
    return whole


def _text(array: Array, name: str) -> Array:
    if array.dtype.kind == "O" and not all(isinstance(v, str | bytes) for v in array.flat):
        raise InputError(f"{name}: objects that are no text")
    return array.astype(np.str_)
