"""Fits exported as SavedModels: the same predictions, without keras2gp."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras2gp
from keras2gp.cli.exit_codes import ExitCode, exit_code_of
from keras2gp.errors import InputError, ModelFileError, NotFittedError
from keras2gp.gp import Nystroem
from keras2gp.serving.export import check_export

HE = {"kernel_initializer": "he_normal"}
LABELS = np.array(["ant", "bee", "cow"])


@pytest.fixture(scope="module")
def kernel():
    network = [keras.Input((5, 4, 2)), layers.Rescaling(0.5)]
    network += [layers.Conv2D(4, 3, padding="same", activation="relu", **HE)]
    network += [layers.Flatten(), layers.Dense(3, **HE)]
    return keras2gp.convert(keras.Sequential(network), dtype="float64")


@pytest.fixture(scope="module")
def dense():
    network = [keras.Input((5, 4, 2)), layers.Flatten(), layers.Dense(4, "relu", **HE)]
    return keras2gp.convert(keras.Sequential([*network, layers.Dense(3, **HE)]), dtype="float64")


def data(count, seed=0):
    random = np.random.default_rng(seed)
    y = random.integers(3, size=count)
    x = random.normal(size=(count, 5, 4, 2)) + 0.7 * y[:, None, None, None]
    return x, LABELS[y]


# More than one panel of 512 columns in the factor, and a ragged one.
TRAIN = data(530)
TEST, _ = data(19, seed=1)

RUN = """
import sys
sys.modules["keras2gp"] = None
import numpy as np
import tensorflow as tf
predict = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
x = np.load(sys.argv[2])
outputs = {name: value.numpy() for name, value in predict(images=tf.constant(x)).items()}
for i in (0, 18):
    one = predict(images=tf.constant(x[i : i + 1]))
    for name, value in one.items():
        if name == "label":
            assert value[0].numpy() == outputs[name][i]
        else:
            np.testing.assert_allclose(value[0], outputs[name][i], rtol=1e-9, atol=1e-12)
for bad in (np.nan, np.inf):
    try:
        predict(images=tf.constant(np.where(x == x[0, 0, 0, 0], bad, x)))
    except tf.errors.InvalidArgumentError:
        continue
    raise SystemExit("images that are not finite were taken")
np.savez(sys.argv[3], allow_pickle=False, **{k: v.astype("S") if v.dtype == object else v
                                            for k, v in outputs.items()})
