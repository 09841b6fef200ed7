"""Window sums against Keras's own convolutions, and one method against the other."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras2gp.conversion.layers.windows import pads
from keras2gp.covariance.windows import window_adjoint, window_sum
from keras2gp.graph.ops import Patches

SIZES = {1: (9,), 2: (7, 6), 3: (5, 4, 6)}
CASES = [
    (rank, window, stride, dilation, padding)
    for rank, window, (stride, dilation), padding in itertools.product(
        (1, 2, 3), (1, 2, 3, 4), ((1, 1), (2, 1), (3, 1), (1, 2)), ("valid", "same", "causal")
    )
    if (padding != "causal" or rank == 1)
    and (padding != "valid" or (window - 1) * dilation < min(SIZES[rank]))
]
MIXED = [
    (2, (1, 3), (1, 2), (1, 1), "same"),
    (2, (4, 2), (3, 1), (1, 1), "valid"),
    (2, (2, 3), (1, 1), (3, 1), "same"),
    (3, (1, 2, 3), (2, 1, 3), (1, 1, 1), "same"),
    (3, (3, 1, 2), (1, 1, 1), (2, 1, 3), "valid"),
]


def patches(rank, window, stride, dilation, padding):
    each = [v if isinstance(v, tuple) else (v,) * rank for v in (window, stride, dilation)]
    return Patches(*each, pads(padding, SIZES[rank], *each))


def keras_sum(k, rank, window, stride, dilation, padding):
    """A convolution with ones, by Keras itself: k is [*spatial, B].

    Windows of one position need no padding. TensorFlow's Conv3D pads them by a negative number on
    processors without AVX-512, where the stride is larger; Conv1D and Conv2D do not.
    """
    padding = "valid" if window == 1 else padding
    images = np.moveaxis(k, -1, 0)[..., None]
    layer = getattr(keras.layers, f"Conv{rank}D")(
        1, window, stride, padding, dilation_rate=dilation, kernel_initializer="ones"
    )
    return np.moveaxis(np.asarray(layer(images))[..., 0], 0, -1)


@pytest.mark.parametrize("case", CASES + MIXED, ids=str)
def test_sums_what_keras_sums(case, rng):
    op = patches(*case)
    k = rng.integers(0, 9, size=(*SIZES[case[0]], 2)).astype("float32")
    expected = keras_sum(k, *case)
    found = window_sum(tf.constant(k), op, "shifts")
    np.testing.assert_array_equal(found, expected)
    assert op.spatial((SIZES[case[0]],)) == expected.shape[:-1]


@pytest.mark.parametrize("case", CASES + MIXED, ids=str)
def test_methods_agree(case, rng):
    op = patches(*case)
    k = tf.constant(rng.normal(size=(*SIZES[case[0]], 2, 3)))
    shifts, convolution = (window_sum(k, op, method) for method in ("shifts", "conv2d"))
    np.testing.assert_allclose(shifts, convolution, rtol=0, atol=1e-12)


def test_methods_agree_when_compiled(rng):
    op = patches(2, 3, 2, 1, "same")
    k = tf.constant(rng.normal(size=(7, 6, 2, 3)))
    for method in ("shifts", "conv2d"):
        compiled = tf.function(lambda k, m=method: window_sum(k, op, m), jit_compile=True)
        np.testing.assert_allclose(compiled(k), window_sum(k, op, "shifts"), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "window", "stride", "dilation", "edges"),
    [
        ((9,), (3,), (1,), (1,), ((1, 1),)),
        ((9,), (1,), (1,), (1,), ((2, 3),)),
        ((8,), (2,), (3,), (2,), ((4, 0),)),
        ((7, 6), (4, 2), (3, 2), (1, 2), ((0, 1), (5, 0))),
        ((5, 4, 6), (1, 2, 3), (2, 1, 3), (1, 1, 1), ((0, 0), (0, 1), (1, 1))),
    ],
)
def test_the_adjoint_is_the_transpose(size, window, stride, dilation, edges):
    op, random = Patches(window, stride, dilation, edges), np.random.default_rng(0)
    k = tf.constant(random.normal(size=(*size, 2, 3)))
    out = window_sum(k, op, "shifts")
    y = tf.constant(random.normal(size=out.shape))
    back = window_adjoint(y, op, k.shape, lambda k: k)
    assert back.shape == k.shape
    assert float(tf.reduce_sum(back * k)) == pytest.approx(float(tf.reduce_sum(out * y)), rel=1e-12)
