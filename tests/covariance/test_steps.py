"""Layers and models at each step of a sequence, against an oracle whose steps are images."""

import keras
import numpy as np
import pytest
from keras import layers
from oracles import full_covariance as full_oracle

import keras2gp
from keras2gp.errors import UnsupportedModelError

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
VIDEO = (2, 3, 2, 2)
WORDS = 5


def each(layer, x):
    return layers.TimeDistributed(layer)(x)


def conv(window=2, activation="relu", **settings):
    return layers.Conv2D(6, window, activation=activation, **(HE | {"padding": "same"} | settings))


def dense(units=6, activation="relu"):
    return layers.Dense(units, activation, **HE)


def network(*inside, shape=VIDEO[1:], dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *inside])


def pooled():
    return network(conv(), layers.AveragePooling2D(2, 1), conv(1), layers.GlobalAveragePooling2D())


def average(x):
    return getattr(layers, f"GlobalAveragePooling{len(x.shape) - 2}D")()(x)


def over_steps(x, window=2):
    return layers.Conv1D(6, window, padding="same", activation="relu", **HE)(x)


def rnn(x, **settings):
    return layers.SimpleRNN(6, activation="relu", **HE, **settings)(x)


def residual():
    x = keras.Input((3, 2, 6))
    return keras.Model(x, layers.Add()([conv()(layers.LayerNormalization()(x)), x]))


def sentences():
    words = layers.Embedding(WORDS, 6)
    return network(words, layers.GlobalAveragePooling1D(), shape=(3,), dtype="int32")


CASES = {
    "a convolution": (VIDEO, lambda x: average(each(conv(), x))),
    "convolutions and pooling": (VIDEO, lambda x: average(
        each(layers.AveragePooling2D((2, 1)), each(conv(), each(conv(1, None), x))))),
    "a network, averaged": (VIDEO, lambda x: average(each(pooled(), x))),
    "a network, then a convolution over the steps": (VIDEO, lambda x: average(over_steps(each(
        pooled(), x)))),
    "a network, then a recurrence": (VIDEO, lambda x: rnn(each(pooled(), x))),
    "a network that flattens": (VIDEO, lambda x: average(over_steps(each(network(
        conv(), layers.Flatten(), dense()), x)))),
    "steps of random maps": (VIDEO, lambda x: average(each(pooled_of(6), layers.Conv3D(
        6, 2, padding="same", activation="relu", **HE)(x)))),
    "a residual network": (VIDEO, lambda x: average(each(residual(), each(conv(1, None), x)))),
    "convolutions over sequences": ((3, 4, 2), lambda x: average(each(
        layers.Conv1D(6, 2, strides=2, activation="relu", **HE), x))),
    "a transposed convolution": ((2, 2, 3, 2), lambda x: average(each(
        layers.Conv2DTranspose(6, 2, activation="relu", **HE), x))),
    "a recurrence at each step": ((3, 4, 2), lambda x: average(each(
        layers.SimpleRNN(6, activation="relu", **HE), x))),
    "steps of steps": ((2, 2, 3, 2), lambda x: average(each(network(
        layers.TimeDistributed(layers.Conv1D(6, 2, activation="relu", **HE)), conv(),
        layers.GlobalAveragePooling2D(), shape=(2, 3, 2)), x))),
    "normalisation of each step": ((3, 4), lambda x: average(dense()(each(
        layers.LayerNormalization(), dense()(x))))),
    "data changed at each step": (VIDEO, lambda x: average(each(conv(), each(
        layers.MaxPooling2D(2, 1), each(layers.Rescaling(0.5, 0.25), x))))),
    "other axes at each step": (VIDEO, lambda x: each(network(
        layers.Reshape((2, 3, 6)), conv(2), shape=(3, 2, 6)), each(conv(), x))),
    "a sequence of positions at each step": (VIDEO, lambda x: average(over_steps(each(network(
        conv(), layers.Reshape((6, 6)), dense(), layers.GlobalAveragePooling1D()), x)))),
    "units over positions at each step": ((3, 4), lambda x: average(over_steps(each(network(
        dense(12, None), layers.Reshape((2, 2, 3)), conv(), layers.GlobalAveragePooling2D(),
        shape=(4,)), x)))),
    "bilinear upsampling": (VIDEO, lambda x: average(each(network(
        layers.UpSampling2D((2, 1), interpolation="bilinear"), conv(), shape=(3, 2, 6)),
        each(conv(), x)))),
    "padding, cropping, upsampling": (VIDEO, lambda x: average(each(network(
        layers.ZeroPadding2D(1), conv(), layers.Cropping2D(1), layers.UpSampling2D((2, 1)),
        conv(1)), x))),
}  # fmt: skip


