"""Small models for the tests of readers, and what is read from them."""

import keras
import numpy as np
from keras import layers

import keras2gp
from keras2gp.conversion.call import State
from keras2gp.conversion.registry import functional_of
from keras2gp.conversion.settings import Settings
from keras2gp.conversion.walker import KerasWalker
from keras2gp.errors import UnsupportedModelError
from keras2gp.graph.ops import Activation, Affine, Axes, Positions, Reshape
from keras2gp.matrices.fingerprint import nameless

HE = {"kernel_initializer": "he_normal"}
IMAGE = (6, 5, 2)


def conv(x, window=3, units=8, **settings):
    rank = len(x.shape) - 2
    kind = getattr(layers, f"Conv{rank}D")
    return kind(units, window, **(HE | {"padding": "same"} | settings))(x)


def model_of(function, shape=IMAGE):
    """Input -> function -> Flatten -> Dense."""
    x = keras.Input(shape)
    return keras.Model(x, layers.Dense(2, name="head", **HE)(layers.Flatten()(function(x))))


def kernel_of(function, shape=IMAGE, **settings):
    return keras2gp.convert(model_of(function, shape), dtype="float64", **settings)


def matrix(function, x, **settings):
    return np.asarray(kernel_of(function, x.shape[1:], **settings)(x))


def assert_same(one, other, x, y=None, rtol=1e-9):
    """Two kernels, NNGP and NTK, are one function: of x, or the first of x and the second of y.

    Equal graphs with equal variances, on equal data, have equal entries: they are not computed.
    Others are, of every other image with those between.
    """
    y = x if y is None else y
    graphs, variances = zip(
        *((nameless(k.graph), list(k.parameters.values())) for k in (one, other)), strict=True
    )
    if graphs[0] == graphs[1] and variances[0] == variances[1]:
        for first, second in zip(one.images(x), other.images(y), strict=True):
            np.testing.assert_allclose(first, second, rtol=rtol, atol=rtol)
        return
    for kind in ("nngp", "ntk"):
        found, expected = (
            kernel(images[::2], images[1::2], get=kind) for kernel, images in ((one, x), (other, y))
        )
        np.testing.assert_allclose(found, expected, rtol=rtol)


def specs(function, shape=IMAGE, **settings):
    """The ops of the converted graph, without data, weights, activations and the end."""
    graph = kernel_of(function, shape, **settings).graph
    kept = [n.op for n in graph.nodes[1:] if not isinstance(n.op, Affine | Activation | Positions)]
    return [
        op
        for op in kept
        if not (isinstance(op, Reshape) and not op.size)
        and not (isinstance(op, Axes) and not op.order)
    ]


def tensor_of(function, shape=IMAGE):
    """What the reader answers for the last layer, and the graph's nodes."""
    x = keras.Input(shape)
    state = State(Settings())
    walker = KerasWalker(functional_of(keras.Model(x, function(x))), state, {})
    return walker.outputs[0], state.builder.nodes


def refusal(function, where, shape=IMAGE, **settings):
    """The one obstacle at a layer of this name."""
    try:
        kernel_of(function, shape, **settings)
    except UnsupportedModelError as error:
        (found,) = [o for o in error.obstacles if o.where == where]
        return found
    raise AssertionError("it was converted")


def became(report, name):
    (row,) = [row for row in report.rows if row.path == name]
    return row
