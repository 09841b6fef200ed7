"""Whatever has no exact kernel is refused, by name, with the reason, all of it at once."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras2gp
from keras2gp.errors import UnsupportedModelError

SHAPE = (6, 5, 3)


class Custom(keras.layers.Layer):
    """Not of Keras's operations."""

    def call(self, inputs):
        return tf.math.bessel_i0e(inputs)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def conv(name=None, **settings):
    return layers.Conv2D(8, 3, padding="same", name=name, **settings)


def model_of(function, shape=SHAPE):
    x = keras.Input(shape)
    return keras.Model(x, layers.Dense(2, name="head")(layers.Flatten()(function(x))))


def nested(layer):
    def function(x):
        y = keras.Input(SHAPE)
        inner = keras.Model(y, layer(conv()(y)), name="inner")
        z = keras.Input(SHAPE)
        return keras.Model(z, inner(z), name="middle")(x)

    return function


def conv3(x):
    return layers.Conv2D(3, 3, padding="same")(x)


def resnet_v1(x):
    h = conv(activation="relu")(x)
    r = conv()(conv(activation="relu")(h))
    return layers.ReLU(name="late")(layers.Add(name="sum")([h, r]))


def shared(x):
    layer = conv("twice")
    h = conv()(x)
    return layer(layers.ReLU()(h)) + layer(layers.ReLU()(layers.Rescaling(2.0)(h)))


def shared_across_models(x):
    layer = conv("twice")
    y = keras.Input(SHAPE)
    inner = keras.Model(y, layer(y), name="inner")
    h = conv3(x)
    return inner(layers.ReLU()(h)) + layer(layers.Activation("tanh")(h))


def nested_model_twice(x):
    y = keras.Input(SHAPE)
    inner = keras.Model(y, conv("twice")(y), name="inner")
    h = conv3(x)
    return inner(h) + inner(layers.AveragePooling2D(3, 1, padding="same")(h))


def called_on_itself(x):
    layer = conv("twice")
    return layer(layers.ReLU()(layer(conv()(x))))


def with_its_activation(x):
    h = conv("source")(x)
    pooled = layers.AveragePooling2D(3, 1, padding="same")(h)
    return layers.Add(name="sum")([h, layers.ReLU()(pooled)])


def training(x):
    y = keras.Input(SHAPE)
    inner = keras.Model(y, layers.Dropout(0.5, name="dropout")(conv()(y)), name="inner")
    return inner(x, training=True)


CASES = {
    "Lambda": (
        lambda x: layers.Lambda(lambda t: tf.math.bessel_i0e(t), name="bad")(conv()(x)),
        "bad",
        "Lambda",
    ),
    "MaxPooling": (lambda x: layers.MaxPooling2D(name="bad")(conv()(x)), "bad", "MaxPooling2D"),
    "custom": (lambda x: Custom(name="bad")(conv()(x)), "bad", "Custom"),
    "unknown at depth": (nested(Custom(name="bad")), "middle/inner/bad", "Custom"),
    "ResNet v1": (resnet_v1, "late", "activation relu of the output of sum"),
    "data plus gaussian": (
        lambda x: layers.ReLU(name="late")(layers.Add(name="sum")([x, layers.Conv2D(3, 1)(x)])),
        "late",
        "activation relu of the output of sum",
    ),
    "activation of a difference of features": (
        lambda x: layers.ReLU(name="late")(
            layers.Subtract(name="sum")([conv(activation="relu")(x), conv(activation="relu")(x)])
        ),
        "late",
        "activation relu of the output of sum",
    ),
    "shared layer": (shared, "twice", "called 2 times"),
    "shared across models": (shared_across_models, "twice", "called 2 times"),
    "nested model twice": (nested_model_twice, "inner/twice", "called 2 times"),
    "called on itself": (called_on_itself, "twice", "called 2 times"),
    "activation of a branch": (with_its_activation, "sum", "sum of branches"),
    "constant initialiser": (lambda x: conv("bad", kernel_initializer="ones")(x), "bad", "Conv2D"),
    "own activation": (
        lambda x: conv("bad", activation=lambda t: t / keras.ops.sum(t))(x),
        "bad",
        "Conv2D",
    ),
    "activation without rule": (
        lambda x: conv("bad", activation="log_softmax")(x),
        "bad",
        "log_softmax",
    ),
    "two activations": (
        lambda x: layers.ReLU(name="bad")(
            layers.AveragePooling2D(2, name="c")(conv(activation="gelu")(x))
        ),
        "bad",
        "relu of the output of c",
    ),
    "product": (
        lambda x: layers.Multiply(name="bad")(
            [h := conv()(x), layers.AveragePooling2D(3, 1, padding="same")(h)]
        ),
        "bad",
        "product of",
    ),
    "BatchNormalization in training": (
        lambda x: layers.BatchNormalization(name="bad")(conv()(x), training=True),
        "bad",
        "BatchNormalization",
    ),
    "nested model in training": (training, "inner/dropout", "Dropout"),
    "softmax inside": (lambda x: conv()(layers.Softmax(name="bad")(conv()(x))), "bad", "softmax"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_refusal_names_where_what_and_why(name):
    function, where, received = CASES[name]
    with pytest.raises(UnsupportedModelError) as caught:
        keras2gp.convert(model_of(function))
    (obstacle,) = [o for o in caught.value.obstacles if o.where.endswith(where)]
    assert received in obstacle.received
    assert len(obstacle.why) > 20
    assert obstacle.hint
    assert str(obstacle) in str(caught.value)


SEQUENCE = {
    "LSTM": (layers.LSTM(4), "gates multiply"),
    "GRU": (layers.Bidirectional(layers.GRU(4)), "gates multiply"),
    "attention": (lambda h: layers.MultiHeadAttention(2, 4)(h, h), "softmax of products"),
    "dot": (lambda h: layers.Dot(2)([h, h]), "matrix of inner products"),
    "maximum": (lambda h: layers.Maximum()([h, 2 * h, -h]), "the larger of more than two"),
    "largest channel": (lambda h: keras.ops.max(h, axis=-1), "largest or smallest"),
    "einsum": (layers.EinsumDense("abc,bd->adc", (5, 4)), "sums over other axes than the last"),
    "spectral": (layers.SpectralNormalization(layers.Dense(3)), "largest singular value"),
    "softmax over positions": (layers.Softmax(axis=1), "fixed number of positions"),
    "softmax over channels": (layers.Softmax(), "mixes the channels"),
    "softmax of one channel": (lambda h: keras.ops.softmax(h[..., :1]), "number of positions"),
    "one gate for all channels": (
        lambda h: h * layers.Dense(1, activation="sigmoid")(h),
        "shares its randomness",
    ),
    "by hand": (lambda h: keras.ops.rsqrt(h), "a normalisation over other axes"),
    "other": (lambda h: keras.ops.sort(h, axis=1), "no exact rule for it here"),
}


@pytest.mark.parametrize("name", SEQUENCE)
def test_a_layer_without_a_rule_says_why_and_what_would_work(name):
    layer, why = SEQUENCE[name]
    x = keras.Input((6, 3))
    h = layer(layers.Conv1D(4, 1)(x))
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(h) if len(h.shape) > 2 else h))
    (obstacle,) = keras2gp.inspect(model).obstacles
    assert why in obstacle.why
    assert obstacle.hint


