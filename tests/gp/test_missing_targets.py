"""Outputs that lack targets in different rows: against one regressor for each, on its own rows."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from gp_kernels import TwoPositions, images
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.gaussian_process.kernels import RBF

from keras2gp._util import memory
from keras2gp.errors import InputError, ModelFileError, NumericalError
from keras2gp.fit_record import FIT_FILES
from keras2gp.gp import GPRegressor, JitterWarning, NoiseWarning, load_head, save_head
from keras2gp.gp.noise import pilot
from keras2gp.gp.saving import _FILES

KERNEL, ROWS, OUTPUTS = RBF(1.0), 40, 5
RANDOM = np.random.default_rng(0)
X, TEST = RANDOM.uniform(-3.0, 3.0, (ROWS, 2)), RANDOM.uniform(-3.0, 3.0, (7, 2))
NOISES = np.array([0.02, 0.2, 0.2, 0.5, 0.1])
Y = np.sin(X[:, :1] + np.arange(OUTPUTS)) + np.sqrt(NOISES) * RANDOM.standard_normal(
    (ROWS, OUTPUTS)
)
Y[RANDOM.random((ROWS, OUTPUTS)) < 0.2] = np.nan
Y[:, 4] = np.where(np.isnan(Y[:, 1]), np.nan, Y[:, 4] + 0.0)
Y[np.isnan(Y[:, 4]), 1] = np.nan
Y[np.isnan(Y[:, 4]) ^ np.isnan(Y[:, 1])] = np.nan
Y[3], Y[8] = np.nan, np.nan
SEEN = ~np.isnan(Y)
WEIGHTS = RANDOM.uniform(0.5, 2.0, ROWS)


def fits(setting=0.1, **settings):
    """One fit of all outputs, and one of each on its own rows."""
    weights = settings.pop("weights", None)
    ours = GPRegressor(KERNEL, setting, missing="ignore", **settings)
    ours = ours.fit(X, Y, sample_weight=weights)
    alone = []
    for output, there in enumerate(SEEN.T):
        noise = setting if isinstance(setting, str) or not np.ndim(setting) else None
        if noise is None:
            noise = setting[output] if len(setting) == OUTPUTS else setting[there]
        own = None if weights is None else weights[there]
        one = GPRegressor(KERNEL, noise, **settings)
        alone.append(one.fit(X[there], Y[there, output], sample_weight=own))
    return ours, alone


def same(found, expected, tolerance=1e-10):
    np.testing.assert_allclose(found, np.stack(expected, axis=-1), rtol=tolerance, atol=tolerance)


def of_all_rows(values):
    """Values of each output's own rows as those of all rows, NaN where a target is missing."""
    result = np.full((ROWS, OUTPUTS), np.nan)
    for output, (there, own) in enumerate(zip(SEEN.T, values, strict=True)):
        result[there, output] = own
    return list(result.T)


STATED = [
    {},
    {"setting": NOISES},
    {"setting": NOISES[RANDOM.integers(0, 5, ROWS)]},
    {"normalize_y": True},
    {"weights": WEIGHTS},
    {"setting": NOISES, "weights": WEIGHTS, "normalize_y": True},
    {"solver": "tensorflow"},
    {"jitter": 0.01},
]


