"""The zoo: architecture, initialisers, names, and files of its models."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

import keras2gp
from keras2gp.errors import InputError
from keras2gp.zoo import ZOO, build, convnet, residual_cnn, resnet32

SMALL = (8, 8, 1)


def of_type(model, kind):
    return [layer for layer in model.layers if type(layer) is kind]


def variances(layer):
    """(w2, b2) that a layer's initialisers state, and a check that they are the right kinds."""
    weight = layer.kernel_initializer
    assert type(weight) is keras.initializers.VarianceScaling
    assert (weight.mode, weight.distribution) == ("fan_in", "untruncated_normal")
    if not layer.use_bias:
        return weight.scale, 0.0
    assert type(layer.bias_initializer) is keras.initializers.RandomNormal
    assert layer.bias_initializer.mean == 0.0
    return weight.scale, layer.bias_initializer.stddev**2


def convolutions(model, window):
    layers = [c for c in of_type(model, keras.layers.Conv2D) if c.kernel_size == (window, window)]
    assert all(
        layer.padding == "same" and layer.activation.__name__ == "linear" for layer in layers
    )
    return layers


@pytest.mark.parametrize("name", ZOO)
def test_shapes_and_default(name):
    assert ZOO[name]().output_shape == (None, 10)
    model = build(name, (9, 11, 3), classes=4)
    assert (model.name, model.input_shape, model.output_shape) == (
        name,
        (None, 9, 11, 3),
        (None, 4),
    )
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    generated = re.compile(r"(conv2d|dense|re_lu|add)_\d+")
    assert not [layer for layer in names if generated.fullmatch(layer)]


@pytest.mark.parametrize("name", ZOO)
def test_saves_and_loads(name, tmp_path):
    model = build(name, SMALL)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.linspace(0, 1, 2 * 64, dtype=np.float32).reshape(2, *SMALL)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert np.isfinite(np.asarray(model(x))).all()


def test_convnet():
    model = convnet()
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["InputLayer", *["Conv2D", "ReLU"] * 7, "Flatten", "Dense"]
    for layer in convolutions(model, 7):
        assert layer.strides == (1, 1)
        assert variances(layer) == pytest.approx((2.79 * 49, 7.86))
    assert len(convolutions(model, 7)) == 7
    assert variances(model.get_layer("dense")) == pytest.approx((2.79, 7.86))


def test_residual_cnn():
    model = residual_cnn()
    windows, ones = convolutions(model, 4), convolutions(model, 1)
    assert (len(windows), len(ones)) == (9, 9)  # a stem, and one after each block's ReLU
    assert len(of_type(model, keras.layers.ReLU)) == 9
    assert len(of_type(model, keras.layers.Add)) == 8
    for layer in windows:
        assert variances(layer) == pytest.approx((7.27 * 16, 4.69))
    assert {variances(layer) for layer in ones} == {(1.0, 0.0)}
    assert variances(model.get_layer("dense")) == pytest.approx((7.27, 4.69))


def test_residual_cnn_skips_from_sum_to_sum():
    model = residual_cnn()
    for number in range(1, 9):
        skip, branch = model.get_layer(f"block{number}_add").input
        previous = "stem" if number == 1 else f"block{number - 1}_add"
        assert skip is model.get_layer(previous).output
        assert branch is model.get_layer(f"block{number}_mix").output
        assert (
            model.get_layer(f"block{number}_mix").input
            is model.get_layer(f"block{number}_relu").output
        )


def test_resnet32_layers():
    model = resnet32()
    assert len(convolutions(model, 3)) == 31  # with the Dense layer 32
    assert len(of_type(model, keras.layers.Dense)) == 1
    assert len(of_type(model, keras.layers.ReLU)) == 31
    assert len(of_type(model, keras.layers.Add)) == 15
    assert not of_type(model, keras.layers.BatchNormalization)
    weighted = [layer for layer in model.layers if layer.weights]
    assert {variances(layer) for layer in weighted} == {(1.0, 0.0)}
    assert not any(layer.use_bias for layer in weighted)


