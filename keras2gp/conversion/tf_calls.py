"""Functions of TensorFlow in code that is traced, as operations of Keras 3.

TensorFlow asks its dispatchers what to do with arguments that it does not take; a symbolic tensor
of Keras is one. In a thread that traces, the functions below are answered by keras.ops.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from keras._tf_keras import keras as tf_keras
from keras.src.layers.merging.dot import batch_dot
from keras.src.legacy import backend as legacy_backend
from tensorflow.python.util.tf_export import get_canonical_name_for_symbol

from keras2gp._util.arrays import KerasTensor
from keras2gp.conversion.tf_windows import (
    convolved,
    convolved_each,
    convolved_in_one_axis,
    pooling,
)
from keras2gp.modelfile.config_values import UnreadableError
from keras2gp.modelfile.tf_functions import counterpart, short_name

__all__ = ["functions_of_tensorflow"]

_TRACING = threading.local()


@contextlib.contextmanager
def functions_of_tensorflow() -> Iterator[None]:
    """Within it, this thread may call functions of TensorFlow on symbolic tensors of Keras."""
    _register()
    before = getattr(_TRACING, "now", False)
    _TRACING.now = True
    try:
        with _functions_of_the_backend():
            yield
    finally:
        _TRACING.now = before


@contextlib.contextmanager
def _functions_of_the_backend() -> Iterator[None]:
    """Let those of tf.keras.backend take symbolic tensors that read attributes of TensorFlow's."""
    # Where the functions themselves look each other up, and where users' code does.
    modules = {id(m): m for m in (legacy_backend, tf.keras.backend, tf_keras.backend)}
    before = [(module, dict(vars(module))) for module in modules.values()]
    changed = [(m, name, old[name]) for m, old in before for name in _OF_BACKEND if name in old]
    for module, name, original in changed:
        setattr(module, name, _answering(original, _OF_BACKEND[name]))
    try:
        yield
    finally:
        for module, name, original in changed:
            setattr(module, name, original)