def test_what_the_hints_name_converts():
    """A gate for each channel, the larger of two slices, inner products side by side."""
    x, y = keras.Input((6,)), keras.Input((4, 6))
    a, b, c, d = (layers.Dense(8)(x) for _ in range(4))
    sums = [keras.ops.sum(u * v, axis=1, keepdims=True) for u, v in ((a, b), (c, d))]
    steps = layers.Dense(8, activation="relu")(y)
    gated = steps * layers.Dense(8, activation="sigmoid")(layers.Dense(8, activation="tanh")(steps))
    for inputs, output in (
        (y, layers.Dense(1)(keras.ops.sum(gated, axis=1))),
        (x, layers.Dense(1)(keras.ops.maximum(a[..., :4], a[..., 4:]))),
        (x, layers.Dot(1)([a, b])),
        (x, layers.Concatenate()(sums)),
    ):
        assert keras2gp.inspect(keras.Model(inputs, output)).exact


def test_inspect_never_raises_for_a_layer():
    for function, where, _ in CASES.values():
        report = keras2gp.inspect(model_of(function))
        assert not report.exact
        assert any(o.where.endswith(where) for o in report.obstacles)
        assert where in str(report)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Subclassed, r"shape of its input is not known.*input_shape="),
        (lambda: keras.Sequential([layers.Dense(3)]), "not built"),
        (keras.Sequential, "has no layers, and so no weights"),
        (lambda: keras.Sequential([keras.Input((4,))]), "has no layers, and so no weights"),
        (lambda: keras.Sequential([keras.Input((4,)), layers.Rescaling(2.0)]), "no layer draws"),
    ],
)
def test_models_without_a_graph(model, why):
    with pytest.raises(UnsupportedModelError, match=why):
        keras2gp.convert(model())
    assert not keras2gp.inspect(model()).exact


def test_a_size_that_is_not_fixed():
    x = keras.Input((None, None, 3))
    h = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="first")(x))
    with pytest.raises(UnsupportedModelError, match="size must be fixed"):
        keras2gp.convert(keras.Model(x, layers.Dense(2)(h)))


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (lambda h: layers.Dense(2, activation="relu")(h), "ends in an activation"),
        (lambda h: h + layers.ReLU()(layers.Dense(8)(h)), "activation"),
    ],
)  # fmt: skip
def test_an_output_that_is_not_gaussian(end, why):
    x = keras.Input((4,))
    with pytest.raises(UnsupportedModelError, match=why):
        keras2gp.convert(keras.Model(x, end(layers.Dense(8)(x))))


