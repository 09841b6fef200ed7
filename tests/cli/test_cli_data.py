"""Data of the command: images in folders, .npy files, shuffled rows, kept kernels, dry runs."""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from keras2gp.cli.commands import predict as predicting
from keras2gp.cli.predictions import load_fit


@pytest.fixture(scope="module")
def folders(files, tmp_path_factory):
    """The first 90 images of data.npz: a folder for each class, and sorted.npz, by class."""
    root = tmp_path_factory.mktemp("images")
    with np.load(files / "data.npz") as archive:
        x, y = archive["x"][:90], archive["y"][:90]
    for i, (pixels, label) in enumerate(zip(x, y, strict=True)):
        (root / "by-class" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[:, :, 0]).save(root / "by-class" / str(label) / f"{i:03}.png")
    order = np.argsort(y, kind="stable")
    np.savez(root / "sorted.npz", x=x[order], y=y[order])
    np.save(root / "x.npy", x)
    np.save(root / "y.npy", y)
    np.save(root / "new.npy", x[:7])
    return root


def fit(files, data, out, *more):
    words = ["fit", files / "tiny.keras", "--data", data, "--train", 60, "--out", out]
    return [*words, "--noise-variance", 0.1, *more]


@pytest.mark.slow
def test_images_in_folders_from_fit_to_predictions(files, folders, run_json, tmp_path):
    code, document = run_json(*fit(files, folders / "by-class", tmp_path / "fit"))
    assert code == 0
    assert document["warnings"] == []
    assert any("90 images of 3 classes" in note for note in document["data"]["notes"])
    code, document = run_json(
        "evaluate", tmp_path / "fit", "--data", folders / "by-class", "--test", 30
    )
    assert (code, document["data"]["rows"]) == (0, 30)
    plain = folders / "by-class" / "cat"
    out = tmp_path / "p.npz"
    code, document = run_json("predict", tmp_path / "fit", "--data", plain, "--out", out)
    assert document["rows"] == len(list(plain.iterdir()))
    for data, limit, rows in ((folders / "new.npy", 3, 3), (folders / "new.npy", 100, 7)):
        words = ["predict", tmp_path / "fit", "--data", data, "--out", out, "--limit", limit]
        code, document = run_json(*words)
        assert (code, document["rows"]) == (0, rows)


def test_the_first_rows_may_miss_a_class(files, folders, run, run_json, tmp_path):
    words = fit(files, folders / "sorted.npz", tmp_path / "fit")
    words[words.index(60)] = 40
    code, document = run_json(*words)
    assert code == 0
    assert "hold 2 of the 3 classes" in document["warnings"][0]
    assert "none is of 'owl', which are never predicted" in document["warnings"][0]
    code, out, _ = run(*words)
    assert "hold 2 of the 3 classes" in " ".join(out.split())
    words[words.index(40)] = 10
    code, _, err = run(*words)
    assert code == 5
    assert "Try: --shuffle" in err


@pytest.mark.slow
def test_shuffled_rows(files, folders, run, run_json, tmp_path):
    data = folders / "sorted.npz"
    code, document = run_json(*fit(files, data, tmp_path / "fit", "--shuffle", 3))
    assert (code, document["warnings"]) == (0, [])
    assert document["data"]["shuffle"] == 3
    with np.load(data) as archive:
        x = archive["x"]
    order = np.random.RandomState(3).permutation(90)
    estimator = load_fit(tmp_path / "fit")
    np.testing.assert_allclose(estimator.x_train_, x[order[:60]] / np.float32(255))
    code, document = run_json("evaluate", tmp_path / "fit", "--data", data, "--test", 30)
    assert "its last 30 rows of 90, in that order, are tested on" in str(document["data"])
    assert (code, document["warnings"]) == (0, [])  # none is a training image, and none changed
    code, _, err = run("evaluate", tmp_path / "fit", "--data", data, "--test", 31)
    assert code == 5
    assert "overlap" in err
    store = tmp_path / "K.zarr"
    words = ["gram", files / "tiny.keras", "--data", data, "--rows", 60, "--out", store]
    assert run(*words, "--shuffle", 3)[0] == 0
    assert run(*fit(files, data, tmp_path / "fit", "--shuffle", 3, "--gram", store))[0] == 0
    assert run(*fit(files, data, tmp_path / "fit", "--shuffle", 4, "--gram", store))[0] == 7
    assert run(*fit(files, data, tmp_path / "fit", "--shuffle", -1))[0] == 2
    code, document = run_json(*fit(files, data, tmp_path / "fit", "--shuffle"))
    assert document["data"]["shuffle"] == 0


