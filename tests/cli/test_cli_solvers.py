"""fit --solver: which one is taken, what is said of it, and what is refused."""

import json

import numpy as np
import pytest

from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.store import GramStore


@pytest.fixture(scope="module")
def kernel(files):
    from keras2gp.cli.main import main

    out = files / "kernel-for-solvers"
    assert main(["convert", str(files / "tiny.keras"), str(out)]) == 0
    return out


def fit(kernel, files, out, *more):
    data = ["--data", files / "data.npz", "--train", 80, "--noise-variance", 0.1]
    return ["fit", kernel, *data, "--out", out, *more]


@pytest.mark.parametrize(
    ("options", "rank"),
    [
        (("--solver", "tensorflow"), None),
        (("--solver", "cg", "--residual", "1e-8", "--rank", 20), 20),
        (("--solver", "nystroem", "--rank", 80), 80),
        (("--solver", "mixed"), None),
        (("--solver", "projected", "--rank", 80), 80),
    ],
)
def test_every_solver_gives_the_same_predictions(
    kernel, files, fitted, run_json, tmp_path, options, rank
):
    code, document = run_json(*fit(kernel, files, tmp_path / "fit", *options))
    assert code == 0
    report = document["fit"]["solver"]
    assert report["solver"] == options[1]
    assert report["reason"] == "asked for"
    assert report["rank"] == rank
    assert (document["fit"]["log_marginal_likelihood"] is None) == (options[1] == "cg")
    found = []
    for which in (fitted, tmp_path / "fit"):
        out = tmp_path / "p.npz"
        assert run_json("predict", which, "--data", files / "images.npz", "--out", out)[0] == 0
        with np.load(out) as archive:
            found.append((archive["mean"], archive["variance"]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_fit_says_which_solver(kernel, files, run, run_json, tmp_path):
    code, out, _ = run(*fit(kernel, files, tmp_path / "fit"))
    assert code == 0
    assert "cholesky: exact; it needs" in out
    head = json.loads((tmp_path / "fit" / "head" / "head.json").read_text())
    assert head["solver_report"]["solver"] == "cholesky"
    assert head["parameters"]["solver"] == {"name": "auto"}
    code, out, _ = run(*fit(kernel, files, tmp_path / "fit", "--solver", "cg"))
    assert code == 0
    for text in ("cg: asked for", "iterations to residual", "no determinant without --probes"):
        assert text in out


def test_an_estimated_evidence_is_called_one(kernel, files, run, run_json, tmp_path):
    exact = run_json(*fit(kernel, files, tmp_path / "fit"))[1]["fit"]
    assert exact["solver"]["evidence_error"] is None
    options = fit(kernel, files, tmp_path / "fit", "--solver", "cg", "--rank", 10, "--probes", 8)
    estimate = run_json(*options)[1]["fit"]
    error = estimate["solver"]["evidence_error"]
    gap = estimate["log_marginal_likelihood"] - exact["log_marginal_likelihood"]
    assert 0.0 < abs(gap) < 5.0 * error
    _, out, _ = run(*options)
    assert f"an estimate with the standard error {error:.2g}" in out


def test_a_store_is_not_loaded_whole(kernel, files, run, tmp_path, monkeypatch):
    def never(*_args, **_options):
        raise AssertionError("the store was loaded whole")

    monkeypatch.setattr(GramStore, "__array__", never)
    for solver in ("auto", "mixed", "cg"):
        more = ("--gram", tmp_path / "K.zarr", "--solver", solver)
        code, _, err = run(*fit(kernel, files, tmp_path / "fit", *more))
        assert (code, err) == (0, "")
    assert GramStore(tmp_path / "K.zarr").complete


def test_covariances_with_inducing_images_are_resumed(kernel, files, run, run_json, tmp_path):
    store = tmp_path / "K_NM.zarr"
    options = ("--solver", "projected", "--rank", 30, "--gram", store)
    one = run_json(*fit(kernel, files, tmp_path / "one", *options))[1]["fit"]
    assert (GramStore(store).shape, GramStore(store).complete) == ((80, 30), True)
    chunk = next(p for p in store.rglob("c/*/*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-3])
    other = run_json(*fit(kernel, files, tmp_path / "two", *options))[1]["fit"]
    assert GramStore(store).complete
    direct = run_json(*fit(kernel, files, tmp_path / "three", *options[:4]))[1]["fit"]
    for found in (one, other, direct):
        assert found["solver"]["rank"] == 30
        expected = direct["log_marginal_likelihood"]
        assert found["log_marginal_likelihood"] == pytest.approx(expected, rel=1e-4)
    code, _, err = run(*fit(kernel, files, tmp_path / "fit", *options[:3], 20, *options[4:]))
    assert (code, "holds another matrix" in err) == (7, True)


@pytest.mark.parametrize(
    "options",
    [
        ("--solver", "best"),
        ("--residual", "1e-3"),
        ("--solver", "cholesky", "--rank", "5"),
        ("--solver", "mixed", "--residual", "1e-3"),
        ("--solver", "nystroem", "--residual", "1e-3"),
        ("--solver", "projected", "--probes", "8"),
        ("--solver", "cg", "--residual", "0"),
        ("--solver", "cg", "--residual", "1.5"),
        ("--solver", "cg", "--rank", "0"),
        ("--solver", "cholesky", "--probes", "8"),
        ("--solver", "cg", "--probes", "1"),
    ],
)
def test_wrong_settings(kernel, files, run, tmp_path, options):
    code, out, err = run(*fit(kernel, files, tmp_path / "fit", *options))
    assert (code, out) == (2, "")
    assert options[-2] in err or options[0] in err
    assert not (tmp_path / "fit").exists()


def test_variances_from_the_store_of_the_fit(kernel, files, run, run_json, tmp_path, monkeypatch):
    store = tmp_path / "K.zarr"
    assert run(*fit(kernel, files, tmp_path / "cg", "--solver", "cg", "--gram", store))[0] == 0
    evaluate = ["--data", files / "data.npz", "--test", 20]
    predict = ["--data", files / "images.npz", "--out"]
    without = run_json("evaluate", tmp_path / "cg", *evaluate)[1]
    assert run("predict", tmp_path / "cg", *predict, tmp_path / "without.npz")[0] == 0

    call = Kernel.__call__

    def no_matrix(self, x1, x2=None, **more):
        assert x2 is not None or len(x1) <= 8, "the kernel matrix was computed again"
        return call(self, x1, x2, **more)

    monkeypatch.setattr(Kernel, "__call__", no_matrix)
    code, document = run_json("evaluate", tmp_path / "cg", *evaluate, "--gram", store)
    assert code == 0
    assert document["measures"] == pytest.approx(without["measures"])
    options = [*predict, tmp_path / "with.npz", "--gram", store]
    assert run("predict", tmp_path / "cg", *options)[0] == 0
    with np.load(tmp_path / "with.npz") as one, np.load(tmp_path / "without.npz") as other:
        np.testing.assert_allclose(one["variance"], other["variance"], rtol=1e-4)
    code, _, err = run("predict", tmp_path / "cg", *predict, tmp_path / "again.npz")
    assert (code, "computed again" in err) == (1, True)


def test_stores_that_are_refused(kernel, files, fitted, run, tmp_path):
    evaluate = ["--data", files / "data.npz", "--test", 20, "--gram"]
    store = tmp_path / "K.zarr"
    data = ["--data", files / "data.npz"]
    assert run("gram", kernel, *data, "--rows", 60, "--out", store)[0] == 0
    assert run(*fit(kernel, files, tmp_path / "cg", "--solver", "cg"))[0] == 0
    code, _, err = run("evaluate", tmp_path / "cg", *evaluate, tmp_path / "absent.zarr")
    assert (code, "no store of a kernel matrix" in err) == (2, True)
    code, _, err = run("evaluate", tmp_path / "cg", *evaluate, store)
    assert code == 7
    code, _, err = run("evaluate", fitted, *evaluate, store)
    assert (code, "keeps what predictions need" in err) == (2, True)
