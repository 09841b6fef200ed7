"""Predictions and measures of a fit whose outputs lack targets in different rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF

from keras2gp.cli.predictions import measures_of, predictions_of
from keras2gp.gp import GPRegressor


def test_degrees_of_freedom_are_those_of_each_output():
    random = np.random.default_rng(0)
    x, test = random.uniform(-3.0, 3.0, (30, 2)), random.uniform(-3.0, 3.0, (5, 2))
    y = np.sin(x[:, :1] + np.arange(2)) + 0.2 * random.standard_normal((30, 2))
    y[:12, 1] = np.nan
    gp = GPRegressor(RBF(1.0), missing="ignore").fit(x, y)
    columns = predictions_of(gp, test)
    assert columns["degrees_of_freedom"].tolist() == [29.0, 17.0]
    for name, end in zip(("low", "high"), gp.predict_interval(test), strict=True):
        np.testing.assert_allclose(columns[name], end, rtol=1e-12)
    targets = random.standard_normal((5, 2))
    measures, _ = measures_of(columns, targets)
    expected = -gp.log_density(test, targets).mean()
    assert measures["negative_log_density"] == pytest.approx(expected, rel=1e-12)
