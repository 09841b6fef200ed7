"""A fit as one directory: its kernel, the estimator, and the record of its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keras2gp._util.files import read_if_regular, staged_directory
from keras2gp._util.fit_record import FIT_FILES, RECORD, FitRecord
from keras2gp.errors import ModelFileError
from keras2gp.gp.heads import Fitted, write_head

__all__ = ["save_fit"]

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


def is_saved_with_its_fit(kernel: Any) -> bool:
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
