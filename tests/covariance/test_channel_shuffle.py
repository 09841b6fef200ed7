"""Channels in another order, as ShuffleNet has them, beside the covariance of all positions."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from oracles.architectures import ChannelShuffle, assert_both_kernels_agree, ending_dense

import keras2gp
from keras2gp.errors import UnsupportedModelError

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
IMAGE = (2, 3, 2)


def conv(x, units=4, window=1, **settings):
    return layers.Conv2D(units, window, padding="same", **HE, **settings)(x)


def unit(x):
    """A unit of ShuffleNet v2: half of the channels go by, the others through layers."""
    count = x.shape[-1] // 2
    left, right = x[..., :count], conv(x[..., count:], count, activation="relu")
    right = layers.DepthwiseConv2D(2, padding="same", depthwise_initializer="he_normal")(right)
    right = layers.ReLU()(conv(right, count))
    return ChannelShuffle(2)(layers.Concatenate()([left, right]))


def by_layers(x):
    """The same shuffle of a vector by Keras's layers."""
    return layers.Reshape((12,))(layers.Permute((2, 1))(layers.Reshape((3, 4))(x)))


def vector(x, shuffle=None):
    shuffle = shuffle or ChannelShuffle(3)
    h = layers.Dense(6, **HE)(layers.Flatten()(x))
    h = layers.Concatenate()([layers.ReLU()(h), ops.sin(h)])
    return layers.Dense(4, **HE)(shuffle(h)[:, 5:])


CASES = {
    "a unit": lambda x: unit(conv(x, 4, 2, activation="relu")),
    "two units": lambda x: unit(unit(conv(x, 8, 2, activation="relu"))),
    "grouped convolutions": lambda x: conv(
        ChannelShuffle(2)(conv(conv(x, 4), 8, 1, groups=2, activation="relu")), 4, 2, groups=2
    ),
    "a vector": vector,
    "beside itself": lambda x: ChannelShuffle(3)(h := conv(x, 6, activation="relu")) - 0.5 * h,
    "normalised": lambda x: layers.ReLU()(layers.LayerNormalization()(
        ChannelShuffle(2)(layers.Concatenate()([conv(x), 2.0 * conv(x, 2)])))),
    "different halves": lambda x: (h := ChannelShuffle(2)(layers.Concatenate()([
        conv(x, 2, activation="relu"), conv(x, 4)])))[..., :3] + h[..., 3:],
    "pooled over all": lambda x: layers.GlobalAveragePooling2D()(unit(conv(x, activation="relu"))),
    "and back": lambda x: ChannelShuffle(2)(ChannelShuffle(3)(conv(x, 6))) + conv(x, 6),
}  # fmt: skip
QUICK = {"a vector", "different halves"}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES],
)
def test_agrees_with_all_positions(case, rng):
    model = ending_dense(IMAGE, CASES[case])
    assert_both_kernels_agree(model, rng.normal(size=(4, *IMAGE)))


def test_every_channel_has_its_place():
    """Sums meet the channels that Keras brings together, and those alone."""
    x = keras.Input((4,))
    h = layers.Dense(6, **HE)(x)
    a = layers.Reshape((6,))(layers.Permute((2, 1))(layers.Reshape((2, 3))(h)))
    kernel = keras2gp.convert(keras.Model(x, layers.Dense(1)(layers.Add()([a, h]))))
    plain = keras2gp.convert(keras.Model(x, layers.Dense(1)(h)))
    # Channels 0 and 5 stay where they are, and are doubled; four meet others.
    ones = np.ones((1, 4))
    expected = (2 * 4 + 4 * 2) / 6 * plain(ones, ones).numpy()
    np.testing.assert_allclose(kernel(ones, ones), expected, rtol=1e-6)


def test_a_shuffle_that_is_written_out_is_the_same(rng):
    def cut(h):
        return layers.Reshape((2, 3, 6))(layers.Reshape((2, 3, 2, 3))(h))

    x = rng.normal(size=(3, *IMAGE))
    for pair in (
        (vector, lambda x: vector(x, by_layers)),
        (lambda x: layers.ReLU()(conv(x, 6)), lambda x: layers.ReLU()(cut(conv(x, 6)))),
    ):
        found, expected = (keras2gp.convert(ending_dense(IMAGE, f))(x) for f in pair)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


REFUSED = {
    "the input's channels": (
        lambda x: ChannelShuffle(2)(layers.Concatenate()([x, conv(x, 2)])), "not alike"
    ),
    "groups that differ, at positions": (
        lambda x: layers.Reshape((2, 3, 2, 4))(layers.Concatenate()([conv(x), conv(x)])),
        "not alike",
    ),
    "channels between positions": (
        lambda x: layers.Permute((1, 2, 4, 3))(layers.Reshape((2, 3, 2, 2))(conv(x))),
        "between positions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_reason(case):
    function, why = REFUSED[case]
    with pytest.raises(UnsupportedModelError, match=why) as error:
        keras2gp.convert(ending_dense(IMAGE, lambda x: layers.ReLU()(function(x))))
    assert all(obstacle.hint for obstacle in error.value.obstacles)


@pytest.mark.slow
def test_wide_copies_agree():
    model = ending_dense(IMAGE, lambda x: unit(conv(x, 8, activation="relu")))
    report = keras2gp.verify(model, widths=(16, 32, 64), samples=400)
    assert report.accepted, report
