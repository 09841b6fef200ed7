"""Equal stretches, and pieces of pooled maps, that one body computes in turn."""

import keras
import numpy as np
import pytest
from keras import layers
from oracles import full_covariance as full_oracle

import keras2gp
from keras2gp.covariance import offset_mixing
from keras2gp.covariance.offset_mixing import additions
from keras2gp.covariance.program import Program
from keras2gp.graph import repetitions
from keras2gp.graph.analysis import Analysis
from keras2gp.graph.graph import GraphBuilder
from keras2gp.graph.ops import Activation, Affine, Input

SIDE = 4


def drawn(deviation=0.3):
    """Weights and biases of variances that no other layer has."""
    return {
        "kernel_initializer": keras.initializers.RandomNormal(stddev=deviation),
        "bias_initializer": keras.initializers.RandomNormal(stddev=0.5 * deviation),
    }


def conv(filters, window, number=0):
    return layers.Conv2D(filters, window, padding="same", **drawn(0.15 + 0.02 * number))


def residual(count=4, activation="relu"):
    x = image = keras.Input((SIDE, SIDE, 2))
    x = conv(6, 3)(x)
    for number in range(count):
        y = conv(6, 3, number)(layers.Activation(activation)(x))
        y = conv(6, (1, 3), number + 7)(layers.Activation(activation)(y))
        x = layers.Add()([x, y])
    return image, layers.Activation(activation)(x)


def concatenated(count=6):
    x = image = keras.Input((SIDE, SIDE, 2))
    x = layers.ReLU()(conv(6, 3)(x))
    for number in range(count):
        y = layers.ReLU()(conv(5, 1, number)(x))
        y = layers.ReLU()(conv(3, 3, number + 7)(y))
        x = layers.Concatenate()([x, y])
    return image, x


def separable(count=3):
    x = image = keras.Input((SIDE, SIDE, 2))
    x = conv(6, 3)(x)
    for number in range(count):
        y = x
        for step in range(2):
            deviation = 0.3 + 0.03 * (number + step)
            y = layers.SeparableConv2D(
                6,
                3,
                padding="same",
                depthwise_initializer=keras.initializers.RandomNormal(stddev=deviation),
                pointwise_initializer=keras.initializers.RandomNormal(stddev=deviation),
            )(layers.ReLU()(y))
        x = layers.Add()([x, y])
    return image, layers.ReLU()(x)


def pooled(image, x, pool=None):
    x = layers.GlobalAveragePooling2D()(x) if pool is None else layers.Flatten()(pool(x))
    return keras.Model(image, layers.Dense(3, **drawn())(x))


CASES = {
    "residual": lambda: pooled(*residual()),
    "residual, few offsets": lambda: pooled(*residual(), layers.AveragePooling2D(2, 1)),
    "residual, offset 0": lambda: pooled(*residual(), layers.Flatten()),
    "concatenated": lambda: pooled(*concatenated()),
    "concatenated, few offsets": lambda: pooled(*concatenated(), layers.AveragePooling2D(2)),
    "separable": lambda: pooled(*separable()),
    "gelu": lambda: pooled(*residual(3, "gelu")),
}


@pytest.fixture
def rolled(monkeypatch):
    monkeypatch.setattr(repetitions, "_LEAST_SAVED", 1)


FAST = {"residual, few offsets", "concatenated"}


