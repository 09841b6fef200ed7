"""scikit-learn's own checks of estimators, with a reason for each that is expected to fail."""

from __future__ import annotations

import pytest
from sklearn.gaussian_process.kernels import RBF
from sklearn.utils.estimator_checks import parametrize_with_checks

from keras2gp.gp import GPClassifier, GPRegressor

_OBJECTS = {
    "check_dtype_object": "objects that are no numbers are an InputError, which is a ValueError",
}
_BINARY = "decision_function is [M, C] for two classes too: one latent function for each class"
_CLASSIFIER = _OBJECTS | {
    "check_classifiers_classes": _BINARY,
    "check_classifiers_train": _BINARY,
}


def expected_failures(estimator):
    return _CLASSIFIER if isinstance(estimator, GPClassifier) else _OBJECTS


@parametrize_with_checks(
    [GPRegressor(RBF(1.0), noise_variance=0.01), GPClassifier(RBF(1.0), noise_variance=0.01)],
    expected_failed_checks=expected_failures,
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)
