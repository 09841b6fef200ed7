"""Random gammas of normalisation layers, which copies draw as Keras's initialisers do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from keras import initializers

from keras2gp._util.arrays import Tensor
from keras2gp._util.keras_objects import KerasInitializer, KerasOperation
from keras2gp.conversion.initial_values import initial_constants

__all__ = ["Law", "gamma_law"]


@dataclass(frozen=True)
class Law:
    """The law of a random gamma.

    Attributes:
        initializer: Keras's RandomNormal, TruncatedNormal or RandomUniform.
    """

    initializer: KerasInitializer

    def values(self, shape: Any, seed: Tensor) -> Tensor:
        """Values of that shape; equal seeds give equal ones.

        Raises:
            TypeError: The initialiser is none of the three.
        """
        law, kind = self.initializer, type(self.initializer)
        if kind is initializers.RandomUniform:
            return tf.random.stateless_uniform(shape, seed, law.minval, law.maxval)
        draw = {
            initializers.RandomNormal: tf.random.stateless_normal,
            initializers.TruncatedNormal: tf.random.stateless_truncated_normal,
        }.get(kind)
        if draw is None:
            raise TypeError(f"nothing here draws a gamma as {kind.__name__} does")
        return draw(shape, seed, law.mean, law.stddev)


def gamma_law(operation: KerasOperation) -> Law | None:
    """The law of a layer's gamma; None where it has none, or starts at constants."""
    initializer = getattr(operation, "gamma_initializer", None)
    if initializer is None or getattr(operation, "gamma", None) is None:
        return None
    return Law(initializer) if initial_constants(initializer) is None else None
