"""Transposed, depthwise, separable and grouped convolutions: what is read, and what is refused."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import itertools

import keras
import numpy as np
import pytest
from keras import layers
from networks import HE, IMAGE, became, conv, kernel_of, matrix, refusal, specs, tensor_of

import keras2gp
from keras2gp.graph.ops import Affine, Depthwise, Dilate, Mixture, Patches

NORMAL = keras.initializers.RandomNormal(stddev=0.25)


def hits(kind, n, window, stride, padding, extra, dilation):
    """How many taps of Keras's own layer reach each position, and how many it has."""
    settings = {"strides": stride, "padding": padding, "output_padding": extra, "use_bias": False}
    layer = kind(1, window, dilation_rate=dilation, kernel_initializer="ones", **settings)
    return np.asarray(layer(np.ones((1, n, 1)))).ravel()


@pytest.mark.parametrize("n", [1, 4, 5])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_transposed_windows_reach_where_keras_says(n, padding):
    """With k = 1 everywhere, taps k' / w2 counts the taps that hit."""
    for window, stride, extra in itertools.product((1, 2, 3, 4, 5), (1, 2, 3), (None, 0, 1, 2)):
        if extra is not None and (extra >= stride or (padding == "same" and stride == 1)):
            continue
        if padding == "same" and extra is not None and window % 2 + extra == 0:
            continue  # TensorFlow refuses it
        settings = {"strides": stride, "padding": padding, "output_padding": extra}
        op, size = transposed_spec(n, window, **settings)
        counted = op_counts(op, n, stride)
        expected = hits(layers.Conv1DTranspose, n, window, stride, padding, extra, 1)
        assert len(expected) == size
        np.testing.assert_array_equal(counted, expected, err_msg=f"{window} {settings}")


def transposed_spec(n, window, **settings):
    layer = layers.Conv1DTranspose(4, window, **settings)
    tensor, nodes = tensor_of(lambda x: layer(conv(x, 1)), (n, 2))
    (patches,) = [node for node in nodes if isinstance(node.op, Patches)]
    assert tensor.shape == (patches.spatial[0], 4)
    return patches.op, patches.spatial[0]


def op_counts(op, n, stride):
    """How many ones a window sees on n of them, `stride` apart."""
    (before, after), ((size,), (step,)) = op.pads[0], (op.window, op.dilation)
    row = np.zeros((n - 1) * stride + 1)
    row[::stride] = 1.0
    row = np.pad(row, (before, after))
    reach = (size - 1) * step + 1
    return np.array([row[g : g + reach : step].sum() for g in range(len(row) - reach + 1)])


def test_transposed_convolutions_of_every_rank():
    for rank in (1, 2, 3):
        kind = getattr(layers, f"Conv{rank}DTranspose")
        shape = (*(4, 3, 2)[:rank], 2)
        found = specs(lambda x, k=kind: k(8, 3, strides=2, padding="same")(conv(x, 1)), shape)
        assert found[0] == Dilate((2,) * rank)
        assert found[1] == Patches((3,) * rank, (1,) * rank, (1,) * rank, ((2, 1),) * rank)


def test_the_fan_in_of_a_transposed_convolution_is_not_that_of_its_initialiser():
    """Keras's fans of the kernel [3, 3, filters, channels] count the filters."""
    initial = {"kernel_initializer": NORMAL}
    layer = layers.Conv2DTranspose(5, 3, name="up", **initial)
    kernel = kernel_of(lambda x: layer(conv(x, units=7)))
    assert kernel.parameters["up"].weight == pytest.approx(9 * 7 * 0.25**2)
    he = layers.Conv2DTranspose(5, 3, name="up", kernel_initializer="he_normal")
    kernel = kernel_of(lambda x: he(conv(x, units=7)))
    assert kernel.parameters["up"].weight == pytest.approx(9 * 7 * 2 / (9 * 5))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_channels_first(rank, rng):
    shape = (*(4, 3, 2)[:rank], 2)
    x = rng.normal(size=(2, *shape))

    def network(form):
        def function(x):
            settings = {"padding": "same", "data_format": form}
            h = conv(x, 2, data_format=form, activation="relu")
            kind = getattr(layers, f"Conv{rank}DTranspose")
            h = kind(8, 2, strides=2, activation="relu", **settings, **HE)(h)
            h = conv(h, 2, data_format=form, groups=2, activation="relu")
            if rank < 3:
                h = getattr(layers, f"DepthwiseConv{rank}D")(2, strides=2, **settings)(h)
                h = getattr(layers, f"SeparableConv{rank}D")(4, 2, **settings)(h)
            return layers.Flatten(data_format=form)(h)

        return function

    last = matrix(network("channels_last"), x)
    first = matrix(network("channels_first"), np.moveaxis(x, -1, 1))
    np.testing.assert_allclose(first, last, rtol=1e-12)


