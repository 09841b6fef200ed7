import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from gram_kernels import FLAT, SMALL, WIDE, bytes_of, images, kernel, stored

from keras2gp._util import memory
from keras2gp._util.files import temporary_name
from keras2gp.errors import InputError, NumericalError, StoreError
from keras2gp.matrices.api import compute
from keras2gp.matrices.fingerprint import digest, fingerprint_of
from keras2gp.matrices.store import GramStore
from keras2gp.matrices.work import Work

COUNT = 70
CHUNK = Path("matrix/c/1/2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A complete symmetric store, and the same matrix in memory."""
    path = tmp_path_factory.mktemp("whole") / "K.zarr"
    stored(path, images(COUNT))
    return path, compute(kernel(), images(COUNT), shape=SMALL)


@pytest.fixture
def copy(whole, tmp_path):
    path = tmp_path / "K.zarr"
    shutil.copytree(whole[0], path)
    return path


def test_reads_as_the_matrix_in_memory(whole):
    store, matrix = GramStore.open(whole[0]), whole[1]
    assert store.complete
    assert (store.shape, store.dtype, store.ndim, len(store)) == ((70, 70), np.float32, 2, 70)
    np.testing.assert_array_equal(np.asarray(store), matrix)
    np.testing.assert_array_equal(store.diagonal(), matrix.diagonal())
    np.testing.assert_array_equal(store.diagonal(), kernel().diag(images(COUNT)))
    assert np.asarray(store, dtype="float64").dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.array(store, copy=False)


@pytest.mark.parametrize("shape", [SMALL, WIDE, FLAT])
@pytest.mark.parametrize("symmetric", [True, False])
def test_any_slice_is_that_of_the_matrix(shape, symmetric, tmp_path, rng):
    x2 = None if symmetric else images(45, seed=1)
    store = stored(tmp_path / "K.zarr", images(COUNT), x2, shape=shape)
    matrix = compute(kernel(), images(COUNT), x2, shape=shape)
    np.testing.assert_array_equal(np.asarray(store), matrix)
    for _ in range(150):
        key = tuple(_random_index(rng, n) for n in matrix.shape)
        values = store[key]
        np.testing.assert_array_equal(values, matrix[key], err_msg=str(key))
        assert np.shape(values) == matrix[key].shape
        assert values.dtype == matrix.dtype


def _random_index(rng, count):
    if rng.random() < 0.3:
        return int(rng.integers(-count, count))
    ends = [None if rng.random() < 0.2 else int(rng.integers(-count - 5, count + 5)) for _ in "ab"]
    step = int(rng.choice([-33, -7, -2, -1, 1, 1, 1, 2, 3, 40]))
    return slice(*ends, step)


def test_other_indices(whole):
    store, matrix = GramStore.open(whole[0]), whole[1]
    for key in (3, -1, np.int64(5), slice(2, 9), ..., (..., 3), (4, ...), (slice(None), -2), ()):
        np.testing.assert_array_equal(store[key], matrix[key])
    for row, expected in zip(store, matrix, strict=True):
        np.testing.assert_array_equal(row, expected)
    for key in (70, -71, (0, 70), (1, 2, 3)):
        with pytest.raises(IndexError):
            store[key]
    for key in ([1, 2], True, "a", None, 1.0):
        with pytest.raises(InputError, match="integers and slices"):
            store[key]


def test_reads_no_more_than_it_must(whole, monkeypatch):
    read = []
    load = GramStore.read
    monkeypatch.setattr(GramStore, "read", lambda s, block: read.append(block) or load(s, block))
    GramStore.open(whole[0])[50:60, 3:10]
    assert [(block.row, block.column) for block in read] == [(0, 48)]


def test_plain_zarr_sees_the_upper_triangle(whole):
    array = zarr.open_array(store=str(whole[0]), path="matrix", mode="r")
    np.testing.assert_array_equal(np.triu(array[:, :]), np.triu(whole[1]))
    np.testing.assert_array_equal(array[:16, :16], np.triu(whole[1][:16, :16]))


def test_only_one_triangle_is_on_disk(whole):
    chunks = {str(p.relative_to(whole[0])) for p in (whole[0] / "matrix" / "c").rglob("*/*")}
    assert chunks == {f"matrix/c/{i}/{j}" for i in range(5) for j in range(i, 5)}


def flip(path):
    data = bytearray(path.read_bytes())
    data[17] ^= 4
    path.write_bytes(bytes(data))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE = {
    "flipped": flip,
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "removed": Path.unlink,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another": lambda path: shutil.copy(path.parents[3] / "diagonal/c/0", path),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("place", ["matrix/c/1/2", "matrix/c/4/4", "diagonal/c/0"])
def test_damage_is_found_and_computed_again(damage, place, whole, copy):
    if (damage, place) == ("another", "diagonal/c/0"):
        pytest.skip("it is the diagonal")
    DAMAGE[damage](copy / place)
    store = GramStore.open(copy)
    assert not store.complete
    assert len(store.missing()) == (0 if place.startswith("diagonal") else 1)
    with pytest.raises(StoreError, match=r"missing or damaged.*again"):
        store[:, :] if place.startswith("matrix") else store.diagonal()
    assert stored(copy, images(COUNT)).complete
    assert bytes_of(copy) == bytes_of(whole[0])


def exchange(first, second):
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


@pytest.mark.parametrize("others", [{"x1": images(COUNT, seed=5)}, {"kernel_": kernel(weight=1.5)}])
@pytest.mark.parametrize("place", ["matrix/c/1/2", "matrix/c/4/4", "diagonal/c/0"])
def test_a_chunk_of_another_store_is_found(others, place, whole, copy, tmp_path):
    stored(tmp_path / "other", **{"x1": images(COUNT), **others})
    shutil.copy(tmp_path / "other" / place, copy / place)
    assert not GramStore.open(copy).complete
    np.testing.assert_array_equal(stored(copy, images(COUNT)), whole[1])
    assert bytes_of(copy) == bytes_of(whole[0])


def test_exchanged_chunks_are_found(whole, copy):
    exchange(copy / "matrix/c/1/2", copy / "matrix/c/2/3")
    exchange(copy / "matrix/c/0/0", copy / "matrix/c/3/3")
    store = GramStore.open(copy)
    missing = [(block.row // 16, block.column // 16) for block in store.missing()]
    assert missing == [(0, 0), (1, 2), (2, 3), (3, 3)]
    with pytest.raises(StoreError, match=r"another place or store.*again"):
        store[:, :]
    assert stored(copy, images(COUNT)).complete
    assert bytes_of(copy) == bytes_of(whole[0])


def test_a_copied_store_is_the_same_store(copy, monkeypatch):
    monkeypatch.setattr(Work, "compute", lambda *_: pytest.fail("computed again"))
    assert stored(copy, images(COUNT)).complete


def test_sound_chunks_are_not_computed_again(copy, monkeypatch):
    (copy / CHUNK).unlink()
    computed = []
    compute_ = Work.compute
    monkeypatch.setattr(Work, "compute", lambda *args: computed.append(args[1]) or compute_(*args))
    stored(copy, images(COUNT))
    stored(copy, images(COUNT))
    assert [(block.row, block.column) for block in computed] == [(16, 32)]


def test_what_killed_runs_left_is_swept(copy):
    left = [temporary_name(copy / "matrix/c/1/2"), temporary_name(copy)]
    left[0].write_bytes(b"half")
    left[1].mkdir()
    os.utime(left[1], (0, 0))
    young = temporary_name(copy)
    young.mkdir()
    stored(copy, images(COUNT))
    assert not any(path.exists() for path in left)
    assert young.exists()


OTHERS = {
    "architecture": {"kernel_": lambda: kernel(activation="leaky_relu")},
    "variances": {"kernel_": lambda: kernel(weight=1.5)},
    "dtype": {"kernel_": lambda: kernel("float64")},
    "images of the rows": {"x1": images(COUNT, seed=3)},
    "images of the columns": {"x2": images(COUNT)},
    "size of the matrix": {"x1": images(COUNT + 1)},
    "block shape": {"shape": WIDE},
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_matrix_is_refused(what, whole, copy):
    options = {"x1": images(COUNT), **OTHERS[what]}
    if "kernel_" in options:
        options["kernel_"] = options["kernel_"]()
    with pytest.raises(StoreError, match=what) as caught:
        stored(copy, **options)
    assert digest(GramStore.open(copy).fingerprint) in str(caught.value)
    assert bytes_of(copy) == bytes_of(whole[0])


def test_names_of_layers_do_not_matter():
    first, second = (
        fingerprint_of(Work.of(k.program, k.parameters, k.images(images(3)), None))
        for k in (kernel(), kernel())
    )
    assert kernel().parameters.keys() != kernel().parameters.keys()
    assert first == second


def test_another_version_is_refused(copy, monkeypatch):
    monkeypatch.setattr("keras2gp.matrices.fingerprint.VERSION", "9.9")
    with pytest.raises(StoreError, match=r"version of keras2gp: 0\..* in the store, 9\.9 here"):
        stored(copy, images(COUNT))


def test_something_else_is_never_overwritten(tmp_path):
    path = tmp_path / "K.zarr"
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match="not a Gram matrix"):
        stored(path, images(9))
    assert (path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(StoreError):
        stored(path / "thesis.tex", images(9))
    assert (path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(StoreError, match="no such store"):
        GramStore.open(tmp_path / "none")
    with pytest.raises(StoreError, match="is a file and no store"):
        GramStore.open(path / "thesis.tex")


@pytest.mark.parametrize("file", ["zarr.json", "matrix/zarr.json", "diagonal/zarr.json"])
@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"zarr_format": 3, "attributes": {}}'])
def test_damaged_metadata_are_refused(file, text, copy):
    (copy / file).write_text(text)
    with pytest.raises(StoreError, match=r"K\.zarr"):
        GramStore.open(copy)
    with pytest.raises(StoreError, match=r"K\.zarr"):
        stored(copy, images(COUNT))


def test_metadata_that_do_not_agree_are_refused(copy):
    file = copy / "matrix" / "zarr.json"
    file.write_text(file.read_text().replace("float32", "float64"))
    with pytest.raises(StoreError, match="unexpected layout"):
        GramStore.open(copy)


def forge(path, **changes):
    """Change the fingerprint of a store, with the hash that belongs to it, and its arrays."""
    group = json.loads((path / "zarr.json").read_text())
    fingerprint = group["attributes"]["keras2gp"]
    fingerprint.update(changes)
    del fingerprint["sha256"]
    fingerprint["sha256"] = digest(fingerprint)
    (path / "zarr.json").write_text(json.dumps(group))
    shapes = {"matrix": fingerprint["shape"], "diagonal": fingerprint["shape"][:1]}
    chunks = {"matrix": fingerprint["block"][:2], "diagonal": fingerprint["shape"][:1]}
    for name, shape in shapes.items():
        array = json.loads((path / name / "zarr.json").read_text())
        array["shape"], array["data_type"] = shape, fingerprint["dtype"]
        array["chunk_grid"]["configuration"]["chunk_shape"] = chunks[name]
        array["codecs"][0]["configuration"]["chunk_shape"] = chunks[name]
        (path / name / "zarr.json").write_text(json.dumps(array))


def test_a_forged_size_reads_as_missing(copy):
    forge(copy, shape=[71, 71])
    assert len(GramStore.open(copy).missing()) == 15


@pytest.mark.parametrize(("changes", "words"), [
    ({"shape": [2**45, 2**45]}, "shape"), ({"shape": [0, 0]}, "shape"), ({"shape": [70]}, "unpack"),
    ({"shape": [True, 70]}, "shape"), ({"shape": [70.0, 70]}, "shape"),
    ({"shape": [70, 71]}, "sym"),
    ({"shape": [2**30, 2**30]}, "blocks"), ({"block": [2**20, 2**20, 8, 8]}, "block"),
    ({"block": [0, 16, 8, 16]}, "block"), ({"block": [16, 16, -8, 16]}, "block"),
    ({"block": [16, 16]}, "argument"), ({"dtype": "object"}, "dtype"),
    ({"dtype": "float16"}, "dtype"),
    ({"dtype": ["float32"]}, "dtype"), ({"format": 1}, "format 1"), ({"format": [[[]]]}, "format"),
])  # fmt: skip
def test_forged_metadata_are_refused_before_anything_is_allocated(changes, words, copy):
    forge(copy, **changes)
    with pytest.raises(StoreError, match=rf"{words}.*another path"):
        GramStore.open(copy)


@pytest.mark.parametrize("content", [
    b"[" * 100_000, b"\xff\xfe", b'{"attributes": {"keras2gp": {"sha256": 1e999}}}', b" " * 2**21,
])  # fmt: skip
@pytest.mark.parametrize("file", ["zarr.json", "matrix/zarr.json"])
def test_hostile_metadata_are_refused(content, file, copy):
    (copy / file).write_bytes(content)
    with pytest.raises(StoreError, match="not a Gram matrix"):
        GramStore.open(copy)


def test_a_large_matrix_is_not_read_into_too_little_memory(copy, monkeypatch):
    forge(copy, shape=[2**17, 2**17])
    monkeypatch.setattr(memory, "available_memory", lambda: 2**33)
    store = GramStore.open(copy)
    for key in (slice(None), slice(None, None, 2)):
        with pytest.raises(StoreError, match=r"GiB of memory and 8\.0 GiB is available"):
            store[:, key]
    with pytest.raises(StoreError, match="memory"):
        np.asarray(store)


@pytest.mark.parametrize("place", ["zarr.json", "matrix/c/1/2", "diagonal/c/0"])
@pytest.mark.parametrize("kind", ["pipe", "directory", "huge"])
def test_other_things_than_files_are_not_read(place, kind, copy):
    path = copy / place
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        with path.open("wb") as stream:
            stream.truncate(2**40)
    if place == "zarr.json":
        with pytest.raises(StoreError, match=r"missing|larger"):
            GramStore.open(copy)
    else:
        assert not GramStore.open(copy).complete
    if place.startswith("matrix") and kind != "huge":
        with pytest.raises(StoreError, match=r"written there\. Try: another name, or move it"):
            stored(copy, images(COUNT))


def test_a_link_to_a_store_is_followed(whole, copy, tmp_path):
    link, empty = tmp_path / "link", tmp_path / "empty"
    link.symlink_to(copy)
    (copy / CHUNK).unlink()
    assert stored(link, images(COUNT)).complete
    assert bytes_of(copy) == bytes_of(whole[0])
    empty.mkdir()
    for name, target in (("to_empty", empty), ("dangling", tmp_path / "nothing")):
        (tmp_path / name).symlink_to(target)
        assert stored(tmp_path / name, images(9)).complete
        assert (tmp_path / name).is_symlink()
        assert GramStore.open(target).complete
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(StoreError, match="circle"):
        stored(tmp_path / "circle", images(9))


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b", "a/" * 3000])
def test_names_that_no_file_system_takes(name, tmp_path):
    with pytest.raises(StoreError) as error:
        stored(f"{tmp_path}/{name}", images(9))
    assert len(str(error.value)) < 500
    assert not list(tmp_path.iterdir())


def test_a_changed_fingerprint_is_refused(copy):
    file = copy / "zarr.json"
    file.write_text(file.read_text().replace('"dtype": "float32"', '"dtype": "float64"'))
    with pytest.raises(StoreError, match="fingerprint was changed"):
        GramStore.open(copy)


def test_an_empty_directory_becomes_a_store(tmp_path):
    (tmp_path / "K.zarr").mkdir()
    assert stored(tmp_path / "K.zarr", images(9)).complete


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value, copy):
    before = bytes_of(copy)
    store = GramStore(copy, writable=True)
    values = np.ones((16, 16), np.float32)
    values[3, 4] = value
    block = next(b for b in store.blocks() if (b.row, b.column) == (16, 32))
    with pytest.raises(NumericalError, match=r"entry \(19, 36\)"):
        store.write(block, values)
    with pytest.raises(NumericalError, match=r"entry \(2, 2\)"):
        store.write_diagonal(np.array([1.0, 1.0, value], np.float32))
    with pytest.raises(InputError, match="shape"):
        store.write(block, values[:3])
    assert bytes_of(copy) == before


def test_overflow_leaves_no_chunk(tmp_path):
    path = tmp_path / "K.zarr"
    with pytest.raises(NumericalError, match="float64"):
        stored(path, images(40), kernel_=kernel(weight=1e30))
    assert not (path / "matrix" / "c").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_says_how_to_go_on(number, whole, tmp_path, monkeypatch):
    path, fsync, calls = tmp_path / "K.zarr", os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 9:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="again with the same arguments") as caught:
            stored(path, images(COUNT))
    assert os.strerror(number) in str(caught.value)
    assert 0 < len(GramStore.open(path).missing()) < 15
    assert not list(path.rglob("*.partial"))
    assert stored(path, images(COUNT)).complete
    assert bytes_of(path) == bytes_of(whole[0])


def test_a_full_disk_at_the_start(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        stored(tmp_path / "K.zarr", images(9))
    assert not list(tmp_path.iterdir())


def test_a_store_of_float64(tmp_path):
    store = stored(tmp_path / "K.zarr", images(20), kernel_=kernel("float64"))
    assert store[0, 0].dtype == np.float64
    np.testing.assert_array_equal(
        np.asarray(store), compute(kernel("float64"), images(20), shape=SMALL)
    )


def test_rectangular(tmp_path):
    x1, x2 = images(20), images(40, seed=1)
    store = stored(tmp_path / "K.zarr", x1, x2)
    np.testing.assert_array_equal(store.diagonal(), np.asarray(store).diagonal())
    assert "symmetric" not in repr(store)
    (tmp_path / "K.zarr/matrix/c/1/0").unlink()
    with pytest.raises(StoreError, match=r"\[16:20, 0:16\]"):
        store[17]
    np.testing.assert_array_equal(store[:16], compute(kernel(), x1, x2, shape=SMALL)[:16])
