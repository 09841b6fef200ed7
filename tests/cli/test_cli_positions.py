"""The command line with models whose output has positions."""

import keras
import numpy as np
import pytest

import keras2gp
from keras2gp.matrices.store import GramStore


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A model of sequences, and sequences whose targets are their running means."""
    folder = tmp_path_factory.mktemp("positions")
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((4, 1)),
        layers.Conv1D(8, 2, padding="causal", activation="relu", kernel_initializer="he_normal"),
        layers.Conv1D(2, 2, padding="causal", activation="softmax"),
    ], name="sequences")  # fmt: skip
    model.save(folder / "model.keras")
    x = np.random.default_rng(0).normal(size=(40, 4, 1)).astype("float32")
    means = (x[..., 0] + np.pad(x[:, :-1, 0], [(0, 0), (1, 0)])) / 2
    np.savez(folder / "real.npz", x=x, y=means)
    np.savez(folder / "labels.npz", x=x, y=np.where(means > 0, "up", "down"))
    np.savez(folder / "one.npz", x=x, y=means[:, 2])
    np.savez(folder / "images.npz", x=x[30:])
    return folder


def test_inspect_and_convert(data, run, run_json, tmp_path):
    code, out, _ = run("inspect", data / "model.keras")
    assert code == 0
    assert "output: 4 positions" in out
    code, out, _ = run("inspect", data / "model.keras", "--position", "2")
    assert "output of the output at" not in out
    assert "at position (2,)" in out
    code, document = run_json("convert", data / "model.keras", tmp_path / "one", "--position", "2")
    assert code == 0
    assert document["conversion"]["positions"] == []
    assert keras2gp.load(tmp_path / "one").positions == ()
    for text, word in (("4", "positions"), ("1,1", "expected 1 whole"), ("-1", "position")):
        assert run("inspect", data / "model.keras", "--position", text)[0] != 0, word


@pytest.mark.parametrize("positions", ["equal", "all"])
def test_gram(data, run_json, tmp_path, positions):
    arguments = ["gram", data / "model.keras", "--data", data / "real.npz", "--rows", 10]
    store = tmp_path / "K.zarr"
    code, document = run_json(*arguments, "--out", store, "--positions", positions)
    assert code == 0
    shape = (10, 10, 4) if positions == "equal" else (40, 40)
    assert GramStore.open(store).shape == shape
    assert document["estimate"]["positions"] == list(shape[2:])


def test_a_regression(data, run_json, run, tmp_path):
    store, fit = tmp_path / "K.zarr", tmp_path / "fit"
    arguments = ["fit", data / "model.keras", "--data", data / "real.npz", "--train", 30]
    options = ["--regression", "--noise-variance", "0.001", "--gram", store, "--out", fit]
    assert run_json(*arguments, *options)[0] == 0
    code, document = run_json("evaluate", fit, "--data", data / "real.npz", "--test", 10)
    assert code == 0
    assert document["measures"]["r2"] > 0.9
    predict = ["predict", fit, "--data", data / "images.npz", "--out"]
    assert run_json(*predict, tmp_path / "p.npz")[0] == 0
    with np.load(tmp_path / "p.npz") as archive:
        assert archive["mean"].shape == archive["std"].shape == (10, 4)
    code, _, err = run(*predict, tmp_path / "p.csv")
    assert code != 0
    assert ".npz" in err
    assert "export serves" in run("export", fit, tmp_path / "export")[2]


def test_labels_and_out_of_distribution(data, run_json, run, tmp_path):
    fit = tmp_path / "fit"
    arguments = ["fit", data / "model.keras", "--data", data / "labels.npz", "--train", 30]
    assert run_json(*arguments, "--noise-variance", "0.1", "--out", fit)[0] == 0
    far = tmp_path / "far.npz"
    np.savez(far, x=np.full((5, 4, 1), 9.0, "float32"))
    code, document = run_json(
        "evaluate", fit, "--data", data / "labels.npz", "--test", 10, "--ood", far
    )
    assert code == 0
    assert document["measures"]["error_rate"] < 0.4
    assert 0 <= document["ood"]["auroc"] <= 1
    code, _, err = run(
        "plot", "reliability", fit, "--data", data / "labels.npz", "--test", 10,
        "--out", tmp_path / "p.png",
    )  # fmt: skip
    assert code != 0
    assert err


def test_one_position_has_one_target(data, run_json, run, tmp_path):
    arguments = ["fit", data / "model.keras", "--train", 30, "--regression", "--position", 2]
    out = ["--out", tmp_path / "fit"]
    code, _, err = run(*arguments, "--data", data / "real.npz", *out)
    assert code != 0
    assert "expected [N]" in err
    assert run_json(*arguments, "--data", data / "one.npz", *out)[0] == 0
    code, document = run_json("evaluate", tmp_path / "fit", "--data", data / "one.npz", "--test", 9)
    assert code == 0
    assert document["measures"]["r2"] > 0.5
