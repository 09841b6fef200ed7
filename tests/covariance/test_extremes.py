"""The larger and smaller of two: of branches, and of a tensor and a number."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from oracles.architectures import assert_both_kernels_agree, ending_dense

import keras2gp
from keras2gp.errors import UnsupportedModelError

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
IMAGE = (3, 4, 2)


def conv(x, window=2, units=6, **settings):
    return layers.Conv2D(units, window, **(HE | {"padding": "same"} | settings))(x)


def pool(x):
    return layers.AveragePooling2D(2, 1)(x)


def halves(x):
    """Max-feature-map: half of the channels against the other half."""
    first, second = ops.split(conv(x, units=8), 2, axis=-1)
    return pool(ops.maximum(first, second))


CASES = {
    "maxout": lambda x: pool(layers.Maximum()([conv(x), conv(x, 1)])),
    "the smaller": lambda x: layers.Minimum()([conv(x), conv(x, 1)]) + conv(x, activation="relu"),
    "halves of the channels": halves,
    "the larger, normalised": lambda x: conv(layers.LayerNormalization()(
        layers.Maximum()([conv(x), conv(x, 1)])), activation="relu"),
}  # fmt: skip


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c == "maxout" else pytest.mark.slow) for c in CASES]
)
def test_agrees_with_all_positions(case, rng):
    model = ending_dense(IMAGE, CASES[case])
    assert_both_kernels_agree(model, rng.normal(size=(4, *IMAGE)))


def test_the_oracle_agrees_with_sampled_values(rng):
    """Second moments of the larger of two pairs, from many draws."""
    a, b = (np.array(k) for k in ([[1.0, 0.6], [0.6, 2.0]], [[0.5, -0.2], [-0.2, 1.0]]))
    count = 400_000
    drawn = [rng.normal(size=(count, 2)) @ np.linalg.cholesky(k).T for k in (a, b)]
    larger = np.maximum(*drawn)
    d = a + b
    corner = np.arccos(d[0, 1] / np.sqrt(d[0, 0] * d[1, 1]))
    expected = (
        np.sqrt(d[0, 0] * d[1, 1])
        * (np.sin(corner) + (np.pi - corner) * np.cos(corner))
        / (2 * np.pi)
    )
    products = larger[:, 0] * larger[:, 1]
    assert abs(products.mean() - expected) < 5 * products.std() / np.sqrt(count)


EQUAL = {
    "relu": (lambda h: ops.maximum(h, 0.0), layers.ReLU()),
    "leaky relu": (lambda h: ops.maximum(0.25 * h, h), layers.LeakyReLU(0.25)),
    "relu6": (lambda h: ops.clip(h, 0.0, 6.0), layers.ReLU(6.0)),
    "minus relu": (lambda h: -ops.minimum(h, 0.0), lambda h: ops.relu(-h)),
    "both bounds": (
        lambda h: ops.minimum(ops.maximum(h, -0.5), 1.0), lambda h: ops.clip(h, -0.5, 1.0)
    ),
    "size": (lambda h: layers.Maximum()([h, -h]), ops.abs),
}  # fmt: skip


EXPANDED = {"both bounds", "relu6"}


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow) if c in EXPANDED else c for c in EQUAL]
)
def test_written_out_functions_are_the_same(case, rng):
    x = rng.normal(size=(3, 5))
    kernels = []
    for function in EQUAL[case]:
        i = keras.Input((5,))
        h = function(layers.Dense(8, **HE)(i))
        model = keras.Model(i, layers.Dense(3, **HE)(h))
        kernels.append(np.asarray(keras2gp.convert(model, dtype="float64").matrix(x, None, "both")))
    np.testing.assert_allclose(*kernels, rtol=1e-10)


REFUSED = {
    "of features": (lambda x: layers.Maximum()([conv(x, activation="relu"), conv(x)]), "not Gauss"),
    "of three": (lambda x: layers.Maximum()([conv(x), conv(x), conv(x)]), "more than two"),
    "bounds": (lambda x: ops.clip(conv(x), 1.0, 1.0), "is not below"),
    "then an activation": (
        lambda x: layers.ReLU()(layers.Maximum()([conv(x), conv(x)])), "not Gaussian"
    ),
    "times one of them": (
        lambda x: layers.Maximum()([h := conv(x), conv(x)]) * h, "same random layer"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_reason(case):
    function, why = REFUSED[case]
    with pytest.raises(UnsupportedModelError, match=why) as error:
        keras2gp.convert(ending_dense(IMAGE, function))
    assert all(obstacle.hint for obstacle in error.value.obstacles)
