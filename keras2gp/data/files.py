"""Arrays from files of unknown origin: .npz archives, .npy files and folders of IDX files.

Nothing is unpickled. The size that a header states is compared with the size of the file before
memory is allocated.
"""

from __future__ import annotations

import gzip
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.memory import require_memory
from keras2gp._util.paths import suffix_of
from keras2gp.errors import DataError

__all__ = ["read_idx", "read_idx_folder", "read_npy", "read_npy_folder", "read_npz"]

Stream = IO[bytes] | gzip.GzipFile

# Largest compression ratio of deflate; a larger stated size is damage or an attack.
_DEFLATE_RATIO = 1032
_NPZ_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_NPY_KINDS = "biufU"
_ZIP_ENCRYPTED = 0x1

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_MAX_AXES = 8
_IDX_FILES = {
    "x_train": ("train-images", 3),
    "y_train": ("train-labels", 1),
    "x_test": ("t10k-images", 3),
    "y_test": ("t10k-labels", 1),
}


# Errors of the standard library and numpy for files that are damaged, or were made to be.
_DAMAGE = (
    EOFError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn errors of the standard library while a file is read into DataErrors that name it."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path}: its arrays do not fit into memory") from error
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read ({reason}). If the file is damaged or cut off, try another "
            "copy"
        ) from error


