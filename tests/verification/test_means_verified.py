"""Random networks of models whose process has a mean."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras2gp
from keras2gp.errors import WideningError

Constant = keras.initializers.Constant


def hidden(x):
    return layers.Dense(8, "relu", kernel_initializer="he_normal")(x)


def model_of(function):
    x = keras.Input((3,))
    return keras.Model(x, function(x))


MODELS = {
    "constant biases": lambda x: layers.Dense(4, bias_initializer=Constant(0.6))(hidden(x)),
    "unequal biases": lambda x: layers.Dense(2, bias_initializer=Constant([0.6, -1.0]))(hidden(x)),
    "a sum, under a softmax": lambda x: layers.Softmax()(layers.Dense(4)(hidden(x)) + 0.7),
    "a beta": lambda x: layers.BatchNormalization(beta_initializer=Constant(1.0))(
        layers.Dense(4)(hidden(x))
    ),
}


LONG = [pytest.param(n, marks=pytest.mark.slow) if n != "unequal biases" else n for n in MODELS]


@pytest.mark.parametrize("name", LONG)
def test_moments_less_the_mean_are_those_of_the_kernel(name):
    model = model_of(MODELS[name])
    kernel = keras2gp.convert(model, dtype="float64")
    assert kernel.mean is not None
    report = keras2gp.verify(model, kernel, widths=(8, 32), samples=100)
    assert report.verdict == "accepted"


def test_the_mean_of_finite_networks_is_that_of_the_process(rng):
    """Over random copies, within four standard errors of their mean."""
    x, copies = rng.normal(size=(3, 3)).astype("float32"), 200

    def outputs(x):
        each = [layers.Dense(2, bias_initializer=Constant([0.5, -1.0]))(hidden(x))]
        return layers.Add()([*each, layers.Dense(2)(hidden(x))]) * 2.0 + np.array([1.0, 0.0])

    model = model_of(outputs)
    mean = keras2gp.convert(model).mean(x)
    np.testing.assert_allclose(mean, np.broadcast_to([2.0, -2.0], (3, 2)), rtol=1e-6)
    drawn, run = [], tf.function(model)
    for _ in range(copies):
        for layer in model.layers:
            if isinstance(layer, layers.Dense):
                shape = layer.kernel.shape
                spread = np.sqrt(2.0 / shape[0] if layer.units == 8 else 2.0 / sum(shape))
                layer.kernel.assign(spread * rng.normal(size=shape))
        drawn.append(np.asarray(run(x)))
    error = np.std(drawn, axis=0) / np.sqrt(copies)
    assert (np.abs(np.mean(drawn, axis=0) - mean) < 4 * error).all()


@pytest.mark.slow
def test_the_layer_that_data_is_added_to_can_be_verified():
    model = model_of(lambda x: layers.Add()([x, layers.Dense(3, name="out")(hidden(x))]))
    report = keras2gp.verify(model, output="out", widths=(8, 32), samples=100)
    assert report.verdict == "accepted"


def test_calls_after_the_output_have_no_copies():
    """A recurrence that has none, and a sum with data that does not grow."""

    def behind(x):
        out = layers.Dense(3, name="out")(hidden(x))
        return layers.Add()([x, layers.GRU(3)(layers.Reshape((1, 3))(out))])

    report = keras2gp.verify(model_of(behind), output="out", widths=(4, 8), samples=20)
    assert report.verdict != "rejected"


def test_data_at_the_output_does_not_grow():
    model = model_of(lambda x: layers.Add()([x, layers.Dense(3, name="out")(hidden(x))]))
    with pytest.raises(WideningError, match="output=LAYER"):
        keras2gp.verify(model, samples=20)
