"""Which function reads a Keras layer or operation: the table of layers, and readers of users.

A reader takes a `Call` and a `Context` and returns the `Tensor` that the call becomes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import keras

from keras2gp._util.checks import truth
from keras2gp._util.keras_objects import KerasModel, KerasOperation
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, RegistryError
from keras2gp.layer_table import LAYERS, OPERATIONS, Entry

__all__ = [
    "OwnLayers",
    "Reader",
    "built_in",
    "deterministic",
    "entry_of",
    "functional_of",
    "is_deterministic",
    "is_keras_operation",
    "is_own_code",
    "reader",
    "reader_of",
    "runs_code",
    "runs_own_code",
]

Reader = Callable[[Any, Any], Any]
_READERS: dict[type | str, Reader] = {}
_DETERMINISTIC: set[type] = set()


def reader(*kinds: type | str, override: bool = False) -> Callable[[Reader], Reader]:
    """Register the reader of a layer class of your own, as a decorator.

    The reader is called as reader(call, context) for each call of such a layer on features. It
    checks the layer's settings, refuses with `context.refuse(why, hint)`, and returns the result of
    a method of the context: `affine` (random weights), `activated`, `scaled`, `shifted` (a constant
    is added), `apply` (any other op of one input) or `as_graph_tensor` (nothing is done). An op of
    several tensors, such as a sum, goes through `keras2gp.conversion.layers.branches.combined`. A
    subclass is not covered, since it may compute something else.

    Args:
        *kinds: Layer classes, or the class names of keras.ops operations ("Add").
        override: Replace a reader that is there already, also one of keras2gp.

    Returns:
        A decorator that registers a function and returns it unchanged.

    Raises:
        RegistryError: A reader is there already, and override is False.

    >>> import keras, keras2gp
    >>> class Halve(keras.layers.Layer):
    ...     def call(self, inputs):
    ...         return inputs / 2
    >>> @keras2gp.reader(Halve)
    ... def read_halve(call, context):
    ...     context.became = "half"
    ...     return context.scaled(call.tensors[0], 0.5)
    >>> x = keras.Input((3,))
    >>> model = keras.Model(x, Halve()(keras.layers.Dense(8, kernel_initializer="he_normal")(x)))
    >>> print(keras2gp.convert(model)([[3.0, 0.0, 0.0]]).numpy())
    [[1.5]]
    """
    override = truth("override", override)

    def register(function: Reader) -> Reader:
        for kind in kinds:
            present = _READERS.get(kind) or built_in(kind)
            if present is not None and not override:
                raise RegistryError(f"{kind} has a reader already: {present.__name__}")
            _READERS[kind] = function
        return function

    return register


def deterministic(*kinds: type) -> None:
    """Allow layers of your own before the first layer with weights, where Keras runs them on data.

    Args:
        *kinds: Layer classes without random weights, whose results depend on one image at a time.

    >>> import keras, keras2gp
    >>> class Centre(keras.layers.Layer):
    ...     def call(self, inputs):
    ...         return inputs - 0.5
    >>> keras2gp.deterministic(Centre)
    >>> x = keras.Input((3,))
    >>> model = keras.Model(x, keras.layers.Dense(8, kernel_initializer="he_normal")(Centre()(x)))
    >>> print(keras2gp.convert(model)([[2.0, 0.5, 0.5]]).numpy())
    [[1.5]]
    """
    _DETERMINISTIC.update(kinds)


@cache
def _entries() -> dict[type, Entry]:
    """The rows of the table by class; rows that the installed Keras lacks are left out."""
    kinds: dict[type, Entry] = {}
    for entry in (*OPERATIONS.values(), *LAYERS.values()):
        kind = getattr(import_module(entry.module), entry.name, None)
        if kind is not None:
            kinds[kind] = entry
    return kinds


def entry_of(operation: KerasOperation) -> Entry | None:
    """The row of a layer or operation of exactly this class in the table of layers."""
    return _entries().get(type(operation))


def built_in(kind: type | str) -> Reader | None:
    """The reader that the table of layers names for a class, or for an operation's class name."""
    entry = OPERATIONS.get(kind) if isinstance(kind, str) else _entries().get(kind)
    if entry is None or not entry.reader:
        return None
    family, function = entry.reader.split(".")
    module = import_module(f"keras2gp.conversion.layers.{family}")
    read: Reader = getattr(module, function)
    return read


