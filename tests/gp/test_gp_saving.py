"""Fitted estimators on disk: round trips, damage of every file, and kernels that do not fit."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from gp_kernels import Frame, ImageKernel, images

from keras2gp._util import memory
from keras2gp._util.digest import with_digest
from keras2gp.errors import InputError, ModelFileError, NotFittedError, NumericalError, StoreError
from keras2gp.gp import GPClassifier, GPRegressor, load_head, save_head

KERNEL = ImageKernel(2.0)
LABELS = {
    "strings": np.array(["b", "aa", "c"] * 8),
    "integers": np.array([3, -1, 2] * 8, dtype=np.int32),
    "unsigned": np.array([3, 1, 2] * 8, dtype=np.uint8),
    "booleans": np.array([True, False, True] * 8),
    "floats": np.array([1.0, 2.0, 3.0] * 8),
    "objects": np.array(["b", "aa", "c"] * 8, dtype=object),
}


def classifier(labels="strings", **settings):
    return GPClassifier(
        KERNEL, **{"noise_variance": 0.0, "probabilities": "temperature", **settings}
    ).fit(images(24), LABELS[labels])


@pytest.mark.parametrize(
    ("labels", "how"),
    [
        *((name, "linear") for name in LABELS),
        ("strings", "temperature"),
        ("strings", "largest"),
    ],
)
def test_classifier_round_trip(tmp_path, labels, how):
    before = classifier(labels, noise_variance=0.2, jitter=1e-8, probabilities=how)
    save_head(before, tmp_path / "deep" / "head")
    after = load_head(tmp_path / "deep" / "head", KERNEL)
    test = images(6, seed=2)
    assert isinstance(after, GPClassifier)
    np.testing.assert_array_equal(after.predict_proba(test), before.predict_proba(test))
    np.testing.assert_array_equal(after.predict(test), before.predict(test))
    assert after.predict(test).dtype == before.predict(test).dtype
    np.testing.assert_array_equal(after.leave_one_out()[0], before.leave_one_out()[0])
    assert after.get_params() == before.get_params()
    assert after.jitter_report_ == before.jitter_report_
    assert set(vars(after)) == set(vars(before))


@pytest.mark.parametrize("y", [np.arange(24.0), np.arange(24.0)[:, None], np.ones((24, 2))])
@pytest.mark.parametrize("flat", [False, True])
def test_regressor_round_trip(tmp_path, y, flat):
    x, test = images(24), images(6, seed=2)
    if flat:
        x, test = x.reshape(24, -1), test.reshape(6, -1)
    before = GPRegressor(KERNEL, 0.1, normalize_y=True).fit(x, y)
    save_head(before, tmp_path)
    after = load_head(tmp_path, KERNEL)
    for one, other in zip(
        after.predict(test, return_std=True), before.predict(test, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert after.log_marginal_likelihood_value_ == before.log_marginal_likelihood_value_
    assert set(vars(after)) == set(vars(before))


def test_precomputed_round_trip(tmp_path):
    x, test = images(24), images(6, seed=2)
    before = GPRegressor("precomputed", 0.1).fit(np.asarray(KERNEL(x)), np.arange(24.0))
    save_head(before, tmp_path)
    assert not (tmp_path / "x_train.npy").exists()
    after = load_head(tmp_path, "precomputed")
    cross = np.asarray(KERNEL(test, x))
    np.testing.assert_array_equal(after.predict(cross), before.predict(cross))
    with pytest.raises(ModelFileError, match="fitted with kernel='precomputed'"):
        load_head(tmp_path, KERNEL)


def test_files_are_as_documented(tmp_path):
    before = classifier()
    save_head(before, tmp_path)
    names = {"x_train.npy", "y.npy", "alpha.npy", "factor.npy", "head.json"}
    assert {p.name for p in tmp_path.iterdir()} == names
    np.testing.assert_array_equal(np.load(tmp_path / "x_train.npy"), images(24))
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), before.targets_)
    head = json.loads((tmp_path / "head.json").read_text(encoding="utf-8"))
    assert head["class"] == "GPClassifier"
    assert head["classes"]["values"] == ["aa", "b", "c"]
    assert head["parameters"] == {
        "noise_variance": 0.0,
        "jitter": "auto",
        "precomputed": False,
        "solver": {"name": "auto"},
        "probabilities": "temperature",
        "labels": "means",
        "class_weight": None,
        "missing": "refuse",
        "intercept": "auto",
    }
    assert head["temperature"] == before.temperature_
    assert head["jitter_report"]["steps"][0]["jitter"] == 0.0


def test_saving_again_replaces(tmp_path):
    save_head(classifier(), tmp_path)
    x = images(10, seed=8)
    save_head(GPRegressor(KERNEL, 0.1).fit(x, np.arange(10.0)), tmp_path)
    assert isinstance(load_head(tmp_path, KERNEL), GPRegressor)


@pytest.mark.parametrize("dying", range(5))
def test_a_killed_save_leaves_the_old_one_or_is_found_out(tmp_path, monkeypatch, dying):
    save_head(classifier(), tmp_path)
    sync, calls = os.fsync, []

    def fsync(handle):
        calls.append(handle)
        if len(calls) > dying:
            raise KeyboardInterrupt
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        save_head(classifier("integers"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 5
    assert load_head(tmp_path, KERNEL).classes_.tolist() == ["aa", "b", "c"]


def test_a_mixture_of_two_saves_is_found_out(tmp_path):
    save_head(classifier(), tmp_path)
    alpha = (tmp_path / "alpha.npy").read_bytes()
    save_head(classifier("strings", noise_variance=0.5), tmp_path)
    (tmp_path / "alpha.npy").write_bytes(alpha)
    with pytest.raises(ModelFileError, match=r"alpha\.npy is damaged, or of another save"):
        load_head(tmp_path, KERNEL)


@pytest.mark.parametrize("name", ["x_train.npy", "y.npy", "alpha.npy", "factor.npy", "head.json"])
def test_damage_of_each_file(tmp_path, name):
    save_head(classifier(), tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) * 3 // 4] ^= 0x11
    damages = [b"", content[:50], content[:-2], content + b"x", b"\0" * len(content), b"PK\3\4"]
    if name != "head.json":
        damages.append(bytes(flipped))
    for damage in damages:
        path.write_bytes(damage)
        with pytest.raises(ModelFileError, match=name):
            load_head(tmp_path, KERNEL)
    path.unlink()
    with pytest.raises(ModelFileError, match=f"{name} is missing"):
        load_head(tmp_path, KERNEL)


@pytest.mark.parametrize("name", ["y.npy", "factor.npy", "head.json"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_pipes_and_directories_in_place_of_files(tmp_path, name, make):
    save_head(classifier(), tmp_path)
    (tmp_path / name).unlink()
    make(tmp_path / name)
    with pytest.raises(ModelFileError, match=f"{name} is .*no file"):
        load_head(tmp_path, KERNEL)


def test_memory_is_compared_before_a_file_is_read(tmp_path, monkeypatch):
    save_head(classifier(), tmp_path)
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 100)
    with pytest.raises(ModelFileError, match="of memory and 100 bytes is available"):
        load_head(tmp_path, KERNEL)


def changed(head, place, value):
    *parents, last = place
    for key in parents:
        head = head[key]
    if value is KeyError:
        del head[last]
    else:
        head[last] = value


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), "other"),
        (("version",), 2),
        (("class",), "Popen"),
        (("class",), ["GPClassifier"]),
        (("class",), "GPRegressor"),
        (("parameters",), KeyError),
        (("parameters",), []),
        (("parameters", "noise_variance"), -1.0),
        (("parameters", "noise_variance"), "much"),
        (("parameters", "jitter"), None),
        (("parameters", "precomputed"), True),
        (("parameters", "solver"), {"name": "magic"}),
        (("parameters", "solver"), {"name": "cg", "settings": {"tolerance": 2.0}}),
        (("parameters", "solver"), {"name": "cg", "settings": {"surprise": 2.0}}),
        (("solver_report",), KeyError),
        (("solver_report", "solver"), "magic"),
        (("solver_report", "solver"), "nystroem"),
        (("solver_report", "seconds"), "long"),
        (("parameters", "surprise"), 1),
        (("parameters", "probabilities"), "largest"),
        (("parameters", "probabilities"), "hope"),
        (("parameters", "probabilities"), []),
        (("parameters", "probabilities"), "dirichlet"),
        (("parameters", "probabilities"), "linear"),
        (("parameters", "labels"), "hope"),
        (("parameters", "labels"), "probabilities"),
        (("linear_map",), {"temperature": 1.0}),
        (("dirichlet",), KeyError),
        (("dirichlet",), {"concentration": 1.0, "scale": 1.0}),
        (("temperature",), KeyError),
        (("temperature",), None),
        (("temperature",), -1.0),
        (("temperature",), "high"),
        (("arrays",), None),
        (("arrays", "x_train.npy"), KeyError),
        (("arrays", "y.npy", "shape"), [24]),
        (("arrays", "y.npy", "crc32"), 0),
        (("input_shape",), [3, 3]),
        (("input_shape",), ["a"]),
        (("kernel_dtype",), "int64"),
        (("kernel_dtype",), {}),
        (("log_marginal_likelihood",), "high"),
        (("classes",), KeyError),
        (("classes", "values"), ["a", "b"]),
        (("classes", "values"), ["a", "a", "b"]),
        (("classes", "values"), [1, 2, 3]),
        (("classes", "values"), "abc"),
        (("classes", "dtype"), "V8"),
        (("classes", "dtype"), "nonsense"),
    ],
)
def test_malformed_heads(tmp_path, place, value):
    save_head(classifier(), tmp_path)
    path = tmp_path / "head.json"
    head = json.loads(path.read_text(encoding="utf-8"))
    changed(head, place, value)
    # With a digest that fits: what is wrong is found, and not that it was changed.
    path.write_text(json.dumps(with_digest(head)), encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"^((?!digest).)*$"):
        load_head(tmp_path, KERNEL)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("temperature",), 0.5),
        (("classes", "values"), ["c", "b", "aa"]),
        (("parameters", "noise_variance"), 0.7),
        (("kernel_dtype",), "float32"),
        (("digest",), KeyError),
        (("digest",), "sha256:0"),
    ],
)
def test_a_changed_head_is_refused(tmp_path, place, value):
    save_head(classifier(), tmp_path)
    path = tmp_path / "head.json"
    head = json.loads(path.read_text(encoding="utf-8"))
    changed(head, place, value)
    path.write_text(json.dumps(head), encoding="utf-8")
    with pytest.raises(ModelFileError, match="digest differs"):
        load_head(tmp_path, KERNEL)


def test_names_of_columns_are_kept(tmp_path):
    x = Frame(images(24).reshape(24, -1), "abcdefghi")
    save_head(GPRegressor(KERNEL, 0.1).fit(x, np.arange(24.0)), tmp_path)
    after = load_head(tmp_path, KERNEL)
    assert after.feature_names_in_.tolist() == list("abcdefghi")
    with pytest.raises(InputError, match="same order"):
        after.predict(Frame(x.values, "bacdefghi"))


@pytest.mark.parametrize("text", ["[]", "3", "{", "[" * 100_000, '{"format": NaN}', "\ud800"])
def test_heads_that_are_no_objects(tmp_path, text):
    (tmp_path / "head.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelFileError, match=r"head\.json"):
        load_head(tmp_path, KERNEL)


def test_a_full_disk_is_not_taken_for_another_kernel(tmp_path):
    class Full(ImageKernel):
        def __call__(self, *arguments):
            raise StoreError("TensorFlow cannot write a compiled program")

    save_head(classifier(noise_variance=0.3), tmp_path)
    with pytest.raises(StoreError, match=r"^TensorFlow cannot write"):
        load_head(tmp_path, Full(2.0))


def test_a_kernel_that_fails_is_not_taken_for_another(tmp_path):
    class Overflowing(ImageKernel):
        def __call__(self, *arguments):
            raise NumericalError("variances grow beyond float32")

    save_head(classifier(noise_variance=0.3), tmp_path)
    told = r"cannot be computed, so that .* not known .* fit: variances grow beyond float32"
    with pytest.raises(NumericalError, match=told):
        load_head(tmp_path, Overflowing(2.0))


def test_another_kernel_is_refused(tmp_path):
    save_head(classifier(noise_variance=0.3), tmp_path)
    load_head(tmp_path, ImageKernel(2.0, dtype="float32"))
    for kernel in (ImageKernel(2.1), ImageKernel(2.0, variance=2.01)):
        with pytest.raises(ModelFileError, match="not the one of the fit"):
            load_head(tmp_path, kernel)
    with pytest.raises(ModelFileError, match="fitted with a kernel"):
        load_head(tmp_path, "precomputed")
    with pytest.raises(InputError, match="kernel is None"):
        load_head(tmp_path, None)


def test_jitter_is_taken_into_account_by_the_kernel_check(tmp_path):
    x = np.concatenate([images(4), images(4)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_head(GPRegressor(KERNEL).fit(x, np.ones(8)), tmp_path)
    assert load_head(tmp_path, KERNEL).jitter_report_.jitter == 1e-10


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(NotFittedError, match="not fitted"):
        save_head(GPClassifier(KERNEL), tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelFileError, match="cannot be written"):
        save_head(classifier(), tmp_path / "file")
    dates = np.array(["2020-01-01", "2021-01-01"] * 12, dtype="datetime64[D]")
    before = classifier()
    before.classes_ = np.unique(dates)
    with pytest.raises(InputError, match="cannot be saved"):
        save_head(before, tmp_path / "dates")


OLD = Path(__file__).parent / "fits_of_0.1.0"


@pytest.mark.parametrize(
    ("name", "expected"), json.loads((OLD / "predictions.json").read_text()).items()
)
def test_fits_of_the_first_release_load(name, expected):
    fit, test = load_head(OLD / name, KERNEL), images(3, seed=2, shape=(2, 2, 1))
    predict = fit.predict_proba if isinstance(fit, GPClassifier) else fit.predict
    np.testing.assert_allclose(predict(test), expected, rtol=1e-12)
    assert np.isfinite(fit.leave_one_out()[1]).all()
