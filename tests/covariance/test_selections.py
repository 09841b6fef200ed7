"""Positions chosen by lists, mirrors and circles, beside all positions."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from oracles.architectures import assert_both_kernels_agree, ending_dense

import keras2gp
from keras2gp.errors import UnsupportedModelError
from keras2gp.matrices import compiled

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
IMAGE = (3, 4, 2)


MATRIX = np.array([[0.5, 0.0, -1.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.25] * 4, [0.0, 0.0, 0.0, 1.0]])


def conv(x, window=2, units=6, **settings):
    return layers.Conv2D(units, window, **(HE | {"padding": "same"} | settings))(x)


def pool(x):
    return layers.AveragePooling2D(2, 1)(x)


def padded(x, mode):
    return ops.pad(x, [(0, 0), (1, 2), (0, 1), (0, 0)], mode=mode)


def residual(x):
    """A residual block whose convolutions see mirror images beyond the border."""
    h = conv(x, activation="relu")
    r = conv(padded(h, "reflect"), (4, 2), padding="valid", activation="relu")
    return pool(conv(conv(r) + h, activation="relu"))


CASES = {
    "mirrored": lambda x: conv(padded(conv(x, activation="relu"), "reflect"), 3, activation="relu"),
    "mirrored, pooled": lambda x: pool(padded(conv(x), "symmetric")),
    "mirrored before a block": residual,
    "moved in a circle": lambda x: pool(conv(conv(x)) + ops.roll(conv(x), -1, axis=1)),
    "sums up to each position": lambda x: pool(layers.ReLU()(ops.cumsum(conv(x), axis=2))),
    "sums up to each position beside a map": lambda x: conv(
        (h := conv(x, activation="relu")) + ops.cumsum(h, axis=1)),
    "a map and the same moved": lambda x: layers.ReLU()((h := conv(x)) + ops.roll(h, 3, axis=2)),
    "taken twice": lambda x: pool(layers.ReLU()(ops.take(conv(x), np.array([2, 0, 0, -1]), 2))),
    "side by side": lambda x: pool(conv(ops.tile(conv(x), [1, 1, 2, 1]), activation="relu")),
    "a matrix on positions": lambda x: pool(conv(
        ops.matmul(MATRIX[:3], conv(x, activation="relu")))),
    "a matrix beside its input": lambda x: layers.ReLU()((h := conv(x)) - ops.matmul(MATRIX, h)),
    "one row, pooled": lambda x: layers.AveragePooling1D(2, 1)(layers.ReLU()(conv(x)[:, 1])),
    "the mean of each column, pooled": lambda x: layers.AveragePooling1D(2, 1)(
        layers.Conv1D(6, 2, activation="relu", **HE)(ops.mean(conv(x), axis=1))),
    "a row added to a map, pooled": lambda x: pool(layers.ReLU()(
        layers.Add()([conv(x), conv(x)[:, 1]]))),
    "less its mean": lambda x: conv(
        (h := conv(x, activation="relu")) - ops.mean(h, axis=(1, 2), keepdims=True)),
}  # fmt: skip
QUICK = {"mirrored, pooled", "taken twice"}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES],
)
def test_agrees_with_all_positions(case, rng):
    model = ending_dense(IMAGE, CASES[case])
    assert_both_kernels_agree(model, rng.normal(size=(4, *IMAGE)))


def test_a_list_of_positions_is_their_slice(rng):
    x = rng.normal(size=(3, *IMAGE))
    taken, sliced = (
        keras2gp.convert(ending_dense(IMAGE, function), dtype="float64")(x)
        for function in (
            lambda t: conv(ops.take(conv(t), np.array([3, 1]), axis=2)),
            lambda t: conv(conv(t)[:, :, ::-2]),
        )
    )
    np.testing.assert_allclose(taken, sliced, rtol=1e-13)


def graph_network(wide):
    """Two graph convolutions of one graph, with steps last in the first of them."""
    nodes = keras.Input((4, 3))
    x = layers.Dense(6, **HE)(nodes)
    if wide:
        x = ops.matmul(MATRIX, x)
    else:
        x = layers.Permute((2, 1))(ops.matmul(layers.Permute((2, 1))(x), MATRIX.T))
    x = ops.matmul(MATRIX[None, :2], layers.Dense(6, **HE)(ops.relu(x)))
    x = layers.Dense(6, **HE)(ops.relu(layers.GlobalAveragePooling1D()(x)))
    return keras.Model(nodes, layers.Dense(1)(x))


@pytest.mark.slow
def test_a_matrix_acts_from_either_side_and_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "XLA", False)
    x = np.random.default_rng(0).normal(size=(3, 4, 3))
    left = keras2gp.convert(graph_network(True), dtype="float64")(x, x)
    right = graph_network(False)
    right.save(tmp_path / "model.keras")
    for model in (right, tmp_path / "model.keras"):
        kernel = keras2gp.convert(model, dtype="float64")
        np.testing.assert_allclose(kernel(x, x), left, rtol=1e-10)


REFUSED = {
    "mix channels": lambda x: ops.matmul(x, np.eye(6)),
    "no real matrix": lambda x: ops.matmul(np.ones((2, 4, 4)), x[:, None]),
    "no finite squares": lambda x: ops.matmul(np.full((4, 4), np.nan), x),
    "each position of a random branch": lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))),
}


@pytest.mark.parametrize("why", REFUSED)
def test_products_that_are_no_matrix_on_positions_are_refused(why):
    nodes = keras.Input((4, 3))
    x = REFUSED[why](layers.Dense(6)(nodes))
    model = keras.Model(nodes, layers.Dense(1)(layers.Flatten()(x)))
    with pytest.raises(UnsupportedModelError, match=why):
        keras2gp.convert(model)


def test_a_matrix_of_the_data_is_refused_by_its_reason():
    nodes, graph = keras.Input((4, 3)), keras.Input((4, 4))
    x = layers.Flatten()(ops.matmul(graph, layers.Dense(6)(nodes)))
    with pytest.raises(UnsupportedModelError, match="weighs positions by numbers of the data"):
        keras2gp.convert(keras.Model([nodes, graph], layers.Dense(1)(x)))
