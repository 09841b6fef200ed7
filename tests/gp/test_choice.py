"""Every solver behind the estimators: one answer, what it reports, and files."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from gp_kernels import ImageKernel, OnlyProducts, images
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel as PeerKernel

from keras2gp._util import memory
from keras2gp.errors import InputError, ModelFileError, NumericalError
from keras2gp.gp import (
    Cholesky,
    ConjugateGradients,
    GPClassifier,
    GPRegressor,
    JitterWarning,
    MixedPrecision,
    Nystroem,
    ProjectedProcess,
    TensorFlowCholesky,
    load_head,
    save_head,
)
from keras2gp.gp.solvers import choice

KERNEL = ImageKernel(3.0)
NOISE = 0.05
COUNT = 120
EXACT = [
    *("cholesky", "tensorflow", ConjugateGradients(tolerance=1e-12)),
    *(Nystroem(rank=COUNT), ProjectedProcess(rank=COUNT)),
]


class Precomputed(PeerKernel):
    """scikit-learn's kernel interface on matrices that are there: inputs are indices."""

    def __init__(self, matrix):
        self.matrix = matrix

    def __call__(self, x, y=None, eval_gradient=False):
        rows, columns = (np.asarray(i, int)[:, 0] for i in (x, x if y is None else y))
        return self.matrix[np.ix_(rows, columns)].copy()

    def diag(self, x):
        return np.diagonal(self.matrix)[np.asarray(x, int)[:, 0]].copy()

    def is_stationary(self):
        return False


def problem(outputs=3):
    x, test = images(COUNT), images(25, seed=7)
    y = np.random.default_rng(5).standard_normal((COUNT, outputs)) + 1.0
    return x, y, test


class Store:
    """A matrix that is read by blocks, and remembers the largest one."""

    def __init__(self, matrix, chunks):
        self.matrix, self.shape, self.chunks, self.largest = matrix, matrix.shape, chunks, 0

    def __getitem__(self, key):
        block = self.matrix[key]
        self.largest = max(self.largest, block.size)
        return block.copy()


