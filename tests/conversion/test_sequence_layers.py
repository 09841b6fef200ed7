"""Layers of sequences: settings of lookups and recurrences that have no rule, and their inputs."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import keras
import numpy as np
import pytest
from keras import layers

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