def test_all_obstacles_at_once_however_they_follow_one_another():
    x = keras.Input(SHAPE)
    depthwise = layers.DepthwiseConv2D(3)
    h = layers.Lambda(lambda t: tf.math.bessel_i0e(t), name="one")(conv()(x))
    h = layers.MaxPooling2D(name="two")(h)
    h = Custom(name="three")(h)
    h = layers.Flatten()(conv("four", activation="tanh", kernel_initializer="ones")(h))
    other = layers.Flatten()(layers.ReLU(name="five")(depthwise(layers.Conv2D(8, 1)(x))))
    model = keras.Model(x, layers.Dense(2)(h) + layers.Dense(2)(other))
    with pytest.raises(UnsupportedModelError) as caught:
        keras2gp.convert(model)
    assert {o.where for o in caught.value.obstacles} == {"one", "two", "three", "four", "five"}
    assert "5 obstacles" in str(caught.value)


def test_obstacles_that_do_not_reach_the_output_do_not_matter(rng):
    x = keras.Input((4,))
    good = layers.Dense(2, name="good", kernel_initializer="he_normal")(x)
    bad = layers.Dense(2)(Custom(name="bad")(layers.Dense(3)(good)))
    model = keras.Model(x, [good, bad])
    y = rng.normal(size=(3, 4))
    kernel = keras2gp.convert(model, output="good", dtype="float64")
    np.testing.assert_allclose(kernel(y), 2 * y @ y.T / 4, rtol=1e-12)
    with pytest.raises(UnsupportedModelError, match="bad"):
        keras2gp.convert(model, output=1)


def test_an_override_of_both_variances_stands_for_an_initialiser_without_a_rule():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, kernel_initializer="ones")])
    x = np.ones((2, 4))
    kernel = keras2gp.convert(model, overrides={"dense*": {"weight": 3.0, "bias": 1.0}})
    np.testing.assert_allclose(kernel(x), 4.0)
    with pytest.raises(UnsupportedModelError):
        keras2gp.convert(model, overrides={"dense*": {"weight": 3.0}})


@pytest.mark.parametrize(
    "operation",
    [
        ops.transpose,
        lambda h: h[:, ::3],
        lambda h: ops.flip(h, 1),
        lambda h: ops.cumprod(h, 1),
        lambda h: ops.concatenate([h, h]),
    ],
)
def test_operations_that_have_no_reader(operation):
    x = keras.Input((4,))
    h = layers.Dense(8)(x)
    with pytest.raises(UnsupportedModelError):
        keras2gp.convert(keras.Model(x, operation(h)))


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: keras.ops.flip(x, axis=0),
        keras.layers.Softmax(axis=0),
        keras.layers.UnitNormalization(axis=0),
    ],
)
def test_layers_that_mix_the_images_of_a_batch_before_the_first_weights(mix):
    x = keras.Input((5,))
    model = keras.Model(x, keras.layers.Dense(2)(mix(x)))
    with pytest.raises(UnsupportedModelError, match="depend on the other images"):
        keras2gp.convert(model)


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_a_layer_that_is_not_read_from_a_file_has_its_own_name_in_the_report(tmp_path):
    x = keras.Input((6, 6, 1))
    h = layers.Lambda(lambda t: t * 2, name="code")(conv()(x))
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(h)))
    model.save(tmp_path / "m.keras")
    rows = {row.path: row for row in keras2gp.inspect(tmp_path / "m.keras").rows}
    assert (rows["code"].layer, rows["code"].became) == ("Lambda", "refused")


def test_a_refused_layer_of_a_shared_tower_is_listed_once():
    tower = keras.Sequential([keras.Input((6, 4)), layers.LSTM(8, name="lstm")], name="tower")
    one, two = keras.Input((6, 4)), keras.Input((6, 4))
    other = layers.LSTM(8, name="other")(two)
    joined = layers.Concatenate()([tower(one), tower(two), other])
    obstacles = keras2gp.inspect(keras.Model([one, two], layers.Dense(1)(joined))).obstacles
    assert [obstacle.where for obstacle in obstacles] == ["tower/lstm", "other"]


def test_what_follows_a_refused_product_of_positions_is_not_judged_by_a_guessed_layout():
    x = keras.Input((6,), dtype="int32")
    fields = layers.Embedding(50, 8)(x)
    queries, values = layers.Dense(8)(fields), layers.Dense(8)(fields)
    pairs = ops.softmax(ops.matmul(queries, ops.transpose(fields, (0, 2, 1))))
    mixed = ops.matmul(pairs, values) + layers.Dense(8)(fields)
    report = keras2gp.inspect(keras.Model(x, layers.Dense(1)(layers.Flatten()(mixed))))
    reasons = [obstacle.why for obstacle in report.obstacles]
    assert sum("multiplies each position" in why for why in reasons) == 2
    assert not any("channels first" in why for why in reasons)
