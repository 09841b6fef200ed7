"""Data sources: what they give, and what they say about what cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras2gp.data.datasets import Dataset
from keras2gp.data.images import prepare_images
from keras2gp.data.loading import load
from keras2gp.errors import DataError, InputError

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "tensorflow_datasets"
SHAPE = (4, 3, 1)


def pixels(n, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def labels(n):
    return np.arange(n, dtype=np.uint8) % 10


NAN = pixels(5).astype(np.float32)
NAN[3, 1, 2, 0] = np.nan


def prepared_mnist():
    folder = Path(os.environ.get("TFDS_DATA_DIR", SHARED))
    return folder if (folder / "mnist").is_dir() else None


# --- the embedded sample ---


def test_sample():
    data = load("sample")
    assert (data.x_train.shape, data.x_test.shape) == ((4000, 28, 28, 1), (2000, 28, 28, 1))
    assert data.x_train.dtype == np.uint8
    assert data.y_train.dtype == np.int64
    for y in (data.y_train, data.y_test):
        assert (np.sort(y.reshape(-1, 10), axis=1) == np.arange(10)).all()  # any prefix is balanced
    assert 0.15 < (data.x_train > 0).mean() < 0.25
    both = np.concatenate([data.x_train, data.x_test]).reshape(6000, -1)
    assert len(np.unique(both, axis=0)) == 6000


def test_sample_is_small_and_licensed():
    folder = ROOT / "keras2gp" / "data" / "sample"
    assert (folder / "mnist_sample.npz").stat().st_size < 1_000_000
    licence = (folder / "LICENSE.txt").read_text(encoding="utf-8")
    assert "Yann LeCun and Corinna Cortes" in licence
    assert "CC BY-SA 3.0" in licence


def test_import_is_light():
    code = (
        "import sys, keras2gp.data.loading; keras2gp.data.loading.load('sample'); "
        "heavy = {'tensorflow', 'keras', 'scipy', 'sklearn', 'tensorflow_datasets'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)  # noqa: S603 (our own code)
    assert run.returncode == 0


# --- split ---


def whole(n=10):
    return Dataset("mine", pixels(n), labels(n))


def with_test(n=10, m=6):
    return Dataset("mine", pixels(n), labels(n), pixels(m, seed=1), labels(m), ("a note",))


def test_split_without_a_test_split():
    data = whole().split(6, 4)
    np.testing.assert_array_equal(data.y_train, range(6))
    np.testing.assert_array_equal(data.y_test, range(6, 10))
    np.testing.assert_array_equal(data.x_test, whole().x_train[6:])
    assert "last 4 rows of 10" in data.notes[-1]


def test_split_with_a_test_split():
    data = with_test().split(10, 3)
    np.testing.assert_array_equal(data.x_train, pixels(10))
    np.testing.assert_array_equal(data.x_test, pixels(6, seed=1)[:3])
    assert data.notes == ("a note",)


@pytest.mark.parametrize("data", [whole(), with_test()])
def test_split_takes_none(data):
    assert len(data.split(0, 5).x_train) == 0
    assert len(data.split(5, 0).x_test) == 0
    assert len(data.split(5, 0).y_test) == 0


@pytest.mark.parametrize(
    ("data", "n_train", "n_test", "says"),
    [
        (whole(), 7, 4, "10 and no test split.*overlap"),
        (whole(), 11, 0, "11 rows to train on were asked for; it has 10$"),
        (with_test(), 11, 1, "11 rows to train on.*has 10"),
        (with_test(), 1, 7, "7 rows to test on.*has 6"),
        (whole(), -1, 2, "n_train=-1: expected a whole number"),
        (whole(), 2, 1.5, "n_test=1.5: expected a whole number"),
        (whole(), True, 2, "n_train=True: expected a whole number"),
    ],
)
def test_split_refuses(data, n_train, n_test, says):
    with pytest.raises(DataError, match=says):
        data.split(n_train, n_test)


# --- other sources ---


@pytest.mark.parametrize("source", ["", "nowhere", "nowhere/d.npz", "x" * 5000, "a\0b", "Sample"])
def test_unknown_source(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"tfds:NAME|without data"):
        load(source)


def test_a_single_number_is_no_row(tmp_path):
    path = tmp_path / "d.npz"
    for x, y, name in ((np.ones((2, 3)), 1.0, "y_train"), (1.0, 1.0, "x_train")):
        np.savez(path, x=x, y=y)
        for maps in (False, True):
            with pytest.raises(DataError, match=rf"{name}: shape \(\), expected \[N"):
                load(str(path), maps=maps)


def test_file_of_another_kind(tmp_path):
    path = tmp_path / "d.tsv"
    path.write_text("1,2\n")
    with pytest.raises(DataError, match=r"neither an \.npz archive"):
        load(str(path))
    path.rename(tmp_path / "d.npz")
    with pytest.raises(DataError, match="not a complete zip file"):
        load(str(tmp_path / "d.npz"))


# --- tensorflow_datasets ---


@pytest.fixture
def tfds():
    return pytest.importorskip("tensorflow_datasets")


def test_tfds_mocked(tfds, tmp_path):
    with tfds.testing.mock_data(num_examples=7, data_dir=str(tmp_path)):
        data = load("tfds:mnist")
    assert (data.x_train.shape, data.x_test.shape) == ((7, 28, 28, 1), (7, 28, 28, 1))
    assert (data.x_train.dtype, data.y_train.dtype) == (np.uint8, np.int64)
    assert data.notes == ("read mnist/3.0.1",)


def test_tfds_without_a_test_split(tfds, tmp_path):
    folder = tmp_path / "mnist" / "3.0.1"
    builder = tfds.builder("mnist", data_dir=str(tmp_path))
    train = tfds.core.SplitInfo(name="train", shard_lengths=[7], num_bytes=7)
    builder.info.set_splits(tfds.core.SplitDict([train]))
    builder.info.set_file_format("tfrecord")
    folder.mkdir(parents=True)
    builder.info.write_to_directory(folder)
    with tfds.testing.mock_data(num_examples=7, data_dir=str(tmp_path)):
        data = load("tfds:mnist")
    assert data.x_train.shape == (7, 28, 28, 1)
    assert data.x_test is None
    assert len(data.split(4, 3).x_test) == 3


def test_tfds_varying_shapes(tfds, tmp_path):
    with (
        tfds.testing.mock_data(num_examples=2, data_dir=str(tmp_path)),
        pytest.raises(DataError, match="rows differ in shape"),
    ):
        load("tfds:oxford_flowers102")


def test_tfds_not_prepared(tfds, tmp_path, monkeypatch):
    builder = tfds.builder("fashion_mnist", data_dir=str(tmp_path))
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    with pytest.raises(DataError, match=r"not prepared.*TFDS_DATA_DIR.*--download"):
        load("tfds:fashion_mnist")


@pytest.mark.parametrize("download", [False, True])
def test_tfds_downloads_only_when_asked(tfds, tmp_path, monkeypatch, download):
    calls = []
    builder = tfds.builder("fashion_mnist", data_dir=str(tmp_path))

    def fail():
        calls.append("download")
        raise ConnectionError("no network\nmore")

    monkeypatch.setattr(builder, "download_and_prepare", fail)
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    says = "tensorflow_datasets says: no network more$" if download else "not prepared"
    with pytest.raises(DataError, match=says):
        load("tfds:fashion_mnist", download=download)
    assert calls == (["download"] if download else [])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "Parsing builder name"),
        ("no_such_data", r"no data set 'no_such_data'\. Try: a name of its catalogue"),
        ("mnits/a:1.0.0", r"no data set 'mnits'\. Did you mean tfds:mnist\?$"),
        ("mnist:9.9.9", "cannot be loaded at version"),
        ("../mnist", "Parsing builder name"),
        ("glue", "image and label"),
    ],
)
def test_tfds_refuses(tfds, name, says):
    with pytest.raises(DataError, match=says):
        load(f"tfds:{name}")


def test_tfds_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match="pip install"):
        load("tfds:mnist")


@pytest.mark.skipif(prepared_mnist() is None, reason="MNIST is not prepared: set TFDS_DATA_DIR")
def test_real_mnist(tfds, monkeypatch):
    builder = tfds.builder("mnist", data_dir=str(prepared_mnist()))
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    mnist, sample = load("tfds:mnist"), load("sample")
    assert (mnist.x_train.shape, mnist.x_test.shape) == ((60000, 28, 28, 1), (10000, 28, 28, 1))
    for pair in ("train", "test"):
        labels = {
            image.tobytes(): label
            for image, label in zip(
                getattr(mnist, f"x_{pair}"), getattr(mnist, f"y_{pair}"), strict=True
            )
        }
        drawn = zip(getattr(sample, f"x_{pair}"), getattr(sample, f"y_{pair}"), strict=True)
        assert all(labels[image.tobytes()] == label for image, label in drawn)


# --- prepare_images ---


def test_uint8_is_scaled():
    x, notes = prepare_images(pixels(5), model_rescales=False, sample_shape=SHAPE)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, pixels(5).astype(np.float32) / np.float32(255))
    assert notes == ["uint8 pixels divided by 255, to [0, 1]"]


def test_uint8_is_left_to_a_model_that_rescales():
    x, notes = prepare_images(pixels(5), model_rescales=True, sample_shape=SHAPE)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, pixels(5))
    assert "model rescales them itself" in notes[0]


def test_channel_axis_is_added():
    x, notes = prepare_images(pixels(5, (4, 3)), model_rescales=False, sample_shape=SHAPE)
    assert x.shape == (5, *SHAPE)
    assert "channel axis" in notes[0]
    assert "255" in notes[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_are_kept(dtype):
    x = pixels(5).astype(dtype)
    kept, notes = prepare_images(x, model_rescales=False, sample_shape=SHAPE)
    assert kept is x
    assert notes == []


@pytest.mark.parametrize(
    ("x", "gives"),
    [
        (pixels(2).astype(np.int64), np.float32),
        (pixels(2) > 100, np.float32),
        (pixels(2).astype(np.float16), np.float32),
        (pixels(2).astype(np.int64) << 40, np.float64),
    ],
)
def test_other_numbers_are_cast(x, gives):
    cast, notes = prepare_images(x, model_rescales=False, sample_shape=SHAPE)
    assert cast.dtype == gives
    np.testing.assert_array_equal(cast, x)
    assert notes == [f"{x.dtype} values cast to {np.dtype(gives)}, not scaled"]


@pytest.mark.parametrize(
    ("x", "shape", "says"),
    [
        (pixels(2), (3, 4, 1), r"received shape \(2, 4, 3, 1\).*expected \(N, 3, 4, 1\)"),
        (pixels(2, (4, 3)), (4, 3, 3), r"received shape \(2, 4, 3\).*expected \(N, 4, 3, 3\)"),
        (pixels(0), SHAPE, "there are none"),
        (np.float32(1), SHAPE, "there are none"),
        (NAN, SHAPE, r"1 of 60 values are NaN or infinite, first at \(3, 1, 2, 0\)"),
        (np.full_like(NAN, -np.inf), SHAPE, "60 of 60 values"),
        (pixels(2) * 1j, SHAPE, "complex128"),
        (pixels(2).astype(object), SHAPE, "object"),
        (pixels(2).astype(str), SHAPE, "<U3"),
    ],
)
def test_prepare_images_refuses(x, shape, says):
    with pytest.raises(InputError, match=says):
        prepare_images(x, model_rescales=False, sample_shape=shape)


def test_integers_that_float64_does_not_hold():
    x = np.full((3, 4), 2**53, "int64")
    images, _ = prepare_images(x, model_rescales=False, sample_shape=(4,))
    assert images.dtype == np.float64
    with pytest.raises(InputError, match=r"loses the last digits.*offset"):
        prepare_images(x + 1, model_rescales=False, sample_shape=(4,))


def test_labels_that_are_no_text(tmp_path):
    """A folder's name may be any bytes, and no file of predictions holds half a character."""
    np.savez(tmp_path / "d.npz", x=np.ones((2, 3)), y=np.array(["a", "\udcff"]))
    with pytest.raises(DataError, match=r"the label '\\udcff' is no text in UTF-8\. Try: another"):
        load(str(tmp_path / "d.npz"))
