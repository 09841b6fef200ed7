"""A user's model, and the counters of Keras and Python, are left as they were before tracing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.ops.node import Node
from keras.src.utils.tracking import Tracker

from keras2gp._util.keras_objects import KerasModel

__all__ = ["Unchanged", "counted_anew", "names_kept", "with_global_state_kept"]

_COUNTS, _SEEDS = "object_name_uids", "global_seed_generator"
"""Names of Keras's counters of names, and of its generator of seeds."""
_LIBRARIES = frozenset(
    {"keras", "tensorflow", "numpy", "builtins", "types", "functools", "weakref"}
)
_CONTAINERS = (list, dict, set)


@contextmanager
def with_global_state_kept() -> Iterator[None]:
    """Restore what tracing changes beyond a model: names that Keras counts, and random numbers."""
    numbers = np.random.get_state()  # noqa: NPY002 (that of the user's code)
    seeds, state = global_state.get_global_attribute(_SEEDS), random.getstate()
    try:
        with names_kept():
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numbers)  # noqa: NPY002
        global_state.set_global_attribute(_SEEDS, seeds)


@contextmanager
def names_kept() -> Iterator[None]:
    """Restore what Keras counts of names: equal models that are built in turn have equal names."""
    counts = dict(global_state.get_global_attribute(_COUNTS) or {})
    try:
        yield
    finally:
        present = global_state.get_global_attribute(_COUNTS)
        if present is not None:
            present.clear()
            present.update(counts)


@contextmanager
def counted_anew() -> Iterator[None]:
    """Name new layers as in a new process: "relu", and not "relu_7"."""
    counts = global_state.get_global_attribute(_COUNTS)
    try:
        global_state.set_global_attribute(_COUNTS, None)
        yield
    finally:
        global_state.set_global_attribute(_COUNTS, counts)


class Unchanged:
    """The attributes of a model, and of all that it holds, at the time when this object is made.

    Weights are not copied: nothing assigns to them while a model is traced.
    """

    def __init__(self, model: KerasModel) -> None:
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._contents: list[tuple[Any, Any]] = []
        seen: set[int] = set()
        left = [model]
        while left:
            value = left.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if issubclass(type(value), _CONTAINERS):
                self._contents.append((value, _copied(value)))
                left += value.values() if isinstance(value, dict) else value
            elif isinstance(value, _CONTAINERS):  # TensorFlow's proxy of a dict
                left.append(getattr(value, "__wrapped__"))  # noqa: B009 (of no type of its own)
            elif isinstance(value, tuple):
                left += value
            if _is_holder(value):
                self._attributes.append((value.__dict__, dict(value.__dict__)))
                left += value.__dict__.values()

    def restore(self) -> None:
        """Give every object its attributes and elements back."""
        for present, before in self._attributes:
            present.clear()
            present.update(before)
        for container, before in self._contents:
            # The methods of the bases: those of Keras's own containers track what is added.
            if isinstance(container, list):
                list.__setitem__(container, slice(None), before)
            else:
                kind: Any = dict if isinstance(container, dict) else set
                kind.clear(container)
                kind.update(container, before)


def _copied(container: Any) -> Any:
    kind: Any = next(kind for kind in _CONTAINERS if isinstance(container, kind))
    return kind(container)


def _is_holder(value: Any) -> bool:
    """Whether a value is a layer, an operation, or an object of a class of the user's."""
    if isinstance(value, keras.Operation | Tracker):
        return True
    if isinstance(value, keras.KerasTensor | keras.Variable | Node | type):
        return False
    own = type(value).__module__.split(".")[0] not in _LIBRARIES
    return own and isinstance(getattr(value, "__dict__", None), dict)
