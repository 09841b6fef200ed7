"""Regression against scikit-learn, against brute force, and on matrices that are on the edge."""

from __future__ import annotations

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from scipy.stats import norm
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.model_selection import cross_val_score

from keras2gp.errors import InputError, NotFittedError, NumericalError
from keras2gp.gp import GPRegressor, JitterWarning, posterior
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
    monkeypatch.setattr(posterior, "_BATCH_BYTES", 8 * 60 * 4)  # four rows
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
    ours = GPRegressor(ImageKernel(2.0, dtype=dtype)).fit(x, y)
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
        ours = GPRegressor(RBF(1.0)).fit(x, y)
    test = np.linspace(-1.0, 1.0, 77)[:, None]
    mean, std = ours.predict(test, return_std=True)
    np.testing.assert_allclose(mean, np.sin(3.0 * test[:, 0]), atol=1e-4)
    assert (std < 1e-3).all()


def test_variances_of_another_kernel_are_refused():
    x, y, test = problem()
    ours = GPRegressor("precomputed", 1e-3).fit(KERNEL(x), y)
    with pytest.raises(NumericalError, match=r"posterior variance of input \d+ is -"):
        ours.predict(KERNEL(test, x) * 3.0, return_std=True, diag=np.full(25, 0.1))


def test_clip_and_its_bound():
    report = GPRegressor(KERNEL).fit(*problem()[:2]).jitter_report_
    prior = np.array([1.0, 2.0, 4.0])
    bound = rounding_bound(prior, 60, np.float32, report)
    np.testing.assert_allclose(bound / prior, bound[0])
    assert 9e-5 < bound[0] < 1e-3
    assert rounding_bound(prior, 60, np.float64, report)[0] < 1e-9
    clipped = clipped_variance(np.array([-0.9, 0.5, 0.0]) * bound, prior, bound, 0)
    np.testing.assert_array_equal(clipped, np.array([0.0, 0.5, 0.0]) * bound)
    with pytest.raises(NumericalError, match="input 12 is"):
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
        "kernel", "noise_variance", "jitter", "normalize_y", "solver"
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
        (np.full(60, np.nan), r"entry \[0\] is nan"),
        (np.full((60, 2), np.inf), r"entry \[0, 0\] is inf"),
        (["a"] * 60, "no array of numbers"),
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
        ours = GPRegressor(ImageKernel(2.0, dtype=dtype)).fit(x, y)
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
