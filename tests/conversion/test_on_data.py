"""Layers that Keras runs on the data, in the precision of the kernel, against numpy."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras2gp

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.uniform(-0.5, 0.5, size=(3, 5))
IMAGES = RANDOM.random((2, 4, 4, 3))
VOLUMES = RANDOM.random((2, 4, 6, 4, 2))
FACTORS = [0.1, 0.2, 0.3, 0.4, 0.7]


def leaky(x, slope):
    return np.where(x > 0, x, slope * x)


def clipped(x):
    return np.where(x >= 0.3, 0.3, np.where(x >= 0.1, x, 0.1 * (x - 0.1)))


def pooled(x, function=np.mean):
    blocks = x.reshape(len(x), 2, 2, 3, 2, 2, 2, 2)
    return function(blocks, axis=(2, 4, 6))


def pooled_same(x, function):
    """Windows of 3, stride 2, "same": one zero behind each axis, which no mean counts."""
    starts = [range(0, n, 2) for n in x.shape[1:4]]
    return np.stack([np.stack([np.stack([
        function(x[:, i : i + 3, j : j + 3, k : k + 3], axis=(1, 2, 3))
        for k in starts[2]], 1) for j in starts[1]], 1) for i in starts[0]], 1)  # fmt: skip


CASES = {
    "Rescaling": (VECTORS, lambda: layers.Rescaling(1 / 255, 0.1), lambda x: x / 255 + 0.1),
    "Rescaling by axis": (
        VECTORS, lambda: layers.Rescaling(FACTORS, [0.1] * 5), lambda x: x * FACTORS + 0.1,
    ),
    "ReLU": (
        VECTORS, lambda: layers.ReLU(max_value=0.3, negative_slope=0.1, threshold=0.1), clipped,
    ),
    "relu": (VECTORS, lambda: lambda h: keras.activations.relu(h, 0.1, 0.3, 0.1), clipped),
    "ReLU with a slope": (
        VECTORS, lambda: layers.ReLU(negative_slope=0.1), lambda x: leaky(x, 0.1),
    ),
    "LeakyReLU": (VECTORS, lambda: layers.LeakyReLU(negative_slope=0.1), lambda x: leaky(x, 0.1)),
    "leaky relu": (VECTORS, lambda: lambda h: ops.leaky_relu(h, 0.1), lambda x: leaky(x, 0.1)),
    "Activation": (VECTORS, lambda: layers.Activation("leaky_relu"), lambda x: leaky(x, 0.2)),
    "ELU": (VECTORS, lambda: layers.ELU(0.3), lambda x: np.where(x > 0, x, 0.3 * np.expm1(x))),
    "Normalization": (
        VECTORS, lambda: layers.Normalization(mean=0.1, variance=0.3),
        lambda x: (x - 0.1) / np.sqrt(0.3),
    ),
    "Normalization by axis": (
        VECTORS, lambda: layers.Normalization(mean=FACTORS, variance=FACTORS),
        lambda x: (x - FACTORS) / np.sqrt(FACTORS),
    ),
    "operations": (
        VECTORS, lambda: lambda h: ops.clip(h * 0.1 + 0.3, 0.27, 0.33) / 0.7,
        lambda x: np.clip(x * 0.1 + 0.3, 0.27, 0.33) / 0.7,
    ),
    "AveragePooling2D": (
        IMAGES, lambda: layers.AveragePooling2D(2),
        lambda x: x.reshape(2, 2, 2, 2, 2, 3).mean((2, 4)),
    ),
    "AveragePooling3D": (VOLUMES, lambda: layers.AveragePooling3D(2), pooled),
    "average pool": (VOLUMES, lambda: lambda h: ops.average_pool(h, 2), pooled),
    "AdaptiveAveragePooling3D": (
        VOLUMES, lambda: layers.AdaptiveAveragePooling3D((2, 3, 2)), pooled,
    ),
    "MaxPooling3D": (VOLUMES, lambda: layers.MaxPooling3D(2), lambda x: pooled(x, np.max)),
    "max pool": (VOLUMES, lambda: lambda h: ops.max_pool(h, 2), lambda x: pooled(x, np.max)),
    "AveragePooling3D same": (
        VOLUMES, lambda: layers.AveragePooling3D(3, 2, "same"), lambda x: pooled_same(x, np.mean),
    ),
    "MaxPooling3D same": (
        VOLUMES, lambda: layers.MaxPooling3D(3, 2, "same"), lambda x: pooled_same(x, np.max),
    ),
    "AveragePooling3D first": (
        np.moveaxis(VOLUMES, -1, 1),
        lambda: layers.AveragePooling3D(2, data_format="channels_first"),
        lambda x: np.moveaxis(pooled(np.moveaxis(x, 1, -1)), -1, 1),
    ),
    "GlobalAveragePooling3D": (
        VOLUMES, lambda: layers.GlobalAveragePooling3D(), lambda x: x.mean((1, 2, 3)),
    ),
}  # fmt: skip


def kernel_of(name, dtype):
    x, layer, _ = CASES[name]
    i = keras.Input(x.shape[1:])
    normal = keras.initializers.RandomNormal(stddev=1.0)
    h = layers.Dense(1, kernel_initializer=normal)(layers.Flatten()(layer()(i)))
    return keras2gp.convert(keras.Model(i, h), dtype=dtype)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-13), ("float32", 1e-5)])
def test_layers_on_data(name, dtype, error):
    x, _, function = CASES[name]
    z = function(x).reshape(len(x), -1)
    np.testing.assert_allclose(kernel_of(name, dtype)(x), z @ z.T, rtol=error, atol=error)


@pytest.mark.parametrize("name", ["Rescaling by axis", "Normalization", "ReLU", "MaxPooling3D"])
def test_a_loaded_kernel_has_the_same_constants(name, tmp_path):
    kernel = kernel_of(name, "float64")
    kernel.save(tmp_path / "kernel")
    loaded = keras2gp.load(tmp_path / "kernel")
    np.testing.assert_array_equal(loaded(CASES[name][0]), kernel(CASES[name][0]))


def test_interpolation_in_float32_stands_in_the_report():
    x = keras.Input((4, 4, 1))
    h = layers.Flatten()(layers.Resizing(2, 2, name="small")(x))
    model = keras.Model(x, layers.Dense(1)(h))
    notes = {
        dtype: {row.path: row.note for row in keras2gp.convert(model, dtype=dtype).report.rows}
        for dtype in ("float32", "float64")
    }
    assert notes["float64"]["small"] == "computed in float32 by TensorFlow"
    assert not notes["float32"]["small"]


@pytest.mark.parametrize("scale", [1e39, -1e39, [1.0, 1.0, 1.0, 1.0, 1e39]])
def test_a_constant_beyond_the_dtype_is_refused_by_name(scale):
    x = keras.Input((5,))
    model = keras.Model(x, layers.Dense(1)(layers.Rescaling(scale, name="large")(x)))
    with pytest.raises(keras2gp.UnsupportedModelError, match=r"large.*scale.*beyond float32"):
        keras2gp.convert(model)
    assert np.isfinite(keras2gp.convert(model, dtype="float64")(VECTORS)).all()


class Failing(keras.layers.Layer):
    """Runs on symbols, and fails on numbers."""

    def call(self, inputs):
        if inputs.shape[0] is not None:
            raise KeyError("no such thing")
        return inputs


def test_what_keras_cannot_run_is_an_obstacle():
    keras2gp.deterministic(Failing)
    x = keras.Input((5,))
    model = keras.Model(x, layers.Dense(1)(Failing()(x)))
    with pytest.raises(keras2gp.UnsupportedModelError, match="Keras cannot run"):
        keras2gp.convert(model)
