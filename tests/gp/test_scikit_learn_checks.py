"""scikit-learn's own checks of estimators, with a reason for each that is expected to fail."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF
from sklearn.utils.estimator_checks import parametrize_with_checks

from keras2gp.gp import GPClassifier, GPLaplace, GPRegressor, StudentT, TrainedEnsemble

_WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "means are equivalent; probabilities are "
    "fitted to leave-one-out means, which a second copy of a row makes those of a row it has seen",
    "check_class_weight_classifiers": "a weight acts on the noise of a class: where it alone has "
    "members, it is predicted all the same",
}
_CHOSEN = {
    "check_sample_weight_equivalence_on_dense_data": "a weight divides the noise; where the noise "
    "is chosen, a row that is there twice is evidence of two observations",
}


class Both:
    """A kernel with a tangent kernel."""

    def __repr__(self):
        return "Both()"  # the same in every process: names of tests hold it

    def __call__(self, x1, x2=None, /, *, get="nngp"):
        matrix = RBF(1.0)(x1, x2)
        return {"nngp": matrix, "ntk": 2.0 * matrix, "both": np.stack([matrix, 2.0 * matrix])}[get]

    def diag(self, x, /, *, get="nngp"):
        return np.diagonal(self(x, get=get), axis1=-2, axis2=-1)


def expected(estimator):
    if isinstance(estimator, GPClassifier):
        return _WEIGHTS
    chosen = isinstance(estimator, GPRegressor) and estimator.noise_variance == "auto"
    return _CHOSEN if chosen else {}


@parametrize_with_checks(
    [
        GPRegressor(RBF(1.0), noise_variance=0.01),
        GPClassifier(RBF(1.0), noise_variance=0.01),
        GPRegressor(RBF(1.0), noise_variance=0.01, missing="ignore"),
        GPRegressor(RBF(1.0)),
        GPClassifier(RBF(1.0)),
        GPLaplace(RBF(1.0), "softmax"),
        GPLaplace(RBF(1.0), StudentT(scale=0.1)),
        GPLaplace(RBF(1.0), "tobit"),
        TrainedEnsemble(Both(), regularization=0.1),
    ],
    expected_failed_checks=expected,
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)
