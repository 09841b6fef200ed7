"""Readers: one for each Keras layer class and keras.ops operation that has a counterpart here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keras2gp.errors import RegistryError

if TYPE_CHECKING:
    from keras2gp.conversion.context import Call, Context
    from keras2gp.conversion.tensor import Tensor

__all__ = ["deterministic", "is_deterministic", "reader", "reader_of", "reader_table"]

Reader = Callable[["Call", "Context"], "Tensor"]
_READERS: dict[type | str, Reader] = {}
_DETERMINISTIC: set[type] = set()


def reader(*kinds: type | str, override: bool = False) -> Callable[[Reader], Reader]:
    """Register the reader of layer classes, or of keras.ops operations by class name ("Add").

    Subclasses are not covered: a subclass may compute something else.
    Raises: RegistryError if one of them has a reader and override is False.
    """

    def register(function: Reader) -> Reader:
        for kind in kinds:
            if kind in _READERS and not override:
                raise RegistryError(f"{kind} has a reader already: {_READERS[kind].__name__}")
            _READERS[kind] = function
        return function

    return register


def deterministic(*kinds: type) -> None:
    """Allow layers without random weights before the first weights, where Keras runs them."""
    _DETERMINISTIC.update(kinds)


def is_deterministic(operation: Any) -> bool:
    """Whether Keras may run this on data: an allowed layer, or any operation of keras.ops."""
    return type(operation) in _DETERMINISTIC or is_keras_operation(operation)


def is_keras_operation(operation: Any) -> bool:
    """Whether this is a bare keras.ops call in a functional graph."""
    return type(operation).__module__.startswith("keras.src.ops.")


def reader_of(operation: Any) -> Reader | None:
    """The reader of exactly this class; None if there is none."""
    kind: type | str = type(operation)
    if is_keras_operation(operation):
        kind = type(operation).__name__
    return _READERS.get(kind)


def reader_table() -> dict[str, str]:
    """First line of each reader's docstring, by layer class or operation, sorted."""
    rows = {}
    for kind, function in _READERS.items():
        name = f"keras.ops {kind}" if isinstance(kind, str) else kind.__name__
        rows[name] = (function.__doc__ or "").split("\n")[0]
    return dict(sorted(rows.items()))