def separable(x, **settings):
    named = {"depthwise_initializer": NORMAL, "pointwise_initializer": "he_normal"}
    return layers.SeparableConv2D(8, 3, depth_multiplier=2, name="sep", **(named | settings))(x)


def test_a_depthwise_weight_sums_over_the_window_alone():
    layer = layers.DepthwiseConv2D((3, 2), name="deep", depthwise_initializer=NORMAL)
    kernel = kernel_of(lambda x: conv(layer(conv(x))))
    assert kernel.parameters["deep"].weight == pytest.approx(6 * 0.25**2)
    kind = [n.op for n in kernel.graph.nodes if isinstance(n.op, Depthwise)]
    assert kind == [Depthwise("deep")]
    he = layers.DepthwiseConv2D(3, name="deep", depth_multiplier=4)
    kernel = kernel_of(lambda x: conv(he(conv(x, units=8))))
    fans = 9 * 8 + 9 * 4  # of Keras's kernel [3, 3, 8, 4], by glorot_uniform
    assert kernel.parameters["deep"].weight == pytest.approx(9 * 2 / fans)


@pytest.mark.parametrize("kind", ["DepthwiseConv2D", "Conv2D"])
def test_depth_multipliers_multiply_channels(kind):
    def layer(x):
        if kind == "Conv2D":
            return layers.Conv2D(24, 3, groups=8)(x)
        return layers.DepthwiseConv2D(3, depth_multiplier=3)(x)

    tensor, nodes = tensor_of(lambda x: layer(conv(x, units=8)))
    assert tensor.shape[-1] == 24
    assert [part.channels for part in tensor.parts] == [24]
    assert isinstance(nodes[tensor.parts[0].node].op, Depthwise)


def test_a_separable_convolution_has_two_entries(rng):
    kernel = kernel_of(lambda x: separable(conv(x)))
    assert list(kernel.parameters)[1:] == ["sep/depthwise", "sep/pointwise", "head"]
    assert kernel.parameters["sep/depthwise"].weight == pytest.approx(9 * 0.25**2)
    assert kernel.parameters["sep/depthwise"].bias == 0.0
    assert kernel.parameters["sep/pointwise"].weight == pytest.approx(2.0)
    report = kernel.report
    assert became(report, "sep").variances is None
    assert became(report, "sep/depthwise").variances == kernel.parameters["sep/depthwise"]
    assert "sep/pointwise" in str(report)
    x = rng.normal(size=(2, *IMAGE))
    overrides = {"sep/depthwise": {"weight": 9 * 0.5**2, "bias": 0.0}}
    changed = matrix(lambda x: separable(conv(x)), x, overrides=overrides)
    np.testing.assert_allclose(changed, 4 * np.asarray(kernel(x)), rtol=1e-12)


def test_trained_weights_of_separable_and_depthwise_convolutions(rng):
    x = keras.Input(IMAGE)
    h = separable(conv(x), bias_initializer="ones")
    h = layers.DepthwiseConv2D(2, name="deep")(h)
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(h)))
    for layer in (model.get_layer("sep"), model.get_layer("deep")):
        layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    found = keras2gp.convert(model, prior="weights", dtype="float64").parameters
    depthwise, pointwise, bias = (np.mean(w**2) for w in model.get_layer("sep").get_weights())
    assert found["sep/depthwise"].weight == pytest.approx(9 * depthwise)
    assert found["sep/pointwise"].weight == pytest.approx(16 * pointwise)
    assert found["sep/pointwise"].bias == pytest.approx(bias)
    kernel, bias = (np.mean(w**2) for w in model.get_layer("deep").get_weights())
    assert found["deep"].weight == pytest.approx(4 * kernel)
    assert found["deep"].bias == pytest.approx(bias)


def test_one_half_without_a_rule_needs_one_override():
    def function(x):
        return separable(conv(x), depthwise_initializer="ones")

    found = refusal(function, "sep")
    assert "depthwise_initializer" in found.why
    overrides = {"sep/depthwise": {"weight": 1.0, "bias": 0.0}}
    assert kernel_of(function, overrides=overrides).parameters["sep/depthwise"].weight == 1.0


