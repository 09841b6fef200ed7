"""Files of unknown origin: what is read from them, and that damage is never read in silence."""

from __future__ import annotations

import gzip
import struct
import zipfile

import numpy as np
import pytest

from keras2gp._util import memory
from keras2gp.data.loading import images_of, load
from keras2gp.errors import DataError

SHAPE = (4, 3, 1)


def pixels(n, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def labels(n):
    return np.arange(n, dtype=np.uint8) % 10


# --- .npz ---


def test_npz_x_and_y(tmp_path):
    np.savez(tmp_path / "d.npz", x=pixels(5), y=labels(5))
    data = load(str(tmp_path / "d.npz"))
    np.testing.assert_array_equal(data.x_train, pixels(5))
    np.testing.assert_array_equal(data.y_train, labels(5))
    assert data.x_test is None
    assert data.y_test is None
    assert data.notes == ()


def test_names_in_capitals(tmp_path):
    """A format is told by a name's suffix, in capitals too."""
    np.savez(tmp_path / "d.npz", x=pixels(5), y=labels(5))
    (tmp_path / "d.npz").rename(tmp_path / "D.NPZ")
    (tmp_path / "D.Csv").write_text("a,b\n1,2\n3,4\n")
    folder, packed = tmp_path / "arrays", tmp_path / "idx"
    folder.mkdir()
    packed.mkdir()
    for name, array in (("x", pixels(5)), ("y", labels(5))):
        np.save(folder / f"{name}.npy", array)
        (folder / f"{name}.npy").rename(folder / f"{name}.NPY")
    write_idx(packed, IDX, ending=".gz")
    for path in list(packed.iterdir()):
        path.rename(path.with_suffix(".GZ"))
    assert load(str(tmp_path / "D.Csv"), target="b").y_train.tolist() == [2, 4]
    for source in (tmp_path / "D.NPZ", folder, packed):
        assert load(str(source)).y_train.shape == (5,), source
    images, _ = images_of(str(folder / "x.NPY"))
    np.testing.assert_array_equal(images, pixels(5))
    np.save(folder / "x.npy", pixels(4))
    with pytest.raises(DataError, match="two of its arrays are named 'x'"):
        load(str(folder))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_four_arrays_and_unused_ones(tmp_path, save):
    unused = np.array([{}], dtype=object)
    arrays = {"x_train": pixels(5), "y_train": labels(5), "x_test": pixels(2), "y_test": labels(2)}
    save(tmp_path / "d.npz", **arrays, names=unused, more=labels(1))
    data = load(str(tmp_path / "d.npz"))
    np.testing.assert_array_equal(data.x_test, pixels(2))
    assert data.notes == ("not used: more, names",)


def test_npz_types(tmp_path):
    x = np.asfortranarray(pixels(5).astype(np.int64))
    np.savez(tmp_path / "d.npz", x=x, y=np.linspace(0, 1, 5))
    data = load(str(tmp_path / "d.npz"))
    assert (data.x_train.dtype, data.y_train.dtype) == (np.float32, np.float64)
    assert data.notes == ("x_train: int64 values cast to float32, not scaled",)
    np.testing.assert_array_equal(data.x_train, x)
    np.savez(tmp_path / "d.npz", x=x.astype(">f8"), y=np.array(list("abcab")))
    data = load(str(tmp_path / "d.npz"))
    assert data.x_train.dtype == np.float64
    np.testing.assert_array_equal(data.y_train, list("abcab"))


NAN = pixels(5).astype(np.float32)
NAN[3, 1, 2, 0] = np.nan


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": pixels(5)}, "holds x; expected x and y"),
        ({"X": pixels(5), "labels": labels(5)}, "holds X, labels; expected x and y"),
        ({}, "holds no arrays"),
        ({"x": pixels(5), "y": labels(5), "x_test": pixels(2)}, "holds x, y, x_test; expected"),
        ({"x_train": pixels(5), "y_train": labels(5), "x_test": pixels(2)}, "both or neither"),
        ({"x": pixels(5), "y": labels(4)}, "x_train has 5 rows and y_train has 4"),
        ({"x": pixels(5), "y": np.eye(5)}, r"shape \(5, 5\), expected \[N\].*argmax"),
        ({"x": pixels(0), "y": labels(0)}, r"shape \(0, 4, 3, 1\)"),
        ({"x": labels(5), "y": labels(5)}, r"shape \(5,\)"),
        ({"x": NAN, "y": labels(5)}, r"x_train: 1 of 60 values are NaN.*first at \(3, 1, 2, 0\)"),
        ({"x": pixels(2), "y": np.array([1.0, np.inf])}, r"y_train: 1 of 2 values.*at \(1,\)"),
        ({"x": pixels(5) * 1j, "y": labels(5)}, "complex128"),
        ({"x": pixels(5), "y": np.array([b"a"] * 5)}, r"y.npy holds values of type \|S1"),
        ({"x": np.array([None] * 5), "y": labels(5)}, "x.npy holds Python objects"),
        (
            {
                "x_train": pixels(5),
                "y_train": labels(5),
                "x_test": pixels(2, (3, 3)),
                "y_test": labels(2),
            },
            "different shapes",
        ),
    ],
)
def test_npz_refuses(tmp_path, arrays, says):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=says):
        load(str(tmp_path / "d.npz"))


