"""HDF5 files of strangers: links that lead elsewhere, bombs, weights that do not fit."""

import contextlib
import json
import os
import shutil
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from older_files import write_h5, write_keras

from keras2gp.errors import ModelFileError
from keras2gp.modelfile import hdf5, sources
from keras2gp.modelfile.loading import load_model_file

KERNEL = "model_weights/a/a/kernel:0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sound file, of which every test changes a copy."""
    keras.backend.clear_session()
    start, a = keras.Input((3,), name="i"), layers.Dense(4, name="a")
    model = keras.Sequential(
        [start, a, layers.BatchNormalization(name="b"), layers.Dense(1, name="c")]
    )
    return write_h5(tmp_path_factory.mktemp("whole") / "m.h5", model)


@pytest.fixture
def saved(whole, tmp_path):
    shutil.copyfile(whole, tmp_path / "secret.h5")
    return shutil.copyfile(whole, tmp_path / "m.h5")


def put(file, value):
    del file[KERNEL]
    file[KERNEL] = value


def virtual(file):
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", KERNEL, (3, 4))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def external(file):
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 4), "f4", external=[("secret.bin", 0, 48)])


def bomb(file):
    """A terabyte of zeros in some kilobytes."""
    file.create_dataset("model_weights/z", (2**38,), "f4", chunks=(2**20,), compression="gzip")


def moved(file, link):
    del file["model_weights"]
    file["model_weights"] = link


def renamed(file, names):
    del file["model_weights/b"].attrs["weight_names"]
    file["model_weights/b"].attrs["weight_names"] = names
    for key in ("gamma", "beta", "moving_mean", "moving_variance"):
        group = file["model_weights/b/b"]
        group.move(f"{key}:0", f"w{key}")


def swapped(file):
    """Weights in another order are found by their names."""
    group = file["model_weights/b"]
    names = group.attrs["weight_names"]
    del group.attrs["weight_names"]
    group.attrs["weight_names"] = names[::-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: put(f, h5py.ExternalLink("secret.h5", KERNEL)), "link to another place"),
        (lambda f: put(f, h5py.SoftLink("/optimizer_weights/iteration")), "link to another place"),
        (lambda f: moved(f, h5py.ExternalLink("secret.h5", "model_weights")), "of its own"),
        (lambda f: moved(f, h5py.SoftLink("/optimizer_weights")), "of its own"),
        (lambda f: moved(f, np.ones(3)), "is no group"),
        (virtual, "numbers in another file"),
        (external, "numbers in another file"),
        (bomb, "declares more than"),
        (lambda f: put(f, np.array(["pickle", "me"], dtype=h5py.string_dtype())), "than numbers"),
        (lambda f: put(f, np.zeros((2, 2))), r"a/kernel is \(3, 4\), and in the file \(2, 2\)"),
        (lambda f: put(f, np.full((3, 4), np.nan)), "kernel is not finite"),
        (lambda f: f.__delitem__(KERNEL), "has 2 weights, and the file 1"),
        (lambda f: f.__delitem__("model_weights/a"), "holds none of the layer a"),
        (lambda f: f.__delitem__("model_weights"), "no model_weights"),
        (lambda f: renamed(f, [b"b/x", b"b/y", b"b/z", b"b/w"]), "have other names"),
        (lambda f: renamed(f, [b"/secret"] * 4), "have other names"),
        (lambda f: renamed(f, 3.0), "no list of names"),
        (lambda f: renamed(f, np.ones((2, 2))), "no list of names"),
    ],
)
def test_unsafe_or_unfit_weights(saved, change, words):
    with h5py.File(saved, "a") as file:
        change(file)
    assert load_model_file(saved, weights=False).model is not None
    with pytest.raises(ModelFileError, match=words) as caught:
        load_model_file(saved, weights=True)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def loop(file):
    file["model_weights/a/again"] = file["model_weights"]


@pytest.mark.parametrize("change", [swapped, lambda f: f.__delitem__("optimizer_weights")])
def test_names_say_which_weights_are_which(saved, change):
    expected = load_model_file(saved, weights=True).model.get_weights()
    with h5py.File(saved, "a") as file:
        change(file)
    for ours, theirs in zip(
        load_model_file(saved, weights=True).model.get_weights(), expected, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_loops_of_hard_links_end(saved):
    with h5py.File(saved, "a") as file:
        loop(file)
    with pytest.raises(ModelFileError, match="has 2 weights"):
        load_model_file(saved, weights=True)


def set_config(path, value, name="model_config", **how):
    with h5py.File(path, "a") as file:
        del file.attrs[name]
        file.attrs.create(name, value, **how)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"{", "not valid JSON"),
        (b"[1]", "is a list, not an object"),
        (b"\xff\xfe{", "not valid JSON"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "nested deeper"),
        (3.0, "model_config is no text"),
        (np.array([b"{}", b"{}"]), "model_config is no text"),
        (np.array([[b"{}"]]), "model_config is no text"),
        (b'{"class_name": "Net", "config": {}}', "holds a Net, not a Functional or Sequential"),
    ],
)
def test_configurations_that_are_none(saved, value, words):
    set_config(saved, value)
    with pytest.raises(ModelFileError, match=words) as caught:
        load_model_file(saved, weights=False)
    assert len(str(caught.value)) < 900


def test_a_configuration_larger_than_any_model(saved, monkeypatch):
    monkeypatch.setattr(sources, "CONFIG_LIMIT", 2**20)
    set_config(saved, b" " * (2**20 + 1))
    with pytest.raises(ModelFileError, match="model_config is larger than 1 MB"):
        load_model_file(saved, weights=False)