@pytest.mark.parametrize(
    "case", [c if c in FAST else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)
def test_values_are_those_of_all_positions(case, rolled, rng):
    model = CASES[case]()
    x1, x2 = (rng.normal(size=(count, SIDE, SIDE, 2)) for count in (3, 2))
    kernel = keras2gp.convert(model, dtype="float64")
    assert kernel.program.program.repetitions
    np.testing.assert_allclose(kernel(x1, x2), full_oracle.full_kernel(model, x1, x2), rtol=1e-9)
    expected = full_oracle.full_kernel(model, x1, x1).diagonal()
    np.testing.assert_allclose(kernel.diag(x1), expected, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["residual, few offsets", "concatenated", "gelu"])
def test_tangent_kernels_are_those_of_all_positions(case, rolled, rng):
    model = CASES[case]()
    x1, x2 = (rng.normal(size=(count, SIDE, SIDE, 2)) for count in (3, 2))
    kernel = keras2gp.convert(model, dtype="float64")
    expected = full_oracle.full_tangent(model, x1, x2)
    np.testing.assert_allclose(kernel(x1, x2, get="ntk"), expected, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["elu", "hard_tanh", "relu6"])
def test_forms_for_small_variances_are_chosen_by_all_stretches(
    activation, rolled, rng, monkeypatch
):
    model = pooled(*residual(4, activation))
    x = rng.normal(size=(4, SIDE, SIDE, 2)).astype("float32")
    for scale in (0.3, 30.0):
        own = keras2gp.convert(model)(scale * x)
        with monkeypatch.context() as written:
            written.setattr(repetitions, "_LEAST_SAVED", 10**9)
            expected = keras2gp.convert(model)(scale * x)
        np.testing.assert_allclose(own, expected, rtol=1e-6)


def found(model, least=1):
    """(count, nodes of a stretch) of each repetition."""
    program = Program(keras2gp.convert(model).graph, repeats=True)
    return [(r.count, len(r.nodes[0])) for r in program.repetitions.values()]


def test_stretches_are_as_long_and_as_many_as_they_can_be(rolled):
    assert found(CASES["residual"]()) == [(4, 7)]
    assert found(CASES["separable"]()) == [(3, 9)]
    assert found(CASES["concatenated"]()) == [(4, 6)]


def test_small_networks_are_written_out():
    assert found(CASES["residual"]()) == []


def test_a_stretch_whose_map_is_read_later_is_written_out(rolled):
    x = image = keras.Input((SIDE, SIDE, 2))
    x = conv(6, 3)(x)
    kept = []
    for number in range(4):
        x = conv(6, 3, number)(layers.ReLU()(x))
        kept.append(conv(4, 1, 9 + number)(layers.ReLU()(x)))
    model = pooled(image, layers.ReLU()(layers.Add()(kept)))
    assert found(model) == []


def test_a_layer_that_stands_for_several_in_another_stretch_is_written_out(rolled):
    """Equal but for their layers, of which the first stretch has one where others have two."""
    for shared in (False, True):
        builder = GraphBuilder()
        node = builder.add(Input(0, (4,), 3), (), "x")
        for number in range(4):
            for call, name in enumerate(("relu", "gelu")):
                layer = "shared" if shared and number == 0 else f"{name}_{number}"
                node = builder.add(Affine(layer, call), (node,), layer)
                node = builder.add(Activation(name), (node,), layer)
        graph = builder.graph(builder.add(Affine("end"), (node,), "end"))
        (r,) = repetitions.repetitions(Analysis.of(graph)).values()
        assert (r.count, r.nodes[0]) == (4, (2, 3, 4, 5) if shared else (1, 2, 3, 4))


POOLS = {
    "overlapping": lambda: layers.AveragePooling2D(3, 2),
    "cut at the border": lambda: layers.AveragePooling2D(3, 2, padding="same"),
    "stride 1": lambda: layers.AveragePooling2D(3, 1, padding="same"),
    "upsampled": lambda: layers.UpSampling2D(2),
}


@pytest.mark.parametrize(
    "pool",
    [
        "overlapping",
        *(pytest.param(p, marks=pytest.mark.slow) for p in POOLS if p != "overlapping"),
    ],
)
@pytest.mark.parametrize("kind", ["nngp", pytest.param("ntk", marks=pytest.mark.slow)])
def test_pieces_of_pooled_maps_are_added_in_a_loop(pool, kind, rng, monkeypatch):
    monkeypatch.setattr(offset_mixing, "_MOST_PIECES", 0)
    image = keras.Input((5, 4, 2))
    x = POOLS[pool]()(layers.ReLU()(conv(6, 3)(image)))
    model = pooled(image, layers.ReLU()(conv(6, 3, 1)(x)))
    x1, x2 = (rng.normal(size=(count, 5, 4, 2)) for count in (3, 2))
    kernel = keras2gp.convert(model, dtype="float64")
    oracle = full_oracle.full_kernel if kind == "nngp" else full_oracle.full_tangent
    np.testing.assert_allclose(kernel(x1, x2, get=kind), oracle(model, x1, x2), rtol=1e-9)


def test_many_pieces_are_added_in_a_loop():
    image = keras.Input((13, 13, 2))
    x = layers.AveragePooling2D(3, 2)(layers.ReLU()(conv(6, 3)(image)))
    model = pooled(image, layers.AveragePooling2D(3, 2)(layers.ReLU()(conv(6, 3, 1)(x))))
    analysis = Analysis.of(keras2gp.convert(model).graph)
    first, *_ = analysis.loops
    op, size = analysis.graph.nodes[first.result].op, analysis.graph.nodes[first.last].spatial
    held = (first.offsets, first.periods), (analysis.offsets[first.result], ())
    (addition,) = additions(op.maps(size), *held)
    assert addition.is_long
