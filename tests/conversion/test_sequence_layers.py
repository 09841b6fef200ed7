"""Layers of sequences: settings of lookups and recurrences that have no rule, and their inputs."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras2gp
from keras2gp.errors import InputError, UnsupportedModelError
from keras2gp.graph.analysis import Analysis


def model_of(function, shape=(4, 2), dtype="float32"):
    x = keras.Input(shape, dtype=dtype)
    h = function(x)
    h = layers.Flatten()(h) if len(h.shape) > 2 else h
    return keras.Model(x, layers.Dense(1)(h))


def words(x, count=5, **settings):
    return layers.Embedding(count, 6, **settings)(x)


REFUSED = {
    "stateful": (
        lambda x: layers.SimpleRNN(4, stateful=True)(x), "kept from one batch to the next"
    ),
    "first state": (
        lambda x: layers.SimpleRNN(4)(x, initial_state=layers.Dense(4)(layers.Flatten()(x))),
        "first state is given",
    ),
    "LSTM": (lambda x: layers.LSTM(4)(x), "gates multiply"),
    "both directions of LSTM": (
        lambda x: layers.Bidirectional(layers.LSTM(4))(x), "of its LSTM: its gates multiply"
    ),
    "softmax between steps": (
        lambda x: layers.SimpleRNN(4, activation="softmax")(x), "mixes the channels"
    ),
    "a mean": (lambda x: layers.SimpleRNN(4, recurrent_initializer="identity")(x), "has a mean"),
    "a mean of entries": (
        lambda x: words(x[:, :, 0], embeddings_initializer="ones"), "has a mean"
    ),
    "more words than float32 tells apart": (
        lambda x: words(x[:, :, 0], 2**24 + 1), "does not tell its 16777217 integers apart"
    ),
    "repeated states": (
        lambda x: layers.SimpleRNN(4, return_sequences=True)(layers.Masking()(x)),
        "repeats the state before",
    ),
    "repeated states beside others": (
        lambda x: layers.GlobalAveragePooling1D()(layers.Conv1D(4, 3)(
            layers.SimpleRNN(4, return_sequences=True)(layers.Masking()(x)))),
        "takes notice of these steps",
    ),
    "repeated states, the other way": (
        lambda x: layers.SimpleRNN(4)(layers.SimpleRNN(4, return_sequences=True, go_backwards=True)(
            layers.Masking()(x))),
        "takes notice of these steps",
    ),
    "a mask of random numbers": (
        lambda x: layers.GlobalAveragePooling1D()(layers.Masking()(layers.Dense(4)(x))),
        "",
    ),
    "words of random numbers": (
        lambda x: words(layers.Dense(4)(x)), "what random weights give"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_state_their_reason(name):
    function, words_of_reason = REFUSED[name]
    batch = {"batch_size": 2} if name == "stateful" else {}
    x = keras.Input((4, 2), **batch)
    h = function(x)
    model = keras.Model(x, layers.Dense(1)(layers.Flatten()(h)))
    with pytest.raises(UnsupportedModelError) as caught:
        keras2gp.convert(model)
    obstacle = caught.value.obstacles[0]
    assert words_of_reason in obstacle.why
    assert obstacle.hint


def test_what_recurrences_become_in_the_report():
    model = model_of(lambda x: layers.SimpleRNN(4, name="rnn", go_backwards=True)(x))
    report = keras2gp.inspect(model)
    rows = {row.path: (row.became, row.variances) for row in report.rows}
    assert rows["rnn"][0] == "recurrence over 4 steps, tanh"
    assert rows["rnn/input"][1].weight == pytest.approx(2 / (1 + 4 / 2))
    assert rows["rnn/recurrent"][1] == keras2gp.LayerVariances(1.0)


def test_the_last_state_needs_no_offsets():
    kernel = keras2gp.convert(model_of(lambda x: layers.SimpleRNN(4)(x)))
    offsets = Analysis.of(kernel.graph).offsets
    assert {d for of_node in offsets for d in of_node} <= {(), (0,)}


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64"])
def test_integers_that_are_none_are_refused_with_their_place(dtype):
    kernel = keras2gp.convert(model_of(words, (3,), dtype))
    x = np.array([[0.0, 4.0, 1.0], [2.0, 2.0, 0.0]])
    assert np.asarray(kernel(x)).shape == (2, 2)
    for value, reason in ((5.0, "from 0 to 4"), (-1.0, "from 0 to 4"), (1.5, "1.5"), (1e12, "1e")):
        bad = x.copy()
        bad[1, 2] = value
        with pytest.raises(InputError, match=r"\(1, 2\)") as caught:
            kernel(bad)
        assert reason in str(caught.value)


def test_numbers_of_any_type_are_taken_where_they_are_whole():
    kernel = keras2gp.convert(model_of(words, (3,), "int32"))
    x = np.array([[0, 4, 1], [2, 2, 0]])
    expected = np.asarray(kernel(x))
    for dtype in ("int8", "int64", "float32", "float64"):
        np.testing.assert_array_equal(kernel(x.astype(dtype)), expected)


def test_words_of_two_inputs_and_of_two_sizes():
    """The same words in lookups of other sizes are other inputs of the graph."""
    a, b = keras.Input((3,), dtype="int32"), keras.Input((2,))
    h = layers.Concatenate(axis=1)([words(a), words(b), words(a, 7)])
    model = keras.Model([a, b], layers.Dense(1)(layers.Flatten()(h)))
    kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.0)}, dtype="float64")
    x = [np.array([[0, 1, 2], [0, 2, 2]]), np.array([[3, 4], [3, 1]])]
    np.testing.assert_allclose(kernel(x), [[1.0, 5 / 8], [5 / 8, 1.0]])


def test_lookups_and_recurrences_are_saved(tmp_path):
    model = model_of(
        lambda x: layers.Bidirectional(layers.SimpleRNN(4, activation="relu"))(words(x)),
        (3,), "int32",
    )  # fmt: skip
    kernel = keras2gp.convert(model, dtype="float64")
    kernel.save(tmp_path / "kernel")
    loaded = keras2gp.load(tmp_path / "kernel")
    x = np.array([[0, 4, 1], [2, 2, 0]])
    np.testing.assert_array_equal(loaded(x), kernel(x))
    assert loaded.inputs == kernel.inputs
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras2gp.convert(tmp_path / "model.keras", dtype="float64")(x),
                                  kernel(x))  # fmt: skip


WORDS = np.array([[1, 2, 3, 0], [0, 4, 0, 0], [2, 2, 1, 3]])


def averaged(x, **settings):
    return layers.GlobalAveragePooling1D()(x, **settings)


def test_a_masked_mean_counts_what_is_not_masked():
    initializer = keras.initializers.RandomNormal(stddev=1.0)
    model = model_of(lambda x: averaged(
        words(x, mask_zero=True, embeddings_initializer=initializer)), (4,), "int32")  # fmt: skip
    kernel = keras2gp.convert(model, overrides={"dense*": (1.0, 0.0)}, dtype="float64")
    expected = [[1 / 3, 0, 1 / 3], [0, 1, 0], [1 / 3, 0, 6 / 16]]
    np.testing.assert_allclose(kernel(WORDS), expected, rtol=1e-12, atol=1e-15)


def test_a_mask_that_is_handed_over_and_one_of_masking_are_read():
    x = rng_images()
    stated = keras.Input((4, 2))
    mask = keras.ops.any(keras.ops.not_equal(stated, 0.0), axis=-1)
    h = averaged(layers.Dense(4, activation="relu")(stated), mask=mask)
    by_hand = keras.Model(stated, layers.Dense(1)(h))
    by_layer = model_of(lambda x: averaged(layers.Dense(4, activation="relu")(layers.Masking()(x))))
    kernels = [keras2gp.convert(model, dtype="float64") for model in (by_hand, by_layer)]
    np.testing.assert_allclose(kernels[0](x), kernels[1](x), rtol=1e-12)
    unmasked = keras2gp.convert(
        model_of(lambda x: averaged(layers.Dense(4, activation="relu")(x))), dtype="float64"
    )
    assert not np.allclose(kernels[0](x), unmasked(x))


def rng_images():
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    x[0, 2:] = x[1, 1:] = 0.0
    return x


def test_masks_without_weights_are_refused():
    mean = keras2gp.convert(model_of(
        lambda x: averaged(words(x, mask_zero=True)), (4,), "int32"))  # fmt: skip
    recurrence = keras2gp.convert(model_of(
        lambda x: layers.SimpleRNN(4)(words(x, mask_zero=True)), (4,), "int32"))  # fmt: skip
    convolved = keras2gp.convert(model_of(
        lambda x: layers.SimpleRNN(4)(
            layers.Conv1D(4, 3, padding="same")(words(x)), mask=ops.not_equal(x, 0)),
        (4,), "int32"))  # fmt: skip
    for kernel, row in ((mean, [0] * 4), (recurrence, [0] * 4), (convolved, [1, 0, 2, 0])):
        with pytest.raises(InputError, match=r"image 1\. Its mask may leave out"):
            kernel(np.array([[1, 2, 0, 0], row]))
    assert np.isfinite(recurrence(np.array([[0, 1, 2, 0], [1, 0, 2, 0]]))).all()


class Own(layers.Layer):
    """A layer with code of the user's, which hands its masks on or does not."""

    def __init__(self, inside, *, masks=False, **settings):
        super().__init__(**settings)
        self.inside, self.supports_masking = inside, masks

    def call(self, x):
        return self.inside(x)


