"""Regression against scikit-learn, against brute force, and on matrices that are on the edge."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from scipy.stats import norm
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.model_selection import cross_val_score

from keras2gp.errors import InputError, NotFittedError, NumericalError
from keras2gp.gp import GPClassifier, GPRegressor, JitterWarning, Nystroem
from keras2gp.gp.process import fitted
from keras2gp.gp.solvers.precision import clipped_variance, rounding_bound

KERNEL = ConstantKernel(1.7) * RBF(1.3)
NOISE = 0.05


def problem(outputs=None, count=60, seed=0):
    random = np.random.default_rng(seed)
    x, test = random.standard_normal((count, 4)), random.standard_normal((25, 4))
    y = random.standard_normal(count if outputs is None else (count, outputs)) + 3.0
    return x, y, test


@pytest.mark.parametrize("outputs", [None, 1, 3])
@pytest.mark.parametrize("normalize", [False, True])
def test_matches_scikit_learn(outputs, normalize):
    x, y, test = problem(outputs)
    peer = GaussianProcessRegressor(KERNEL, alpha=NOISE, optimizer=None, normalize_y=normalize)
    peer.fit(x, y)
    ours = GPRegressor(KERNEL, NOISE, normalize_y=normalize).fit(x, y)
    mean, std = ours.predict(test, return_std=True)
    expected_mean, expected_std = peer.predict(test, return_std=True)
    # scikit-learn drops the axis of a single output; here y [N, 1] gives [M, 1].
    np.testing.assert_allclose(mean.reshape(expected_mean.shape), expected_mean, rtol=1e-8)
    np.testing.assert_allclose(std.reshape(expected_std.shape), expected_std, rtol=1e-8)
    mean, covariance = ours.predict(test, return_cov=True)
    expected = peer.predict(test, return_cov=True)[1]
    np.testing.assert_allclose(covariance.reshape(expected.shape), expected, rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(covariance, np.swapaxes(covariance, 0, 1))
    if outputs is None or outputs > 1:
        assert mean.shape == expected_mean.shape
    assert ours.log_marginal_likelihood_value_ == pytest.approx(
        peer.log_marginal_likelihood_value_, rel=1e-8
    )
    assert ours.score(test, ours.predict(test)) == 1.0


def test_precomputed_matches_the_kernel():
    x, y, test = problem()
    direct = GPRegressor(KERNEL, NOISE).fit(x, y)
    ours = GPRegressor("precomputed", NOISE).fit(KERNEL(x), y)
    cross, diag = KERNEL(test, x), KERNEL.diag(test)
    np.testing.assert_allclose(ours.predict(cross), direct.predict(test), rtol=1e-12)
    np.testing.assert_allclose(
        ours.predict(cross, return_std=True, diag=diag)[1],
        direct.predict(test, return_std=True)[1],
        rtol=1e-9,
    )
    assert ours.x_train_ is None
    with pytest.raises(InputError, match="diag="):
        ours.predict(cross, return_std=True)
    with pytest.raises(InputError, match="return_cov"):
        ours.predict(cross, return_cov=True)
    with pytest.raises(InputError, match=r"\(3,\); expected \(25,\)"):
        ours.predict(cross, return_std=True, diag=np.ones(3))
    with pytest.raises(InputError, match="negative variance"):
        ours.predict(cross, return_std=True, diag=-np.ones(25))
    with pytest.raises(InputError, match="square"):
        ours.fit(cross, y[:25])


def test_precomputed_works_in_cross_validation():
    x, y, _ = problem()
    direct = cross_val_score(GPRegressor(KERNEL, NOISE), x, y, cv=3)
    through = cross_val_score(GPRegressor("precomputed", NOISE), KERNEL(x), y, cv=3)
    np.testing.assert_allclose(through, direct, rtol=1e-9)


def test_batches_do_not_change_predictions(monkeypatch):
    x, y, test = problem(2)
    ours = GPRegressor(KERNEL, NOISE).fit(x, y)
    mean, std = ours.predict(test, return_std=True)
    monkeypatch.setattr(fitted, "_BATCH_BYTES", 8 * 60 * 4)  # four rows
    assert len(list(ours._batches(25))) == 7
    again, spread = ours.predict(test, return_std=True)
    np.testing.assert_allclose(again, mean, rtol=1e-12)
    np.testing.assert_allclose(spread, std, rtol=1e-12)
    np.testing.assert_allclose(ours.predict(test), mean, rtol=1e-12)


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_leave_one_out_matches_refits(outputs, dtype):
    x = images(20)
    y = np.random.default_rng(1).standard_normal(20 if outputs is None else (20, outputs))
    kernel = ImageKernel(2.0, dtype=dtype)
    mean, variance = GPRegressor(kernel, 0.1).fit(x, y).leave_one_out()
    assert mean.shape == variance.shape == y.shape
    for i in range(20):
        rest = np.arange(20) != i
        refit = GPRegressor(kernel, 0.1).fit(x[rest], y[rest])
        m, s = refit.predict(x[i : i + 1], return_std=True)
        np.testing.assert_allclose(mean[i], m[0], rtol=1e-5 if dtype == "float32" else 1e-9)
        np.testing.assert_allclose(variance[i], s[0] ** 2 + 0.1, rtol=1e-5)


def test_leave_one_out_in_units_of_y():
    x, y, _ = problem()
    plain = GPRegressor(KERNEL, NOISE).fit(x, (y - y.mean()) / y.std()).leave_one_out()
    scaled = GPRegressor(KERNEL, NOISE, normalize_y=True).fit(x, y).leave_one_out()
    np.testing.assert_allclose(scaled[0], plain[0] * y.std() + y.mean(), rtol=1e-10)
    np.testing.assert_allclose(scaled[1], plain[1] * y.var(), rtol=1e-10)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_noiseless_interpolation(dtype):
    x, y = images(50), np.random.default_rng(2).standard_normal(50)
    ours = GPRegressor(ImageKernel(2.0, dtype=dtype), 0.0).fit(x, y)
    mean, std = ours.predict(x, return_std=True)
    np.testing.assert_allclose(mean, y, atol=2e-4 if dtype == "float32" else 1e-9)
    assert (std**2 < 1e-4).all()
    assert (std >= 0.0).all()
    assert np.linalg.eigvalsh(ours.predict(x[:9], return_cov=True)[1]).min() > -1e-5


def test_smooth_kernel_on_the_edge_of_float64():
    # 200 points on a line, length scale 1: numerically rank 20. The ladder and the clip serve.
    x = np.linspace(-1.0, 1.0, 200)[:, None]
    y = np.sin(3.0 * x[:, 0])
    with pytest.warns(JitterWarning, match="singular"):
        ours = GPRegressor(RBF(1.0), 0.0).fit(x, y)
    test = np.linspace(-1.0, 1.0, 77)[:, None]
    mean, std = ours.predict(test, return_std=True)
    np.testing.assert_allclose(mean, np.sin(3.0 * test[:, 0]), atol=1e-4)
    assert (std < 1e-3).all()


def test_variances_of_another_kernel_are_refused():
    x, y, test = problem()
    ours = GPRegressor("precomputed", 1e-3).fit(KERNEL(x), y)
    with pytest.raises(
        NumericalError, match=r"posterior variance of input \d+ \(counted from 0\) is -"
    ):
        ours.predict(KERNEL(test, x) * 3.0, return_std=True, diag=np.full(25, 0.1))


def test_clip_and_its_bound():
    report = GPRegressor(KERNEL, 0.0).fit(*problem()[:2]).jitter_report_
    prior = np.array([1.0, 2.0, 4.0])
    bound = rounding_bound(prior, 60, np.float32, report)
    np.testing.assert_allclose(bound / prior, bound[0])
    assert 9e-5 < bound[0] < 1e-3
    assert rounding_bound(prior, 60, np.float64, report)[0] < 1e-9
    clipped = clipped_variance(np.array([-0.9, 0.5, 0.0]) * bound, prior, bound, 0)
    np.testing.assert_array_equal(clipped, np.array([0.0, 0.5, 0.0]) * bound)
    with pytest.raises(NumericalError, match=r"input 12 \(counted from 0\) is"):
        clipped_variance(np.array([0.0, 0.0, -1.1]) * bound, prior, bound, 10)


def test_images_and_flat_inputs_agree():
    x, y, test = images(30), np.arange(30.0), images(5, seed=9)
    kernel = ImageKernel(2.0)
    shaped = GPRegressor(kernel, 0.1).fit(x, y)
    flat = GPRegressor(kernel, 0.1).fit(x.reshape(30, -1), y)
    np.testing.assert_array_equal(shaped.predict(test), flat.predict(test.reshape(5, -1)))
    assert flat.n_features_in_ == 9
    assert not hasattr(shaped, "n_features_in_")
    assert shaped.input_shape_ == (3, 3, 1)
    with pytest.raises(InputError, match=r"fitted to \[N, \*\[3, 3, 1\]\]"):
        shaped.predict(test[:, :2])
    with pytest.raises(InputError, match="8 features, but GPRegressor is expecting 9"):
        flat.predict(np.ones((2, 8)))


def test_changing_the_inputs_after_fit_changes_nothing():
    x, y, test = problem()
    ours = GPRegressor(KERNEL, NOISE).fit(x, y)
    before = ours.predict(test)
    x[:] = 0.0
    np.testing.assert_array_equal(ours.predict(test), before)


def test_a_failed_fit_leaves_the_old_one():
    x, y, test = problem()
    ours = GPRegressor(KERNEL, NOISE).fit(x, y)
    before = ours.predict(test)
    ours.set_params(noise_variance=-1.0)
    with pytest.raises(InputError, match="noise_variance"):
        ours.fit(x[:10], y[:10])
    np.testing.assert_array_equal(ours.predict(test), before)


def test_parameters():
    ours = GPRegressor(KERNEL, 0.1, jitter=1e-6, normalize_y=True)
    assert set(ours.get_params(deep=False)) == {
        "kernel", "noise_variance", "jitter", "normalize_y", "solver", "missing"
    }  # fmt: skip
    assert clone(ours).get_params()["jitter"] == 1e-6
    assert ours.set_params(noise_variance=0.2).noise_variance == 0.2
    assert "GPRegressor" in repr(ours)


def test_constant_targets_are_normalised_without_division_by_zero():
    x, _, test = problem()
    ours = GPRegressor(KERNEL, NOISE, normalize_y=True).fit(x, np.full(60, 0.1))
    np.testing.assert_allclose(ours.predict(test), 0.1)


def test_before_fit():
    for call in (GPRegressor(KERNEL).leave_one_out, lambda: GPRegressor(KERNEL).predict([[1.0]])):
        with pytest.raises(NotFittedError, match="call fit first"):
            call()
    x, y, test = problem()
    with pytest.raises(InputError, match="at most one"):
        GPRegressor(KERNEL, 1.0).fit(x, y).predict(test, return_std=True, return_cov=True)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(59), "59 targets and X has 60"),
        (np.ones((60, 2, 2)), "shape"),
        (np.ones((60, 0)), "shape"),
        (np.full(60, np.nan), r"entry \[0\] \(counted from 0\) is nan"),
        (np.full((60, 2), np.inf), r"entry \[0, 0\] \(counted from 0\) is inf"),
        (["a"] * 60, "no array of numbers|expected real numbers"),
        (None, "None"),
    ],
)
def test_bad_targets(y, message):
    with pytest.raises(InputError, match=message):
        GPRegressor(KERNEL, NOISE).fit(problem()[0], y)


def test_samples_have_the_moments_of_the_posterior():
    x, y, test = problem(2)
    ours = GPRegressor(KERNEL, NOISE, normalize_y=True).fit(x, y)
    mean, covariance = ours.predict(test[:5], return_cov=True)
    draws = ours.sample_y(test[:5], 20_000, random_state=1)
    assert draws.shape == (5, 2, 20_000)
    for column in range(2):
        spread = covariance[..., column]
        error = np.sqrt(np.diagonal(spread) / 20_000)
        assert (np.abs(draws[:, column].mean(1) - mean[:, column]) < 5.0 * error).all()
        np.testing.assert_allclose(np.cov(draws[:, column]), spread, atol=0.06 * spread.max())
    correlation = np.corrcoef(draws[0])[0, 1]
    assert abs(correlation) < 5.0 / np.sqrt(20_000), "outputs are independent"
    np.testing.assert_array_equal(draws, ours.sample_y(test[:5], 20_000, random_state=1))
    assert GPRegressor(KERNEL, NOISE).fit(x, y[:, 0]).sample_y(test).shape == (25, 1)


def test_samples_where_the_covariance_is_singular():
    x, y = images(30), np.random.default_rng(2).standard_normal(30)
    for dtype in ("float64", "float32"):
        ours = GPRegressor(ImageKernel(2.0, dtype=dtype), 0.0).fit(x, y)
        draws = ours.sample_y(np.concatenate([x[:3], x[:3]]), 4)
        np.testing.assert_allclose(draws[:3], np.repeat(y[:3, None], 4, 1), atol=0.05)
        np.testing.assert_allclose(draws[:3], draws[3:], atol=0.05)
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(InputError, match="n_samples"):
            ours.sample_y(x, wrong)
    with pytest.raises(InputError, match="precomputed"):
        GPRegressor("precomputed", 1.0).fit(np.eye(3), np.ones(3)).sample_y(np.eye(3))


def test_samples_of_what_is_no_covariance_are_refused():
    class Wrong(ImageKernel):
        def __call__(self, x1, x2=None):
            values = np.asarray(super().__call__(x1, x2)).copy()
            if x2 is None and len(x1) == 4:
                values[0, 1] = values[1, 0] = 9.0
            return values

    ours = GPRegressor(Wrong(2.0), 0.1).fit(images(20), np.ones(20))
    with pytest.raises(NumericalError, match="eigenvalue"):
        ours.sample_y(images(4, seed=8))


@pytest.mark.parametrize("outputs", [None, 2])
def test_leave_one_out_density(outputs):
    x, y, _ = problem(outputs)
    ours = GPRegressor(KERNEL, NOISE, normalize_y=True).fit(x, y)
    mean, variance = ours.leave_one_out()
    expected = norm(mean, np.sqrt(variance)).logpdf(y)
    np.testing.assert_allclose(ours.leave_one_out_log_density(), expected, rtol=1e-9)
    assert ours.leave_one_out_log_density().shape == y.shape
    with pytest.raises(NotFittedError):
        GPRegressor(KERNEL).leave_one_out_log_density()
    with pytest.raises(NotFittedError):
        GPRegressor(KERNEL).log_marginal_likelihood()


IMAGES = ImageKernel(2.0)
BASE = GPRegressor(IMAGES, 0.1, normalize_y=True)
TARGETS = np.random.default_rng(5).standard_normal(24)


@pytest.mark.parametrize("exponent", [-900, -600, 512, 1000])
def test_normalised_targets_of_any_size(exponent):
    x, test, factor = images(24), images(5, seed=2), 2.0**exponent
    plain, scaled = clone(BASE).fit(x, TARGETS), clone(BASE).fit(x, TARGETS * factor)
    for one, other in zip(
        plain.predict(test, return_std=True), scaled.predict(test, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(one * factor, other)
    assert scaled.log_marginal_likelihood_value_ == plain.log_marginal_likelihood_value_
    density = plain.leave_one_out_log_density() - np.log(factor)
    np.testing.assert_allclose(scaled.leave_one_out_log_density(), density, rtol=1e-12)


def test_variances_beyond_float64_are_refused():
    x, test = images(24), images(5, seed=2)
    for factor in (1e200, 1e-200):
        model = clone(BASE).fit(x, TARGETS * factor)
        for call in (lambda m=model: m.predict(test, return_cov=True), model.leave_one_out):
            with pytest.raises(NumericalError, match="units of the targets squared"):
                call()
    large = GPRegressor(IMAGES, 0.1, normalize_y=True).fit(x, 1.5e308 * np.sign(TARGETS))
    large.y_shift_[:] = 1.7e308
    with pytest.raises(NumericalError, match="a mean of the prediction is not finite"):
        large.predict(x)


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_targets_beyond_the_solve_are_refused(solver):
    x = images(24)
    small = GPRegressor(IMAGES, 0.1, solver=solver).fit(x, TARGETS * 2.0**-600)
    plain = GPRegressor(IMAGES, 0.1, solver=solver).fit(x, TARGETS)
    np.testing.assert_array_equal(small.predict(x), plain.predict(x) * 2.0**-600)
    with pytest.raises(NumericalError, match=r"beyond float64.*squares of the targets"):
        GPRegressor(IMAGES, 0.1, solver="cholesky").fit(x, TARGETS * 1e200)
    for variance, size in ((1e-150, 1e200), (1e150, 1e-200)):
        matrix = variance * np.eye(24)
        with pytest.raises(NumericalError, match=r"solution for the targets (under|over)flows"):
            GPRegressor("precomputed", 0.0, solver=solver).fit(matrix, TARGETS * size)
    for variance, word in ((1e-300, "underflows"), (1e300, "overflows")):
        with pytest.raises(NumericalError, match=f"mean variance.*{word}"):
            GPRegressor("precomputed", 0.0, solver=solver).fit(variance * np.eye(24), TARGETS)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (TARGETS + 1j, "Complex data not supported: y"),
        (np.array([1j] * 24, dtype=object), "no numbers"),
        ([10**400] + [0] * 23, "beyond float64"),
        ([2**70 + 1] + [0] * 23, "does not hold"),
        (
            np.arange(24) + 2**53,
            "float64 does not hold: entry .1. .counted from 0. is 9007199254740993",
        ),
        (np.arange(24, dtype=np.uint64) + np.uint64(2**63), "does not hold"),
        (["1.5"] * 24, "expected real numbers. Try: a GPClassifier"),
        (np.array(["1.5"] * 24, dtype=object), "no numbers"),
        (np.array([None] * 24), "not finite"),
        (np.array(["2020-01-01"] * 24, dtype="datetime64[D]"), "expected real numbers"),
        (np.arange(24).astype("timedelta64[s]"), "expected real numbers"),
        (np.full(24, np.inf), "not finite"),
        (np.array([float("nan")] * 24, dtype=object), "not finite.*Try: missing="),
        (np.full(24, 1e-310), "few digits"),
        (np.array([["a"], [1]] * 12, dtype=object), "no numbers"),
        ([[1.0], [1.0, 2.0]] * 12, "no array of numbers|expected real numbers"),
    ],
)
def test_targets_that_float64_does_not_hold(y, words):
    with pytest.raises(InputError, match=words):
        GPRegressor(IMAGES, 0.1).fit(images(24), y)


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(float).max, reason="no longer double")
@pytest.mark.parametrize("text", ["1e400", "1e-400"])
def test_long_doubles_beyond_float64(text):
    y = np.array([text] * 24, dtype=np.longdouble)
    with pytest.raises(InputError, match="does not hold"):
        GPRegressor(IMAGES, 0.1).fit(images(24), y)


@pytest.mark.parametrize(
    "y",
    [
        np.arange(24).astype(np.float16),
        np.arange(24) % 2 == 0,
        np.array([Fraction(n, 4) for n in range(24)], dtype=object),
        np.array([Decimal(n) / 4 for n in range(24)], dtype=object),
        np.arange(24, dtype=np.longdouble),
        np.arange(24) + 2**52,
    ],
)
def test_numbers_of_other_types(y):
    model = GPRegressor(IMAGES, 0.1).fit(images(24), y)
    np.testing.assert_array_equal(model.targets_[:, 0], [float(v) for v in y])


@pytest.mark.parametrize("value", [0.0, 0.1, -3e200, 7e-200])
def test_constant_targets_are_predicted_exactly(value):
    model = clone(BASE).fit(images(24), np.full(24, value))
    np.testing.assert_array_equal(model.predict(images(5, seed=2)), np.full(5, model.y_shift_[0]))
    np.testing.assert_allclose(model.y_shift_, value, rtol=1e-15)


@pytest.mark.parametrize(
    "settings",
    [
        *({"noise_variance": v} for v in (np.nan, -1, 10**400, np.inf, True, "1", None, [0.1])),
        *({"jitter": v} for v in (np.nan, -1, 10**400, np.inf, True, "much", None)),
        *({"normalize_y": v} for v in (1, "yes", None)),
        *({"solver": v} for v in ("magic", 3, None, dict, Nystroem)),
    ],
)
def test_impossible_settings(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        GPRegressor(IMAGES, **settings).fit(images(24), TARGETS)


@pytest.mark.parametrize("settings", [{"noise_variance": 1e300}, {"jitter": 1e300}])
def test_noise_that_overflows_the_solve(settings):
    with pytest.raises(NumericalError, match="overflows in the solve"):
        GPRegressor(IMAGES, **settings).fit(images(24), TARGETS)


def test_memory_of_samples_is_compared_before_it_is_taken():
    model = GPRegressor(IMAGES, 0.1).fit(images(24), TARGETS)
    with pytest.raises(InputError, match="samples needs"):
        model.sample_y(images(2, seed=2), 10**13)
    classes = GPClassifier(IMAGES, 0.1).fit(images(24), TARGETS > 0)
    for call in (classes.sample_y, classes.sample_latent):
        with pytest.raises(InputError, match="samples needs"):
            call(images(2, seed=2), 10**13)
    with pytest.raises(InputError, match="random_state"):
        model.sample_y(images(2, seed=2), random_state="today")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_messages_name_the_precision_of_the_entries(dtype, solver):
    random = np.random.default_rng(0)
    x = random.standard_normal((30, 2))
    kernel = ImageKernel(20.0, dtype=dtype)  # nearly constant: far from regular in float32
    noisy = np.asarray(kernel(x), np.float64)
    noisy += 1e-3 * np.diag(-np.ones(30))
    with pytest.raises(NumericalError) as failure:
        GPRegressor("precomputed", 0.0, solver=solver).fit(
            noisy.astype(dtype), TARGETS[:1].repeat(30)
        )
    assert ('dtype="float64"' in str(failure.value)) == (dtype == "float32")
    assert "twice" not in str(failure.value)


@pytest.mark.parametrize("shift", [0.0, 3e-6])
def test_the_same_input_twice_is_said_of_equal_inputs_alone(shift):
    x = images(24)
    x[17] = x[4] + np.float32(shift)
    kernel = ImageKernel(2.0, dtype="float32")
    with pytest.raises(NumericalError) as failure:
        GPRegressor(kernel, 0.0, jitter=0.0).fit(x, TARGETS)
    assert ("the same input twice" in str(failure.value)) == (shift == 0.0)
    assert ('dtype="float64"' in str(failure.value)) == (shift != 0.0)
    assert "rows 4 and 17 agree" in str(failure.value)
    with pytest.warns(JitterWarning) as warned:
        report = GPRegressor(kernel, 0.0).fit(x, TARGETS).jitter_report_
    assert ("the same input twice" in str(warned[0].message)) == (shift == 0.0)
    assert ('dtype="float64"' in str(warned[0].message)) == (shift != 0.0)
    assert report.duplicate == ((4, 17) if shift == 0.0 else None)


def test_another_fit_leaves_nothing_of_the_last():
    model = GPRegressor(IMAGES, 0.1).fit(images(24).reshape(24, -1), TARGETS)
    assert model.n_features_in_ == 9
    assert not hasattr(model.fit(images(24), TARGETS), "n_features_in_")


def test_a_masked_matrix_is_refused():
    matrix = np.ma.array(np.eye(24), mask=np.eye(24, k=1))
    with pytest.raises(InputError, match="masked"):
        GPRegressor("precomputed", 0.1).fit(None, TARGETS, gram=matrix)


def test_scores_of_what_is_no_target():
    gp = GPRegressor("precomputed").fit(np.eye(2), [4.0, 8.0])
    with pytest.raises(InputError, match="y holds texts, and the predictions are numbers"):
        gp.score(np.eye(2), ["4.0", "8.0"])
    labels = GPClassifier("precomputed", 0.1).fit(np.eye(2), ["a", "b"])
    for one, y in ((gp, [4.0, 8.0]), (labels, ["a", "b"])):
        assert one.score(np.eye(2), y, [1.0, 2.0]) == 1.0
        masked = np.ma.masked_array(y, [True, False])
        for wrong in (math.nan, "x", [1.0], [math.nan, 1.0], masked):
            with pytest.raises(InputError):
                one.score(np.eye(2), wrong)
            with pytest.raises(InputError):
                one.score(np.eye(2), y, sample_weight=wrong)
        for weights in ([-1.0, -1.0], [-1.0, 3.0], [0.0, 0.0], ["1", "2"]):
            with pytest.raises(InputError, match="sample_weight"):
                one.score(np.eye(2), y, sample_weight=weights)