def test_groups_see_alike_channels(rng):
    x = rng.normal(size=(2, *IMAGE))
    he = {"activation": "relu"}
    plain = matrix(lambda x: conv(conv(x, **he), **he), x)
    grouped = matrix(lambda x: conv(conv(x, **he), groups=2, **he), x)
    np.testing.assert_allclose(grouped, plain, rtol=1e-12)
    kernel = kernel_of(lambda x: conv(conv(x), groups=4, name="four"))
    assert "4 groups" in became(kernel.report, "four").note


def test_channel_groups_go_through_a_depthwise_layer_side_by_side():
    def function(x):
        h = layers.Concatenate()([conv(x, units=8), conv(x, units=4)])
        return separable(h)

    graph = kernel_of(function).graph
    assert sum(isinstance(node.op, Depthwise) for node in graph.nodes) == 2
    (mixture,) = [node.op for node in graph.nodes if isinstance(node.op, Mixture)]
    assert mixture.weights == pytest.approx((8 / 12, 4 / 12))


def test_a_depthwise_convolution_of_one_tap_takes_no_patches():
    found = specs(lambda x: conv(layers.DepthwiseConv2D(1, name="deep")(conv(x, 1)), 1))
    assert found == [Depthwise("deep")]


REFUSED = {
    "an activation after a depthwise convolution": (
        lambda x: conv(layers.DepthwiseConv2D(3, activation="relu", name="bad")(conv(x))),
        "activation relu of the output of bad",
        "one channel alone",
    ),
    "an activation after groups that are channels": (
        lambda x: conv(layers.Conv2D(8, 3, groups=8, activation="relu", name="bad")(conv(x))),
        "activation relu of the output of bad",
        "one channel alone",
    ),
    "a depthwise convolution of the input": (
        lambda x: conv(layers.DepthwiseConv2D(3, name="bad")(x)),
        "of the input",
        "fixed number of channels",
    ),
    "a separable convolution of the input": (
        lambda x: layers.SeparableConv2D(8, 3, name="bad")(x),
        "of the input",
        "fixed number of channels",
    ),
    "groups that are channels of the input": (
        lambda x: conv(layers.Conv2D(8, 3, groups=2, name="bad")(x)),
        "of the input",
        "fixed number of channels",
    ),
    "groups of the input": (
        lambda x: conv(layers.Conv2D(8, 3, groups=2, name="bad")(layers.Concatenate()([x, x]))),
        "Conv2D of",
        "different channels of the input",
    ),
    "groups of what was concatenated": (
        lambda x: conv(
            layers.Conv2D(8, 3, groups=2, name="bad")(layers.Concatenate()([conv(x), conv(x)]))
        ),
        "Conv2D of",
        "different parts",
    ),
    "groups of the input beside others": (
        lambda x: layers.Conv2D(8, 3, groups=2, name="bad")(
            layers.Concatenate()([x, conv(x, units=4)])
        ),
        "Conv2D of",
        "of the input",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_limit_is_refused(name):
    function, received, why = REFUSED[name]
    found = refusal(function, "bad")
    assert received in found.received
    assert why in found.why
    assert found.hint


@pytest.mark.parametrize("kind", [layers.DepthwiseConv2D(3, name="d"), None])
def test_an_output_that_sums_over_no_channels(kind):
    x = keras.Input((3, 3, 2))
    layer = kind or layers.Conv2D(8, 3, groups=8, name="d")
    h = layers.Flatten()(layer(conv(x)))
    report = keras2gp.inspect(keras.Model(x, h))
    assert any("depthwise" in o.why for o in report.obstacles)


def test_what_is_called_on_its_own_result_is_refused():
    separable = layers.SeparableConv2D(8, 3, padding="same", name="twice")
    report = keras2gp.inspect(keras.Model(x := keras.Input(IMAGE), separable(separable(conv(x)))))
    places = {o.where for o in report.obstacles}
    assert {"twice/depthwise", "twice/pointwise"} <= places


def test_the_graph_of_a_transposed_convolution_of_the_input(rng):
    """Data is dilated in the graph, not by Keras: weights come after."""
    x = rng.normal(size=(2, 3, 4, 2))
    graph = kernel_of(lambda x: layers.Conv2DTranspose(4, 2, strides=2)(x), (3, 4, 2)).graph
    assert [type(n.op) for n in graph.nodes[1:4]] == [Dilate, Patches, Affine]
    found = matrix(lambda x: layers.Conv2DTranspose(4, 2, strides=2, **HE)(x), x)
    once = np.einsum("ighc,jghc->ij", x, x) / (3 * 4 * 2)  # each output sees one tap of four
    np.testing.assert_allclose(found, 2 * (4 * 2 * 2 / (4 * 4)) * once / 4, rtol=1e-12)