def npy(shape, dtype="|u1", payload=b""):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + payload


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (npy((10**12, 10**3)), "is damaged: shape"),
        (npy((-1, 4)), "is damaged: shape"),
        (npy((5, 4), payload=b"\0" * 21), "is damaged: shape"),
        (npy((10**18,), "<U0"), "values of type <U0"),
        (b"\x93NUMPY\x03\x00", "version"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "cannot be read"),
        (b"no array", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_npz_bad_member(tmp_path, member, says):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", member)
        archive.writestr("y.npy", npy((5,), payload=bytes(5)))
    with pytest.raises(DataError, match=says):
        load(str(tmp_path / "d.npz"))


def test_packed_arrays_beyond_the_memory(tmp_path, monkeypatch):
    """A small file of zeros is a large array: compared before memory is taken."""
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((1000, *SHAPE)), y=np.zeros(1000))
    write_idx(tmp_path, {**IDX, "x_train": idx(np.zeros((2000, 4, 3), np.uint8))}, ending=".gz")
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 20_000)
    for source in (tmp_path / "d.npz", tmp_path):
        with pytest.raises(DataError, match=r"needs .* of memory and .* is available"):
            load(str(source))


def test_images_of_no_rows(tmp_path):
    """Text too, of which nothing else counts the rows; and a header longer than any."""
    for array in (np.zeros((0, 2)), np.zeros((0, 2), "U3")):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(DataError, match="there are none"):
            images_of(str(tmp_path / "x.npy"))
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }" + b" " * 60_000 + b"\n"
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    (tmp_path / "x.npy").write_bytes(header + bytes(4))
    with pytest.raises(DataError, match="its header is longer than any"):
        images_of(str(tmp_path / "x.npy"))


