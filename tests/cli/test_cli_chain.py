"""convert, fit, evaluate, predict: the whole way, and what may go wrong on it."""

import csv
import json
import shutil

import numpy as np
import pytest

import keras2gp
from keras2gp.cli import predictions
from keras2gp.cli.predictions import load_fit, measures_of, predictions_of
from keras2gp.fit_record import FitRecord
from keras2gp.gp import GPRegressor, NoiseCurve
from keras2gp.gp.classification.classifier import GPClassifier
from keras2gp.gp.saving import load_head


def test_from_a_model_to_predictions(files, run_json, tmp_path):
    kernel, fit, data = tmp_path / "kernel", tmp_path / "fit", files / "data.npz"
    assert run_json("convert", files / "tiny.keras", kernel)[0] == 0
    code, document = run_json("fit", kernel, "--data", data, "--train", 80, "--out", fit)
    assert code == 0
    assert document["fit"]["rows"] == 80
    assert document["fit"]["kernel_seconds"] > 0 <= document["fit"]["solve_seconds"]
    assert len(document["data"]["sha256"]) == 64
    assert any("divided by 255" in note for note in document["data"]["notes"])
    code, document = run_json("evaluate", fit, "--data", data, "--test", 40)
    assert code == 0
    assert set(document["measures"]) == {
        "error_rate", "negative_log_likelihood", "brier_score", "expected_calibration_error",
        "calibration_error_by_chance",
    }  # fmt: skip
    assert document["ood"] is None
    bins = document["reliability"]
    assert sum(b["count"] for b in bins) == 40
    gap = sum(b["count"] / 40 * abs(b["accuracy"] - b["confidence"]) for b in bins)
    assert document["measures"]["expected_calibration_error"] == pytest.approx(gap)
    assert 0 <= document["measures"]["error_rate"] < 0.5
    assert document["seconds"] > 0
    assert document["warnings"] == []
    code, document = run_json(
        "predict", fit, "--data", files / "images.npz", "--out", tmp_path / "p.csv"
    )
    assert code == 0
    assert document["rows"] == 20


