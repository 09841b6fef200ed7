"""Calls of layers on data: Keras repeats them in the dtype of the kernel.

TensorFlow has no float64 kernel for three-dimensional pooling, and rounds the slope of a leaky ReLU
to float32. In a float64 kernel other operations of Keras take their place.

On many CPUs TensorFlow has no convolution of channels that come first, and no derivative of one.
XLA has both. A layer that is repeated convolves with the channels last, as saved kernels do.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras2gp._util.arrays import KerasTensor
from keras2gp._util.keras_objects import KerasLayer, KerasModel, KerasOperation
from keras2gp._util.text import quoted_text
from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.windows import on_each_axis
from keras2gp.conversion.preprocessing import encoder_settings, is_sparse
from keras2gp.conversion.tensor import Tensor
from keras2gp.modelfile.building import with_exact_constants

__all__ = ["called", "run_by_keras"]


_INTERPOLATED = ("Resize", "Resizing", "UpSampling2D")
"""Operations that TensorFlow computes in float32 unless they copy the nearest number."""


def run_by_keras(call: Call, context: Context, *, trained: bool = False) -> list[Tensor]:
    """Repeat the call on data, in the deterministic model that Keras will run.

    trained: whether its weights are trained ones, and not constants such as statistics
    """
    context.became = "run by Keras"
    if trained and isinstance(call.operation, keras.Layer) and call.operation.weights:
        context.became = "run by Keras with its present weights"
    if getattr(getattr(call.operation, "activation", None), "unknown", False):
        context.refuse(
            "only its covariance was stated, and the data needs the function itself",
            "activations={name: function}",
        )
    try:
        operation = _copied(call.operation, context)
    except Exception as error:  # noqa: BLE001 (of a layer without a vocabulary, or of a user's)
        hint = "of a layer of your own, an __init__ that takes **kwargs too, and a get_config"
        context.refuse(f"Keras cannot copy it: {quoted_text(error)}", hint, by_shape=False)
    _check_constants(operation, context)
    args, kwargs = _data(call.args), _data(call.kwargs)
    # Always run as for a prediction; some of Keras's layers state training=True by default.
    kwargs.pop("training", None)
    exact = _in_float64(call) if context.state.settings.dtype == "float64" else None
    if exact is not None:
        return [_checked(exact(operation, args[0], context), call, context)]
    try:
        results = _result(operation, args, kwargs)
    except Exception as error:  # noqa: BLE001 (whatever Keras or a user's layer raises)
        dtype = context.state.settings.dtype
        context.refuse(f"Keras cannot run it on data of {dtype}: {quoted_text(error)}")
    _hand_weights(operation, call, context, trained=trained)
    interpolates = type(call.operation).__name__ in _INTERPOLATED and (
        call.operation.interpolation != "nearest"
    )
    if context.state.settings.dtype == "float64" and interpolates:
        context.note = "computed in float32 by TensorFlow"
    results = list(results) if isinstance(results, list | tuple) else [results]
    if isinstance(operation, keras.layers.TextVectorization) and None not in results[0].shape[1:]:
        # Of [N, 1] it gives [N, entries], where Keras states [N, 1, entries].
        results = [ops.reshape(results[0], (-1, *results[0].shape[1:]))]
    return [_checked(result, call, context) for result in results]


def called(model: KerasModel) -> Any:
    """model.stateless_call, by XLA where nothing else may convolve channels that come first."""
    if tf.config.list_logical_devices("GPU") or not _is_first(model):
        return model.stateless_call
    return tf.function(model.stateless_call, jit_compile=True, autograph=False)


def _is_first(operation: KerasOperation) -> bool:
    """Whether an operation, or one of a model's, works on [N, C, *spatial]."""
    parts: Any = getattr(operation, "_operations", None) or getattr(operation, "layers", ())
    form = getattr(operation, "data_format", "channels_last") or keras.config.image_data_format()
    return form == "channels_first" or any(_is_first(part) for part in parts)


def _hand_weights(
    operation: KerasOperation, call: Call, context: Context, *, trained: bool
) -> None:
    """Give the copy of a layer the weights of the original."""
    if not isinstance(operation, keras.Layer) or not operation.weights:
        return
    try:
        values = call.operation.get_weights()
        # Biases of a user's own are a Dense layer whose kernel, zero, is no weight.
        own = operation.get_weights()[: max(0, len(operation.weights) - len(values))]
        operation.set_weights([*own, *values])
    except ValueError as error:  # those of a quantised layer
        context.refuse(
            f"its weights do not fit a copy of it: {quoted_text(error)}",
            "the model as it was before model.quantize()",
            by_shape=False,
        )
    if hasattr(operation, "finalize_state"):  # Normalization keeps its statistics twice
        operation.finalize_state()
    context.note = "" if trained else "its parameters are taken as constants"


def _check_constants(operation: KerasOperation, context: Context) -> None:
    """Refuse a setting that is a number in Python and none in the dtype of the kernel."""
    largest = float(np.finfo(context.state.settings.dtype).max)
    for name, value in vars(operation).items():
        for number in np.ravel(value) if isinstance(value, float | list | np.ndarray) else ():
            if isinstance(number, float) and largest < abs(number) < math.inf:
                context.refuse(
                    f"its {name} {number:g} is beyond {context.state.settings.dtype}",
                    "dtype='float64'",
                )


