"""Positions taken, repeated and surrounded by operations, against the layers that do the same."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import IMAGE, conv, matrix, model_of, specs

import keras2gp
from keras2gp.graph.ops import Axes, Crop, Pad, Patches, Upsample


def cut(*pairs):
    return Crop(pairs)


TAKEN = {
    "rows": (lambda h: h[:, 1:], [cut((1, 0), (0, 0))]),
    "rows from the end": (lambda h: h[:, :-2, ...], [cut((0, 2), (0, 0))]),
    "a block": (lambda h: h[:, 1:4, 2:, :], [cut((1, 2), (2, 0))]),
    "every second": (
        lambda h: h[:, ::2, ::3],
        [cut((0, 1), (0, 1)), Patches((1, 1), (2, 3), (1, 1), ((0, 0), (0, 0)))],
    ),
    "the last row": (lambda h: h[:, -1], [cut((5, 0), (0, 0)), Axes((1,), 2)]),
    "one position": (lambda h: h[:, 0, 1], [cut((0, 5), (1, 3))]),
    "a column, all channels": (lambda h: h[..., 1, 0:8], [cut((0, 0), (1, 3)), Axes((0,), 2)]),
    "a new axis": (lambda h: h[:, None], [Axes((2, 0, 1), 2)]),
    "new axes between": (lambda h: h[..., None, 1, :], [cut((0, 0), (1, 3)), Axes((0, 2), 2)]),
    "everything": (lambda h: h[:, 0:6, :5], []),
    "repeated": (lambda h: ops.repeat(h, 2, axis=2), [Upsample((1, 2))]),
    "padded": (lambda h: ops.pad(h, [(0, 0), (1, 2), (0, 1), (0, 0)]), [Pad(((1, 2), (0, 1)))]),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_it_becomes(name):
    function, expected = TAKEN[name]
    assert specs(lambda x: function(conv(x, 1))) == expected


def test_channels_first(rng):
    def function(x):
        h = conv(x, 2, data_format="channels_first", activation="relu")
        h = ops.pad(ops.repeat(h[:, :, 1:, ::2], 2, axis=-1), [(0, 0), (0, 0), (1, 0), (0, 2)])
        return layers.Flatten(data_format="channels_first")(conv(h, data_format="channels_first"))

    def last(x):
        h = conv(x, 2, activation="relu")[:, 1:, ::2]
        return conv(ops.pad(ops.repeat(h, 2, axis=-2), [(0, 0), (1, 0), (0, 2), (0, 0)]))

    x = rng.normal(size=(2, *IMAGE))
    found = matrix(function, np.moveaxis(x, -1, 1))
    np.testing.assert_allclose(found, matrix(last, x), rtol=1e-12)


@pytest.mark.parametrize("name", TAKEN)
def test_a_pointwise_layer_may_come_after(name, rng):
    """Before the first weights Keras does it; after a pointwise layer the graph has to."""
    function, _ = TAKEN[name]
    x = rng.normal(size=(2, *IMAGE))

    def dense(x):
        return layers.Dense(8, kernel_initializer="he_normal", activation="relu")(x)

    after = matrix(lambda x: dense(function(dense(x))), x)
    np.testing.assert_allclose(after, matrix(lambda x: dense(dense(function(x))), x), rtol=1e-12)


def test_slices_of_a_model_from_a_file(tmp_path):
    model = model_of(lambda x: conv(conv(x)[:, 1:, ::2])[:, -1])
    model.save(tmp_path / "model.keras")
    assert keras2gp.convert(tmp_path / "model.keras").graph == keras2gp.convert(model).graph


REFUSED = {
    "channels with a step": (lambda h: h[..., ::2], "no slice of step 1"),
    "no channels": (lambda h: h[..., 4:4], "takes no channels"),
    "one channel": (lambda h: h[:, :, :, 0], "no slice of step 1"),
    "images": (lambda h: h[1:, ...], "some of the images"),
    "the first image": (lambda h: h[:1, ...], "some of the images"),
    "no positions": (lambda h: h[:, 3:3], "takes no position"),
    "channels turned round": (lambda h: h[..., ::-1], "no slice of step 1"),
    "images turned round": (lambda h: ops.flip(h, axis=0), "reverses the order of the images"),
    "-inf that pooling does not read": (
        lambda h: conv(ops.pad(h, [(0, 0), (1, 1), (0, 0), (0, 0)], constant_values=-np.inf)),
        "surrounds the map with -inf",
    ),
    "-inf at the output": (
        lambda h: ops.pad(h, [(0, 0), (1, 1), (0, 0), (0, 0)], constant_values=-np.inf),
        "surrounds the map with -inf",
    ),
    "a new axis behind": (lambda h: h[..., None], "beyond that of the channels"),
    "channels repeated": (lambda h: ops.repeat(h, 2, axis=-1), "repeats images or channels"),
    "all numbers repeated": (lambda h: ops.repeat(h, 2), "repeats images or channels"),
    "padded with ones": (
        lambda h: ops.pad(h, [(0, 0), (1, 1), (0, 0), (0, 0)], constant_values=1.0),
        "other numbers than zeros",
    ),
    "images moved": (lambda h: ops.roll(h, 1, axis=0), "moves images or channels"),
    "all numbers moved": (lambda h: ops.roll(h, 1), "moves images or channels"),
    "channels taken": (lambda h: ops.take(h, [0, 0], axis=-1), "takes images or channels"),
    "no such position": (lambda h: ops.take(h, np.array([9]), axis=1), "no list of positions"),
    "channels twice": (lambda h: ops.tile(h, [1, 1, 1, 2]), "repeats images or channels"),
    "padded channels": (lambda h: ops.pad(h, [(0, 0), (0, 0), (0, 0), (1, 0)]), "adds"),
    "a flattened map": (lambda h: layers.Flatten()(h)[:, 3:], "some of the images"),
    "a flattened map repeated": (lambda h: ops.repeat(layers.Flatten()(h), 2, 1), "repeats"),
    "padded everywhere": (lambda h: ops.pad(h, 1), "adds"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_takes_channels_or_images_is_refused(name):
    function, why = REFUSED[name]
    x = keras.Input(IMAGE)
    report = keras2gp.inspect(keras.Model(x, function(conv(x))))
    assert why in report.obstacles[0].why
    assert report.obstacles[0].hint


def test_max_pooling_with_minus_infinity_around_counts_what_is_inside(rng):
    x = rng.normal(size=(3, 6, 5, 2))
    around = [(0, 0), (1, 1), (1, 1), (0, 0)]

    def padded(h):
        surrounded = ops.pad(conv(h), around, constant_values=-np.inf)
        return layers.MaxPooling2D(3, 1)(surrounded)

    def same(h):
        return layers.AveragePooling2D(3, 1, padding="same")(conv(h))

    found = matrix(padded, x, max_pooling="average")
    np.testing.assert_allclose(found, matrix(same, x), rtol=1e-12)
    assert "largest of several" in str(keras2gp.inspect(model_of(padded)))