def pooled_of(channels):
    return network(conv(), layers.GlobalAveragePooling2D(), shape=(3, 2, channels))


def model_of(shape, function):
    x = keras.Input(shape)
    h = function(x)
    return keras.Model(x, layers.Dense(3, **HE)(layers.Flatten()(h) if len(h.shape) > 2 else h))


QUICK = {
    "a network, then a recurrence", "data changed at each step", "normalisation of each step",
    "a recurrence at each step",
}  # fmt: skip
"""Cases that are tested by default; the others are slow."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES],
)
def test_agrees_with_all_positions(case, rng):
    model = model_of(*CASES[case])
    x = rng.normal(size=(4, *model.input_shape[1:]))
    kernel = keras2gp.convert(model, dtype="float64")
    nngp, ntk = np.asarray(kernel.matrix(x, None, "both"))
    np.testing.assert_allclose(nngp, full_oracle.full_kernel(model, x, x), rtol=1e-9)
    tangent = full_oracle.full_tangent(model, x[:2], x[2:])
    np.testing.assert_allclose(ntk[:2, 2:], tangent, rtol=1e-9)
    np.testing.assert_allclose(kernel.diag(x), nngp.diagonal(), rtol=1e-12)


def test_words_of_sentences(rng):
    x = keras.Input((4, 3), dtype="int32")
    model = keras.Model(x, dense(1, None)(average(each(sentences(), x))))
    words = rng.integers(0, WORDS, (4, 4, 3))
    found = keras2gp.convert(model, dtype="float64")(words)
    np.testing.assert_allclose(found, full_oracle.full_kernel(model, words, words), rtol=1e-9)


FLAT = {
    "a dense layer": lambda h: each(layers.Dropout(0.1), dense()(h)),
    "an activation and a dense layer": lambda h: each(dense(), each(layers.ReLU(), h)),
    "a convolution over the steps": lambda h: over_steps(layers.Dropout(0.1)(h)),
    "a vector of all steps": lambda h: layers.Flatten()(each(layers.Dropout(0.1), h)),
    "a network": lambda h: each(network(dense(), shape=(36,)), h),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=() if c.startswith("a convolution") else pytest.mark.slow)
        for c in FLAT
    ],
)
def test_steps_that_were_flattened_are_seen_whole(case, rng):
    """As 1x1 maps of as many channels: a window over all of a step is a dense layer on it."""
    x = rng.normal(size=(3, *VIDEO))

    def flat(x):
        return FLAT[case](each(layers.Flatten(), each(conv(activation=None), x)))

    def whole(x):
        h = each(conv(activation=None), x)
        if case == "a vector of all steps":
            return layers.Flatten()(h)
        h = layers.ReLU()(h) if case.startswith("an activation") else h
        h = layers.Conv3D(6, (2 if "steps" in case else 1, 3, 2), padding="valid", **HE)(
            layers.ZeroPadding3D(((0, 1) if "steps" in case else (0, 0), (0, 0), (0, 0)))(h)
        )
        return layers.Reshape((2, 6))(layers.ReLU()(h))

    models = [model_of(VIDEO, function) for function in (flat, whole)]
    kernels = [keras2gp.convert(model, dtype="float64") for model in models]
    for kind in ("nngp", "ntk"):
        found, expected = (kernel(x, get=kind) for kernel in kernels)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_mean_of_flattened_steps_is_that_of_the_maps(rng):
    x = rng.normal(size=(3, *VIDEO))
    models = [
        model_of(VIDEO, lambda x: average(each(layers.Flatten(), each(conv(), x)))),
        model_of(VIDEO, lambda x: keras.ops.mean(each(conv(), x), axis=1)),
    ]
    kernels = [keras2gp.convert(model, dtype="float64") for model in models]
    for kind in ("nngp", "ntk"):
        one, other = (kernel(x, get=kind) for kernel in kernels)
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_steps_of_steps_that_were_flattened_are_apart(rng):
    """Each step of each step is a vector of its own: as many steps of one sequence."""
    x = rng.normal(size=(3, 6, 3, 2))

    def flat(h):
        return layers.TimeDistributed(layers.Flatten())(each(network(
            layers.Conv1D(6, 2, activation="relu", **HE), shape=(3, 2)), h))  # fmt: skip

    def nested(h):
        inside = network(
            layers.TimeDistributed(layers.Conv1D(6, 2, activation="relu", **HE)),
            layers.TimeDistributed(layers.Flatten()),
            shape=(3, 3, 2),
        )
        return layers.Reshape((6, 6))(dense()(each(inside, h)))

    models = [
        model_of((6, 3, 2), lambda h: dense()(flat(h))),
        model_of((2, 3, 3, 2), nested),
    ]
    kernels = [keras2gp.convert(model, dtype="float64") for model in models]
    for kind in ("nngp", "ntk"):
        one, other = (
            k(x.reshape(3, *model.input_shape[1:]), get=kind)
            for k, model in zip(kernels, models, strict=True)
        )
        np.testing.assert_allclose(other, one, rtol=1e-12)


@pytest.mark.slow
def test_calls_on_each_step_are_the_same_network(rng):
    """The steps of TimeDistributed are calls of one network: of different steps too."""
    x = rng.normal(size=(3, *VIDEO))

    def apart(x):
        inside = pooled()
        return layers.Average()([inside(x[:, t]) for t in range(VIDEO[0])])

    models = [model_of(VIDEO, f) for f in (lambda x: average(each(pooled(), x)), apart)]
    kernels = [keras2gp.convert(model, dtype="float64") for model in models]
    for kind in ("nngp", "ntk"):
        found, expected = (kernel(x, get=kind) for kernel in kernels)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


class Gate(keras.layers.Layer):
    """A layer with code of its own."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.first, self.second = dense(activation=None), dense(activation=None)

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)

    def compute_output_shape(self, shape):
        return self.first.compute_output_shape(shape)

    def call(self, x):
        return self.first(x) * keras.ops.erf(self.second(x))


