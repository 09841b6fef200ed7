"""Loops that walk two offsets at a time along an axis, against one at a time and all positions."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from oracles.architectures import WEIGHTS, difference

import keras2gp
from keras2gp.covariance.pairs import ImageBlock
from keras2gp.covariance.program import Program
from keras2gp.graph import GraphBuilder, ops
from keras2gp.graph.analysis import Analysis
from keras2gp.graph.cycles import seams
from keras2gp.graph.ops import Reading

SEEDS, QUICK_SEEDS = 100, (2, 3, 4, 5, 7, 8, 11)


def of_rank(name, x):
    return getattr(layers, f"{name}{len(x.shape) - 2}D")


def conv(x, window=3, activation="relu", **settings):
    settings = WEIGHTS | {"padding": "same", "activation": activation} | settings
    return of_rank("Conv", x)(6, window, **settings)(x)


def pool(x, *args, **settings):
    return of_rank("AveragePooling", x)(*args, **settings)(x)


def average(x):
    return of_rank("GlobalAveragePooling", x)()(x)


def separable(x, **settings):
    settings = {"depthwise_initializer": "he_normal", "padding": "same", **settings}
    return of_rank("SeparableConv", x)(6, 3, activation="relu", **settings)(x)


def residual(x):
    h = conv(x, activation=None)
    r = conv(conv(layers.ReLU()(h), strides=2), activation=None)
    return layers.ReLU()(conv(h, 1, None, strides=2) + r)


def excited(x):
    h = conv(x)
    mean = of_rank("GlobalAveragePooling", h)(keepdims=True)(h)
    return conv(h) * conv(mean, 1, "relu")


def padded(x):
    h = layers.ReLU()(layers.ZeroPadding1D(1)(conv(x, activation=None)))
    return conv(layers.Cropping1D((0, 1))(conv(h, padding="valid")), 2)


def normalized(x):
    h = layers.LayerNormalization()(conv(x, activation=None))
    return conv(layers.ReLU()(layers.BatchNormalization()(h)))


def twice(x):
    """A map that two loops read, which is stored as it is."""
    h = conv(x, activation=None)
    r = conv(layers.ReLU()(h), activation=None)
    return average(layers.ReLU()(r + pool(h, 3, 1, padding="same")))


QUICK = {
    "same": ((3, 3, 1), lambda x: average(conv(x))),
    "strides with a gap": ((7, 2), lambda x: average(conv(conv(x, strides=2), strides=3))),
    "pooled twice": ((6, 1), lambda x: average(conv(pool(conv(pool(conv(x), 2)), 3, 1)))),
    "gate": ((4, 1), lambda x: average(excited(x))),
}
SLOW = {
    "padded": ((10, 1), lambda x: average(padded(x))),
    "stored": ((4, 1), twice),
    "valid": ((6, 5, 2), lambda x: average(conv(conv(x), 2, padding="valid"))),
    "even strides": ((8, 4, 1), lambda x: average(conv(conv(x, strides=2), strides=2))),
    "gaps": ((7, 6, 1), lambda x: average(conv(conv(conv(x, strides=2)), strides=3))),
    "one position left": ((5, 3, 1), lambda x: average(conv(conv(x, (1, 3), padding="valid")))),
    "dilation": ((6, 4, 1), lambda x: average(conv(x, (3, 2), dilation_rate=2))),
    "large window": ((5, 4, 1), lambda x: average(conv(conv(x, (5, 4)), (2, 5)))),
    "pointwise strides": ((7, 5, 1), lambda x: average(conv(conv(x), 1, strides=(2, 3)))),
    "pooled": ((6, 4, 1), lambda x: average(conv(pool(conv(x), 2)))),
    "overlapping": ((7, 6, 1), lambda x: average(conv(pool(conv(x), 3, 2, padding="same")))),
    "residual": ((6, 5, 1), lambda x: average(residual(x))),
    "separable": ((5, 6, 2), lambda x: average(separable(separable(conv(x), strides=2)))),
    "normalized": ((4, 5, 2), lambda x: average(normalized(x))),
    "upsampled": ((3, 4, 1), lambda x: average(conv(layers.UpSampling2D(2)(conv(x))))),
    "sequence": ((9, 2), lambda x: average(conv(conv(x, strides=2), padding="causal"))),
    "long window": ((12, 1), lambda x: average(conv(conv(x, 11)))),
    "volume": ((4, 3, 5, 1), lambda x: average(conv(conv(x, 2, strides=(1, 1, 2))))),
}
CASES = QUICK | SLOW


def values(graph, parameters, x, *, cyclic):
    """Both kernels of one image with the others, without XLA, and the cyclic loops."""
    program = Program(graph, kind="both")
    program.analysis = Analysis.of(graph, cyclic=cyclic)
    each = [parameters[layer] for layer in program.layers]
    numbers = [v.weight for v in each], [v.bias for v in each]
    variances = [[tf.constant(n, tf.float64) for n in group] for group in numbers]
    _, data, statistics = program.statistics([tf.constant(np.moveaxis(x, 0, -1))], *variances)
    blocks = [
        ImageBlock(
            [tensor[..., part] for tensor in data],
            {key: tuple(t[..., part] for t in tensors) for key, tensors in statistics.items()},
        )
        for part in (slice(0, 1), slice(1, None))
    ]
    found = program.cross(*blocks, *variances)
    return found, [loop for loop in program.analysis.loops if loop.periods]


def require_equal(graph, parameters, x):
    """The kernels of both ways, equal to 1e-12 of the largest; returns the cyclic loops."""
    found, loops = values(graph, parameters, x, cyclic=True)
    expected, none = values(graph, parameters, x, cyclic=False)
    assert not none
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max())
    return loops


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_agrees_with_one_offset_at_a_time(name, rng):
    size, function = CASES[name]
    x = keras.Input(size)
    kernel = keras2gp.convert(keras.Model(x, layers.Dense(2, **WEIGHTS)(function(x))))
    assert require_equal(kernel.graph, kernel.parameters, rng.normal(size=(3, *size)))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_all_positions(name, rng):
    size, function = CASES[name]
    x = keras.Input(size)
    model = keras.Model(x, layers.Dense(2, **WEIGHTS)(function(x)))
    images = rng.normal(size=(3, *size))
    kernel = keras2gp.convert(model, dtype="float64")
    assert difference(model, np.asarray(kernel(images)), images) < 1e-9


def drawn(rng):
    """A graph of a few windows, zeros, cuts and poolings, to a mean or to a map with itself."""
    rank = int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
    b = GraphBuilder()
    size = tuple(int(n) for n in rng.integers(1, (10, 5, 4)[rank - 1], rank))
    index = b.add(ops.Input(0, size, 1), (), "x")

    def each(*values):
        return tuple(int(rng.choice(values)) for _ in range(rank))

    def pads(most):
        return tuple((int(a), int(c)) for a, c in rng.integers(0, most + 1, (rank, 2)))

    kinds = (
        lambda: ops.Patches(each(1, 2, 3, 4), each(1, 1, 2, 3), each(1, 1, 2), pads(2)),
        lambda: ops.Pad(pads(2)),
        lambda: ops.Crop(pads(1)),
        lambda: ops.AveragePool(each(1, 2, 3), each(1, 2), ((0, 0),) * rank),
    )
    for number in range(int(rng.integers(1, 5))):
        op = kinds[int(rng.choice(4, p=[0.6, 0.1, 0.15, 0.15]))]()
        try:
            index = b.add(op, (index,), f"op {number}")
        except keras2gp.Keras2GPError:
            continue  # it does not fit
        index = b.add(ops.Affine(f"weights {number}"), (index,), f"weights {number}")
        index = b.add(ops.Activation("relu"), (index,), f"relu {number}")
    index = b.add(ops.Affine("end"), (index,), "end")
    if rng.random() < 0.3:
        return replace(b.graph(index), between=True)
    size = b.nodes[index].spatial
    index = b.add(ops.Activation("abs"), (index,), "abs")
    index = b.add(ops.AveragePool(size, (1,) * rank, ((0, 0),) * rank), (index,), "mean")
    return b.graph(b.add(ops.Affine("out"), (index,), "out"))


SEED = [n if n in QUICK_SEEDS else pytest.param(n, marks=pytest.mark.slow) for n in range(SEEDS)]


@pytest.mark.parametrize("seed", SEED)
def test_random_stretches(seed):
    rng = np.random.default_rng(seed)
    graph = drawn(rng)
    parameters = {layer: keras2gp.LayerVariances(*rng.random(2)) for layer in graph.layers}
    size = graph.inputs[0].size
    require_equal(graph, parameters, rng.normal(size=(3, *size, 1)))


def test_most_random_stretches_are_cyclic():
    graphs = [drawn(np.random.default_rng(seed)) for seed in range(SEEDS)]
    loops = [Analysis.of(graph).loops for graph in graphs]
    assert sum(any(loop.periods for loop in each) for each in loops) > SEEDS / 2


def turns(model):
    """Offsets and turns of every loop."""
    loops = Analysis.of(keras2gp.convert(model).graph).loops
    return [(len(loop.offsets), len(loop.turns)) for loop in loops]


def test_where_it_takes_fewer_turns():
    def model(*steps):
        h = x = keras.Input((28, 28, 1))
        for step in steps:
            h = step(h)
        return keras.Model(x, layers.Dense(1)(layers.Flatten()(h)))

    def strided(h):
        return conv(h, strides=2)

    assert turns(model(strided, strided, average)) == [(169, 49), (1, 1)]
    # Three times pooled 28 positions, of which few offsets are asked for, and each on its own.
    small = turns(model(conv, lambda h: pool(h, 2), conv, lambda h: pool(h, 2)))
    assert small == [(49, 49), (9, 9), (1, 1)]
    # Steps back and fractions of a step are walked one by one.
    assert turns(model(conv, lambda h: keras.ops.flip(h, axis=1), average))[0] == (3025, 3025)


def test_a_convolution_of_pairs_walks_one_by_one():
    x = keras.Input((6, 6, 1))
    graph = keras2gp.convert(keras.Model(x, layers.Dense(1)(average(conv(x))))).graph
    assert not any(loop.periods for loop in Program(graph, "conv2d").analysis.loops)
    assert Program(graph).analysis.loops[0].periods == (6, 6)


def test_taps_count_on_their_side_of_the_seam():
    """By the offsets of the two parts of every turn."""
    size, rows, scale, period = 7, 4, 1, 4
    reading = Reading(taps=3, stride=2, step=1, before=1)
    bounds = seams(reading, size, rows, scale, period)
    for d in range(period):
        for g in range(rows):
            for tap in range(3):
                place = 2 * g - 1 + tap
                if not 0 <= place < size:
                    continue
                low, high = bounds[tap][g]
                offset = d if g + d < rows else d - period
                inside = 0 <= g + offset < rows and 0 <= place + 2 * offset < size
                assert (d <= low or d >= high) == inside


def test_maps_between_cyclic_loops_hold_two_offsets_each():
    graph = keras2gp.convert(pooled_twice()).graph
    analysis = Analysis.of(graph)
    stored = [loop.result for loop in analysis.loops[:-1]]
    assert [len(analysis.slots(i)) for i in stored] == [16, 1]
    assert [len(analysis.offsets[i]) for i in stored] == [49, 1]


def pooled_twice():
    x = keras.Input((8, 8, 1))
    return keras.Model(x, layers.Dense(1)(average(conv(pool(conv(x), 2)))))
