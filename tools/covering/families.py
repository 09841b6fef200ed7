"""Families of models and formats of files, with an example of each that runs."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent, wrap

__all__ = ["FAMILIES", "FORMATS", "PREAMBLE", "Family", "section"]

PREAMBLE = """\
import keras
import numpy as np
from keras import layers, ops

import keras2gp
"""


@dataclass(frozen=True)
class Family:
    """Models of one kind. code: an example that leaves a `kernel` behind."""

    name: str
    says: str
    code: str


def _family(name: str, says: str, code: str) -> Family:
    return Family(name, " ".join(says.split()), dedent(code).strip())


FAMILIES = (
    _family(
        "Residual networks",
        "ResNet v2: activations stand before the layers of a branch, and the sum is Gaussian.",
        """
        x = inputs = keras.Input((8, 8, 1))
        x = layers.Conv2D(16, 3, padding="same")(x)
        y = layers.Conv2D(16, 3, padding="same")(layers.ReLU()(x))
        x = layers.ReLU()(layers.Add()([x, y]))
        x = layers.GlobalAveragePooling2D()(x)
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(10)(x)))
        """,
    ),
    _family(
        "Maps and sequences as outputs",
        """Segmentation, U-Nets, autoencoders, a result at every step: the process is one of inputs
        and positions. `kernel(x1, x2)` is [N1, N2, *positions], at equal positions.""",
        """
        x = inputs = keras.Input((8, 8, 1))
        x = y = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
        x = layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu")(x)
        x = layers.Concatenate()([x, y])
        model = keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x))
        kernel = keras2gp.convert(model)
        """,
    ),
    _family(
        "Gates and products",
        """A product of two branches of independent weights: squeeze and excitation, gated linear
        units, slices of channels. Weights after it make it Gaussian again.""",
        """
        x = inputs = keras.Input((8, 8, 1))
        x = layers.Conv2D(16, 3, activation="relu")(x)
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        gate = layers.Dense(16, "sigmoid")(layers.Dense(4, "relu")(gate))
        x = layers.Flatten()(layers.Multiply()([x, gate]))
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(10)(x)))
        """,
    ),
    _family(
        "Means",
        """Constants at the output, in biases, offsets or sums, are the mean of the process, and so
        is the input where f(x) + x is the output: `kernel.mean`, which GPRegressor takes as the
        mean of its prior.""",
        """
        x = inputs = keras.Input((8, 8, 1))
        x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
        noise = layers.Conv2D(1, 3, padding="same", bias_initializer="ones")(x)
        kernel = keras2gp.convert(keras.Model(inputs, layers.Subtract()([inputs, noise])))
        """,
    ),
    _family(
        "Shared layers",
        """Layers that are called on several inputs, as in siamese towers of any depth: the calls
        are one random function at several places, joined by concatenation, sum, difference or
        product. What follows may act on them.""",
        """
        tower = [layers.Conv2D(16, 3, activation="relu"), layers.Flatten(), layers.Dense(32)]
        tower = keras.Sequential([keras.Input((8, 8, 1)), *tower])
        one, two = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
        distance = ops.abs(tower(one) - tower(two))
        end = layers.Dense(1, activation="sigmoid")(distance)
        kernel = keras2gp.convert(keras.Model([one, two], end))
        """,
    ),
    _family(
        "Texts and other sequences",
        """Embedding takes integers, of which equal ones are equal and others independent; SimpleRNN
        in closed form, stacked, Bidirectional, at every step or the last. LSTM, GRU and attention
        have none.""",
        """
        x = inputs = keras.Input((12,), dtype="int32")
        x = layers.Embedding(1000, 32)(x)
        x = layers.Bidirectional(layers.SimpleRNN(32, return_sequences=True))(x)
        x = layers.SimpleRNN(32)(x)
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x)))
        """,
    ),
    _family(
        "Masks of steps",
        """mask_zero, Masking and mask= count: means are over the steps that are left in, and
        recurrences go through those alone, wherever they are. A layer that takes notice of the
        steps between them (a convolution, Flatten) is refused after
        SimpleRNN(return_sequences=True), which repeats its state there.""",
        """
        words = keras.Input((12,), dtype="int32")
        x = layers.Embedding(1000, 32, mask_zero=True)(words)
        x = layers.SimpleRNN(32, return_sequences=True)(x)
        x = layers.GlobalAveragePooling1D()(x)
        kernel = keras2gp.convert(keras.Model(words, layers.Dense(1, activation="sigmoid")(x)))
        """,
    ),
    _family(
        "The same layers at every step",
        """TimeDistributed around any layer or model that has a rule: frames of a video, letters of
        words. The covariance of different steps is kept.""",
        """
        frame = [layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D()]
        frame = keras.Sequential([keras.Input((8, 8, 1)), *frame])
        x = inputs = keras.Input((5, 8, 8, 1))
        x = layers.SimpleRNN(32)(layers.TimeDistributed(frame)(x))
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(3, activation="softmax")(x)))
        """,
    ),
    _family(
        "Highways",
        """Sums of products that share factors: t h + (1 - t) x, and h + h * gate.""",
        """
        x = inputs = keras.Input((6,))
        x = layers.Dense(32)(x)
        t, h = layers.Dense(32, "sigmoid")(x), layers.Dense(32, "relu")(x)
        x = t * h + (1.0 - t) * x
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(1)(x + x * layers.Dense(32)(x))))
        """,
    ),
    _family(
        "Normalisations beside their input",
        """A tensor may stand beside its LayerNormalization, beside a function of that, and times
        one: the function's mean slope, by Stein's lemma, is what both have in common.""",
        """
        x = inputs = keras.Input((6,))
        x = layers.Dense(32)(x)
        x = x + keras.activations.gelu(layers.LayerNormalization()(x))
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(1)(x)))
        """,
    ),
    _family(
        "Data inside the network",
        """The input added to random channels (x + f(x), N-BEATS) or times them (deep and cross
        networks, x0 * Dense(x) + x) with a layer with weights after it, constants of each channel
        and position, and constants as channels (CoordConv): they count as if repeated as often as
        the channels beside them have grown.""",
        """
        x = inputs = keras.Input((12,))
        for _ in range(2):
            h = layers.Dense(64, activation="relu")(x)
            x = layers.Subtract()([x, layers.Dense(12)(h)])
        x = layers.Dense(64, activation="relu")(layers.LayerNormalization()(x))
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(1)(x)))
        """,
    ),
    _family(
        "Two towers",
        """Inner products of independent towers, and sums or means over channels of mean 0: Gaussian
        for many channels, with the covariance of as many as the model has.""",
        """
        user, item = keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")
        u, v = (layers.Flatten()(layers.Embedding(50, 16)(ids)) for ids in (user, item))
        bias = layers.Flatten()(layers.Embedding(50, 1)(user))
        rating = layers.Add()([layers.Dot(1)([u, v]), bias])
        kernel = keras2gp.convert(keras.Model([user, item], rating))
        """,
    ),
    _family(
        "Pairs of fields",
        """Factorisation machines and DeepFM: the square of a sum of embeddings less the sum of
        their squares is the sum over pairs, of fields that have tables of their own.""",
        """
        fields = [keras.Input((), dtype="int32") for _ in range(3)]
        x = ops.stack([layers.Embedding(50, 8)(field) for field in fields], axis=1)
        pairs = ops.square(ops.sum(x, axis=1)) - ops.sum(ops.square(x), axis=1)
        pairs = 0.5 * ops.sum(pairs, axis=1, keepdims=True)
        deep = layers.Dense(1)(layers.Dense(32, activation="relu")(layers.Flatten()(x)))
        kernel = keras2gp.convert(keras.Model(fields, layers.Activation("sigmoid")(pairs + deep)))
        """,
    ),
    _family(
        "Units that depend on each other",
        """v + a - mean(a), logits less their mean, sums up to each unit (cumsum), units times a
        basis of constants (forecasts of N-BEATS), several heads side by side: every unit of the
        output is a position of the process.""",
        """
        x = inputs = keras.Input((6,))
        x = layers.Dense(64, activation="relu")(x)
        value, advantage = layers.Dense(1)(x), layers.Dense(3)(x)
        advantage = advantage - ops.mean(advantage, axis=-1, keepdims=True)
        kernel = keras2gp.convert(keras.Model(inputs, value + advantage))
        """,
    ),
    _family(
        "Heads side by side",
        """Outputs that are joined or stacked: linear ones beside those that end in softmax, sigmoid
        or tanh, or in exp, softplus, elu + 1 or clip, of which each is left out. Every unit of the
        output is a position.""",
        """
        x = inputs = keras.Input((6,))
        x = layers.Dense(64, activation="relu")(x)
        mean, deviation = layers.Dense(1)(x), layers.Dense(1, activation="softplus")(x)
        weights = layers.Dense(3, activation="softmax")(x)
        heads = layers.Concatenate()([mean, deviation, weights])
        kernel = keras2gp.convert(keras.Model(inputs, heads))
        """,
    ),
    _family(
        "Tensors less their mean",
        """x - mean(x) over channels of mean 0 is x, as they become many, where weights follow: the
        antirectifier. Normalisations that are written by hand are those of Keras's layers.""",
        """
        x = inputs = keras.Input((6,))
        x = layers.Dense(32)(x)
        x = x - ops.mean(x, axis=-1, keepdims=True)
        x = ops.concatenate([ops.relu(x), ops.relu(-x)], axis=-1)
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(1)(x)))
        """,
    ),
    _family(
        "Graph convolutions",
        """Of a graph that is the same for all inputs: `ops.matmul` of a matrix of constants and the
        positions of one axis.""",
        """
        graph = np.array([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
        x = nodes = keras.Input((3, 6))
        for _ in range(2):
            x = ops.relu(ops.matmul(graph, layers.Dense(16)(x)))
        x = layers.GlobalAveragePooling1D()(x)
        kernel = keras2gp.convert(keras.Model(nodes, layers.Dense(2)(x)))
        """,
    ),
    _family(
        "The larger of two",
        """Maximum and Minimum of two Gaussian branches: maxout, max-feature-map. Of a tensor and a
        number they are an activation, as clip is.""",
        """
        x = inputs = keras.Input((8, 8, 1))
        one, two = ops.split(layers.Conv2D(32, 3)(x), 2, axis=-1)
        x = layers.Flatten()(ops.clip(layers.Conv2D(8, 3)(ops.maximum(one, two)), -1.0, 1.0))
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(10)(x)))
        """,
    ),
    _family(
        "Channels in another order",
        """ShuffleNet: Reshape into groups, Permute, Reshape. Every channel is followed to its
        place, so that slices and sums meet the channels that Keras brings together.""",
        """
        x = inputs = keras.Input((4, 4, 1))
        x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
        left, right = x[..., :8], layers.Conv2D(8, 1, activation="relu")(x[..., 8:])
        x = layers.Concatenate()([left, right])
        x = layers.Permute((1, 2, 4, 3))(layers.Reshape((4, 4, 2, 8))(x))
        x = layers.Reshape((4, 4, 16))(x)[..., 8:]
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu")(x))
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(10)(x)))
        """,
    ),
    _family(
        "Maps as sequences",
        """Columns of a map as the steps of a sequence (text recognition), positions as a sequence
        with dense layers on each and their mean at the end, and patches of a map as channels. With
        pooling after it, a convolution over that sequence is refused: its neighbours are not those
        of the map.""",
        """
        x = inputs = keras.Input((8, 8, 1))
        x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
        columns = layers.Dense(32, activation="relu")(layers.Reshape((8, 8 * 16))(x))
        columns = layers.SimpleRNN(32)(columns)
        x = layers.Reshape((16, 32))(layers.Dense(32)(ops.image.extract_patches(x, 2)))
        x = x + layers.Dense(32, activation="relu")(layers.LayerNormalization()(x))
        x = layers.Concatenate()([columns, layers.GlobalAveragePooling1D()(x)])
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(10)(x)))
        """,
    ),
    _family(
        "Layers with weights of their own",
        """Live models: `x @ w + b` with weights from `add_weight` is a Dense layer, w transposed
        too, `keras.ops.conv(x, w)` and `tf.nn.conv2d` are convolution layers, and a factor that
        starts at a constant stays there.""",
        """
        class Linear(layers.Layer):
            def build(self, shape):
                self.w = self.add_weight(shape=(shape[-1], 64), initializer="he_normal")
                self.b = self.add_weight(shape=(64,), initializer="random_normal")

            def call(self, x):
                return ops.relu(x @ self.w + self.b)


        x = inputs = keras.Input((4,))
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(1)(Linear()(Linear()(x)))))
        """,
    ),
    _family(
        "Positions that are embedded, and class tokens",
        """Live models: a layer with weights on constants (an Embedding of `ops.arange`), and
        weights of a layer's own that are added to the positions of a tensor or joined to them.""",
        """
        class TokenAndPosition(layers.Layer):
            def __init__(self):
                super().__init__()
                self.tokens, self.positions = layers.Embedding(50, 16), layers.Embedding(12, 16)

            def build(self, shape):
                self.first = self.add_weight(shape=(1, 1, 16), initializer="random_normal")

            def call(self, x):
                x = self.tokens(x) + self.positions(ops.arange(x.shape[1]))
                first = ops.broadcast_to(self.first, (ops.shape(x)[0], 1, 16))
                return ops.concatenate([first, x], axis=1)


        x = inputs = keras.Input((12,), dtype="int32")
        x = layers.Dense(32, activation="relu")(TokenAndPosition()(x))
        x = layers.GlobalAveragePooling1D()(x)
        kernel = keras2gp.convert(keras.Model(inputs, layers.Dense(2)(x)))
        """,
    ),
    _family(
        "Pixel shuffles and mirrors",
        """Channels that become positions and the other way round, mirror padding, positions that
        are moved, taken or repeated, bilinear maps of another size.""",
        """
        x = inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(16, 3, padding="same")(x)
        x = ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect")
        x = layers.ReLU()(ops.nn.depth_to_space(layers.Conv2D(64, 3)(layers.ReLU()(x)), 2))
        kernel = keras2gp.convert(keras.Model(inputs, layers.Conv2D(3, 3, padding="same")(x)))
        """,
    ),
    _family(
        "Factors that are drawn, and logarithms of probabilities",
        """A random gamma of a normalisation counts by its moments, and log(softmax) and
        log(sigmoid) at the output are left out as softmax is.""",
        """
        x = inputs = keras.Input((6,))
        gamma = keras.initializers.RandomNormal(1.0, 0.02)
        x = layers.BatchNormalization(gamma_initializer=gamma)(layers.Dense(32)(x))
        x = ops.log(layers.Dense(4, activation="softmax")(layers.LeakyReLU()(x)))
        kernel = keras2gp.convert(keras.Model(inputs, x))
        """,
    ),
    _family(
        "Text, categories and numbers as data",
        """Layers that Keras runs on the data: lookups, hashing, encodings, crosses, vectorisation
        of texts, normalisation, resizing. Inputs may be of several kinds.""",
        """
        colour = keras.Input((1,), dtype="string")
        size = keras.Input((2,))
        lookup = layers.StringLookup(vocabulary=["red", "green", "blue"], output_mode="one_hot")
        x = layers.Concatenate()([lookup(colour), layers.Rescaling(0.1)(size)])
        x = layers.Dense(64, activation="relu")(x)
        kernel = keras2gp.convert(keras.Model([colour, size], layers.Dense(1)(x)))
        """,
    ),
    _family(
        "Code of your own",
        """Subclassed models, layers with a `call` of their own and Lambda are traced: the code of a
        live model is called on symbolic tensors, and functions of TensorFlow in it are read as
        those of keras.ops. From a file it is never run.""",
        """
        class Block(layers.Layer):
            def __init__(self):
                super().__init__()
                self.first, self.second = layers.Dense(64), layers.Dense(64)

            def call(self, x):
                return x + self.second(ops.relu(self.first(x)))


        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.start, self.block, self.end = layers.Dense(64), Block(), layers.Dense(1)

            def call(self, x):
                return self.end(ops.relu(self.block(self.start(x))))


        kernel = keras2gp.convert(Net(), input_shape=(4,))
        """,
    ),
    _family(
        "Sizes that are open",
        "`input_shape=`, or `--input-shape`, states what the model leaves open.",
        """
        x = inputs = keras.Input((None, None, 3))
        x = layers.Conv2D(16, 3, strides=2, activation="relu")(x)
        x = layers.GlobalAveragePooling2D()(x)
        model = keras.Model(inputs, layers.Dense(10)(x))
        kernel = keras2gp.convert(model, input_shape=(8, 8, 3))
        """,
    ),
    _family(
        "Trained networks",
        """`trained_until="layer"` runs that layer and all before it with their present weights, and
        takes what follows as infinitely wide; `prior="weights"` takes the second moments of trained
        weights; `keras2gp.empirical_kernel(model)` is the kernel of the finite network.""",
        """
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(16, 3, activation="relu"),
                layers.GlobalAveragePooling2D(name="features"),
                layers.Dense(64, activation="relu"),
                layers.Dense(10),
            ]
        )
        kernel = keras2gp.convert(model, trained_until="features")
        """,
    ),
)