def test_code_of_the_users_is_traced_for_one_step(rng):
    x = rng.normal(size=(3, 4, 2))
    models = [model_of((4, 2), f) for f in (lambda x: average(each(Gate(), x)),
                                            lambda x: average(Gate()(x)))]  # fmt: skip
    kernels = [keras2gp.convert(model, dtype="float64") for model in models]
    np.testing.assert_allclose(kernels[0](x), kernels[1](x), rtol=1e-12)


def test_rows_of_the_report_and_outputs_are_those_of_the_layers_inside(rng, tmp_path):
    inside = network(conv(2, None, name="a"), layers.GlobalAveragePooling2D())
    steps = layers.TimeDistributed(inside, name="steps")
    model = model_of(VIDEO, lambda x: average(steps(x)))
    report = keras2gp.inspect(model)
    rows = {row.path: row.became for row in report.rows}
    assert rows["steps"] == "each of 2 steps"
    assert rows["steps/a"].startswith("convolution 2x2")
    kernel = keras2gp.convert(
        model, dtype="float64", output="steps/a", overrides={"steps/*": (2.0, 0.0)}
    )
    assert kernel.report.exact
    x = rng.normal(size=(3, *VIDEO))
    model.save(tmp_path / "model.keras")
    loaded = keras2gp.convert(tmp_path / "model.keras", dtype="float64")
    np.testing.assert_array_equal(loaded(x), keras2gp.convert(model, dtype="float64")(x))
    loaded.save(tmp_path / "kernel")
    np.testing.assert_array_equal(keras2gp.load(tmp_path / "kernel")(x), loaded(x))


REFUSED = {
    "channels between": (
        lambda x: each(conv(data_format="channels_first"), x), "between the steps"
    ),
    "LSTM inside": (lambda x: each(network(layers.Reshape((6, 2)), layers.LSTM(4)), x), "gates"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_reason(case):
    function, why = REFUSED[case]
    model = model_of(VIDEO, function)
    with pytest.raises(UnsupportedModelError, match=why) as error:
        keras2gp.convert(model)
    assert all(obstacle.hint for obstacle in error.value.obstacles)
