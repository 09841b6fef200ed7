"""Random small architectures, of the layers that the full-covariance oracle knows."""

from __future__ import annotations

import re

import keras
import numpy as np
from keras import layers

import keras2gp
from oracles.full_covariance import between_positions, full_kernel, full_tangent

__all__ = [
    "EXACT",
    "ChannelShuffle",
    "architecture",
    "assert_both_kernels_agree",
    "difference",
    "distance",
    "drawn_inputs",
    "ending_dense",
    "promised",
]

BIAS = keras.initializers.RandomNormal(stddev=0.3)
WEIGHTS = {"kernel_initializer": "he_normal", "bias_initializer": BIAS}
ACTIVATIONS = ("relu", "leaky_relu", "erf", "sin")
"""Functions whose moments the oracle has in closed form."""
BENT = ("hard_tanh", "hard_sigmoid", "hard_silu", "relu6")
"""Functions whose moments the oracle integrates: drawn where there are few positions."""
FEW_POSITIONS = 6
MOST_POSITIONS = 40
WORDS = 7
EXACT = {"float64": 1e-9, "float32": 2e-5}
"""Errors of kernels in closed form, relative to the root of the two variances."""
_STATED = re.compile(r"relative error at most ([-+.e\d]+)(?: \(float64: ([-+.e\d]+)\))?")


