"""Model files that are damaged, oversized, or hold weights that do not fit or point outside."""

import os
import struct
import zipfile

import h5py
import keras
import numpy as np
import pytest
from model_files import pack, sequential, write

import keras2gp
from keras2gp._util import memory
from keras2gp._util.files import staged_file
from keras2gp.errors import Keras2GPError, ModelFileError, StoreError
from keras2gp.modelfile import archive, sources
from keras2gp.modelfile.loading import load_model_file


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "m.keras"
    sequential().save(path)
    return path


@pytest.mark.parametrize("length", [0, 1, 4, 30, 100, 1000, 0.5, 0.9, -22, -1])
@pytest.mark.parametrize("weights", [True, False])
def test_truncated(saved, tmp_path, length, weights):
    whole = saved.read_bytes()
    length = int(length * len(whole)) if isinstance(length, float) else length
    path = tmp_path / "cut.keras"
    path.write_bytes(whole[:length])
    words = "is empty" if length == 0 else "zip archive|truncated or damaged"
    with pytest.raises(ModelFileError, match=words) as caught:
        load_model_file(path, weights=weights)
    assert str(path) in str(caught.value)


def test_flipped_bytes_are_found(saved, tmp_path):
    whole = bytearray(saved.read_bytes())
    at = whole.index(b'"Conv2D"')
    whole[at + 1] ^= 1
    path = tmp_path / "flipped.keras"
    path.write_bytes(whole)
    with pytest.raises(ModelFileError, match="CRC"):
        load_model_file(path, weights=False)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.h5", b"\x89HDF\r\n\x1a\n", "is damaged"),
        ("m.keras", b"\x89HDF\r\n\x1a\n", "is damaged"),
        ("m.keras", b"hello", "not a zip archive"),
        ("m.h5", b"hello", "not an HDF5 file"),
        ("m.txt", b"{}", "is read from a .keras, .h5 or .json file"),
        ("m.tflite", b"\x1c\0\0\0TFL3", r"compiled functions.*model\.save\('NAME\.keras'\)"),
        ("m.json", b'{"weight_map": {}}', "index of weights"),
        ("m.json", b'{"class_name": "Sequential", "keras_version": "1.2.2"}', "written by Keras 1"),
        ("m.json", b"", "not valid JSON"),
        ("m.json", b"{", "not valid JSON"),
        ("m.json", b"\xff\xfe", "not valid JSON"),
        ("m.json", b"[" * 200_000, "not valid JSON|nested deeper"),
        ("m.json", b'{"a":' * 200 + b"1" + b"}" * 200, "nested deeper"),
        ("m.json", b"[1]", "is a list, not an object"),
        ("m.json", b'{"config": {"units": 8, "units": 9}}', "'units' stands there twice"),
        ("m.json", b'"{}"', "is a str, not an object"),
        ("m.json", b"{}", "not a Functional or Sequential model"),
        ("m.json", b'{"class_name": "Sequential", "config": {}}', "without a list of layers"),
        ("m" * 5000 + ".json", b"", "File name too long"),
        ("m.json", b"1" * 5000, "not valid JSON"),
    ],
)
def test_wrong_files(tmp_path, name, content, words):
    path = tmp_path / name
    if len(name) < 255:
        write(path, content)
    with pytest.raises(ModelFileError, match=words) as caught:
        load_model_file(path, weights=False)
    assert str(path)[:70] in str(caught.value)
    assert len(str(caught.value)) < 900


def test_missing_files_and_directories(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        load_model_file(tmp_path / "none.keras", weights=False)
    with pytest.raises(ModelFileError, match="is a directory"):
        load_model_file(tmp_path, weights=False)
    write(tmp_path / "saved_model.pb", b"")
    with pytest.raises(ModelFileError, match=r"is a SavedModel, .*NAME\.keras"):
        load_model_file(tmp_path, weights=False)
    write(tmp_path / "keras_metadata.pb", b"")
    with pytest.raises(ModelFileError, match=r"SavedModel of Keras 2.*save\('NAME\.h5'\)"):
        load_model_file(tmp_path, weights=False)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ModelFileError, match="not a regular file"):
        load_model_file(tmp_path / "pipe.json", weights=False)


def test_archives_without_a_model(tmp_path):
    with pytest.raises(ModelFileError, match=r"holds no config\.json"):
        load_model_file(pack(tmp_path / "m.keras", {"a": "b"}), weights=False)


def test_members_that_stand_twice(saved, tmp_path):
    """A zip archive may hold two files of one name, of which one reader takes the first."""
    with zipfile.ZipFile(saved) as source:
        members = {name: source.read(name) for name in source.namelist()}
    for name in ("config.json", "model.weights.h5"):
        path = pack(tmp_path / "m.keras", members)
        with zipfile.ZipFile(path, "a") as target, pytest.warns(UserWarning, match="Duplicate"):
            target.writestr(name, members[name])
        with pytest.raises(ModelFileError, match=f"2 members called {name}"):
            load_model_file(path, weights=True)