def is_deterministic(operation: KerasOperation) -> bool:
    """Whether Keras may run this on data: an allowed layer, or any operation of keras.ops."""
    entry = entry_of(operation)
    allowed = entry is not None and entry.on_data
    return allowed or type(operation) in _DETERMINISTIC or is_keras_operation(operation)


def is_keras_operation(operation: KerasOperation) -> bool:
    """Whether this is a function of keras.ops or keras.activations in a functional graph."""
    return type(operation).__module__.startswith(("keras.src.ops.", "keras.src.activations."))


def reader_of(operation: KerasOperation) -> Reader | None:
    """The reader of exactly this class, a user's own first; None if there is none."""
    kind = type(operation)
    if is_keras_operation(operation) and kind.__name__ in _READERS:
        return _READERS[kind.__name__]
    return _READERS.get(kind) or built_in(kind)


_EXPECTED = "{YourLayer: reader}, or {'registered>name': YourLayer} for a class with a reader"


class OwnLayers:
    """The readers of `layers=`: layer classes, or their registered names, to readers.

    Raises: InputError for anything else, or for a class that has no reader.
    """

    def __init__(self, stated: Mapping[Any, Any] | None = None) -> None:
        if not isinstance(stated, Mapping | None):
            raise InputError(f"layers={received_text(stated)}: expected {_EXPECTED}")
        own = {} if stated is None else stated
        self._readers = {key: value for key, value in own.items() if not isinstance(value, type)}
        for key, value in own.items():
            is_class = isinstance(key, type) and issubclass(key, keras.Layer)
            if not (is_class or isinstance(key, str)) or not callable(value):
                raise InputError(f"layers={received_text({key: value})}: expected {_EXPECTED}")
            if isinstance(value, type) and not self._has_reader(value):
                raise InputError(f"layers: {value.__name__} has no reader; expected {_EXPECTED}")

    def _has_reader(self, kind: type) -> bool:
        return any(kind in kinds for kinds in (self._readers, _READERS, _DETERMINISTIC))

    def reader_of(self, operation: KerasOperation) -> Reader | None:
        """The reader that was handed over for this class or its name, else the registered one."""
        kind = type(operation)
        keys: list[Any] = [kind]
        if not kind.__module__.startswith("keras."):  # A name stands for a class of the user's.
            keys += [keras.saving.get_registered_name(kind), kind.__name__]
        handed_over = (self._readers[key] for key in keys if key in self._readers)
        return next(handed_over, None) or reader_of(operation)


def is_own_code(operation: KerasOperation) -> bool:
    """Whether a layer runs code of the user's: it is of a class of their own, or a Lambda."""
    if type(operation) is keras.layers.Lambda:
        return True
    own = not type(operation).__module__.startswith("keras.")
    return own and isinstance(operation, keras.Layer) and entry_of(operation) is None


def runs_code(operation: KerasOperation) -> bool:
    """Whether an operation runs code that nothing here describes: a user's layer, or Lambda."""
    entry = entry_of(operation)
    return entry is None or entry.runs_code


def functional_of(model: KerasModel) -> Any | None:
    """The functional graph of a model: itself, or what a built Sequential keeps; else None.

    Also None for a subclass with a `call` of its own, which its graph does not show.
    """
    if not isinstance(model, keras.Model) or runs_own_code(model):
        return None
    if isinstance(model, keras.Sequential):
        return model._functional  # noqa: SLF001
    return model if hasattr(model, "_nodes_by_depth") else None


def runs_own_code(model: KerasModel) -> bool:
    """Whether the model's class overrides the call that Keras makes of its graph."""
    for method in ("call", "__call__"):
        function = getattr(type(model), method)
        if not str(function.__module__).startswith("keras.src."):
            return True
    return False
