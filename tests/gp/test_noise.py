"""The noise that the data choose, against scipy's densities and against refits."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from scipy.stats import multivariate_normal, t
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from keras2gp._util.digest import with_digest
from keras2gp.errors import InputError, ModelFileError, NumericalError
from keras2gp.gp import (
    ConjugateGradients,
    GPClassifier,
    GPRegressor,
    JitterWarning,
    NoiseWarning,
    Nystroem,
    fit_temperature,
    load_head,
    save_head,
    tempered_softmax,
)
from keras2gp.gp.noise import pilot as noise_pilot
from keras2gp.gp.noise.spectra import Eigenvectors, label_likelihoods
from keras2gp.gp.solvers.tridiagonal import Tridiagonal

KERNEL = RBF(1.3)


def problem(count=80, outputs=None, variance=0.3, scale=4.0, seed=0):
    """Inputs, targets drawn from the prior scale * (KERNEL + variance I), and further of both."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((count + 400, 2))
    lower = np.linalg.cholesky(KERNEL(x) + 1e-9 * np.eye(len(x)))
    shape = (len(x), outputs or 1)
    f = lower @ random.standard_normal(shape)
    y = math.sqrt(scale) * (f + math.sqrt(variance) * random.standard_normal(shape)) + 7.0
    y = y if outputs else y[:, 0]
    return x[:count], y[:count], x[count:], y[count:]


def log_density(matrix, columns, factors):
    """Log density of each column under N(0, factor * matrix), by scipy."""
    return sum(
        multivariate_normal.logpdf(column, cov=factor * matrix)
        for column, factor in zip(columns.T, factors, strict=True)
    )


def test_evidence_of_a_tridiagonal_matrix():
    x, y, *_ = problem(60, outputs=3)
    matrix, y = KERNEL(x), y - y.mean(axis=0)
    spectrum = Tridiagonal(matrix.copy(), y)
    assert spectrum.smallest == pytest.approx(np.linalg.eigvalsh(matrix)[0], abs=1e-12)
    for shift in (1e-3, 0.1, 50.0):
        full = matrix + shift * np.eye(60)
        factors = np.einsum("nc,nc->c", y, np.linalg.solve(full, y)) / 60
        expected = log_density(full, y, factors)
        assert spectrum.value(shift) == pytest.approx(expected, rel=1e-9)
        for other in (0.9, 1.1):  # the factors are the best
            assert log_density(full, y, other * factors) < expected
    assert spectrum.value(-1.0) is None


def labelled(count, wrong=0, seed=0):
    random = np.random.default_rng(seed)
    x = random.uniform(-2.0, 2.0, (count, 2))
    truth = np.where(x.sum(axis=1) > 0.0, "b", np.where(x[:, 0] > 0.5, "c", "a"))
    y = truth.copy()
    y[:wrong] = np.where(truth[:wrong] == "a", "b", "a")
    return x, y, truth


def test_labels_that_are_left_out():
    x, y, _ = labelled(60, wrong=10)
    ours = GPClassifier(RBF(1.0), intercept=0).fit(x, y)
    matrix, columns = RBF(1.0)(x), np.unique(y, return_inverse=True)[1]
    curve = ours.noise_curve_
    for variance, value in list(zip(curve.candidates, curve.values, strict=True))[14:24:3]:
        settings = {"probabilities": "temperature", "intercept": 0}
        stated = GPClassifier("precomputed", variance, **settings).fit(matrix, y)
        mean = stated.leave_one_out()[0]
        spectrum = Eigenvectors(matrix, stated.targets_)
        alpha, diagonal = spectrum.solved(variance)
        left_out = stated.targets_ - alpha / diagonal[:, None]
        np.testing.assert_allclose(left_out, mean, rtol=1e-6, atol=1e-9)
        p = tempered_softmax(mean, stated.temperature_)
        expected = np.log(p[np.arange(60), columns]).sum()
        assert value == pytest.approx(expected, rel=1e-6)
    known = {n: v for n, v in zip(curve.candidates, curve.values, strict=True) if v is not None}
    best = max(known, key=lambda noise: known[noise])
    assert 0.1 * best < curve.chosen < best
    assert known[curve.chosen] == pytest.approx(known[best], abs=1.0)


