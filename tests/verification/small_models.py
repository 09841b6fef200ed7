"""Small models of every family of layers, with weight variances of their own."""

import keras
from keras import layers

__all__ = [
    "biased",
    "conv",
    "drawn",
    "gated",
    "grouped",
    "head",
    "inputs",
    "maximum",
    "mlp",
    "moved",
    "pooled",
    "separable",
    "sequences",
    "steps",
    "sums",
    "transposed",
]


def drawn(scale=2.0, name="kernel"):
    initializer = keras.initializers.VarianceScaling(scale, "fan_in", "untruncated_normal")
    return {f"{name}_initializer": initializer}


def biased(scale=2.0):
    return drawn(scale) | {"bias_initializer": keras.initializers.RandomNormal(stddev=0.3)}


def conv(x, units=8, window=3, **settings):
    return layers.Conv2D(units, window, **(biased() | {"padding": "same"} | settings))(x)


def head(x, h, units=10, **settings):
    return keras.Model(x, layers.Dense(units, name="head", **(biased(1.0) | settings))(h))


def mlp():
    x = keras.Input((5,))
    h = keras.ops.erf(layers.Dense(8, **biased())(x))
    return head(x, layers.Dense(8, activation="tanh", **biased())(h))


def pooled():
    """Pooling, concatenation, LayerNormalization, batch normalisation, a softmax at the end."""
    x = keras.Input((4, 4, 2))
    h = layers.ReLU()(layers.BatchNormalization()(conv(x)))
    h = layers.AveragePooling2D(2)(h)
    h = layers.Concatenate()([h, layers.ReLU()(conv(h, window=2))])
    h = layers.LayerNormalization()(conv(h, window=1))
    h = layers.GlobalAveragePooling2D()(layers.Activation("gelu")(h))
    return head(x, h, activation="softmax")


def separable():
    """Separable and depthwise convolutions, a residual sum, a stride."""
    x = keras.Input((6, 5, 2))
    h = conv(x, 8)
    r = layers.SeparableConv2D(
        8, 3, padding="same", **drawn(1.5, "depthwise"), **drawn(2.0, "pointwise")
    )(layers.ReLU()(h))
    h = layers.Add()([h, r])
    h = layers.DepthwiseConv2D(3, padding="same", **drawn(1.0, "depthwise"))(h)
    h = conv(h, 8, 1, strides=2, activation="relu")
    return head(x, layers.Flatten()(h))


def inputs():
    """Two inputs, one of them beside what grows; a nested model."""
    x, y = keras.Input((3, 3, 2), name="image"), keras.Input((3,), name="side")
    inner_x = keras.Input((3, 3, 8))
    inner = keras.Model(inner_x, layers.ReLU()(conv(inner_x, window=2)), name="inner")
    h = layers.Flatten()(inner(conv(x, activation="relu")))
    h = layers.Concatenate()([layers.Dense(8, activation="relu", **biased())(h), y])
    return head([x, y], layers.Dense(8, activation="relu", **biased())(h))


def maximum():
    x = keras.Input((6, 6, 2))
    h = layers.MaxPooling2D(2)(conv(x, 8, activation="relu"))
    return head(x, layers.GlobalMaxPooling2D()(conv(h, 8, activation="relu")))


def transposed():
    x = keras.Input((7,))
    h = layers.Dense(2 * 2 * 8, activation="relu", **biased())(x)
    h = layers.Reshape((2, 2, 8))(h)
    h = layers.Conv2DTranspose(8, 3, strides=2, activation="relu", **biased())(h)
    h = layers.UpSampling2D(2)(layers.Cropping2D(1)(h))
    h = conv(h, 8, 2, strides=2, padding="valid", activation="relu")
    return head(x, layers.Flatten()(h))


def gated():
    """Slices of channels that gate one another, squeeze and excitation, a split."""
    x = keras.Input((5, 2))
    one = {"padding": "same", **biased()}
    h = layers.Conv1D(16, 3, **one)(x)
    h = keras.ops.tanh(h[..., :8]) * keras.ops.sigmoid(h[..., 8:])
    h = layers.Conv1D(8, 2, activation="relu", **one)(h)
    gate = layers.Dense(8, activation="relu", **biased())(layers.GlobalAveragePooling1D()(h))
    gate = layers.Dense(8, activation="sigmoid", **biased())(gate)
    h = layers.Multiply()([h, layers.Reshape((1, 8))(gate)])
    a, b = keras.ops.split(layers.Conv1D(16, 1, **one)(h), 2, axis=-1)
    return head(x, layers.Flatten()(a * keras.ops.relu(b)))


def moved():
    """Axes exchanged and reversed, bilinear means, sums of positions, -inf around max pooling."""
    x = keras.Input((4, 3, 2))
    h = layers.Permute((2, 1, 3))(conv(x, activation="relu"))[:, ::-1]
    h = conv(layers.UpSampling2D(2, interpolation="bilinear")(h), window=2, activation="relu")
    h = keras.ops.pad(h, [(0, 0), (1, 0), (0, 1), (0, 0)], constant_values=-float("inf"))
    h = layers.EinsumDense("abcd,de->abce", (None, None, 8), bias_axes="e", **biased())(
        layers.MaxPooling2D(2)(h)
    )
    return head(x, 0.3 * keras.ops.sum(layers.ReLU()(layers.Resizing(2, 2)(h)), axis=(1, 2)))


def grouped():
    x = keras.Input((4, 4, 2))
    h = layers.GroupNormalization(2)(conv(x, 8))
    h = conv(layers.ReLU()(h), 8, groups=2)
    h = layers.UnitNormalization()(h)
    return head(x, layers.Flatten()(layers.RMSNormalization()(conv(h, 8))))


def sums():
    """One tensor under two maps; average and difference of branches; one dimension."""
    x = keras.Input((8, 2))
    one = {"padding": "same", **biased()}
    h = layers.Conv1D(8, 3, **one)(x)
    h = layers.Add()([h, layers.AveragePooling1D(3, 1, padding="same")(h)])
    a, b = (layers.Conv1D(8, k, **one)(layers.ReLU()(h)) for k in (1, 3))
    h = layers.Subtract()([layers.Average()([a, b]), b])
    return head(x, layers.GlobalAveragePooling1D()(layers.ReLU()(h)))


def sequences():
    """A masked lookup, a recurrence and two of them in opposite directions, a mean over steps."""
    x = keras.Input((5,), dtype="int32")
    h = layers.Embedding(20, 8, mask_zero=True, **drawn(20.0, "embeddings"))(x)
    h = layers.SimpleRNN(8, return_sequences=True, zero_output_for_mask=True, **biased())(h)
    inner = layers.SimpleRNN(8, activation="relu", return_sequences=True, **biased(1.0))
    return head(x, layers.GlobalAveragePooling1D()(layers.Bidirectional(inner)(h)))


def steps():
    """A network at each step, and a recurrence over what it gives."""
    x = keras.Input((3, 4, 4, 2))
    inside = keras.Sequential([
        keras.Input((4, 4, 2)), layers.Conv2D(8, 3, activation="relu", **biased()),
        layers.Flatten(), layers.Dense(8, activation="relu", **biased()),
    ])  # fmt: skip
    h = layers.TimeDistributed(inside)(x)
    return head(x, layers.SimpleRNN(8, activation="relu", **biased())(h))
