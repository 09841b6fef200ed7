"""The map from means to probabilities, fitted when probabilities are first asked for."""

from __future__ import annotations

import numpy as np
from gp_kernels import ImageKernel, images

from keras2gp.gp import GPClassifier
from keras2gp.gp.probabilities import linear_map

KERNEL = ImageKernel(3.0)


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