def test_resnet32_strides_and_projections():
    model = resnet32()
    projections = {c.name: c for c in convolutions(model, 1)}
    assert list(projections) == [f"stage{s}_block1_projection" for s in (1, 2, 3)]
    assert [c.strides[0] for c in projections.values()] == [1, 2, 2]
    for stage, size in ((1, 28), (2, 14), (3, 7)):
        assert model.get_layer(f"stage{stage}_block5_add").output.shape[1:3] == (size, size)
        first = f"stage{stage}_block1"
        relu = model.get_layer(f"{first}_relu1").output
        assert model.get_layer(f"{first}_conv1").input is relu
        assert projections[f"{first}_projection"].input is relu
        identity, branch = model.get_layer(f"stage{stage}_block2_add").input
        assert identity is model.get_layer(f"{first}_add").output
        assert branch is model.get_layer(f"stage{stage}_block2_conv2").output
    strided = [c.name for c in convolutions(model, 3) if c.strides == (2, 2)]
    assert strided == ["stage2_block1_conv1", "stage3_block1_conv1"]


def test_unknown_name_lists_the_known():
    with pytest.raises(InputError, match=r"'lenet'.*convnet, residual-cnn, resnet32"):
        build("lenet", SMALL)


@pytest.mark.parametrize(
    "shape", [(28, 28), (28, 0, 1), (28, 28, -1), (28, None, 1), (28.0, 28, 1)]
)
def test_bad_input_shape(shape):
    with pytest.raises(InputError, match="height, width, channels"):
        build("convnet", shape)


def test_bad_number_of_classes():
    with pytest.raises(InputError, match="0 classes"):
        build("convnet", SMALL, classes=0)


# The paper's kernels in numpy, from its equations 10, 11, 13 and 16; k: [N, N, H, W].


def window_mean(k, size, stride=1):
    """Mean over SAME windows, zero outside the image."""
    count = -(-k.shape[-1] // stride)
    total = max((count - 1) * stride + size - k.shape[-1], 0)
    padded = np.pad(k, [(0, 0)] * 2 + [(total // 2, total - total // 2)] * 2)
    ends = [(i, i + (count - 1) * stride + 1) for i in range(size)]
    return sum(padded[..., a:b:stride, c:d:stride] for a, b in ends for c, d in ends) / size**2


def relu(k):
    q = np.einsum("iihw->ihw", k)
    norm = np.sqrt(q[:, None] * q[None])
    angle = np.arccos(np.clip(k / norm, -1, 1))
    return norm * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)


def paper_convnet(k):
    for _ in range(7):
        k = relu(7.86 + 2.79 * 49 * window_mean(k, 7))
    return 7.86 + 2.79 * k.mean((-1, -2))


def paper_residual_cnn(k):
    for _ in range(8):
        k = k + relu(4.69 + 7.27 * 16 * window_mean(k, 4))
    return 4.69 + 7.27 * relu(4.69 + 7.27 * 16 * window_mean(k, 4)).mean((-1, -2))


def paper_resnet32(k):
    k = window_mean(k, 3)
    for block in range(15):
        stride = 2 if block in {5, 10} else 1
        active = relu(k)
        skip = k if block % 5 else window_mean(active, 1, stride)
        k = skip + window_mean(relu(window_mean(active, 3, stride)), 3)
    return relu(k).mean((-1, -2))


@pytest.mark.parametrize(
    ("name", "paper"),
    [
        ("convnet", paper_convnet),
        ("residual-cnn", paper_residual_cnn),
        ("resnet32", paper_resnet32),
    ],
)
def test_kernel_is_the_papers(name, paper):
    x = np.random.default_rng(0).uniform(0.1, 1, (3, *SMALL))
    kernel = keras2gp.convert(build(name, SMALL), dtype="float64")
    expected = paper(x[:, None, ..., 0] * x[None, ..., 0])
    np.testing.assert_allclose(kernel(x), expected, rtol=1e-10)


def test_sizes_are_whole_numbers_of_python_or_numpy():
    model = build("convnet", (np.int64(8), 8, 1), np.int32(3))
    assert model.output_shape == (None, 3)
    with pytest.raises(InputError, match="whole numbers from 1"):
        build("convnet", (8, 8, True), 3)