@pytest.mark.parametrize("solver", EXACT, ids=str)
@pytest.mark.parametrize("normalize", [False, True])
def test_matches_scikit_learn_on_a_precomputed_kernel(solver, normalize):
    x, y, test = problem()
    whole = np.asarray(KERNEL(np.concatenate([x, test])))
    rows = np.arange(len(whole))[:, None]
    peer = GaussianProcessRegressor(
        Precomputed(whole), alpha=NOISE, optimizer=None, normalize_y=normalize
    ).fit(rows[:COUNT], y)
    ours = GPRegressor("precomputed", NOISE, normalize_y=normalize, solver=solver)
    ours.fit(whole[:COUNT, :COUNT], y)
    cross, diag = whole[COUNT:, :COUNT], np.diagonal(whole)[COUNT:]
    mean, std = ours.predict(cross, return_std=True, diag=diag)
    expected = peer.predict(rows[COUNT:], return_std=True)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(std, expected[1], rtol=1e-8)
    if isinstance(solver, ConjugateGradients):
        with pytest.raises(NumericalError, match="determinant"):
            ours.log_marginal_likelihood()
        assert np.isnan(ours.log_marginal_likelihood_value_)
    else:
        assert ours.log_marginal_likelihood() == pytest.approx(
            peer.log_marginal_likelihood_value_, rel=1e-8
        )
    loo = GPRegressor("precomputed", NOISE, normalize_y=normalize, solver="cholesky")
    loo.fit(whole[:COUNT, :COUNT], y)
    for one, other in zip(ours.leave_one_out(), loo.leave_one_out(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "solver", [*EXACT, "mixed", Nystroem(rank=40), ProjectedProcess(rank=40)], ids=str
)
def test_covariance_and_files(solver, tmp_path):
    x, y, test = problem()
    before = GPRegressor(KERNEL, NOISE, solver=solver).fit(x, y)
    mean, covariance = before.predict(test, return_cov=True)
    std = before.predict(test, return_std=True)[1]
    np.testing.assert_allclose(np.diagonal(covariance), std.T**2, rtol=1e-9, atol=1e-12)
    assert np.linalg.eigvalsh(covariance[..., 0]).min() > -1e-12
    save_head(before, tmp_path)
    after = load_head(tmp_path, KERNEL)
    for one, other in zip(
        after.predict(test, return_std=True), before.predict(test, return_std=True), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-11)
    np.testing.assert_array_equal(after.predict(test), mean)
    np.testing.assert_allclose(after.leave_one_out()[1], before.leave_one_out()[1], rtol=1e-11)
    assert after.solver_report_ == before.solver_report_
    assert after.jitter_report_ == before.jitter_report_
    assert after.get_params() == before.get_params()
    assert set(vars(after)) == set(vars(before))
    save_head(after, tmp_path / "again")
    np.testing.assert_array_equal(load_head(tmp_path / "again", KERNEL).predict(test), mean)
    with pytest.raises(ModelFileError, match="not the one of the fit"):
        load_head(tmp_path, ImageKernel(2.9))


@pytest.mark.parametrize(
    "solver", ["cg", "mixed", Nystroem(rank=40), ProjectedProcess(rank=40)], ids=str
)
def test_damage_of_what_a_solver_keeps(solver, tmp_path):
    x, y, _ = problem()
    save_head(GPRegressor(KERNEL, NOISE, solver=solver).fit(x, y), tmp_path)
    names = {p.name for p in tmp_path.iterdir()} - {"head.json", "y.npy", "x_train.npy"}
    for name in names:
        path, content = tmp_path / name, (tmp_path / name).read_bytes()
        flipped = bytearray(content)
        flipped[-5] ^= 0x11
        for damage in (b"", content[:-2], bytes(flipped)):
            path.write_bytes(damage)
            with pytest.raises(ModelFileError, match=name):
                load_head(tmp_path, KERNEL)
        path.write_bytes(content)
    head = json.loads((tmp_path / "head.json").read_text())
    for place, value in [
        ("jitter_report", None),
        ("solver_report", {**head["solver_report"], "solver": "cholesky"}),
        ("solver_report", {**head["solver_report"], "iterations": "many"}),
        ("inducing", [0] * 40),
        ("inducing", list(range(99, 139))),
    ]:
        if place in head:
            (tmp_path / "head.json").write_text(json.dumps({**head, place: value}))
            with pytest.raises(ModelFileError):
                load_head(tmp_path, KERNEL)


@pytest.mark.parametrize(
    "solver", ["cholesky", "mixed", "tensorflow", "cg", "nystroem", "projected"]
)
def test_classifier_with_every_solver(solver):
    x, _, test = problem()
    labels = np.random.default_rng(2).integers(0, 3, COUNT)
    ours = GPClassifier(KERNEL, NOISE, solver=solver).fit(x, labels)
    peer = GPClassifier(KERNEL, NOISE, solver="cholesky").fit(x, labels)
    np.testing.assert_array_equal(ours.predict(test), peer.predict(test))
    np.testing.assert_allclose(ours.posterior(test)[1], peer.posterior(test)[1], rtol=1e-5)
    assert ours.solver_report_.solver == solver
    assert ours.solver_report_.reason == "asked for"


@pytest.mark.parametrize(
    "solver",
    ["cholesky", "mixed", "tensorflow", "cg", Nystroem(rank=50), ProjectedProcess(rank=50)],
    ids=str,
)
def test_a_store_is_read_block_by_block(solver):
    x, y, test = problem()
    store = Store(np.asarray(KERNEL(x)), (16, 16))
    ours = GPRegressor(KERNEL, NOISE, solver=solver).fit(x, y, gram=store)
    direct = GPRegressor(KERNEL, NOISE, solver=solver).fit(x, y)
    np.testing.assert_allclose(ours.predict(test), direct.predict(test), rtol=1e-9)
    alone = GPRegressor("precomputed", NOISE, solver=solver).fit(None, y, gram=store)
    cross = np.asarray(KERNEL(test, x))
    np.testing.assert_allclose(alone.predict(cross), direct.predict(test), rtol=1e-9)


def test_a_large_store_is_not_loaded_whole():
    count = 2000
    points = np.random.default_rng(0).standard_normal((count, 3))
    store = Store(points @ points.T + 100.0 * np.eye(count), (64, 64))
    for solver in ("cholesky", "mixed", "cg"):
        GPRegressor("precomputed", 1.0, solver=solver).fit(None, np.ones(count), gram=store)
        assert 0 < store.largest <= 512 * count
        store.largest = 0


def test_a_gram_of_something_else_is_refused():
    x, y, _ = problem()
    matrix = np.asarray(KERNEL(x))
    with pytest.raises(InputError, match="not the kernel's matrix"):
        GPRegressor(KERNEL, NOISE).fit(x, y, gram=1.1 * matrix)
    with pytest.raises(InputError, match="gram is 119 x 119, and X has 120"):
        GPRegressor(KERNEL, NOISE).fit(x, y, gram=matrix[1:, 1:])
    with pytest.raises(InputError, match="shape"):
        GPRegressor(KERNEL, NOISE).fit(x, y, gram=matrix[1:])
    with pytest.raises(InputError, match="either X or gram"):
        GPRegressor("precomputed", NOISE).fit(matrix, y, gram=matrix)
    wrong = matrix.copy()
    wrong[3, 90] += 0.1
    for solver in ("cholesky", "mixed", "tensorflow", "cg", "nystroem", "projected"):
        with pytest.raises(InputError, match=r"not symmetric.*\[90, 3\]"):
            GPRegressor(KERNEL, NOISE, solver=solver).fit(x, y, gram=wrong)


def test_what_can_only_be_multiplied():
    x, y, test = problem()
    gram = OnlyProducts(np.asarray(KERNEL(x)))
    ours = GPRegressor(KERNEL, NOISE).fit(x, y, gram=gram)
    assert ours.solver_report_.solver == "cg"
    assert "multiplied" in ours.solver_report_.reason
    direct = GPRegressor(KERNEL, NOISE, solver="cholesky").fit(x, y)
    np.testing.assert_allclose(ours.predict(test), direct.predict(test), atol=1e-4)
    with pytest.raises(InputError, match="only products"):
        GPRegressor(KERNEL, NOISE, solver="cholesky").fit(x, y, gram=gram)


def test_auto_picks_by_memory_and_says_so(monkeypatch):
    x, y, _ = problem()
    assert "exact; it needs" in GPRegressor(KERNEL, NOISE).fit(x, y).solver_report_.reason
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    report = GPRegressor(KERNEL, NOISE).fit(x, y).solver_report_
    assert report.solver == "cholesky"
    assert "fit in the" in report.reason
    assert report.memory >= 4 * COUNT**2
    assert report.seconds > 0.0
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    assert GPRegressor(KERNEL, NOISE).fit(x, y).solver_report_.solver == "cholesky"
    points = np.random.default_rng(0).standard_normal((2000, 3))
    training = choice.Training(KERNEL, points, None)
    needed = Cholesky().memory(training, 1) + training.bytes_to_compute
    half = MixedPrecision().memory(training, 1) + training.bytes_to_compute
    for available, name in ((needed, "cholesky"), (needed - 1, "mixed"), (half - 1, "cg")):
        monkeypatch.setattr(memory, "available_memory", lambda value=available: value)
        solver, reason = choice.chosen_solver("auto", training, 1)
        assert solver.name == name
        assert "MiB" in reason


def test_auto_takes_a_gpu_for_large_matrices(monkeypatch):
    class Config:
        @staticmethod
        def list_physical_devices(kind):
            return ["a GPU"] if kind == "GPU" else []

    class Module:
        config = Config

    monkeypatch.setitem(sys.modules, "tensorflow", Module)
    monkeypatch.setattr(memory, "available_memory", lambda: 2**40)
    for count, name in ((100, "cholesky"), (5000, "tensorflow")):
        training = choice.Training(KERNEL, np.ones((count, 2)), None)
        assert choice.chosen_solver("auto", training, 1)[0].name == name


@pytest.mark.parametrize(
    "solver", ["cholesky", "mixed", "tensorflow", "cg", "nystroem", "projected"]
)
def test_memory_is_compared_first(monkeypatch, solver):
    x, y, _ = problem()
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)

    def never(*_):
        raise AssertionError("nothing is computed")

    monkeypatch.setattr(ImageKernel, "__call__", never)
    with pytest.raises(InputError, match=r"of memory and .* available. Try"):
        GPRegressor(KERNEL, NOISE, solver=solver).fit(x, y)


