"""Weights that are made of one weight of a user's own: of a number and it, or of its axes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from weakref import WeakValueDictionary

import keras
import numpy as np
from keras.src import backend

from keras2gp._util.keras_objects import KerasVariable
from keras2gp.conversion.user_code import SEED

__all__ = ["AffineWeight", "TurnedWeight", "as_drawn", "turned", "weights_as_symbols"]

_ARITHMETIC: dict[str, Callable[[float], tuple[float, float]]] = {
    "__add__": lambda number: (1.0, number),
    "__radd__": lambda number: (1.0, number),
    "__sub__": lambda number: (1.0, -number),
    "__rsub__": lambda number: (-1.0, number),
    "__mul__": lambda number: (number, 0.0),
    "__rmul__": lambda number: (number, 0.0),
}
"""Factor and constant of a weight in its sum, difference or product with a number."""


class AffineWeight(keras.Variable):  # type: ignore[misc]
    """A weight times a number, with another one added, as a weight without values.

    Args:
        weight: the weight
        factor: the number that it is multiplied by
        constant: the number that is added
    """

    def __init__(self, weight: KerasVariable, factor: float, constant: float) -> None:
        # Keras's own __init__ makes the values.
        for key in _FACTS:
            object.__setattr__(self, key, getattr(weight, key))
        self.of, self.factor, self.constant = weight, factor, constant
        if isinstance(weight, AffineWeight):
            self.of, self.factor = weight.of, factor * weight.factor
            self.constant = factor * weight.constant + constant

    @property
    def value(self) -> Any:
        """Values that Keras reads to find the shape of a result; none of the user's."""
        return self.of.value * self.factor + self.constant

    def at(self, number: float | None) -> float | None:
        """Its value where the weight is a number."""
        return None if number is None else self.factor * number + self.constant


class TurnedWeight(keras.Variable):  # type: ignore[misc]
    """A weight with its axes in another order, as a weight without values. `turned` makes it.

    Args:
        weight: the weight as it is drawn
        axes: the axes of the weight, in the order in which they are here
    """

    def __init__(self, weight: KerasVariable, axes: tuple[int, ...]) -> None:
        for key in _FACTS:
            object.__setattr__(self, key, getattr(weight, key))
        object.__setattr__(self, "_shape", tuple(weight.shape[axis] for axis in axes))
        self.of, self.axes = weight, axes

    @property
    def value(self) -> Any:
        """Values, where those of the weight may be read."""
        return keras.ops.transpose(self.of.value, self.axes)


_TURNED: WeakValueDictionary[tuple[int, tuple[int, ...]], TurnedWeight] = WeakValueDictionary()
"""Those in use, by the identity of the weight: calls on equal ones are calls on one weight."""


def turned(weight: KerasVariable, axes: Sequence[int]) -> Any:
    """A weight with its axes in another order; the weight itself where that is its own order."""
    axes = tuple(axis % len(weight.shape) for axis in axes)
    if isinstance(weight, AffineWeight):
        return AffineWeight(turned(weight.of, axes), weight.factor, weight.constant)
    if isinstance(weight, TurnedWeight):
        weight, axes = weight.of, tuple(weight.axes[axis] for axis in axes)
    if axes == tuple(range(len(axes))):
        return weight
    key = id(weight), axes
    made = _TURNED.get(key)
    return _TURNED.setdefault(key, TurnedWeight(weight, axes)) if made is None else made


def as_drawn(weight: KerasVariable) -> Any:
    """The weight of the user's own that another one is made of; itself where it is none."""
    while isinstance(weight, AffineWeight | TurnedWeight):
        weight = weight.of
    return weight


_FACTS = ("_name", "_path", "_shape", "_dtype", "_ndim", "_autocast", "_trainable", "_value")
"""Attributes of Keras's weights that calls on symbolic tensors read."""


@contextlib.contextmanager
def weights_as_symbols() -> Iterator[None]:
    """A context in which arithmetic of weights is recorded, where Keras would read their values.

    `weight + x` and `weight * x` of a symbolic x are x + weight and x * weight; 1 + weight and its
    like, of a number, is another weight, and so is a weight with its axes exchanged.
    """
    owner = next(kind for kind in keras.Variable.__mro__ if "__add__" in vars(kind))

    def recorded(name: str, original: Callable[..., Any]) -> Any:
        def method(weight: KerasVariable, other: Any) -> Any:
            if isinstance(other, keras.KerasTensor) and name in ("__add__", "__mul__"):
                return getattr(other, name)(weight)
            if isinstance(other, int | float) and weight.name != SEED:
                return AffineWeight(weight, *_ARITHMETIC[name](other))
            return original(weight, other)

        return method

    with _with(owner, _ARITHMETIC, recorded), _with(backend.numpy, _TURNS, _turning):
        yield


_TURNS: dict[str, Callable[..., Any]] = {
    "transpose": lambda order, axes=None: order.transpose(axes),
    "swapaxes": lambda order, axis1, axis2: order.swapaxes(axis1, axis2),
    "moveaxis": np.moveaxis,
}
"""Functions of Keras's backend that exchange axes: what each does to an array."""


def _turning(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the backend for which a weight with its axes exchanged is a weight."""

    def function(x: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(x, keras.Variable) or x.name == SEED:
            return original(x, *args, **kwargs)
        sizes = tuple(range(1, len(x.shape) + 1))
        return turned(x, [n - 1 for n in _TURNS[name](np.empty(sizes), *args, **kwargs).shape])

    return function


@contextlib.contextmanager
def _with(
    owner: Any, names: Iterable[str], made: Callable[[str, Callable[..., Any]], Any]
) -> Iterator[None]:
    """A context in which functions of a class or module are what `made` makes of them."""
    originals = {name: vars(owner)[name] for name in names}
    for name, original in originals.items():
        setattr(owner, name, made(name, original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(owner, name, original)