def test_many_names_that_are_one_piece_of_the_file(tmp_path, monkeypatch):
    """A list of texts may repeat one long text: 3 MB of file for terabytes of memory."""
    monkeypatch.setattr(hdf5, "_MOST_NAMES", 2**20)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        long = np.full(1000, "x" * 5000, dtype=object)
        file.create_dataset("d", data=np.zeros(2**18))
        file.attrs.create("names", long[:3], dtype=h5py.string_dtype())
        file.attrs.create("short", [b"a", b"b"])
        file.flush()
        tracemalloc.start()
        assert hdf5.names_of(file, "names") is None
        assert tracemalloc.get_traced_memory()[1] < 2**18
        tracemalloc.stop()


def test_long_lists_of_names_are_cut(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["names0"], file.attrs["names1"] = [b"a", b"b"], [b"c"]
        assert hdf5.names_of(file, "names") == ["a", "b", "c"]
        assert hdf5.names_of(file, "none") == []


@pytest.mark.parametrize("length", [9, 100, 1000, 0.5, 0.9, -1])
def test_truncated(saved, length):
    whole = saved.read_bytes()
    length = int(length * len(whole)) if isinstance(length, float) else length
    saved.write_bytes(whole[:length])
    with pytest.raises(ModelFileError, match="is damaged"):
        load_model_file(saved, weights=True)


def test_flipped_bytes_never_get_out_as_another_error(saved):
    """What is damaged is refused, or is a model."""
    whole, draw = saved.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for at in draw.integers(len(data), size=5):
            data[at] ^= int(draw.integers(1, 256))
        saved.write_bytes(data)
        with contextlib.suppress(ModelFileError):
            load_model_file(saved, weights=True)


def test_weights_that_the_file_does_not_hold_are_not_allocated(saved):
    with h5py.File(saved) as file:
        config = json.loads(file.attrs["model_config"])
    config["config"]["layers"][1]["config"]["units"] = 10**12
    set_config(saved, json.dumps(config).encode())
    assert load_model_file(saved, weights=False).model is not None
    with pytest.raises(ModelFileError, match=r"do not fit the model: it has .* TiB"):
        load_model_file(saved, weights=True)


def test_files_of_weights_alone(saved, tmp_path):
    model = load_model_file(saved, weights=True).model
    model.save_weights(tmp_path / "w.weights.h5")
    with h5py.File(saved, "a") as file:
        del file.attrs["model_config"]
    for path in (tmp_path / "w.weights.h5", saved):
        with pytest.raises(ModelFileError, match=rf"weights only.*load_weights\('{path.name}'"):
            load_model_file(path, weights=False)


def test_kernels_of_theano_are_refused(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(2, 3)])
    write_h5(tmp_path / "m.h5", model)
    set_config(tmp_path / "m.h5", b"theano", "backend")
    assert load_model_file(tmp_path / "m.h5", weights=False).model is not None
    with pytest.raises(ModelFileError, match="Theano, which flips"):
        load_model_file(tmp_path / "m.h5", weights=True)


def adapted(tmp_path):
    keras.backend.clear_session()
    normalization = layers.Normalization(name="n")
    normalization.adapt(np.random.default_rng(2).uniform(5, 9, (50, 3)))
    model = keras.Sequential([keras.Input((3,)), normalization, layers.Dense(2, name="d")])
    return (
        normalization,
        write_h5(tmp_path / "m.h5", model),
        write_keras(tmp_path / "m.keras", model),
    )


def test_statistics_of_normalization_come_from_the_file(tmp_path):
    normalization, *paths = adapted(tmp_path)
    for path in paths:
        loaded = load_model_file(path, weights=False).model.layers[0]
        np.testing.assert_array_equal(loaded.mean, normalization.mean)
        np.testing.assert_array_equal(loaded.variance, normalization.variance)


def replaced(path, change):
    """A Keras 2 archive with its weights changed."""
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    weights = path.with_suffix(".changed.h5")
    weights.write_bytes(members["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        change(file)
    with zipfile.ZipFile(path, "w") as target:
        for name, content in (members | {"model.weights.h5": weights.read_bytes()}).items():
            target.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.__delitem__("layers"), "none of the layers"),
        (lambda f: f["layers"].__delitem__("dense"), "none of the layer d"),
        (lambda f: f["layers/dense/vars"].__delitem__("1"), "has 2 weights, and the file 1"),
        (lambda f: f["layers/dense/vars"].move("1", "x"), "bias is missing"),
        (lambda f: f.__setitem__("layers/dense_9/vars/0", 1.0), "weights of other layers"),
        (lambda f: f.__setitem__("layers/x", h5py.ExternalLink("a.h5", "b")), "another place"),
    ],
)
def test_unfit_weights_in_archives_of_keras_2(tmp_path, change, words):
    _, _, path = adapted(tmp_path)
    with pytest.raises(ModelFileError, match=words):
        load_model_file(replaced(path, change), weights=True)


def test_directories_of_unzipped_files(tmp_path):
    keras.backend.clear_session()
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="d")])
    folder = tmp_path / "model"
    keras.saving.save_model(model, folder, zipped=False)
    for ours, theirs in zip(
        load_model_file(folder, weights=True).model.get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    config = folder / "config.json"
    config.rename(tmp_path / "elsewhere.json")
    config.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_model_file(folder, weights=False)
    config.unlink()
    os.mkfifo(config)
    with pytest.raises(ModelFileError, match="not a regular file"):
        load_model_file(folder, weights=False)
    config.unlink()
    (tmp_path / "elsewhere.json").rename(config)
    (folder / "model.weights.h5").unlink()
    assert load_model_file(folder, weights=False).model is not None
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_model_file(folder, weights=True)
