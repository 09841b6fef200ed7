"""Noise, weights and gaps of single rows, against the same Gaussian processes written out."""

from __future__ import annotations

import numpy as np
import pytest
from gp_kernels import OnlyProducts, TwoPositions, images
from scipy.stats import multivariate_normal
from sklearn.gaussian_process.kernels import RBF

from keras2gp.errors import InputError
from keras2gp.gp import (
    ConjugateGradients,
    GPClassifier,
    GPRegressor,
    MixedPrecision,
    Nystroem,
    load_head,
    save_head,
)
from keras2gp.gp.noise import pilot as noise_pilot
from keras2gp.gp.noise.spectra import label_likelihoods

KERNEL = RBF(1.0)
RANDOM = np.random.default_rng(0)
X, TEST = RANDOM.uniform(-3.0, 3.0, (50, 2)), RANDOM.uniform(-3.0, 3.0, (9, 2))
NOISES = np.exp(RANDOM.uniform(-4.0, 1.0, 50))
Y = np.column_stack([np.sin(X[:, 0]), np.cos(X[:, 1])]) + (
    np.sqrt(NOISES)[:, None] * RANDOM.standard_normal((50, 2))
)
MASKED = np.ma.masked_array(NOISES, np.arange(50) < 3)
LABELS = np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-1.0, 1.0])]

SOLVERS = {
    "cholesky": ("cholesky", 1e-9),
    "tensorflow": ("tensorflow", 1e-9),
    "cg": (ConjugateGradients(tolerance=1e-11), 1e-7),
    "mixed": (MixedPrecision(), 1e-4),
    "nystroem": (Nystroem(rank=50), 1e-5),
}


def written_out(noises, x=X, y=Y, scale=1.0):
    """Mean and variance at TEST, of each target given all others, and the log evidence."""
    a = scale * (KERNEL(x) + np.diag(noises))
    cross, inverse = scale * KERNEL(TEST, x), np.linalg.inv(a)
    mean, variance = cross @ inverse @ y, scale - np.einsum("mn,nk,mk->m", cross, inverse, cross)
    left_out = []
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        part = np.linalg.solve(
            a[np.ix_(others, others)], np.column_stack([y[others], a[others, i]])
        )
        guess = a[i, others] @ part
        left_out.append([*guess[:-1], a[i, i] - guess[-1]])
    evidence = sum(
        multivariate_normal(np.zeros(len(x)), a, allow_singular=False).logpdf(column)
        for column in y.T
    )
    return mean, variance, np.array(left_out), evidence


@pytest.mark.parametrize("name", SOLVERS)
def test_a_noise_for_every_row(name):
    solver, tolerance = SOLVERS[name]
    ours = GPRegressor(KERNEL, NOISES, solver=solver).fit(X, Y)
    mean, variance, left_out, evidence = written_out(NOISES)
    found, std = ours.predict(TEST, return_std=True)
    np.testing.assert_allclose(found, mean, atol=tolerance)
    np.testing.assert_allclose(std[:, 0] ** 2, variance, atol=tolerance)
    means, variances = ours.leave_one_out()
    np.testing.assert_allclose(means, left_out[:, :2], atol=max(tolerance, 1e-8))
    slack = 1e-3 if name == "mixed" else max(tolerance, 1e-8)
    np.testing.assert_allclose(variances[:, 0], left_out[:, 2], rtol=slack)
    if name == "mixed":
        error = ours.solver_report_.evidence_error
        assert abs(ours.log_marginal_likelihood() - evidence) < max(5.0 * error, 1e-3)
    elif name != "cg":
        assert ours.log_marginal_likelihood() == pytest.approx(evidence, abs=1e-4)
    assert ours.noise_variance_ == pytest.approx(NOISES.mean())
    np.testing.assert_allclose(ours.noise_variance_ * ours.relative_noise_, NOISES, rtol=1e-12)
    with pytest.raises(InputError, match="noise of new observations is not known"):
        ours.predict(TEST, return_std=True, observations=True)


def test_probes_estimate_the_evidence():
    solver = ConjugateGradients(tolerance=1e-8, probes=32)
    ours = GPRegressor(KERNEL, NOISES, solver=solver).fit(X, Y)
    error = ours.solver_report_.evidence_error
    assert abs(ours.log_marginal_likelihood() - written_out(NOISES)[3]) < 5.0 * error + 1e-6


