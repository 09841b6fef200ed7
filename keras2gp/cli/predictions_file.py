"""Predictions on disk: a .csv with a header, or an .npz of the same columns."""

from __future__ import annotations

import csv
import os
import zipfile
from pathlib import Path

import numpy as np

from keras2gp._util.arrays import Array

__all__ = ["is_predictions", "write_predictions"]

_CSV_STARTS = ("row,label,variance,p_", "row,mean,std")
_NPZ_NAMES = ({"label.npy", "probability.npy"}, {"mean.npy", "std.npy"})


def is_predictions(path: Path) -> bool:
    """Whether a file is one that `write_predictions` wrote."""
    if not path.is_file():
        return False
    if path.suffix == ".csv":
        with path.open("rb") as stream:
            return stream.readline(64).decode(errors="replace").startswith(_CSV_STARTS)
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    return any(wanted <= names for wanted in _NPZ_NAMES)


def write_predictions(path: Path, columns: dict[str, Array]) -> None:
    """Write predictions, by the file's ending; the file has its name only once it is complete.

    columns: as posterior.predictions returns
    Raises: OSError if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if path.suffix == ".csv":
            _write_csv(staged, columns)
        else:
            with staged.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **columns)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def _write_csv(path: Path, columns: dict[str, Array]) -> None:
    if "label" not in columns:
        header, names = ["row", "mean", "std"], ["mean", "std"]
        rows = np.stack([columns[name] for name in names], axis=1).tolist()
    else:
        header = ["row", "label", "variance", *(f"p_{name}" for name in columns["classes"])]
        values = np.column_stack([columns["variance"], columns["probability"]]).tolist()
        labels = columns["label"].tolist()
        rows = [[label, *row] for label, row in zip(labels, values, strict=True)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows([number, *row] for number, row in enumerate(rows))
