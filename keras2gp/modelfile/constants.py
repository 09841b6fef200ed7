"""Constants of layers in the precision of a kernel, where TensorFlow would take float32."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

__all__ = ["with_exact_constants"]


def with_exact_constants(operation: Any, dtype: str) -> Any:
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


def _keep_constants(operation: Any) -> None:
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