@pytest.mark.parametrize("settings", STATED)
def test_each_output_is_that_of_its_own_rows(settings):
    ours, alone = fits(**settings)
    assert ours.observed_.tolist() == np.flatnonzero(SEEN.any(axis=1)).tolist()
    np.testing.assert_array_equal(ours.observed_targets_, SEEN[ours.observed_])
    mean, std = ours.predict(TEST, return_std=True)
    each = [one.predict(TEST, return_std=True) for one in alone]
    same(mean, [one[0] for one in each])
    same(std, [one[1] for one in each])
    same(ours.predict(TEST), [one[0] for one in each])
    same(
        ours.predict(TEST, return_cov=True)[1], [g.predict(TEST, return_cov=True)[1] for g in alone]
    )
    same(ours.prior_variance(TEST), [one.prior_variance(TEST) for one in alone])
    for number in (0, 1):
        same(ours.leave_one_out()[number], of_all_rows([g.leave_one_out()[number] for g in alone]))
    same(
        ours.leave_one_out_log_density(),
        of_all_rows([one.leave_one_out_log_density() for one in alone]),
    )
    evidence = sum(one.log_marginal_likelihood() for one in alone)
    assert ours.log_marginal_likelihood() == pytest.approx(evidence, rel=1e-10)
    rows = np.shape(settings.get("setting", 0.1)) == (ROWS,)
    # One number scales noises of rows, whose mean is that of all rows in one fit of all outputs.
    noises = [
        0.3 * float(one.noise_variance_) / ours.noise_variance_ if rows else 0.3 for one in alone
    ]
    evidence = sum(
        one.log_marginal_likelihood(noise) for one, noise in zip(alone, noises, strict=True)
    )
    assert ours.log_marginal_likelihood(0.3) == pytest.approx(evidence, rel=1e-10)
    if not rows:
        new = np.ones((7, OUTPUTS))
        ends = [one.predict_interval(TEST) for one in alone]
        same(ours.predict_interval(TEST)[1], [end[1] for end in ends])
        same(ours.log_density(TEST, new), [one.log_density(TEST, new[:, 0]) for one in alone])


def test_outputs_that_lack_the_same_rows_share_a_factor():
    ours, _ = fits()
    assert "4 factors for 4 patterns of missing targets" in ours.solver_report_.reason
    again = GPRegressor(KERNEL, 0.1, missing="ignore").fit(X, Y[:, [1, 4, 1]])
    assert again.observed_targets_ is None  # they lack whole rows


def test_scipy_says_the_same_of_one_output():
    ours, _ = fits()
    there = SEEN[:, 2]
    a = KERNEL(X[there]) + 0.1 * np.eye(there.sum())
    cross, inverse = KERNEL(TEST, X[there]), np.linalg.inv(a)
    np.testing.assert_allclose(ours.predict(TEST)[:, 2], cross @ inverse @ Y[there, 2], rtol=1e-9)
    variance = 1.0 - np.einsum("mn,nk,mk->m", cross, inverse, cross)
    np.testing.assert_allclose(
        ours.predict(TEST, return_std=True)[1][:, 2] ** 2, variance, rtol=1e-9
    )


def profiled(y, kernel, noise):
    a = kernel + noise * np.eye(len(y))
    scale = y @ np.linalg.solve(a, y) / len(y)
    return multivariate_normal(np.zeros(len(y)), scale * a).logpdf(y)


@pytest.mark.parametrize("rows", [1000, 25])
def test_the_noise_is_that_of_the_largest_evidence_of_all_outputs(rows, monkeypatch):
    monkeypatch.setattr(pilot, "ROWS", rows)
    monkeypatch.setattr("keras2gp.gp.noise.patterns.ROWS", rows)
    ours = GPRegressor(KERNEL, missing="ignore").fit(X, Y)

    def evidence(log_noise):
        total = 0.0
        for output, there in enumerate(SEEN.T):
            own = Y[there, output]
            unit = (own - own.mean()) / own.std()
            total += profiled(unit, KERNEL(X[there]), np.exp(log_noise))
        return total

    best = minimize_scalar(lambda z: -evidence(z), bounds=(-8, 3), method="bounded")
    assert ours.noise_curve_.reason.startswith("the largest evidence of 38 rows")
    assert max(v for v in ours.noise_curve_.values if v is not None) == pytest.approx(
        -best.fun, abs=0.02 if rows == 1000 else 0.5
    )
    assert np.log(ours.noise_variance_) == pytest.approx(best.x, abs=0.1 if rows == 1000 else 0.3)
    assert ours.log_marginal_likelihood() == pytest.approx(
        evidence(np.log(ours.noise_variance_)), rel=1e-8
    )
    alone = [
        GPRegressor(KERNEL, "auto").fit(X[there], Y[there, output])
        for output, there in enumerate(SEEN.T)
    ]
    assert ours.degrees_of_freedom_.tolist() == [one.degrees_of_freedom_ for one in alone]


