"""Places that commands write to: nothing is replaced that keras2gp did not write, no input is lost.

Everything is checked before a command starts, so that a refusal costs nothing and touches nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keras2gp._util.files import foreign_files
from keras2gp._util.paths import expanded, read_if_regular, real_path, suffix_of
from keras2gp._util.text import received_text
from keras2gp.cli.exit_codes import UsageError
from keras2gp.fit_record import (
    FIT_FILES,
    KERNEL_FILES,
    RECORD,
    SAVED_MODEL_FILES,
)
from keras2gp.plots.style import MARK
from keras2gp.xrays.files import MARKER, not_ours

__all__ = [
    "EXPORT",
    "FIT",
    "KERNEL",
    "SEARCH",
    "STORE",
    "XRAY",
    "DirectoryKind",
    "check_directory",
    "check_file_to_replace",
    "check_new_file",
    "check_store_of_fit",
    "is_picture",
    "is_predictions",
    "is_store",
]

_CSV_CLASSES = ["row", "label", "variance"]
_CSV_REGRESSION = (
    ["row", "mean", "std"],
    ["row", "mean", "std", "observation_std"],
    ["row", "mean", "std", "observation_std", "low", "high"],
)
"""Version 0.1 wrote the first."""
_NPZ_NAMES = (
    {"label.npy", "probability.npy", "classes.npy", "mean.npy", "variance.npy"},
    {"mean.npy", "std.npy"},
    {"mean.npy", "std.npy", "observation_std.npy"},
    {
        *("mean.npy", "std.npy", "observation_std.npy"),
        *("low.npy", "high.npy", "degrees_of_freedom.npy"),
    },
)
_INPUTS = ("model", "fit", "data", "ood", "overrides", "gram", "source", "space")
"""Options that name what a command reads."""
_HEADER = 2**16
"""Bytes at the start of a file by which it is known."""
_LARGEST = 2**26
"""Bytes of a marker; kernel.json grows with its graph."""


@dataclass(frozen=True)
class DirectoryKind:
    """A directory that a command writes.

    name:   in messages
    marker: the JSON file that says that keras2gp wrote the directory
    keys:   keys that are in it
    files:  patterns of all files of a directory that is replaced as a whole; None for a directory
            that grows
    """

    name: str
    marker: str
    keys: frozenset[str]
    files: tuple[str, ...] | None = None


KERNEL = DirectoryKind(
    "a saved kernel", "kernel.json", frozenset({"graph", "parameters"}), KERNEL_FILES
)
FIT = DirectoryKind(
    "a fitted model",
    RECORD,
    frozenset({"format", "task", "identity"}),
    FIT_FILES,
)
EXPORT = DirectoryKind(
    "an exported fit",
    "predictor.json",
    frozenset({"keras2gp", "images", "outputs"}),
    ("predictor.json", *SAVED_MODEL_FILES),
)
SEARCH = DirectoryKind("a search", "search.json", frozenset({"space", "score", "data_sha256"}))
XRAY = DirectoryKind("an X-ray", MARKER, frozenset({"xray", "data_sha256", "subsets"}))
STORE = DirectoryKind(
    "a store of a kernel matrix", "zarr.json", frozenset({"zarr_format", "attributes"})
)


def check_directory(options: argparse.Namespace, kind: DirectoryKind) -> None:
    """Refuse OUT unless it is absent, empty, or a directory of this kind with no foreign file.

    Raises: UsageError
    """
    path: Path = options.out
    _check_place(path)
    if os.path.lexists(path):
        if not path.is_dir():
            raise UsageError(f"{path} is no directory, and one is written. Try: another name")
        _check_content(path, kind)
    _check_inputs(options, path)
    store: Path | None = getattr(options, "gram", None)  # perhaps not there yet
    if store is not None and real_path(path).is_relative_to(real_path(store)):
        raise UsageError(f"{path} lies in {store}, the store of a kernel matrix")


def _check_content(path: Path, kind: DirectoryKind) -> None:
    if not any(path.iterdir()):
        return
    if not _is_marked(path, kind):
        raise UsageError(
            f"{path} exists and is not {kind.name}: it would be lost. Try: another directory"
        )
    if kind.files is not None:
        _refuse(path, foreign_files(path, kind.files))
    if kind is SEARCH:
        for folder in path.glob("trial-[0-9][0-9][0-9][0-9]*"):
            _refuse(folder, foreign_files(folder, ("train.zarr/*", "cross.zarr/*", "best.keras")))
    if kind is XRAY:
        _refuse(path, not_ours(path))


def _is_marked(path: Path, kind: DirectoryKind) -> bool:
    """Whether a directory holds the marker of a kind, and not another file of that name."""
    try:
        marker = json.loads(read_if_regular(path / kind.marker, _LARGEST) or b"null")
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(marker, dict) and kind.keys <= set(marker)


def _refuse(path: Path, foreign: list[str]) -> None:
    """Refuse a directory with such files. Raises: UsageError."""
    if foreign:
        names = ", ".join(str(path / name) for name in foreign[:3])
        raise UsageError(
            f"{path} would be replaced, and holds {len(foreign)} file(s) that keras2gp did not "
            f"write: {names}. Try: another directory, or move them away"
        )


def check_file_to_replace(
    options: argparse.Namespace, is_ours: Callable[[Path], bool], name: str
) -> None:
    """Refuse OUT if there is something else than a file of keras2gp's.

    is_ours: whether keras2gp wrote a file
    name:    of such a file, in messages

    Raises: UsageError
    """
    path: Path = options.out
    _check_place(path)
    _check_inputs(options, path)
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise UsageError(f"--out {path} is no file, and a file is written. Try: another name")
    if not is_ours(path):
        raise UsageError(f"--out {path} exists and holds no {name}: it would be lost")


def check_new_file(path: Path, option: str) -> None:
    """Refuse a file for people to edit if it is there already. Raises: UsageError."""
    _check_place(path)
    if os.path.lexists(path):
        raise UsageError(f"{option} {path} exists, and may hold your changes: choose another")


def check_store_of_fit(path: Path | None, *, new: bool) -> None:
    """Refuse a --gram that is no store.

    new: whether it may be absent or empty

    Raises: UsageError
    """
    if path is None or is_store(path):
        return
    if not new:
        raise UsageError(f"--gram {path}: no store of a kernel matrix")
    _check_place(path)
    if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"--gram {path} exists and is no store of a kernel matrix")


def is_store(path: Path) -> bool:
    """Whether `gram` wrote a directory."""
    return (path / "matrix").is_dir() and _is_marked(path, STORE)


def is_predictions(path: Path) -> bool:
    """Whether `predict` wrote a file."""
    if suffix_of(path) == ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                return set(archive.namelist()) in _NPZ_NAMES
        except (zipfile.BadZipFile, NotImplementedError, ValueError):
            return False
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        try:
            header = next(csv.reader(iter(lambda: stream.readline(_HEADER), "")), [])
        except csv.Error:
            return False
    classes = header[3:]
    return header in _CSV_REGRESSION or (
        header[:3] == _CSV_CLASSES and bool(classes) and all(c[:2] == "p_" for c in classes)
    )


def is_picture(path: Path) -> bool:
    """Whether `plot` drew a file."""
    with path.open("rb") as stream:
        return MARK.encode() in stream.read(_HEADER)


def _check_place(path: Path) -> None:
    """Refuse a path at which nothing can be written, or only through a link. Raises: UsageError."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{str(path)!r}: the name is no UTF-8 text. Try: another name") from error
    if path.is_symlink():
        ends = real_path(path)
        instead = "another name" if ends.is_symlink() else ends  # a link that leads to itself
        raise UsageError(
            f"{path} is a symbolic link, and nothing is written through one. Try: {instead}"
        )
    if path.is_dir():
        if Path.cwd().is_relative_to(real_path(path)):
            raise UsageError(f"{path} is the working directory, or holds it. Try: another name")
        if path.is_mount():
            raise UsageError(f"{path} is where a disk is mounted. Try: {path / 'out'}")
    for folder in real_path(path).parents:
        if is_store(folder):
            raise UsageError(f"{path} lies in {folder}, the store of a kernel matrix")
    _check_writable(path)


