"""Many small networks against loops in numpy, to 1e-9 in float64."""

import functools
import itertools

import keras
import numpy as np
import pytest
from keras import layers
from oracles import naive as oracle

import keras2gp

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}


def sequential(*parts):
    return lambda: keras.Sequential([keras.Input(parts[0]), *(make() for make in parts[1:])])


def dense(units=5, activation=None, **settings):
    return lambda: layers.Dense(units, activation=activation, **(HE | settings))


def conv(rank, window, **settings):
    kind = getattr(layers, f"Conv{rank}D")
    return lambda: kind(4, window, **(HE | {"activation": "relu"} | settings))


def convolutional(shape, *convs):
    return sequential(shape, *convs, layers.Flatten, dense(3))


def residual():
    x = h = keras.Input((6, 5, 2))
    h = layers.Conv2D(8, 3, padding="same", **HE)(h)
    for stride in (1, 2):
        r = layers.ReLU()(h)
        h = layers.Conv2D(8, 1, strides=stride, **HE)(r if stride == 2 else h)
        r = layers.Conv2D(8, 3, strides=stride, padding="same", activation="relu", **HE)(r)
        h = layers.Add()([h, layers.Conv2D(8, (2, 3), padding="same", **HE)(r)])
    return keras.Model(x, layers.Dense(2, **HE)(layers.Flatten()(layers.ReLU()(h))))


def branches(merge):
    def build():
        x = keras.Input((5, 4, 3))
        made = [layers.Conv2D(8, k, padding="same", activation="relu", **HE)(x) for k in (1, 2, 3)]
        made = [layers.Conv2D(8, 1, **HE)(m) for m in made]
        h = merge()(made if merge is not layers.Subtract else made[:2])
        return keras.Model(x, layers.Dense(2, **HE)(layers.Flatten()(layers.ReLU()(h))))

    return build


def features_plus_gaussian():
    x = keras.Input((7,))
    f = layers.Dense(8, activation="relu", **HE)(x)
    h = layers.Add()([f, layers.Dense(8, **HE)(f), layers.Dense(8, **HE)(x)])
    return keras.Model(x, layers.Dense(2, **HE)(h))


def two_inputs():
    a, b = keras.Input((6,), name="a"), keras.Input((4, 3), name="b")
    ha = layers.Dense(8, activation="relu", **HE)(a)
    hb = layers.Flatten()(layers.Conv1D(8, 2, **HE)(b))
    h = layers.Add()([layers.Dense(8, **HE)(ha), layers.Dense(8, **HE)(hb)])
    return keras.Model([a, b], layers.Dense(2, **HE)(layers.LeakyReLU(0.4)(h)))


def operation(function):
    def build():
        x = keras.Input((6,))
        h = function(layers.Dense(8, **HE)(x))
        return keras.Model(x, layers.Dense(2, **HE)(function(layers.Dense(8, **HE)(h))))

    return build