def read_npz(path: Path, names: tuple[str, ...]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Read the arrays of these names from an .npz archive; return the names of the others too.

    Raises:
        DataError: it is no zip archive, is damaged, or an array of these names is pickled.
    """
    with _damage_named(path):
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path}: no .npz archive (not a complete zip file)")
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path)
            arrays = {k: _member(archive, info, path) for k, info in members.items() if k in names}
    return arrays, tuple(sorted(key for key in members if key not in names))


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members of an archive by the name of their array; two of one name are refused."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = _array_name(info.filename)
        if name in members:
            raise DataError(f"{path}: two of its arrays are named {name!r}. Try: save it anew")
        members[name] = info
    return members


def _array_name(file: str) -> str:
    """The name of the array of a file NAME.npy, in capitals too; that of any other file."""
    return file[:-4] if file.lower().endswith(".npy") else file


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Array:
    where = f"{path}: {info.filename}"
    if info.compress_type not in _NPZ_METHODS or info.flag_bits & _ZIP_ENCRYPTED:
        raise DataError(f"{where} is encrypted or packed by a method that numpy.savez does not use")
    with archive.open(info) as stream:
        shape, dtype = _npy_header(stream, where)
        _check_values(dtype, where)
        size = stream.tell() + math.prod(shape) * dtype.itemsize
        most = 4096 + _DEFLATE_RATIO * info.compress_size
        if not _is_shape(shape) or size != info.file_size or size > most:
            raise DataError(
                f"{where} is damaged: shape {shape} of {dtype} takes {size} bytes, and the archive "
                f"holds {info.file_size}, packed in {info.compress_size}"
            )
    require_memory(size, where, "a part of the rows", DataError)
    with archive.open(info) as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read(1)  # zipfile compares the checksum at the end of a member
    return array


def _check_values(dtype: np.dtype[Any], where: str) -> None:
    """Refuse an array of Python objects, or of anything but numbers and text."""
    if dtype.hasobject:
        raise DataError(
            f"{where} holds Python objects, which can run code when they are loaded. Try "
            "saving an array of numbers"
        )
    if dtype.kind not in _NPY_KINDS or dtype.itemsize == 0:
        raise DataError(f"{where} holds values of type {dtype}, expected numbers or strings")


def _is_shape(shape: tuple[int, ...]) -> bool:
    return all(type(n) is int and n >= 0 for n in shape)


def _npy_header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise DataError(f"{where} has .npy version {version}, expected 1.0 or 2.0")
    try:
        shape, _, dtype = readers[version](stream)
    except ValueError as error:
        if "max_header_size" in str(error):  # numpy advises to trust the file
            raise DataError(f"{where} is damaged: its header is longer than any array's") from error
        raise
    return shape, dtype


def read_npy(path: Path) -> Array:
    """Read the array of an .npy file of numbers or text.

    Raises:
        DataError: it is no .npy file, is damaged, or holds Python objects.
    """
    with _damage_named(path), path.open("rb") as stream:
        shape, dtype = _npy_header(stream, str(path))
        _check_values(dtype, str(path))
        size = stream.tell() + math.prod(shape) * dtype.itemsize
        if not _is_shape(shape) or size != path.stat().st_size:
            raise DataError(
                f"{path} is damaged: shape {shape} of {dtype} takes {size} bytes, and the file has "
                f"{path.stat().st_size}"
            )
        require_memory(size, str(path), "a part of the rows", DataError)
        stream.seek(0)
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def read_npy_folder(folder: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Read those of the arrays NAME.npy that a folder holds. Raises: DataError, as `read_npy`."""
    paths: dict[str, Path] = {}
    with _damage_named(folder):
        files = sorted(folder.iterdir())
    for path in files:
        name = _array_name(path.name)
        if name in names and name != path.name and path.is_file():
            if name in paths:
                raise DataError(f"{folder}: two of its arrays are named {name!r}")
            paths[name] = path
    return {name: read_npy(paths[name]) for name in names if name in paths}


def read_idx_folder(folder: Path) -> dict[str, Array]:
    """Read x_train, y_train and, if there is a test pair, x_test and y_test from IDX files.

    The files are called train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte
    and t10k-labels-idx1-ubyte, also with ".idx" instead of "-idx", and also packed (.gz).

    Raises:
        DataError: a file of a pair is missing, or is no IDX file, damaged or cut off.
    """
    paths = {key: _idx_path(folder, *names) for key, names in _IDX_FILES.items()}
    keys = ["x_train", "y_train"]
    if paths["x_test"] or paths["y_test"]:
        keys += ["x_test", "y_test"]
    missing = [_idx_name(*_IDX_FILES[key]) for key in keys if paths[key] is None]
    if missing:
        if not any(paths.values()):
            raise DataError(
                f"{folder}: a folder without data. Try: one that holds x.npy and y.npy, a folder "
                f"of images for each class, or IDX files ({missing[0]} and others)"
            )
        raise DataError(f"{folder}: no {' and no '.join(missing)}, as it is or with .gz")
    return {key: read_idx(path) for key, path in paths.items() if path is not None}


def _idx_name(stem: str, axes: int) -> str:
    return f"{stem}-idx{axes}-ubyte"


def _idx_path(folder: Path, stem: str, axes: int) -> Path | None:
    for separator in ("-", "."):
        for ending in ("", ".gz", ".GZ"):
            path = folder / f"{stem}{separator}idx{axes}-ubyte{ending}"
            if path.is_file():
                return path
    return None


def read_idx(path: Path) -> Array:
    """Read an IDX file: two zero bytes, type, number of axes, big-endian sizes, values.

    A file whose name ends in .gz is unpacked while it is read. The result has the machine's byte
    order.

    Raises:
        DataError: it is no IDX file, or is not exactly as long as its header says.
    """
    with _damage_named(path):
        length = path.stat().st_size
        if suffix_of(path) == ".gz":
            with gzip.open(path, "rb") as unpacked:
                return _idx(unpacked, path, most=_DEFLATE_RATIO * length)
        with path.open("rb") as stream:
            return _idx(stream, path, most=length)


def _idx(stream: Stream, path: Path, most: int) -> Array:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES:
        raise DataError(f"{path}: no IDX file: its first bytes are '{magic.hex(' ')}'")
    dtype, axes = np.dtype(_IDX_TYPES[magic[2]]), magic[3]
    if not 1 <= axes <= _IDX_MAX_AXES:
        raise DataError(f"{path}: an IDX file of {axes} axes, expected 1 to {_IDX_MAX_AXES}")
    sizes = stream.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise DataError(f"{path}: the file ends within its header")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    count = math.prod(shape) * dtype.itemsize
    stated = f"its header states {shape} values of {dtype.itemsize} bytes"
    if 4 + 4 * axes + count > most:
        raise DataError(f"{path}: {stated}, more than the file can hold: it is damaged or cut off")
    require_memory(count, str(path), "a part of the rows", DataError)
    values = stream.read(count)
    if len(values) < count:
        raise DataError(f"{path}: {stated}, and it holds {len(values)} bytes of them: cut off")
    if stream.read(1):
        raise DataError(f"{path}: {stated}, and more bytes follow: it is damaged")
    array = np.frombuffer(values, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)
