"""Draws of random networks: the images that they see, and the second moments of their outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Images, InputsLike, KerasTensor, Tensor
from keras2gp._util.checks import is_whole_number
from keras2gp._util.keras_objects import KerasModel
from keras2gp.conversion.on_data import called
from keras2gp.errors import InputError, NumericalError
from keras2gp.graph.ops import Tokens
from keras2gp.kernel.inputs import checked
from keras2gp.kernel.kernel import Kernel
from keras2gp.verification.controls import (
    Influence,
    departures,
    influences,
    products,
    sensitivities,
)
from keras2gp.verification.laws import Law
from keras2gp.verification.positions import Places
from keras2gp.verification.taps import Tap

__all__ = ["PILOTS", "PILOT_WORK", "Draws", "Sampler", "Weights", "images_of"]

Weights: TypeAlias = Sequence[tuple[Influence, Influence]]
"""Weights of the controls: the influence of even and of odd departures, for each tap."""

PILOTS = 128
"""Networks that set the weights of the controls, and are used for nothing else."""
PILOT_WORK = 3
"""Work of a pilot network with its gradients, relative to that of another network."""
_CHUNKS = 32
"""Calls of TensorFlow in which the networks of one width are drawn; progress is told after each."""
_FOLDS = 5
_PIXELS = frozenset({"Rescaling", "Normalization"})
"""Layers that bring pixels from 0 to 255 into range."""


def images_of(kernel: Kernel, data: InputsLike, seed: int) -> list[Images]:
    """Arrays for the model's inputs: the user's, or random images of correlation 1/2.

    Of integers that an Embedding looks up, two images share half.

    Args:
        kernel: For its inputs, and its deterministic layers.
        data: The user's images, as for a kernel; or a number of random ones.
        seed: Of the random images.
    """
    if not is_whole_number(data):
        return checked(data, kernel.inputs, "float32", "data")
    if any(None in spec.shape for spec in kernel.inputs):
        raise InputError("the model takes images of any size. Try: data, images to compare on")
    random = np.random.default_rng(seed)
    pixels = kernel.preprocessor is not None and any(
        type(layer).__name__ in _PIXELS for layer in kernel.preprocessor.layers
    )
    arrays, vocabularies = [], _vocabularies(kernel)
    for spec in kernel.inputs:
        if spec.name in vocabularies:
            most = vocabularies[spec.name]
            least = min(1, most - 1)  # a mask leaves out 0
            shared, single = random.integers(least, most, (2, data, *(n or 1 for n in spec.shape)))
            common = random.random(single.shape) < math.sqrt(0.5)
            arrays.append(np.where(common, shared[:1], single))
            continue
        if spec.dtype == "string":
            raise InputError(f"the input {spec.name} is text. Try: data, texts to compare on")
        shared, single = random.normal(size=(2, data, *(size or 1 for size in spec.shape)))
        values = (shared[:1] + single) / np.sqrt(2.0)
        if spec.dtype:
            values = values > 0
        elif pixels:
            values = 255.0 / (1.0 + np.exp(-values))
        arrays.append(values.astype(np.float32))
    return checked(arrays[0] if len(arrays) == 1 else arrays, kernel.inputs, "float32", "data")


def _vocabularies(kernel: Kernel) -> dict[str, int]:
    """How many integers each input may hold that an Embedding looks up, by the input's name."""
    found: dict[str, int] = {}
    for number, op in enumerate(kernel.graph.inputs):
        if isinstance(op, Tokens) and kernel.preprocessor is not None:
            for name in _origins(kernel.preprocessor.outputs[number]):
                found[name] = min(found.get(name, op.vocabulary), op.vocabulary)
    return found


def _origins(tensor: KerasTensor) -> set[str]:
    """Names of the inputs of a Keras model that one of its tensors is made of."""
    operation, index, _ = tensor._keras_history  # noqa: SLF001
    sources = operation._inbound_nodes[index].input_tensors  # noqa: SLF001
    return set().union(*map(_origins, sources)) if sources else {tensor.name}


@dataclass(frozen=True, eq=False)
class Draws:
    """Second moments of the networks' outputs, means over units.

    Attributes:
        plain: The moments themselves, [samples, N, N] in float64.
        products: Products of the controls, of mean 1 and of the same shape.
    """

    plain: Array
    products: Array

    @cached_property
    def moments(self) -> Array:
        """The moments less M (products - 1): a term of mean 0 with nearly their fluctuation.

        M is the mean of the moments, as a ratio of means, since both have fluctuated alike. It is
        taken over the networks of the other folds, so that it is independent of a network's own
        product.
        """
        result = np.empty_like(self.plain)
        folds = np.arange(len(result)) % _FOLDS
        for fold in range(_FOLDS):
            inside, outside = folds == fold, folds != fold
            level = self.plain[outside].mean(axis=0) / self.products[outside].mean(axis=0)
            result[inside] = self.plain[inside] - level * (self.products[inside] - 1.0)
        return result

    @cached_property
    def doubt(self) -> float:
        """Relative error bar of the variance for rare large networks that have not been drawn.

        The mean of the products is known, so that the share of it that is missing is known too.
        The same share of the moments is missing, except for the part of the moments that is not
        proportional to the products.
        """
        product, plain = (np.diagonal(m, axis1=1, axis2=2) for m in (self.products, self.plain))
        level = plain.sum(axis=0) / product.sum(axis=0)
        rest = plain / level - product
        spread = np.sqrt((rest**2).sum(axis=0) / (product**2).sum(axis=0))
        return float(np.mean(np.abs(product.mean(axis=0) - 1.0) * spread))


