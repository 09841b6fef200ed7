"""One save and one load: fits with their kernels, as the command writes them."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF

import keras2gp
from keras2gp.cli.main import main
from keras2gp.errors import InputError, ModelFileError, NotFittedError, StoreError
from keras2gp.gp import GPClassifier, GPRegressor, TrainedEnsemble

X = np.random.default_rng(0).normal(size=(14, 3))
Y = np.sin(X[:, 0])
LABELS = np.where(Y > 0, "plus", "minus")
NEW = np.random.default_rng(1).normal(size=(5, 3))


@pytest.fixture(scope="module")
def kernel():
    dense = keras.layers.Dense
    layers = [keras.Input((3,)), dense(8, "relu", name="hidden"), dense(1, name="out")]
    settings = {"overrides": {"*": (1.5, 0.1)}, "dtype": "float64"}
    return keras2gp.convert(keras.Sequential(layers, name="tiny"), **settings)


def fits(kernel):
    return {
        "classifier": GPClassifier(kernel).fit(X, LABELS),
        "dirichlet": GPClassifier(kernel, probabilities="dirichlet").fit(X, LABELS),
        "regressor": GPRegressor(kernel).fit(X, Y),
        "outputs": GPRegressor(kernel, 0.1).fit(X, np.stack([Y, -Y], 1)),
        "ensemble": TrainedEnsemble(kernel).fit(X, Y),
        "short": TrainedEnsemble(kernel, 2.0, 0.1).fit(X, np.stack([Y, X[:, 1]], 1)),
    }


def predictions(estimator, x):
    if isinstance(estimator, GPClassifier):
        return estimator.predictive(x)
    return estimator.predict(x, return_std=True)


@pytest.mark.slow
def test_a_fit_is_the_same_after_save_and_load(kernel, tmp_path):
    for name, before in fits(kernel).items():
        before.save(tmp_path / name)
        after = keras2gp.load(tmp_path / name)
        assert type(after) is type(before)
        for one, other in zip(predictions(before, NEW), predictions(after, NEW), strict=True):
            np.testing.assert_array_equal(one, other)
        assert set(vars(after)) == set(vars(before))
        settings = before.get_params(deep=False) | {"kernel": None}
        assert after.get_params(deep=False) | {"kernel": None} == settings
        before.save(str(tmp_path / name))  # again, in its place


def test_data_frames_keep_the_names_of_their_columns(kernel, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    TrainedEnsemble(kernel).fit(frame, Y).save(tmp_path / "fit")
    after = keras2gp.load(tmp_path / "fit")
    with pytest.raises(InputError, match="feature names"):
        after.predict(frame[["b", "a", "c"]])


@pytest.mark.slow
def test_the_command_reads_what_python_saved(kernel, tmp_path, capsys):
    GPClassifier(kernel).fit(X, LABELS).save(tmp_path / "classes")
    TrainedEnsemble(kernel).fit(X, Y).save(tmp_path / "networks")
    np.savez(tmp_path / "labels.npz", x=NEW, y=np.array(["plus", "minus", "plus", "plus", "minus"]))
    np.savez(tmp_path / "numbers.npz", x=NEW, y=NEW[:, 1])
    for name, data, measure in (
        ("classes", "labels", "error_rate"),
        ("networks", "numbers", "r2"),
    ):
        fit, source = str(tmp_path / name), str(tmp_path / f"{data}.npz")
        words = ["evaluate", fit, "--data", source, "--test", "5"]
        assert main([*words, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert measure in document["measures"]
        assert main(words) == 0
        assert "fitted to 14 rows of arrays of Python" in capsys.readouterr().out
        out = str(tmp_path / f"{name}.csv")
        assert main(["predict", fit, "--data", source, "--out", out]) == 0
        capsys.readouterr()
    assert main(["export", fit, str(tmp_path / "export")]) == 5
    assert "TrainedEnsemble cannot be exported" in capsys.readouterr().err


def test_several_outputs_have_no_csv(kernel, tmp_path, capsys):
    fits(kernel)["outputs"].save(tmp_path / "fit")
    np.savez(tmp_path / "x.npz", x=NEW)
    words = ["predict", str(tmp_path / "fit"), "--data", str(tmp_path / "x.npz"), "--out"]
    assert main([*words, str(tmp_path / "p.csv")]) == 2
    assert "2 outputs" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "p.npz")]) == 0


def test_kernels_that_are_not_saved(tmp_path):
    GPRegressor(RBF(1.0), 0.1).fit(X, Y).save(tmp_path / "rbf")
    assert not (tmp_path / "rbf" / "kernel").exists()
    with pytest.raises(ModelFileError, match=r"saved without its kernel.*kernel="):
        keras2gp.load(tmp_path / "rbf")
    assert isinstance(keras2gp.load(tmp_path / "rbf", kernel=RBF(1.0)), GPRegressor)
    with pytest.raises(ModelFileError, match="not the one of the fit"):
        keras2gp.load(tmp_path / "rbf", kernel=RBF(2.0))
    matrix = RBF(1.0)(X)
    GPRegressor("precomputed", 0.1).fit(matrix, Y).save(tmp_path / "matrix")
    assert keras2gp.load(tmp_path / "matrix").kernel == "precomputed"
    (tmp_path / "x.npz").write_bytes(b"")
    words = ["--data", str(tmp_path / "x.npz"), "--out", str(tmp_path / "p.csv")]
    assert main(["predict", str(tmp_path / "matrix"), *words]) != 0


def test_what_is_no_fit(kernel, tmp_path):
    with pytest.raises(NotFittedError):
        GPRegressor(kernel).save(tmp_path / "fit")
    fit = GPRegressor(RBF(1.0), 0.1).fit(X, Y)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "fit.json").write_text("{}")
    with pytest.raises(ModelFileError, match="is not a saved fit"):
        fit.save(tmp_path / "mine")
    fit.save(tmp_path / "fit")
    (tmp_path / "fit" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"notes\.txt"):
        fit.save(tmp_path / "fit")
    assert (tmp_path / "fit" / "notes.txt").read_text() == "mine"
    with pytest.raises(ModelFileError, match="no such directory"):
        keras2gp.load(tmp_path / "mine" / "none")
    kernel.save(tmp_path / "kernel")
    with pytest.raises(InputError, match=r"holds none \(no fit\.json\)"):
        keras2gp.load(tmp_path / "kernel", kernel=kernel)


@pytest.mark.parametrize("name", ["rates.npy", "vectors.npy", "prior.npy", "head.json"])
def test_damage_of_an_ensemble(kernel, tmp_path, name):
    TrainedEnsemble(kernel).fit(X, Y).save(tmp_path / "fit")
    path = tmp_path / "fit" / "head" / name
    content = bytearray(path.read_bytes())
    content[-9] ^= 0x11
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=re.escape(name)):
        keras2gp.load(tmp_path / "fit")


def test_damage_of_the_record(kernel, tmp_path):
    GPRegressor(kernel, 0.1).fit(X, Y).save(tmp_path / "fit")
    record = tmp_path / "fit" / "fit.json"
    record.write_text(record.read_text().replace('"rows": 14', '"rows": 15'))
    with pytest.raises(ModelFileError, match="its digest differs"):
        keras2gp.load(tmp_path / "fit")


def test_a_path_that_is_no_directory(tmp_path):
    (tmp_path / "model.keras").write_text("")
    with pytest.raises(ModelFileError, match=r"is a file.*Try: keras2gp\.convert"):
        keras2gp.load(tmp_path / "model.keras")
    (tmp_path / "kernel").mkdir()
    with pytest.raises(ModelFileError, match=r"no such directory\. Did you mean kernel"):
        keras2gp.load(tmp_path / "kernal")
