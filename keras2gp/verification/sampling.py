"""Second moments of random networks' outputs: one matrix for every draw of all weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array
from keras2gp.errors import NumericalError
from keras2gp.verification.controls import (
    Influence,
    departures,
    influences,
    products,
    sensitivities,
)
from keras2gp.verification.taps import Tap

__all__ = ["PILOTS", "PILOT_WORK", "Draws", "Sampler", "Weights"]

Weights = Sequence[tuple[Influence, Influence]]

PILOTS = 128
"""Networks that set the weights of the controls, and have no other part."""
PILOT_WORK = 3
"""How many times the work of another network a pilot takes, with its gradients."""
_CHUNKS = 32
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Draws:
    """Second moments of networks' outputs, means over units: [samples, N, N] in float64.

    plain:    as they are
    products: of controls, with the mean 1
    """

    plain: Array
    products: Array

    @cached_property
    def moments(self) -> Array:
        """The plain ones less M (products - 1), which has the mean 0 and nearly their fluctuation.

        M is the mean of the moments, as a ratio of means, since both have fluctuated alike. For a
        network it is that of the networks in other folds, and so independent of its product.
        """
        result = np.empty_like(self.plain)
        folds = np.arange(len(result)) % _FOLDS
        for fold in range(_FOLDS):
            own, others = folds == fold, folds != fold
            level = self.plain[others].mean(axis=0) / self.products[others].mean(axis=0)
            result[own] = self.plain[own] - level * (self.products[own] - 1.0)
        return result

    @cached_property
    def doubt(self) -> float:
        """Relative error bar of the variance for rare large networks that have not been drawn.

        The mean of the products is known, so that it is seen how much of it they would have made.
        Of the moments they would have made as much, but for what these differ by in proportion.
        """
        product, plain = (np.diagonal(m, axis1=1, axis2=2) for m in (self.products, self.plain))
        level = plain.sum(axis=0) / product.sum(axis=0)
        rest = plain / level - product
        spread = np.sqrt((rest**2).sum(axis=0) / (product**2).sum(axis=0))
        return float(np.mean(np.abs(product.mean(axis=0) - 1.0) * spread))


class Sampler:
    """Draws networks of one widened copy.

    model:      the copy, a Keras model whose outputs are the kernel's and the tensors of its taps
    taps:       of the copy
    deviations: of the elements of its trainable variables; None for variables that stay
    images:     [N, *shape] for each of its inputs
    """

    def __init__(
        self,
        model: Any,
        taps: Sequence[Tap],
        deviations: Sequence[float | None],
        images: Sequence[Array],
    ) -> None:
        self._model, self._taps = model, taps
        self._deviations = tuple(deviations)
        self._images = [tf.constant(array, tf.float32) for array in images]
        self._count = len(images[0])

    def draws(
        self,
        count: int,
        stream: int,
        weights: Weights,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Draws:
        """Networks, and the products of their controls.

        stream:  networks of different streams are independent of each other
        weights: of the controls, from other networks
        advance: is told how many more networks are drawn
        Raises: NumericalError if a network's output overflows.
        """
        number = tf.TensorSpec([], tf.int64)
        chunk = tf.function(
            partial(self._chunk, weights), input_signature=[number] * 3, autograph=False
        )
        moments: list[Array] = []
        products: list[Array] = []
        size = max(1, -(-count // _CHUNKS))
        for start in range(0, count, size):
            stop = min(start + size, count)
            for parts, values in zip((moments, products), chunk(start, stop, stream), strict=True):
                parts.append(np.asarray(values))
            advance(stop - start)
        return Draws(_finite(np.concatenate(moments)), _finite(np.concatenate(products)))

    def weigh(self, stream: int, advance: Callable[[int], None] = lambda _: None) -> Weights:
        """The weights of the controls, from PILOTS networks of this stream; as for draws().

        They serve for copies of other widths too: the taps are the same, and any weights do.
        """
        number = tf.TensorSpec([], tf.int64)
        pilot = tf.function(self._pilot, input_signature=[number] * 2, autograph=False)
        found = []
        for network in range(PILOTS):
            found.append([np.asarray(values) for values in pilot(network, stream)])
            advance(PILOT_WORK)
        return [influences(_finite(np.stack(parts))) for parts in zip(*found, strict=True)]

    def _chunk(self, weights: Weights, start: Any, stop: Any, stream: Any) -> Any:
        # One after the other: weights and activations of a single network are kept.
        return tf.map_fn(
            partial(self._moments, weights, stream),
            tf.range(start, stop),
            fn_output_signature=(tf.float64, tf.float64),
            parallel_iterations=1,
        )

    def _moments(self, weights: Weights, stream: Any, number: Any) -> Any:
        units, *taps = self._called(self._values(number, stream))
        units = tf.cast(units, tf.float64)
        count = tf.cast(tf.shape(units)[1], tf.float64)
        found = departures(self._taps, taps, self._count)
        moments = tf.matmul(units, units, transpose_b=True) / count
        return moments, products(found, weights, self._count)

    def _pilot(self, number: Any, stream: Any) -> list[Any]:
        """Sensitivities of log m, the output's variance, in one network: see controls.py."""
        values = self._values(number, stream)
        with tf.GradientTape() as tape:
            tape.watch(values)
            units, *taps = self._called(values)
            variance = tf.reduce_mean(tf.square(units), axis=1)
            # Its gradient is that of log m, and 0 in a network that gives 0.
            logarithm = tf.math.divide_no_nan(variance, tf.stop_gradient(variance))
        found = departures(self._taps, taps, self._count)
        wanted = [departure.values for departure in found]
        gradients = tape.gradient(logarithm, wanted, unconnected_gradients="zero")
        return sensitivities(found, gradients)

    def _called(self, values: Sequence[Any]) -> list[Any]:
        """The copy's output as [N, units], and the tensors of its taps."""
        outputs, _ = self._model.stateless_call(
            values, self._model.non_trainable_variables, self._images, training=False
        )
        units, *taps = outputs
        return [tf.reshape(units, [self._count, -1]), *taps]

    def _values(self, number: Any, stream: Any) -> list[Any]:
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


def _finite(values: Array) -> Array:
    if not np.isfinite(values).all():
        raise NumericalError(
            "outputs of a random network overflow float32: variances grow beyond it with depth"
        )
    return values
