"""The directory of a fit: DIR/fit.json, the record of its model and data, and its files' names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from keras2gp._util.digest import check_digest, with_digest
from keras2gp._util.files import write_file
from keras2gp._util.paths import expanded, missing, read_if_regular, real_path
from keras2gp.errors import Keras2GPError, ModelFileError

__all__ = [
    "FIT_FILES",
    "HEAD",
    "KERNEL_FILES",
    "RECORD",
    "SAVED_MODEL_FILES",
    "FitRecord",
    "data_digest",
    "identity",
    "input_shape",
    "read_record",
]

RECORD = "fit.json"
HEAD = "head.json"
SAVED_MODEL_FILES = (
    "saved_model.pb", "fingerprint.pb", "keras_metadata.pb", "variables/variables.index",
    "variables/variables.data-?????-of-?????",
)  # fmt: skip
KERNEL_FILES = ("kernel.json", "preprocessor.keras", *SAVED_MODEL_FILES)
"""Files of a saved kernel, as patterns."""
_HEAD_FILES = (
    HEAD, "x_train.npy", "y.npy", "alpha.npy", "factor.npy", "leading.npy", "weights.npy",
    "single.npy", "unit.npy", "lower.npy", "inner.npy", "diagonal.npy", "dirichlet_factor.npy",
    "dirichlet_alpha.npy", "dirichlet_inner.npy", "rates.npy", "vectors.npy", "prior.npy",
    "linear_map.npy", "noise.npy", "relative_noise.npy", "observed.npy", "latent.npy",
    "factors.npy", "noises.npy", "eigenvalues.npy", "eigenvectors.npy", "patterns.npy",
    "pattern_factors.npy",
)  # fmt: skip
FIT_FILES = (
    RECORD,
    *(f"kernel/{where}{name}" for where in ("", "parts/*/") for name in KERNEL_FILES),
    *(f"head/{name}" for name in _HEAD_FILES),
    *(f"cross/{'[0-9a-f]' * 32}{ending}" for ending in (".npy", ".json")),
)
"""Files of a fit, as patterns."""
_FORMAT = 1
_SHUFFLED = 2
"""Format of a fit to shuffled rows, which earlier versions would take for the first ones."""
_LARGEST = 2**24
_TASKS = ("classification", "regression")


_OPTIONAL = ("shuffle", "target")
"""Fields that a file has where they are stated alone."""


@dataclass(frozen=True)
class FitRecord:
    """The model and the data of a fit.

    task:     "classification" or "regression"
    model:    the argument MODEL, or the name of the model
    source:   the argument D, or where else the data came from
    identity: one name of the data for all paths of the same file; empty for data of no file
    rows:     the number of training rows, the first of the source, or of its shuffled rows
    sha256:   of those rows, images and labels; empty for data of no file
    shuffle:  the seed of the order in which training rows were taken; None for the source's own
    target:   the column of labels or targets of a table; None for y
    """

    task: str
    model: str
    source: str
    identity: str
    rows: int
    sha256: str
    shuffle: int | None = None
    target: str | None = None

    def write(self, directory: Path) -> None:
        """Write DIR/fit.json, with its digest."""
        data: dict[str, Any] = {
            "format": _FORMAT if self.shuffle is None else _SHUFFLED,
            **{k: v for k, v in asdict(self).items() if v is not None or k not in _OPTIONAL},
        }
        text = json.dumps(with_digest(data), indent=1)
        write_file(directory / RECORD, text + "\n")


def input_shape(directory: Path) -> tuple[int | None, ...] | None:
    """The shape of one image of a saved kernel, with None for a size that is open.

    None where the kernel has several inputs, or one of words or integers; and where the file does
    not say, which its load explains.
    """
    try:
        state = json.loads(read_if_regular(directory / "kernel.json", _LARGEST) or b"")
        (one,) = state["inputs"]
        shape = tuple(one["shape"])
        known = all(n is None or (type(n) is int and n > 0) for n in shape)
        return shape if known and not one.get("dtype") else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def read_record(directory: Path) -> FitRecord:
    """The record of a fitted model.

    Raises: ModelFileError if the directory holds none, or it is damaged.
    """
    path = directory / RECORD
    if directory.is_file():
        raise ModelFileError(
            f"{directory} is a file, and a fitted model is a directory. Try: the --out of keras2gp "
            "fit, which fits a model or a kernel to data"
        )
    if not directory.is_dir():
        raise ModelFileError(missing(directory, "no such directory"))
    if not path.is_file():
        is_kernel = (directory / "kernel.json").is_file()
        hint = f". It is a kernel. Try: keras2gp fit {directory} first" if is_kernel else ""
        raise ModelFileError(f"{directory} holds no fitted model (no {RECORD}){hint}")
    try:
        data = json.loads(read_if_regular(path, _LARGEST) or b"")
        if data["format"] != (_SHUFFLED if "shuffle" in data else _FORMAT):
            raise ModelFileError(f"{path} is of another version of keras2gp: fit again")
        check_digest(data, str(path))
        names = [f.name for f in fields(FitRecord) if f.name in data or f.name not in _OPTIONAL]
        record = FitRecord(**{name: data[name] for name in names})
        wrong = _wrong_fields(record)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, Keras2GPError):
            raise
        raise ModelFileError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if wrong:
        raise ModelFileError(f"{path} is damaged: {', '.join(wrong)}")
    return record


def _wrong_fields(record: FitRecord) -> list[str]:
    kinds = {"rows": int, "shuffle": int}
    stated = {k: v for k, v in asdict(record).items() if v is not None or k not in _OPTIONAL}
    wrong = [k for k, v in stated.items() if type(v) is not kinds.get(k, str)]
    if "shuffle" not in wrong and (record.shuffle or 0) < 0:
        wrong.append("shuffle")
    return wrong or ([] if record.task in _TASKS else ["task"])


def identity(source: str) -> str:
    """One name for all paths of a data source: the resolved path; other sources as they are."""
    if source == "sample" or source.startswith("tfds:"):
        return source
    return str(real_path(expanded(source)))


def data_digest(*arrays: Any) -> str:
    """SHA-256 of arrays: types, shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
