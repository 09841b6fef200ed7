"""Networks that need the covariance of different positions, against an oracle that carries it all.

To 1e-9 in float64, with strides, paddings and rectangular maps of one to three dimensions.
"""

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.applications.convnext import LayerScale
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from oracles import full_covariance as full_oracle
from oracles import full_weights
from oracles.architectures import ending_dense

import keras2gp

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
IMAGE = (5, 4, 2)


def conv(x, window=3, units=8, **settings):
    rank = len(x.shape) - 2
    kind = getattr(layers, f"Conv{rank}D")
    return kind(units, window, **(HE | {"padding": "same", "activation": "relu"} | settings))(x)


def linear(x, window=1, **settings):
    return conv(x, window, activation=None, **settings)


def pool(x, *args, **settings):
    return getattr(layers, f"AveragePooling{len(x.shape) - 2}D")(*args, **settings)(x)


def average(x):
    return getattr(layers, f"GlobalAveragePooling{len(x.shape) - 2}D")()(x)


def up(x, size):
    return getattr(layers, f"UpSampling{len(x.shape) - 2}D")(size)(x)


def transposed(x, window, **settings):
    kind = getattr(layers, f"Conv{len(x.shape) - 2}DTranspose")
    return kind(8, window, activation="relu", **(HE | settings))(x)


def concat(*tensors, axis=-1):
    return layers.Concatenate(axis=axis)(list(tensors))


def twice_pooled(x, window, stride, padding):
    h = pool(conv(x), window, stride, padding=padding)
    return average(conv(h, window=2))


def residual_with_pooling(x):
    h = linear(x, 3)
    for window in (2, 3):
        r = conv(layers.ReLU()(h))
        h = linear(r) + pool(h, window, 1, padding="same")
    return layers.ReLU()(h)


def densely_connected(x):
    h = conv(x)
    for units in (3, 5, 2, 4):
        h = concat(h, conv(h, 2, units=units))
    return average(conv(pool(h, 2, 1), 2))


def nasnet_like(x):
    h, p = linear(x, 3), linear(x, 2)
    pooled = pool(p, 3, 1, padding="same")
    first = layers.Add()([pooled, pool(p, 3, 1, padding="same")])
    second = layers.Add()([pool(h, 3, 1, padding="same"), p])
    return layers.ReLU()(concat(first, second, h))


def shifted(x):
    h = linear(x, 3)
    moved = layers.Cropping2D(((1, 0), (1, 0)))(layers.ZeroPadding2D(((0, 1), (0, 1)))(h))
    return layers.ReLU()(layers.Subtract()([h, moved]))


def dense_block(x):
    h = pool(conv(x), 2, 1)
    for _ in range(2):
        r = conv(layers.ReLU()(layers.BatchNormalization()(h)), 1, units=6, activation=None)
        h = concat(h, conv(layers.ReLU()(r), units=4, activation=None))
    return average(layers.ReLU()(h))


def decoder(x):
    h = layers.Dense(2 * 3 * 4, **HE)(layers.Flatten()(x))
    h = layers.ReLU()(layers.Reshape((2, 3, 4))(h))
    h = transposed(h, 3, strides=2, padding="same")
    return pool(conv(up(h, (1, 2))), 2)


def mean_kept(x):
    return layers.GlobalAveragePooling2D(keepdims=True)(x)


def generator(x):
    h = layers.Reshape((1, 1, 8))(layers.Dense(8, **HE)(layers.Flatten()(x)))
    h = transposed(transposed(h, (3, 2)), 2, strides=2, padding="same")
    return pool(h, 2)


def unet(x):
    a = conv(x)
    b = conv(pool(a, 2, padding="same"))
    return conv(concat(layers.Cropping2D(((0, 1), (0, 0)))(up(b, 2)), a))


def convnext_like(x):
    h = linear(x, 2, strides=2)
    r = layers.Conv2D(8, 3, padding="same", groups=8, **HE)(h)
    r = layers.Dense(8, **HE)(layers.Dense(8, activation="relu", **HE)(r))
    h = h + LayerScale(0.3, 8)(r)
    return average(h)


