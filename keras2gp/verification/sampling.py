"""Second moments of random networks' outputs: one matrix for every draw of all weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp.errors import NumericalError

__all__ = ["Sampler"]

Array = np.ndarray[Any, Any]

_CHUNKS = 32


class Sampler:
    """Draws networks of one widened copy.

    model:      the copy, a Keras model of one output
    deviations: of the elements of its trainable variables; None for variables that stay
    images:     [N, *shape] for each of its inputs
    """

    def __init__(
        self, model: Any, deviations: Sequence[float | None], images: Sequence[Array]
    ) -> None:
        self._model = model
        self._deviations = tuple(deviations)
        self._images = [tf.constant(array, tf.float32) for array in images]
        number = tf.TensorSpec([], tf.int64)
        self._chunk = tf.function(self._moments_of, input_signature=[number] * 3, autograph=False)

    def moments(
        self, count: int, stream: int, advance: Callable[[int], None] = lambda _: None
    ) -> Array:
        """Second moments of the outputs, [count, N, N] in float64: means over output units.

        stream:  networks of different streams are independent of each other
        advance: is told how many more networks are drawn
        Raises: NumericalError if a network's output overflows.
        """
        parts = []
        size = max(1, -(-count // _CHUNKS))
        for start in range(0, count, size):
            stop = min(start + size, count)
            parts.append(np.asarray(self._chunk(start, stop, stream)))
            advance(stop - start)
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise NumericalError(
                "outputs of a random network overflow float32: variances grow beyond it with depth"
            )
        return found

    def _moments_of(self, start: Any, stop: Any, stream: Any) -> Any:
        # One after the other: weights and activations of a single network are kept.
        return tf.map_fn(
            partial(self._moments, stream),
            tf.range(start, stop),
            fn_output_signature=tf.float64,
            parallel_iterations=1,
        )

    def _moments(self, stream: Any, number: Any) -> Any:
        outputs, _ = self._model.stateless_call(
            self._weights(number, stream),
            self._model.non_trainable_variables,
            self._images,
            training=False,
        )
        units = tf.cast(tf.reshape(outputs, [len(self._images[0]), -1]), tf.float64)
        count = tf.cast(tf.shape(units)[1], tf.float64)
        return tf.matmul(units, units, transpose_b=True) / count

    def _weights(self, number: Any, stream: Any) -> list[Any]:
        values = []
        for place, (variable, deviation) in enumerate(
            zip(self._model.trainable_variables, self._deviations, strict=True)
        ):
            if deviation is None:
                values.append(tf.convert_to_tensor(variable.value))
                continue
            # The streams of two variables, or of two networks, never meet: counters are hashed.
            seed = tf.stack([stream + number, tf.constant(place, tf.int64)])
            values.append(deviation * tf.random.stateless_normal(variable.shape, seed))
        return values
