"""scikit-learn's own checks of estimators, with a reason for each that is expected to fail."""

from __future__ import annotations

import pytest
from sklearn.gaussian_process.kernels import RBF
from sklearn.utils.estimator_checks import parametrize_with_checks

from keras2gp.gp import GPClassifier, GPRegressor

_OBJECTS = {
    "check_dtype_object": "objects that are no numbers are an InputError, which is a ValueError",
}


@parametrize_with_checks(
    [GPRegressor(RBF(1.0), noise_variance=0.01), GPClassifier(RBF(1.0), noise_variance=0.01)],
    expected_failed_checks=lambda estimator: _OBJECTS,
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)