def test_predictions_are_those_of_the_api(files, fitted, run, tmp_path):
    for name in ("p.csv", "p.npz"):
        code, out, err = run(
            "predict", fitted, "--data", files / "images.npz", "--out", tmp_path / name
        )
        assert (code, err) == (0, "")
        assert "20 rows" in out
    with np.load(files / "images.npz") as archive:
        x = archive["x"].astype(np.float32) / 255
    estimator = load_head(fitted / "head", keras2gp.load(fitted / "kernel"))
    expected = estimator.predict_proba(x)
    with np.load(tmp_path / "p.npz", allow_pickle=False) as archive:
        np.testing.assert_allclose(archive["probability"], expected, atol=1e-6)
        np.testing.assert_array_equal(archive["label"], estimator.predict(x))
        assert archive["classes"].tolist() == ["cat", "dog", "owl"]
        assert (archive["variance"] > 0).all()
        variance = archive["variance"]
    with (tmp_path / "p.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["row", "label", "variance", "p_cat", "p_dog", "p_owl"]
    assert [row["label"] for row in rows] == estimator.predict(x).tolist()
    np.testing.assert_allclose([float(row["variance"]) for row in rows], variance)


def test_the_variance_tells_images_from_elsewhere(files, fitted, run, run_json, tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (50, 6, 6, 1), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", x=noise)
    evaluate = ["evaluate", fitted, "--data", files / "data.npz", "--test", 40]
    code, document = run_json(*evaluate, "--ood", tmp_path / "noise.npz")
    assert code == 0
    ood = document["ood"]
    assert ood["rows"] == 40
    assert any("divided by 255" in note for note in ood["notes"])
    with np.load(files / "data.npz") as archive:
        inside = archive["x"][80:].astype(np.float32) / 255
    estimator = load_fit(fitted)
    _, near = estimator.posterior(inside)
    _, far = estimator.posterior(noise[:40].astype(np.float32) / 255)
    expected = np.mean([(b > a) + 0.5 * (b == a) for a in near for b in far])
    assert ood["auroc"] == pytest.approx(expected, abs=2e-3)
    assert ood["mean_variance"] == pytest.approx(far.mean(), rel=1e-3)
    assert ood["auroc"] > 0.9
    code, out, _ = run(*evaluate, "--ood", tmp_path / "noise.npz")
    assert code == 0
    assert "AUROC" in out
    assert "note: uint8 pixels divided by 255" in out
    with np.load(files / "data.npz") as archive:
        np.savez(tmp_path / "trained.npz", x=archive["x"][:30])
    _, out, _ = run(*evaluate, "--ood", tmp_path / "trained.npz")
    assert "30 of them are training images" in out
    np.savez(tmp_path / "huge.npz", x=np.full((3, 6, 6, 1), 1e30))
    code, _, err = run(*evaluate, "--ood", tmp_path / "huge.npz")
    assert code == 6
    assert f"--ood {tmp_path / 'huge.npz'}: the variance of image 0" in err.replace("\n", " ")
    np.savez(tmp_path / "wide.npz", x=np.zeros((3, 7, 6, 1)))
    assert run(*evaluate, "--ood", tmp_path / "wide.npz")[0] == 5
    assert run(*evaluate, "--ood", tmp_path / "none.npz")[0] == 5
    code, _, err = run(*evaluate, "--ood", files / "data.npz")
    assert code == 2
    assert "that is the data" in err


def test_how_probabilities_are_made(files, run, run_json, tmp_path):
    fit = ["fit", files / "tiny.keras", "--data", files / "data.npz", "--train", 80]
    fit += ["--out", tmp_path / "fit", "--noise-variance", 0.1]
    code, document = run_json(*fit, "--probabilities", "largest")
    assert code == 0
    assert document["fit"]["temperature"] is None
    assert load_fit(tmp_path / "fit").probabilities == "largest"
    code, document = run_json(*fit, "--probabilities", "dirichlet")
    assert code == 0
    assert document["fit"]["dirichlet"]["concentration"] > 0
    evaluate = ["evaluate", tmp_path / "fit", "--data", files / "data.npz", "--test", 40]
    with np.load(files / "data.npz") as archive:
        x, y = archive["x"][80:].astype(np.float32) / 255, archive["y"][80:]
    wrong = (load_fit(tmp_path / "fit").predict(x) != y).mean()
    assert run_json(*evaluate)[1]["measures"]["error_rate"] == pytest.approx(wrong)
    fit += ["--probabilities", "temperature"]
    code, document = run_json(*fit)
    temperature = load_fit(tmp_path / "fit").temperature_
    assert document["fit"]["temperature"] == temperature
    code, out, _ = run(*fit)
    assert f"softmax of the mean / {temperature:.4g}" in out
    code, out, _ = run(*fit[:-1], "linear")
    linear = load_fit(tmp_path / "fit").linear_map_
    assert linear.reason in " ".join(out.split())
    code, document = run_json(*fit[:-2])
    assert document["fit"]["linear_map"]["reason"] == linear.reason
    assert run(*fit, "--regression", "--probabilities", "largest")[0] == 2


def test_an_intercept(files, run, run_json, tmp_path):
    fit = ["fit", files / "tiny.keras", "--data", files / "data.npz", "--train", 40]
    fit += ["--out", tmp_path / "fit", "--noise-variance", 0.1]
    for stated, said in ((0, None), (0.75, "of variance 0.75, stated"), ("auto", "labels that")):
        code, out, _ = run(*fit, "--intercept", stated)
        assert code == 0
        assert ("  intercept " in out) == (said is not None)
        assert (said or "") in " ".join(out.split())
        head = load_fit(tmp_path / "fit")
        assert head.intercept == stated
        assert head.intercept_ == pytest.approx(0.4669 if stated == "auto" else stated, rel=0.2)
    assert run_json(*fit, "--intercept", 0)[1]["fit"]["intercept"] == 0.0


def test_fit_says_what_it_did(files, run, tmp_path):
    arguments = ["fit", files / "tiny.keras", "--data", files / "data.npz", "--train", "30"]
    code, out, err = run(*arguments, "--out", tmp_path / "fit")
    assert (code, err) == (0, "")
    for text in ("conv", "exact", "kernel", "solve", "pairs/s", "jitter", "divided by 255"):
        assert text in out
    assert "noise" in out
    assert "the largest leave-one-out likelihood of 30 rows" in " ".join(out.split())
    record = json.loads((tmp_path / "fit" / "fit.json").read_text())
    assert record["rows"] == 30
    assert record["identity"] == str((files / "data.npz").resolve())


def test_fit_of_equal_images_reports_jitter(files, run, run_json, tmp_path):
    with np.load(files / "data.npz") as archive:
        x, y = archive["x"][:20].copy(), archive["y"][:20]
    x[7] = x[3]
    np.savez(tmp_path / "twins.npz", x=x, y=y)
    fit = ["fit", files / "tiny.keras", "--data", tmp_path / "twins.npz", "--train", "20"]
    code, document = run_json(*fit, "--out", tmp_path / "fit", "--dtype", "float64")
    assert document["fit"]["noise_variance"] > 0  # which makes the matrix regular
    assert document["fit"]["jitter"] == 0
    fit += ["--noise-variance", "0"]
    code, document = run_json(*fit, "--out", tmp_path / "fit", "--dtype", "float64")
    assert code == 0
    assert document["fit"]["jitter"] > 0
    assert document["fit"]["equal_rows"] == [3, 7]
    code, out, _ = run(*fit, "--out", tmp_path / "fit", "--dtype", "float64")
    assert "rows 3 and 7" in out
    code, _, err = run(*fit, "--out", tmp_path / "new", "--dtype", "float64", "--jitter", "0")
    assert code == 6
    assert "rows 3 and 7" in err
    assert not (tmp_path / "new").exists()


def test_test_rows_that_overlap_the_fit_are_refused(files, fitted, run, tmp_path):
    code, out, err = run("evaluate", fitted, "--data", files / "data.npz", "--test", 41)
    assert (code, out) == (5, "")
    assert "overlap" in err
    link = tmp_path / "other-name.npz"
    link.symlink_to(files / "data.npz")
    assert run("evaluate", fitted, "--data", link, "--test", 41)[0] == 5


def test_training_images_under_another_name_are_found(files, fitted, run_json):
    code, document = run_json("evaluate", fitted, "--data", files / "copy.npz", "--test", 30)
    assert code == 0
    assert document["warnings"] == ["30 of the 30 test images are training images too"]


def test_a_source_that_has_changed_is_found(files, run_json, tmp_path):
    data = tmp_path / "data.npz"
    shutil.copy(files / "data.npz", data)
    fit = ["fit", files / "tiny.keras", "--data", data, "--train", 30, "--out", tmp_path / "fit"]
    assert run_json(*fit)[0] == 0
    with np.load(files / "data.npz") as archive:
        np.savez(data, x=archive["x"][::-1], y=archive["y"][::-1])
    code, document = run_json("evaluate", tmp_path / "fit", "--data", data, "--test", 30)
    assert code == 0
    assert "training rows differ" in document["warnings"][0]
    assert "30 of the 30 test images" in document["warnings"][1]


def test_regression(files, run, run_json, tmp_path):
    fit = ["fit", files / "tiny.keras", "--data", files / "real.npz", "--train", 80]
    code, _, err = run(*fit, "--out", tmp_path / "fit")
    assert code == 5
    assert "--regression" in err
    assert run(*fit, "--out", tmp_path / "fit", "--regression", "--noise-variance", 0.1)[0] == 0
    code, document = run_json(
        "evaluate", tmp_path / "fit", "--data", files / "real.npz", "--test", 40
    )
    assert set(document["measures"]) == {
        "root_mean_squared_error",
        "r2",
        "mean_std",
        "interval_coverage",
        "negative_log_density",
    }
    assert document["reliability"] is None
    with np.load(files / "real.npz") as archive:
        x, y = archive["x"][80:], archive["y"][80:]
    score = load_fit(tmp_path / "fit").score(x, y)
    assert document["measures"]["r2"] == pytest.approx(score, rel=1e-4)
    density = load_fit(tmp_path / "fit").log_density(x, y)
    assert document["measures"]["negative_log_density"] == pytest.approx(-density.mean(), rel=1e-4)
    code, document = run_json(
        "evaluate", tmp_path / "fit", "--data", files / "real.npz", "--test", 40,
        "--ood", files / "data.npz",
    )  # fmt: skip
    assert 0 <= document["ood"]["auroc"] <= 1
    assert document["ood"]["mean_std"] > 0
    run("predict", tmp_path / "fit", "--data", files / "real.npz", "--out", tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().startswith("row,mean,std,observation_std,low,high\n0,")


def test_a_noise_that_is_all_of_the_variance_is_told(files, run, run_json, tmp_path):
    with np.load(files / "real.npz") as archive:
        y = np.random.default_rng(5).standard_normal(archive["y"].shape)
        np.savez(tmp_path / "noise.npz", x=archive["x"], y=y)
    fit = ["fit", files / "tiny.keras", "--data", tmp_path / "noise.npz", "--train", 80]
    fit += ["--regression", "--out", tmp_path / "fit"]
    assert "takes nearly all of the variance" in run_json(*fit)[1]["fit"]["noise_note"]
    out = run(*fit)[1]
    assert "note: noise_variance='auto' takes nearly all of the variance" in out
    assert f"(deviation {load_fit(tmp_path / 'fit').noise_std_:.3g} of a target)" in out
    assert run_json(*fit, "--noise-variance", "0.1")[1]["fit"]["noise_note"] is None


def test_noise_is_learned_as_in_python(files, run_json, tmp_path):
    fit = ["fit", files / "tiny.keras", "--data", files / "real.npz", "--train", 80]
    code, document = run_json(*fit, "--out", tmp_path / "fit", "--regression")
    assert code == 0
    estimator = load_fit(tmp_path / "fit")
    with np.load(files / "real.npz") as archive:
        x, y = archive["x"], archive["y"]
    ours = GPRegressor(estimator.kernel).fit(x[:80], y[:80])
    assert document["fit"]["noise_variance"] == pytest.approx(ours.noise_variance_, rel=1e-3)
    assert document["fit"]["noise_std"] == pytest.approx(estimator.noise_std_)
    assert document["fit"]["scale"] == pytest.approx(ours.scale_, rel=1e-3)
    assert document["fit"]["noise_curve"]["rows"] == 80
    assert (
        estimator.noise_curve_.state()
        == NoiseCurve.from_state(document["fit"]["noise_curve"]).state()
    )
    columns = predictions_of(estimator, x[80:])
    expected = ours.predict(x[80:], return_std=True, observations=True)
    np.testing.assert_allclose(columns["observation_std"], expected[1], rtol=1e-3)
    np.testing.assert_allclose(columns["mean"], expected[0], rtol=1e-3)
    assert document["fit"]["degrees_of_freedom"] == columns["degrees_of_freedom"] == 79.0
    interval = ours.predict_interval(x[80:])
    np.testing.assert_allclose([columns["low"], columns["high"]], interval, rtol=1e-3)
    measures = measures_of(columns, y[80:])[0]
    density = -ours.log_density(x[80:], y[80:]).mean()
    assert measures["negative_log_density"] == pytest.approx(density, rel=1e-3)
    inside = (interval[0] <= y[80:]) & (y[80:] <= interval[1])
    assert measures["interval_coverage"] == pytest.approx(inside.mean(), abs=0.03)


def test_a_failed_fit_leaves_the_last_one_alone(files, run, tmp_path, monkeypatch):
    out = tmp_path / "fit"
    fit = ["fit", files / "tiny.keras", "--data", files / "data.npz", "--out", out, "--train"]
    assert run(*fit, 20)[0] == 0
    before = (out / "fit.json").read_text()
    assert run(*fit, 1000)[0] == 5
    with monkeypatch.context() as patch:
        patch.setattr(FitRecord, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "")))
        assert run(*fit, 30)[0] == 7
    assert (out / "fit.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["fit"]
    assert run(*fit, 30)[0] == 0
    assert '"rows": 30' in (out / "fit.json").read_text()


def test_only_predictions_are_overwritten(files, fitted, run, tmp_path):
    predict = ["predict", fitted, "--data", files / "images.npz", "--out"]
    for name, text in (("notes.csv", "my,notes\n"), ("data.npz", "no zip")):
        (tmp_path / name).write_text(text)
        code, _, err = run(*predict, tmp_path / name)
        assert code == 2
        assert "holds no predictions" in err
        assert (tmp_path / name).read_text() == text
    for name in ("p.csv", "p.npz"):
        assert run(*predict, tmp_path / name)[0] == 0
        assert run(*predict, tmp_path / name)[0] == 0
    assert run(*predict, tmp_path / "p.txt")[0] == 2
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    ("file", "text"),
    [("fit.json", "{"), ("fit.json", "[]"), ("fit.json", '{"format": 1, "rows": "x"}')],
)
def test_a_damaged_record(file, text, fitted, run, tmp_path):
    copy = tmp_path / "fit"
    shutil.copytree(fitted, copy)
    (copy / file).write_text(text)
    code, out, err = run("evaluate", copy, "--data", "sample", "--test", "9")
    assert (code, out) == (4, "")
    assert "fit.json" in err


@pytest.mark.parametrize("change", [
    {"rows": 5}, {"task": "regression"}, {"identity": "sample"}, {"sha256": "0"}, {"digest": ""},
    {"keras2gp": "0.1.0", "rows": 5},
])  # fmt: skip
def test_a_changed_record(change, fitted, run, tmp_path):
    shutil.copytree(fitted, tmp_path / "fit")
    file = tmp_path / "fit" / "fit.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    code, out, err = run("evaluate", tmp_path / "fit", "--data", "sample", "--test", "9")
    assert (code, out) == (4, "")
    assert "digest" in err


def test_a_record_of_the_first_version(files, fitted, run, tmp_path):
    shutil.copytree(fitted, tmp_path / "fit")
    file = tmp_path / "fit" / "fit.json"
    record = json.loads(file.read_text())
    del record["digest"], record["keras2gp"]
    file.write_text(json.dumps(record))
    predict = ["predict", tmp_path / "fit", "--data", files / "images.npz", "--out"]
    assert run(*predict, tmp_path / "p.csv")[0] == 0


def test_predictions_that_are_not_finite(files, fitted, run, tmp_path, monkeypatch):
    predict = GPClassifier.predictive

    def broken(self, x):
        prediction = predict(self, x)
        prediction.variance[3] = np.nan
        return prediction

    monkeypatch.setattr(GPClassifier, "predictive", broken)
    data = ["--data", files / "images.npz", "--out", tmp_path / "p.csv"]
    code, _, err = run("predict", fitted, *data)
    assert code == 6
    assert "image 3 (counted from 0) is not finite" in " ".join(err.split())
    assert not (tmp_path / "p.csv").exists()


def test_names_that_a_spreadsheet_would_run(files, run, tmp_path):
    names = np.array(["=1+1", "-1", "@x", "-x", "plain", "+4"])
    with np.load(files / "data.npz") as archive:
        np.savez(tmp_path / "d.npz", x=archive["x"][:30], y=names[np.arange(30) % 6])
    fit = ["fit", files / "tiny.keras", "--data", tmp_path / "d.npz", "--train", 30]
    assert run(*fit, "--out", tmp_path / "fit")[0] == 0
    predict = ["predict", tmp_path / "fit", "--data", tmp_path / "d.npz", "--out"]
    assert run(*predict, tmp_path / "p.csv")[0] == 0
    with (tmp_path / "p.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert {row[1] for row in rows} == {"'=1+1", "-1", "'@x", "'-x", "plain", "+4"}
    assert all(name.startswith("p_") for name in header[3:])
    assert run(*predict, tmp_path / "p.csv")[0] == 0


def test_a_damaged_head(files, fitted, run, tmp_path):
    copy = tmp_path / "fit"
    shutil.copytree(fitted, copy)
    (copy / "head" / "alpha.npy").write_bytes(b"no array")
    code, _, err = run("predict", copy, "--data", files / "images.npz", "--out", tmp_path / "p.csv")
    assert code == 4
    assert "alpha.npy" in err
    assert not (tmp_path / "p.csv").exists()


def test_images_of_another_shape_and_not_finite(files, fitted, run, tmp_path):
    cases = {"shape": np.zeros((2, 5, 5, 1)), "nan": np.full((2, 6, 6, 1), np.nan)}
    for name, x in cases.items():
        np.savez(tmp_path / f"{name}.npz", x=x)
        data = tmp_path / f"{name}.npz"
        code, _, err = run("predict", fitted, "--data", data, "--out", tmp_path / "p.csv")
        assert code == 5
        assert "Traceback" not in err


def test_unknown_labels_in_the_test_data(files, fitted, run, tmp_path):
    with np.load(files / "data.npz") as archive:
        np.savez(tmp_path / "ants.npz", x=archive["x"][90:], y=np.full(30, "ant"))
    code, _, err = run("evaluate", fitted, "--data", tmp_path / "ants.npz", "--test", 30)
    assert code == 5
    assert "ant" in err


def test_batches_of_predictions_agree_with_one(files, fitted, monkeypatch):
    with np.load(files / "images.npz") as archive:
        x = archive["x"].astype(np.float32) / 255
    estimator = load_fit(fitted)
    whole = predictions.predictions_of(estimator, x)
    monkeypatch.setattr(predictions, "BATCH", 7)
    parts = predictions.predictions_of(estimator, x)
    np.testing.assert_array_equal(whole["label"], parts["label"])
    np.testing.assert_allclose(whole["probability"], parts["probability"], atol=1e-5)


def test_a_model_that_rescales_gets_pixels_and_a_vector_model_vectors(run_json, tmp_path):
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.Sequential([layers.Rescaling(1 / 255.0)]),
            layers.Dense(4, activation="relu"),
            layers.Dense(10),
        ]
    )
    model.save(tmp_path / "mlp.keras")
    fit = ["fit", tmp_path / "mlp.keras", "--data", "sample", "--train", 50]
    code, document = run_json(*fit, "--out", tmp_path / "fit", "--noise-variance", 0.01)
    assert code == 0
    notes = " ".join(document["data"]["notes"])
    assert "flattened" in notes
    assert "kept in 0..255" in notes
    code, document = run_json("evaluate", tmp_path / "fit", "--data", "sample", "--test", 50)
    assert code == 0
    assert document["measures"]["error_rate"] < 0.6


def test_export(files, fitted, run, run_json, tmp_path):
    import tensorflow as tf

    out = tmp_path / "out"
    code, document = run_json("export", fitted, out)
    assert code == 0
    assert document["bytes"] == sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    with np.load(files / "images.npz") as archive:
        x = archive["x"].astype(np.float32) / 255
    found = tf.saved_model.load(str(out)).signatures["serving_default"](images=tf.constant(x))
    expected = load_fit(fitted).predictive(x)
    np.testing.assert_allclose(found["probability"], expected.probability, atol=1e-4)
    code, text, _ = run("export", fitted, out, "--no-variance")
    assert code == 0
    assert "wrote" in text
    assert "variance" not in json.loads((out / "predictor.json").read_text())["outputs"]
    assert run("export", fitted, files)[0] == 2
    assert run("export", tmp_path, out)[0] == 4
