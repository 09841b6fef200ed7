"""Signal flow: the kernel of every layer in one pass, and fixed points in closed form."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy import special
from xray_networks import pooled, residual, shifted

import keras2gp
from keras2gp.covariance.registry import dual_of
from keras2gp.errors import UnsupportedModelError
from keras2gp.graph.ops import Activation
from keras2gp.graph.variances import LayerVariances
from keras2gp.xrays.measuring import flow
from keras2gp.xrays.measuring.fixed_points import fixed_point
from keras2gp.xrays.measuring.flow import layer_kernels
from keras2gp.xrays.measuring.signals import signals_of


@pytest.mark.slow
@pytest.mark.parametrize("make", [residual, pooled])
def test_every_layer_is_what_its_own_conversion_gives(make, monkeypatch):
    """Tiles of 3 images, of which the last is filled up."""
    monkeypatch.setattr(flow, "_TILE", 3)
    model, x = make(), np.random.default_rng(1).normal(size=(5, 6, 6, 1))
    found, _ = layer_kernels(keras2gp.convert(model, dtype="float64"), x)
    assert found[0].path == "input"
    compared = 0
    for layer in found[1:]:
        try:
            kernel = keras2gp.convert(model, output=layer.path, dtype="float64")
        except UnsupportedModelError:  # behind an activation
            continue
        expected = kernel.matrix(x)
        expected = expected.mean(axis=tuple(range(2, expected.ndim)))
        np.testing.assert_allclose(layer.matrix, expected, rtol=1e-9)
        compared += 1
    assert compared >= 1
    pixels = np.einsum("nhwc,mhwc->nm", x, x) / 36
    np.testing.assert_allclose(found[0].matrix, pixels, rtol=1e-12, atol=1e-15)


def point(name, w2, b2=0.0, variance=1.3):
    return fixed_point(dual_of(Activation(name)), LayerVariances(w2, b2), variance)


def test_a_rectifier_is_at_the_edge_with_the_variances_of_he():
    found = point("relu", 2.0)
    assert found.phase == "edge"
    assert found.slope == pytest.approx(1.0, abs=1e-12)
    assert found.variance == pytest.approx(1.3, rel=1e-9)
    assert found.correlation == 1.0
    assert point("relu", 3.0).variance is None, "it grows without end"


@pytest.mark.parametrize("w2", [0.97, 1.0, 1.9])
def test_a_variance_that_falls_without_end_changes_no_correlation_of_a_rectifier(w2):
    """A ReLU is homogeneous: its correlations are those of any weights, at any depth."""
    found = point("relu", w2)
    assert found.variance is None
    assert found.slope == pytest.approx(1.0, abs=1e-12)
    assert (found.phase, found.correlation) == ("edge", 1.0)


@pytest.mark.parametrize("b2", [0.1, 0.001])
def test_a_variance_that_is_reached_slowly(b2):
    """V(q) = w2 q / 2 + b2 has the fixed point b2 / (1 - w2 / 2), and C'(1) is w2 / 2."""
    found = point("relu", 1.98, b2)
    assert found.variance == pytest.approx(b2 / 0.01, rel=1e-7)
    assert found.slope == pytest.approx(0.99, rel=1e-7)
    assert found.correlation == 1.0


@pytest.mark.parametrize("name", ["tanh", "erf"])
@pytest.mark.parametrize("w2", [0.5, 0.9, 1.0])
def test_a_saturating_function_of_small_weights_becomes_linear(name, w2):
    """Schoenholz et al. 2017: without biases variances fall to 0 up to w2 phi'(0)^2 = 1.

    Correlations change as long as they fall, by steps of both together, and no more.
    """
    w2 *= 1.0 if name == "tanh" else np.pi / 4.0
    found = point(name, w2)
    assert (found.variance, found.phase) == (None, "edge")
    assert found.slope == pytest.approx(1.0, abs=1e-5)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    phi = np.tanh if name == "tanh" else special.erf
    q, c = 1.3, 0.5
    for _ in range(400):
        u = np.sqrt(q) * nodes
        v = np.sqrt(q) * (c * nodes[:, None] + np.sqrt(1.0 - c * c) * nodes)
        square = weights @ phi(u) ** 2
        q, c = w2 * square, float(weights @ (phi(u)[:, None] * phi(v)) @ weights / square)
    assert found.correlation == pytest.approx(c, abs=0.01)


def test_a_smooth_function_of_large_variances_is_a_rectifier():
    found = point("gelu", 5.0)
    assert (found.variance, found.phase) == (None, "edge")
    assert found.correlation == pytest.approx(1.0, abs=1e-6)


def test_a_normalisation_keeps_the_variance_of_the_data():
    """Sines of unit variance: their correlation is sinh(c) / sinh(1), of slope 1 / tanh(1)."""
    weights = LayerVariances(0.7, 0.0)
    found = fixed_point(dual_of(Activation("sin")), weights, 1.0, normalised=True)
    assert found.variance is None
    assert found.slope == pytest.approx(1.0 / np.tanh(1.0), rel=1e-9)
    assert found.phase == "chaos"
    assert found.correlation == pytest.approx(0.0, abs=1e-6)


def test_saturation_makes_chaos_of_large_weights_and_order_of_small_ones():
    chaos, order = point("erf", 9.0, 0.05), point("erf", 0.5, 0.05)
    assert chaos.phase == "chaos"
    assert chaos.correlation < 0.9
    assert order.phase == "order"
    assert order.correlation == pytest.approx(1.0, abs=1e-6)
    q = order.variance
    # E[erf(u)^2] = 2 / pi asin(2 q / (1 + 2 q)): Williams 1998.
    assert q == pytest.approx(0.5 * 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q)) + 0.05, rel=1e-7)


@pytest.mark.slow
def test_signals_of_a_pooled_network():
    x, y = shifted(40, seed=2, size=4)
    signals = {s.path: s for s in signals_of(keras2gp.convert(pooled(4)), x, y, regression=False)}
    assert list(signals) == ["input", "conv", "pool", "out"]
    assert signals["input"].growth == pytest.approx(1.0)
    assert signals["pool"].growth < 1.0, "pooling makes near images nearer"
    assert signals["pool"].error <= signals["input"].error
    assert signals["conv"].fixed.phase == "edge"
    assert signals["conv"].fixed.variance is None, "the last layer has less than 2"
    assert 1.0 <= signals["conv"].dimension <= 39.0
    assert 0.0 < signals["pool"].alignment <= 1.0
    assert signals["pool"].same > signals["pool"].other


def test_a_layer_that_is_constant_has_no_error():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, kernel_initializer="zeros", name="dead"),
            layers.Dense(2),
        ]
    )
    x = np.random.default_rng(0).normal(size=(12, 4))
    kernel = keras2gp.convert(model, overrides={"dead": (0.0, 1.0)})
    signals = signals_of(kernel, x, np.arange(12) % 2, regression=False)
    assert signals[1].path == "dead"
    assert signals[1].dimension == 0.0