def test_a_noise_of_each_output_is_that_of_a_fit_of_it_alone():
    ours = GPRegressor(KERNEL, "auto-per-output", missing="ignore").fit(X, Y)
    alone = [
        GPRegressor(KERNEL, "auto").fit(X[there], Y[there, output])
        for output, there in enumerate(SEEN.T)
    ]
    same(ours.noise_variance_, [one.noise_variance_ for one in alone], 1e-6)
    same(ours.scale_, [one.scale_[0] for one in alone], 1e-6)
    same(ours.noise_std_, [one.noise_std_ for one in alone], 1e-6)
    mean, std = ours.predict(TEST, return_std=True, observations=True)
    each = [one.predict(TEST, return_std=True, observations=True) for one in alone]
    same(mean, [one[0] for one in each], 1e-6)
    same(std, [one[1] for one in each], 1e-6)
    same(ours.predict_interval(TEST)[0], [one.predict_interval(TEST)[0] for one in alone], 1e-6)
    new = np.ones((7, OUTPUTS))
    same(ours.log_density(TEST, new), [one.log_density(TEST, new[:, 0]) for one in alone], 1e-6)
    for number in (0, 1):
        same(
            ours.leave_one_out()[number],
            of_all_rows([g.leave_one_out()[number] for g in alone]),
            1e-6,
        )
    same(
        ours.leave_one_out_log_density(),
        of_all_rows([one.leave_one_out_log_density() for one in alone]),
        1e-6,
    )
    assert ours.log_marginal_likelihood() == pytest.approx(
        sum(one.log_marginal_likelihood() for one in alone), rel=1e-6
    )
    assert ours.noise_warning() == ""


@pytest.mark.parametrize("setting", [0.1, "auto"])
def test_draws_have_the_moments_of_each_output(setting):
    ours, _ = fits(setting)
    mean, std = ours.predict(TEST, return_std=True)
    for draws in (
        ours.sample_y(TEST, 4000, random_state=1),
        ours.sample_paths(4000, random_state=1)(TEST),
    ):
        assert draws.shape == (7, OUTPUTS, 4000)
        assert np.abs((draws.mean(axis=-1) - mean) / std).max() < 0.09
        np.testing.assert_allclose(draws.std(axis=-1), std, rtol=0.12)


@pytest.mark.parametrize("setting", [0.1, NOISES, "auto", "auto-per-output"])
def test_saved_and_pickled(setting, tmp_path):
    ours = GPRegressor(KERNEL, setting, missing="ignore").fit(X, Y, sample_weight=WEIGHTS)
    save_head(ours, tmp_path)
    assert json.loads((tmp_path / "head.json").read_text())["version"] == 3
    for again in (
        load_head(tmp_path, KERNEL),
        pickle.loads(pickle.dumps(ours)),  # noqa: S301 (our own)
        clone(ours).fit(X, Y, sample_weight=WEIGHTS),
    ):
        np.testing.assert_array_equal(again.observed_targets_, ours.observed_targets_)
        for ask in ({"return_std": True}, {"return_cov": True}):
            for one, other in zip(
                again.predict(TEST, **ask), ours.predict(TEST, **ask), strict=True
            ):
                np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(again.leave_one_out(), ours.leave_one_out())
        np.testing.assert_array_equal(again.sample_paths(3)(TEST), ours.sample_paths(3)(TEST))
        assert again.log_marginal_likelihood(0.2) == ours.log_marginal_likelihood(0.2)
    with pytest.raises(ModelFileError, match="not the one of the fit"):
        load_head(tmp_path, RBF(2.0))


@pytest.mark.parametrize("name", ["patterns.npy", "noises.npy", "pattern_factors.npy"])
def test_a_state_that_does_not_fit_is_refused(name):
    ours, _ = fits()
    facts, arrays = ours.fit_state()
    for wrong in (arrays[name][:-1], np.full_like(arrays[name], np.nan), arrays[name] * 0.0 - 1.0):
        again = GPRegressor(KERNEL, 0.1, missing="ignore")
        with pytest.raises((ModelFileError, ValueError)):
            again.restore_fit(facts, {**arrays, name: wrong}, None)