def separable(x, multiplier=2, **settings):
    kind = getattr(layers, f"SeparableConv{len(x.shape) - 2}D")
    named = {"depthwise_initializer": "he_uniform", "pointwise_initializer": "glorot_normal"}
    bias = HE["bias_initializer"]
    settings = {"depth_multiplier": multiplier, "activation": "relu", **settings}
    return kind(8, 3, bias_initializer=bias, **(named | settings))(x)


def depthwise(x, **settings):
    kind = getattr(layers, f"DepthwiseConv{len(x.shape) - 2}D")
    return kind(3, bias_initializer=HE["bias_initializer"], **settings)(x)


def mixer(h):
    """Dense layers on each position, with a residual branch."""
    r = layers.Dense(8, activation="relu", **HE)(layers.LayerNormalization()(h))
    return layers.Dense(8, activation="relu", **HE)(h + layers.Dense(8, **HE)(r))


CASES = {
    "the input added inside": (IMAGE, lambda x: average(conv(pool(
        linear(conv(x), units=2) + x, 2, 1)))),
    "blocks beside the input": (IMAGE, lambda x: average(conv(
        (h := x - linear(conv(x), units=2)) - 0.5 * linear(conv(h, 1), units=2), 2))),
    "the input beside its sum": (IMAGE, lambda x: average(conv(concat(
        x, linear(x, 3, units=2) + x)))),
    "the input added to features": (IMAGE, lambda x: average(conv(
        layers.LayerNormalization()(conv(x, units=2) - x), 2))),
    "features joined to the input and normalised": (IMAGE, lambda x: average(conv(
        layers.LayerNormalization(axis=(1, 2, 3))(concat(x, conv(x, units=3))) + 0.5))),
    "a normalised sum with the input": (IMAGE, lambda x: average(conv(
        layers.RMSNormalization()(linear(conv(x), units=2) - x), 2))),
    **{
        f"pooling {window}/{stride} {padding}": (
            IMAGE,
            lambda x, w=window, s=stride, p=padding: twice_pooled(x, w, s, p),
        )
        for window, stride, padding in [
            (2, None, "valid"), (2, None, "same"), (3, 2, "same"), (2, 3, "same"), (3, 1, "same"),
            ((2, 3), (1, 2), "valid"), ((1, 4), None, "same"), ((3, 2), (2, 1), "same"),
        ]
    },
    "densely connected": (IMAGE, densely_connected),
    "pooling 1-D": ((9, 3), lambda x: average(conv(pool(conv(x), 3, 2, padding="same")))),
    "pooling 1-D causal": ((9, 3), lambda x: pool(conv(x, padding="causal"), 3, 2)),
    "pooling 3-D": ((4, 3, 5, 2), lambda x: conv(pool(conv(x, 2), (2, 1, 2), padding="same"), 2)),
    "global 3-D": ((3, 2, 3, 2), lambda x: average(conv(x, 2))),
    "global after strides": ((9, 7, 2), lambda x: average(conv(conv(x, strides=2), strides=2))),
    "global, kept axes": (IMAGE, lambda x: conv(
        layers.GlobalAveragePooling2D(keepdims=True)(conv(x)), 1)),
    "mean over one axis": (IMAGE, lambda x: conv(keras.ops.mean(conv(x), axis=1))),
    "mean over all, by keras.ops": (IMAGE, lambda x: keras.ops.mean(conv(x), axis=(1, 2))),
    "pooling by keras.ops": (IMAGE, lambda x: keras.ops.average_pool(conv(x), 2, 1, "same")),
    "adaptive": ((6, 4, 2), lambda x: conv(layers.AdaptiveAveragePooling2D((3, 2))(conv(x)))),
    "max pooling of one": (IMAGE, lambda x: average(layers.MaxPooling2D(1, 2)(conv(x)))),
    "pooling of the input": (IMAGE, lambda x: average(conv(pool(x, 2, 1)))),
    "reshape before the global mean": (IMAGE, lambda x: average(layers.Reshape((20, 8))(conv(x)))),
    "valid after pooling": ((8, 7, 2), lambda x: conv(pool(conv(x), 2), 3, padding="valid")),
    "pooling of pooling": ((6, 5, 2), lambda x: pool(pool(conv(x), 2, 1), 3, 2, padding="same")),
    "dilation before pooling": ((7, 6, 2), lambda x: pool(conv(x, dilation_rate=2), 2)),
    "upsampling": (IMAGE, lambda x: conv(up(conv(x), (2, 3)), 2)),
    "upsampling before pooling": (IMAGE, lambda x: pool(conv(up(conv(x), 2)), 3, 2)),
    "bilinear upsampling": ((3, 2, 2), lambda x: conv(
        layers.UpSampling2D((2, 4), interpolation="bilinear")(conv(x)), 2)),
    "bilinear, then pooled": ((2, 2, 2), lambda x: average(conv(
        layers.UpSampling2D((2, 1), interpolation="bilinear")(linear(x)), 2))),
    "resized": ((6, 2, 2), lambda x: pool(layers.Resizing(3, 8)(conv(x)), 2, 1)),
    "resized to the nearest": (IMAGE, lambda x: pool(
        layers.Resizing(3, 8, interpolation="nearest")(conv(x)), 2, 1)),
    "axes exchanged": (IMAGE, lambda x: average(conv(layers.Permute((2, 1, 3))(conv(x)), (2, 1)))),
    "axes exchanged between poolings": ((4, 3, 2), lambda x: pool(conv(
        keras.ops.transpose(pool(conv(x), 2, 1), (0, 2, 1, 3)), (1, 2)), 2, 1)),
    "a map and its transpose": ((3, 3, 2), lambda x: average(conv(
        concat(h := conv(x), layers.Permute((2, 1, 3))(h)), 2))),
    "three axes in a circle": ((2, 3, 2, 1), lambda x: average(conv(
        layers.Permute((3, 1, 2, 4))(pool(conv(x, 2), 2, 1)), (1, 2, 1)))),
    "reversed": (IMAGE, lambda x: average(conv(conv(x)[:, ::-1], (2, 1)))),
    "reversed with a step": (IMAGE, lambda x: pool(conv(conv(x)[:, ::-2, 1:]), 2, 1)),
    "a map beside its mirror image": (IMAGE, lambda x: average(layers.ReLU()(
        (h := linear(x)) + keras.ops.flip(h, axis=2)))),
    "sums of positions": (IMAGE, lambda x: conv(keras.ops.sum(conv(x), axis=2))),
    "sum of all positions": (IMAGE, lambda x: keras.ops.sum(conv(x), axis=(1, 2))),
    "einsum": (IMAGE, lambda x: average(layers.EinsumDense(
        "...x,xy->...y", 7, activation="relu", bias_axes="y", **HE)(conv(x)))),
    "columns as steps": (IMAGE, lambda x: average(conv(layers.Reshape((5, 4 * 8))(conv(x))))),
    "columns of groups as steps": (IMAGE, lambda x: layers.Dense(8, activation="relu", **HE)(
        layers.Reshape((5, 4 * 11))(concat(conv(x), linear(x, units=3))))),
    "columns beside the input as steps": (IMAGE, lambda x: average(conv(
        layers.Reshape((5, 4 * 7))(concat(conv(x, units=5), x))))),
    "rows as steps": (IMAGE, lambda x: layers.Dense(8, activation="relu", **HE)(
        layers.Reshape((4, 5 * 8))(layers.Permute((2, 1, 3))(conv(x))))),
    "halves of rows as steps": (IMAGE, lambda x: layers.Dense(8, activation="relu", **HE)(
        layers.Reshape((10, 2 * 8))(conv(x)))),
    "planes as channels": ((3, 2, 4, 2), lambda x: average(conv(
        layers.Reshape((3, 2, 4 * 8))(conv(x, 2)), 2))),
    "columns normalised": (IMAGE, lambda x: average(conv(
        layers.LayerNormalization()(layers.Reshape((5, 4 * 8))(linear(x)))))),
    "columns normalised by initial statistics": (IMAGE, lambda x: average(conv(
        layers.BatchNormalization()(layers.Reshape((5, 4 * 8))(linear(x)))))),
    "columns pooled and added": (IMAGE, lambda x: conv(
        pool(h := layers.Reshape((5, 4 * 8))(conv(x)), 2, 1, padding="same") + 0.5 * h)),
    "columns as steps and units as columns": (IMAGE, lambda x: pool(conv(layers.Reshape((5, 4, 6))(
        linear(layers.Reshape((5, 4 * 8))(conv(x)), 3, units=24))), 2)),
    "patches": (IMAGE, lambda x: average(conv(keras.ops.image.extract_patches(
        conv(x), (2, 3), strides=(1, 2), padding="same"), 2))),
    "patches with gaps": ((6, 5, 2), lambda x: conv(concat(x[:, :4, :3],
        keras.ops.image.extract_patches(conv(x), 2, strides=1, dilation_rate=2)))),
    "rows cut in two": (IMAGE, lambda x: layers.AveragePooling3D((2, 1, 1))(conv(
        layers.Reshape((5, 2, 2, 8))(linear(x, 2)), (2, 1, 1)))),
    "positions as a sequence": (IMAGE, lambda x: average(mixer(
        layers.Reshape((20, 8))(linear(x, 2))))),
    "positions as a sequence and back": (IMAGE, lambda x: pool(conv(layers.Reshape((5, 4, 8))(
        mixer(layers.Reshape((20, 8))(linear(x, 2)))), 2), 2)),
    "constants on a sequence of positions": (IMAGE, lambda x: average(mixer(
        layers.Reshape((20, 8))(linear(x, 2)) + np.cos(np.arange(160.0)).reshape(1, 20, 8)))),
    "a sequence normalised as a whole": (IMAGE, lambda x: average(conv(layers.LayerNormalization(
        axis=(1, 2))(layers.Reshape((20, 8))(linear(x, 2))), 1))),
    "upsampling 1-D": ((5, 2), lambda x: average(conv(up(conv(x), 3)))),
    "upsampling 3-D": ((2, 3, 2, 2), lambda x: average(conv(up(conv(x, 2), (1, 2, 2)), 2))),
    "repeated vector": ((6,), lambda x: average(conv(layers.RepeatVector(4)(
        layers.Dense(8, activation="relu", **HE)(x))))),
    **{
        f"transposed {window}/{stride} {padding} {extra} {dilation}": (
            (3, 4, 2),
            lambda x, w=window, s=stride, p=padding, e=extra, d=dilation: pool(
                transposed(conv(x), w, strides=s, padding=p, output_padding=e, dilation_rate=d), 2),
        )
        for window, stride, padding, extra, dilation in [
            (2, 2, "valid", None, 1), (3, 2, "same", None, 1), (3, 2, "valid", None, 1),
            (2, 3, "same", None, 1), (4, 2, "same", None, 1), (3, 3, "same", 1, 1),
            (3, 2, "valid", 1, 1), ((2, 3), (3, 1), "same", None, 1), (3, 1, "same", None, 2),
            (1, 2, "same", None, 1), (3, 1, "valid", None, 2),
        ]
    },
    "transposed 1-D": ((5, 2), lambda x: average(transposed(x, 3, strides=2, padding="same"))),
    "transposed 3-D": ((2, 2, 3, 2), lambda x: transposed(conv(x, 2), 2, strides=(1, 2, 1))),
    "padding and cropping around pooling": (IMAGE, lambda x: conv(layers.Cropping2D(
        ((1, 0), (0, 2)))(pool(layers.ZeroPadding2D(((2, 0), (1, 1)))(conv(x)), 2, 1)))),
    "the middle after pooling": (IMAGE, lambda x: pool(conv(
        layers.CenterCrop(3, 2)(conv(pool(conv(x), 2, 1)))), 2, 1)),
    "residual with pooled shortcuts": (IMAGE, residual_with_pooling),
    "equal poolings": (IMAGE, nasnet_like),
    "difference of two poolings": (IMAGE, lambda x: layers.ReLU()(
        2 * (h := linear(x, 3)) - pool(h, 2, 1, padding="same") + pool(h, 3, 1, padding="same"))),
    "shifted copies": (IMAGE, shifted),
    "a tensor and its mean": (IMAGE, lambda x: layers.ReLU()(
        (h := linear(x, 3)) + pool(h + linear(x, 2), 3, 1, padding="same"))),
    "pooled features beside features": (IMAGE, lambda x: conv(
        (h := conv(x)) + pool(h, 2, 1, padding="same"))),
    "sum of features": (IMAGE, lambda x: conv(layers.Add()([conv(x), conv(x, 2), linear(x)]))),
    "sum of pooled features": (IMAGE, lambda x: average(
        pool(conv(x), 2) - pool(conv(x, 2), 2))),
    "scaled sum": (IMAGE, lambda x: conv(CustomScaleLayer(0.2)([linear(x), linear(x, 3)]))),
    "channel groups": (IMAGE, lambda x: conv(concat(conv(x), conv(x, units=3), linear(x)))),
    "channel groups pooled": (IMAGE, lambda x: average(
        concat(pool(conv(x), 2), pool(linear(x), 2)))),
    "activations of groups": (IMAGE, lambda x: conv(
        layers.ReLU()(concat(linear(x), linear(x, 3))))),
    "groups of other sizes added": (IMAGE, lambda x: layers.ReLU()(
        concat(linear(x, units=3), linear(x, 2, units=5))
        + concat(linear(x, units=6), linear(x, units=2)))),
    "the input beside features": (IMAGE, lambda x: conv(concat(x, conv(x)))),
    "vectors joined": (IMAGE, lambda x: concat(
        layers.Flatten()(conv(x)), average(conv(x)), layers.Flatten()(x))),
    "maps side by side": (IMAGE, lambda x: average(conv(
        concat(linear(x), linear(x, 3, strides=(2, 1)), axis=1)))),
    "a map beside itself": (IMAGE, lambda x: layers.ReLU()(
        concat(h := linear(x, 3), 2 * h, axis=2))),
    "dense block": ((5, 5, 2), dense_block),
    "decoder": ((6,), decoder),
    "decoder of one position": ((6,), generator),
    "one position padded": (IMAGE, lambda x: pool(
        layers.ReLU()(conv(layers.ZeroPadding2D(((2, 0), (1, 1)))(mean_kept(linear(x))))), 2)),
    "one position beside its map": (IMAGE, lambda x: average(conv(
        concat(h := conv(x), up(mean_kept(h), (5, 4)))))),
    "one row padded": ((1, 5, 2), lambda x: pool(
        layers.ZeroPadding2D(1)(conv(x)), (2, 3), 1, padding="same")),
    "one row through transposed convolutions": ((1, 4, 2), lambda x: pool(
        transposed(conv(x), (2, 3), strides=(3, 2)), (2, 3))),
    "U-net": (IMAGE, unet),
    "ConvNeXt without norms": ((6, 5, 2), convnext_like),
    "separable": (IMAGE, lambda x: average(separable(conv(x)))),
    "separable strided": (IMAGE, lambda x: separable(conv(x), 1, strides=2, padding="same")),
    "separable 1-D": ((8, 2), lambda x: separable(conv(x))),
    "separable of groups": (IMAGE, lambda x: separable(concat(conv(x), linear(x, units=3)))),
    "depthwise": (IMAGE, lambda x: conv(depthwise(conv(x), depth_multiplier=3, strides=2), 1)),
    "depthwise 1-D": ((8, 2), lambda x: pool(depthwise(linear(x), padding="same"), 2)),
    "depthwise added": (IMAGE, lambda x: conv((h := linear(x)) + depthwise(h, padding="same"), 1)),
    "grouped": (IMAGE, lambda x: conv(conv(x), groups=2)),
    "grouped before pooling": (IMAGE, lambda x: average(conv(conv(x), groups=4))),
    "batch normalisation pooled": (IMAGE, lambda x: conv(
        pool(layers.BatchNormalization()(conv(x)), 2))),
}  # fmt: skip