class Averages(layers.Layer):
    """A layer whose code takes the mask of its input."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.dense, self.mean = layers.Dense(6), layers.GlobalAveragePooling1D()

    def call(self, x, mask=None):
        return self.mean(self.dense(x), mask=mask)


def within(*inside):
    """A nested model on sequences."""
    return keras.Sequential([keras.Input((4, 6)), *inside])


def rnn(x, **settings):
    return layers.SimpleRNN(6, "relu")(x, **settings)


def masked(x):
    return words(x, mask_zero=True)


WITHIN = {
    "code that drops it": (lambda x: averaged(Own(layers.Dense(6))(masked(x))),
                           lambda x: averaged(layers.Dense(6)(words(x)))),
    "code that hands it on": (lambda x: averaged(Own(layers.Dense(6), masks=True)(masked(x))),
                              lambda x: averaged(layers.Dense(6)(masked(x)))),
    "a recurrence inside": (lambda x: Own(layers.SimpleRNN(6, "relu"))(masked(x)),
                            lambda x: rnn(masked(x))),
    "code that takes it": (lambda x: Averages()(masked(x)),
                           lambda x: averaged(layers.Dense(6)(masked(x)))),
    "a nested model": (
        lambda x: within(layers.Dense(6), layers.SimpleRNN(6, "relu"))(masked(x)),
        lambda x: rnn(layers.Dense(6)(masked(x)))),
    "a nested model with code inside": (
        lambda x: within(Own(layers.Dense(6), masks=True), layers.GlobalAveragePooling1D())(
            masked(x)),
        lambda x: averaged(layers.Dense(6)(masked(x)))),
    "a call whose arguments are stated": (lambda x: rnn(masked(x), training=False),
                                          lambda x: rnn(masked(x))),
}  # fmt: skip


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.slow if c == "a recurrence inside" else ()) for c in WITHIN],
)
@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_masks_reach_what_keras_hands_them_to(case):
    """Each model beside one in which the mask visibly has the same way."""
    models = [model_of(function, (4,), "int32") for function in WITHIN[case]]
    x = np.array([[1, 2, 0, 0], [1, 2, 3, 3]])
    found, expected = (keras2gp.convert(model, dtype="float64")(x) for model in models)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.slow
def test_masks_are_kept_in_files(tmp_path):
    def network(x):
        h = layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True))(
            words(x, mask_zero=True))  # fmt: skip
        return averaged(h)

    model = model_of(network, (4,), "int32")
    kernel = keras2gp.convert(model, dtype="float64")
    kernel.save(tmp_path / "kernel")
    np.testing.assert_array_equal(keras2gp.load(tmp_path / "kernel")(WORDS[[0, 2]]),
                                  kernel(WORDS[[0, 2]]))  # fmt: skip
    model.save(tmp_path / "model.keras")
    loaded = keras2gp.convert(tmp_path / "model.keras", dtype="float64")
    np.testing.assert_array_equal(loaded(WORDS[[0, 2]]), kernel(WORDS[[0, 2]]))


def test_a_model_inside_passes_a_mask_by():
    inner = keras.Sequential([keras.Input((4, 6)), layers.Dense(4, activation="relu")])
    whole = model_of(lambda x: averaged(inner(words(x, mask_zero=True))), (4,), "int32")
    assert keras2gp.inspect(whole).exact


def test_a_recurrence_that_is_called_twice():
    """The difference of its states has the covariances of one recurrence between the inputs."""
    random = {"kernel_initializer": "he_normal", "recurrent_initializer": "he_normal"}
    shared = layers.SimpleRNN(4, activation="relu", **random)
    head = {"kernel_initializer": "he_normal"}
    a, b = keras.Input((4, 2)), keras.Input((4, 2))
    twins = keras.Model([a, b], layers.Dense(1, **head)(layers.Subtract()([shared(a), shared(b)])))
    x = keras.Input((4, 2))
    single = keras.Model(x, layers.Dense(1, **head)(layers.SimpleRNN(4, "relu", **random)(x)))
    first, second = np.random.default_rng(0).normal(size=(2, 3, 4, 2))
    k = np.asarray(keras2gp.convert(single, dtype="float64")(np.concatenate([first, second])))
    expected = k[:3, :3] + k[3:, 3:] - k[:3, 3:] - k[3:, :3]
    kernel = keras2gp.convert(twins, dtype="float64")
    np.testing.assert_allclose(kernel([first, second]), expected, rtol=1e-12)


@pytest.mark.usefixtures("traced")
def test_a_layer_on_the_last_axis_of_each_step_is_that_layer():
    def network(apply):
        def function(x):
            h = layers.Masking()(x)
            for layer in (layers.Dense(4, "relu", name="a"), layers.Dropout(0.1), layers.Dense(4)):
                h = apply(layer)(h)
            return averaged(apply(layers.ReLU())(h))

        return function

    models = [model_of(network(apply)) for apply in (layers.TimeDistributed, lambda layer: layer)]
    wrapped, plain = (keras2gp.convert(model, dtype="float64") for model in models)
    np.testing.assert_array_equal(wrapped(rng_images()), plain(rng_images()))
    assert len(wrapped.parameters) == 3
    assert keras2gp.verify(models[0], widths=(4, 8), samples=20).verdict != "rejected"


@pytest.mark.parametrize("mask_zero", [False, True])
def test_lengths_that_are_left_open_are_refused_with_input_shape(mask_zero):
    model = keras.Sequential([
        keras.Input((None,), dtype="int32"), layers.Embedding(9, 8, mask_zero=mask_zero),
        layers.SimpleRNN(8), layers.Dense(1),
    ])  # fmt: skip
    with pytest.raises(UnsupportedModelError, match="input_shape="):
        keras2gp.convert(model)
    keras2gp.convert(model, input_shape=(4,))