def test_the_only_member_of_a_class_does_not_count():
    mean = np.array([[1.0, 0.0, 0.2], [0.5, 0.1, 0.0], [0.3, 0.6, 0.1], [9.0, 9.0, -9.0]])
    columns = np.array([0, 0, 0, 2])
    temperature = fit_temperature(mean, columns)
    p = tempered_softmax(mean[:3], temperature)[:, 0]
    nothing = label_likelihoods(mean[:3], np.array([0, 1, 2]))
    assert len(nothing) == 0
    few = GPClassifier(RBF(1.0)).fit([[0.0], [1.0], [2.0]], ["a", "b", "c"])
    assert few.noise_variance_ == 0.0
    assert label_likelihoods(mean, columns).sum() == pytest.approx(np.log(p).sum())


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_means_that_are_not_finite_have_no_likelihood(lost):
    mean = np.array([[1.0, 0.0], [0.5, lost], [0.3, 0.6], [0.1, 0.2]])
    with pytest.raises(InputError, match="not finite"):
        label_likelihoods(mean, np.array([0, 0, 1, 1]))


@pytest.mark.parametrize("outputs", [None, 3])
def test_noise_and_scale_of_the_largest_evidence(outputs):
    x, y, test, truth = problem(150, outputs)
    ours = GPRegressor(KERNEL).fit(x, y)
    matrix, columns = KERNEL(x), ours.targets_
    np.testing.assert_allclose(columns.mean(axis=0), 0.0, atol=1e-12)
    full = matrix + ours.noise_variance_ * np.eye(150)
    best = log_density(full, columns, ours.scale_)
    assert ours.log_marginal_likelihood_value_ == pytest.approx(best, rel=1e-9)
    assert max(v for v in ours.noise_curve_.values if v is not None) == pytest.approx(best)
    for other in (0.8, 1.25):
        full = matrix + other * ours.noise_variance_ * np.eye(150)
        alpha = np.linalg.solve(full, columns)
        factors = np.einsum("nc,nc->c", columns, alpha) / 150
        assert log_density(full, columns, factors) < best
    np.testing.assert_allclose(ours.noise_std_, math.sqrt(4.0 * 0.3), rtol=0.25)
    mean, std = ours.predict(test, return_std=True, observations=True)
    assert 0.9 < (np.abs(truth - mean) < 1.96 * std).mean() < 0.98
    assert mean.shape == std.shape == truth.shape
    density = ours.leave_one_out_log_density()
    means, variances = ours.leave_one_out()
    expected = t(148, means, np.sqrt(variances * 146 / 148)).logpdf(y)
    np.testing.assert_allclose(density, expected, rtol=1e-8)
    noisier = ours.log_marginal_likelihood(2.0 * ours.noise_variance_)
    assert noisier == pytest.approx(
        log_density(matrix + 2.0 * ours.noise_variance_ * np.eye(150), columns, ours.scale_)
    )


def test_matches_scikit_learn_with_its_noise_and_scale():
    x, y, test, _ = problem(120)
    ours = GPRegressor(KERNEL).fit(x, y)
    scale, level = ours.scale_[0], ours.scale_[0] * ours.noise_variance_
    start = ConstantKernel(scale) * KERNEL + WhiteKernel(level)
    fixed = GaussianProcessRegressor(start, optimizer=None, normalize_y=True, alpha=0.0).fit(x, y)
    mean, std = ours.predict(test, return_std=True, observations=True)
    expected_mean, expected_std = fixed.predict(test, return_std=True)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-8)
    # Its Gaussian takes the scale for certain; ours is the deviation of Student's t.
    np.testing.assert_allclose(std, expected_std * np.sqrt(120 / 117), rtol=1e-8)
    free = ConstantKernel(1.0) * RBF(1.3, "fixed") + WhiteKernel(0.1)
    peer = GaussianProcessRegressor(free, normalize_y=True, alpha=0.0).fit(x, y)
    values = np.exp(peer.kernel_.theta)
    np.testing.assert_allclose([scale, level], values, rtol=0.05)