@pytest.mark.slow
def test_the_tangent_kernel(files, folders, run, run_json, tmp_path):
    code, _ = run_json(*fit(files, folders, tmp_path / "fit", "--kind", "ntk"))
    assert code == 0
    kernel = load_fit(tmp_path / "fit").kernel
    assert kernel.kind == "ntk"
    assert run("convert", files / "tiny.keras", tmp_path / "k", "--kind", "ntk")[0] == 0
    words = fit(files, folders, tmp_path / "fit", "--kind", "nngp")
    words[1] = tmp_path / "k"
    code, _, err = run(*words)
    assert code == 2
    assert "--kind" in err


@pytest.mark.slow
def test_a_dry_run_writes_nothing(files, folders, run, run_json, tmp_path):
    words = fit(files, folders, tmp_path / "fit", "--dry-run")
    code, document = run_json(*words)
    assert code == 0
    plan = document["plan"]
    assert plan["estimate"]["pairs"] == 60 * 61 / 2
    assert plan["solver"]["name"] == "cholesky"
    assert plan["kernel_seconds"] > 0 < plan["factor_seconds"]
    assert not list(tmp_path.iterdir())
    code, out, _ = run(*words, "--solver", "cg", "--gram", tmp_path / "K.zarr")
    assert code == 0
    for text in ("kernel", "memory", "solver", "disk", "nothing is written"):
        assert text in out
    projected = ("--solver", "projected", "--rank", 20)
    for more in ((), ("--gram", tmp_path / "K.zarr")):
        plan = run_json(*words, *projected, *more)[1]["plan"]
        assert (plan["solver"]["name"], plan["estimate"]["pairs"]) == ("projected", 60 * 20)
    assert not list(tmp_path.iterdir())
    words[words.index(60)] = 1000
    assert run(*words)[0] == 5


@pytest.mark.slow
def test_a_kept_kernel_is_read_and_never_believed(files, folders, run_json, tmp_path):
    fitted, data = tmp_path / "fit", folders
    assert run_json(*fit(files, data, fitted))[0] == 0
    evaluate = ["evaluate", fitted, "--data", data, "--test", 30]
    code, plain = run_json(*evaluate)
    assert plain["kept"] == {"read": 0, "written": 0, "damaged": 0}
    assert not (fitted / "cross").exists()
    code, first = run_json(*evaluate, "--keep")
    assert (code, first["kept"]) == (0, {"read": 0, "written": 30, "damaged": 0})
    code, second = run_json(*evaluate)
    assert second["kept"] == {"read": 30, "written": 0, "damaged": 0}
    assert plain["measures"] == first["measures"] == second["measures"]
    picture = ["plot", "reliability", fitted, "--data", data, "--test", 30]
    assert run_json(*picture, "--out", tmp_path / "p.png")[0] == 0
    (file,) = (fitted / "cross").glob("*.npy")
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    code, third = run_json(*evaluate, "--keep")
    assert third["kept"] == {"read": 0, "written": 30, "damaged": 30}
    assert third["measures"] == first["measures"]
    assert run_json(*evaluate)[1]["kept"]["read"] == 30
    assert run_json(*fit(files, data, fitted))[0] == 0  # all files of a fit may be replaced
    assert not (fitted / "cross").exists()