PADDINGS = ("valid", "same")
CASES = {
    "dense": sequential((7,), dense(1)),
    "mlp relu": sequential((7,), dense(5, "relu"), dense(5, "relu"), dense(2)),
    "mlp wide input": sequential((40,), dense(5, "relu"), dense(2)),
    "mlp leaky": sequential((7,), dense(5, "leaky_relu"), dense(2)),
    "mlp LeakyReLU": sequential((7,), dense(), lambda: layers.LeakyReLU(0.7), dense(2)),
    "mlp LeakyReLU beyond 1": sequential((7,), dense(), lambda: layers.LeakyReLU(1.6), dense(2)),
    "mlp ReLU with slope": sequential((7,), dense(), lambda: layers.ReLU(None, 0.1), dense(2)),
    "mlp gelu": sequential((7,), dense(5, "gelu"), dense(2)),
    "mlp exponential": sequential(
        (7,), dense(5, "exponential", kernel_initializer="lecun_normal"), dense(2)
    ),
    "glorot": sequential((7,), dense(5, "relu", kernel_initializer="glorot_uniform"), dense(9)),
    "no bias": sequential((7,), dense(5, "relu", use_bias=False), dense(2, use_bias=False)),
    "dense at every position": sequential((4, 3), dense(5, "relu"), layers.Flatten, dense(2)),
    "erf operation": operation(keras.ops.erf),
    "abs operation": operation(keras.ops.abs),
    "sin operation": operation(keras.ops.sin),
    "cos operation": operation(keras.ops.cos),
    "leaky_relu operation": operation(keras.ops.leaky_relu),
    "residual": residual,
    "sum": branches(layers.Add),
    "difference": branches(layers.Subtract),
    "average": branches(layers.Average),
    "features plus gaussian": features_plus_gaussian,
    "two inputs": two_inputs,
    "batch normalisation": sequential(
        (5, 4, 2), conv(2, 2, activation=None), layers.BatchNormalization, layers.ReLU,
        lambda: layers.Dropout(0.3), layers.Flatten, dense(2),
    ),
    "padding and cropping": sequential(
        (5, 4, 2), conv(2, 1), lambda: layers.ZeroPadding2D(((1, 2), (0, 3))), conv(2, 3),
        lambda: layers.Cropping2D(((0, 1), (1, 0))), conv(2, 2), layers.Flatten, dense(2),
    ),
    "reshape": sequential(
        (4, 6, 2), conv(2, 1), lambda: layers.Reshape((3, 8, 4)), conv(2, (2, 3)),
        lambda: layers.Reshape((12, 4)), conv(1, 3), layers.Flatten, dense(2),
    ),
    "1-D causal": convolutional((9, 2), conv(1, 3, padding="causal"), conv(1, 2, padding="causal")),
    "1-D causal dilated": convolutional((9, 2), conv(1, 3, padding="causal", dilation_rate=2)),
    "1-D causal strided": convolutional((9, 2), conv(1, 4, padding="causal", strides=2)),
    "rectangular": convolutional(
        (7, 4, 3), conv(2, (1, 3), padding="same"), conv(2, (4, 2), strides=(3, 1), padding="same")
    ),
    "many channels": convolutional((4, 4, 20), conv(2, 3)),
    "pointwise stride": convolutional((5, 6, 2), conv(2, 1, strides=2), conv(2, 2)),
    "nothing but a stride, same": convolutional((5, 6, 2), conv(2, 1, strides=3, padding="same")),
    "3-D mixed": convolutional(
        (5, 4, 3, 2), conv(3, (2, 3, 1), padding="same"), conv(3, 2, strides=(2, 1, 1))
    ),
    **{
        f"2-D window {window} stride {stride} dilation {dilation} {padding}": convolutional(
            (7, 6, 2),
            conv(2, window, strides=stride, dilation_rate=dilation, padding=padding),
        )
        for window, (stride, dilation), padding in itertools.product(
            (2, 3), ((2, 1), (3, 1), (1, 2)), PADDINGS
        )
    },
    **{
        f"{rank}-D stride {stride} {padding}": convolutional(
            (*((5, 4, 3)[:rank]), 2), conv(rank, 3, strides=stride, padding=padding)
        )
        for rank, stride, padding in itertools.product((1, 3), (1, 2), PADDINGS)
    },
}  # fmt: skip


def images(model, rng):
    def of(count):
        made = [rng.normal(size=(count, *t.shape[1:])) for t in model.inputs]
        return made if len(made) > 1 else made[0]

    return of(4), of(3)


@functools.cache
def converted(case, dtype):
    """The model and its kernel, kept: most of the time goes into compiling."""
    model = CASES[case]()
    return model, keras2gp.convert(model, dtype=dtype)


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_loops(case, rng):
    model, kernel = converted(case, "float64")
    x1, x2 = images(model, rng)
    expected = oracle.reference_kernel(model, x1, x2)
    np.testing.assert_allclose(kernel(x1, x2), expected, rtol=1e-9, atol=1e-10)
    expected = oracle.reference_kernel(model, x1)
    np.testing.assert_allclose(kernel(x1), expected, rtol=1e-9, atol=1e-10)


SOME = ["mlp relu", "mlp gelu", "erf operation", "residual", "rectangular", "two inputs"]


@pytest.mark.parametrize("case", SOME)
def test_float32_is_close_to_float64(case, rng):
    model, double = converted(case, "float64")
    x1, x2 = images(model, rng)
    _, single = converted(case, "float32")
    scale = np.sqrt(np.outer(double.diag(x1), double.diag(x2)))
    error = np.abs(np.asarray(single(x1, x2), "float64") - np.asarray(double(x1, x2)))
    assert (error / scale).max() <= 2e-5


@pytest.mark.parametrize("case", SOME)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_symmetric_path(case, dtype, rng):
    model, kernel = converted(case, dtype)
    x, _ = images(model, rng)
    found = np.asarray(kernel(x))
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(found.diagonal(), kernel.diag(x))
    np.testing.assert_allclose(found, kernel(x, x), rtol=0, atol=tolerance * found.max())


@pytest.mark.parametrize("case", SOME)
def test_positive_semi_definite(case, rng):
    model, kernel = converted(case, "float64")
    made = []
    for tensor in model.inputs:
        x = rng.normal(size=(10, *tensor.shape[1:]))
        made.append(np.concatenate([x, x[:2], -x[:2], 0 * x[:1]]))
    values = np.linalg.eigvalsh(kernel(made if len(made) > 1 else made[0]))
    assert values[0] > -1e-12 * values[-1]
