"""One reader after the other: what each Keras layer becomes, against numbers done by hand."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras2gp
from keras2gp.conversion.registry import reader
from keras2gp.errors import RegistryError, UnsupportedModelError

HE = {"kernel_initializer": "he_normal"}


def kernel_of(function, shape=(4,), dense=True, **settings):
    """Kernel of input -> function -> Flatten -> Dense (He)."""
    x = keras.Input(shape)
    h = function(x)
    if dense:
        h = layers.Dense(2, **HE)(layers.Flatten()(h))
    return keras2gp.convert(keras.Model(x, h), dtype="float64", **settings)


def matrix(function, x, **settings):
    return np.asarray(kernel_of(function, x.shape[1:], **settings)(x))


def hidden(x):
    return layers.Dense(8, name="hidden", **HE)(x)


def convolution(x, **settings):
    return layers.Conv2D(8, 3, padding="same", name="hidden", **(HE | settings))(x)


def relu(k):
    q = np.sqrt(np.outer(k.diagonal(), k.diagonal()))
    angle = np.arccos(np.clip(k / q, -1, 1))
    return q * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)


VECTOR, IMAGE = (4,), (5, 4, 2)
V = hidden
C = convolution

SAME_AS_NOTHING = {
    "ActivityRegularization": lambda x: layers.ActivityRegularization(l2=0.1)(V(x)),
    "AlphaDropout": lambda x: layers.AlphaDropout(0.1)(V(x)),
    "Dropout": lambda x: layers.Dropout(0.1)(V(x)),
    "GaussianDropout": lambda x: layers.GaussianDropout(0.1)(V(x)),
    "GaussianNoise": lambda x: layers.GaussianNoise(0.1)(V(x)),
    "Identity": lambda x: layers.Identity()(V(x)),
    "Activation": lambda x: layers.Activation("linear")(V(x)),
    "Flatten": lambda x: layers.Flatten()(V(x)),
    "Reshape": lambda x: layers.Reshape((8,))(layers.Reshape((1, 8))(V(x))),
    "SpatialDropout1D": lambda x: layers.SpatialDropout1D(0.1)(layers.Reshape((1, 8))(V(x))),
    "SpatialDropout2D": lambda x: layers.SpatialDropout2D(0.1)(layers.Reshape((1, 1, 8))(V(x))),
    "SpatialDropout3D": lambda x: layers.SpatialDropout3D(0.1)(
        layers.Reshape((1,) * 3 + (8,))(V(x))
    ),
    "Cropping1D": lambda x: layers.Cropping1D(1)(
        layers.ZeroPadding1D(1)(layers.Reshape((1, 8))(V(x)))
    ),
    "ZeroPadding1D": lambda x: layers.Cropping1D(1)(
        layers.ZeroPadding1D(1)(layers.Reshape((1, 8))(V(x)))
    ),
    "keras.ops Reshape": lambda x: ops.reshape(V(x), (-1, 8)),
    "keras.ops Add": lambda x: V(x) + 0.0,
    "keras.ops Subtract": lambda x: 0.0 - V(x),
    "keras.ops Negative": lambda x: -V(x),
    "keras.ops Multiply": lambda x: 4.0 * (0.25 * V(x)),
    "keras.ops Divide": lambda x: ops.divide(V(x) * 3, 3),
    "keras.ops TrueDivide": lambda x: V(x) * 3 / 3,
    "BatchNormalization": lambda x: layers.BatchNormalization(epsilon=0.0)(V(x)),
    "Add": lambda x: layers.Add()([h := V(x), h, -h]),
    "Subtract": lambda x: layers.Subtract()([2 * (h := V(x)), h]),
    "Average": lambda x: layers.Average()([h := V(x), h, h]),
}


@pytest.mark.parametrize("name", SAME_AS_NOTHING)
def test_layers_that_change_nothing(name, rng):
    x = rng.normal(size=(3, *VECTOR))
    expected = 4 * x @ x.T / 4
    np.testing.assert_allclose(matrix(SAME_AS_NOTHING[name], x), expected, rtol=1e-12)


SCALED = {
    "x + x": (lambda x: (h := V(x)) + h, 4.0),
    "x + x + x": (lambda x: layers.Add()([h := V(x), h, h]), 9.0),
    "(x + y) + x": (lambda x: ((h := V(x)) + layers.Dense(8, **HE)(x)) + h, 5.0),
    "x + (y + x)": (lambda x: (h := V(x)) + (layers.Dense(8, **HE)(x) + h), 5.0),
    "(x + y) - x": (lambda x: ((h := V(x)) + layers.Dense(8, **HE)(x)) - h, 1.0),
    "(x + y) - (x - y)": (lambda x: ((h := V(x)) + (g := layers.Dense(8, **HE)(x))) - (h - g), 4.0),
    "x - x": (lambda x: layers.Subtract()([h := V(x), h]), 0.0),
    "(0 - x) + x": (lambda x: (0 - (h := V(x))) + h, 0.0),
    "average of x, y": (lambda x: layers.Average()([V(x), layers.Dense(8, **HE)(x)]), 0.5),
    "2 x - y / 3": (lambda x: 2 * V(x) - layers.Dense(8, **HE)(x) / 3, 4 + 1 / 9),
    "reshaped x + x": (
        lambda x: layers.Reshape((1, 8))(h := V(x)) + layers.Reshape((1, 8))(h + 2 * h), 16.0,
    ),
    "batch normalisation": (
        lambda x: layers.BatchNormalization(
            gamma_initializer=keras.initializers.Constant(3.0),
            moving_variance_initializer=keras.initializers.Constant(0.5),
        )(V(x)), 9 / 0.501,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALED)
def test_sums_and_factors(name, rng):
    function, factor = SCALED[name]
    x = rng.normal(size=(3, *VECTOR))
    np.testing.assert_allclose(matrix(function, x), factor * 4 * x @ x.T / 4, rtol=1e-12)


ACTIVATIONS = {
    "fused": lambda x: layers.Dense(8, activation="relu", **HE)(x),
    "Activation": lambda x: layers.Activation("relu")(V(x)),
    "ReLU": lambda x: layers.ReLU()(V(x)),
    "LeakyReLU": lambda x: layers.LeakyReLU(negative_slope=0.0)(V(x)),
    "PReLU": lambda x: layers.PReLU()(V(x)),
    "keras.ops Relu": lambda x: ops.relu(V(x)),
    "keras.ops LeakyRelu": lambda x: ops.leaky_relu(V(x), negative_slope=0.0),
    "a layer as activation": lambda x: layers.Dense(8, activation=layers.ReLU(), **HE)(x),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_ways_to_write_an_activation(name, rng):
    x = rng.normal(size=(3, *VECTOR))
    expected = 2 * relu(2 * x @ x.T / 4)
    np.testing.assert_allclose(matrix(ACTIVATIONS[name], x), expected, rtol=1e-9)


OPERATIONS = {
    "Abs": ops.abs,
    "Absolute": ops.absolute,
    "Cos": ops.cos,
    "Erf": ops.erf,
    "Exp": ops.exp,
    "Gelu": functools.partial(ops.gelu, approximate=False),
    "Heaviside": lambda x: ops.heaviside(x, np.float64(0.5)),
    "LeakyRelu": ops.leaky_relu,
    "Relu": ops.relu,
    "Sin": ops.sin,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_as_activations(name, rng):
    x = rng.normal(size=(60, *VECTOR))
    wide = rng.normal(size=(4, 40_000)) * np.sqrt(2 / 4)
    phi = np.asarray(OPERATIONS[name]((x @ wide).astype("float32")), "float64")
    sampled = 2 * phi @ phi.T / phi.shape[1]
    found = matrix(lambda x: OPERATIONS[name](V(x)), x)
    deviation = np.abs(sampled - found).mean() / found.diagonal().mean()
    assert deviation < 0.15 if name == "Exp" else deviation < 0.02


@pytest.mark.parametrize("function", [ops.log_softmax, ops.softmax, ops.sparsemax])
def test_activations_without_a_rule_are_refused(function):
    with pytest.raises(UnsupportedModelError, match="mixes the channels"):
        kernel_of(lambda x: function(V(x)))


REFUSED_LAYERS = {"Softmax": layers.Softmax}


@pytest.mark.parametrize("name", REFUSED_LAYERS)
def test_layers_that_are_read_but_have_no_rule(name):
    with pytest.raises(UnsupportedModelError, match=name.lower()):
        kernel_of(lambda x: REFUSED_LAYERS[name]()(V(x)))


SPATIAL = {
    "Conv1D": (layers.Conv1D, (6, 2)),
    "Conv2D": (layers.Conv2D, (6, 5, 2)),
    "Conv3D": (layers.Conv3D, (4, 5, 3, 2)),
}


@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_channels_first_is_channels_last_moved(name, padding, rng):
    kind, shape = SPATIAL[name]

    def network(form):
        def function(x):
            settings = {"strides": 2, "padding": padding, "data_format": form} | HE
            h = kind(8, 2, activation="relu", **settings)(x)
            if name != "Conv1D" and form != "none":
                pad = getattr(layers, name.replace("Conv", "ZeroPadding"))
                crop = getattr(layers, name.replace("Conv", "Cropping"))
                h = pad(2, data_format=form)(h)
                h = crop(1, data_format=form)(h)
            h = layers.BatchNormalization(axis=1 if form == "channels_first" else -1)(h)
            h = kind(8, 1, data_format=form, **HE)(h)
            return layers.Flatten(data_format=form)(h)

        return function

    x = rng.normal(size=(3, *shape))
    last = matrix(network("channels_last"), x)
    first = matrix(network("channels_first"), np.moveaxis(x, -1, 1))
    np.testing.assert_allclose(first, last, rtol=1e-12)


def test_one_image_read_in_both_formats(rng):
    x = rng.normal(size=(2, 5, 5, 5))

    def branch(image, form):
        h = layers.Conv2D(8, (3, 1), data_format=form, **HE)(image)
        return layers.Dense(8, **HE)(layers.Flatten(data_format=form)(h))

    forms = ("channels_first", "channels_last")
    both = matrix(lambda i: layers.Add()([branch(i, form) for form in forms]), x, dense=False)
    each = [matrix(lambda i, f=form: branch(i, f), x, dense=False) for form in forms]
    np.testing.assert_allclose(both, sum(each), rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "amount"),
    [("ZeroPadding2D", ((2, 1), (0, 3))), ("Cropping2D", ((1, 0), (2, 1)))],
)
def test_padding_and_cropping_before_and_after_weights(kind, amount, rng):
    """Before the first weights Keras does it; after a pointwise layer the graph has to."""
    x = rng.normal(size=(3, 6, 7, 2))

    def first(image):
        h = getattr(layers, kind)(amount)(image)
        return layers.Conv2D(8, 2, **HE)(layers.Conv2D(8, 1, use_bias=False, **HE)(h))

    def later(image):
        h = layers.Conv2D(8, 1, use_bias=False, **HE)(image)
        return layers.Conv2D(8, 2, **HE)(getattr(layers, kind)(amount)(h))

    np.testing.assert_allclose(matrix(first, x), matrix(later, x), rtol=1e-12)


@pytest.mark.parametrize("rank", [1, 3])
def test_padding_and_cropping_of_other_ranks(rank, rng):
    x = rng.normal(size=(3, *(4, 3, 5)[:rank], 2))
    conv, pad, crop = (getattr(layers, f"{n}{rank}D") for n in ("Conv", "ZeroPadding", "Cropping"))

    def first(image):
        return conv(8, 2, **HE)(conv(8, 1, use_bias=False, **HE)(crop(1)(pad(2)(image))))

    def later(image):
        return conv(8, 2, **HE)(crop(1)(pad(2)(conv(8, 1, use_bias=False, **HE)(image))))

    np.testing.assert_allclose(matrix(first, x), matrix(later, x), rtol=1e-12)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_the_logarithm_of_an_output_activation_is_removed_with_it(name, rng):
    x = rng.normal(size=(3, 4))
    kernel = kernel_of(lambda i: ops.log(getattr(ops, name)(layers.Dense(3, **HE)(i))), dense=False)
    np.testing.assert_allclose(kernel(x), 2 * x @ x.T / 4, rtol=1e-12)
    assert f"log_{name}" in kernel.report.notes[0]


LOGARITHMS = {
    "of a Gaussian tensor": (lambda x: ops.log(V(x)), "at 0 and below"),
    "of a softmax inside": (lambda x: layers.Dense(3)(ops.log(ops.softmax(V(x)))), "mixes"),
    "glu in a layer": (lambda x: layers.Dense(4, activation="glu")(x), "halves the channels"),
    "glu as a layer": (lambda x: layers.Activation("glu")(V(x)), "halves the channels"),
}


@pytest.mark.parametrize("name", LOGARITHMS)
def test_logarithms_and_gates_without_a_rule_are_refused(name):
    function, why = LOGARITHMS[name]
    with pytest.raises(UnsupportedModelError, match=why):
        kernel_of(function, dense=False)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_an_output_activation_is_removed_and_reported(name, rng):
    x = rng.normal(size=(3, 4))
    for function in (
        lambda i: layers.Dense(3, activation=name, **HE)(i),
        lambda i: layers.Activation(name)(layers.Dense(3, **HE)(i)),
        lambda i: getattr(ops, name)(layers.Dense(3, **HE)(i)),
    ):
        kernel = kernel_of(function, dense=False)
        np.testing.assert_allclose(kernel(x), 2 * x @ x.T / 4, rtol=1e-12)
        assert name in kernel.report.notes[0]
        assert "removed" in str(kernel.report)


def test_batch_normalisation_and_prelu_stand_in_the_report():
    kernel = kernel_of(lambda x: layers.PReLU()(layers.BatchNormalization()(V(x))))
    notes = {row.layer: row.note for row in kernel.report.rows}
    assert "initial statistics" in notes["BatchNormalization"]
    assert "initial slope" in notes["PReLU"]


@pytest.mark.parametrize("settings", [
    {"beta_initializer": "random_normal"}, {"moving_mean_initializer": "random_normal"},
    {"gamma_initializer": "glorot_normal"},
])  # fmt: skip
def test_batch_normalisation_of_unlike_channels_is_refused(settings):
    with pytest.raises(UnsupportedModelError, match="differs from channel to channel"):
        kernel_of(lambda x: layers.BatchNormalization(**settings)(V(x)))


BAD_SHAPES = {
    "Reshape that mixes channels": lambda x: layers.Conv2D(4, 1)(
        layers.Reshape((4, 5, 8))(layers.Permute((1, 3, 2))(C(x)))
    ),
    "Reshape of the batch": lambda x: layers.Dense(4)(
        ops.reshape(layers.Flatten()(C(x)), (-1, 16))
    ),
    "Flatten of the other format": lambda x: layers.Flatten(data_format="channels_first")(C(x)),
    "broadcast sum": lambda x: C(x) + layers.Conv2D(1, 1)(x),
    "groups": lambda x: layers.Conv2D(8, 1, groups=2)(x),
    "Dense over positions": lambda x: layers.Dense(4)(
        layers.Conv2D(4, 1, data_format="channels_first")(x)
    ),
    "other data_format": lambda x: layers.Conv2D(4, 1, data_format="channels_first")(C(x)),
    "a constant with more axes": lambda x: C(x) * np.ones((1,) * 5, "float32"),
}


@pytest.mark.parametrize("name", BAD_SHAPES)
def test_what_would_mix_channels_positions_or_images_is_refused(name):
    with pytest.raises(UnsupportedModelError):
        kernel_of(BAD_SHAPES[name], IMAGE, dense=name != "a constant with more axes")


def test_readers_are_registered_once():
    with pytest.raises(RegistryError, match="already"):
        reader(layers.Dense)(lambda call, context: None)
