"""How Keras builds layers here: without values of weights, and with exact constants."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state

from keras2gp._util.keras_objects import KerasOperation, KerasVariable

__all__ = ["size_of", "with_exact_constants", "without_values"]

_DRAWN = 2**24
"""Most numbers that are drawn for the weights of a model whose trained weights are not loaded."""
_PENDING = "uninitialized_variables"


def size_of(variable: KerasVariable) -> int:
    """The number of elements of a Keras variable."""
    return math.prod(variable.shape)


@contextlib.contextmanager
def without_values(scope: Any | None = None) -> Iterator[list[Any]]:
    """Build layers with shapes only, and draw small weights at the end.

    A file of a kilobyte can ask for terabytes of weights, and a prior needs none of them.

    Args:
        scope: The StatelessScope to work in; None for a plain one.

    Yields:
        A list, which at the end holds the variables that were made.
    """
    made: list[Any] = []
    try:
        # On leaving, Keras draws the variables that it is told of.
        with keras.StatelessScope() if scope is None else scope:
            drawn: list[Any] = []
            try:
                yield made
                left = _DRAWN
                made += global_state.get_global_attribute(_PENDING) or []
                for variable in sorted(made, key=size_of):
                    left -= size_of(variable)
                    if left >= 0:
                        drawn.append(variable)
            finally:
                global_state.set_global_attribute(_PENDING, drawn)
    finally:
        # Where a value cannot be drawn, Keras keeps the list, and would fail for every later model.
        global_state.set_global_attribute(_PENDING, [])


def with_exact_constants(operation: KerasOperation, dtype: str) -> Any:
    """A layer or operation whose settings are not rounded to float32, or a model of such layers.

    Keras casts a setting such as the scale of Rescaling by tf.cast, which makes a float32 tensor of
    a Python float first. A numpy number keeps its precision.

    Args:
        operation: A layer, an operation of keras.ops, or a model; it is changed.
        dtype: The dtype of the kernel; nothing is changed for "float32".

    Returns:
        The same object.
    """
    if dtype == "float64":
        for part in getattr(operation, "operations", [operation]):
            _keep_constants(part)
    return operation


def _keep_constants(operation: KerasOperation) -> None:
    for name, value in list(vars(operation).items()):
        if type(value) is float:
            setattr(operation, name, np.float64(value))
    if isinstance(operation, keras.layers.Rescaling):
        for name in ("scale", "offset"):
            if not np.isscalar(getattr(operation, name)):
                setattr(operation, name, np.asarray(getattr(operation, name), np.float64))
    if isinstance(operation, keras.layers.Normalization) and operation.input_mean is not None:
        operation.input_mean = np.asarray(operation.input_mean, np.float64)
        operation.input_variance = np.asarray(operation.input_variance, np.float64)
        if operation.built:  # Its statistics were rounded when it was built.
            operation.build(operation.input.shape)
