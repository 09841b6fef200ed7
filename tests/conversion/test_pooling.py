"""What pooling becomes, which of it is refused, and max pooling by average pooling."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import HE, IMAGE, became, conv, kernel_of, matrix, model_of, refusal, specs, tensor_of

import keras2gp
from keras2gp.errors import InputError
from keras2gp.graph.ops import AveragePool, Patches

NONE = ((0, 0), (0, 0))
LOCAL = {
    "2": (lambda x: layers.AveragePooling2D(2)(x), AveragePool((2, 2), (2, 2), NONE)),
    "stride": (
        lambda x: layers.AveragePooling2D((3, 2), (1, 2))(x),
        AveragePool((3, 2), (1, 2), NONE),
    ),
    "same": (
        lambda x: layers.AveragePooling2D(3, 2, padding="same")(x),
        AveragePool((3, 3), (2, 2), ((0, 1), (1, 1))),
    ),
    "same, wide": (
        lambda x: layers.AveragePooling2D(4, 1, padding="same")(x),
        AveragePool((4, 4), (1, 1), ((1, 2), (1, 2))),
    ),
    "keras.ops": (
        lambda x: ops.average_pool(x, 2, padding="SAME"),
        AveragePool((2, 2), (2, 2), ((0, 0), (0, 1))),
    ),
    "keras.ops, stride": (
        lambda x: ops.average_pool(x, (2, 1), strides=(1, 3)),
        AveragePool((2, 1), (1, 3), NONE),
    ),
    "adaptive": (
        lambda x: layers.AdaptiveAveragePooling2D((2, 5))(x),
        AveragePool((3, 1), (3, 1), NONE),
    ),
    "adaptive keras.ops": (
        lambda x: ops.adaptive_average_pool(x, (3, 1), data_format="channels_last"),
        AveragePool((2, 5), (2, 5), NONE),
    ),
    "max pooling of one": (
        lambda x: layers.MaxPooling2D(1, 2)(x),
        Patches((1, 1), (2, 2), (1, 1), NONE),
    ),
    "average pooling of one": (
        lambda x: layers.AveragePooling2D(1, (3, 2), padding="same")(x),
        Patches((1, 1), (3, 2), (1, 1), NONE),
    ),
    "max pooling of one, keras.ops": (
        lambda x: ops.max_pool(x, 1, 2),
        Patches((1, 1), (2, 2), (1, 1), NONE),
    ),
    "global": (lambda x: layers.GlobalAveragePooling2D()(x), AveragePool((6, 5), (1, 1), NONE)),
    "mean": (lambda x: ops.mean(x, axis=(1, 2)), AveragePool((6, 5), (1, 1), NONE)),
    "mean of columns": (lambda x: ops.mean(x, axis=1), AveragePool((6, 1), (1, 1), NONE)),
    "mean of rows": (lambda x: ops.mean(x, axis=-2), AveragePool((1, 5), (1, 1), NONE)),
}


@pytest.mark.parametrize("name", LOCAL)
def test_what_it_becomes(name):
    function, expected = LOCAL[name]
    assert expected in specs(lambda x: function(conv(x, 1)))


NOTHING = {
    "window and stride 1": lambda x: layers.AveragePooling2D(1)(x),
    "maximum of one": lambda x: layers.MaxPooling2D(1)(x),
    "all of one": lambda x: layers.MaxPooling2D((1, 1), strides=1, padding="same")(x),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_takes_every_position_is_nothing(name):
    assert specs(lambda x: NOTHING[name](conv(x, 1))) == []


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_poolings_of_every_rank(rank):
    shape = (*(4, 3, 2)[:rank], 2)
    kind = getattr(layers, f"GlobalAveragePooling{rank}D")
    plain, nodes = tensor_of(lambda x: kind()(conv(x)), shape)
    assert (plain.shape, nodes[plain.parts[0].node].spatial) == ((8,), ())
    kept, nodes = tensor_of(lambda x: kind(keepdims=True)(conv(x)), shape)
    assert (kept.shape, nodes[kept.parts[0].node].spatial) == ((1,) * rank + (8,), (1,) * rank)


@pytest.mark.parametrize("axis", [(1, 2), (2, 1), (-3, -2)])
@pytest.mark.parametrize("keep", [True, False])
def test_means_over_positions_are_global_pooling(axis, keep, rng):
    x = rng.normal(size=(3, *IMAGE))
    expected = matrix(lambda x: layers.GlobalAveragePooling2D()(conv(x)), x)
    found = matrix(lambda x: ops.mean(conv(x), axis=axis, keepdims=keep), x)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_channels_first(rank, rng):
    shape = (*(6, 5, 4)[:rank], 2)
    x = rng.normal(size=(2, *shape))

    def network(form):
        def function(x):
            h = conv(x, 2, data_format=form, activation="relu")
            settings = {"padding": "same", "data_format": form}
            h = getattr(layers, f"AveragePooling{rank}D")(2, 1, **settings)(h)
            h = getattr(layers, f"AdaptiveAveragePooling{rank}D")(
                ((3, 5, 2)[:rank]) if rank > 1 else 3, data_format=form
            )(h)
            h = getattr(layers, f"MaxPooling{rank}D")(1, 2, data_format=form)(h)
            if rank > 1:
                h = getattr(layers, f"UpSampling{rank}D")(2, data_format=form)(h)
            kind = getattr(layers, f"GlobalAveragePooling{rank}D")
            return kind(data_format=form, keepdims=rank == 2)(h)

        return function

    last = matrix(network("channels_last"), x)
    first = matrix(network("channels_first"), np.moveaxis(x, -1, 1))
    np.testing.assert_allclose(first, last, rtol=1e-12)


MAXIMA = {
    "MaxPooling1D": ((6, 2), lambda x: layers.MaxPooling1D(name="bad")(x)),
    "MaxPooling2D": (IMAGE, lambda x: layers.MaxPooling2D((1, 2), name="bad")(x)),
    "MaxPooling3D": ((4, 4, 4, 2), lambda x: layers.MaxPooling3D(name="bad")(x)),
    "GlobalMaxPooling1D": ((6, 2), lambda x: layers.GlobalMaxPooling1D(name="bad")(x)),
    "GlobalMaxPooling2D": (IMAGE, lambda x: layers.GlobalMaxPooling2D(name="bad")(x)),
    "GlobalMaxPooling3D": ((2, 2, 2, 2), lambda x: layers.GlobalMaxPooling3D(name="bad")(x)),
}


@pytest.mark.parametrize("name", MAXIMA)
def test_max_pooling_is_refused_or_average_pooling_if_asked_for(name):
    shape, function = MAXIMA[name]
    found = refusal(lambda x: function(conv(x, 1)), "bad", shape)
    assert name in found.received
    assert "not Gaussian" in found.why
    assert "max_pooling='average'" in found.hint
    kernel = kernel_of(lambda x: function(conv(x, 1)), shape, max_pooling="average")
    row = became(kernel.report, "bad")
    assert "average pooling" in row.became
    assert "replaced by average pooling" in row.note
    assert any(isinstance(node.op, AveragePool) for node in kernel.graph.nodes)


def test_the_replacement_is_average_pooling(rng):
    x = rng.normal(size=(3, *IMAGE))
    settings = {"pool_size": 3, "strides": 2, "padding": "same"}

    def network(kind):
        return lambda x: kind(**settings)(conv(x, activation="relu"))

    found = matrix(network(layers.MaxPooling2D), x, max_pooling="average")
    np.testing.assert_array_equal(found, matrix(network(layers.AveragePooling2D), x))


def test_max_pooling_of_one_needs_no_replacement():
    one = kernel_of(lambda x: layers.MaxPooling2D(1, 2, name="one")(conv(x)))
    assert became(one.report, "one").became == "stride 2x2"
    assert became(one.report, "one").note == ""
    single = kernel_of(lambda x: layers.GlobalMaxPooling2D()(conv(x, (6, 5), padding="valid")))
    assert single.report.exact


def test_other_replacements_are_no_option():
    with pytest.raises(InputError, match="max_pooling='mean'"):
        keras2gp.convert(model_of(conv), max_pooling="mean")
    assert keras2gp.inspect(model_of(MAXIMA["MaxPooling2D"][1]), max_pooling="average").exact


def test_before_the_first_weights_keras_takes_the_maximum(rng):
    x = rng.normal(size=(3, *IMAGE))
    pooled = np.asarray(layers.MaxPooling2D()(x), "float64")
    found = matrix(lambda x: conv(layers.MaxPooling2D()(x)), x)
    np.testing.assert_allclose(found, matrix(conv, pooled), rtol=1e-5)


REFUSED = {
    "bins that overlap": (
        lambda x: layers.AdaptiveAveragePooling2D((4, 5), name="bad")(conv(x)),
        "equal bins",
    ),
    "a mean over channels": (lambda x: ops.mean(conv(x), axis=(1, 3)), "channels"),
    "a mean over everything": (lambda x: ops.mean(conv(x)), "channels"),
    "a mean over images": (lambda x: ops.mean(conv(x), axis=(0, 1)), "images"),
    "positions taken for channels": (
        lambda x: layers.AveragePooling2D(2, data_format="channels_first", name="bad")(conv(x)),
        "data_format",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_means_are_refused(name):
    function, why = REFUSED[name]
    x = keras.Input(IMAGE)
    h = function(x)
    h = layers.Dense(2, **HE)(h if len(h.shape) > 1 else ops.reshape(h, (-1, 1)))
    report = keras2gp.inspect(keras.Model(x, h))
    assert why in report.obstacles[0].why
    assert report.obstacles[0].hint


def test_global_pooling_looks_behind_a_reshape():
    found = specs(lambda x: layers.GlobalAveragePooling1D()(layers.Reshape((30, 8))(conv(x, 1))))
    assert found == [AveragePool((6, 5), (1, 1), NONE)]


def test_pooling_after_a_reshape_is_refused_with_a_hint():
    def function(x):
        h = layers.Reshape((30, 8), name="reshape")(conv(x))
        return layers.AveragePooling1D(3, 1, padding="same")(h)

    found = refusal(function, "reshape")
    assert "not neighbours" in found.why
    assert "global pooling" in found.hint
