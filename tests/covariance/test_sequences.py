"""Networks of sequences against the oracle of all positions: lookups and recurrences."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from oracles import full_covariance as full_oracle
from oracles import full_weights

import keras2gp
from keras2gp.errors import InputError

BIAS = {"bias_initializer": keras.initializers.RandomNormal(stddev=0.3)}
HE = {"kernel_initializer": "he_normal", **BIAS}
WORDS = 5


def conv(x, window=3, activation="relu"):
    return layers.Conv1D(6, window, padding="same", activation=activation, **HE)(x)


def average(x):
    return layers.GlobalAveragePooling1D()(x)


def rnn(x, activation="relu", **settings):
    return layers.SimpleRNN(6, activation=activation, **(HE | settings))(x)


def steps(x, activation="relu", **settings):
    return rnn(x, activation, return_sequences=True, **settings)


def both(x, merge="concat", *, sequences=True, activation="relu", backward=None):
    inner = layers.SimpleRNN(6, activation=activation, return_sequences=sequences, **HE)
    return layers.Bidirectional(inner, merge_mode=merge, backward_layer=backward)(x)


def words(x, units=6, **settings):
    return layers.Embedding(WORDS, units, **settings)(x)


def masked(x, units=6, **settings):
    return words(x, units, mask_zero=True, embeddings_initializer="he_normal", **settings)


def last_beside_all(x):
    states, last = layers.SimpleRNN(6, "relu", return_sequences=True, return_state=True, **HE)(x)
    return layers.Concatenate()([average(states), layers.Dense(4, **HE)(last)])


LOOKUPS = {
    "lookup": ((4,), lambda x: conv(words(x))),
    "lookup pooled": ((5,), lambda x: average(conv(words(x)))),
    "lookup of wide entries": ((4,), lambda x: conv(words(x, embeddings_initializer="he_normal"))),
    "activation of a lookup": ((4,), lambda x: average(keras.ops.erf(words(x)))),
    "lookup of a map": ((3, 2), lambda x: layers.GlobalAveragePooling2D()(
        layers.Conv2D(6, 2, padding="same", activation="relu", **HE)(words(x)))),
    "one word": ((), lambda x: layers.Dense(6, activation="relu", **HE)(words(x))),
    "two lookups of the same words": ((4,), lambda x: conv(words(x) + words(x))),
    "two lookups joined": ((4,), lambda x: average(conv(
        layers.Concatenate()([words(x), words(x, 4, embeddings_initializer="he_normal")])))),
    "lookup and recurrence": ((4,), lambda x: rnn(words(x))),
    "lookup of cut words": ((5,), lambda x: conv(words(x[:, 1:]))),
}  # fmt: skip
RECURRENCES = {
    "last state": ((4, 2), rnn),
    "erf": ((4, 2), lambda x: rnn(x, keras.ops.erf)),
    "linear": ((4, 2), lambda x: rnn(x, None)),
    "leaky": ((4, 2), lambda x: rnn(x, "leaky_relu")),
    "one step": ((1, 2), rnn),
    "no biases": ((4, 2), lambda x: rnn(x, use_bias=False)),
    "weak recurrence": ((4, 2), lambda x: rnn(x, recurrent_initializer="glorot_normal")),
    "all states": ((4, 2), steps),
    "all states pooled": ((4, 2), lambda x: average(steps(x))),
    "pooled by two": ((5, 2), lambda x: layers.AveragePooling1D(2, 1)(steps(x))),
    "linear states pooled": ((4, 2), lambda x: average(steps(x, None))),
    "states through a convolution": ((5, 2), lambda x: average(conv(steps(conv(x))))),
    "stacked": ((4, 2), lambda x: rnn(steps(x))),
    "stacked and pooled": ((4, 2), lambda x: average(steps(steps(x, keras.ops.erf)))),
    "backwards": ((4, 2), lambda x: rnn(x, go_backwards=True)),
    "backwards, all states": ((4, 2), lambda x: average(conv(steps(x, go_backwards=True), 2))),
    "unrolled": ((3, 2), lambda x: rnn(x, unroll=True)),
    "dropout": ((3, 2), lambda x: rnn(x, dropout=0.2, recurrent_dropout=0.2)),
    "of channel groups": ((4, 2), lambda x: rnn(layers.Concatenate()([x, conv(x)]))),
    "beside its input": ((4, 2), lambda x: average(conv(
        (h := conv(x, activation=None)) + steps(h)))),
    "states beside their average": ((4, 2), lambda x: conv(layers.Add()([
        h := steps(x, None), layers.AveragePooling1D(3, 1, padding="same")(h)]))),
    **{
        f"both directions, {merge}, {name}": ((4, 2), lambda x, m=merge, s=sequences: (
            average(conv(both(x, m))) if s else both(x, m, sequences=False)))
        for merge in ("concat", "sum", "ave", "mul")
        for name, sequences in (("all states", True), ("last states", False))
    },
    "all states beside the last": ((4, 2), last_beside_all),
    "both directions apart": ((4, 2), lambda x: layers.Concatenate()(
        [*both(x, None, sequences=False)])),
    "both directions pooled": ((4, 2), lambda x: average(both(x, "sum"))),
    "both directions, of different activations": ((4, 2), lambda x: average(both(
        x, "sum", backward=layers.SimpleRNN(
            6, "leaky_relu", return_sequences=True, go_backwards=True, **HE)))),
}  # fmt: skip
MASKS = {
    "masked mean": ((5,), lambda x: average(masked(x))),
    "masked mean of features": ((5,), lambda x: average(
        layers.BatchNormalization()(layers.Dense(6, activation="relu", **HE)(masked(x))))),
    "masked mean of a sum": ((5,), lambda x: average(layers.Add()([masked(x), masked(x)]))),
    "masked mean, kept axis": ((5,), lambda x: layers.GlobalAveragePooling1D(keepdims=True)(
        masked(x))),
    "sum of masked means": ((5,), lambda x: layers.Dense(6, activation="relu", **HE)(
        average(layers.Dense(6, activation="relu", **HE)(masked(x)))
        + average(layers.Dense(6, activation="relu", **HE)(masked(x))) - average(words(x)))),
    "a mask that is dropped": ((5,), lambda x: average(conv(masked(x)))),
    "masked recurrence": ((5,), lambda x: rnn(masked(x))),
    "masked recurrence, linear": ((5,), lambda x: rnn(masked(x), None)),
    "masked recurrence, backwards": ((5,), lambda x: rnn(masked(x), go_backwards=True)),
    "masked states": ((5,), lambda x: average(
        steps(masked(x), keras.ops.erf, zero_output_for_mask=True))),
    "masked states through a convolution": ((5,), lambda x: conv(
        steps(masked(x), zero_output_for_mask=True))),
    "both directions, masked": ((5,), lambda x: both(masked(x), "sum", sequences=False)),
    "both directions, masked, all states": ((5,), lambda x: average(both(masked(x), "sum"))),
    "masked recurrences, stacked": ((5,), lambda x: rnn(both(masked(x)))),
}  # fmt: skip
CASES = {**{(name, "int32"): case for name, case in LOOKUPS.items()},
         **{(name, "int32"): case for name, case in MASKS.items()},
         **{(name, "float32"): case for name, case in RECURRENCES.items()}}  # fmt: skip


def model_of(case):
    shape, function = CASES[case]
    x = keras.Input(shape, dtype=case[1])
    h = function(x)
    h = layers.Flatten()(h) if len(h.shape) > 2 else h
    return keras.Model(x, layers.Dense(3, **HE)(h))


def inputs(model, rng, count):
    shape = (count, *model.input_shape[1:])
    if model.input.dtype == "int32":
        return _padded(rng.integers(1, WORDS, shape), rng)
    return rng.normal(size=shape)


def _padded(x, rng):
    """Words between zeros, which masks leave out."""
    if x.ndim == 2 and x.shape[1] == 5:
        for row in x:
            begin = rng.integers(0, 3)
            row[:begin] = 0
            row[begin + rng.integers(1, 4) :] = 0
    return x


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_agrees_with_all_positions(case, rng):
    model = model_of(case)
    x1, x2 = inputs(model, rng, 3), inputs(model, rng, 2)
    kernel = keras2gp.convert(model, dtype="float64")
    np.testing.assert_allclose(kernel(x1, x2), full_oracle.full_kernel(model, x1, x2), rtol=1e-9)
    expected = full_oracle.full_kernel(model, x1, x1).diagonal()
    np.testing.assert_allclose(kernel.diag(x1), expected, rtol=1e-9)


GAPS = {
    "last state": lambda x: rnn(masked(x)),
    "backwards": lambda x: rnn(masked(x), go_backwards=True),
    "stacked": lambda x: rnn(steps(masked(x))),
    "stacked, zeros in the gaps": lambda x: rnn(steps(masked(x), zero_output_for_mask=True)),
    "mean": lambda x: average(steps(masked(x), keras.ops.erf)),
    "layers on each step": lambda x: average(layers.Dense(6, activation="relu", **HE)(
        layers.LayerNormalization()(steps(masked(x), None)))),
    "both directions": lambda x: both(masked(x), "sum", sequences=False),
    "both directions, stacked": lambda x: rnn(both(both(masked(x)))),
    "both directions, mean": lambda x: average(both(masked(x), "sum")),
}  # fmt: skip
"""Recurrences that hold their states where a mask leaves steps out between others."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=() if c == "stacked" else pytest.mark.slow) for c in GAPS],
)
def test_states_stand_still_in_the_gaps_of_a_mask(case, rng):
    x = keras.Input((5,), dtype="int32")
    model = keras.Model(x, layers.Dense(3, **HE)(GAPS[case](x)))
    words_ = rng.integers(1, WORDS, (5, 5))
    words_[[0, 0, 1, 2, 2, 3], [1, 3, 0, 2, 4, 3]] = 0
    kernel = keras2gp.convert(model, dtype="float64")
    expected = full_oracle.full_kernel(model, words_[:3], words_[3:])
    np.testing.assert_allclose(kernel(words_[:3], words_[3:]), expected, rtol=1e-9)