def test_observations_have_the_noise_besides():
    x, y, test, _ = problem(40, outputs=2)
    for ours in (GPRegressor(KERNEL).fit(x, y), GPRegressor(KERNEL, 0.3).fit(x, y)):
        std, both = (ours.predict(test, return_std=True, observations=o)[1] for o in (False, True))
        np.testing.assert_allclose(both**2 - std**2, np.tile(ours.noise_std_**2, (400, 1)))
        covariance = ours.predict(test[:9], return_cov=True, observations=True)[1]
        diagonal = np.einsum("mmc->mc", covariance)
        np.testing.assert_allclose(diagonal, both[:9] ** 2)
        plain = ours.predict(test[:9], return_cov=True)[1]
        off = ~np.eye(9, dtype=bool)
        np.testing.assert_array_equal(covariance[off], plain[off])
        draws = ours.sample_y(test[:3], 20_000, observations=True)
        np.testing.assert_allclose(draws.std(axis=2), both[:3], rtol=0.03)
        draws = ours.sample_y(test[:3], 20_000)
        np.testing.assert_allclose(draws.std(axis=2), std[:3], rtol=0.03)


def test_stated_noise_is_left_alone():
    x, y, test, _ = problem(40)
    ours = GPRegressor(KERNEL, 0.3).fit(x, y)
    assert ours.noise_curve_ is None
    assert ours.noise_variance_ == 0.3
    assert ours.scale_ == 1.0
    assert ours.y_scale_ == 1.0
    np.testing.assert_array_equal(ours.targets_[:, 0], y)
    peer = GaussianProcessRegressor(KERNEL, alpha=0.3, optimizer=None).fit(x, y)
    np.testing.assert_allclose(ours.predict(test), peer.predict(test), rtol=1e-9)


@pytest.mark.parametrize("labels", [False, True])
def test_no_noise_where_there_is_none(labels):
    x = np.random.default_rng(0).uniform(-2.0, 2.0, (60, 2))
    y, kind, settings = np.sin(2.0 * x[:, 0]) + x[:, 1], GPRegressor, {"normalize_y": True}
    if labels:
        x[:, 0] += np.where(x[:, 0] > 0.0, 1.0, -1.0)
        y, kind, settings = x[:, 0] > 0.0, GPClassifier, {}
    ours = kind(RBF(0.5)).fit(x, y)
    assert ours.noise_variance_ == 0.0
    assert ours.noise_curve_.reason.endswith(
        "more than 2 nats and half a standard error are asked for"
        if labels
        else "more than 2 nats are asked for"
    )
    again = kind(RBF(0.5), 0.0, **settings).fit(x, y)
    np.testing.assert_array_equal(ours.alpha_, again.alpha_)


@pytest.mark.parametrize("rows", [noise_pilot.ROWS, 100])
def test_noise_of_wrong_labels(monkeypatch, rows):
    monkeypatch.setattr(noise_pilot, "ROWS", rows)
    x, y, _ = labelled(300, wrong=60)
    ours = GPClassifier(RBF(1.0), intercept=0).fit(x, y)
    bare = GPClassifier(RBF(1.0), 1e-3).fit(x, y)
    test, _, right = labelled(500, seed=1)
    assert ours.noise_variance_ > 0.05
    assert ours.score(test, right) > bare.score(test, right) + 0.02
    assert ours.noise_curve_.rows == 300
    assert ("factorised" in ours.noise_curve_.reason) == (rows < 300)
    assert ours.noise_curve_.reason.startswith("the least noise within half a standard error of")
    columns = np.unique(y, return_inverse=True)[1]

    def parts(noise):
        left_out = GPClassifier(RBF(1.0), noise, intercept=0).fit(x, y).leave_one_out()[0]
        return label_likelihoods(left_out, columns)

    curve = ours.noise_curve_
    known = {n: v for n, v in zip(curve.candidates, curve.values, strict=True) if v is not None}
    best = max(known, key=lambda noise: known[noise])
    assert parts(best).sum() == pytest.approx(known[best])
    assert ours.noise_variance_ < best
    loss = parts(best) - parts(ours.noise_variance_)
    assert loss.sum() <= 0.5 * np.sqrt(300) * loss.std()
    if rows > 300:  # a quarter of a decade below is too little
        loss = parts(best) - parts(ours.noise_variance_ / 10**0.25)
        assert loss.sum() > 0.5 * np.sqrt(300) * loss.std()


