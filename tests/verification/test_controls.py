"""Controls have the mean 1, take the fluctuation away, and leave the mean where it is.

Means are held against 4.5 of their standard deviations: 1 in 150,000 for what is Gaussian.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy import integrate, stats
from small_models import drawn, grouped, inputs, mlp, pooled, separable, sums, transposed

from keras2gp.verification.api import converted
from keras2gp.verification.controls import departures, influences
from keras2gp.verification.taps import Tap
from keras2gp.verification.verification import Verification

FAR = 4.5


def residual():
    """Residual blocks with batch normalisation before their activations, as in ResNet v2."""
    x = keras.Input((6, 6, 2))
    weights = {"padding": "same", "use_bias": False, **drawn(1.0)}
    h = layers.Conv2D(8, 3, **weights)(x)
    for stride in (1, 2):
        y = layers.ReLU()(layers.BatchNormalization()(h))
        h = layers.Conv2D(8, 1, stride, **weights)(y)
        y = layers.ReLU()(layers.Conv2D(8, 3, stride, **weights)(y))
        h = layers.Add()([h, layers.Conv2D(8, 3, **weights)(y)])
        y = layers.Conv2D(8, 3, **weights)(layers.ReLU()(h))
        h = layers.Add()([h, layers.BatchNormalization()(y)])
    h = layers.Flatten()(layers.ReLU()(h))
    return keras.Model(x, layers.Dense(5, use_bias=False)(h))


def chain(depth=6):
    """Convolutions and ReLUs: what controls were made for."""
    h = x = keras.Input((4, 4, 2))
    for _ in range(depth):
        h = layers.Conv2D(8, 3, padding="same", activation="relu", use_bias=False, **drawn())(h)
    return keras.Model(x, layers.Dense(5, name="head", **drawn(1.0))(layers.Flatten()(h)))


def z_scores(values):
    """Means in units of their standard deviations."""
    return np.mean(values, axis=0) / (np.std(values, axis=0) / np.sqrt(len(values)))


@pytest.mark.parametrize(
    ("build", "gain"),
    [
        pytest.param(chain, 100, id="chain"),
        pytest.param(residual, 10, id="residual"),
        pytest.param(mlp, 3, id="mlp"),
        pytest.param(inputs, 5, id="two inputs"),
        pytest.param(pooled, 0.8, id="pooling", marks=pytest.mark.slow),
        pytest.param(separable, 5, id="separable", marks=pytest.mark.slow),
        pytest.param(transposed, 5, id="transposed", marks=pytest.mark.slow),
        pytest.param(grouped, 2, id="groups", marks=pytest.mark.slow),
        pytest.param(sums, 2, id="sums", marks=pytest.mark.slow),
    ],
)
def test_products_have_the_mean_1_and_the_fluctuation_of_the_moments(build, gain):
    model, kernel = converted(build())
    verification = Verification(model, kernel, widths=(8, 24), samples=1000)
    for found in verification.draw():
        draws = found.draws
        assert np.abs(z_scores(draws.products - 1.0)).max() < FAR
        assert np.abs(z_scores(draws.moments - draws.plain)).max() < FAR
        plain, left = (np.trace(m, axis1=1, axis2=2).var() for m in (draws.plain, draws.moments))
        assert left * gain < plain


def test_of_a_chain_in_one_position_nothing_is_left():
    """The product is what the moments are, but for what pilots make of the output's odd part."""
    h = x = keras.Input((4,))
    for _ in range(3):
        h = layers.Dense(8, activation="relu", use_bias=False, **drawn())(h)
    model, kernel = converted(keras.Model(x, layers.Dense(5, use_bias=False)(h)))
    verification = Verification(model, kernel, data=1, widths=(8, 16), samples=200)
    for found in verification.draw():
        plain, left = found.draws.plain, found.draws.moments
        assert plain.std() > 0.3 * plain.mean()
        assert left.std() < 0.03 * plain.std()


def test_verdicts_of_few_narrow_networks():
    """No true kernel is rejected, and every kernel that is a tenth off is."""
    model, kernel = converted(chain())
    variances = kernel.parameters["head"]
    wrong = [kernel.with_parameters({"head": (f * variances.weight, 0.0)}) for f in (0.9, 1.1)]
    for seed in range(3):
        verification = Verification(model, kernel, widths=(8, 16, 64), samples=100, seed=seed)
        found = verification.draw()
        report = verification.compared(kernel, found)
        assert report.accepted, report
        assert [verification.compared(k, found).verdict for k in wrong] == ["rejected"] * 2


def test_the_odd_mean_of_a_gaussian(rng):
    """E[x |x|] of x ~ N(o, s^2) by quadrature, in every unit of its own."""
    centre = np.float32(rng.normal(size=(1, 3, 4)) * 3)
    variance = np.float32(rng.uniform(0.1, 2.0, size=(1, 3, 1)))
    tap = Tap(0, None, object(), None, -1)
    (found,) = departures([tap], [tf.zeros([1, 3, 4]), variance, tf.constant(centre)], 1)

    def mean(o, s):
        value, _ = integrate.quad(
            lambda x: x * abs(x) * stats.norm.pdf(x, o, s), o - 12 * s, o + 12 * s, points=[0.0]
        )
        return value

    deviations = np.broadcast_to(np.sqrt(variance), centre.shape)
    expected = np.vectorize(mean)(centre, deviations).mean(axis=-1)
    assert np.asarray(found.odd) == pytest.approx(-expected, rel=1e-4)
    squares = (centre**2 + variance).mean(axis=-1)
    assert np.asarray(found.expected) == pytest.approx(squares, rel=1e-5)


def test_influences_that_may_be_chance_are_none(rng):
    sensitivities = rng.normal(size=(32, 3, 2, 5))
    sensitivities[:, 2] = 1.0
    sensitivities[:, 1] += np.array([1.0, 2.0, 3.0, 4.0, 0.0]) * 10
    even, odd = influences(sensitivities)
    assert abs(even.share) < 0.5
    assert odd.share == pytest.approx(100.0, rel=0.02)
    assert odd.profile == pytest.approx(np.array([0.1, 0.2, 0.3, 0.4, 0.0]), abs=0.01)
    assert even.profile.sum() == pytest.approx(1.0)
    assert (even.profile >= 0).all()