@pytest.mark.slow
def test_the_tangent_kernel_of_states_that_stand_still(rng, tmp_path):
    """The steps of a saved kernel are moved together, too."""
    x = keras.Input((5, 2))
    model = keras.Model(x, layers.Dense(3, **HE)(rnn(steps(layers.Masking()(x)))))
    values = rng.normal(size=(3, 5, 2))
    values[[0, 1, 1, 2], [1, 0, 3, 2]] = 0.0
    keras2gp.convert(model, dtype="float64").save(tmp_path / "kernel")
    kernel = keras2gp.load(tmp_path / "kernel")
    expected = full_oracle.full_tangent(model, values[:2], values[2:])
    np.testing.assert_allclose(kernel(values[:2], values[2:], get="ntk"), expected, rtol=1e-9)
    np.testing.assert_allclose(kernel(values), full_oracle.full_kernel(model, values, values))


TANGENT = {
    "activation of a lookup", "last state", "linear", "all states pooled", "stacked", "backwards",
    "states through a convolution", "masked mean", "masked states",
    "both directions, sum, all states",
}  # fmt: skip
"""Cases whose tangent kernels are tested by default; the others are slow."""
EQUAL = (set(LOOKUPS) | set(MASKS)) - TANGENT - {"masked recurrence, linear"}
"""Equal words are values of correlation 1, where the oracle has no derivative for a ReLU."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if case[0] in TANGENT else pytest.mark.slow)
        for case in CASES if case[0] not in EQUAL
    ],
    ids=lambda case: case[0],
)  # fmt: skip
def test_the_tangent_kernel_agrees_with_correlated_networks(case, rng):
    model = model_of(case)
    x1, x2 = inputs(model, rng, 3), inputs(model, rng, 2)
    kernel = keras2gp.convert(model, dtype="float64")
    expected = full_oracle.full_tangent(model, x1, x2)
    np.testing.assert_allclose(kernel(x1, x2, get="ntk"), expected, rtol=1e-9)


def gaussian(scale=2.0):
    return keras.initializers.VarianceScaling(scale, "fan_in", "untruncated_normal")


@pytest.mark.slow
@pytest.mark.parametrize("recurrent", [gaussian(1.5), "orthogonal"], ids=["gaussian", "orthogonal"])
@pytest.mark.parametrize("sequences", [False, True], ids=["last", "pooled"])
def test_networks_of_finite_width_have_both_kernels(sequences, recurrent, rng):
    """The weights are the same at every step: their gradients add up before they are squared."""
    x = keras.Input((5, 3))
    settings = {"kernel_initializer": gaussian(), "recurrent_initializer": recurrent}
    settings |= {"bias_initializer": keras.initializers.RandomNormal(stddev=0.5)}
    h = layers.SimpleRNN(300, return_sequences=sequences, **settings)(x)
    h = average(h) if sequences else h
    model = keras.Model(x, layers.Dense(1, kernel_initializer=gaussian(1.0))(h))
    images = rng.normal(size=(3, 5, 3)).astype("float32")
    kernel = keras2gp.convert(model, dtype="float64")
    expected = np.asarray(kernel.matrix(images, get="both"))
    factors = [v.weight for v in kernel.parameters.values()]
    assert len(factors) == 3
    variables = model.trainable_variables
    initializers = [_initializer(model, variable) for variable in variables]
    variances = [
        full_weights.variance(i, v.shape) for i, v in zip(initializers, variables, strict=True)
    ]

    @tf.function
    def kernels():
        with tf.GradientTape(persistent=True) as tape:
            y = tf.cast(model(images), tf.float64)
            outputs = tf.unstack(y[:, 0])
        rows = [tape.gradient(output, [v.value for v in variables]) for output in outputs]
        ntk = 0.0
        for number, variance in enumerate(variances):
            matrix = tf.stack([tf.reshape(row[number], [-1]) for row in rows])
            ntk += variance * tf.cast(tf.matmul(matrix, matrix, transpose_b=True), tf.float64)
        return tf.stack([tf.matmul(y, y, transpose_b=True), ntk])

    drawn = []
    for _ in range(200):
        for variable, initializer in zip(variables, initializers, strict=True):
            if "seed" in (settings := initializer.get_config()):
                settings["seed"] = int(rng.integers(2**31))
                variable.assign(type(initializer)(**settings)(variable.shape))
        drawn.append(np.asarray(kernels()))
    mean, error = np.mean(drawn, axis=0), np.std(drawn, axis=0) / np.sqrt(len(drawn))
    assert (np.abs(mean - expected) < 4 * error + 0.01 * expected.max()).all(), (mean, expected)


def _initializer(model, variable):
    layer = next(a for a in model.layers if any(v is variable for v in a.trainable_variables))
    name = variable.name.replace("recurrent_kernel", "recurrent")
    return getattr(getattr(layer, "cell", layer), f"{name}_initializer")


@pytest.mark.parametrize("activation", [None, "relu"])
def test_data_of_one_channel_weighs_positions(activation, rng):
    """k' = b2 + w2 mean of w1 w2 k over positions, of what the positions have without it."""
    x = keras.Input((4, 2))
    weights = {"kernel_initializer": "he_normal"}
    h = keras.layers.Conv1D(6, 2, padding="same", activation=activation, **weights)(x)
    numbers = keras.ops.sum(keras.ops.square(x), axis=-1, keepdims=True)
    end = keras.layers.Dense(3, **weights)
    one = keras2gp.convert(keras.Model(x, keras.layers.Dense(3, **weights)(h)), dtype="float64")
    weighed = keras.Model(x, end(keras.layers.Flatten()(h * numbers)))
    kernel = keras2gp.convert(weighed, dtype="float64")
    a, b = rng.normal(size=(2, 4, 2)), rng.normal(size=(3, 4, 2))
    w1, w2 = ((v**2).sum(-1) for v in (a, b))
    for kind in ("nngp", "ntk"):
        expected = np.einsum("ijt,it,jt->ij", np.asarray(one(a, b, get=kind)), w1, w2) / 4
        np.testing.assert_allclose(kernel(a, b, get=kind), expected, rtol=1e-9)


