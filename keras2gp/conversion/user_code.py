"""Lines of the user's code, and why one of them cannot be traced."""

from __future__ import annotations

import linecache
import sys
import sysconfig
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras2gp._util.keras_objects import KerasLayer, KerasVariable
from keras2gp._util.text import quoted_text, received_text

__all__ = [
    "CHANGED_WEIGHTS",
    "NEEDS_BATCH",
    "OWN_WEIGHTS",
    "RANDOM",
    "SEED",
    "NoValues",
    "UntracedError",
    "line_of",
    "reason_of",
    "user_frame",
]

SEED = "seed_generator_state"
"""Keras's name of the state of random numbers."""
_HINT = "keras.ops in its place; or a reader of your own: layers={YourLayer: reader}"
OWN_WEIGHTS = (
    "it uses weights of its own ({name}), and nothing here says how one of them enters a sum",
    (
        "x @ w + b with a matrix w, keras.ops.conv(x, w), or Keras's own layers inside (Dense, "
        "EinsumDense, Conv2D); or a reader of your own: layers={YourLayer: reader}"
    ),
)
CHANGED_WEIGHTS = (
    (
        "it computes with weights of its own ({name}) before they act on its input, as a mean, a "
        "norm or a mask of them: nothing here says what law the result has"
    ),
    (
        "the weights as they are drawn, in Keras's layers (Dense, Conv2D) or x @ w + b; or a "
        "reader of your own: layers={YourLayer: reader}"
    ),
)
RANDOM = (
    "it draws random numbers, which make another function of the model at every call",
    "Dropout or GaussianNoise, which do nothing to a prediction; or the layer without it",
)


NEEDS_BATCH = (
    "it needs the size of the batch, which is not known",
    "-1 as that size in a Reshape; or a reader of your own: layers={YourLayer: reader}",
)


class UntracedError(Exception):
    """Code that leaves no graph of Keras's layers and operations.

    weight: the weight of the user's own that it is about; None for another reason
    """

    _keras_call_info_injected = True  # Keras would raise another with its own message instead.

    def __init__(
        self,
        why: str,
        hint: str = _HINT,
        line: str = "",
        *,
        reads_batch: bool = False,
        weight: KerasVariable = None,
    ) -> None:
        super().__init__(f"{line}: {why}" if line else why)
        self.hint, self.line, self.reads_batch = hint, line, reads_batch
        self.weight = weight


class _ReadError(UntracedError, ValueError):
    """A value is read that is not known: to TensorFlow, an argument that it does not take."""


class NoValues(keras.StatelessScope):  # type: ignore[misc]
    """Nothing is assigned, and code of the user's that reads a weight or a seed is refused."""

    def get_current_value(self, variable: KerasVariable) -> Any:
        """The value of a variable, which Keras's own layers may ask for."""
        frame = user_frame(sys._getframe(1), through_layers=False)  # noqa: SLF001
        if frame is not None:
            why, hint = RANDOM if variable.name == SEED else CHANGED_WEIGHTS
            raise _ReadError(why.format(name=variable.name), hint, line_of(frame), weight=variable)
        return super().get_current_value(variable)


_DEPENDS_ON_DATA = ("used as a boolean", "as a Python `bool`", "Iterating over a symbolic")
_NEEDS_BATCH = ("fully-defined", "NoneType", "elements of [None")
_NEEDS_VALUES = (
    "KerasTensor is symbolic",
    "Cannot convert a symbolic",
    "'KerasTensor' object has no attribute",
)
"""Words of the errors that Keras and TensorFlow raise for a tensor without values."""


def _package(module: Any) -> str:
    return str(Path(module.__file__).parent) + "/"


_LIBRARY = sysconfig.get_path("stdlib") + "/"
_FOREIGN = (*map(_package, (keras, tf, np)), f"{Path(__file__).parents[1]}/", "<frozen")
_LAYERS = _package(keras) + "src/layers/"


def _is_users(file: str) -> bool:
    library = file.startswith(_LIBRARY) and "site-packages" not in file
    return not library and not file.startswith(_FOREIGN)


def user_frame(frame: FrameType | None, *, through_layers: bool = True) -> FrameType | None:
    """The innermost frame of the user's code.

    through_layers: whether a layer of Keras's may stand between; if not, None where one does
    """
    while frame is not None and not _is_users(frame.f_code.co_filename):
        if not through_layers and frame.f_code.co_filename.startswith(_LAYERS):
            return None
        frame = frame.f_back
    return frame


def line_of(frame: FrameType, number: int = 0) -> str:
    """A line of code, for a message: its file, number and text."""
    file, number = frame.f_code.co_filename, number or frame.f_lineno
    text = linecache.getline(file, number, frame.f_globals).strip()
    place = f"{Path(file).name}, line {number}"
    return f"{place} ({received_text(text, 120)})" if text else place


def reason_of(error: Exception, layer: KerasLayer) -> UntracedError:
    """The reason why code of the user's could not be traced, with the line that failed."""
    frames = [
        (frame, number)
        for frame, number in walk_tb(error.__traceback__)
        if _is_users(frame.f_code.co_filename)
    ]
    line = line_of(*frames[-1]) if frames else ""
    text = str(error)
    reads_batch = any(sign in text for sign in _NEEDS_BATCH)
    own = [v.name for v in getattr(layer, "_trainable_variables", ())]
    if "used as input to a TensorFlow function" in text:
        why = "a function of TensorFlow, which acts on numbers, is called on a symbolic tensor"
    elif reads_batch:
        why = f"it needs the size of the batch, which is not known: {quoted_text(error)}"
    elif any(sign in text for sign in _DEPENDS_ON_DATA):
        why = "a branch or a loop of Python depends on the values of the data"
    elif any(sign in text for sign in _NEEDS_VALUES):
        why = f"it needs the values of a symbolic tensor, which has none: {quoted_text(error)}"
    else:
        why = f"it fails on symbolic tensors: {type(error).__name__}: {quoted_text(error)}"
    if own:
        why += f"; and it has weights of its own ({', '.join(own)}), which no reader describes"
    return UntracedError(why, _HINT, line, reads_batch=reads_batch)