def model_of(case):
    return ending_dense(*CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_all_positions(case, rng):
    model = model_of(case)
    x1, x2 = (rng.normal(size=(count, *model.input_shape[1:])) for count in (3, 2))
    kernel = keras2gp.convert(model, dtype="float64")
    np.testing.assert_allclose(kernel(x1, x2), full_oracle.full_kernel(model, x1, x2), rtol=1e-9)
    expected = full_oracle.full_kernel(model, x1, x1).diagonal()
    np.testing.assert_allclose(kernel.diag(x1), expected, rtol=1e-9)


BIAS_ALONE = {
    "transposed 2/3 same None 1", "transposed 3/2 valid 1 1", "transposed 1/2 same None 1",
    "transposed (2, 3)/(3, 1) same None 1", "transposed 3-D", "one position padded",
}  # fmt: skip
"""Positions that no tap hits are the same in all images: the oracle has no derivative there."""


def test_the_tangent_kernel_of_biases_alone(rng):
    """Math: b2 + w2 E[phi(u)^2] + w2 q E[phi'(u)^2], u of variance q = 0.09 in every image."""
    model = ending_dense(
        IMAGE,
        lambda x: layers.Cropping2D(((0, 2), (0, 0)))(
            conv(layers.ZeroPadding2D(((2, 0), (1, 1)))(mean_kept(linear(x))))
        ),
    )
    images = rng.normal(size=(3, *IMAGE))
    found = keras2gp.convert(model, dtype="float64")(images, get="ntk")
    np.testing.assert_allclose(found, 0.09 + 2 * 0.09 / 2 + 2 * 0.09 / 2, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case not in BIAS_ALONE])
