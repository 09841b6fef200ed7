"""The images that networks and kernel are compared on."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp.errors import InputError
from keras2gp.kernel.inputs import checked
from keras2gp.kernel.kernel import Kernel

__all__ = ["images_of"]


_PIXELS = frozenset({"Rescaling", "Normalization"})


def images_of(kernel: Kernel, data: Any, seed: int) -> list[Array]:
    """Arrays for the model's inputs: those handed in, or random ones that are alike in part."""
    if not isinstance(data, int):
        return checked(data, kernel.inputs, "float32", "data")
    if any(None in spec.shape for spec in kernel.inputs):
        raise InputError("the model takes images of any size. Try: data, images to compare on")
    random = np.random.default_rng(seed)
    pixels = kernel.preprocessor is not None and any(
        type(layer).__name__ in _PIXELS for layer in kernel.preprocessor.layers
    )
    arrays = []
    for spec in kernel.inputs:
        shared, own = random.normal(size=(2, data, *(size or 1 for size in spec.shape)))
        values = (shared[:1] + own) / np.sqrt(2.0)
        if pixels:  # for a layer that brings 0 to 255 into range
            values = 255.0 / (1.0 + np.exp(-values))
        arrays.append(values.astype(np.float32))
    return checked(arrays[0] if len(arrays) == 1 else arrays, kernel.inputs, "float32", "data")