def test_npz_packed_otherwise(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.npy", npy((5, 1), payload=bytes(5)))
    with pytest.raises(DataError, match=r"numpy\.savez does not use"):
        load(str(tmp_path / "d.npz"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_damage_is_never_silent(tmp_path, save):
    path = tmp_path / "d.npz"
    arrays = {"x": pixels(40), "y": labels(40)}
    save(path, **arrays)
    good = path.read_bytes()
    for end in range(0, len(good), 29):
        path.write_bytes(good[:end])
        with pytest.raises(DataError):
            load(str(path))
    random = np.random.default_rng(0)
    for _ in range(300):
        bad = bytearray(good)
        bad[random.integers(len(good))] ^= 1 << int(random.integers(8))
        path.write_bytes(bad)
        try:
            data = load(str(path))
        except DataError:
            continue
        np.testing.assert_array_equal(data.x_train, arrays["x"])  # a date or flag that is not read
        np.testing.assert_array_equal(data.y_train, arrays["y"])


# --- IDX ---


def idx(array, kind=0x08, dtype=">u1"):
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, kind, array.ndim]) + sizes + array.astype(dtype).tobytes()


def write_idx(folder, arrays, separator="-", ending=""):
    names = {"x_train": "train-images", "x_test": "t10k-images"}
    names |= {"y_train": "train-labels", "y_test": "t10k-labels"}
    for key, data in arrays.items():
        name = f"{names[key]}{separator}idx{3 if key[0] == 'x' else 1}-ubyte{ending}"
        (folder / name).write_bytes(gzip.compress(data) if ending else data)


IDX = {
    "x_train": idx(pixels(5, (4, 3))),
    "y_train": idx(labels(5)),
    "x_test": idx(pixels(2, (4, 3), seed=1)),
    "y_test": idx(labels(2)),
}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("separator", ["-", "."])
def test_idx(tmp_path, separator, ending):
    write_idx(tmp_path, IDX, separator, ending)
    data = load(str(tmp_path))
    np.testing.assert_array_equal(data.x_train, pixels(5, (4, 3)))
    np.testing.assert_array_equal(data.x_test, pixels(2, (4, 3), seed=1))
    np.testing.assert_array_equal(data.y_train, labels(5))
    assert (data.x_train.dtype, data.y_train.dtype) == (np.uint8, np.int64)


def test_idx_without_test_pair(tmp_path):
    write_idx(tmp_path, {k: v for k, v in IDX.items() if k.endswith("train")})
    assert load(str(tmp_path)).x_test is None


@pytest.mark.parametrize(
    ("kind", "dtype", "gives"),
    [(0x0C, ">i4", "f4"), (0x0D, ">f4", "f4"), (0x0E, ">f8", "f8"), (0x09, "i1", "f4")],
)
def test_idx_types(tmp_path, kind, dtype, gives):
    x = np.arange(10).reshape(5, 2) - 5
    write_idx(tmp_path, {"x_train": idx(x, kind, dtype), "y_train": IDX["y_train"]})
    data = load(str(tmp_path))
    np.testing.assert_array_equal(data.x_train, x)
    assert data.x_train.dtype == gives


@pytest.mark.parametrize("missing", ["x_train", "y_train", "x_test", "y_test"])
def test_idx_missing_file(tmp_path, missing):
    write_idx(tmp_path, {key: data for key, data in IDX.items() if key != missing})
    with pytest.raises(DataError, match=r"no (train|t10k)-(images|labels)-idx[13]-ubyte, as it is"):
        load(str(tmp_path))


def test_empty_folder(tmp_path):
    with pytest.raises(
        DataError, match=r"without data.*x\.npy and y\.npy.*train-images-idx3-ubyte"
    ):
        load(str(tmp_path))


HUGE = bytes([0, 0, 8, 3]) + b"\xff" * 12


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "first bytes are ''"),
        (b"\0\0\x07\x03" + bytes(12), "first bytes are '00 00 07 03'"),
        (b"\x1f\x8b\x08\x00" + bytes(12), "first bytes are '1f 8b 08 00'"),
        (bytes([0, 0, 8, 0]) + bytes(12), "0 axes"),
        (bytes([0, 0, 8, 255]) + bytes(12), "255 axes"),
        (IDX["x_train"][:10], "ends within its header"),
        (HUGE, "more than the file can hold"),
        (IDX["x_train"] + b"\0", "more bytes follow"),
        (idx(pixels(0, (4, 3))), r"shape \(0, 4, 3\)"),
        (idx(NAN, 0x0D, ">f4"), "1 of 60 values are NaN"),
    ],
)
def test_idx_refuses(tmp_path, data, says, ending):
    write_idx(tmp_path, IDX | {"x_train": data}, ending=ending)
    with pytest.raises(DataError, match=says):
        load(str(tmp_path))


def test_idx_cut_off(tmp_path):
    write_idx(tmp_path, IDX | {"x_train": IDX["x_train"][:-1]})
    with pytest.raises(DataError, match="more than the file can hold"):
        load(str(tmp_path))
    (tmp_path / "train-images-idx3-ubyte").unlink()
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(IDX["x_train"][:-1]))
    with pytest.raises(DataError, match="59 bytes of them"):
        load(str(tmp_path))
    good = gzip.compress(IDX["x_train"])
    for end in range(len(good)):
        path.write_bytes(good[:end])
        with pytest.raises(DataError):
            load(str(tmp_path))
    path.write_bytes(good[:-6] + b"\0\0" + good[-4:])
    with pytest.raises(DataError, match="CRC"):
        load(str(tmp_path))