def _result(operation: KerasOperation, args: Any, kwargs: Any) -> Any:
    """Call the copy of an operation; that of a convolution has its channels last.

    Not where Keras 3.15 adds a bias [C] along the last axis, which has C positions.
    """
    kinds = " ".join(kind.__name__ for kind in type(operation).__mro__)
    if "Conv" not in kinds or not _is_first(operation) or _ambiguous(operation, args[0]):
        return operation(*args, **kwargs)
    operation.data_format = "channels_last"
    return ops.moveaxis(operation(ops.moveaxis(args[0], 1, -1), *args[1:], **kwargs), -1, 1)


def _ambiguous(operation: KerasOperation, x: KerasTensor) -> bool:
    """Whether the result of a layer with a bias has as many channels as last positions."""
    if not getattr(operation, "use_bias", False):
        return False
    shape = operation.compute_output_shape(x.shape)
    return bool(shape[1] == shape[-1])


def _checked(result: Any, call: Call, context: Context) -> Tensor:
    """A result as a tensor of data, if it has one row for each image."""
    batch = call.tensors[0].data.shape[0]
    if is_sparse(call.operation):
        context.refuse(
            "its result is sparse or ragged", "sparse=False, ragged=False", by_shape=False
        )
    if not result.shape or result.shape[0] != batch:
        context.refuse("it mixes the images of a batch", "an axis other than 0, the batch's")
    return Tensor(tuple(result.shape[1:]), data=result)


def _copied(operation: KerasOperation, context: Context) -> Any:
    """A copy to call, since a second call of the user's own would add a node to their model.

    Named by its path, since two nested models may hold layers of one name.
    """
    name = re.sub(r"[/#]", "_", context.path)
    if type(operation) is keras.layers.Lambda:  # only a live one: files hold none
        return _copied_lambda(operation, name, context.state.settings.dtype)
    if isinstance(operation, keras.Layer):
        config = {**operation.get_config(), "name": name, **encoder_settings(operation)}
        if keras.backend.is_float_dtype(operation.compute_dtype):  # indices stay integers
            config["dtype"] = context.state.settings.dtype
        if type(operation) is keras.layers.Activation:  # a configuration holds no function itself
            config["activation"] = operation.activation
        kind = type(operation)
        # Keras reads only such functions of a TextVectorization that it has written.
        copied = (
            kind(**config) if kind is keras.layers.TextVectorization else kind.from_config(config)
        )
        return with_exact_constants(copied, context.state.settings.dtype)
    twin = copy.copy(operation)
    twin.name = name
    twin._inbound_nodes, twin._outbound_nodes = [], []  # noqa: SLF001
    return with_exact_constants(twin, context.state.settings.dtype)


def _copied_lambda(layer: KerasLayer, name: str, dtype: str) -> Any:
    """A copy that calls the same function, whose code a configuration would hold."""
    settings = {"mask": layer.mask, "arguments": layer.arguments, "name": name, "dtype": dtype}
    return keras.layers.Lambda(layer.function, layer._output_shape, **settings)  # noqa: SLF001


def _data(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.data
    if isinstance(value, list | tuple):
        return type(value)(_data(item) for item in value)
    if isinstance(value, dict):
        return {key: _data(item) for key, item in value.items()}
    return value


def _in_float64(call: Call) -> Callable[[Any, Any, Context], Any] | None:
    """The function that computes a call where TensorFlow's own does not keep float64."""
    operation, name = call.operation, type(call.operation).__name__
    leaky = getattr(operation, "activation", None) is keras.activations.leaky_relu
    if leaky or name in ("LeakyReLU", "LeakyRelu"):
        return _leaky_relu
    if name == "ReLU" and operation.negative_slope and not operation.threshold:
        return _leaky_relu if operation.max_value is None else None
    if "Pool" in name and "Global" not in name and len(call.tensors[0].shape) == 4:
        return _pool_volumes
    return None


def _leaky_relu(operation: KerasOperation, x: KerasTensor, context: Context) -> Any:
    """max(x, 0) + slope min(x, 0)."""
    del context
    slope = float(getattr(operation, "negative_slope", 0.2))  # Keras's default for the function
    return ops.maximum(x, 0.0) + ops.minimum(x, 0.0) * slope


def _pool_volumes(operation: KerasOperation, x: KerasTensor, context: Context) -> Any:
    """Pooling of [N, D, H, W, C] along H and W, then along D: means and maxima are separable."""
    first = _is_first(operation)
    x = ops.moveaxis(x, 1, -1) if first else x
    if None in x.shape[1:]:
        context.refuse("TensorFlow pools volumes in float32 alone", "dtype='float32'")
    depth, height, width, channels = x.shape[1:]
    if hasattr(operation, "pool_size"):
        window = on_each_axis(operation.pool_size, 3)
        strides = window if operation.strides is None else on_each_axis(operation.strides, 3)
        padding = operation.padding
    else:  # Adaptive: the window follows from the number of bins.
        pairs = tuple(
            zip((depth, height, width), on_each_axis(operation.output_size, 3), strict=True)
        )
        if any(n % bins for n, bins in pairs):
            context.refuse("TensorFlow pools volumes in float32 alone", "dtype='float32'")
        window = strides = tuple(n // bins for n, bins in pairs)
        padding = "valid"
    pool = ops.max_pool if "Max" in type(operation).__name__ else ops.average_pool
    settings = {"padding": padding, "data_format": "channels_last"}
    x = ops.reshape(x, (-1, height, width, channels))
    x = pool(x, window[1:], strides[1:], **settings)
    height, width = x.shape[1:3]
    x = ops.reshape(x, (-1, depth, height * width, channels))
    x = pool(x, (window[0], 1), (strides[0], 1), **settings)
    x = ops.reshape(x, (-1, x.shape[1], height, width, channels))
    return ops.moveaxis(x, -1, 1) if first else x
