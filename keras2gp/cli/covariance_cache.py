"""Covariances between new images and the basis of a fit, stored beside it for later commands.

    DIR/cross/KEY.npy    [M, B + 1] for a batch of M images: covariances with the B inputs of the
                         basis, and the prior variance
    DIR/cross/KEY.json   checksum and digest

KEY is a digest of the kernel, the fit and the images: covariances of others are never read.
"""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.array_files import array_writer, checksum, read_array
from keras2gp._util.arrays import Array, Images, InputsLike
from keras2gp._util.digest import check_digest, file_digest, with_digest
from keras2gp._util.files import made_folders, write_files
from keras2gp._util.memory import require_disk
from keras2gp._util.paths import read_if_regular
from keras2gp.errors import Keras2GPError, ModelFileError
from keras2gp.fit_record import HEAD
from keras2gp.gp.classification.classifier import GPClassifier
from keras2gp.gp.process.fitted import rows_of_batch
from keras2gp.gp.regression.regressor import GPRegressor
from keras2gp.gp.saving import Head

__all__ = ["BATCH", "CovarianceCache"]

BATCH = 512
"""Images that are predicted together, at most."""
_LARGEST_JSON = 2**16


class CovarianceCache:
    """The covariances that are stored beside a fit, and those that a command adds.

    read, written, damaged: numbers of images, for the output of a command

    directory: the directory of the fit
    keep:      whether to store covariances that are not there yet
    """

    def __init__(self, directory: Path, *, keep: bool) -> None:
        self._folder, self._keep = directory / "cross", keep
        self.read = self.written = self.damaged = self._without_matrix = 0
        files = (directory / "kernel" / "kernel.json", directory / "head" / HEAD)
        self._fit_digests = (
            "" if not self.used else "".join(str(file_digest(file)) for file in files)
        )

    @property
    def used(self) -> bool:
        """Whether there is anything to read or to write."""
        return self._keep or self._folder.is_dir()

    def state(self) -> dict[str, int]:
        """The numbers of images read and written, as data for JSON."""
        return {"read": self.read, "written": self.written, "damaged": self.damaged}

    def notes(self) -> list[str]:
        """A sentence each on the images whose covariances were read, stored and recomputed."""
        covariances = "covariances with the training images were"
        sentences = {
            f"{self.read} images: {covariances} read from {self._folder}": self.read,
            f"{self.written} images: {covariances} stored": self.written,
            f"{self.damaged} images: stored covariances were damaged and have been recomputed": (
                self.damaged
            ),
        }
        notes = [sentence for sentence, images in sentences.items() if images]
        if self._keep and self._without_matrix:
            notes.append(
                "--keep stores nothing: this fit does not predict from one covariance matrix"
            )
        return notes

    def batch(self, estimator: Head, largest: int) -> int:
        """Images of a batch: an estimator asks for the covariances of all of them at once."""
        if not self.used or not _has_basis(estimator):
            return largest
        return min(largest, rows_of_batch(len(_basis(estimator))))

    def require_room(self, estimator: Head, *sources: Images) -> None:
        """Refuse images whose covariances do not fit on the disk, before any is computed.

        sources: all images that will be predicted, each source in batches of `batch` images

        Raises: StoreError.
        """
        if not self._keep or not _has_basis(estimator):
            return
        columns, kernel = len(_basis(estimator)) + 1, estimator.kernel
        row_bytes = np.dtype(getattr(kernel, "dtype", np.float64)).itemsize * columns
        size = self.batch(estimator, BATCH)
        batches = (x[start : start + size] for x in sources for start in range(0, len(x), size))
        new = sum(len(x) for x in batches if not self._file(self._key(x), ".json").is_file())
        require_disk(self._folder, new * row_bytes, "what --keep keeps", "without --keep")

    def with_covariances(self, estimator: Head, x: Images) -> Head:
        """The estimator with a kernel that has the covariances of x. Raises: StoreError."""
        if not self.used or not _has_basis(estimator):
            self._without_matrix += len(x)
            return estimator
        values = self._values(estimator, x)
        with_values = copy.copy(estimator)
        with_values.kernel = _KernelWithValues(estimator.kernel, values)
        return with_values

    def _key(self, x: Images) -> str:
        prefix = f"{self._fit_digests} {x.dtype.str} {x.shape}".encode()
        return hashlib.sha256(prefix + np.ascontiguousarray(x).tobytes()).hexdigest()[:32]

    def _file(self, key: str, ending: str) -> Path:
        return self._folder / f"{key}{ending}"

    def _values(self, estimator: Head, x: Images) -> Array:
        """Covariances with the basis, and variances in the last column, [M, B + 1]."""
        key = self._key(x)
        shape = (len(x), len(_basis(estimator)) + 1)
        values = self._stored(key, shape)
        if values is not None:
            self.read += len(x)
            return values
        kernel: Any = estimator.kernel
        cross, variances = kernel.matrix(x, _basis(estimator)), np.asarray(kernel.diag(x))
        values = np.concatenate([cross, variances[:, None]], axis=1)
        if self._keep:
            self._write(key, values)
            self.written += len(x)
        return values

    def _stored(self, key: str, shape: tuple[int, int]) -> Array | None:
        """The stored values; None where there are none, or where they are damaged."""
        path = self._file(key, ".json")
        try:
            content = read_if_regular(path, _LARGEST_JSON)
            if content is None:
                return None
            facts = json.loads(content)
            check_digest(facts, str(path))
            values = read_array(self._file(key, ".npy"), 2)
            if values.shape != shape or checksum(values) != facts["crc32"]:
                raise ModelFileError(f"{path} is of another array")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, Keras2GPError):
            self.damaged += shape[0]
            return None
        return values

    def _write(self, key: str, values: Array) -> None:
        facts = json.dumps(with_digest({"key": key, "crc32": checksum(values)})) + "\n"
        # The array first: a process that is killed in between leaves nothing that is read.
        array = (self._file(key, ".npy"), array_writer(values))
        with made_folders(self._folder):
            write_files([array, (self._file(key, ".json"), facts)])


class _KernelWithValues:
    """A kernel whose values between some images and a basis are known.

    values: [M, B + 1], as `CovarianceCache` stores them
    """

    def __init__(self, kernel: Any, values: Array) -> None:
        self._kernel, self._values = kernel, values

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def __call__(self, _x1: InputsLike, _x2: InputsLike = None, /) -> Array:
        covariances: Array = self._values[:, :-1]
        return covariances

    def diag(self, _x: InputsLike, /) -> Array:
        variances: Array = self._values[:, -1]
        return variances


def _has_basis(estimator: Head) -> bool:
    """Whether predictions are made of one matrix with the basis, of plain images."""
    exact = isinstance(estimator, GPClassifier | GPRegressor)
    return exact and not getattr(estimator.kernel, "positions", ())


def _basis(estimator: Any) -> Images:
    basis: Images = estimator.basis_
    return basis