def test_what_is_kept_is_compared_with_the_disk_before_any_work(
    files, fitted, run, monkeypatch, tmp_path
):
    """All batches of all images count, but for those that are kept already; none is computed."""
    fit = tmp_path / "fit"
    shutil.copytree(fitted, fit)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).uniform(size=(1100, 6, 6, 1)))
    usage, free = shutil.disk_usage, 81 * 4 * 1100
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=free))
    words = ["--data", files / "data.npz", "--test", 40, "--keep"]
    assert run("evaluate", fit, *words)[0] == 0
    words += ["--ood", tmp_path / "x.npz"]
    predict = ("predict", fit, "--data", tmp_path / "x.npz", "--out", tmp_path / "p.csv", "--keep")
    # The 40 test rows are kept, so that as many images of --ood are all that is missing.
    free = 81 * 4 * 40 - 1
    with monkeypatch.context() as patched:
        patched.setattr(predicting, "predictions_of", None)
        for command in (("evaluate", fit, *words), predict):
            code, _, err = run(*command)
            assert code == 7
            assert "what --keep keeps needs" in err
            assert "Try: without --keep" in err
    free += 1
    assert run("evaluate", fit, *words)[0] == 0
    assert not (tmp_path / "p.csv").exists()
    kept = sum(np.load(file).nbytes for file in (fit / "cross").glob("*.npy"))
    assert kept == 81 * 4 * (40 + 40)


def test_names_in_capitals(files, fitted, run, tmp_path):
    """A file of a format is one whose suffix is in capitals, too."""
    for name in ("tiny.keras", "tiny.json", "data.npz"):
        shutil.copy(files / name, tmp_path / name.upper())
    keras.saving.load_model(files / "tiny.keras").save(tmp_path / "tiny.h5")
    (tmp_path / "tiny.h5").rename(tmp_path / "TINY.H5")
    for name in ("TINY.KERAS", "TINY.JSON", "TINY.H5"):
        assert run("inspect", tmp_path / name)[0] == 0, name
    data, model = tmp_path / "DATA.NPZ", tmp_path / "TINY.KERAS"
    for name in ("P.CSV", "P.Npz"):
        for _ in range(2):  # a file of predictions may be replaced
            assert run("predict", fitted, "--data", data, "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "P.CSV").read_text().startswith("row,label,")
    assert np.load(tmp_path / "P.Npz")["label"].shape == (120,)
    (tmp_path / "V.YAML").write_text("head: [2.0, 0.5]\n")
    assert run("convert", model, tmp_path / "k", "--overrides", tmp_path / "V.YAML")[0] == 0
    code, _, err = run("tune", model, "--data", data, "--train", 20, "--out", tmp_path / "V.YAML")
    assert (code, "V.YAML exists" in err) == (2, True)


STRANGE = {
    "a number": np.float64(3),
    "one image": np.zeros((6, 6, 1)),
    "no image": np.zeros((0, 6, 6, 1)),
    "NaN": np.full((3, 6, 6, 1), np.nan),
    "beyond float32": np.full((3, 6, 6, 1), 1e39),
    "complex": np.zeros((3, 6, 6, 1), complex),
    "words": np.full((3, 6, 6, 1), "a"),
    "dates": np.zeros((3, 6, 6, 1), "datetime64[s]"),
    "objects": np.full((3, 6, 6, 1), None),
}


@pytest.mark.parametrize("case", STRANGE)
def test_strange_images_from_elsewhere(case, files, fitted, run, tmp_path):
    np.savez(tmp_path / "strange.npz", x=STRANGE[case])
    data = ["--data", files / "data.npz", "--test", 20]
    code, out, err = run("evaluate", fitted, *data, "--ood", tmp_path / "strange.npz")
    assert (code, out) == (5, ""), err
    assert "strange.npz" in err
    if case == "a number":
        np.save(tmp_path / "strange.npy", STRANGE[case])
        words = ["predict", fitted, "--data", tmp_path / "strange.npy", "--out", tmp_path / "p.csv"]
        code, out, err = run(*words)
        assert (code, out) == (5, ""), err
        assert "shape (), expected [N, *shape]" in err
