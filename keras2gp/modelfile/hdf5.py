"""Bounded reads of HDF5 files of strangers: links and sizes are checked before anything is read.

HDF5 can point into other files (external links, external storage, virtual datasets), name one
object twice, and declare sizes that the file does not hold. Keras writes plain groups and datasets
of numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from keras2gp._util.memory import require_memory
from keras2gp.errors import ModelFileError
from keras2gp.modelfile.archive import printable

__all__ = ["HDF5_ERRORS", "fault_of", "has_model", "names_of", "opened", "text_of"]

HDF5_ERRORS = (OSError, RuntimeError, KeyError, TypeError, ValueError)
"""Errors that h5py raises for damaged files."""

_MOST_OBJECTS = 1_000_000
_MOST_NAMES = 2**28
"""Most bytes that the names in one list may take; each may be as long as the file says, or is."""


@contextlib.contextmanager
def opened(path: Path, where: str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises:
        ModelFileError: it is damaged, or reading in it fails; the message starts with `where`.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except HDF5_ERRORS as error:
        raise ModelFileError(
            f"{where} is damaged ({printable(error, 200)}); copy or save it again"
        ) from error


def has_model(file: h5py.File) -> bool:
    """Whether an HDF5 file holds the configuration of a model, and not weights alone."""
    return "model_config" in file.attrs


def text_of(item: h5py.Group, name: str, limit: int) -> bytes | None:
    """A text in an attribute, of at most `limit` bytes; None if there is no such attribute.

    Raises:
        ValueError: the attribute is larger, or is no text.
    """
    if name not in item.attrs:
        return None
    attribute = item.attrs.get_id(name)
    kind = h5py.check_string_dtype(attribute.dtype)
    if kind is None or attribute.shape not in ((), (1,)):
        raise ValueError(f"its {name} is no text")
    if (kind.length or 0) > limit:
        raise ValueError(f"its {name} is larger than {limit >> 20} MB")
    # A text of variable length stands in the file as it is: it is no longer than the file.
    size = Path(item.file.filename).stat().st_size if kind.length is None else kind.length
    require_memory(
        2 * min(size, 2 * limit), f"its {name}", "a machine with more memory", ModelFileError
    )
    value = item.attrs[name]
    value = value if attribute.shape == () else value[0]
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
    if len(data) > limit:
        raise ValueError(f"its {name} is larger than {limit >> 20} MB")
    return data


def names_of(group: h5py.Group, name: str) -> list[str] | None:
    """A list of names in an attribute, which Keras cuts into name0, name1, ... where it is long.

    Returns:
        The names; None where they could take far more memory than the file, since HDF5 lets many
        texts be one and the same piece of the file.

    Raises:
        ValueError: the attribute is no list of names.
    """
    keys = [name] if name in group.attrs else []
    while keys != [name] and f"{name}{len(keys)}" in group.attrs:
        keys.append(f"{name}{len(keys)}")
    names: list[str] = []
    left = _MOST_NAMES
    for key in keys:
        attribute = group.attrs.get_id(key)
        kind = h5py.check_string_dtype(attribute.dtype)
        if len(attribute.shape) != 1:
            raise ValueError(f"its {key} is no list of names")
        count = int(attribute.shape[0])
        if count == 0:
            continue
        if kind is None:
            raise ValueError(f"its {key} is no list of names")
        left -= count * (kind.length or Path(group.file.filename).stat().st_size)
        if left < 0:
            return None
        values = group.attrs[key]
        names += [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
    return names


def fault_of(top: h5py.Group, limit: int) -> str | None:
    """The first fault on a walk over all links below a group, or None.

    Args:
        top: a group that was reached by a hard link.
        limit: most bytes that all datasets together may declare.
    """
    groups, seen, declared = [top], set(), 0
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                return f"holds a link to another place ({printable(name)})"
            item = group[name]
            # Hard links may form loops: an object is visited once.
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > _MOST_OBJECTS:
                return f"holds more than {_MOST_OBJECTS} objects"
            if isinstance(item, h5py.Group):
                groups.append(item)
                continue
            fault = _fault_of_numbers(item)
            if fault:
                return f"{fault} ({printable(name)})"
            declared += item.nbytes
            if declared > limit:
                return f"declares more than {limit / 2**20:.0f} MB"
    return None


def _fault_of_numbers(item: h5py.HLObject) -> str:
    """Why an object holds no real numbers of its own; empty if it does."""
    numbers = isinstance(item, h5py.Dataset) and not item.dtype.hasobject
    # bfloat16 has no type of its own in these files, and is kept as "V": two bytes without fields.
    if not numbers or item.dtype.names is not None or item.dtype.kind in "SU":
        return "holds something else than numbers"
    if item.dtype.kind == "c":
        return "holds complex numbers"
    return "keeps its numbers in another file" if item.external or item.is_virtual else ""
