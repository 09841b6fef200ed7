"""A fit as one directory: its kernel, the estimator, and the record of its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from keras2gp._util.array_files import array_writer, checksum
from keras2gp._util.arrays import Array
from keras2gp._util.digest import with_digest
from keras2gp._util.files import Content, staged_directory, write_files
from keras2gp._util.paths import read_if_regular
from keras2gp.errors import ModelFileError
from keras2gp.fit_record import FIT_FILES, HEAD, RECORD, FitRecord
from keras2gp.gp.arguments.kernel_function import KernelLike

__all__ = ["FORMAT", "Fitted", "described", "save_fit", "version_of", "write_head"]

_LARGEST = 2**24


def save_fit(estimator: Fitted, directory: Path, record: FitRecord) -> None:
    """Write DIR/kernel, DIR/head and DIR/fit.json, in one piece.

    A kernel that cannot be saved (a function, one of scikit-learn's, "precomputed") is left out.

    Args:
        estimator: a fitted estimator.
        directory: where to; a fit that it holds is replaced at the end.
        record: the model and the data of the fit.

    Raises:
        ModelFileError: the directory holds something else than a fit.
        StoreError: the directory cannot be written, or holds a file that is none of a fit's.
    """
    _require_replaceable(directory)
    with staged_directory(directory, FIT_FILES) as staged:
        if is_saved_with_its_fit(estimator.kernel):
            estimator.kernel.save(staged / "kernel")
        write_head(estimator, staged / "head")
        record.write(staged)


def is_saved_with_its_fit(kernel: KernelLike) -> bool:
    """Whether a kernel is one of keras2gp's: others may have a `save` of another meaning.

    A sum with a function that no file holds is left out too.
    """
    ours = hasattr(kernel, "save") and hasattr(kernel, "with_parameters")
    return ours and getattr(kernel, "unsaved", None) is None


def _require_replaceable(directory: Path) -> None:
    """Refuse a directory that holds something, and is no fit."""
    try:
        empty = not directory.is_dir() or not any(directory.iterdir())
        marker = None if empty else json.loads(read_if_regular(directory / RECORD, _LARGEST) or "0")
    except (OSError, ValueError, RecursionError):
        empty, marker = False, None
    if not empty and not (isinstance(marker, dict) and {"format", "task"} <= set(marker)):
        raise ModelFileError(f"{directory} exists and is not a saved fit: choose another")


FORMAT = "keras2gp.gp"

_VERSION = 1


class Fitted(Protocol):
    """A fitted estimator."""

    kernel: KernelLike

    def settings_state(self) -> dict[str, Any]:
        """The settings without the kernel, as data for JSON."""

    def fit_state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The facts of a fit as data for JSON, and its arrays by file name."""


def write_head(estimator: Fitted, directory: Path) -> None:
    """Write a fitted estimator without its kernel; see `save_head`.

    Raises:
        InputError: labels that JSON cannot hold.
        ModelFileError: the directory cannot be written.
    """
    facts, arrays = estimator.fit_state()
    parameters = {**estimator.settings_state(), "precomputed": isinstance(estimator.kernel, str)}
    head = {
        "format": FORMAT,
        "version": version_of(facts),
        "class": type(estimator).__name__,
        "parameters": parameters,
        **facts,
        "arrays": {name: described(array) for name, array in arrays.items()},
    }
    text = json.dumps(with_digest(head), indent=2, allow_nan=False) + "\n"
    files: list[tuple[Path, Content]] = [
        (directory / name, array_writer(array)) for name, array in arrays.items()
    ]
    files.append((directory / HEAD, text))
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelFileError(f"{directory} cannot be written: {error}") from error
    write_files(files, ModelFileError)


def version_of(facts: Mapping[str, Any]) -> int:
    """The version of a fit: others with a prior mean or missing targets, new in 0.2."""
    return _VERSION + ("prior_mean" in facts) + 2 * ("missing_targets" in facts)


def described(array: Array) -> dict[str, Any]:
    """Type, shape and checksum of an array, as data for JSON."""
    return {"dtype": array.dtype.str, "shape": list(array.shape), "crc32": checksum(array)}
