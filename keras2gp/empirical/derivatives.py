"""Derivatives of a network's outputs by its weights: all of them, or random projections of them.

N images, U output units, P weights, S standard deviations of the weights in the kernel:

    exact:   J[n, u, p] = S[p] d f_u(x_n) / d w[p]
    sketch:  J[n, u, k] = sum_p r[k, p] S[p] d f_u(x_n) / d w[p] / sqrt(K),   r[k, p] = +1 or -1

so that sum_k J J' of a sketch has the mean sum_p J J' of the exact ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Images, Tensor
from keras2gp.empirical.network import Network

__all__ = ["Derivatives", "Exact", "Sketch"]

_PARALLEL = 10
"""Images whose derivatives TensorFlow computes at a time: the default of tf.map_fn."""
_ACTIVATIONS = 2**25
"""Numbers that the model may compute for the images of one batch of a sketch."""


class Derivatives(Protocol):
    """Derivatives of a network's outputs in the weights that count in its kernel.

    Attributes:
        network: the network.
        width: numbers for each image and unit: P, or K.
    """

    network: Network
    width: int

    def __call__(self, images: Sequence[Images], units: Sequence[int]) -> Tensor:
        """J, [N, U, width]."""

    def working_numbers(self, count: int) -> int:
        """Numbers at work beside the result, of `count` images."""


class Exact:
    """The derivatives themselves, image by image.

    Args:
        network: the network.
        deviations: S, one number for each of its trainable variables; those of 0 are left out.
        dtype: type of the result.
    """

    def __init__(self, network: Network, deviations: Sequence[float], dtype: str) -> None:
        self.network, self._dtype = network, dtype
        self._counted = [(i, s) for i, s in enumerate(deviations) if s]
        self.width = sum(network.weights[i].size for i, _ in self._counted)
        self._rows = tf.function(self._all, autograph=False, reduce_retracing=True)

    def __call__(self, images: Sequence[Images], units: Sequence[int]) -> Tensor:
        """J, [N, U, P]."""
        return self._rows([tf.constant(array) for array in images], tf.constant(units, tf.int32))

    def working_numbers(self, count: int) -> int:
        """Numbers at work beside the result, of `count` images."""
        return min(count, _PARALLEL) * (3 * self.network.numbers + 2 * self.width)

    def _all(self, images: list[Tensor], units: Tensor) -> Tensor:
        # One unit of one image at a time: any layer of Keras has that derivative.
        def of_image(image: list[Tensor]) -> Tensor:
            def of_unit(unit: Tensor) -> Tensor:
                return self._row(image, unit)

            return tf.map_fn(of_unit, units, fn_output_signature=self._dtype)

        return tf.map_fn(of_image, images, fn_output_signature=self._dtype)

    def _row(self, image: list[Tensor], unit: Tensor) -> Tensor:
        """The derivatives of one output of one image, [P]."""
        values = list(self.network.values)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            counted = [tf.identity(values[i]) for i, _ in self._counted]
            tape.watch(counted)
            for (i, _), value in zip(self._counted, counted, strict=True):
                values[i] = value
            output = self.network.outputs(values, [array[None] for array in image])[0, unit]
        gradients = tape.gradient(output, counted, unconnected_gradients="zero")
        parts = [
            tf.cast(tf.reshape(tf.convert_to_tensor(gradient), [-1]), self._dtype) * s
            for gradient, (_, s) in zip(gradients, self._counted, strict=True)
        ]
        return tf.concat(parts, 0)


class Sketch:
    """Projections of the derivatives onto K random directions of signs, batch by batch.

    A projection is one derivative along a direction for a whole batch, and holds no Jacobian:

        v(g) = J^T g is linear in g, so that d (v(g) . r) / d g = J r

    Args:
        network: the network.
        deviations: S, one number for each of its trainable variables; those of 0 are left out.
        dtype: type of the result.
        directions: K.
        seed: of the directions, which all images share.
    """

    def __init__(
        self,
        network: Network,
        deviations: Sequence[float],
        dtype: str,
        directions: int,
        seed: int,
    ) -> None:
        self.network, self.width = network, directions
        self._dtype, self._seed = dtype, seed
        self._counted = [(i, s) for i, s in enumerate(deviations) if s]
        self._size = sum(network.weights[i].size for i, _ in self._counted)
        self._columns = tf.function(self._all, autograph=False, reduce_retracing=True)

    def __call__(self, images: Sequence[Images], units: Sequence[int]) -> Tensor:
        """J, [N, U, K]."""
        count, batch = len(images[0]), self._batch(len(images[0]))
        parts = []
        for start in range(0, count, batch):
            part = [array[start : start + batch] for array in images]
            missing = batch - len(part[0])
            if missing and count > batch:  # a ragged end needs no function of its own
                part = [np.concatenate([a, np.repeat(a[:1], missing, axis=0)]) for a in part]
            values = self._columns([tf.constant(array) for array in part])[: batch - missing]
            parts.append(tf.gather(values, list(units), axis=1))
        return tf.concat(parts, 0)

    def working_numbers(self, count: int) -> int:
        """Numbers at work beside the result, of `count` images."""
        return 5 * self._batch(count) * self.network.numbers + 4 * self._size

    def _batch(self, count: int) -> int:
        return max(1, min(count, _ACTIVATIONS // max(self.network.numbers, 1)))

    def _all(self, images: list[Tensor]) -> Tensor:
        def along(direction: Tensor) -> Tensor:
            return self._projected(images, direction)

        places = tf.range(self.width, dtype=tf.int64)
        values = tf.map_fn(along, places, fn_output_signature=self._dtype, parallel_iterations=1)
        return tf.transpose(values, [1, 2, 0]) / math.sqrt(self.width)

    def _projected(self, images: list[Tensor], direction: Tensor) -> Tensor:
        """The derivatives of all outputs along one direction, [N, units]."""
        values = list(self.network.values)
        with tf.GradientTape(watch_accessed_variables=False) as outer:
            with tf.GradientTape(watch_accessed_variables=False) as inner:
                counted = [tf.identity(values[i]) for i, _ in self._counted]
                inner.watch(counted)
                for (i, _), value in zip(self._counted, counted, strict=True):
                    values[i] = value
                outputs = self.network.outputs(values, images)
            weighing = tf.zeros(tf.shape(outputs), outputs.dtype)
            outer.watch(weighing)
            gradients = inner.gradient(
                outputs, counted, output_gradients=weighing, unconnected_gradients="zero"
            )
            gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        signs = [
            self._signs(direction, gradient, i) * tf.cast(s, gradient.dtype)
            for gradient, (i, s) in zip(gradients, self._counted, strict=True)
        ]
        projected = outer.gradient(
            gradients, weighing, output_gradients=signs, unconnected_gradients="zero"
        )
        return tf.cast(projected, self._dtype)

    def _signs(self, direction: Tensor, like: Tensor, place: int) -> Tensor:
        """+1 or -1 for each number of a variable, the same on every machine."""
        number = direction * len(self.network.values) + place
        seed = tf.stack([tf.constant(self._seed, tf.int64), number])
        bits = tf.random.stateless_uniform(tf.shape(like), seed, 0, 2, dtype=tf.int32, alg="philox")
        return tf.cast(2 * bits - 1, like.dtype)
