"""The search of cross-validation: the iterates of scipy's L-BFGS-B, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from scipy.optimize import minimize, rosen, rosen_der

from keras2gp.gp import GPClassifier
from keras2gp.gp.probabilities import descent, linear_map
from keras2gp.gp.probabilities.descent import minimized

KERNEL = ImageKernel(3.0)


def both(loss, start, decrease, slope):
    """The points at which both searches evaluate a loss, and where they end."""
    tried = [], []

    def spied(points):
        def inner(x):
            points.append(np.array(x))
            return loss(x)

        return inner

    ours = minimized(spied(tried[0]), start, decrease=decrease, slope=slope)
    options = {"maxiter": 500, "ftol": decrease, "gtol": slope}
    theirs = minimize(spied(tried[1]), start, jac=True, method="L-BFGS-B", options=options).x
    return ours, theirs, *tried


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [2, 5, 12])
def test_points_are_those_of_scipy(seed, size):
    start = 2.0 * np.random.default_rng(seed).standard_normal(size)
    found = both(lambda x: (rosen(x), rosen_der(x)), start, 1e-6, 1e-6)
    ours, theirs, one, other = found
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert len(one) == len(other)
    np.testing.assert_allclose(one[:12], other[:12], rtol=1e-8, atol=1e-8)


def test_steps_of_every_kind_are_those_of_scipy():
    # Its slope changes at every step, so that line searches extend, bracket and interpolate.
    random = np.random.default_rng(0)
    for _ in range(40):
        scale, phase = np.exp(2.0 * random.standard_normal(3)), random.uniform(0.0, 6.0, 3)

        def loss(x, scale=scale, phase=phase):
            value = (np.sqrt(1.0 + scale * x**2) + np.sin(2.0 * x + phase)).sum()
            return float(value), scale * x / np.sqrt(1.0 + scale * x**2) + 2.0 * np.cos(
                2.0 * x + phase
            )

        ours, theirs, one, other = both(loss, 5.0 * random.standard_normal(3), 1e-6, 1e-8)
        assert len(one) == len(other)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_search_that_finds_no_step_is_handed_to_scipy(monkeypatch):
    handed = []
    real = descent.minimized_by_scipy
    monkeypatch.setattr(
        descent, "minimized_by_scipy", lambda *a, **k: handed.append(1) or real(*a, **k)
    )
    wrong = minimized(lambda x: (float(x @ x), -2.0 * x), np.ones(2), decrease=1e-9, slope=1e-9)
    assert handed
    np.testing.assert_allclose(wrong, 1.0)


def labelled(count, seed=0):
    index = np.random.default_rng(seed).integers(3, size=count)
    x = images(count, seed)
    x[:, 0] += index.reshape(-1, *[1] * (x.ndim - 2))
    return x, index


def test_the_map_is_fitted_when_probabilities_are_asked_for(monkeypatch):
    fitted = []
    real = linear_map._cross_validated
    monkeypatch.setattr(linear_map, "_cross_validated", lambda *a: fitted.append(1) or real(*a))
    x, y = labelled(60)
    gp = GPClassifier(KERNEL, 0.1).fit(x, y)
    gp.predict(x)
    gp.decision_function(x)
    assert not fitted
    gp.set_params(probabilities="temperature")  # of the next fit
    assert gp.linear_map_ is not None
    assert gp.temperature_ is None
    gp.predict_proba(x)
    assert len(fitted) == 1
    again = GPClassifier(KERNEL, 0.1).fit(x, y)
    np.testing.assert_array_equal(again.predict_proba(x), gp.predict_proba(x))
