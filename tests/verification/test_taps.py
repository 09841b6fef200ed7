"""The law that a tap states of a layer's outputs, against the layer itself.

An output is linear in the weights w of its layer, so that its variance under w ~ N(0, d^2) is the
sum of d^2 (dx/dw)^2: by automatic differentiation of the copy that is drawn.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.src.applications import convnext
from small_models import biased, conv, drawn, head

from keras2gp.verification.api import converted
from keras2gp.verification.survey import Survey
from keras2gp.verification.widening import Widened, deviations

UNITS = 3


def copied(model, width=8, output=None):
    """A copy with weights, and two images."""
    opened, kernel = converted(model, output=output)
    functional = opened.functional
    survey = Survey(functional, kernel.parameters, kernel.report.output)
    scale = survey.scale(width, UNITS)
    copy = Widened(functional, scale, kernel.parameters, kernel.report.output, averages=False)
    rng = np.random.default_rng(3)
    for variable, deviation in zip(copy.model.trainable_variables, deviations(copy), strict=True):
        if deviation is not None:
            variable.assign(0.3 * rng.normal(size=variable.shape))
    images = [rng.normal(size=(2, *x.shape[1:])).astype(np.float32) for x in model.inputs]
    return copy, images


def laws(copy, images):
    """For each tap: the variance that it states, and that by differentiation."""
    variables = copy.model.trainable_variables
    known = list(zip(variables, deviations(copy), strict=True))
    numbers = {id(layer.weights[0]): n for n, layer in enumerate(copy.drawn.values())}
    owners = {numbers[id(v)]: v for v in variables if id(v) in numbers}
    places = {id(v): deviation for v, deviation in known}
    biases = {
        n: layer.bias
        for n, layer in enumerate(copy.drawn.values())
        if getattr(layer, "use_bias", 0)
    }
    with tf.GradientTape(persistent=True) as tape:
        _, *outputs = copy.model(images, training=False)
        left = iter(outputs)
        found = []
        for tap in copy.taps:
            values, variance, *_ = (next(left) for _ in tap.tensors)
            # Of one image and a few units: they are many derivatives.
            stated = tf.broadcast_to(variance, values.shape)[:1, ..., ::7]
            found.append((tap, values[:1, ..., ::7], stated))
    for tap, values, stated in found:
        squares = 0.0
        for variable in (owners[tap.draw], biases.get(tap.draw)):
            if variable is None:
                continue
            jacobian = tape.jacobian(values, variable.value, experimental_use_pfor=False)
            axes = tuple(range(len(values.shape), len(jacobian.shape)))
            squares += places[id(variable)] ** 2 * np.sum(np.square(jacobian), axis=axes)
        yield tap, stated.numpy(), squares


GEOMETRIES = {
    "dense": layers.Dense(8, **biased()),
    "strides": layers.Conv2D(8, 3, 2, padding="same", **biased()),
    "dilation": layers.Conv2D(8, 2, dilation_rate=2, **drawn()),
    "window": layers.Conv2D(8, (2, 3), padding="valid", **biased()),
    "groups": layers.Conv2D(8, 3, groups=2, padding="same", **biased()),
    "channel by channel": layers.Conv2D(8, 3, groups=8, padding="same", **drawn()),
    "depthwise": layers.DepthwiseConv2D(3, 2, padding="same", **drawn(1.0, "depthwise")),
    "multiplier": layers.DepthwiseConv2D(
        2, depth_multiplier=2, use_bias=False, **drawn(1.0, "depthwise")
    ),
    "separable": layers.SeparableConv2D(
        8,
        3,
        2,
        padding="same",
        depth_multiplier=2,
        use_bias=False,
        **drawn(1.0, "depthwise"),
        **drawn(1.0, "pointwise"),
    ),
    "transposed": layers.Conv2DTranspose(8, 3, 2, padding="same", **biased()),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_variances_are_those_of_the_layer(name):
    x = keras.Input((4, 5, 2))
    layer = GEOMETRIES[name]
    h = layer.__class__.from_config(layer.get_config())(layers.ReLU()(conv(x)))
    h = conv(h, 8, 1) if name in ("depthwise", "channel by channel", "multiplier") else h
    copy, images = copied(head(x, layers.Flatten()(layers.ReLU()(h))))
    draws = [tap.draw for tap in copy.taps]
    assert draws == list(range(len(copy.drawn)))
    for tap, stated, true in laws(copy, images):
        assert tap.centre is None
        assert stated == pytest.approx(true, rel=1e-4)


def test_sequences():
    x = keras.Input((6, 2))
    h = layers.Conv1D(8, 3, padding="causal", activation="relu", **biased())(x)
    h = layers.SeparableConv1D(8, 2, **drawn(1.0, "depthwise"), **drawn(1.0, "pointwise"))(h)
    copy, images = copied(head(x, layers.Flatten()(layers.ReLU()(h))))
    assert len(copy.taps) == 4
    for _, stated, true in laws(copy, images):
        assert stated == pytest.approx(true, rel=1e-4)


def test_the_newest_summand_is_gaussian_beside_the_others():
    """Through layers that scale it; a sum tells all, where its summand is used nowhere else."""
    x = keras.Input((4, 4, 2))
    a = conv(x)
    h = layers.BatchNormalization(epsilon=0.5)(conv(layers.ReLU()(a)))
    h = convnext.LayerScale(0.7, 8)(layers.Dropout(0.5)(h))
    a = layers.Add()([a, h])
    b = conv(layers.ReLU()(a))
    a = layers.Concatenate()([layers.Add()([b, a]), b])
    copy, images = copied(head(x, layers.Flatten()(layers.ReLU()(conv(a, window=1)))))
    found = list(laws(copy, images))
    summed = [tap.centre is not None for tap, _, _ in found]
    assert summed == [False, True, False, False, False]
    for _, stated, true in found:
        assert stated == pytest.approx(true, rel=1e-4)
    tap = copy.taps[1]
    tensors = keras.Model(copy.model.inputs, [tap.values, tap.centre])
    with_weights, _ = tensors(images)
    for weight in list(copy.drawn.values())[1].weights:
        weight.assign(tf.zeros_like(weight))
    values, centre = (t.numpy() for t in tensors(images))
    assert centre == pytest.approx(values, abs=1e-5)
    assert np.abs(with_weights - centre).max() > 0.1


def test_a_second_call_of_weights_has_no_tap():
    """Nothing else that the output does not depend on has one either."""
    x = keras.Input((4,))
    shared = layers.Dense(8, name="shared", **biased())
    h = layers.ReLU()(shared(layers.Dense(8, activation="relu", **biased())(x)))
    copy, images = copied(head(x, layers.ReLU()(shared(h))), output="shared")
    assert [tap.draw for tap in copy.taps] == [0, 1]
    assert len(copy.drawn) == 2
    for _, stated, true in laws(copy, images):
        assert stated == pytest.approx(true, rel=1e-4)


def test_a_sum_of_three_has_two_older_summands():
    x = keras.Input((4, 4, 2))
    a, b, c = conv(x), conv(x), conv(x)
    h = layers.ReLU()(layers.Add()([a, b, c]))
    copy, images = copied(head(x, layers.Flatten()(h)))
    centres = [tap.centre is not None for tap, _, _ in laws(copy, images)]
    assert sum(centres) == 1
