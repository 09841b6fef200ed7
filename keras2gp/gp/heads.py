"""The directory of a fitted estimator without its kernel, as it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from keras2gp._util.array_files import array_writer, checksum
from keras2gp._util.arrays import Array
from keras2gp._util.digest import with_digest
from keras2gp._util.files import Content, write_files
from keras2gp._util.fit_record import HEAD
from keras2gp.errors import ModelFileError

__all__ = ["FORMAT", "Fitted", "described", "version_of", "write_head"]

FORMAT = "keras2gp.gp"
_VERSION = 1


class Fitted(Protocol):
    """A fitted estimator."""

    kernel: Any

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
    """The version of a fit: another one with a prior mean, which earlier releases leave out."""
    return _VERSION + ("prior_mean" in facts)


def described(array: Array) -> dict[str, Any]:
    """Type, shape and checksum of an array, as data for JSON."""
    return {"dtype": array.dtype.str, "shape": list(array.shape), "crc32": checksum(array)}
