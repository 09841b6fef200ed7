"""The models of keras.applications, at the smallest size that they take."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import applications

__all__ = ["built", "images", "names"]

_SIZES = (32, 71, 75, 224, 331)


def names() -> list[str]:
    """The models of keras.applications, in alphabetical order."""
    return sorted(name for name in dir(applications) if name[0].isupper())


@contextmanager
def built(name: str) -> Iterator[Any]:
    """A model without trained weights; what it takes is given back afterwards."""
    model = _smallest(getattr(applications, name))
    try:
        yield model
    finally:
        del model
        keras.utils.clear_session()
        gc.collect()


def _smallest(builder: Any) -> Any:
    for size in _SIZES[:-1]:
        try:
            return builder(weights=None, input_shape=(size, size, 3))
        except ValueError:  # smaller than the model takes
            continue
    return builder(weights=None, input_shape=(_SIZES[-1], _SIZES[-1], 3))


def images(model: Any, count: int = 3) -> Any:
    """Random images that are alike in part; pixels for a model that rescales them itself."""
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(2, count, *model.input_shape[1:]))
    values = (shared[:1] + own) / np.sqrt(2)
    rescaling = (keras.layers.Rescaling, keras.layers.Normalization)
    if any(isinstance(layer, rescaling) for layer in model.layers):
        values = 255 / (1 + np.exp(-values))
    return values.astype(np.float32)
