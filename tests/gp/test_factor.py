"""Factors on disk: round trips, damage, and files that are something else."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
from gp_kernels import positive_definite

from keras2gp._util.files import write_files
from keras2gp.errors import ModelFileError
from keras2gp.gp import CholeskyFactor, factorize


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "factor.npy"
    factorize(positive_definite(21), noise_variance=0.1, tile=8).save(path)
    return path


@pytest.mark.parametrize(("size", "tile"), [(1, 4), (21, 8), (16, 16), (10, 100)])
def test_round_trip(tmp_path, size, tile):
    factor = factorize(positive_definite(size), jitter=1e-7, tile=tile)
    factor.save(tmp_path / "f.npy")
    again = CholeskyFactor.load(tmp_path / "f.npy")
    np.testing.assert_array_equal(again.lower(), factor.lower())
    assert again.report == factor.report
    assert (again.size, again.tile, again.nbytes) == (factor.size, factor.tile, factor.nbytes)
    assert [p.name for p in tmp_path.iterdir()] == ["f.npy"]


def test_report_of_a_ladder_is_kept(tmp_path):
    factor = factorize(np.ones((5, 5)))
    factor.save(tmp_path / "f.npy")
    report = CholeskyFactor.load(tmp_path / "f.npy").report
    assert report == factor.report
    assert report.duplicate == (0, 1)
    assert len(report.steps) == 2


def test_missing(tmp_path):
    with pytest.raises(ModelFileError, match="missing"):
        CholeskyFactor.load(tmp_path / "none.npy")


def test_every_truncation_is_refused(saved):
    content = saved.read_bytes()
    for length in [*range(0, 200, 7), *range(200, len(content), 331), len(content) - 1]:
        saved.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            CholeskyFactor.load(saved)
    saved.write_bytes(content + b"\0")
    with pytest.raises(ModelFileError, match="longer"):
        CholeskyFactor.load(saved)


def test_header_damage_never_escapes(saved):
    content = saved.read_bytes()
    good = CholeskyFactor.load(saved).lower()
    random = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(content)
        damaged[random.integers(128)] = random.integers(256)
        saved.write_bytes(bytes(damaged))
        try:
            lower = CholeskyFactor.load(saved).lower()
        except ModelFileError:
            continue
        np.testing.assert_array_equal(lower, good)  # a space or the like changed


def vector_with(**changes):
    vector = factorize(positive_definite(6), tile=4).as_vector().copy()
    for index, value in changes.items():
        vector[int(index[1:])] = value
    return vector


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(40),
        np.zeros((40, 40)),
        np.zeros(40, dtype=np.int64),
        np.zeros(3),
        vector_with().astype(np.float32),
        vector_with(_0=2.0),
        vector_with(_1=1e300),
        vector_with(_1=-6.0),
        vector_with(_1=6.5),
        vector_with(_2=0.0),
        vector_with(_8=0.0),
        vector_with(_8=100.0),
        vector_with(_32=-1.0),
        vector_with(_40=np.nan),
    ],
)
def test_other_arrays_are_refused(tmp_path, array):
    np.save(tmp_path / "f.npy", array)
    with pytest.raises(ModelFileError, match=r"f\.npy"):
        CholeskyFactor.load(tmp_path / "f.npy")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_pickles_and_archives_are_refused(tmp_path):
    path = tmp_path / "f.npy"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelFileError):
        CholeskyFactor.load(path)
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ModelFileError):
        CholeskyFactor.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"")
    with pytest.raises(ModelFileError):
        CholeskyFactor.load(path)


def test_huge_claims_allocate_nothing(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header = header.ljust(117) + b"\n"
    prefix = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    (tmp_path / "f.npy").write_bytes(prefix + header + bytes(1000))
    with pytest.raises(ModelFileError, match="damaged"):
        CholeskyFactor.load(tmp_path / "f.npy")


def test_a_failed_write_changes_nothing(tmp_path):
    kept, other = tmp_path / "a", tmp_path / "b"
    kept.write_bytes(b"old")

    def full(handle):
        handle.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(ModelFileError, match="No space left"):
        write_files([(kept, lambda handle: handle.write(b"new")), (other, full)], ModelFileError)
    assert kept.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    with pytest.raises(ModelFileError, match="cannot be written"):
        factorize(np.eye(2)).save(tmp_path / "no" / "folder.npy")