def test_a_matrix_that_is_given():
    gram = KERNEL(X)
    ours = GPRegressor("precomputed", 0.1, missing="ignore").fit(gram, Y)
    expected, _ = fits()
    cross = KERNEL(TEST, X)
    mean, std = ours.predict(cross, return_std=True, diag=np.ones(7))
    for one, other in zip((mean, std), expected.predict(TEST, return_std=True), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)
    other = GPRegressor(KERNEL, 0.1, missing="ignore").fit(X, Y, gram=gram)
    np.testing.assert_allclose(other.predict(TEST), mean, rtol=1e-10)


class Store:
    """A matrix that is read block by block."""

    shape, dtype, chunks = (ROWS, ROWS), np.dtype(np.float64), (ROWS, ROWS)

    def __getitem__(self, key):
        return KERNEL(X)[key]

    def diagonal(self):
        return np.ones(ROWS)


def test_positions_of_images_lack_targets_of_outputs():
    kernel, x, test = TwoPositions(3.0), images(9, 0), images(3, 1)
    y = np.random.default_rng(0).standard_normal((9, 2, 2))
    y[0, 1, 0] = y[4, 0, 1] = y[5, 0, 1] = np.nan
    ours = GPRegressor(kernel, 0.1, missing="ignore").fit(x, y)
    mean, std = ours.predict(test, return_std=True)
    for output in range(2):
        one = GPRegressor(kernel, 0.1, missing="ignore").fit(x, y[..., output])
        for found, expected in zip(
            (mean, std, *ours.leave_one_out()),
            (*one.predict(test, return_std=True), *one.leave_one_out()),
            strict=True,
        ):
            np.testing.assert_allclose(found[..., output], expected, rtol=1e-10, atol=1e-12)


def test_what_has_no_answer_is_refused():
    ignoring = GPRegressor(KERNEL, 0.1, missing="ignore")
    with pytest.raises(
        InputError, match=r"output 1 \(counted from 0\) of y has no target in any row"
    ):
        ignoring.fit(X, np.column_stack([Y[:, 0], np.full(ROWS, np.nan)]))
    with pytest.raises(InputError, match='missing="ignore"'):
        GPRegressor(KERNEL, 0.1).fit(X, Y)
    for solver in ("cg", "mixed", "nystroem", "projected"):
        with pytest.raises(InputError, match=r"lack targets in different rows.*solver='cholesky'"):
            GPRegressor(KERNEL, 0.1, missing="ignore", solver=solver).fit(X, Y)
    ours, _ = fits()
    for change in (
        lambda: ours.add_rows(X[:2], np.ones((2, OUTPUTS))),
        lambda: ours.remove_rows([0]),
    ):
        with pytest.raises(InputError, match=r"lacks targets in rows of its own.*a new fit"):
            change()
    whole = GPRegressor(KERNEL, 0.1, missing="ignore").fit(X[:9], np.nan_to_num(Y[:9]))
    before = whole.predict(TEST)
    with pytest.raises(InputError, match=r"row 1 \(counted from 0\) of y lacks some outputs"):
        whole.add_rows(X[:2], [[1.0] * OUTPUTS, [np.nan] + [1.0] * (OUTPUTS - 1)])
    np.testing.assert_array_equal(whole.predict(TEST), before)
    with pytest.raises(InputError, match="a target that is missing has no score"):
        ours.score(X, Y)
    some = np.nan_to_num(Y)
    some[7, 1] = np.nan
    with pytest.raises(InputError, match=r"gram is a Store, and outputs.*Try: an array"):
        ignoring.fit(X, some, gram=Store())
    with pytest.raises(InputError, match="lacks targets, and so has a variance of its own"):
        ours.predict_tensors(TEST)