def test_rows_of_no_noise_are_passed_through():
    noises = np.where(np.arange(50) % 2, NOISES, 0.0)
    ours = GPRegressor(KERNEL, noises).fit(X, Y)
    np.testing.assert_allclose(ours.predict(X)[::2], Y[::2], atol=1e-6)
    np.testing.assert_allclose(ours.predict(TEST), written_out(noises)[0], atol=1e-6)


def test_a_weight_is_so_many_rows():
    weights = np.arange(50) % 4
    ours = GPRegressor(KERNEL, 0.3).fit(X, Y, sample_weight=weights)
    rows = np.repeat(np.arange(50), weights)
    peer = GPRegressor(KERNEL, 0.3).fit(X[rows], Y[rows])
    for one, other in zip(
        ours.predict(TEST, return_std=True), peer.predict(TEST, return_std=True), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-9)
    np.testing.assert_array_equal(ours.observed_, np.flatnonzero(weights))
    means, variances = ours.leave_one_out()
    assert means.shape == variances.shape == Y.shape
    np.testing.assert_array_equal(np.isnan(means[:, 0]), weights == 0)
    used = weights > 0
    left_out = written_out(0.3 / weights[used], X[used], Y[used])[2]
    np.testing.assert_allclose(means[used], left_out[:, :2], atol=1e-9)
    std = ours.predict(TEST, return_std=True, observations=True)[1]
    np.testing.assert_allclose(std**2, peer.predict(TEST, return_std=True)[1] ** 2 + 0.3)


@pytest.mark.parametrize("rows", [50, 20])
def test_a_common_factor_is_chosen(rows, monkeypatch):
    monkeypatch.setattr(noise_pilot, "ROWS", rows)  # 20: by factorisations of all rows
    weights = 1.0 / NOISES
    ours = GPRegressor(KERNEL).fit(X, Y, sample_weight=weights)
    curve, targets = ours.noise_curve_, ours.targets_
    checked = 0
    for variance, value in zip(curve.candidates, curve.values, strict=True):
        if value is None or not variance:
            continue
        inverse = np.linalg.inv(KERNEL(X) + np.diag(variance * NOISES))
        factors = np.einsum("nc,nk,kc->c", targets, inverse, targets) / 50
        expected = sum(
            written_out(variance * NOISES, y=targets[:, c : c + 1], scale=factors[c])[3]
            for c in range(2)
        )
        assert value == pytest.approx(expected, abs=1e-5)
        checked += 1
        if checked == 3:
            break
    assert checked
    assert 0.2 < curve.chosen / ours.scale_.mean() < 5.0 or curve.chosen > 0.0
    np.testing.assert_allclose(ours.relative_noise_, NOISES)
    assert ours.log_marginal_likelihood(ours.noise_variance_) == pytest.approx(
        ours.log_marginal_likelihood(), rel=1e-9
    )


def test_the_noise_of_weighted_labels():
    weights = np.where(LABELS == "b", 4.0, 0.5)
    ours = GPClassifier(KERNEL).fit(X, LABELS, sample_weight=weights)
    curve, index = ours.noise_curve_, np.unique(LABELS, return_inverse=True)[1]
    for variance, value in list(zip(curve.candidates, curve.values, strict=True))[18:24:2]:
        peer = GPClassifier(KERNEL, variance).fit(X, LABELS, sample_weight=weights)
        expected = label_likelihoods(peer.leave_one_out()[0], index).sum()
        assert value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("setting", ["balanced", {"a": 1.0, "b": 5.0, "c": 1.0}])