def test_duplicates_need_no_jitter():
    x, y, *_ = problem(40)
    x, y = np.concatenate([x, x]), np.concatenate([y, y + 1.0])
    ours = GPRegressor(KERNEL).fit(x, y)
    assert ours.jitter_report_.jitter == 0.0
    assert ours.noise_curve_.values[0] is None  # that of no noise: the matrix is singular
    with pytest.warns(JitterWarning):
        GPRegressor(KERNEL, 0.0).fit(x, y)


@pytest.mark.parametrize("solver", ["cholesky", "tensorflow"])
def test_many_rows_are_factorised_a_handful_of_times(monkeypatch, solver):
    x, y, *_ = problem(200)
    exact = GPRegressor(KERNEL, solver=solver).fit(x, y)
    monkeypatch.setattr(noise_pilot, "ROWS", 40)
    ours = GPRegressor(KERNEL, solver=solver).fit(x, y)
    curve = ours.noise_curve_
    assert curve.rows == 200
    assert 4 <= len(curve.candidates) <= 7
    assert curve.reason.endswith(f"factorised {len(curve.candidates)} times")
    assert ours.noise_variance_ == pytest.approx(exact.noise_variance_, rel=0.1)
    assert ours.log_marginal_likelihood_value_ == pytest.approx(
        exact.log_marginal_likelihood_value_, abs=0.05
    )
    assert curve.candidates[0] == 0.0
    for candidate, value in list(zip(curve.candidates, curve.values, strict=True))[1:]:
        columns, full = ours.targets_, KERNEL(x) + candidate * np.eye(200)
        factor = np.einsum("nc,nc->c", columns, np.linalg.solve(full, columns)) / 200
        assert value == pytest.approx(log_density(full, columns, factor), rel=1e-8)


def test_no_noise_of_many_rows(monkeypatch):
    x = np.random.default_rng(0).uniform(-2.0, 2.0, (120, 2))
    monkeypatch.setattr(noise_pilot, "ROWS", 30)
    ours = GPRegressor(RBF(0.5)).fit(x, np.sin(2.0 * x[:, 0]) + x[:, 1])
    assert ours.noise_variance_ == 0.0
    assert len(ours.noise_curve_.candidates) == 2


@pytest.mark.parametrize("solver", ["cg", ConjugateGradients(rank=50), Nystroem(rank=60), "mixed"])
def test_solvers_without_a_factor_take_some_rows(monkeypatch, solver):
    x, y, test, truth = problem(150)
    monkeypatch.setattr(noise_pilot, "ROWS", 100)
    ours = GPRegressor(KERNEL, solver=solver).fit(x, y)
    assert ours.noise_curve_.rows == 100
    assert "100 of 150 rows" in ours.noise_curve_.reason
    assert ours.noise_variance_ == pytest.approx(
        GPRegressor(KERNEL).fit(x, y).noise_variance_, rel=0.5
    )
    stated = GPRegressor(KERNEL, ours.noise_variance_, normalize_y=True, solver=solver).fit(x, y)
    np.testing.assert_allclose(ours.predict(test), stated.predict(test), rtol=1e-6)
    mean, std = ours.predict(test[:60], return_std=True, observations=True)
    assert (np.abs(truth[:60] - mean) < 1.96 * std).mean() > 0.85


def test_a_store_is_read_by_panels(monkeypatch):
    class Store:
        def __init__(self, matrix):
            self._matrix, self.shape, self.chunks = matrix, matrix.shape, (32, 32)

        def __getitem__(self, key):
            return self._matrix[key]

    x, y, *_ = problem(150)
    monkeypatch.setattr(noise_pilot, "ROWS", 60)
    for solver in ("cholesky", "cg"):
        direct = GPRegressor("precomputed", solver=solver).fit(KERNEL(x), y)
        ours = GPRegressor("precomputed", solver=solver).fit(None, y, gram=Store(KERNEL(x)))
        assert ours.noise_variance_ == pytest.approx(direct.noise_variance_, rel=1e-9)