def test_weights_of_positions_below_0_are_no_number(rng):
    x = keras.Input((4, 2))
    h = keras.layers.Dense(6, activation="relu")(x) * x[..., :1]
    kernel = keras2gp.convert(keras.Model(x, keras.layers.Dense(1)(keras.layers.Flatten()(h))))
    with pytest.raises(InputError):
        kernel(-np.ones((2, 4, 2)))


def test_a_gaussian_tensor_is_weighed_by_numbers_of_any_sign(rng):
    """A constraint at a border: x (1 - x) f(x), whose output has one unit."""
    x = keras.Input((3,))
    f = keras.layers.Dense(1)(keras.ops.relu(keras.layers.Dense(8)(x)))
    factor = x[:, :1] * (1.0 - x[:, 1:2])
    plain, kernel = (keras2gp.convert(keras.Model(x, y), dtype="float64") for y in (f, f * factor))
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(2, 3))
    w1, w2 = (v[:, 0] * (1.0 - v[:, 1]) for v in (a, b))
    for one, other in zip(plain.matrix(a, b, "both"), kernel.matrix(a, b, "both"), strict=True):
        np.testing.assert_allclose(other, one * np.outer(w1, w2), rtol=1e-9)


def test_numbers_of_any_sign_before_an_activation(rng):
    """relu(w u) is w relu(u) for a w from 0 on, and -w relu(-u) below; -u is u in law."""
    x = keras.Input((3,))
    h, end = keras.layers.Dense(8)(x), keras.layers.Dense(1)
    inside, outside = (
        keras2gp.convert(keras.Model(x, end(keras.ops.relu(y))), dtype="float64")
        for y in (h * x[:, :1], h)
    )
    a, b = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    products = np.outer(a[:, 0], b[:, 0])
    alike, scaled = products > 0.0, np.asarray(outside(a, b)) * np.abs(products)
    assert alike.any()
    assert not alike.all()
    np.testing.assert_allclose(np.asarray(inside(a, b))[alike], scaled[alike], rtol=1e-9)


def test_a_constraint_is_that_of_wide_copies():
    x = keras.Input((3,))
    f = keras.layers.Dense(1)(keras.layers.Dense(8, activation="relu")(x))
    report = keras2gp.verify(keras.Model(x, f * x[:, :1]), widths=(8, 32), samples=100, units=64)
    assert report.accepted, report