def _check_writable(path: Path) -> None:
    """Refuse a path in a folder that takes no new file. Raises: UsageError."""
    parent = path.absolute().parent
    while not os.path.lexists(parent):
        parent = parent.parent
    try:  # the access rights say nothing of /proc or of a full disk
        tempfile.TemporaryFile(dir=parent).close()
    except OSError as error:
        raise UsageError(
            f"{path}: {parent} is not a directory that can be written to ({error.strerror})"
        ) from error


def _check_inputs(options: argparse.Namespace, out: Path) -> None:
    """Refuse OUT if it is, or holds, something that the command reads. Raises: UsageError."""
    place = real_path(out)
    for source in _inputs(options):
        if real_path(source).is_relative_to(place):
            holds = f" holds {received_text(str(source), 200)}, which"
            what = " is what" if real_path(source) == place else holds
            raise UsageError(f"{out}{what} this command reads. Try: another place to write to")


def _inputs(options: argparse.Namespace) -> Iterator[Path]:
    """The files and directories that the options name as inputs."""
    given = [(name, getattr(options, name, None)) for name in _INPUTS]
    own = getattr(options, "own", {})  # of --variants
    for name, value in [*given, *(("own", source.name) for source in own.values())]:
        if not isinstance(value, str | Path):
            continue
        text = str(value).rpartition(":")[0] if name == "space" else str(value)
        path = expanded(text)
        named = text == "sample" or text.startswith(("tfds:", "zoo:"))
        if text and not named and (name == "gram" or path.exists()):
            yield path