def test_where_nothing_is_learned():
    x, y, *_ = problem(30)
    constant = GPRegressor(KERNEL, jitter=1e-6).fit(x, np.full(30, 5.0))
    assert constant.noise_variance_ == 0.0
    assert "every target is the same" in constant.noise_curve_.reason
    assert constant.scale_ == 1.0
    few = GPRegressor(KERNEL).fit(x[:2], y[:2])
    assert "fewer than three rows" in few.noise_curve_.reason
    labels = y > 7.0
    dirichlet = GPClassifier(KERNEL, jitter=1e-6, probabilities="dirichlet").fit(x, labels)
    assert dirichlet.noise_variance_ == 0.0
    assert "noises of its own" in dirichlet.noise_curve_.reason
    with pytest.raises(NumericalError, match="no covariance"):
        GPRegressor("precomputed").fit(-np.eye(5) + 2.0 * np.ones((5, 5)), y[:5])
    with pytest.raises(NumericalError, match="not positive definite"):
        GPRegressor("precomputed").fit(np.zeros((5, 5)), y[:5])


@pytest.mark.parametrize("factor", [1e-250, 1e-9, 1e9, 1e250])
def test_units_do_not_matter(factor):
    x, y, *_ = problem(50)
    plain, ours = GPRegressor(KERNEL).fit(x, y), GPRegressor("precomputed")
    ours.fit(factor * KERNEL(x), y)
    assert ours.noise_variance_ == pytest.approx(factor * plain.noise_variance_, rel=1e-6)
    np.testing.assert_allclose(ours.leave_one_out(), plain.leave_one_out(), rtol=1e-5)
    large = GPRegressor(KERNEL).fit(x, 1e150 * y)
    np.testing.assert_allclose(large.predict(x), 1e150 * plain.predict(x), rtol=1e-6)
    bare = GPRegressor(KERNEL, normalize_y=False).fit(x, (y - 7.0) * 1e-90)
    assert bare.noise_variance_ == pytest.approx(plain.noise_variance_, rel=0.5)
    with pytest.raises(NumericalError, match="beyond float64"):
        GPRegressor(KERNEL, normalize_y=False).fit(x, y * 1e-200)


def test_jitter_is_part_of_the_matrix():
    x, y, *_ = problem(60)
    plain, ours = GPRegressor(KERNEL).fit(x, y), GPRegressor(KERNEL, jitter=0.1).fit(x, y)
    assert ours.noise_variance_ + 0.1 == pytest.approx(plain.noise_variance_, rel=0.02)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_of_images(dtype):
    x = images(60)
    y = np.random.default_rng(0).standard_normal(60)
    ours = GPRegressor(ImageKernel(2.0, dtype=dtype)).fit(x, y)
    assert ours.noise_variance_ > 0.0  # the targets are nothing but noise
    assert np.isfinite(ours.predict(x, return_std=True)).all()


def test_saved_with_its_curve(tmp_path):
    x, y, test, _ = problem(30)
    before = GPRegressor(KERNEL).fit(x, y)
    save_head(before, tmp_path)
    after = load_head(tmp_path, KERNEL)
    assert after.noise_curve_ == before.noise_curve_
    assert after.noise_variance == "auto"
    assert after.noise_variance_ == before.noise_variance_
    np.testing.assert_array_equal(
        after.predict(test, return_std=True, observations=True),
        before.predict(test, return_std=True, observations=True),
    )
    np.testing.assert_allclose(
        after.log_marginal_likelihood(1.0), before.log_marginal_likelihood(1.0)
    )
    classes = GPClassifier(KERNEL).fit(x, y > 7.0)
    save_head(classes, tmp_path / "classes")
    assert load_head(tmp_path / "classes", KERNEL).noise_curve_ == classes.noise_curve_


@pytest.mark.parametrize(
    "change",
    [
        {"chosen": -1.0}, {"chosen": "1"}, {"values": [1.0]}, {"rows": "all"}, {"reason": 3},
        {"candidates": [math.nan]}, None,
    ],
)  # fmt: skip
def test_a_damaged_curve_is_refused(tmp_path, change):
    x, y, *_ = problem(30)
    save_head(GPRegressor(KERNEL).fit(x, y), tmp_path)
    path = tmp_path / "head.json"
    head = json.loads(path.read_text())
    if change is None:
        del head["noise_curve"]
    else:
        head["noise_curve"] |= change
    path.write_text(json.dumps(with_digest(head)))
    with pytest.raises(ModelFileError, match="damaged"):
        load_head(tmp_path, KERNEL)