FORMATS = """\
| file | of | architecture | trained weights |
|---|---|---|---|
| `.keras` | Keras 3 | read | read |
| `.keras` | Keras 2.12 to 2.15, tf_keras | read, translated | read |
| `.h5`, `.hdf5` of `model.save` | Keras 3, Keras 2 | read, translated | read |
| the directory of `model.save(..., zipped=False)` | Keras 3 | read | read |
| `.json` of `model.to_json()` | Keras 3, Keras 2 | read, translated | it holds none |
| `.weights.h5`, `.h5` of `save_weights` | both | it holds none | only into a model in Python |
| SavedModel, `.tflite`, `.onnx` | | compiled functions, no layers | |
"""

_FILES = """\
x = inputs = keras.Input((4,))
x = layers.Dense(64, activation="relu")(x)
model = keras.Model(inputs, layers.Dense(1)(x))
model.save("model.h5")
kernel = keras2gp.convert("model.h5", prior="weights")
"""


def section() -> str:
    """The part of the document on formats and families."""
    text = f"""\
## Files

A file is read as data, whoever made it: its configuration is compared with a list of Keras's
classes before Keras sees it, sizes are bounded before anything is allocated, no code in it is run,
and no link out of it is followed. Configurations of Keras 2 are translated first: names of layers
and settings, shapes of inputs, calls, and the functions of TensorFlow that Keras 2 wrote as layers,
as far as there is an operation of `keras.ops`. A layer without a counterpart is an obstacle of its
own, by name.

{FORMATS}
```python
{PREAMBLE}
{_FILES}```

## Families of models

Each example converts as it stands, after the five imports above.
"""
    for family in FAMILIES:
        says = "\n".join(wrap(family.says, 100))
        text += f"\n### {family.name}\n\n{says}\n\n```python\n{family.code}\n```\n"
    return text
