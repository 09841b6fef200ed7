"""Images of a model with one input or several: counted, and taken row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from keras2gp._util.arrays import Array

__all__ = ["Inputs", "arrays_of", "of_each", "taken"]

Inputs: TypeAlias = Array | list[Array] | dict[str, Array]
"""An array [N, *shape]; for several inputs a list of them, or a dict by input name."""


def arrays_of(x: Inputs) -> list[Array]:
    """The arrays of all inputs."""
    if isinstance(x, dict):
        return list(x.values())
    return x if isinstance(x, list) else [x]


def of_each(x: Any, function: Callable[[Any], Array]) -> Inputs:
    """A function of the array of every input."""
    if isinstance(x, Mapping):
        return {str(name): function(array) for name, array in x.items()}
    return list(map(function, x)) if isinstance(x, list | tuple) else function(x)


def taken(x: Inputs, rows: slice) -> Inputs:
    """Some rows of every input."""
    return of_each(x, lambda array: array[rows])