@pytest.mark.parametrize("setting", ["much", -1.0, math.inf, None, True])
def test_settings_out_of_range(setting):
    x, y, *_ = problem(10)
    with pytest.raises(InputError, match="noise_variance is"):
        GPRegressor(KERNEL, setting).fit(x, y)
    with pytest.raises(InputError, match="normalize_y is"):
        GPRegressor(KERNEL, normalize_y=3 if setting is None else "yes").fit(x, y)


def test_memory_is_compared_before_it_is_taken(monkeypatch):
    x, y, *_ = problem(60)
    monkeypatch.setattr("keras2gp._util.memory.NEGLIGIBLE", 0)
    monkeypatch.setattr("keras2gp._util.memory.available_memory", lambda: 90_000)
    with pytest.raises(InputError, match="available"):
        GPRegressor("precomputed", solver="cholesky").fit(KERNEL(x), y)


@pytest.mark.filterwarnings("error")
def test_a_stated_noise_of_another_type_of_number():
    fits = [
        GPRegressor("precomputed", noise_variance=noise).fit(3.0 * np.eye(2), [4.0, 8.0])
        for noise in (1, 1.0, np.float32(1), np.float16(1), np.int64(1))
    ]
    for gp in fits:
        np.testing.assert_array_equal(gp.alpha_.ravel(), [1.0, 2.0])


def warnings_of(fit):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fit()
    return [str(w.message) for w in told if issubclass(w.category, NoiseWarning)]


@pytest.mark.parametrize("solver", ["cholesky", "nystroem", "projected", "cg"])
def test_noise_that_is_all_of_the_variance_is_warned_of(solver):
    x, y, *_ = problem(60)
    noise_alone = np.random.default_rng(3).standard_normal(60)
    kernel = RBF(1.3) + ConstantKernel(1.0)
    ours = GPRegressor(kernel, solver=solver)
    (told,) = warnings_of(lambda: ours.fit(x, noise_alone))
    assert told == ours.noise_warning()
    assert np.ptp(ours.predict(x)) < 0.2
    assert "nearly their mean" in told
    assert "Try: inputs of one scale" in told
    assert not warnings_of(lambda: ours.fit(x, y))
    # A stated noise is the user's own word, however large.
    assert not warnings_of(lambda: GPRegressor(kernel, 1e4, solver=solver).fit(x, noise_alone))
    few = warnings_of(lambda: GPRegressor(kernel).fit(x, np.stack([noise_alone, y], axis=1)))
    assert not few or "of 1 of 2 outputs" in few[0]


def test_copied_rows_are_warned_of_and_the_remedy_works():
    """Half of 200 labels are there twice, and a tenth of them is wrong."""
    x, y, _ = labelled(200, wrong=20)
    twice, labels = np.concatenate([x, x[:100]]), np.concatenate([y, y[:100]])
    copied, plain = GPClassifier(RBF(1.0)), GPClassifier(RBF(1.0)).fit(x, y)
    (told,) = warnings_of(lambda: copied.fit(twice, labels))
    assert told == copied.noise_warning()
    assert "100 of 300 rows are copies" in told
    assert copied.noise_variance_ < plain.noise_variance_
    _, rows = np.unique(np.column_stack([twice, labels]), axis=0, return_index=True)
    cleaned = GPClassifier(RBF(1.0))
    assert not warnings_of(lambda: cleaned.fit(twice[np.sort(rows)], labels[np.sort(rows)]))
    assert cleaned.noise_variance_ == plain.noise_variance_
    assert not warnings_of(lambda: GPClassifier(RBF(1.0), 0.5).fit(twice, labels))
    assert not warnings_of(lambda: GPClassifier(RBF(1.0)).fit(twice[:205], labels[:205]))