def test_the_tangent_kernel_agrees_with_correlated_networks(case, rng):
    model = model_of(case)
    x1, x2 = (rng.normal(size=(count, *model.input_shape[1:])) for count in (3, 2))
    kernel = keras2gp.convert(model, dtype="float64")
    expected = full_oracle.full_tangent(model, x1, x2)
    np.testing.assert_allclose(kernel(x1, x2, get="ntk"), expected, rtol=1e-9)


def test_the_oracle_agrees_with_sampled_weights(rng):
    """Without activations the second moments of a finite network are those of the infinite one."""
    x = rng.normal(size=(2, 4, 3, 2)).astype("float32")
    image = keras.Input(x.shape[1:])
    h = layers.Conv2D(64, 2, padding="same", **HE)(image)
    h = layers.Conv2DTranspose(64, 3, strides=2, padding="same", **HE)(pool(h, 2, 1))
    h = layers.Concatenate()([h, depthwise(h, padding="same")])
    model = keras.Model(image, layers.Dense(300, **HE)(layers.Flatten()(h)))
    drawn = [(v, _deviation(layer, v)) for layer in model.layers for v in layer.weights]
    moments = []
    for _ in range(150):
        values = [rng.normal(size=v.shape).astype("float32") * s for v, s in drawn]
        y, _ = model.stateless_call(values, [], x)
        y = np.asarray(y, "float64")
        moments.append(y @ y.T / y.shape[1])
    error = np.std(moments, axis=0) / np.sqrt(len(moments))
    expected = full_oracle.full_kernel(model, x, x)
    assert (error < 0.03 * expected.diagonal().mean()).all()
    assert (np.abs(np.mean(moments, axis=0) - expected) < 5 * error).all()


def _deviation(layer, variable):
    """Standard deviation of one weight as the layer draws it."""
    name = "bias" if variable is layer.bias else "kernel"
    if name == "kernel" and hasattr(layer, "depthwise_initializer"):
        name = "depthwise"
    initializer = getattr(layer, f"{name}_initializer")
    return full_weights.variance(initializer, variable.shape) ** 0.5