def test_a_noise_of_each_row_of_new_observations_is_not_known():
    ours, _ = fits(np.full(ROWS, 0.1))
    with pytest.raises(InputError, match="one for each training row"):
        ours.predict(TEST, return_std=True, observations=True)


def test_the_memory_of_all_factors_is_compared_before_any_is_made(monkeypatch):
    ours, _ = fits()
    asked = []
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 100_000)

    class Spied:
        def __call__(self, *args):
            asked.append(1)
            return KERNEL(*args)

        diag = KERNEL.diag

    with pytest.raises(InputError, match=r"4 Cholesky factors, one for each pattern.*available"):
        GPRegressor(Spied(), 0.1, missing="ignore", solver="cholesky").fit(X, Y)
    assert not asked
    assert ours.solver_report_.memory > 4 * 8 * 30 * 30


def test_outputs_with_few_or_equal_targets_do_not_decide():
    y = Y[:, :3].copy()
    y[:, 1] = np.where(np.arange(ROWS) < 2, 1.0, np.nan)
    y[:, 2] = np.where(np.arange(ROWS) < 12, 4.0, np.nan)
    ours = GPRegressor(KERNEL, missing="ignore").fit(X, y)
    there = ~np.isnan(y[:, 0])
    alone = GPRegressor(KERNEL).fit(X[there], y[there, 0])
    assert ours.noise_variance_ == pytest.approx(alone.noise_variance_, rel=1e-6)
    np.testing.assert_allclose(ours.predict(TEST)[:, 0], alone.predict(TEST), rtol=1e-6)
    np.testing.assert_allclose(ours.predict(TEST)[:, 2], 4.0)
    few = np.full((4, 2), np.nan)
    few[[0, 1, 2, 3], [0, 0, 1, 1]] = 1.0, 2.0, 3.0, 4.0
    none = GPRegressor(KERNEL, missing="ignore").fit(X[:4], few)
    assert none.noise_curve_.reason == "none: every output has fewer than three targets"


def test_rows_are_named_by_their_numbers_in_the_fit():
    x, y = X[10:20].copy(), np.nan_to_num(Y[10:20, :2])
    x[7], y[0, 0], y[2, 1] = x[5], np.nan, np.nan
    y[3] = np.nan  # left out, so that the rows of the fit are 0 to 8
    for setting in ({}, {"solver": "tensorflow"}):
        with pytest.warns(JitterWarning, match="Rows 4 and 6 agree"):
            ours = GPRegressor(KERNEL, 0.0, missing="ignore", **setting).fit(x, y)
        assert ours.jitter_report_.duplicate == (4, 6)
    with pytest.raises(NumericalError, match=r"output \d, among the 8 rows that have a target"):
        GPRegressor(KERNEL, 0.0, jitter=0.0, missing="ignore").fit(x, y)


def test_the_warning_of_noise_is_that_of_each_output():
    y = Y[:, :2].copy()
    y[:, 0] = np.where(np.isnan(y[:, 0]), np.nan, RANDOM.standard_normal(ROWS) + 9.0)
    with pytest.warns(NoiseWarning, match="of 1 of 2 outputs"):
        GPRegressor(RBF(3.0), "auto-per-output", missing="ignore").fit(X, y)


def test_every_array_of_a_fit_is_one_of_its_files():
    known = {pattern.removeprefix("head/") for pattern in FIT_FILES}
    assert known >= _FILES


def test_a_fit_is_replaced_by_another(tmp_path):
    for setting in (0.1, NOISES, "auto-per-output"):
        for targets in (np.nan_to_num(Y), Y):
            ours = GPRegressor(KERNEL, setting, missing="ignore").fit(X, targets)
            ours.save(tmp_path / "fit")
            ours.save(tmp_path / "fit")
    ours.save(tmp_path / "fit")


def test_targets_that_are_none_and_objects():
    y = Y.astype(object)
    y[np.isnan(Y)] = None
    ours, _ = fits()
    again = GPRegressor(KERNEL, 0.1, missing="ignore").fit(X, y)
    np.testing.assert_array_equal(again.predict(TEST), ours.predict(TEST))
