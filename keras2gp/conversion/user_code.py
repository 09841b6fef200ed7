"""Lines of the user's code: which of them made a call, and why one of them cannot be traced."""

from __future__ import annotations

import contextlib
import linecache
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.ops.node import Node

from keras2gp._util.text import quoted_text, received_text
from keras2gp.conversion.own_weights import AffineWeight, variables_of

__all__ = ["NEEDS_BATCH", "RANDOM", "SEED", "NoValues", "Record", "UntracedError", "reason_of"]

SEED = "seed_generator_state"
"""Keras's name of the state of random numbers."""
_HINT = "keras.ops in its place; or a reader of your own: layers={YourLayer: reader}"
_OWN_WEIGHTS = (
    "it uses weights of its own ({name}), and nothing here says how one of them enters a sum",
    (
        "x @ w + b with a matrix w, or Keras's own layers inside (Dense, EinsumDense, Conv2D); or "
        "a reader of your own: layers={YourLayer: reader}"
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


_ON_CONSTANTS = (
    "its layer {name} has weights and acts on constants: all inputs share what it gives",
    "those constants as an input of the model (keras.Input), the same for all rows of the data",
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
        weight: Any = None,
    ) -> None:
        super().__init__(f"{line}: {why}" if line else why)
        self.hint, self.line, self.reads_batch = hint, line, reads_batch
        self.weight = weight


class _ReadError(UntracedError, ValueError):
    """A value is read that is not known: to TensorFlow, an argument that it does not take."""


class NoValues(keras.StatelessScope):  # type: ignore[misc]
    """Nothing is assigned, and code of the user's that reads a weight or a seed is refused."""

    def get_current_value(self, variable: Any) -> Any:
        """The value of a variable, which Keras's own layers may ask for."""
        frame = _user_frame(sys._getframe(1), through_layers=False)  # noqa: SLF001
        if frame is not None:
            why, hint = RANDOM if variable.name == SEED else _OWN_WEIGHTS
            raise _ReadError(why.format(name=variable.name), hint, _line(frame), weight=variable)
        return super().get_current_value(variable)


@contextlib.contextmanager
def _weights_as_symbols() -> Iterator[None]:
    """Let arithmetic of weights be recorded, where Keras reads their values for it.

    `weight + x` and `weight * x` of a symbolic x are x + weight and x * weight; 1 + weight and its
    like, of a number, is another weight.
    """
    owner = next(kind for kind in keras.Variable.__mro__ if "__add__" in vars(kind))
    originals = {name: vars(owner)[name] for name in _ARITHMETIC}

    def recorded(name: str) -> Any:
        def method(weight: Any, other: Any) -> Any:
            if isinstance(other, keras.KerasTensor) and name in ("__add__", "__mul__"):
                return getattr(other, name)(weight)
            if isinstance(other, int | float) and weight.name != SEED:
                return AffineWeight(weight, *_ARITHMETIC[name](other))
            return originals[name](weight, other)

        return method

    for name in originals:
        setattr(owner, name, recorded(name))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(owner, name, original)


_ARITHMETIC: dict[str, Callable[[float], tuple[float, float]]] = {
    "__add__": lambda number: (1.0, number),
    "__radd__": lambda number: (1.0, number),
    "__sub__": lambda number: (1.0, -number),
    "__rsub__": lambda number: (-1.0, number),
    "__mul__": lambda number: (number, 0.0),
    "__rmul__": lambda number: (number, 0.0),
}
"""Factor and constant of a weight in its sum, difference or product with a number."""


class _WeightTensor(keras.KerasTensor):  # type: ignore[misc]
    """A weight as a symbolic tensor, of which a slice may be taken as of a weight."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__((key,) if isinstance(key, slice) else key)


class Record:
    """The calls of layers and operations while code is traced, with the lines that made them.

    Attributes:
        lines: By the identity of a call's record.
        weights: Whether weights of the user's own are among the arguments.
        fixed: Symbolic tensors, by identity, with the constants that they stand for.
        tables: Symbolic tensors, by identity, with the weights that they stand for.
    """

    def __init__(self) -> None:
        self.lines: dict[int, str] = {}
        self.weights = False
        self.fixed: dict[int, tuple[Any, Any]] = {}
        self.tables: dict[int, tuple[Any, Any]] = {}
        self._nodes: list[Any] = []

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Note every record of a call that Keras makes in this thread."""
        original, thread = Node.__init__, threading.get_ident()

        def noted(node: Any, operation: Any, *args: Any, **kwargs: Any) -> None:
            original(node, operation, *args, **kwargs)
            frame = _user_frame(sys._getframe(1))  # noqa: SLF001
            if threading.get_ident() != thread:
                return
            self._nodes.append(node)
            if frame is None:
                return
            self.lines[id(node)] = _line(frame)
            self.weights |= bool(variables_of(node))

        Node.__init__ = noted
        try:
            with _weights_as_symbols(), self._constants_as_symbols():
                yield
        finally:
            Node.__init__ = original

    @contextlib.contextmanager
    def _constants_as_symbols(self) -> Iterator[None]:
        """Let calls of layers with weights on constants be recorded, which Keras would run."""
        original = keras.Layer.__call__

        def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(layer, *args, **kwargs)
            values = [v for v in keras.tree.flatten((args, kwargs)) if hasattr(v, "shape")]
            eager = all(isinstance(v, np.ndarray) or hasattr(v, "numpy") for v in values)
            inside = isinstance(result, keras.KerasTensor)
            if not values or not eager or inside or not layer.trainable_variables:
                return result
            if len(values) > 1 or not args or values[0] is not args[0]:
                frame = _user_frame(sys._getframe(1))  # noqa: SLF001
                why, hint = _ON_CONSTANTS
                line = "" if frame is None else _line(frame)
                raise UntracedError(why.format(name=layer.name), hint, line)
            array = np.asarray(values[0])
            symbol = keras.KerasTensor(array.shape, str(array.dtype))
            self.fixed[id(symbol)] = symbol, array
            return original(layer, symbol, *args[1:], **kwargs)

        keras.Layer.__call__ = called
        try:
            yield
        finally:
            keras.Layer.__call__ = original

    @contextlib.contextmanager
    def weights_as_tensors(self, layer: Any, weights: Sequence[Any]) -> Iterator[None]:
        """Let these weights of a layer be tensors, which code may do anything with."""
        own = {n: v for n, v in vars(layer).items() if any(v is weight for weight in weights)}
        for name, weight in own.items():
            symbol = _WeightTensor(weight.shape, weight.dtype, name=weight.name)
            self.tables[id(symbol)] = symbol, weight
            vars(layer)[name] = symbol
        try:
            yield
        finally:
            vars(layer).update(own)

    def refuse_weight(self, node: Any, weight: Any) -> None:
        """Refuse a call on a weight that no layer of Keras's stands for. Raises: UntracedError."""
        why, hint = _OWN_WEIGHTS
        line = self.lines.get(id(node), "")
        own = weight.of if isinstance(weight, AffineWeight) else weight
        raise UntracedError(why.format(name=weight.name), hint, line, weight=own)

    def refuse_same(self, node: Any) -> None:
        """Refuse a call on what is the same for all images. Raises: UntracedError."""
        layers = [n.operation.name for n in self._nodes if self._reads_fixed(n)]
        why, hint = _ON_CONSTANTS if layers else _OWN_WEIGHTS
        names = layers or [weight.name for _, weight in self.tables.values()]
        line = self.lines.get(id(node), "")
        raise UntracedError(why.format(name=names[0]), hint, line)

    def _reads_fixed(self, node: Any) -> bool:
        return any(id(t) in self.fixed for t in node.input_tensors)

    @property
    def constants(self) -> list[tuple[int, Any]]:
        """Real numbers among the arguments of calls: the number of the call, and an array."""
        found = []
        for number, node in enumerate(self._nodes):
            arguments = node.arguments
            for value in keras.tree.flatten((arguments.args, arguments.kwargs)):
                if id(value) in self.fixed:
                    found.append((number, self.fixed[id(value)][1]))
                is_real = isinstance(value, float | np.floating | np.ndarray) or tf.is_tensor(value)
                if is_real and not isinstance(value, keras.KerasTensor):
                    found.append((number, np.asarray(value)))
        return found

    def differs(self, other: Record) -> str | None:
        """The line of a constant that the same code made another the second time; None for none."""
        for (number, first), (_, second) in zip(self.constants, other.constants, strict=False):
            if first.shape != second.shape or not np.array_equal(first, second, equal_nan=True):
                return self.lines.get(id(self._nodes[number]), "")
        return None if len(self.constants) == len(other.constants) else ""

    def behind(self, outputs: Sequence[Any]) -> list[Any]:
        """The recorded calls that tensors depend on, in the order in which they were made."""
        producers = {id(t): node for node in self._nodes for t in node.outputs}
        left, needed = [id(t) for t in outputs], set[int]()
        while left:
            node = producers.get(left.pop())
            if node is not None and id(node) not in needed:
                needed.add(id(node))
                left += map(id, node.input_tensors)
        return [node for node in self._nodes if id(node) in needed]

    def name(self, tensor: Any) -> str:
        """The name of the layer or operation whose result a tensor is."""
        made = (n.operation.name for n in self._nodes if any(t is tensor for t in n.outputs))
        return next(made, str(tensor.name))


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


def _user_frame(frame: FrameType | None, *, through_layers: bool = True) -> FrameType | None:
    """The innermost frame of the user's code.

    through_layers: whether a layer of Keras's may stand between; if not, None where one does
    """
    while frame is not None and not _is_users(frame.f_code.co_filename):
        if not through_layers and frame.f_code.co_filename.startswith(_LAYERS):
            return None
        frame = frame.f_back
    return frame


def _line(frame: FrameType, number: int = 0) -> str:
    """A line of code, for a message: its file, number and text."""
    file, number = frame.f_code.co_filename, number or frame.f_lineno
    text = linecache.getline(file, number, frame.f_globals).strip()
    place = f"{Path(file).name}, line {number}"
    return f"{place} ({received_text(text, 120)})" if text else place


def reason_of(error: Exception, layer: Any) -> UntracedError:
    """The reason why code of the user's could not be traced, with the line that failed."""
    frames = [
        (frame, number)
        for frame, number in walk_tb(error.__traceback__)
        if _is_users(frame.f_code.co_filename)
    ]
    line = _line(*frames[-1]) if frames else ""
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