class ChannelShuffle(layers.Layer):
    """Channel a n / g + b becomes channel b g + a, by Reshape, Permute and Reshape."""

    def __init__(self, groups, **settings):
        super().__init__(**settings)
        self.groups = groups

    def call(self, x):
        *positions, channels = x.shape[1:]
        rank = len(positions)
        x = keras.ops.reshape(x, (-1, *positions, self.groups, channels // self.groups))
        x = keras.ops.transpose(x, (*range(rank + 1), rank + 2, rank + 1))
        return keras.ops.reshape(x, (-1, *positions, channels))


class OwnResidual(layers.Layer):
    """x + x @ kernel + bias, of weights of its own."""

    kernel_initializer = keras.initializers.HeNormal()
    bias_initializer = BIAS

    def build(self, shape):
        units = shape[-1]
        self.kernel = self.add_weight(shape=(units, units), initializer=self.kernel_initializer)
        self.bias = self.add_weight(shape=(units,), initializer=self.bias_initializer)

    def call(self, x):
        return x + x @ self.kernel + self.bias


class OwnBias(layers.Layer):
    """A tensor and biases of the layer's own, random ones or one number."""

    def __init__(self, start, **settings):
        super().__init__(**settings)
        self.bias_initializer = start

    def build(self, shape):
        self.bias = self.add_weight(shape=(shape[-1],), initializer=self.bias_initializer)

    def call(self, x):
        return self.bias + x


class NormGate(layers.Layer):
    """skip h + h phi(n), or skip h + phi(n), of a tensor h and its LayerNormalization n."""

    epsilon = 0.1

    def __init__(self, phi, skip, *, product, **settings):
        super().__init__(**settings)
        self.factors, self.product = (phi, skip), product
        self.norm = layers.LayerNormalization(epsilon=self.epsilon)

    def call(self, h):
        phi, skip = self.factors
        made = getattr(keras.ops, phi)(self.norm(h))
        made = h * made if self.product else made
        return skip * h + made if skip else made


def architecture(rng, *, maps=False):
    """A model of one to eight drawn layers between its input and a last Dense layer.

    maps: whether the last layer gives a map, where there are positions
    """
    rank = int(rng.choice([1, 2], p=[0.4, 0.6]))
    size = [int(n) for n in rng.integers(3, 7, rank)]
    if rng.random() < 0.1:
        x = keras.Input(size, dtype="int32")
        law = {"embeddings_initializer": "he_normal"}
        h = _Builder(rng, rank).network(layers.Embedding(WORDS, 5, **law)(x))
    else:
        x = keras.Input((*size, int(rng.integers(1, 4))))
        h = _Builder(rng, rank, x).network(x)
    if maps and _positions(h) > 1:
        return keras.Model(x, layers.Dense(2, **WEIGHTS)(h))
    if h.shape[1:-1] and rng.random() < 0.5:
        h = getattr(layers, f"GlobalAveragePooling{rank}D")()(h)
    else:
        h = layers.Flatten()(h)
    return keras.Model(x, layers.Dense(2, **WEIGHTS)(h))


def drawn_inputs(model, rng, count):
    """Inputs of a drawn model: words, or numbers that float32 holds."""
    shape = (count, *model.input_shape[1:])
    if model.input.dtype == "int32":
        return rng.integers(0, WORDS, shape)
    return rng.normal(size=shape).astype("float32")


def ending_dense(shape, function):
    """The model of a function of a tensor, flattened, with a Dense layer at the end."""
    x = keras.Input(shape)
    return keras.Model(x, layers.Dense(3, **WEIGHTS)(layers.Flatten()(function(x))))


def assert_both_kernels_agree(model, x):
    """Compare the kernel of four images and their tangent kernel with those of all positions."""
    kernel = keras2gp.convert(model, dtype="float64")
    nngp, ntk = np.asarray(kernel.matrix(x, None, "both"))
    np.testing.assert_allclose(nngp, full_kernel(model, x, x), rtol=1e-9)
    np.testing.assert_allclose(ntk[:2, 2:], full_tangent(model, x[:2], x[2:]), rtol=1e-9)
    np.testing.assert_allclose(kernel.diag(x), nngp.diagonal(), rtol=1e-12)


class _Builder:
    """Draws layers; a layer that does not fit its tensor is drawn anew."""

    def __init__(self, rng, rank, data=None):
        self.rng = rng
        self.rank = rank
        self.data = data

    def network(self, x):
        """A layer with weights, and up to seven more of any kind."""
        h = self.convolution(x)
        steps = [self.convolution, self.activation, self.pooling, self.sum_of_branches,
                 self.concatenation, self.misaligned, self.upsampling, self.padding, self.cropping,
                 self.transposed, self.depthwise, self.normalization, self.mean_kept,
                 self.gate, self.channel_gate, self.excitation, self.turned,
                 self.shared, self.recurrence, self.shift, self.gain, self.highway,
                 self.bilinear, self.beside_its_norm, self.each_step, self.shuffled,
                 self.own_weights, self.beside_data, self.bent, self.own_gate, self.norm_gate,
                 self.own_bias, self.columns, self.patches,
                 self.sequence]  # fmt: skip
        chances = [5, 3, 3, 3, 2, 2, 1, 1, 1, 1, 2, 2, 0.5, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1,
                   1, 1, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1]  # fmt: skip
        for _ in range(int(self.rng.integers(0, 8))):
            step = steps[int(self.rng.choice(len(steps), p=[c / sum(chances) for c in chances]))]
            drawn = step(h)
            if 0 < _positions(drawn) <= MOST_POSITIONS:
                h = drawn
        return h

    def pick(self, *values):
        return values[int(self.rng.integers(len(values)))]

    def each(self, *values):
        """One of the values for each axis."""
        return tuple(self.pick(*values) for _ in range(self.rank))

    def activate(self, h, chance=0.5):
        return self.activation(h) if self.rng.random() < chance else h

    def activation(self, h):
        name = self.pick(*ACTIVATIONS)
        if name in ("erf", "sin"):
            return getattr(keras.ops, name)(h)
        return layers.Activation(name)(h)

    def convolution(self, h):
        window, padding = self.each(1, 2, 3), self.pick("same", "same", "valid")
        if padding == "valid" and any(w > n for w, n in zip(window, h.shape[1:-1], strict=True)):
            padding = "same"
        strides, dilation = self.each(1, 1, 2), (1,) * self.rank
        if max(strides) == 1 and padding == "same":
            dilation = (self.pick(1, 1, 2),) * self.rank
        kind = getattr(layers, f"Conv{self.rank}D")
        units = self.pick(4, 6)
        settings = {"padding": padding, "strides": strides, "dilation_rate": dilation}
        return self.activate(kind(units, window, **settings, **WEIGHTS)(h))

    def recurrence(self, h):
        """All states of a recurrence in one direction or both; a convolution of a map."""
        if self.rank > 1:
            return self.convolution(h)
        layer = layers.SimpleRNN(
            4, self.pick("relu", "leaky_relu", None), return_sequences=True,
            recurrent_initializer=self.pick("orthogonal", "he_normal", "glorot_normal"),
            go_backwards=self.pick(False, False, True), **WEIGHTS,
        )  # fmt: skip
        merge = self.pick("concat", "sum", "ave", "mul", "", "")
        if not merge or layer.go_backwards:
            return layer(h)
        return layers.Bidirectional(layer, merge_mode=merge)(h)

    def pointwise(self, h, units):
        return self.activate(getattr(layers, f"Conv{self.rank}D")(units, 1, **WEIGHTS)(h))

    def transposed(self, h):
        kind = getattr(layers, f"Conv{self.rank}DTranspose")
        window, strides = self.each(1, 2, 3), (self.pick(1, 2),) * self.rank
        return self.activate(kind(4, window, strides, self.pick("same", "valid"), **WEIGHTS)(h))

    def depthwise(self, h):
        kind = getattr(layers, f"{self.pick('Depthwise', 'Separable')}Conv{self.rank}D")
        first = () if "Depthwise" in kind.__name__ else (5,)
        names = {"depthwise_initializer": "he_normal", "bias_initializer": BIAS}
        settings = {"padding": "same", "depth_multiplier": self.pick(1, 2)}
        strides = self.pick(1, 1, 2)
        return kind(*first, self.pick(2, 3), strides=strides, **settings, **names)(h)

    def pooling(self, h):
        kind = getattr(layers, f"AveragePooling{self.rank}D")
        window, padding = self.each(1, 2, 3), self.pick("same", "valid")
        if padding == "valid":
            window = tuple(min(w, n) for w, n in zip(window, h.shape[1:-1], strict=True))
        return kind(window, self.pick(1, 2), padding=padding)(h)

    def mean_kept(self, h):
        return getattr(layers, f"GlobalAveragePooling{self.rank}D")(keepdims=True)(h)

    def upsampling(self, h):
        factors = self.each(1, 2)
        kind = getattr(layers, f"UpSampling{self.rank}D")
        return kind(factors if self.rank > 1 else factors[0])(h)

    def padding(self, h):
        pads = tuple((self.pick(0, 1), self.pick(0, 1, 2)) for _ in range(self.rank))
        kind = getattr(layers, f"ZeroPadding{self.rank}D")
        return kind(pads if self.rank > 1 else pads[0])(h)

    def cropping(self, h):
        cuts = tuple((self.pick(0, 1) * (n > 2), 0) for n in h.shape[1:-1])
        kind = getattr(layers, f"Cropping{self.rank}D")
        return kind(cuts if self.rank > 1 else cuts[0])(h)

    def normalization(self, h):
        kind = self.pick(
            layers.BatchNormalization, layers.LayerNormalization, layers.RMSNormalization
        )
        return kind()(h)

    def shift(self, h):
        """A constant in front of an activation; random biases may follow it or not."""
        return layers.Activation(self.pick("relu", "leaky_relu"))(h + self.pick(-0.5, 0.7))

    def gain(self, h):
        """A random factor for each channel, in front of a homogeneous function or none."""
        law = keras.initializers.RandomNormal(1.0, 0.4)
        return layers.BatchNormalization(gamma_initializer=law)(h)

    def highway(self, h):
        """t h + (1 - t) x, with t, h and x independent."""
        kind = getattr(layers, f"Conv{self.rank}D")
        made = [kind(4, self.pick(1, 2), padding="same", **WEIGHTS)(h) for _ in range(3)]
        t = self.activation(made[0])
        return t * made[1] + (1 - t) * made[2]

    def bilinear(self, h):
        if self.rank == 1:
            return self.upsampling(h)
        return layers.UpSampling2D(self.each(1, 2), interpolation="bilinear")(h)

    def beside_its_norm(self, h):
        kind = self.pick(layers.LayerNormalization, layers.RMSNormalization)
        return h + kind()(h)

    def each_step(self, h):
        """A layer on each step of a sequence; of a map on each of its rows."""
        inner = layers.Dense(4, **WEIGHTS) if self.rank == 1 else layers.Conv1D(4, 2, **WEIGHTS)
        if self.rank == 2 and h.shape[2] < 2:
            return h
        return self.activate(layers.TimeDistributed(inner)(h))

    def shuffled(self, h):
        """Channels in another order."""
        count = h.shape[-1]
        groups = next((g for g in self.pick((2, 3), (3, 2)) if count % g == 0 and count > g), 1)
        return ChannelShuffle(groups)(h) if groups > 1 else h

    def columns(self, h):
        """The columns of a map as steps, and a map of what weights make of each."""
        if self.rank == 1:
            return h
        *size, channels = h.shape[1:]
        steps = layers.Reshape((size[0], size[1] * channels))(h)
        if self.rng.random() < 0.3:
            steps = self.pick(layers.LayerNormalization, layers.BatchNormalization)()(steps)
        made = self.pick(
            layers.Dense(3 * size[1], **WEIGHTS),
            layers.Conv1D(3 * size[1], 2, padding="same", **WEIGHTS),
        )
        return self.activate(layers.Reshape((*size, 3))(made(steps)))

    def sequence(self, h):
        """Dense layers on each of the positions of a map, which are a sequence there."""
        *size, channels = h.shape[1:]
        steps = layers.Reshape((int(np.prod(size)), channels))(h)
        made = self.activate(layers.Dense(channels, **WEIGHTS)(steps))
        made = made + steps if self.rng.random() < 0.5 else made
        return layers.Reshape((*size, channels))(made)

    def patches(self, h):
        if self.rank == 1 or min(h.shape[1:3]) < 2:
            return h
        settings = {"strides": self.pick(1, 2), "padding": self.pick("valid", "same")}
        return self.activate(
            self.pointwise(keras.ops.image.extract_patches(h, self.each(1, 2), **settings), 4)
        )

    def own_weights(self, h):
        return OwnResidual()(h)

    def own_bias(self, h):
        """Biases in front of a function of them or of weights."""
        layer = OwnBias(self.pick(BIAS, BIAS, keras.initializers.Constant(0.4)))
        if self.rng.random() < 0.3:
            return self.pointwise(layer(h), 4)
        return self.activate(layer(self.pointwise(h, 4)))

    def small(self, h):
        """A convolution without a function."""
        window = tuple(min(n, self.pick(1, 2)) for n in h.shape[1:-1])
        return getattr(layers, f"Conv{self.rank}D")(4, window, **WEIGHTS)(h)

    def bent(self, h):
        """Weights, and a function of straight pieces or parabolas that has several corners."""
        h = self.small(h)
        if 0 < _positions(h) <= FEW_POSITIONS:
            h = layers.Activation(self.pick(*BENT))(h)
        return h

    def own_gate(self, h):
        """A function of a tensor times another function of it, or times it."""
        h = self.pick(self.convolution, lambda h: self.pointwise(h, 4))(h)
        return self.activation(h) * self.activate(h)

    def norm_gate(self, h):
        """A tensor's normalisation in a function, beside the tensor or times it, or both."""
        h = self.small(h)
        if not 0 < _positions(h) <= FEW_POSITIONS:
            return h
        phi, product = self.pick("erf", "sin", "relu"), bool(self.rng.random() < 0.6)
        skip = self.pick(0.0, 1.0, -0.5) if product else self.pick(1.0, -0.5)
        return NormGate(phi, skip, product=product)(h)

    def beside_data(self, h):
        """The input added, or constants of each channel and position; and weights behind them."""
        if self.data is not None and self.rng.random() < 0.5:
            if h.shape[1:-1] != self.data.shape[1:-1]:
                return h
            h = self.pointwise(h, self.data.shape[-1])
            added = layers.Add()([h, self.data])
        else:
            added = h + self.rng.normal(size=(1, *h.shape[1:])).astype("float32")
        return self.pointwise(added, 4)

    def branch(self, h):
        """A tensor of the same shape: the same one, a map of it, or one with weights."""
        kinds = [f"AveragePooling{self.rank}D", f"Conv{self.rank}D"]
        name = self.pick("same", *kinds)
        if name == "same":
            return h
        if "Pooling" in name:
            return getattr(layers, name)(self.pick(2, 3), 1, padding="same")(h)
        kind, units = getattr(layers, name), h.shape[-1]
        return self.activate(kind(units, self.pick(1, 3), padding="same", **WEIGHTS)(h), 0.3)

    def sum_of_branches(self, h):
        merge = self.pick(layers.Add, layers.Subtract, layers.Average)
        return merge()([self.branch(h), self.branch(h)])

    def gate(self, h):
        """A product of two tensors; dependent ones are refused."""
        return layers.Multiply()([self.branch(h), self.branch(h)])

    def channel_gate(self, h):
        """Half of the channels times the other half."""
        h = self.pointwise(h, 8) if h.shape[-1] % 2 or self.rng.random() < 0.5 else h
        half = h.shape[-1] // 2
        return self.activate(h[..., :half]) * self.activate(h[..., half:])

    def shared(self, h):
        """Two layers, each called on two tensors; dependent ones are refused."""
        kind = getattr(layers, f"Conv{self.rank}D")
        first, second = (kind(4, self.pick(1, 2), padding="same", **WEIGHTS) for _ in range(2))
        phi = layers.Activation(self.pick("relu", "leaky_relu"))
        arguments = [kind(4, self.pick(1, 2), padding="same", **WEIGHTS)(h) for _ in range(2)]
        if self.rng.random() < 0.7:
            arguments = [phi(argument) for argument in arguments]
        merge = self.pick(layers.Add, layers.Subtract, layers.Concatenate)
        return merge()([second(phi(first(argument))) for argument in arguments])

    def turned(self, h):
        """Positions in the opposite order, or along other axes."""
        if self.rank == 2 and self.rng.random() < 0.5:
            return layers.Permute((2, 1, 3))(h)
        return keras.ops.flip(h, axis=1)

    def excitation(self, h):
        """Channels times numbers that are made of the mean over positions."""
        keep = bool(self.rng.random() < 0.5)
        pooling = getattr(layers, f"GlobalAveragePooling{self.rank}D")
        g = layers.Dense(h.shape[-1], **WEIGHTS)(pooling(keepdims=keep)(h))
        return layers.Multiply()([h, self.activation(g)])

    def concatenation(self, h):
        return layers.Concatenate()([self.branch(h), self.pointwise(h, self.pick(2, 3, 5))])

    def misaligned(self, h):
        """A sum whose channel groups are cut at different places."""
        parts = [self.pointwise(h, units) for units in (self.pick(1, 2, 3), self.pick(2, 4))]
        orders = [parts, parts[::-1]] if self.rng.random() < 0.7 else [parts, parts]
        merge = self.pick(layers.Add, layers.Subtract)
        return merge()([layers.Concatenate()(order) for order in orders])


def _positions(tensor):
    count = 1
    for n in tensor.shape[1:-1]:
        count *= n
    return count


def difference(model, kernel, x):
    """The largest error of a kernel matrix, over the root of the two variances.

    Shapes: kernel [N, N], or between positions [N, *positions, N, *positions]
    """
    return distance(kernel, between_positions(model, x, x))


def distance(kernel, expected):
    """The largest error of a kernel matrix beside that of `between_positions`, as `difference`.

    Shapes: kernel [N, N], [N, *positions, N, *positions], or [N, N, *positions] at equal
        positions; expected [N, N, P, P]
    """
    count, places = expected.shape[0], expected.shape[2]
    rows = count * places
    if kernel.size < rows**2:
        expected = expected.diagonal(axis1=2, axis2=3)
        root = np.einsum("nnp->np", expected) ** 0.5
        error = abs(kernel.reshape(count, count, places) - expected)
        return float((error / (root[:, None] * root)).max())
    expected = expected.transpose(0, 2, 1, 3).reshape(rows, rows)
    root = expected.diagonal() ** 0.5
    return float((abs(kernel.reshape(rows, rows) - expected) / (root[:, None] * root)).max())


def promised(report, dtype):
    """The largest error that the report of a kernel allows: that of a closed form, and of each
    function that is expanded or integrated the first that its note states."""
    stated = filter(None, map(_STATED.search, report.notes))
    errors = (found[2] if found[2] and dtype == "float64" else found[1] for found in stated)
    return EXACT[dtype] + sum(map(float, errors))
