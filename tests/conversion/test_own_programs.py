"""Random layers with weights of their own, against sampled wide copies that numpy computes.

A program is a list of steps, each of which reads earlier values. Weights are used again and again,
with biases and without, so that a kernel that takes two uses of a weight for independent is wrong.
Square ones are used transposed too.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras2gp
from keras2gp import UnsupportedModelError

X = np.random.default_rng(0).normal(size=(4, 4))
BIAS, WIDTH, COPIES = 0.5, 400, 60
PAIRS = ("add", "subtract")
TURNED = (
    lambda a, w: a @ ops.transpose(w),
    lambda a, w: tf.matmul(a, w, transpose_b=True),
    lambda a, w: ops.einsum("bi,oi->bo", a, w),
)


def sources(step):
    return step[1:] if step[0] in PAIRS else step[1:2]


def drawn(rng):
    """A program whose last value is made of all others, and the numbers of matrices and biases."""
    matrices, biases = int(rng.integers(1, 3)), int(rng.integers(3))
    steps, hidden = [], []
    for _ in range(rng.integers(2, 8)):
        kinds = ["matrix", "relu", "hidden", "turned", "scale", *["bias"] * (2 * min(biases, 1))]
        kind = str(rng.choice([*kinds, *PAIRS])) if hidden else "matrix"
        first = int(rng.choice(hidden)) if hidden else 0
        second = {
            "matrix": lambda: int(rng.integers(matrices)),
            "bias": lambda: int(rng.integers(biases)),
            "hidden": lambda: int(rng.integers(2)),
            "turned": lambda: int(rng.integers(2)),
            "scale": lambda: float(rng.choice([-1.0, 0.5, 2.0])),
            "add": lambda: int(rng.choice(hidden)),
            "subtract": lambda: int(rng.choice(hidden)),
        }
        first = int(rng.integers(2)) if kind == "matrix" else first
        steps.append((kind, first, second[kind]()) if kind in second else (kind, first))
        hidden.append(len(steps) + 1)
    while len(ends := sorted(set(hidden) - {s for step in steps for s in sources(step)})) > 1:
        steps.append((PAIRS[rng.integers(2)], *ends[:2]))
        hidden.append(len(steps) + 1)
    if rng.random() < 0.7:
        steps.append(("relu", len(steps) + 1))
    return steps, matrices, biases


def computed(steps, x, weights, relu, turned):
    """The last value; values 0 and 1 are the halves of x.

    turned: the product with a transposed matrix
    """
    values = [x[..., :2], x[..., 2:]]
    step = {
        "matrix": lambda a, number: a @ weights["matrix"][number],
        "hidden": lambda a, number: a @ weights["hidden"][number],
        "turned": lambda a, number: turned(a, weights["hidden"][number]),
        "bias": lambda a, number: a + weights["bias"][number],
        "scale": lambda a, factor: a * factor,
        "add": lambda a, other: a + values[other],
        "subtract": lambda a, other: a - values[other],
        "relu": relu,
    }
    for kind, first, *second in steps:
        values.append(step[kind](values[first], *second))
    return values[-1]


class Program(layers.Layer):
    """A layer that computes a program with weights of its own."""

    def __init__(self, steps, matrices, biases, units=16):
        super().__init__()
        self.steps, self.counts, self.units = steps, (matrices, biases), units

    def build(self, shape):
        def added(count, sizes, deviation):
            law = keras.initializers.RandomNormal(stddev=deviation)
            return [self.add_weight(shape=sizes, initializer=law) for _ in range(count)]

        matrices, biases = self.counts
        self.own = {
            "matrix": added(matrices, (2, self.units), 0.5**0.5),
            "bias": added(biases, (self.units,), BIAS),
            "hidden": added(2, (self.units, self.units), self.units**-0.5),
        }

    def call(self, x):
        turned = TURNED[len(self.steps) % len(TURNED)]
        return computed(self.steps, x, self.own, ops.relu, turned)


def sampled(steps, matrices, biases, seed):
    """Means and standard errors of the covariances of wide copies, [4, 4] each."""
    found = []
    for copy in range(COPIES):
        rng = np.random.default_rng((seed, copy))
        weights = {
            "matrix": rng.normal(size=(matrices, 2, WIDTH)) * 0.5**0.5,
            "bias": rng.normal(size=(biases, WIDTH)) * BIAS,
            "hidden": rng.normal(size=(2, WIDTH, WIDTH)) * WIDTH**-0.5,
        }
        units = computed(steps, X, weights, lambda u: np.maximum(u, 0.0), lambda a, w: a @ w.T)
        found.append(units @ units.T / WIDTH)
    return np.mean(found, axis=0), np.std(found, axis=0) / COPIES**0.5


def check(seed):
    """Compare a program's kernel with wide copies. Returns: whether it has one."""
    steps, matrices, biases = drawn(np.random.default_rng(seed))
    x = keras.Input((4,))
    head = layers.Dense(1, kernel_initializer="lecun_normal", use_bias=False)
    model = keras.Model(x, head(Program(steps, matrices, biases)(x)))
    try:
        kernel = keras2gp.convert(model, dtype="float64").matrix(X)
    except UnsupportedModelError:
        return False
    mean, error = sampled(steps, matrices, biases, seed)
    bound = 5.5 * error + 0.01 * np.abs(mean).max() + 1e-12
    assert (np.abs(kernel - mean) < bound).all(), f"seed {seed}: {steps}\n{kernel}\n{mean}"
    return True


def test_programs():
    assert sum(map(check, range(6, 14))) > 2


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 200, 8))
def test_more_programs(first):
    assert sum(map(check, range(first, first + 8)))