def test_weights_of_classes(setting, tmp_path):
    y = np.where(np.arange(50) % 3 == 0, "a", LABELS)
    counts = dict(zip(*np.unique(y, return_counts=True), strict=True))
    weight = {c: 50 / (3 * n) for c, n in counts.items()} if setting == "balanced" else setting
    rows = np.array([weight[label] for label in y])
    ours = GPClassifier(KERNEL, 0.3, class_weight=setting, intercept=0).fit(X, y)
    peer = GPClassifier(KERNEL, 0.3, intercept=0).fit(X, y, sample_weight=rows)
    expected = np.linalg.solve(KERNEL(X) + np.diag(0.3 / rows), ours.targets_)
    np.testing.assert_allclose(ours.posterior(TEST)[0], KERNEL(TEST, X) @ expected, atol=1e-9)
    np.testing.assert_array_equal(ours.predict_proba(TEST), peer.predict_proba(TEST))
    save_head(ours, tmp_path)
    again = load_head(tmp_path, KERNEL)
    assert again.class_weight == setting
    np.testing.assert_array_equal(again.predict_proba(TEST), ours.predict_proba(TEST))
    np.testing.assert_array_equal(again.posterior(TEST)[1], ours.posterior(TEST)[1])


def test_missing_targets(tmp_path):
    gaps = np.arange(50) % 5 == 1
    y = np.where(gaps[:, None], np.nan, Y)
    peer = GPRegressor(KERNEL, NOISES[~gaps], normalize_y=True).fit(X[~gaps], Y[~gaps])
    with pytest.raises(InputError, match="not finite"):
        GPRegressor(KERNEL, NOISES).fit(X, y)
    matrix = KERNEL(X)
    settings = {"normalize_y": True, "missing": "ignore"}
    ways = [
        GPRegressor(KERNEL, NOISES, **settings).fit(X, y),
        GPRegressor(KERNEL, NOISES, **settings).fit(X, y, gram=matrix),
    ]
    for ours in ways:
        np.testing.assert_allclose(
            ours.predict(TEST, return_std=True), peer.predict(TEST, return_std=True), atol=1e-9
        )
    alone = GPRegressor("precomputed", NOISES, **settings).fit(matrix, y)
    found = alone.predict(KERNEL(TEST, X), return_std=True, diag=np.ones(9))
    np.testing.assert_allclose(found, peer.predict(TEST, return_std=True), atol=1e-9)
    for number, ours in enumerate([*ways, alone]):
        save_head(ours, tmp_path / str(number))
        again = load_head(tmp_path / str(number), ours.kernel)
        where = KERNEL(TEST, X) if ours is alone else TEST
        np.testing.assert_array_equal(again.predict(where), ours.predict(where))
        np.testing.assert_array_equal(again.leave_one_out(), ours.leave_one_out())
        np.testing.assert_array_equal(again.noise_variance, NOISES)
    y[3, 0] = np.nan
    some = GPRegressor(KERNEL, NOISES, missing="ignore").fit(X, y)
    assert some.observed_targets_.sum() == some.observed_targets_.size - 1


def test_missing_labels_at_positions():
    x = images(8)
    labels = np.array([["p", "q"]] * 8, dtype=object)
    labels[::2, 0], labels[3, 1] = "q", None
    kernel = TwoPositions(3.0)
    ours = GPClassifier(kernel, 0.1, missing="ignore").fit(x, labels)
    assert len(ours.targets_) == 15
    rows = np.flatnonzero(labels.reshape(-1) != None)  # noqa: E711 (elementwise)
    whole = np.asarray(kernel(x, positions="all")).reshape(16, 16)
    test = images(3, seed=9)
    cross = np.asarray(kernel(test, x, positions="all")).reshape(6, 16)[:, rows]
    alpha = np.linalg.solve(whole[np.ix_(rows, rows)] + 0.1 * np.eye(15), ours.targets_)
    np.testing.assert_allclose(ours.posterior(test)[0].reshape(6, 2), cross @ alpha, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "weights", "match"),
    [
        ({"noise_variance": NOISES[:3]}, None, "expected 50 numbers"),
        ({"noise_variance": -NOISES}, None, "0 or more"),
        ({"noise_variance": np.ones((50, 2))}, None, "every output would have a matrix of its own"),
        ({"noise_variance": ["1"] * 50}, None, "noise_variance holds values of type <U1"),
        ({"noise_variance": [np.nan] * 50}, None, "noise_variance is not finite"),
        ({"noise_variance": MASKED}, None, "noise_variance: 3 of its values are masked"),
        ({"noise_variance": NOISES.astype("m8[s]")}, None, "noise_variance holds .* timedelta"),
        ({"noise_variance": 0.0}, NOISES, "weights act on the noise"),
        ({}, NOISES[:3], r"sample_weight has shape \(3,\)"),
        ({}, -NOISES, "sample_weight holds -.*: expected numbers, 0 or more"),
        ({}, NOISES * np.inf, "sample_weight is not finite"),
        ({}, MASKED, "sample_weight: 3 of its values are masked"),
        ({}, np.where(NOISES > 0.1, 1.0, 1e-310), "sample_weight holds 1e-310.* beyond float64"),
        ({}, 0.0 * NOISES, "every weight is zero"),
        ({}, NOISES + 0j, "sample_weight holds values of type complex"),
        ({}, ["1"] * 50, "sample_weight holds values of type <U1"),
        ({"missing": "drop"}, None, "missing='drop'"),
    ],
)
def test_what_is_refused(settings, weights, match):
    with pytest.raises(InputError, match=match):
        GPRegressor(KERNEL, **settings).fit(X, Y, sample_weight=weights)