def test_a_configuration_beyond_the_memory(saved, tmp_path, monkeypatch):
    """64 MB of "[[],[],..." become gigabytes of Python objects."""
    values = b"[" + b",".join([b"[]"] * 100_000) + b"]"
    monkeypatch.setattr(memory, "available_memory", lambda: 2**24)
    assert load_model_file(saved, weights=False).model is not None
    for path in (
        write(tmp_path / "m.json", values),
        pack(tmp_path / "m.keras", {"config.json": values}, zipfile.ZIP_DEFLATED),
    ):
        with pytest.raises(ModelFileError, match="configuration of 200001 values needs"):
            load_model_file(path, weights=False)


def test_bombs_are_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CONFIG_LIMIT", 2**20)
    bomb = {"config.json": b" " * 2**24}
    path = pack(tmp_path / "m.keras", bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**16
    with pytest.raises(ModelFileError, match="larger than 1 MB"):
        load_model_file(path, weights=False)
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = struct.pack("<I", 100)  # The size that it claims.
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="truncated or damaged"):
        load_model_file(path, weights=False)
    path = pack(tmp_path / "m.keras", bomb, zipfile.ZIP_BZIP2)
    with pytest.raises(ModelFileError, match="compressed in a way"):
        load_model_file(path, weights=False)
    with pytest.raises(ModelFileError, match="larger than 1 MB"):
        load_model_file(write(tmp_path / "m.json", b" " * (2**20 + 1)), weights=False)


def repack(saved, path, change):
    """Copy a model file with its HDF5 weights changed in place."""
    with zipfile.ZipFile(saved) as source:
        members = {name: source.read(name) for name in source.namelist()}
    weights = write(path.with_suffix(".h5"), members["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        change(file)
    return pack(path, members | {"model.weights.h5": weights.read_bytes()})


KERNEL = "layers/conv2d/vars/0"


def replace(file, value):
    del file[KERNEL]
    file[KERNEL] = value


def virtual(file):
    layout = h5py.VirtualLayout((3, 3, 1, 3), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "x", (3, 3, 1, 3))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def external(file):
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 3, 1, 3), "f4", external=[("secret.bin", 0, 108)])


def loop(file):
    file["layers/conv2d/again"] = file["layers"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: replace(f, h5py.ExternalLink("secret.h5", "/x")), "link to another place"),
        (lambda f: replace(f, h5py.SoftLink("/layers")), "link to another place"),
        (virtual, "numbers in another file"),
        (external, "numbers in another file"),
        (lambda f: replace(f, "text"), "something else than numbers"),
        (lambda f: replace(f, np.full((3, 3, 1, 3), b"1.0")), "something else than numbers"),
        (lambda f: replace(f, np.zeros(9, [("a", "f4")])), "something else than numbers"),
        (lambda f: replace(f, np.dtype("f4")), "something else than numbers"),
        (lambda f: f.create_dataset("x", (2**40,), "f4", chunks=(1024,)), "declares more than"),
        (lambda f: replace(f, np.zeros((2, 2))), "do not fit the model"),
        (lambda f: f.__delitem__(KERNEL), "do not fit the model"),
        (lambda f: f.__delitem__("layers"), "do not fit the model"),
        (lambda f: replace(f, np.full((3, 3, 1, 3), np.nan)), "kernel is not finite"),
    ],
)
def test_unsafe_or_unfit_weights(saved, tmp_path, change, words):
    path = repack(saved, tmp_path / "m.keras", change)
    assert load_model_file(path, weights=False).model is not None
    with pytest.raises(ModelFileError, match=words):
        load_model_file(path, weights=True)


def test_loops_of_hard_links_end(saved, tmp_path):
    path = repack(saved, tmp_path / "m.keras", loop)
    assert load_model_file(path, weights=True).model is not None


def test_weights_missing_damaged_or_too_large(saved, tmp_path):
    config = zipfile.ZipFile(saved).read("config.json")
    for content, words in [
        ({}, r"holds no model\.weights\.h5"),
        ({"model.weights.h5": b"\x89HDF nonsense"}, r"model\.weights\.h5 is damaged"),
        ({"model.weights.h5": bytes(100 * 2**20)}, "more than this model can need"),
    ]:
        path = pack(tmp_path / "m.keras", {"config.json": config, **content}, zipfile.ZIP_DEFLATED)
        with pytest.raises(ModelFileError, match=words):
            load_model_file(path, weights=True)


@pytest.mark.parametrize(("seconds", "year"), [(1.0, 1970), (4.4e9, 2109), (1e11, 5138)])
def test_a_clock_at_a_year_that_no_archive_states(seconds, year, tmp_path, monkeypatch):
    """Keras dates what it writes: a kernel with layers on the data, a trial, a variant."""
    on_data = keras.layers.Rescaling(0.5)
    model = keras.Sequential([keras.Input((3,)), on_data, keras.layers.Dense(1)])
    kernel = keras2gp.convert(model)
    monkeypatch.setattr("time.time", lambda: seconds)
    words = (
        rf"clock of this machine is in the year {year}, .*from 1980 to 2107\. Try: set the clock"
    )
    with pytest.raises(StoreError, match=words):
        archive.save_archive(model, tmp_path / "m.keras")
    with pytest.raises(Keras2GPError, match=words):
        kernel.save(tmp_path / "kernel")
    with (
        pytest.raises(StoreError, match=rf"^a \.keras file.*{words}"),
        staged_file(tmp_path / "v.keras") as partial,
    ):
        archive.save_archive(model, partial)
    assert list(tmp_path.iterdir()) == []
