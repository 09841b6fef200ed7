"""gram, and fit with a stored matrix."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import keras2gp
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.main import main
from keras2gp.matrices.store import GramStore


@pytest.fixture
def files(tmp_path, rng):
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model.save(tmp_path / "model.keras")
    x, y = rng.random((30, 6, 6, 1), np.float32), np.arange(30) % 3
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return tmp_path, model, x


def gram(directory, *more):
    model, data = directory / "model.keras", directory / "data.npz"
    return main(
        ["gram", str(model), "--data", str(data), "--out", str(directory / "K.zarr"), *more]
    )


def test_the_store_holds_the_matrix_and_is_used_by_fit(files, capsys):
    directory, model, x = files
    assert gram(directory, "--rows", "20", "--json") == ExitCode.FINE
    document = json.loads(capsys.readouterr().out)
    assert document["estimate"]["pairs"] == 210
    store = GramStore.open(directory / "K.zarr")
    np.testing.assert_array_equal(store[:, :], keras2gp.convert(model).matrix(x[:20]))
    fit = ["fit", str(directory / "model.keras"), "--data", str(directory / "data.npz")]
    fit += ["--train", "20", "--noise-variance", "0.1"]
    assert main([*fit, "--out", str(directory / "a")]) == ExitCode.FINE
    stored = ["--gram", str(directory / "K.zarr"), "--out", str(directory / "b")]
    assert main([*fit, *stored]) == ExitCode.FINE
    first, second = (np.load(directory / name / "head" / "alpha.npy") for name in "ab")
    np.testing.assert_array_equal(first, second)


def test_a_dry_run_writes_nothing(files, capsys):
    directory, *_ = files
    assert gram(directory, "--dry-run") == ExitCode.FINE
    words = capsys.readouterr().out
    assert "465 pairs in" in words
    assert "time: about" in words
    assert "465 pairs, " in words
    assert "TensorFlow and compiled programs beside it:" in words
    assert not (directory / "K.zarr").exists()


def test_a_store_of_other_data_is_refused(files, capsys):
    directory, *_ = files
    assert gram(directory, "--rows", "20") == ExitCode.FINE
    assert gram(directory, "--rows", "21") == ExitCode.STORAGE
    assert "K.zarr" in capsys.readouterr().err


def test_a_store_that_is_there_can_be_refused(files, capsys):
    directory, *_ = files
    assert gram(directory, "--rows", "20") == ExitCode.FINE
    assert gram(directory, "--rows", "20") == ExitCode.FINE
    assert gram(directory, "--rows", "20", "--no-resume") == ExitCode.USAGE
    assert "--no-resume" in capsys.readouterr().err
