"""Sums over pairs of fields (factorisation machines), beside the sum of the products of pairs."""

from itertools import combinations

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras2gp
from keras2gp.errors import UnsupportedModelError

UNITS, WORDS, VARIANCE = 4, 3, 0.25
LAW = {"embeddings_initializer": keras.initializers.RandomNormal(stddev=VARIANCE**0.5)}


def fields(count, shape=(1,)):
    inputs = [keras.Input(shape, dtype="int32") for _ in range(count)]
    return inputs, [layers.Embedding(WORDS, UNITS, **LAW)(x) for x in inputs]


def vectors(count):
    inputs, looked_up = fields(count)
    return inputs, [layers.Flatten()(each) for each in looked_up]


def pairs_of(joined):
    """Half of the square of the sum less the sum of squares, over an axis of fields."""
    square, squares = ops.square(ops.sum(joined, axis=1)), ops.sum(ops.square(joined), axis=1)
    return 0.5 * ops.sum(square - squares, axis=1, keepdims=True)


def stacked(count):
    inputs, looked_up = fields(count, ())
    return inputs, pairs_of(ops.stack(looked_up, axis=1))


def concatenated(count):
    inputs, looked_up = fields(count)
    return inputs, pairs_of(layers.Concatenate(axis=1)(looked_up))


def added(count):
    inputs, looked_up = vectors(count)
    whole = layers.Add()(looked_up)
    made = 0.5 * (whole * whole - layers.Add()([each * each for each in looked_up]))
    return inputs, ops.sum(made, axis=1, keepdims=True)


def dots(count):
    inputs, looked_up = vectors(count)
    return inputs, layers.Add()([layers.Dot(1)(list(p)) for p in combinations(looked_up, 2)])


def with_kept_axes(count):
    """As in DeepCTR: sums that keep the axis of fields, and one over the last that does not."""
    inputs, looked_up = fields(count)
    joined = layers.Concatenate(axis=1)(looked_up)
    total = ops.sum(joined, axis=1, keepdims=True)
    squares = ops.sum(joined * joined, axis=1, keepdims=True)
    return inputs, 0.5 * ops.sum(ops.square(total) - squares, axis=2, keepdims=False)


def powers(count):
    inputs, looked_up = fields(count)
    joined = layers.Concatenate(axis=1)(looked_up)
    pairs = ops.power(ops.sum(joined, axis=1), 2) - ops.sum(ops.power(joined, 2), axis=1)
    return inputs, 0.5 * ops.sum(pairs, axis=1, keepdims=True)


WAYS = {
    "stacked": stacked,
    "concatenated": concatenated,
    "added": added,
    "dots": dots,
    "with kept axes": with_kept_axes,
    "powers": powers,
}


@pytest.mark.parametrize(
    ("way", "count"),
    [
        ("stacked", 4),
        ("with kept axes", 3),
        *(pytest.param(way, 3, marks=pytest.mark.slow) for way in WAYS if way != "with kept axes"),
        pytest.param("concatenated", 14, marks=pytest.mark.slow),
    ],
)
def test_pairs_of_fields_are_products(way, count, rng):
    """k = C times the sum over pairs of k_i k_j, and as much for the weights of either."""
    inputs, output = WAYS[way](count)
    x = [rng.integers(0, WORDS, (5, *i.shape[1:])) for i in inputs]
    kernel = keras2gp.convert(keras.Model(inputs, output), dtype="float64")
    alike = [VARIANCE * (each.reshape(5, 1) == each.reshape(1, 5)) for each in x]
    expected = UNITS * sum(a * b for a, b in combinations(alike, 2))
    nngp, ntk = np.asarray(kernel.matrix(x, None, "both"))
    np.testing.assert_allclose(nngp, expected, rtol=1e-12)
    np.testing.assert_allclose(ntk, 2.0 * expected, rtol=1e-12)


@pytest.mark.slow
def test_a_network_on_the_same_fields_is_independent_of_their_pairs(rng):
    """DeepFM: linear terms, pairs of fields, and a network on all of them."""
    inputs, looked_up = fields(3, ())
    joined = ops.stack(looked_up, axis=1)
    linear = layers.Add()([layers.Flatten()(layers.Embedding(WORDS, 1)(x)) for x in inputs])
    deep = layers.Dense(1)(layers.Dense(8, activation="relu")(layers.Flatten()(joined)))
    parts = linear, pairs_of(joined), deep
    x = [rng.integers(0, WORDS, 5) for _ in inputs]
    whole, *kernels = (
        keras2gp.convert(keras.Model(inputs, output), dtype="float64")
        for output in (layers.Add()(parts), *parts)
    )
    np.testing.assert_allclose(whole(x), sum(kernel(x) for kernel in kernels), rtol=1e-12)


@pytest.mark.slow
def test_random_networks_have_this_covariance(rng):
    x = rng.integers(0, WORDS, (3, 4))
    drawn = rng.normal(size=(40000, 3, WORDS, UNITS)) * VARIANCE**0.5
    e = np.stack([drawn[:, f, x[f]] for f in range(3)], axis=1)  # [draws, fields, images, units]
    value = 0.5 * (e.sum(1) ** 2 - (e**2).sum(1)).sum(-1)
    products = value[:, :, None] * value[:, None, :]
    inputs, output = concatenated(3)
    found = keras2gp.convert(keras.Model(inputs, output))([each[:, None] for each in x])
    error = products.std(0) / np.sqrt(len(products))
    assert (np.abs(products.mean(0) - found) < 5 * error + 1e-9).all()


REFUSED = {
    "fields of one table": pairs_of,
    "squares that stay": lambda joined: ops.square(ops.sum(joined, axis=1)) - ops.sum(
        0.5 * ops.square(joined), axis=1),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_depends_on_itself_is_refused(case):
    if case == "fields of one table":
        inputs = [keras.Input((3,), dtype="int32")]
        joined = layers.Embedding(WORDS, UNITS)(inputs[0])
    else:
        inputs, looked_up = fields(3)
        joined = layers.Concatenate(axis=1)(looked_up)
    output = layers.Dense(1)(REFUSED[case](joined))
    with pytest.raises(UnsupportedModelError, match="same random layer"):
        keras2gp.convert(keras.Model(inputs, output))
