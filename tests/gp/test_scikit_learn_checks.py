"""scikit-learn's own checks of estimators, with a reason for each that is expected to fail."""

from __future__ import annotations

import pytest
from sklearn.gaussian_process.kernels import RBF
from sklearn.utils.estimator_checks import parametrize_with_checks

from keras2gp.gp import GPClassifier, GPRegressor

_WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "means are equivalent; probabilities are "
    "fitted to leave-one-out means, which a second copy of a row makes those of a row it has seen",
    "check_class_weight_classifiers": "a weight acts on the noise of a class: where it alone has "
    "members, it is predicted all the same",
}


def expected(estimator):
    return _WEIGHTS if isinstance(estimator, GPClassifier) else {}


@parametrize_with_checks(
    [GPRegressor(RBF(1.0), noise_variance=0.01), GPClassifier(RBF(1.0), noise_variance=0.01)],
    expected_failed_checks=expected,
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)
