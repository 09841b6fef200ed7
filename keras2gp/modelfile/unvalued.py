"""Layers that are built with shapes only, since a prior needs no values of their weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state

__all__ = ["size_of", "without_values"]

_DRAWN = 2**24
"""Most numbers that are drawn for the weights of a model whose trained weights are not loaded."""
_PENDING = "uninitialized_variables"


def size_of(variable: Any) -> int:
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
