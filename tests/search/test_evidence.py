"""The evidence's derivatives, against differences; and its ascent."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import keras2gp
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp import GPClassifier
from keras2gp.matrices.blocks import BlockShape
from keras2gp.matrices.gradient import MatrixGradient, degrees_of
from keras2gp.search.evidence import Evidence, targets_of

layers = keras.layers
BIASED = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}


def residual():
    """ReLU, erf and a sum, with strides."""
    x = image = keras.Input((6, 6, 1))
    x = layers.ReLU()(layers.Conv2D(4, 3, padding="same", name="a", **BIASED)(x))
    y = layers.Conv2D(4, 1, name="b", **BIASED)(x)
    x = layers.Conv2D(4, 3, padding="same", name="c", **BIASED)(x)
    x = keras.ops.erf(layers.Add()([x, y]))
    x = layers.Conv2D(4, 3, strides=2, name="d", **BIASED)(x)
    return keras.Model(image, layers.Dense(1, name="e", **BIASED)(layers.Flatten()(x)))


def pooled():
    """No biases, and a loop over offsets."""
    x = image = keras.Input((6, 6, 1))
    x = layers.Conv2D(4, 3, activation="relu", name="a", kernel_initializer="he_normal")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(1, name="b")(x))


def dense(bias=0.0):
    x = image = keras.Input((5,))
    for name in "abc":
        x = layers.Dense(4, activation="relu", name=name, kernel_initializer="he_normal")(x)
    prior = BIASED if bias else {}
    return keras.Model(image, layers.Dense(1, name="d", **prior)(x))


@pytest.fixture
def data(rng):
    x = rng.normal(size=(21, 6, 6, 1)).astype("float32").astype("float64")
    x[:, :3, :3] = 0  # a window that is black in every image
    x[1] = 0
    return x, np.arange(21) % 3


def in_small_tiles(gradient):
    """Ragged blocks of each side, of several tiles."""
    if gradient.sweeps:
        gradient._way._shape = BlockShape(16, 16, 4, 8)
    else:
        gradient._way.side = 8


def slopes(function, value, step=1e-5):
    return (function(value * (1 + step)) - function(value * (1 - step))) / (2 * step * value)


@pytest.mark.parametrize("network", [residual, pooled])
def test_the_derivatives_of_a_matrix(network, data, rng):
    x, _ = data
    x = x if network is residual else x[2:]  # without biases a black image has no variance
    kernel = keras2gp.convert(network(), dtype="float64")
    weights = rng.normal(size=(len(x), len(x)))
    weights += weights.T
    gradient = MatrixGradient(kernel.graph)
    in_small_tiles(gradient)
    found = gradient(kernel.parameters, kernel.images(x), weights)
    for layer, variances in kernel.parameters.items():
        for place, name in enumerate(("weight", "bias")):
            if (value := getattr(variances, name)) > 0:

                def total(v, layer=layer, name=name):
                    changed = kernel.with_parameters({layer: {name: v}})
                    return float((weights * changed.matrix(x)).sum())

                assert found[layer][place] == pytest.approx(slopes(total, value), rel=1e-6)


def activations():
    """Slopes that are written out and that are not, windows of every kind, one tensor twice."""
    x = image = keras.Input((6, 6, 1))
    x = layers.LeakyReLU(0.3)(layers.Conv2D(4, 3, strides=2, padding="same", name="a", **BIASED)(x))
    x = layers.Conv2D(4, 2, dilation_rate=2, padding="same", name="b", **BIASED)(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="c")(layers.Activation("gelu")(x))
    x = layers.Conv2D(4, (1, 3), name="d", **BIASED)(x)
    x = layers.Add()([keras.ops.abs(x), keras.ops.tanh(x)])
    x = layers.Conv2D(4, 1, strides=2, name="e", **BIASED)(x)
    return keras.Model(image, layers.Dense(1, name="f")(layers.Flatten()(keras.ops.silu(x))))


def gates():
    """Means of features, products and normalisation."""
    x = image = keras.Input((6, 6, 1))
    x = layers.Conv2D(4, 3, name="a", **BIASED)(x)
    x = layers.Add()([keras.ops.relu(x), layers.Conv2D(4, 1, name="b", **BIASED)(x)])
    y = keras.ops.sigmoid(layers.Conv2D(4, 1, name="c", **BIASED)(x))
    x = layers.Multiply()([y, layers.Conv2D(4, 1, name="d", **BIASED)(x)])
    x = layers.Conv2D(4, 3, name="e", **BIASED)(layers.LayerNormalization()(x))
    return keras.Model(image, layers.Dense(1, name="f")(layers.Flatten()(keras.ops.relu(x))))


@pytest.mark.parametrize(
    "network",
    [
        dense,  # differences check that of `residual` by default
        *(pytest.param(f, marks=pytest.mark.slow) for f in (residual, activations, gates)),
    ],
)
def test_the_sweep_is_the_tape(network, rng):
    kernel = keras2gp.convert(network(), dtype="float64")
    x = rng.normal(size=(11, *kernel.inputs[0].shape))
    x[:, :3] = 0.0
    weights = rng.normal(size=(11, 11))
    found = []
    for sweep in (True, False):
        gradient = MatrixGradient(kernel.graph, sweep=sweep, compiled=False)  # quick
        in_small_tiles(gradient)
        both = gradient(kernel.parameters, kernel.images(x), weights + weights.T)
        found.append(np.array(list(both.values())))
    np.testing.assert_allclose(*found, rtol=1e-8, atol=1e-10 * np.abs(found[1]).max())


def branches():
    """Two branches of as many weights each, and pooling, without biases."""
    x = image = keras.Input((6, 6, 1))
    bare = {"use_bias": False}
    x = layers.LeakyReLU(0.2)(layers.Conv2D(4, 3, name="a", **bare)(x))
    y = layers.Conv2D(4, 1, name="b", **bare)(x)
    x = layers.Add()([y, layers.DepthwiseConv2D(3, padding="same", name="c", **bare)(x)])
    return keras.Model(image, layers.Dense(1, name="d")(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("network", [dense, pooled])
def test_kernels_that_are_powers_of_their_variances(network, rng):
    kernel = keras2gp.convert(network(), dtype="float64")
    x, y = rng.normal(size=(12, *kernel.inputs[0].shape)), rng.normal(size=(12, 2))
    value, found, _ = Evidence(kernel, x, y)(kernel.parameters, 0.3)
    singular = kernel.matrix(x) + 0.3 * np.eye(12)
    alpha, inverse = np.linalg.solve(singular, y), np.linalg.inv(singular)
    assert value == pytest.approx(
        -0.5 * ((y * alpha).sum() + 2 * np.linalg.slogdet(2 * np.pi * singular)[1])
    )
    weights = 0.5 * (alpha @ alpha.T - 2 * inverse)
    swept = MatrixGradient(kernel.graph, compiled=False)
    for layer, both in swept(kernel.parameters, kernel.images(x), weights).items():
        assert found[layer][0] == pytest.approx(both[0], rel=1e-9)
        assert np.isnan(found[layer][1])


def test_degrees_of_variances():
    def degrees(model, **changed):
        kernel = keras2gp.convert(model).with_parameters(changed)
        return degrees_of(kernel.graph, kernel.parameters)

    assert degrees(dense()) == dict.fromkeys("abcd", 1)
    assert degrees(pooled()) == {"a": 1, "b": 1}
    assert degrees(dense(), b={"bias": 0.1}) is None
    assert degrees(dense(), b={"weight": 0.0}) is None
    assert degrees(branches()) is None  # a sum of different weights
    assert degrees(activations()) is None


def test_what_mixes_offsets_is_taped():
    swept, taped = (keras2gp.convert(network()).graph for network in (residual, pooled))
    assert MatrixGradient(swept).sweeps
    assert not MatrixGradient(taped).sweeps


def test_the_derivatives_of_the_evidence(data):
    x, y = data
    kernel = keras2gp.convert(residual())
    evidence = Evidence(kernel, x, y)
    parameters = kernel.parameters
    value, found, by_noise = evidence(parameters, 0.2)
    exact = keras2gp.convert(residual(), dtype="float64")
    head = GPClassifier(exact, noise_variance=0.2).fit(x, y)
    assert value == pytest.approx(head.log_marginal_likelihood_value_, rel=1e-10)
    assert by_noise == pytest.approx(slopes(lambda v: evidence(parameters, v)[0], 0.2), rel=1e-6)
    for layer, name, place in (("a", "weight", 0), ("d", "bias", 1)):

        def changed(v, layer=layer, name=name):
            variances = replace(parameters[layer], **{name: v})
            return evidence({**parameters, layer: variances}, 0.2)[0]

        value = getattr(parameters[layer], name)
        assert found[layer][place] == pytest.approx(slopes(changed, value), rel=1e-6)


def test_the_derivatives_count_the_jitter(rng):
    x, y = rng.normal(size=(12, 5)), rng.normal(size=12)
    x[3], y[3] = x[7], y[7]
    kernel = keras2gp.convert(dense())
    evidence, parameters = Evidence(kernel, x, y), kernel.parameters
    _, found, _ = evidence(parameters, 0.0)

    def changed(v):
        return evidence({**parameters, "a": replace(parameters["a"], weight=v)}, 0.0)[0]

    assert found["a"][0] == pytest.approx(slopes(changed, 2.0, 1e-3), rel=1e-4)


def test_relus_without_biases_know_only_the_product(rng):
    x, y = rng.normal(size=(15, 5)), rng.normal(size=15)
    kernel = keras2gp.convert(dense())
    _, found, _ = Evidence(kernel, x, y)(kernel.parameters, 0.1)
    scaled = [found[k][0] * v.weight for k, v in kernel.parameters.items()]
    assert scaled == pytest.approx([scaled[0]] * 4, rel=1e-9)
    best = keras2gp.optimize_variances(kernel, x, y, steps=3)
    *ratios, last = [
        v.weight / kernel.parameters[k].weight for k, v in best.kernel.parameters.items()
    ]
    assert ratios == pytest.approx([ratios[0]] * 3, rel=1e-6)
    assert last != pytest.approx(1.0, rel=1e-3)


def test_the_start_is_the_best_of_all_scales(rng):
    x, y = rng.normal(size=(15, 5)), rng.normal(size=15)
    kernel = keras2gp.convert(dense(bias=1)).with_parameters({"a": {"weight": 200.0}})
    evidence = Evidence(kernel, x, y)
    parameters, noise = evidence.rescaled(kernel, 3.0)
    best = evidence.value(parameters, noise)[0]
    assert best > evidence.value(kernel.parameters, 3.0)[0]
    for factor in (0.9, 1.1):
        last = parameters["d"]
        other = replace(last, weight=factor * last.weight, bias=factor * last.bias)
        assert evidence.value({**parameters, "d": other}, factor * noise)[0] < best
    assert evidence.value(parameters, noise)[1] == pytest.approx(1.0)
    trace = keras2gp.optimize_variances(kernel, x, y, noise_variance=3.0, steps=1).trace
    assert trace[0].parameters == kernel.parameters
    assert trace[1].parameters["d"].weight == pytest.approx(parameters["d"].weight)


def test_the_ascent_finds_the_variances_that_made_the_data(rng):
    x = rng.normal(size=(150, 5))
    kernel = keras2gp.convert(dense(bias=1), dtype="float64")
    true = kernel.with_parameters({"d": {"weight": 4.0, "bias": 6.0}})
    factor = np.linalg.cholesky(true.matrix(x) + 0.01 * np.eye(150))
    y = factor @ rng.normal(size=(150, 20))
    found = keras2gp.optimize_variances(kernel, x, y, steps=40)
    evidences = [step.evidence for step in found.trace]
    assert found.evidence == max(evidences) > evidences[0]
    true_evidence = Evidence(kernel, x, y)(true.parameters, 0.01)[0]
    assert found.evidence >= true_evidence  # 20 outputs: no other can be better by chance and far
    assert found.evidence < true_evidence + 20
    assert found.noise_variance == pytest.approx(0.01, rel=0.2)
    after = {k: v.weight for k, v in found.kernel.parameters.items()}
    assert np.prod(list(after.values())) == pytest.approx(8 * 4.0, rel=0.3)
    assert all(found.kernel.parameters[name].bias == 0.0 for name in "abc")
    assert found.kernel.parameters["d"].bias == pytest.approx(6.0, rel=0.7)


def test_without_noise_it_stays_without(rng):
    x, y = rng.normal(size=(10, 5)), np.arange(10) % 2
    calls = []
    found = keras2gp.optimize_variances(
        keras2gp.convert(dense()), x, y, noise_variance=0.0, steps=2,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert found.noise_variance == 0.0
    assert calls[0] == (1, 2)


def test_what_is_refused(rng):
    kernel = keras2gp.convert(dense())
    x = rng.normal(size=(4, 5))
    with pytest.raises(InputError, match="one class"):
        keras2gp.optimize_variances(kernel, x, np.zeros(4, int))
    with pytest.raises(InputError, match="3 rows and x has 4"):
        keras2gp.optimize_variances(kernel, x, np.arange(3))
    with pytest.raises(InputError, match="steps"):
        keras2gp.optimize_variances(kernel, x, np.arange(4), steps=0)
    with pytest.raises(InputError, match="noise_variance"):
        keras2gp.optimize_variances(kernel, x, np.arange(4), noise_variance=-1.0)
    with pytest.raises(InputError, match="progress='x': expected a function"):
        keras2gp.optimize_variances(kernel, x, np.arange(4), progress="x")
    huge = kernel.with_parameters({"a": {"weight": 1e200}, "b": {"weight": 1e200}})
    with pytest.raises(NumericalError):
        keras2gp.optimize_variances(huge, x, np.arange(4), noise_variance=1.0)
    with pytest.raises(InputError, match="finite targets"):
        targets_of([1.0, np.nan])


def test_targets():
    assert targets_of(["b", "a", "b"]).tolist() == [[-1, 1], [1, -1], [-1, 1]]
    assert targets_of(np.float32([1, 2])).tolist() == [[1], [2]]
