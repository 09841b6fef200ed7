"""Concatenation as channel groups, sums of groups, and layers that are one factor."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from networks import HE, IMAGE, assert_same, became, conv, kernel_of, matrix, refusal, tensor_of

import keras2gp
from keras2gp.errors import UnsupportedModelError
from keras2gp.graph.ops import Activation, Combination, Mixture, Pad, Scale, Spread, Sum


def concat(*tensors, axis=-1, **settings):
    return layers.Concatenate(axis=axis, **settings)(list(tensors))


def groups(function, shape=IMAGE):
    tensor, _ = tensor_of(function, shape)
    return [part.channels for part in tensor.parts]


def test_channel_groups():
    assert groups(lambda x: concat(conv(x, units=3), conv(x, units=5), conv(x))) == [3, 5, 8]
    assert groups(lambda x: ops.concatenate([conv(x, units=3), conv(x)], axis=3)) == [3, 8]
    nested = groups(lambda x: concat(concat(conv(x, units=3), x), conv(x)))
    assert nested == [3, 2, 8]


@pytest.mark.parametrize("join", [
    lambda x, h, axis: concat(x, h, axis=axis),
    lambda x, h, axis: concat(h, x, axis=axis),
    lambda x, h, axis: x + h,
    lambda x, h, axis: layers.Multiply()([h, x]),
])  # fmt: skip
def test_the_input_beside_channels_that_come_first(join, rng):
    """The same network in both formats, on square maps, has one kernel."""
    x = rng.normal(size=(3, 4, 4, 2))

    def network(form):
        def function(inputs):
            h = conv(inputs, units=2, data_format=form, activation="relu")
            joined = join(inputs, h, 1 if form == "channels_first" else -1)
            return layers.GlobalAveragePooling2D(data_format=form)(
                conv(joined, data_format=form, activation="relu")
            )

        return function

    first = np.moveaxis(x, -1, 1)
    one, other = (
        kernel_of(network(form), images.shape[1:])
        for form, images in (("channels_first", first), ("channels_last", x))
    )
    assert_same(one, other, first, x, rtol=1e-12)


def test_activations_and_pooling_map_over_groups_and_weights_mix_them():
    def function(x):
        h = layers.ReLU()(concat(conv(x, units=6), conv(x, units=2)))
        return conv(layers.AveragePooling2D(2)(h))

    graph = kernel_of(function).graph
    (mixture,) = [n for n in graph.nodes if isinstance(n.op, Mixture)]
    assert mixture.op.weights == (0.75, 0.25)
    assert sum(isinstance(n.op, Activation) for n in graph.nodes) == 2


def test_equal_groups_are_computed_once():
    graph = kernel_of(lambda x: conv(layers.ReLU()(concat(h := conv(x), h)))).graph
    assert sum(isinstance(n.op, Activation) for n in graph.nodes) == 1


def densenet(blocks):
    x = keras.Input((8, 8, 3))
    h = conv(x)
    for _ in range(blocks):
        r = layers.ReLU()(layers.BatchNormalization()(h))
        r = layers.ReLU()(layers.BatchNormalization()(conv(r, 1)))
        h = concat(h, conv(r))
    h = layers.GlobalAveragePooling2D()(h)
    return keras2gp.convert(keras.Model(x, layers.Dense(2, **HE)(h))).graph


def test_the_graph_of_a_dense_block_grows_with_its_depth_and_not_its_square():
    sizes = [len(densenet(blocks).nodes) for blocks in (4, 8, 12)]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > 0


def test_channels_first_groups(rng):
    x = rng.normal(size=(2, *IMAGE))

    def network(form):
        axis = 1 if form == "channels_first" else -1

        def function(x):
            made = [conv(x, n, data_format=form, units=n) for n in (1, 2, 3)]
            h = concat(*made, x, axis=axis)
            return layers.Flatten(data_format=form)(conv(h, data_format=form, activation="relu"))

        return function

    last = matrix(network("channels_last"), x)
    first = matrix(network("channels_first"), np.moveaxis(x, -1, 1))
    np.testing.assert_allclose(first, last, rtol=1e-12)


def test_vectors_are_weighed_by_their_lengths(rng):
    x = rng.normal(size=(3, *IMAGE))
    flat = x.reshape(3, -1)

    def function(x):
        h = conv(x, 1, units=4)  # 30 positions of 4 channels
        return concat(layers.Flatten()(h), layers.Dense(8, **HE)(layers.Flatten()(x)))

    conv_k = 2 * np.einsum("ighc,jghc->ij", x, x) / 60
    expected = 2 * (120 * conv_k + 8 * 2 * flat @ flat.T / 60) / 128
    np.testing.assert_allclose(matrix(function, x), expected, rtol=1e-12)


def test_maps_side_by_side_are_padded_and_added():
    def function(x):
        return concat(conv(x, 1), conv(x, 1, strides=(2, 1)), axis=1)

    tensor, nodes = tensor_of(function)
    assert tensor.shape == (9, 5, 8)
    assert isinstance(nodes[tensor.parts[0].node].op, Sum)
    pads = [n.op.pads for n in nodes if isinstance(n.op, Pad)]
    assert pads == [((0, 3), (0, 0)), ((6, 0), (0, 0))]


def test_one_tensor_side_by_side_is_one_map_of_it(rng):
    x = rng.normal(size=(2, 4, 3, 2))
    kernel = kernel_of(lambda x: concat(h := conv(x, 1), h, axis=2), (4, 3, 2))
    assert any(isinstance(n.op, Combination) for n in kernel.graph.nodes)
    np.testing.assert_allclose(kernel(x), matrix(lambda x: conv(x, 1), x), rtol=1e-12)


SUMS = {
    "the same groups": lambda x: (
        concat(conv(x, units=3), conv(x, units=5)) * 2 + concat(conv(x, units=3), conv(x, units=5))
    ),
    "other groups": lambda x: (
        concat(conv(x, units=3), conv(x, units=5)) + concat(conv(x, units=6), conv(x, units=2))
    ),
    "groups and one": lambda x: layers.Subtract()(
        [conv(x), concat(conv(x, units=3), conv(x, units=5))]
    ),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_are_cut_at_every_boundary(name):
    expected = {"the same groups": [3, 5], "other groups": [3, 3, 2], "groups and one": [3, 5]}
    assert groups(SUMS[name]) == expected[name]


def test_a_group_cut_in_two_is_the_group(rng):
    """Channels of one group are alike: cut or not, weights see the same mean."""
    x = rng.normal(size=(2, *IMAGE))
    halves = matrix(lambda x: layers.ReLU()(conv(x) + concat(h := conv(x, 1, 4), h)), x)
    whole = matrix(lambda x: layers.ReLU()(conv(x) + conv(x, 1)), x)
    np.testing.assert_allclose(halves, whole, rtol=1e-12)


def test_a_vector_added_to_a_flattened_map_is_spread_over_it(rng):
    def function(x):
        h = layers.Flatten()(conv(x, 1, units=4))
        return layers.ReLU()(h + layers.Dense(120, **HE)(layers.Flatten()(x)))

    x = rng.normal(size=(3, *IMAGE))
    kernel = kernel_of(function)
    assert any(isinstance(n.op, Spread) for n in kernel.graph.nodes)
    flat = x.reshape(3, -1)
    mean = 2 * flat @ flat.T / 60
    total = 0.0
    for g in np.ndindex(6, 5):
        k = 2 * x[(slice(None), *g)] @ x[(slice(None), *g)].T / 2 + mean
        q = np.sqrt(np.outer(k.diagonal(), k.diagonal()))
        angle = np.arccos(np.clip(k / q, -1, 1))
        total += q * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi) / 30
    np.testing.assert_allclose(kernel(x), 2 * total, rtol=1e-9)


FACTORS = {
    "LayerScale": (lambda x: LayerScale(0.3, 8, name="it")(x), 0.3, "initial value"),
    "Rescaling": (lambda x: layers.Rescaling(0.5, name="it")(x), 0.5, ""),
    "Rescaling of equal factors": (lambda x: layers.Rescaling([0.5] * 8, name="it")(x), 0.5, ""),
    "StochasticDepth": (lambda x: StochasticDepth(0.5, name="it")(x), None, ""),
}


@pytest.mark.parametrize("name", FACTORS)
def test_layers_that_are_one_factor(name):
    function, factor, note = FACTORS[name]
    kernel = kernel_of(lambda x: function(conv(x)))
    found = [n.op.factor for n in kernel.graph.nodes if isinstance(n.op, Scale)]
    assert found == ([] if factor is None else [factor])
    row = became(kernel.report, "it")
    assert row.became == ("identity" if factor is None else f"factor {factor:g}")
    assert note in row.note


def test_equal_constants_for_every_channel(rng):
    x = rng.normal(size=(2, *IMAGE))
    found = matrix(lambda x: conv(x) * np.full((8,), 0.5, "float32"), x)
    np.testing.assert_allclose(found, matrix(conv, x) / 4, rtol=1e-12)


def test_a_scaled_sum():
    graph = kernel_of(lambda x: CustomScaleLayer(0.2)([conv(x), conv(x)])).graph
    assert [n.op.coefficients for n in graph.nodes if isinstance(n.op, Sum)] == [(1.0, 0.2)]


REFUSED = {
    "other factors": (
        lambda x: layers.Rescaling([0.5] * 7 + [1.0], name="bad")(conv(x)),
        "one finite number",
    ),
    "a factor that adds channels": (
        lambda x: layers.Rescaling([0.5] * 8, name="bad")(conv(x, units=1)),
        "not one for each of its 1",
    ),
    "stochastic depth in training": (
        lambda x: StochasticDepth(0.5, name="bad")(conv(x), training=True),
        "training=True",
    ),
    "a mean of images": (lambda x: concat(conv(x), conv(x), axis=0, name="bad"), "images"),
    "a flattened map of groups": (
        lambda x: layers.Add(name="bad")(
            [
                layers.Flatten()(concat(conv(x, units=4), conv(x, units=4))),
                concat(layers.Flatten()(conv(x, units=4)), layers.Flatten()(conv(x, units=4))),
            ]
        ),
        "channel groups",
    ),
    "a vector and a flattened map of groups": (
        lambda x: layers.Add(name="bad")(
            [
                layers.Flatten()(concat(conv(x, units=4), conv(x, units=4))),
                layers.Dense(240)(layers.Flatten()(x)),
            ]
        ),
        "channel groups",
    ),
    "other formats": (
        lambda x: concat(
            conv(x, units=6, data_format="channels_first"),
            layers.Reshape((6, 5, 3))(conv(x, units=3)),
            name="bad",
        ),
        "data_format",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_pair_channel_by_channel_is_refused(name):
    function, why = REFUSED[name]
    found = refusal(function, "bad")
    assert why in found.why
    assert found.hint


def test_an_activation_of_the_input_beside_features():
    found = refusal(lambda x: layers.ReLU(name="bad")(concat(x, conv(x))), "bad")
    assert "not random" in found.why
    assert "before they are joined" in found.hint


def test_a_concatenated_output_of_data_is_refused():
    x = keras.Input((4,))
    with pytest.raises(UnsupportedModelError, match="different groups of channels"):
        keras2gp.convert(keras.Model(x, concat(layers.Dense(2)(x), x)))


def test_concatenation_before_the_first_weights_is_keras_s(rng):
    x = rng.normal(size=(2, *IMAGE))
    found = kernel_of(lambda x: conv(concat(x, 2 * x)))
    np.testing.assert_allclose(found(x), 5 / 2 * matrix(conv, x), rtol=1e-12)
    assert not any(isinstance(n.op, Mixture) for n in found.graph.nodes)


DATA = {
    "in a chain": (lambda a, b, h, g: a + h + b, lambda a, b, h, g: a + b + h),
    "as terms of one layer": (
        lambda a, b, h, g: layers.Average()([a, h, b]),
        lambda a, b, h, g: ((a + b) + h) / 3.0,
    ),
    "with other random terms": (
        lambda a, b, h, g: (a - h) + g - b, lambda a, b, h, g: (a - b) + (g - h),
    ),
    "with the same random term": (
        lambda a, b, h, g: (h + a) + (b - 0.5 * h), lambda a, b, h, g: (a + b) + 0.5 * h,
    ),
    "that cancels": (lambda a, b, h, g: (a + h) + (g - a), lambda a, b, h, g: 0.0 * a + (g + h)),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_several_tensors_of_data_in_a_sum_are_their_sum(name, rng):
    x = rng.normal(size=(4, 3, 2, 2))

    def network(added):
        def function(image):
            h, g = (conv(image, window, units=2) for window in (3, 1))
            made = added(image, ops.roll(image, 1, axis=1) * image, h, g)
            return layers.GlobalAveragePooling2D()(conv(made, 1, activation="relu"))

        return function

    assert_same(*(kernel_of(network(added), x.shape[1:]) for added in DATA[name]), x)


def test_flattened_maps_of_other_axes_are_added_unit_by_unit(rng):
    """Independent ones: each unit of one meets a unit of the other."""
    x = rng.normal(size=(4, 4, 3, 1))

    def network(along):
        def function(image):
            h = along(layers.Permute((2, 1, 3))(conv(image, 2)), conv(image, 3))
            return layers.Dense(5, activation="relu", **HE)(layers.ReLU()(h))

        return function

    def in_rows(one, other):
        return layers.Flatten()(layers.Reshape((12, 8))(one) + layers.Reshape((12, 8))(other))

    flat, rows = (
        matrix(network(f), x)
        for f in (lambda one, other: layers.Flatten()(one) + layers.Flatten()(other), in_rows)
    )
    np.testing.assert_allclose(flat, rows, rtol=1e-12)


FLATTENED = {
    "one map, two ways": lambda x: (h := conv(x, 1), layers.Permute((2, 1, 3))(h)),
    "of other sizes": lambda x: (conv(x, 2, units=2), conv(x, 2, units=8, strides=2)),
}


@pytest.mark.parametrize("name", FLATTENED)
@pytest.mark.parametrize("mended", [None, "dense"])
def test_flattened_maps_that_do_not_meet_are_refused(name, mended):
    def function(x):
        one, other = map(layers.Flatten(), FLATTENED[name](x))
        other = layers.Dense(one.shape[-1])(other) if mended else other
        return layers.Add(name="bad")([one, other])

    shape = (4, 4, 1) if name == "of other sizes" else (4, 3, 1)
    if mended:
        kernel_of(function, shape)
        return
    found = refusal(function, "bad", shape)
    assert "another position" in found.why
    assert "Dense" in found.hint