@pytest.mark.parametrize(
    "solver", ["cholesky", "mixed", "tensorflow", "cg", "nystroem", "projected"]
)
@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_inputs(solver, count):
    x, y = images(count), np.arange(1.0, 1.0 + count)
    ours = GPRegressor(KERNEL, 0.0, solver=solver).fit(x, y)
    mean, std = ours.predict(x, return_std=True)
    np.testing.assert_allclose(mean, y, atol=1e-5)
    np.testing.assert_allclose(std, 0.0, atol=2e-3)
    assert ours.sample_y(x, 2).shape == (count, 2)


@pytest.mark.parametrize(
    "solver", ["cholesky", "mixed", "tensorflow", "cg", Nystroem(rank=60)], ids=str
)
def test_duplicates(solver):
    x = np.concatenate([images(40), images(40)])
    y = np.random.default_rng(0).standard_normal(80)
    mean = (y[:40] + y[40:]) / 2
    with_noise = GPRegressor(KERNEL, 0.1, solver=solver).fit(x, y)
    average = GPRegressor(KERNEL, 0.05, solver="cholesky").fit(x[:40], mean)
    np.testing.assert_allclose(with_noise.predict(x), average.predict(x), atol=1e-4)
    if solver in ("cholesky", "mixed", "tensorflow", "cg"):
        with pytest.warns(JitterWarning, match="singular"):
            without = GPRegressor(KERNEL, 0.0, solver=solver).fit(x, y)
        assert without.jitter_report_.jitter > 0.0
        np.testing.assert_allclose(without.predict(x[:40]), mean, atol=0.02)
        with pytest.raises(NumericalError):
            GPRegressor(KERNEL, 0.0, jitter=0.0, solver=solver).fit(x, y)


