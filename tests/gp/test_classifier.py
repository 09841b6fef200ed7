"""Classification: targets, labels, probabilities, and what a user may hand in by mistake."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from keras2gp._util import memory
from keras2gp.errors import InputError, NotFittedError, NumericalError
from keras2gp.gp import GPClassifier, JitterWarning
from keras2gp.gp.arguments.labels import PROBABILITIES
from keras2gp.gp.classification import calibration
from keras2gp.gp.probabilities.softmax import fit_temperature

KERNEL = ImageKernel(2.0)


def problem(count=45, classes=("six", "three", "ten")):
    """Three blobs of images."""
    index = np.arange(count) % len(classes)
    x = images(count, seed=5) + index[:, None, None, None].astype(np.float32)
    return x, np.array(classes)[index]


def test_is_the_papers_regression():
    x, y = problem()
    test = images(8, seed=6)
    ours = GPClassifier(KERNEL, noise_variance=0.01, intercept=0).fit(x, y)
    assert ours.classes_.tolist() == ["six", "ten", "three"]
    targets = np.where(y[:, None] == ours.classes_[None, :], 1.0, -1.0)
    np.testing.assert_array_equal(ours.targets_, targets)
    matrix = np.asarray(KERNEL(x)) + 0.01 * np.eye(45)
    expected = np.asarray(KERNEL(test, x)) @ np.linalg.solve(matrix, targets)
    np.testing.assert_allclose(ours.decision_function(test), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(ours.predict(test), ours.classes_[expected.argmax(axis=1)])
    assert ours.score(x, y) == 1.0
    _, logdet = np.linalg.slogdet(matrix)
    fit = np.sum(targets * np.linalg.solve(matrix, targets))
    assert ours.log_marginal_likelihood_value_ == pytest.approx(
        -0.5 * (fit + 3 * (logdet + 45 * np.log(2 * np.pi))), rel=1e-10
    )


@pytest.mark.parametrize(
    "labels",
    [
        np.array([7, -2, 7, 3] * 5),
        np.array([True, False] * 10),
        np.array(["a", "bb"] * 10),
        np.array(["a", "bb"] * 10, dtype=object),
        np.array([1.0, 2.0] * 10),
        ["x", "y"] * 10,
        np.array([0, 1] * 10, dtype=np.uint8),
    ],
)
def test_labels_of_any_kind(labels):
    x = images(20)
    ours = GPClassifier(KERNEL, 0.0).fit(x, labels)
    np.testing.assert_array_equal(ours.predict(x), np.asarray(labels))
    assert ours.predict(x).dtype == np.asarray(labels).dtype


@pytest.mark.parametrize("kind", [int, np.uint8, str, float])
def test_labels_that_are_quantities_are_warned_of(kind):
    with pytest.warns(UserWarning, match=r"y holds 30 classes|more than 50%|greater than 50%"):
        GPClassifier("precomputed").fit(np.eye(30), np.arange(30).astype(kind))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        GPClassifier("precomputed", 0.0).fit(np.eye(20), np.arange(20).astype(kind))


def test_a_training_image_keeps_its_label_for_certain():
    x, y = problem()
    ours = GPClassifier(KERNEL, 0.0, probabilities="largest").fit(x, y)
    p = ours.predict_proba(x)
    np.testing.assert_allclose(p.max(axis=1), 1.0)
    np.testing.assert_array_equal(ours.classes_[p.argmax(axis=1)], y)
    far = ours.predict_proba(images(3) + 1e3)
    np.testing.assert_allclose(far, 1.0 / 3.0, atol=1e-12)


@pytest.mark.parametrize("how", PROBABILITIES)
def test_probabilities_for_a_precomputed_matrix(how):
    x, y = problem()
    test = images(7, seed=3)
    direct = GPClassifier(KERNEL, 0.1, probabilities=how).fit(x, y)
    ours = GPClassifier("precomputed", 0.1, probabilities=how).fit(np.asarray(KERNEL(x)), y)
    cross, diag = np.asarray(KERNEL(test, x)), np.full(7, 2.0)
    np.testing.assert_array_equal(ours.predict(cross), direct.predict(test))
    expected = direct.predict_proba(test)
    np.testing.assert_allclose(ours.predict_proba(cross, diag=diag), expected, rtol=1e-9)
    for one, other in zip(ours.predictive(cross, diag), direct.predictive(test), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(direct.predictive(test).probability, expected, rtol=1e-12)
    with pytest.raises(InputError, match="diag="):
        ours.predictive(cross)
    if how in ("temperature", "linear"):
        np.testing.assert_allclose(ours.predict_proba(cross), expected, rtol=1e-9)
    else:
        with pytest.raises(InputError, match="diag="):
            ours.predict_proba(cross)


@pytest.mark.parametrize("how", PROBABILITIES)
@pytest.mark.parametrize("classes", [("a", "b"), tuple("abcdefghijklmnop")])
def test_probabilities_are_those_of_the_label(how, classes):
    x, y = problem(48, classes)
    labels = "probabilities" if how == "linear" else "means"
    ours = GPClassifier(KERNEL, 0.05, probabilities=how, labels=labels).fit(x, y)
    test = images(30, seed=3) + 1.0
    p = ours.predict_proba(test)
    assert p.shape == (30, len(classes))
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    if how != "dirichlet":  # there variances differ between classes
        np.testing.assert_array_equal(ours.classes_[p.argmax(axis=1)], ours.predict(test))


@pytest.mark.parametrize("how", [None, "softmax", ["temperature"]])
def test_unknown_probabilities(how):
    with pytest.raises(InputError, match='expected one of "linear", "temperature", "largest"'):
        GPClassifier(KERNEL, 0.0, probabilities=how).fit(*problem())


def test_leave_one_out_matches_refits():
    x, y = problem()
    gp = GPClassifier(KERNEL, 0.1, intercept=0)
    mean, variance = gp.fit(x, y).leave_one_out()
    for i in (0, 13, 44):
        rest = np.arange(45) != i
        refit = clone(gp).fit(x[rest], y[rest])
        np.testing.assert_allclose(mean[i], refit.decision_function(x[i : i + 1])[0], rtol=1e-9)
    assert mean.shape == (45, 3)
    assert variance.shape == (45,)


def test_duplicates_without_noise_are_reported():
    x, y = problem()
    x[20] = x[8]
    with pytest.warns(JitterWarning, match=r"jitter 1e-10.*Rows 8 and 20 agree"):
        ours = GPClassifier(KERNEL, 0.0).fit(x, y)
    assert ours.jitter_report_.duplicate == (8, 20)
    with pytest.raises(NumericalError, match="rows 8 and 20 agree"):
        GPClassifier(KERNEL, 0.0, jitter=0.0).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GPClassifier(KERNEL, noise_variance=1e-3).fit(x, y)
        GPClassifier(KERNEL, 0.0, jitter=1e-6).fit(x, y)


def test_duplicates_in_float32():
    x, y = problem()
    x[20] = x[8]
    with pytest.warns(JitterWarning, match="Rows 8 and 20"):
        ours = GPClassifier(ImageKernel(2.0, dtype="float32"), 0.0).fit(x, y)
    p = ours.predict_proba(x)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)


@pytest.mark.parametrize("offset", [-9e-7, -1e-7, 0.0, 1e-7, 9e-7])
def test_float32_error_does_not_hide_a_duplicate(offset):
    # Deep kernels in float32 give one image twice with a covariance off by this much: the pivot
    # can come out positive, and A^-1 Y would amplify the error by its inverse.
    x, y = problem()
    matrix = np.asarray(KERNEL(np.concatenate([x, x[8:9]]))).astype(np.float32)
    matrix[8, 45] = matrix[45, 8] = 2.0 * (1.0 + offset)
    with pytest.warns(JitterWarning, match="Rows 8 and 45"):
        ours = GPClassifier("precomputed", 0.0).fit(matrix, [*y, "six"])
    assert ours.jitter_report_.jitter in {1e-6, 1e-4}
    assert np.abs(ours.alpha_).max() < 1e6


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["one"] * 45, "one class, .*'one'.*at least two"),
        ([0, 1] * 22, "44 labels and X has 45"),
        (np.eye(45)[:, :3], "one-hot"),
        ([], "shape"),
        (np.linspace(0.0, 1.0, 45), "no labels.*continuous.*Try: a GPRegressor"),
        (np.full(45, np.nan), "not finite"),
        ([None, "a", 3] * 15, "missing label, None"),
        (None, "None"),
    ],
)
def test_bad_labels(y, message):
    with pytest.raises(InputError, match=message) as caught:
        GPClassifier(KERNEL).fit(problem()[0], y)
    assert isinstance(caught.value, ValueError)


def with_nan():
    x = images(45)
    x[3, 1, 2, 0] = np.nan
    return x


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((45, 3, 3, 1), dtype=np.uint8), r"uint8.*astype\('float32'\) / 255"),
        (with_nan(), r"entry \[3, 1, 2, 0\] \(counted from 0\) is nan"),
        (np.full((45, 2), np.inf), r"entry \[0, 0\] \(counted from 0\) is inf"),
        (np.zeros((0, 3)), r"empty: 0 sample"),
        (np.zeros((45, 0)), r"empty: 0 feature"),
        (np.zeros(45), "expected .N, features"),
        (np.array([["a"]] * 45), "type <U1"),
        (np.array([["a"]] * 45, dtype=object), "no numbers"),
        (np.ones((45, 2), dtype=complex), "Complex"),
        ([[1.0], [2.0, 3.0]], "no array of numbers"),
        ({"a": 1}, "expected an array"),
        (np.zeros((45, 2), dtype="datetime64[s]"), "datetime64"),
    ],
)
def test_bad_inputs(x, message):
    with pytest.raises(InputError, match=message) as caught:
        GPClassifier(KERNEL).fit(x, problem()[1])
    assert isinstance(caught.value, ValueError)
    fitted = GPClassifier(KERNEL).fit(*problem())
    with pytest.raises(InputError, match=message):
        fitted.predict(x)


def test_uint8_is_fine_in_a_precomputed_matrix():
    GPClassifier("precomputed").fit(np.eye(4, dtype=np.uint8) * 2, [0, 1, 0, 1])


@pytest.mark.parametrize("kernel", [None, "rbf", lambda a, b=None: a, ImageKernel, 3.0])
def test_bad_kernels(kernel):
    with pytest.raises(InputError, match=r"kernel is .*expected"):
        GPClassifier(kernel).fit(*problem())


class Broken(ImageKernel):
    def __init__(self, values, diagonal=None):
        super().__init__()
        self.values, self.diagonal = values, diagonal

    def __call__(self, x1, x2=None):
        return self.values if self.values is not None else super().__call__(x1, x2)

    def diag(self, x):
        return self.diagonal


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 3)), r"shape \(2, 3\); expected \(45, 45\)"),
        (np.full((45, 45), np.nan), r"entry \[0, 0\] \(counted from 0\) is nan"),
        (np.full((45, 45), 1j), "complex128"),
    ],
)
def test_bad_kernel_matrices(values, message):
    with pytest.raises(InputError, match=message):
        GPClassifier(Broken(values)).fit(*problem())


@pytest.mark.parametrize("diagonal", [np.full(45, np.nan), np.full(45, -1.0), np.ones(3)])
def test_bad_kernel_diagonals(diagonal):
    fitted = GPClassifier(Broken(None, diagonal)).fit(*problem())
    with pytest.raises(InputError, match="diagonal of the kernel"):
        fitted.predictive(problem()[0])


def test_before_fit():
    for name in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError, match="call fit first"):
            getattr(GPClassifier(KERNEL), name)(images(2))
    with pytest.raises(NotFittedError, match="call fit first"):
        GPClassifier(KERNEL).leave_one_out()


def test_a_clone_shares_the_kernel():
    class Compiled(ImageKernel):
        def __deepcopy__(self, memo):
            raise TypeError("compiled programs cannot be copied")

    kernel = Compiled(2.0)
    again = clone(GPClassifier(kernel, 0.5, jitter=1e-6))
    assert again.get_params() == {
        "kernel": kernel, "noise_variance": 0.5, "jitter": 1e-6, "solver": "auto",
        "probabilities": "linear", "labels": "means", "class_weight": None, "missing": "refuse",
        "intercept": "auto",
    }  # fmt: skip
    x, y = problem()
    assert cross_val_score(again, x, y, cv=3).mean() > 0.8


def test_memory_is_compared_first(monkeypatch):
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"kernel matrix and .* 45 training.*fewer training"):
        GPClassifier(KERNEL).fit(*problem())


@pytest.mark.parametrize("how", PROBABILITIES)
@pytest.mark.parametrize("factor", [1e-4, 7.0, 1e6])
def test_probabilities_do_not_depend_on_the_scale_of_the_kernel(factor, how):
    x, y = problem()
    test = images(7, seed=3)
    matrix, cross = np.asarray(KERNEL(x)), np.asarray(KERNEL(test, x))
    diag = np.full(7, 2.0)
    one = GPClassifier("precomputed", 0.1, probabilities=how).fit(matrix, y)
    other = GPClassifier("precomputed", 0.1 * factor, probabilities=how).fit(factor * matrix, y)
    expected = one.predict_proba(cross, diag=diag)
    found = other.predict_proba(factor * cross, diag=factor * diag)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_the_scale_is_where_the_evidence_is_largest():
    x, y = problem()
    matrix = np.asarray(KERNEL(x))
    scale = GPClassifier("precomputed", 0.1).fit(matrix, y).scale_

    def evidence(s):
        fitted = GPClassifier("precomputed", 0.1 * s).fit(s * matrix, y)
        return fitted.log_marginal_likelihood_value_

    assert evidence(scale) > max(evidence(0.97 * scale), evidence(1.03 * scale))


def test_conjugate_gradients_set_the_temperature_by_some_of_the_inputs(monkeypatch):
    x, y = problem()
    settings = {"probabilities": "temperature", "intercept": 0}
    exact = GPClassifier(KERNEL, 0.1, solver="cholesky", **settings).fit(x, y)
    every = GPClassifier(KERNEL, 0.1, solver="cg", **settings).fit(x, y)
    assert every.temperature_ == pytest.approx(exact.temperature_, rel=1e-4)
    monkeypatch.setattr(calibration, "_CALIBRATED", len(x) // 2)
    some = GPClassifier(KERNEL, 0.1, solver="cg", **settings).fit(x, y)
    rows = calibration.calibration_rows(len(x), closed_form=some.system_.closed_form)
    assert len(set(rows)) == len(x) // 2
    index = np.unique(y, return_inverse=True)[1]
    expected = fit_temperature(exact.leave_one_out()[0][rows], index[rows])
    assert some.temperature_ == pytest.approx(expected, rel=1e-4)
    assert some.temperature_ != every.temperature_


@pytest.mark.parametrize("solver", ["cg", "nystroem"])
def test_dirichlet_takes_a_factor(solver):
    x, y = problem()
    model = GPClassifier(KERNEL, 0.1, probabilities="dirichlet", solver=solver)
    with pytest.raises(InputError, match='Try: solver="cholesky"'):
        model.fit(x, y)