class Sampler:
    """Draws networks of one widened copy.

    Args:
        model: The copy, a Keras model whose outputs are the kernel's and the tensors of its taps.
        taps: Its taps.
        deviations: Standard deviation of the elements of each of its trainable variables; None for
            a variable that stays as it is.
        images: An array [N, *shape] for each of its inputs.
        places: The positions of the output that are compared.
        mean: The mean of the copy's output.
        gammas: Laws of variables that are random gammas; None for each of the others.
    """

    def __init__(
        self,
        model: KerasModel,
        taps: Sequence[Tap],
        deviations: Sequence[float | None],
        images: Sequence[Images],
        places: Places,
        *,
        mean: float = 0.0,
        gammas: Sequence[Law | None] = (),
    ) -> None:
        self._model, self._taps = model, taps
        self._called = called(model)
        self._constants = [tf.constant(v.numpy()) for v in model.non_trainable_variables]
        self._deviations = tuple(deviations)
        self._gammas = tuple(gammas) or (None,) * len(self._deviations)
        self._images = [tf.constant(array) for array in images]
        self._count = len(images[0])
        self._places = places
        self._mean = tf.constant(mean, tf.float32)

    def draws(
        self,
        count: int,
        stream: int,
        weights: Weights,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Draws:
        """Draw networks, with the products of their controls.

        Args:
            count: How many networks.
            stream: Networks of different streams are independent of each other.
            weights: Weights of the controls, from other networks.
            advance: Is told how many more networks are drawn.

        Raises:
            NumericalError: A network's output overflows.
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
            results = chunk(*_int64(start, stop, stream))
            for parts, values in zip((moments, products), results, strict=True):
                parts.append(np.asarray(values))
            advance(stop - start)
        return Draws(_finite(np.concatenate(moments)), _finite(np.concatenate(products)))

    def weigh(self, stream: int, advance: Callable[[int], None] = lambda _: None) -> Weights:
        """The weights of the controls, from PILOTS networks of this stream.

        The weights serve for copies of other widths too: the taps are the same, and controls with
        any weights have the mean 1. Arguments and errors are those of draws().
        """
        number = tf.TensorSpec([], tf.int64)
        pilot = tf.function(self._pilot, input_signature=[number] * 2, autograph=False)
        pilots = []
        for network in range(PILOTS):
            pilots.append([np.asarray(values) for values in pilot(*_int64(network, stream))])
            advance(PILOT_WORK)
        return [influences(_finite(np.stack(taps))) for taps in zip(*pilots, strict=True)]

    def _chunk(self, weights: Weights, start: Any, stop: Any, stream: Any) -> Any:
        # One network after the other: memory holds the weights and activations of one.
        return tf.map_fn(
            partial(self._moments, weights, stream),
            tf.range(start, stop),
            fn_output_signature=(tf.float64, tf.float64),
            parallel_iterations=1,
        )

    def _moments(self, weights: Weights, stream: Any, number: Any) -> Any:
        units, *taps = self._outputs(self._values(number, stream))
        units = tf.cast(tf.reshape(units, [-1, units.shape[-1]]), tf.float64)
        count = tf.cast(tf.shape(units)[1], tf.float64)
        moments = tf.matmul(units, units, transpose_b=True) / count
        control = products(departures(self._taps, taps, self._count), weights, self._count)
        places = len(self._places.numbers)
        return moments, tf.repeat(tf.repeat(control, places, 0), places, 1)

    def _pilot(self, number: Any, stream: Any) -> list[Tensor]:
        """Sensitivities of log m in one network, m being the output's variance: see controls.py."""
        values = self._values(number, stream)
        with tf.GradientTape() as tape:
            tape.watch(values)
            units, *taps = self._outputs(values)
            variance = tf.reduce_mean(tf.square(units), axis=[1, 2])
            # Its gradient is that of log m, and 0 in a network whose output is 0.
            logarithm = tf.math.divide_no_nan(variance, tf.stop_gradient(variance))
        of_taps = departures(self._taps, taps, self._count)
        sources = [departure.values for departure in of_taps]
        gradients = tape.gradient(logarithm, sources, unconnected_gradients="zero")
        return sensitivities(of_taps, gradients)

    def _outputs(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The copy's output less its mean, [N, positions, units], and the tensors of its taps."""
        outputs, _ = self._called(values, self._constants, self._images, training=False)
        units, *taps = outputs
        return [self._places.units(units) - self._mean, *taps]

    def _values(self, number: Any, stream: Any) -> list[Tensor]:
        """Values of the trainable variables in one network, drawn anew."""
        values = []
        variables = self._model.trainable_variables
        for place, (variable, deviation, gamma) in enumerate(
            zip(variables, self._deviations, self._gammas, strict=True)
        ):
            # No two variables or networks share random numbers: the generator hashes its counter.
            seed = tf.stack([stream + number, tf.constant(place, tf.int64)])
            if gamma is not None:
                values.append(gamma.values(variable.shape, seed))
                continue
            if deviation is None:
                values.append(tf.convert_to_tensor(variable.value))
                continue
            values.append(deviation * tf.random.stateless_normal(variable.shape, seed))
        return values


def _int64(*numbers: int) -> list[Tensor]:
    """Numbers as tensors; functions that run eagerly do not make them of their signature's type."""
    return [tf.constant(number, tf.int64) for number in numbers]


def _finite(values: Array) -> Array:
    if not np.isfinite(values).all():
        raise NumericalError(
            "outputs of a random network overflow float32: variances grow beyond it with depth"
        )
    return values