def _answering(original: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        tracing = getattr(_TRACING, "now", False)
        symbolic = any(map(_is_symbol, keras.tree.flatten((args, kwargs))))
        return (ours if tracing and symbolic else original)(*args, **kwargs)

    return function


class _OnSymbols(tf.__internal__.dispatch.GlobalOpDispatcher):  # type: ignore[misc]
    """Answers functions of TensorFlow that are called on symbolic tensors of Keras."""

    def handle(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The result of a function, or NOT_SUPPORTED: TensorFlow then raises its own error."""
        if not getattr(_TRACING, "now", False):
            return self.NOT_SUPPORTED
        name = short_name(get_canonical_name_for_symbol(op))
        first = next(iter((*args, *kwargs.values())), None)
        if name in _OF_WEIGHTS and isinstance(first, keras.Variable):
            return _OF_WEIGHTS[name](*args, **kwargs)
        if not any(map(_is_symbol, keras.tree.flatten((tuple(args), dict(kwargs))))):
            return self.NOT_SUPPORTED
        try:
            given = inspect.signature(op).bind(*args, **kwargs).arguments
        except TypeError:
            return self.NOT_SUPPORTED
        given = {key: v for key, v in given.items() if key != "name" and v is not None}
        try:
            return _composed(name, given) if name in _COMPOSED else _called(name, given)
        except UnreadableError:
            return self.NOT_SUPPORTED


_registering = threading.Lock()
_registered: list[Any] = []


def _register() -> None:
    with _registering:
        if not _registered:
            _registered.append(_OnSymbols())
            _registered[0].register()


def _is_symbol(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _called(name: str, given: Mapping[str, Any]) -> Any:
    """The result of the one operation that a function is. Raises: UnreadableError."""
    (_, first), *others = given.items()
    found = counterpart(name, dict(others))
    settings = {key: _plain(value) for key, value in found.settings.items()}
    kind = getattr(importlib.import_module(found.entry.module), found.entry.name)
    if isinstance(first, tuple):
        first = list(first)
    if name != "pad":
        return kind(**settings)(first, *found.others.values())
    filling = {key: value for key, value in found.others.items() if _plain(value) != 0}
    return kind(**settings)(first, **filling)


def _plain(value: Any) -> Any:
    """A setting as Python's numbers and lists. Raises: UnreadableError, for a symbolic tensor."""
    if _is_symbol(value) or isinstance(value, keras.Variable):
        raise UnreadableError("tf", "a shape, axis or bound of it is another tensor.", "")
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    if isinstance(value, tf.DType):
        return value.name
    return np.asarray(value).tolist() if hasattr(value, "numpy") or _is_array(value) else value


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic)


def _composed(name: str, given: Mapping[str, Any]) -> Any:
    """The result of a function that is several operations. Raises: UnreadableError."""
    function = _COMPOSED[name]
    (_, first), *rest = given.items()
    others = {key: value if key in _TENSORS else _plain(value) for key, value in rest}
    try:
        inspect.signature(function).bind(first, **others)
    except TypeError as error:
        raise UnreadableError(f"tf.{name}", str(error), "") from error
    return function(first, **others)


def _split(value: Any, num_or_size_splits: Any, axis: int = 0) -> Any:
    sizes = num_or_size_splits
    if isinstance(sizes, list | tuple):
        rest = value.shape[axis] - sum(size for size in sizes if size > 0)
        sizes = np.cumsum([size if size >= 0 else rest for size in sizes])[:-1].tolist()
    return ops.split(value, sizes, axis)


def _unstack(value: Any, num: int | None = None, axis: int = 0) -> list[Any]:
    axis %= len(value.shape)
    size = num or value.shape[axis]
    return [value[(slice(None),) * axis + (i,)] for i in range(size)]


def _slice(x: KerasTensor, begin: Sequence[int], size: Sequence[int]) -> Any:
    ends = (None if n < 0 else first + n for first, n in zip(begin, size, strict=True))
    return x[tuple(slice(first, end) for first, end in zip(begin, ends, strict=True))]


def _gather(x: KerasTensor, indices: Any, axis: int = 0, batch_dims: int = 0) -> Any:
    if batch_dims:
        raise UnreadableError("tf.gather", "it takes others in each image", "")
    return ops.take(x, indices, axis)


def _one_hot(x: KerasTensor, depth: int) -> Any:
    return ops.one_hot(x, depth)


def _tensordot(a: KerasTensor, b: KerasTensor, axes: Any) -> Any:
    if not isinstance(axes, int):  # TensorFlow also takes an axis of each as a number.
        axes = [np.ravel(each).tolist() for each in axes]
    return ops.tensordot(a, b, axes)


def _matmul(
    a: KerasTensor, b: KerasTensor, transpose_a: bool = False, transpose_b: bool = False
) -> Any:
    a, b = (
        ops.swapaxes(x, -1, -2) if turned else x
        for x, turned in ((a, transpose_a), (b, transpose_b))
    )
    return ops.matmul(a, b)


def _bias_add(value: Any, bias: KerasTensor, data_format: str | None = None) -> Any:
    if data_format is not None and data_format.startswith("NC"):
        raise UnreadableError("tf.nn.bias_add", "its channels are not the last axis", "")
    return value + bias


def _backend_bias_add(x: KerasTensor, bias: KerasTensor, data_format: str | None = None) -> Any:
    first = (data_format or keras.config.image_data_format()) == "channels_first"
    if not first:
        return x + bias
    shape = tuple(bias.shape)
    return x + ops.reshape(bias, (1, shape[-1], *(shape[:-1] or (1,) * (len(x.shape) - 2))))


def _backend_dot(x: KerasTensor, y: KerasTensor) -> Any:
    return ops.dot(x, y) if len(y.shape) == 2 else ops.tensordot(x, y, [[-1], [len(y.shape) - 2]])


_BATCH_DOT = legacy_backend.batch_dot


def _batch_dot(x: KerasTensor, y: KerasTensor, axes: Any = None) -> Any:
    # Keras's own has no symbolic form beyond three axes.
    flat = max(len(x.shape), len(y.shape)) <= 3
    return (batch_dot if flat else _BATCH_DOT)(x, y, axes)


def _resize_images(
    x: KerasTensor,
    height_factor: int,
    width_factor: int,
    data_format: str,
    interpolation: str = "nearest",
) -> Any:
    first = 2 if data_format == "channels_first" else 1
    height, width = x.shape[first : first + 2]
    size = (height * height_factor, width * width_factor)
    return ops.image.resize(x, size, interpolation, data_format=data_format)


_OF_BACKEND: dict[str, Callable[..., Any]] = {
    "batch_dot": _batch_dot,
    "batch_flatten": lambda x: ops.reshape(x, (-1, math.prod(x.shape[1:]))),
    "bias_add": _backend_bias_add,
    "concatenate": lambda tensors, axis=-1: ops.concatenate(tensors, axis),
    "conv1d": ops.conv,
    "conv2d": ops.conv,
    "conv3d": ops.conv,
    "depthwise_conv2d": ops.depthwise_conv,
    "dot": _backend_dot,
    "dtype": lambda x: x.dtype,
    "mean": lambda x, axis=None, keepdims=False: ops.mean(x, axis, keepdims),
    "ndim": lambda x: len(x.shape),
    "prod": lambda x, axis=None, keepdims=False: ops.prod(x, axis, keepdims),
    "repeat_elements": lambda x, rep, axis: ops.repeat(x, repeats=rep, axis=axis),
    "resize_images": _resize_images,
    "softmax": ops.softmax,
    "std": lambda x, axis=None, keepdims=False: ops.std(x, axis, keepdims),
    "var": lambda x, axis=None, keepdims=False: ops.var(x, axis, keepdims),
}
"""Functions of tf.keras.backend, as Keras 3 keeps them, that no symbolic tensor of its passes."""

_OF_WEIGHTS: dict[str, Callable[..., Any]] = {
    "matrix_transpose": lambda a: ops.swapaxes(a, -1, -2),
    "transpose": lambda a, perm=None: ops.transpose(a, perm),
}
"""Functions that give a weight of the user's own with its axes in another order."""

_TENSORS = ("inputs", "indices", "y", "b", "bias", "filter", "filters")
"""Arguments after the first that may be tensors."""

_COMPOSED: dict[str, Callable[..., Any]] = {
    "add_n": lambda inputs: sum(inputs[1:], inputs[0]),
    "avg_pool": pooling(ops.average_pool),
    "avg_pool1d": pooling(ops.average_pool),
    "avg_pool2d": pooling(ops.average_pool),
    "bias_add": _bias_add,
    "conv1d": convolved_in_one_axis,
    "conv2d": convolved,
    "conv3d": convolved,
    "convolution": convolved,
    "cumsum": ops.cumsum,
    "depthwise_conv2d": convolved_each,
    "depth_to_space": ops.nn.depth_to_space,
    "einsum": lambda equation, inputs: ops.einsum(equation, *inputs),
    "gather": _gather,
    "identity": lambda x: x,
    "l2_normalize": lambda x, axis=None, epsilon=1e-12: ops.normalize(
        x, axis=axis, order=2, epsilon=math.sqrt(epsilon)
    ),
    "matmul": _matmul,
    "max_pool": pooling(ops.max_pool),
    "max_pool1d": pooling(ops.max_pool),
    "max_pool2d": pooling(ops.max_pool),
    "moments": lambda x, axes, keepdims=False: ops.moments(x, axes, keepdims=keepdims),
    "norm": lambda x, axis=None, keepdims=False: ops.norm(x, axis=axis, keepdims=keepdims),
    "one_hot": _one_hot,
    "ones_like": lambda x, dtype=None: ops.ones_like(x, dtype),
    "rank": lambda x: len(x.shape),
    "reverse": ops.flip,
    "roll": ops.roll,
    "shape": ops.shape,
    "slice": _slice,
    "space_to_depth": ops.nn.space_to_depth,
    "split": _split,
    "squared_difference": lambda x, y: ops.square(x - y),
    "tensordot": _tensordot,
    "unstack": _unstack,
    "zeros_like": lambda x, dtype=None: ops.zeros_like(x, dtype),
}
"""Functions of TensorFlow that are no single operation, or whose arguments are of another form."""
