"""Estimators inside scikit-learn's tools: copies, searches, thresholds, scores, named columns."""

from __future__ import annotations

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
from gp_kernels import Frame, ImageKernel
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_moons
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier

from keras2gp.errors import InputError
from keras2gp.gp import GPClassifier, GPRegressor, Nystroem

X, Y = make_moons(60, noise=0.3, random_state=0)
THREE = Y + (X[:, 0] > 1)
KERNEL = ImageKernel(1.0)


def new(**settings):
    return GPClassifier(KERNEL, 0.1, **settings)


@pytest.mark.parametrize("probabilities", ["linear", "temperature", "largest", "dirichlet"])
def test_two_classes_have_one_decision_value(probabilities):
    model = new(probabilities=probabilities).fit(X, np.array(["no", "yes"])[Y])
    values = model.decision_function(X)
    assert values.shape == (len(X),)
    np.testing.assert_array_equal(values > 0.0, model.predict(X) == "yes")
    if probabilities != "dirichlet":
        np.testing.assert_allclose(values, model.posterior(X)[0][:, 1], rtol=1e-9)


def test_two_classes_on_the_border_are_the_first():
    model = GPClassifier("precomputed").fit(np.eye(4), [1, 0, 1, 0])
    assert model.decision_function(np.zeros((1, 4))).tolist() == [0.0]
    assert model.predict(np.zeros((1, 4))).tolist() == [0]


def test_three_classes_have_a_value_each():
    model = new().fit(X, THREE)
    np.testing.assert_array_equal(model.decision_function(X), model.posterior(X)[0])


def test_decision_values_sort_as_probabilities_do():
    model = new().fit(X, Y)
    by_value = roc_auc_score(Y, model.decision_function(X))
    assert by_value == pytest.approx(roc_auc_score(Y, model.predict_proba(X)[:, 1]), abs=1e-12)
    assert (cross_val_score(new(), X, Y, scoring="roc_auc", cv=3) > 0.8).all()
    assert (cross_val_score(new(), X, Y, scoring="average_precision", cv=3) > 0.8).all()


def test_a_threshold_of_zero_gives_the_labels():
    cut = FixedThresholdClassifier(new(), threshold=0.0, response_method="decision_function")
    np.testing.assert_array_equal(cut.fit(X, Y).predict(X), new().fit(X, Y).predict(X))


@pytest.mark.parametrize("kind", [OneVsRestClassifier, OneVsOneClassifier])
def test_one_against_the_others(kind):
    # Regression on -1 and 1 is linear in the targets: one against the rest is the classifier.
    labels, ours = kind(new()).fit(X, THREE).predict(X), new().fit(X, THREE).predict(X)
    if kind is OneVsRestClassifier:
        np.testing.assert_array_equal(labels, ours)
    assert (labels == THREE).mean() > 0.8


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_of_scikit_learn(method):
    p = CalibratedClassifierCV(new(), cv=3, method=method).fit(X, Y).predict_proba(X)
    assert ((p[:, 1] > 0.5) == Y).mean() > 0.85


def test_precomputed_kernels_are_cut_in_rows_and_columns():
    matrix = np.asarray(KERNEL(X))
    model = GPClassifier("precomputed", 0.1)
    for method in ("predict", "predict_proba", "decision_function"):
        np.testing.assert_allclose(
            cross_val_predict(model, matrix, Y, method=method, cv=3),
            cross_val_predict(new(), X, Y, method=method, cv=3),
            rtol=1e-9,
        )


def by_hand(model, folds):
    return np.mean([clone(model).fit(X[a], Y[a]).score(X[b], Y[b]) for a, b in folds.split(X, Y)])


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_search_over_kernels_and_noise(jobs):
    kernels, noises, folds = [KERNEL, ImageKernel(0.1)], [0.01, 1.0], StratifiedKFold(3)
    grid = {"kernel": kernels, "noise_variance": noises}
    scores = GridSearchCV(new(), grid, cv=folds, n_jobs=jobs).fit(X, Y).cv_results_
    expected = [by_hand(GPClassifier(k, v), folds) for k in kernels for v in noises]
    np.testing.assert_allclose(scores["mean_test_score"], expected, rtol=1e-12)


def copies(model, path):
    joblib.dump(model, path)
    pickled = pickle.loads(pickle.dumps(model))  # noqa: S301 (our own)
    return [pickled, copy.deepcopy(model), joblib.load(path)]


@pytest.mark.parametrize("solver", ["cholesky", "cg", Nystroem(rank=20)])
def test_copies_predict_the_same(solver, tmp_path):
    model = GPRegressor(KERNEL, 0.1, solver=solver, normalize_y=True).fit(X, X[:, 0])
    before = model.predict(X[:5] + 0.1, return_std=True)
    for copied in copies(model, tmp_path / "fit"):
        np.testing.assert_array_equal(copied.predict(X[:5] + 0.1, return_std=True), before)
        assert copied.log_marginal_likelihood_value_ == pytest.approx(
            model.log_marginal_likelihood_value_, nan_ok=True
        )


@pytest.mark.parametrize("probabilities", ["linear", "temperature", "largest", "dirichlet"])
def test_copies_of_classifiers(probabilities, tmp_path):
    model = new(probabilities=probabilities).fit(X, THREE)
    for copied in copies(model, tmp_path / "fit"):
        np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))


def test_names_of_columns():
    model = new(probabilities="largest").fit(Frame(X, "ab"), Y)
    assert model.feature_names_in_.tolist() == ["a", "b"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in (model.predict, model.predict_proba, model.predictive, model.decision_function):
            call(Frame(X, "ab"))
            with pytest.raises(InputError, match="same order"):
                call(Frame(X[:, ::-1], "ba"))
            with pytest.raises(InputError, match="should match"):
                call(Frame(X, "ac"))
    np.testing.assert_array_equal(
        model.predict(Frame(X, "ab")), new(probabilities="largest").fit(X, Y).predict(X)
    )
    with pytest.warns(UserWarning, match="valid feature names"):
        model.predict(X)
    assert not hasattr(model.fit(X, Y), "feature_names_in_")