"""


def in_a_fresh_process(directory, tmp_path):
    """Outputs of the SavedModel for TEST, from a process that cannot import keras2gp."""
    np.save(tmp_path / "x.npy", TEST)
    paths = [directory, tmp_path / "x.npy", tmp_path / "outputs.npz"]
    done = subprocess.run(  # noqa: S603 (this interpreter, the text above)
        [sys.executable, "-c", RUN, *map(str, paths)],
        check=False, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "outputs.npz") as archive:
        return dict(archive)


def in_this_process(directory):
    """Outputs of the SavedModel for TEST."""
    import tensorflow as tf

    predict = tf.saved_model.load(str(directory)).signatures["serving_default"]
    return {name: value.numpy() for name, value in predict(images=tf.constant(TEST)).items()}


@pytest.mark.parametrize("how", ["linear", "temperature", "largest", "dirichlet"])
def test_a_classifier(kernel, how, tmp_path):
    before = keras2gp.GPClassifier(kernel, 0.01, probabilities=how).fit(*TRAIN)
    keras2gp.export(before, tmp_path / "out")
    outputs = (
        in_this_process(tmp_path / "out")
        if how in ("temperature", "linear")
        else in_a_fresh_process(tmp_path / "out", tmp_path)
    )
    expected = before.predictive(TEST)
    assert set(outputs) == {"label", "outside", *expected._fields}
    assert [label.decode() for label in outputs["label"]] == before.predict(TEST).tolist()
    for name, values in expected._asdict().items():
        np.testing.assert_allclose(outputs[name], values, rtol=1e-7, atol=1e-10)
    described = json.loads((tmp_path / "out" / "predictor.json").read_text())
    assert described["classes"] == LABELS.tolist()
    assert described["images"] == {"shape": [None, 5, 4, 2], "dtype": "float64"}
    assert described["outputs"]["probability"] == {"shape": [None, 3], "dtype": "float64"}


@pytest.mark.parametrize("noise", [0.1, "auto"])
@pytest.mark.parametrize("shape", [40, (40, 2)])
def test_a_regressor(dense, shape, noise, tmp_path):
    y = np.random.default_rng(2).normal(3.0, 5.0, size=shape)
    before = keras2gp.GPRegressor(dense, noise, normalize_y=True).fit(TRAIN[0][:40], y)
    keras2gp.export(before, tmp_path / "out")
    outputs = in_this_process(tmp_path / "out")
    for name, values in zip(("mean", "std"), before.predict(TEST, return_std=True), strict=True):
        np.testing.assert_allclose(outputs[name], values, rtol=1e-8)
    described = json.loads((tmp_path / "out" / "predictor.json").read_text())
    assert described.get("degrees_of_freedom") == (39.0 if noise == "auto" else None)


def test_outputs_that_lack_targets(dense, tmp_path):
    y = np.random.default_rng(2).normal(3.0, 5.0, size=(20, 2))
    y[3, 0] = np.nan
    before = keras2gp.GPRegressor(dense, missing="ignore").fit(TRAIN[0][:20], y)
    with pytest.raises(InputError, match=r"lacks targets in rows of its own.*variance=False"):
        keras2gp.export(before, tmp_path / "out")
    keras2gp.export(before, tmp_path / "out", variance=False)
    outputs = in_this_process(tmp_path / "out")
    np.testing.assert_allclose(outputs["mean"], before.predict(TEST), rtol=1e-8)
    described = json.loads((tmp_path / "out" / "predictor.json").read_text())
    assert described["degrees_of_freedom"] == [18.0, 19.0]


@pytest.mark.parametrize(
    "labels",
    [np.array([0, 1, 2], np.uint8), np.array([2**40, -1, 0]), np.array(["a", "b", "c"], object)],
)
def test_without_variances_and_labels_of_any_kind(dense, labels, tmp_path):
    x, y = TRAIN[0][:30], labels[np.searchsorted(LABELS, TRAIN[1][:30])]
    before = keras2gp.GPClassifier(dense, 0.01).fit(x, y)
    keras2gp.export(before, tmp_path / "out", variance=False)
    outputs = in_this_process(tmp_path / "out")
    assert set(outputs) == {"label", "mean", "outside", "probability"}
    expected = before.predict(TEST)
    names = [v.decode() if isinstance(v, bytes) else v for v in outputs["label"].tolist()]
    assert names == expected.tolist()
    np.testing.assert_allclose(outputs["probability"], before.predict_proba(TEST), rtol=1e-8)


def test_flattened_inputs_and_a_certain_image(dense, tmp_path):
    x, y = TRAIN[0][:30].reshape(30, -1), TRAIN[1][:30]
    before = keras2gp.GPClassifier(dense, 0.0, probabilities="largest").fit(x, y)
    keras2gp.export(before, tmp_path / "out")
    import tensorflow as tf

    predict = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    outputs = predict(images=tf.constant(TRAIN[0][:30]))["probability"].numpy()
    np.testing.assert_allclose(outputs, before.predict_proba(x), atol=1e-6)
    assert np.isfinite(outputs).all()


def test_what_cannot_be_exported(kernel, tmp_path):
    with pytest.raises(NotFittedError):
        keras2gp.export(keras2gp.GPClassifier(kernel), tmp_path / "out")
    largest = keras2gp.GPClassifier(kernel, 0.1, probabilities="largest")
    largest.fit(TRAIN[0][:9], TRAIN[1][:9])
    with pytest.raises(InputError, match="computed from the variance"):
        keras2gp.export(largest, tmp_path / "out", variance=False)
    largest.set_params(probabilities="dirichlet").fit(TRAIN[0][:9], TRAIN[1][:9])
    with pytest.raises(InputError, match="computed from the variance"):
        keras2gp.export(largest, tmp_path / "out", variance=False)
    matrix = keras2gp.GPRegressor("precomputed").fit(np.eye(3), np.arange(3.0))
    with pytest.raises(InputError, match="known to TensorFlow"):
        keras2gp.export(matrix, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("")
    with pytest.raises(ModelFileError, match="choose another"):
        keras2gp.export(largest, tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_inducing_inputs(dense, tmp_path):
    """The mean of a fit by inducing inputs is a sum over those, not over all training inputs."""
    before = keras2gp.GPClassifier(dense, 0.1, solver=Nystroem(rank=8)).fit(*TRAIN)
    keras2gp.export(before, tmp_path / "out", variance=False)
    outputs = in_this_process(tmp_path / "out")["mean"]
    np.testing.assert_allclose(outputs, before.decision_function(TEST), rtol=1e-6, atol=1e-9)
    with pytest.raises(InputError, match="variance"):
        keras2gp.export(before, tmp_path / "other")


def relabelled(root):
    data = json.loads((root / "predictor.json").read_text())
    data["classes"].reverse()
    (root / "predictor.json").write_text(json.dumps(data))


def appended(name):
    def change(root):
        with (root / name).open("ab") as file:
            file.write(b"!")

    return change


CHANGES = {
    "order of classes": (relabelled, r"predictor\.json: its content"),
    "graph": (appended("saved_model.pb"), r"saved_model\.pb is not the file"),
    "weights": (appended("variables/variables.data-00000-of-00001"), "variables.* is not the file"),
    "missing": (
        lambda root: (root / "fingerprint.pb").unlink(),
        r"fingerprint\.pb is not the file",
    ),
    "added": (lambda root: (root / "assets.bin").touch(), r"assets\.bin is not the file"),
    "no digest": (lambda root: (root / "predictor.json").write_text("{}"), "is no exported fit"),
    "a pipe": (lambda root: os.mkfifo(root / "pipe"), "pipe is not the file"),
}


def test_changed_exports_are_refused(dense, tmp_path):
    before = keras2gp.GPClassifier(dense, 0.01).fit(TRAIN[0][:30], TRAIN[1][:30])
    keras2gp.export(before, tmp_path / "out")
    check_export(tmp_path / "out")
    for name, (change, words) in CHANGES.items():
        shutil.copytree(tmp_path / "out", tmp_path / name)
        check_export(tmp_path / name)
        change(tmp_path / name)
        with pytest.raises(ModelFileError, match=words):
            check_export(tmp_path / name)
    with pytest.raises(ModelFileError, match="is no exported fit"):
        check_export(tmp_path)
    for name in ("saved_model.pb", "variables/variables.index"):
        shutil.copytree(tmp_path / "out", tmp_path / "circle")
        (tmp_path / "circle" / name).unlink()
        (tmp_path / "circle" / name).symlink_to(name.split("/")[-1])
        with pytest.raises(ModelFileError, match="is not the file that was written"):
            check_export(tmp_path / "circle")
        shutil.rmtree(tmp_path / "circle")


def test_files_of_others_are_kept(dense, tmp_path):
    before = keras2gp.GPClassifier(dense, 0.01).fit(TRAIN[0][:30], TRAIN[1][:30])
    keras2gp.export(before, tmp_path / "out")
    keras2gp.export(before, tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"mine")
    shutil.copytree(tmp_path / "out", tmp_path / "mixed")
    (tmp_path / "mixed" / "notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "predictor.json").write_text('{"mine": 1}')
    files = sorted(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    for name in ("link", "model", "mixed", "other", "n" * 5000):
        with pytest.raises(ModelFileError):
            keras2gp.export(before, tmp_path / name)
    assert sorted(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()) == files


def test_a_full_disk(dense, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    gp = keras2gp.GPClassifier(dense, 0.1).fit(*data(20))
    monkeypatch.setattr("keras2gp.serving.export.save_module", full)
    with pytest.raises(ModelFileError) as caught:
        keras2gp.export(gp, tmp_path / "exported")
    said = str(caught.value)
    assert said == f"{tmp_path / 'exported'} cannot be written: No space left on device"
    assert exit_code_of(caught.value) == ExitCode.STORAGE
    assert not list(tmp_path.iterdir())


def test_fits_of_rows_that_are_not_alike(dense, tmp_path):
    """Weights, rows that are left out, and rows that came later."""
    x, y = TRAIN[0][:40], TRAIN[1][:40]
    before = keras2gp.GPClassifier(dense, 0.1, labels="probabilities")
    before.fit(x[:30], y[:30], sample_weight=np.arange(30) % 3).add_rows(x[30:], y[30:])
    keras2gp.export(before, tmp_path / "out")
    outputs = in_this_process(tmp_path / "out")
    expected = before.predictive(TEST)
    assert [label.decode() for label in outputs["label"]] == before.predict(TEST).tolist()
    for name, values in expected._asdict().items():
        np.testing.assert_allclose(outputs[name], values, rtol=1e-7, atol=1e-10)


@pytest.fixture
def sequences(rng):
    model = keras.Sequential([keras.Input((4, 2)), layers.Conv1D(3, 2, **HE)])
    x, y = rng.normal(size=(5, 4, 2)), rng.normal(size=(5, 3))
    return keras2gp.convert(model, dtype="float64"), x, y


def test_a_fit_over_positions_is_refused_with_what_serves_it(sequences, tmp_path):
    kernel, x, y = sequences
    gp = keras2gp.GPRegressor(kernel, noise_variance=0.1).fit(x, y)
    with pytest.raises(InputError, match=r"positions \(3,\).*kernel\.at\(position\)"):
        keras2gp.export(gp, tmp_path / "served")


@pytest.mark.slow
def test_a_fit_at_one_position_is_served(sequences, tmp_path):
    kernel, x, y = sequences
    gp = keras2gp.GPRegressor(kernel.at((1,)), noise_variance=0.1).fit(x, y[:, 1])
    keras2gp.export(gp, tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    found = served(images=tf.constant(x))
    expected = gp.predict(x)
    assert any(np.allclose(np.ravel(v), expected, rtol=1e-6) for v in found.values())
