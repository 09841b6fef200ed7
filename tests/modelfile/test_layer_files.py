"""Files with pooling, concatenation and all kinds of convolutions: models, and saved kernels."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from networks import HE, IMAGE, conv, model_of

import keras2gp


def pooled(x):
    h = layers.AveragePooling2D(2, padding="same")(conv(x, activation="relu"))
    h = layers.MaxPooling2D(1, 2)(h)
    h = layers.AdaptiveAveragePooling2D((1, 2))(layers.UpSampling2D((1, 3))(h))
    return layers.GlobalAveragePooling2D(keepdims=True)(conv(h))


def operations(x):
    h = ops.average_pool(conv(x), 2, 1, "same")
    h = ops.concatenate([h, ops.transpose(ops.transpose(conv(x), (0, 3, 1, 2)), (0, 2, 3, 1))], -1)
    return ops.mean(ops.expand_dims(ops.mean(h, axis=1, keepdims=True), 1), axis=(1, 2, 3))


def convolutions(x):
    h = layers.Concatenate()([conv(x, activation="relu"), conv(x, units=4)])
    h = layers.SeparableConv2D(8, 3, padding="same", activation="relu")(h)
    h = conv(layers.DepthwiseConv2D(3)(h), groups=2)
    return layers.Conv2DTranspose(4, 3, strides=2, **HE)(h)


def residual(x):
    h = conv(x)
    r = StochasticDepth(0.1)(LayerScale(0.3, 8)(conv(layers.ReLU()(h))))
    h = h + r - layers.AveragePooling2D(3, 1, padding="same")(h)
    return layers.Rescaling(0.5)(CustomScaleLayer(0.2)([h, conv(x)]))


def decoder(x):
    h = layers.Dense(24, **HE)(layers.Flatten()(x))
    h = layers.Concatenate()([h, layers.Dense(4)(h)])
    h = layers.Reshape((6, 4))(layers.Dense(24, activation="relu")(h))
    return layers.Conv1DTranspose(4, 2, strides=2)(h)


NETWORKS = (pooled, operations, convolutions, residual, decoder)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("form", [".keras", ".json"])
def test_models_from_files(network, form, tmp_path):
    model = model_of(network)
    path = tmp_path / f"model{form}"
    if form == ".keras":
        model.save(path)
    else:
        path.write_text(model.to_json())
    loaded, direct = keras2gp.convert(path), keras2gp.convert(model)
    assert loaded.graph == direct.graph
    assert loaded.parameters == direct.parameters


def test_trained_weights_from_a_file(tmp_path, rng):
    model = model_of(convolutions)
    for layer in model.layers:
        layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    model.save(tmp_path / "model.keras")
    loaded = keras2gp.convert(tmp_path / "model.keras", prior="weights").parameters
    direct = keras2gp.convert(model, prior="weights").parameters
    assert list(loaded) == list(direct)
    for name, variances in direct.items():
        assert loaded[name].weight == pytest.approx(variances.weight)
        assert loaded[name].bias == pytest.approx(variances.bias)


@pytest.mark.parametrize(
    "network", [pytest.param(pooled, marks=pytest.mark.slow), residual], ids=["pooled", "residual"]
)
def test_kernels_saved_and_loaded(network, tmp_path, rng):
    kernel = keras2gp.convert(model_of(network), dtype="float64")
    kernel.save(tmp_path / "kernel")
    loaded = keras2gp.load(tmp_path / "kernel")
    assert loaded.graph == kernel.graph
    assert loaded.report == kernel.report
    x = rng.normal(size=(3, *IMAGE))
    np.testing.assert_array_equal(loaded(x), kernel(x))


def test_a_max_pooling_that_was_replaced_stays_in_the_report(tmp_path):
    model = model_of(lambda x: layers.MaxPooling2D(2, name="pool")(conv(x)))
    keras2gp.convert(model, max_pooling="average").save(tmp_path / "kernel")
    rows = {row.path: row for row in keras2gp.load(tmp_path / "kernel").report.rows}
    assert "replaced by average pooling" in rows["pool"].note
    assert isinstance(model.get_layer("pool"), keras.layers.MaxPooling2D)