def test_copies_of_observed_rows_are_those_of_a_regression():
    x, y, *_ = problem(60)
    y = y.copy()
    y[5:10] = np.nan
    twice, targets = np.concatenate([x, x[:20]]), np.concatenate([y, y[:20]])
    (told,) = warnings_of(lambda: GPRegressor(RBF(1.3), missing="ignore").fit(twice, targets))
    assert "15 of 70 rows are copies" in told


def test_repeated_inputs_with_targets_of_their_own_are_no_copies():
    """Observations of few inputs, of which some agree by chance: they tell the noise."""
    random = np.random.default_rng(0)
    x = np.repeat(np.arange(6.0)[:, None], 20, axis=0)
    votes = (random.random(120) < np.where(x[:, 0] > 2.0, 0.8, 0.2)).astype(int)
    assert not warnings_of(lambda: GPClassifier(RBF(1.0)).fit(x, votes))
    y = np.sin(x[:, 0]) + 0.1 * random.standard_normal(120)
    ours = GPRegressor(RBF(1.0))
    assert not warnings_of(lambda: ours.fit(x, y))
    assert ours.noise_std_ == pytest.approx(0.1, rel=0.2)


def test_the_remedy_for_noise_that_is_all_works():
    random = np.random.default_rng(0)
    x = random.standard_normal((80, 3))
    y = np.sin(x[:, 0]) + 0.1 * random.standard_normal(80)
    kernel = RBF(1.3) + ConstantKernel(1.0)
    mixed = x * [1e-4, 1.0, 1.0]
    assert warnings_of(lambda: GPRegressor(kernel).fit(mixed, y))
    assert not warnings_of(lambda: GPRegressor(kernel).fit(mixed / mixed.std(axis=0), y))


def float32_of_near_parallel_rows(rows):
    """A matrix with eigenvalues down to -1e-5 of its diagonal, as float32 gives, and in float64."""
    x = np.linspace(-3.0, 3.0, rows)[:, None]
    exact = (x @ x.T + 1.0) ** 2
    error = np.random.default_rng(2).standard_normal((rows, rows)) * 1e-5
    return (exact + error + error.T).astype("float32"), exact


@pytest.mark.parametrize("rows", [100, pytest.param(1100, marks=pytest.mark.slow)])
def test_noises_that_float32_is_too_coarse_for_are_told_of(rows):
    coarse, exact = float32_of_near_parallel_rows(rows)
    noise_alone = np.random.default_rng(3).standard_normal(rows)
    ours = GPRegressor("precomputed")
    (told,) = warnings_of(lambda: ours.fit(coarse, noise_alone))
    largest = float(told.split("Noises up to ")[1].split(" ")[0])
    curve = ours.noise_curve_
    known = dict(zip(curve.candidates, curve.values, strict=True))
    assert max(n for n, v in known.items() if v is None) == pytest.approx(largest, rel=1e-2)
    assert 0.0 < largest < min(n for n, v in known.items() if v is not None)
    smallest = np.linalg.eigvalsh(coarse.astype(float))[0]
    assert -0.1 * smallest < largest < -4.0 * smallest
    assert 'The entries are float32, whose rounding may be the cause. Try: dtype="float64"' in told
    # The remedy: entries in float64 let every noise be tried.
    (told,) = warnings_of(lambda: ours.fit(exact, noise_alone))
    assert "float" not in told
    assert all(v is not None for v in ours.noise_curve_.values[1:])


def test_labels_that_are_all_noise_are_warned_of():
    random = np.random.default_rng(1)
    x = random.standard_normal((100, 3))
    y = (random.random(100) < 0.1).astype(int)
    kernel = RBF(1.0) + ConstantKernel(1.0)
    ours = GPClassifier(kernel)
    told = warnings_of(lambda: ours.fit(x, y))
    assert ours.noise_variance_ > 0.0
    assert len(told) == 1, told
    assert "than from the frequencies of the classes" in told[0]
    assert np.ptp(ours.posterior(x)[0][:, 0]) < 0.2
    assert set(ours.predict(x)) == {0}
    assert not warnings_of(lambda: GPClassifier(kernel, 1e3).fit(x, y))
    # Classes that a function tells apart, under as much noise, are predicted.
    x, y, _ = labelled(300, wrong=60)
    assert not warnings_of(lambda: GPClassifier(RBF(1.0)).fit(x, y))
