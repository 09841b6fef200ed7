"""Names for objects of Keras and TensorFlow, which ship no types; the one glossary of them.

Annotations state what a function reads. Type checkers see Any.
"""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = [
    "KerasInitializer",
    "KerasLayer",
    "KerasModel",
    "KerasNode",
    "KerasOperation",
    "KerasVariable",
]

KerasModel: TypeAlias = Any
"""A keras.Model: Sequential, functional or subclassed."""

KerasLayer: TypeAlias = Any
"""A keras.Layer, of Keras or of the user."""

KerasOperation: TypeAlias = Any
"""A keras.Operation: a layer, or a function of keras.ops in a functional graph."""

KerasNode: TypeAlias = Any
"""One call of an operation in a functional graph: its operation, arguments and outputs."""

KerasVariable: TypeAlias = Any
"""A keras.Variable or tf.Variable: a weight of a layer."""

KerasInitializer: TypeAlias = Any
"""A keras.initializers.Initializer: the distribution of a weight before training."""
