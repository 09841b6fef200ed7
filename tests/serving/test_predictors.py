"""The solves and probabilities of an exported fit in TensorFlow, against those in numpy."""

import numpy as np
import pytest

from keras2gp.gp import expected_softmax, factorize
from keras2gp.serving.predictors import Factor
from keras2gp.serving.predictors import expected_softmax as in_tensorflow


def test_solves_over_several_panels(rng):
    features = rng.normal(size=(1200, 60))
    factor = factorize(features @ features.T, 5.0)
    assert len(list(factor.panels())) > 1
    b = rng.normal(size=(1200, 3))
    tensors = Factor(factor)
    half = tensors.half_solve(b)
    np.testing.assert_allclose(half, factor.half_solve(b), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(tensors.back_solve(half), factor.solve(b), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("spread", [0.0, 0.3, 6.0])
def test_expected_softmax(rng, spread):
    mean = rng.normal(0.0, 4.0, size=(7, 5))
    variance = (spread * rng.uniform(0.5, 1.0, size=(7, 5))) ** 2
    expected = expected_softmax(mean, variance)
    np.testing.assert_allclose(in_tensorflow(mean, variance), expected, rtol=1e-6, atol=1e-8)
