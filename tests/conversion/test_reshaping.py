"""Units over positions, axes moved, upsampling, padding: what is read, and what is refused."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import HE, IMAGE, conv, kernel_of, matrix, refusal, specs, tensor_of

from keras2gp.graph.ops import Crop, Pad, Reshape, Spread, Upsample


def dense(x, units=24, **settings):
    return layers.Dense(units, **(HE | settings))(x)


def test_units_of_a_vector_over_positions():
    tensor, nodes = tensor_of(lambda x: layers.Reshape((2, 3, 4))(dense(x)), (5,))
    assert tensor.shape == (2, 3, 4)
    assert [part.channels for part in tensor.parts] == [4]
    assert nodes[tensor.parts[0].node].op == Spread((2, 3))
    assert not tensor.flat


DECODERS = {
    "Reshape": lambda x: layers.Reshape((6, 4))(dense(x)),
    "keras.ops": lambda x: ops.reshape(dense(x), (-1, 6, 4)),
    "twice": lambda x: layers.Reshape((6, 4))(layers.Reshape((2, 3, 4))(dense(x))),
    "after Flatten": lambda x: layers.Reshape((6, 4))(
        layers.Flatten()(layers.Reshape((2, 3, 4))(dense(x)))
    ),
}


@pytest.mark.parametrize("name", DECODERS)
def test_ways_to_spread_units(name, rng):
    """Independent positions, each with the covariance of the vector, zeros around."""
    x = rng.normal(size=(3, 5))
    found = matrix(lambda x: conv(DECODERS[name](x)), x)
    k = 2 * x @ x.T / 5
    np.testing.assert_allclose(found, 2 * 2 * k * (6 * 3 - 2) / (6 * 3), rtol=1e-12)


def test_one_position_is_no_spreading():
    for target in ((1, 24), (1, 1, 24)):
        found = specs(lambda x, t=target: layers.Reshape(t)(dense(x)), (5,))
        assert found == [Reshape(target[:-1], 0)]


ONE_POSITION = {
    "Flatten": lambda h: layers.Flatten()(h),
    "Reshape": lambda h: layers.Reshape((24,))(h),
    "squeeze": lambda h: ops.squeeze(h, axis=(1, 2)),
    "expanded and back": lambda h: ops.reshape(ops.expand_dims(h, 1), (-1, 24)),
}


@pytest.mark.parametrize("name", ONE_POSITION)
def test_a_map_of_one_position_becomes_a_vector(name):
    def function(x):
        return ONE_POSITION[name](layers.Reshape((1, 1, 24))(dense(x)))

    tensor, nodes = tensor_of(function, (5,))
    assert nodes[tensor.parts[0].node].spatial == ()
    assert not tensor.flat


def test_vectors_repeated(rng):
    x = rng.normal(size=(3, 5))
    found = specs(lambda x: layers.RepeatVector(6)(dense(x)), (5,))
    assert found == [Reshape((1,), 0), Upsample((6,))]
    repeated = matrix(
        lambda x: layers.GlobalAveragePooling1D()(layers.RepeatVector(6)(dense(x))), x
    )
    np.testing.assert_allclose(repeated, matrix(dense, x), rtol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_upsampling(rank, rng):
    shape = (*(3, 2, 2)[:rank], 2)
    factors = (2, 3, 1)[:rank]
    x = rng.normal(size=(2, *shape))
    layer = getattr(layers, f"UpSampling{rank}D")(factors if rank > 1 else 2)
    assert specs(lambda x: layer(conv(x, 1)), shape) == [Upsample(factors)]
    # A pointwise layer may as well come after what Keras repeats.
    before = matrix(lambda x: conv(conv(layer(x), 1, activation="relu")), x)
    after = matrix(lambda x: conv(layer(conv(x, 1, activation="relu"))), x)
    np.testing.assert_allclose(after, before, rtol=1e-12)


def test_upsampling_by_one_is_nothing():
    assert specs(lambda x: layers.UpSampling2D(1)(conv(x, 1))) == []


@pytest.mark.parametrize("way", ["Permute", "transpose"])
def test_channels_moved_to_the_front_and_back(way, rng):
    def moved(x, *axes):
        return layers.Permute(axes)(x) if way == "Permute" else ops.transpose(x, (0, *axes))

    def function(x):
        h = moved(conv(x, activation="relu"), 3, 1, 2)
        h = conv(h, data_format="channels_first", activation="relu")
        return conv(moved(h, 2, 3, 1))

    x = rng.normal(size=(2, *IMAGE))
    plain = matrix(lambda x: conv(conv(conv(x, activation="relu"), activation="relu")), x)
    np.testing.assert_allclose(matrix(function, x), plain, rtol=1e-12)


def test_padding_and_cropping_of_channels_first():
    def function(x):
        h = conv(x, data_format="channels_first", window=1)
        h = layers.ZeroPadding2D(((1, 2), (0, 3)), data_format="channels_first")(h)
        return layers.Cropping2D(((2, 0), (0, 1)), data_format="channels_first")(h)

    tensor, _ = tensor_of(function, (2, 6, 5))
    assert tensor.shape == (8, 7, 7)
    found = specs(lambda x: layers.Flatten(data_format="channels_first")(function(x)), (2, 6, 5))
    assert found == [Pad(((1, 2), (0, 3))), Crop(((2, 0), (0, 1)))]


REFUSED = {
    "positions for channels": (
        lambda x: layers.Permute((1, 3, 2), name="bad")(conv(x)),
        "channels",
    ),
    "a flattened map": (
        lambda x: layers.Permute((1,), name="bad")(layers.Flatten()(conv(x))),
        "images are mixed",
    ),
    "bicubic": (
        lambda x: layers.UpSampling2D(interpolation="bicubic", name="bad")(conv(x)),
        "bicubic",
    ),
    "antialiased": (
        lambda x: layers.Resizing(3, 3, antialias=True, name="bad")(conv(x)),
        "antialias=True",
    ),
    "nearest, with ties": (
        lambda x: layers.Resizing(5, 5, interpolation="nearest", name="bad")(conv(x)),
        "rounding decides",
    ),
    "a repeated map": (
        lambda x: layers.RepeatVector(3, name="bad")(layers.Flatten()(conv(x))),
        "flattened map",
    ),
    "joined vectors over positions": (
        lambda x: layers.Conv1D(4, 1)(
            layers.Reshape((4, 4), name="bad")(
                layers.Concatenate()([dense(layers.Flatten()(x), 8), dense(layers.Flatten()(x), 8)])
            )
        ),
        "not alike",
    ),
    "sums of neighbouring units": (
        lambda x: layers.Reshape((2, 2, 2), name="bad")(
            (h := dense(layers.Flatten()(x), 9))[:, 1:] + h[:, :8]
        ),
        "depend on each other",
    ),
    "channels into positions": (
        lambda x: layers.Reshape((6, 8, 5), name="bad")(conv(x)),
        "mixes channels",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_mix_channels_and_positions_is_refused(name):
    function, why = REFUSED[name]
    found = refusal(function, "bad")
    assert why in found.why
    assert found.hint


def test_features_over_positions_are_refused_before_pooling_alone():
    def function(x, *, pooled):
        h = layers.Reshape((6, 4), name="bad")(dense(x, activation="relu"))
        h = conv(h, activation="relu")
        return layers.GlobalAveragePooling1D()(h) if pooled else h

    found = refusal(lambda x: function(x, pooled=True), "bad", (5,))
    assert "means" in found.why
    assert "after the Reshape" in found.hint
    assert kernel_of(lambda x: function(x, pooled=False), (5,)).report.exact


def test_reshaping_before_the_first_weights_is_keras_s():
    found = specs(lambda x: conv(layers.Permute((2, 1, 3))(layers.Reshape((10, 3, 2))(x)), 1))
    assert found == []
    assert keras.Input(IMAGE).shape == (None, 6, 5, 2)
