"""The command line with a model whose process has a mean."""

import keras
import numpy as np
import pytest

import keras2gp


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A model whose biases start at constants, real targets and labels."""
    folder = tmp_path_factory.mktemp("means")
    bias = keras.initializers.Constant(22.5)
    model = keras.Sequential([
        keras.Input((3,)),
        keras.layers.Dense(8, activation="relu", kernel_initializer="he_normal"),
        keras.layers.Dense(1, bias_initializer=bias),
    ], name="mean")  # fmt: skip
    model.save(folder / "model.keras")
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    np.savez(folder / "real.npz", x=x, y=20.0 + x[:, 0])
    np.savez(folder / "labels.npz", x=x, y=np.where(x[:, 0] > 0, "up", "down"))
    return folder


def test_inspect_shows_the_mean(data, run):
    code, out, _ = run("inspect", data / "model.keras")
    assert code == 0
    assert "the process has the mean 22.5" in out
    assert "biases of mean 22.5" in out


def test_a_regression_is_about_the_mean(data, run, run_json, tmp_path):
    fit = ["fit", data / "model.keras", "--data", data / "real.npz", "--train", 15]
    code, document = run_json(
        *fit, "--regression", "--noise-variance", "0.01", "--out", tmp_path / "f"
    )
    assert code == 0
    assert any("less the mean" in note for note in document["data"]["notes"])
    out = tmp_path / "p.npz"
    assert run("predict", tmp_path / "f", "--data", data / "real.npz", "--out", out)[0] == 0
    arrays = np.load(data / "real.npz")
    x, y = arrays["x"], arrays["y"]
    gp = keras2gp.GPRegressor(
        keras2gp.convert(data / "model.keras"), noise_variance=0.01, normalize_y=True
    ).fit(x[:15], y[:15])
    np.testing.assert_allclose(np.load(out)["mean"], gp.predict(x), rtol=1e-6)


def test_a_classification_says_that_it_leaves_the_mean_out(data, run_json, tmp_path):
    fit = ["fit", data / "model.keras", "--data", data / "labels.npz", "--train", 15]
    code, document = run_json(*fit, "--out", tmp_path / "f")
    assert code == 0
    assert any("units of logits" in note for note in document["data"]["notes"])
