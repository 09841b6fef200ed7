"""The images of a finite network: checked, and in the form in which its model takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras2gp._util.arrays import Array, Images, InputsLike, Tensor
from keras2gp._util.checks import require_plain
from keras2gp._util.text import received_text
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
        self._types = [keras.backend.standardize_dtype(tensor.dtype) for tensor in self._tensors]
        self._specs = tuple(
            InputSpec(name, tuple(tensor.shape[1:]), "" if "float" in kind else kind)
            for name, tensor, kind in zip(names, self._tensors, self._types, strict=True)
        )

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
        wide = "float64" if "float64" in self._types else "float32"
        arrays = checked(x, self._specs, wide, name)
        return [
            array.astype("float32") if kind.endswith(("float16", "float32")) else array
            for array, kind in zip(arrays, self._types, strict=True)
        ]

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
        raise InputError(
            f"{name}: the value at {place} (counted from 0) is not finite in {array.dtype}"
        )
    return array


def _text(array: Array, name: str) -> Array:
    if array.dtype.kind == "O" and not all(isinstance(v, str | bytes) for v in array.flat):
        raise InputError(f"{name}: objects that are no text")
    return array.astype(np.str_)