@pytest.mark.parametrize(
    "solver", ["best", None, 3, Cholesky, object(), {"name": "cg"}], ids=lambda s: type(s).__name__
)
def test_what_is_no_solver(solver):
    with pytest.raises(InputError, match="solver is"):
        GPRegressor(KERNEL, 0.0, solver=solver).fit(*problem()[:2])


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConjugateGradients(tolerance=0.0),
        lambda: ConjugateGradients(tolerance=2.0),
        lambda: ConjugateGradients(rank=-1),
        lambda: ConjugateGradients(max_iterations=0),
        lambda: Nystroem(rank=0),
        lambda: Nystroem(inducing=()),
        lambda: Nystroem(inducing=(-1,)),
        lambda: Nystroem(rank=3, inducing=(1, 2, 3)),
    ],
)
def test_settings_are_checked(make):
    with pytest.raises(InputError, match=r"expected|holds the rows"):
        make()


def test_solvers_are_settings():
    ours = GPRegressor(KERNEL, solver=ConjugateGradients(rank=7))
    assert clone(ours).get_params()["solver"] == ConjugateGradients(rank=7)
    assert GPClassifier(KERNEL).solver == "auto"
    for solver in (
        *("auto", "cg", MixedPrecision(accuracy=1e-4)),
        *(TensorFlowCholesky("GPU:0"), Nystroem(inducing=[3, 1]), ProjectedProcess(rank=2)),
    ):
        described = json.loads(json.dumps(choice.solver_to_dict(solver)))
        assert choice.solver_from_dict(described) == solver


def test_progress_is_told():
    x, y, _ = problem()
    for solver in ("cholesky", "mixed", "tensorflow", "cg", "nystroem", "projected"):
        seen = []
        GPRegressor(KERNEL, NOISE, solver=solver).fit(
            x, y, progress=lambda done, total, seen=seen: seen.append((done, total))
        )
        assert seen[-1][0] == seen[-1][1]
        assert seen == sorted(seen)


@pytest.mark.parametrize(
    "solver", ["cholesky", Nystroem(rank=50), ProjectedProcess(rank=50)], ids=str
)
def test_evidence_for_another_noise(solver):
    x, y, _ = problem()
    ours = GPRegressor(KERNEL, NOISE, solver=solver).fit(x, y)
    other = GPRegressor(KERNEL, 0.4, solver=solver).fit(x, y)
    assert ours.log_marginal_likelihood() == ours.log_marginal_likelihood_value_
    assert ours.log_marginal_likelihood(0.4) == pytest.approx(
        other.log_marginal_likelihood_value_, rel=1e-12
    )
    assert ours.log_marginal_likelihood() != pytest.approx(other.log_marginal_likelihood())
    matrix = np.asarray(KERNEL(x))
    alone = GPRegressor("precomputed", NOISE, solver=solver).fit(matrix, y)
    assert alone.log_marginal_likelihood(0.4, gram=matrix) == pytest.approx(
        other.log_marginal_likelihood_value_, rel=1e-12
    )
    with pytest.raises(InputError, match="gram="):
        alone.log_marginal_likelihood(0.4)


def test_conjugate_gradients_loaded_without_a_kernel(tmp_path):
    x, y, test = problem()
    matrix, cross = np.asarray(KERNEL(x)), np.asarray(KERNEL(test, x))
    before = GPRegressor("precomputed", NOISE, solver="cg").fit(matrix, y)
    save_head(before, tmp_path)
    after = load_head(tmp_path, "precomputed")
    np.testing.assert_array_equal(after.predict(cross), before.predict(cross))
    diag = np.full(25, 2.0)
    with pytest.raises(InputError, match="not kept with a fit"):
        after.predict(cross, return_std=True, diag=diag)
    given = load_head(tmp_path, "precomputed", gram=matrix)
    np.testing.assert_allclose(
        given.predict(cross, return_std=True, diag=diag)[1],
        before.predict(cross, return_std=True, diag=diag)[1],
        rtol=1e-12,
    )
