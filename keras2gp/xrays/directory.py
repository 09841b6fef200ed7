"""The directory of an X-ray: kernel matrices, scores and models, with which a run goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Matrix
from keras2gp._util.digest import check_digest, with_digest
from keras2gp._util.files import read_if_regular, sweep, write_file
from keras2gp.errors import Keras2GPError, StoreError
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.api import gram
from keras2gp.xrays.identity import differing
from keras2gp.xrays.images import Inputs
from keras2gp.xrays.scores import Scores
from keras2gp.xrays.variants import OWN, Variant

__all__ = ["MARKER", "Directory", "require_same", "scores_file"]

MARKER = "xray.json"
"""The record of an X-ray in its directory."""
_LARGEST = 2**30
_LONGEST_NAME = 40


def scores_file(key: str) -> str:
    """Name of the scores of a kernel in a directory."""
    return f"scores/{key}.json"


def require_same(path: Path, facts: Mapping[str, Any]) -> None:
    """Refuse a directory of another X-ray; nothing is made or written.

    Args:
        path: where it is, if it is there.
        facts: some of those of this X-ray.

    Raises:
        StoreError: it is of another one, or its record is damaged.
    """
    marker = path / MARKER
    if not marker.exists():
        return
    earlier = _read(marker)
    if earlier is None:
        raise StoreError(f"{marker} is damaged. Try: another directory")
    if clauses := differing(earlier, facts):
        raise StoreError(
            f"{path} is of another X-ray, which differs in {'; '.join(clauses)}. "
            "Try: another directory"
        )


def _read(path: Path) -> Any:
    """The content of a JSON file of ours; None where there is none, or it is damaged."""
    try:
        data = json.loads(read_if_regular(path, _LARGEST) or b"null")
        if data is not None:
            check_digest(data, str(path))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, Keras2GPError):
        return None
    return data


class Directory:
    """A directory, made or found.

    Args:
        path: where it is.
        identity: what it is of, for JSON.

    Raises:
        StoreError: it is of another X-ray, or cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._names: dict[str, int] = {}
        require_same(path, identity)
        try:
            for folder in ("kernels", "scores", "variants"):
                (path / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be made: {error.strerror}") from error
        sweep(path)
        marker = path / MARKER
        if not marker.exists():
            write_file(marker, json.dumps(with_digest(identity), indent=1) + "\n")

    def read(self, name: str) -> Any:
        """The content of a JSON file of ours; None where there is none, or it is damaged."""
        return _read(self.path / name)

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write a JSON file with its digest."""
        write_file(self.path / name, json.dumps(with_digest(data)) + "\n")

    def scores(self, key: str) -> Scores | None:
        """The scores that an earlier run has left."""
        state = self.read(scores_file(key))
        try:
            return None if state is None else Scores.from_state(state)
        except (KeyError, TypeError, ValueError):
            return None

    def matrix(
        self, kernel: Kernel, name: str, x1: Inputs, x2: Inputs | None = None, *, executor: Any
    ) -> Matrix:
        """A kernel matrix, whose store is filled or found."""
        store = self.path / "kernels" / name
        return np.asarray(gram(kernel, x1, x2, out=store, executor=executor, progress=False))

    def keep(self, variant: Variant) -> str:
        """Save a variant's model; its name in the directory, "" if it is not there.

        An ablation is the same model in every run, and is saved once.
        """
        if variant.model is None:
            return ""
        plain = re.sub(r"[^A-Za-z0-9]+", "-", variant.name)[:_LONGEST_NAME].strip("-") or "variant"
        count = self._names[plain] = self._names.get(plain, 0) + 1
        name = f"variants/{plain if count == 1 else f'{plain}-{count}'}.keras"
        path = self.path / name
        if variant.kind != OWN and path.exists():
            return name
        partial = path.with_name(f".{path.name}.partial.keras")
        try:
            variant.model.save(partial)
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StoreError(f"{path} cannot be written: {error}") from error
        except (ValueError, TypeError, NotImplementedError):  # a layer that Keras cannot save
            partial.unlink(missing_ok=True)
            return ""
        return name
