"""Channels that become positions and positions that become channels, beside all positions."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from oracles.architectures import assert_both_kernels_agree

import keras2gp
from keras2gp.errors import UnsupportedModelError

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
IMAGE = (2, 2, 2)


def conv(x, window=2, units=8, activation=None):
    return layers.Conv2D(units, window, padding="same", activation=activation, **HE)(x)


def pool(x):
    return layers.AveragePooling2D(2, 1)(x)


def up(x, size=2):
    return ops.depth_to_space(x, size)


def down(x, size=2):
    return ops.space_to_depth(x, size)


CASES = {
    "pixel shuffle": lambda x: conv(layers.ReLU()(up(conv(x))), activation="relu"),
    "pixel shuffle, pooled": lambda x: pool(layers.ReLU()(up(conv(x)))),
    "features": lambda x: conv(up(conv(x, activation="relu"))),
    "a linear map of it, pooled": lambda x: pool(conv(layers.UpSampling2D((1, 2))(up(conv(x))))),
    "and back": lambda x: conv(down(up(conv(x))), 1, activation="relu"),
    "blocks as channels": lambda x: conv(layers.ReLU()(down(up(conv(x)))), activation="relu"),
    "channels as an axis": lambda x: pool(layers.ReLU()(
        layers.Reshape((2, 2, 2, 4))(conv(x))[:, :, 0])),
    "groups of channels, pooled": lambda x: layers.AveragePooling1D(3, 1)(layers.ReLU()(
        layers.Reshape((4, 4))(layers.Conv1D(8, 2, padding="same", **HE)(
            layers.Reshape((2, 4))(x))))),
    "boxes of a detector": lambda x: layers.Dense(3, **HE)(layers.Reshape((8, 4))(conv(x))),
    "blocks as channels, normalised": lambda x: conv(layers.LayerNormalization()(
        down(layers.ReLU()(conv(x, 1)))), 1),
}  # fmt: skip
QUICK = {
    "pixel shuffle, pooled",
    "features",
    "boxes of a detector",
    "blocks as channels, normalised",
}


def model_of(function):
    x = keras.Input(IMAGE)
    return keras.Model(x, layers.Dense(3, **HE)(layers.Flatten()(function(x))))


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES],
)
def test_agrees_with_all_positions(case, rng):
    model = model_of(CASES[case])
    assert_both_kernels_agree(model, rng.normal(size=(4, *IMAGE)))


def by_hand(x):
    h = layers.Reshape((2, 2, 2, 2, 2))(conv(x))
    return layers.Reshape((4, 4, 2))(layers.Permute((1, 3, 2, 4, 5))(h))


def patches(x):
    h = layers.Reshape((2, 2, 2, 2, 4))(conv(layers.UpSampling2D(2)(x), 1, 4))
    return layers.Reshape((2, 2, 16))(layers.Permute((1, 3, 2, 4, 5))(h))


def test_rearrangements_that_are_written_out_are_the_same(rng):
    x = rng.normal(size=(3, *IMAGE))
    pairs = (
        (by_hand, lambda x: up(conv(x))),
        (lambda x: conv(patches(x), 1), lambda x: conv(down(conv(layers.UpSampling2D(2)(x), 1, 4)),
                                                       1)),
    )  # fmt: skip
    for pair in pairs:
        found, expected = (keras2gp.convert(model_of(f), dtype="float64")(x) for f in pair)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_maps_of_more_positions_are_outputs(rng):
    x = keras.Input(IMAGE)
    kernel = keras2gp.convert(keras.Model(x, up(conv(x, units=4))), dtype="float64")
    assert kernel.positions == (4, 4)
    images = rng.normal(size=(3, *IMAGE))
    whole = np.asarray(kernel(images, positions="all"))
    assert whole[0, 0, 0, 0, 0, 1] == 0.0
    assert whole[0, 0, 0, 0, 0, 2] != 0.0
    np.testing.assert_array_equal(whole[0, 0, 0, 0, 0, 2], whole[0, 1, 1, 0, 1, 3])


REFUSED = {
    "features, pooled": (lambda x: pool(up(conv(x, activation="relu"))), "means are not 0"),
    "the input": (lambda x: conv(up(layers.Concatenate()([x, conv(x, units=2)]))), "not alike"),
    "another order": (
        lambda x: conv(layers.Reshape((4, 4, 2))(layers.Reshape((2, 2, 2, 2, 2))(conv(x)))),
        "blocks of positions",
    ),
    "a layer in between": (
        lambda x: layers.ReLU()(layers.Reshape((2, 2, 2, 2, 2))(conv(x))), "blocks of positions"
    ),
    "other channels of the same map": (
        lambda x: conv(up(h := conv(x)) + layers.UpSampling2D(2)(h[..., 2:4])),
        "same random layer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_reason(case):
    function, why = REFUSED[case]
    with pytest.raises(UnsupportedModelError, match=why) as error:
        keras2gp.convert(model_of(function))
    assert all(obstacle.hint for obstacle in error.value.obstacles)


def test_blocks_that_are_not_in_their_places_are_no_output():
    x = keras.Input(IMAGE)
    model = keras.Model(x, layers.Reshape((2, 2, 2, 2, 2))(conv(x)))
    with pytest.raises(UnsupportedModelError, match=r"output.*followed by Permute"):
        keras2gp.convert(model)