def test_refusals_of_a_classifier():
    with pytest.raises(InputError, match="gives every label a noise of its own"):
        GPClassifier(KERNEL, NOISES, probabilities="dirichlet").fit(X, LABELS)
    with pytest.raises(InputError, match="class_weight is"):
        GPClassifier(KERNEL, class_weight="heavy").fit(X, LABELS)
    with pytest.raises(InputError, match=r'\[1, 2\]: expected None, "balanced", or a dict'):
        GPClassifier(KERNEL, class_weight=[1, 2]).fit(X, LABELS)
    with pytest.raises(InputError, match="fewer than two classes have a weight above 0"):
        GPClassifier(KERNEL, class_weight=dict.fromkeys(LABELS[1:], 0.0)).fit(X, LABELS)
    for weight in ("2", np.nan, None, 1j, -2.0):
        with pytest.raises(InputError, match="class_weight of class 'b' is"):
            GPClassifier(KERNEL, class_weight={"b": weight}).fit(X, LABELS)
    with pytest.raises(InputError, match="sample_weight: 3 of its values are masked"):
        GPClassifier(KERNEL, 0.1, class_weight="balanced").fit(X, LABELS, sample_weight=MASKED)
    with pytest.raises(InputError, match="no row has a target"):
        GPClassifier(KERNEL, missing="ignore").fit(X, [None] * 50)


def test_rows_of_a_store_cannot_be_left_out():
    gram = OnlyProducts(KERNEL(X))
    ours = GPRegressor(KERNEL, NOISES, solver="cg").fit(X, Y, gram=gram)
    np.testing.assert_allclose(ours.predict(TEST), written_out(NOISES)[0], atol=1e-4)
    weights = np.arange(50)
    with pytest.raises(InputError, match="of which rows cannot be left out, and 1 rows"):
        GPRegressor(KERNEL, solver="cg").fit(X, Y, gram=gram, sample_weight=weights)


def test_the_projected_process_has_one_noise():
    for settings, weights in ((NOISES, None), ("auto", 1.0 / NOISES)):
        with pytest.raises(InputError, match="no noise or weight of single rows"):
            GPRegressor(KERNEL, settings, solver="projected").fit(X, Y, sample_weight=weights)
    gaps = np.where(np.arange(50)[:, None] % 7 == 1, np.nan, Y)
    ours = GPRegressor(KERNEL, 0.1, solver="projected", missing="ignore").fit(X, gaps)
    kept = np.arange(50) % 7 != 1
    peer = GPRegressor(KERNEL, 0.1, solver="projected").fit(X[kept], Y[kept])
    np.testing.assert_allclose(ours.predict(TEST), peer.predict(TEST), rtol=1e-9)


def test_paths_have_the_noise_of_their_rows():
    ours = GPRegressor(KERNEL, np.where(X[:, 0] < 0.0, 1e-6, 4.0)).fit(X, Y)
    draws = ours.sample_paths(400, random_state=0)(TEST)
    mean, std = ours.predict(TEST, return_std=True)
    np.testing.assert_allclose(draws.mean(axis=-1), mean, atol=0.25)
    np.testing.assert_allclose(draws.std(axis=-1), std, rtol=0.2, atol=0.02)
