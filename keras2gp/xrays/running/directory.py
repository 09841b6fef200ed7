"""The directory of an X-ray: what tells that it is of this one; its matrices, scores, models."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras2gp._util.arrays import Array, Matrix
from keras2gp._util.digest import check_digest, with_digest
from keras2gp._util.files import made_folders, staged_file, sweep, write_file
from keras2gp._util.paths import read_if_regular
from keras2gp._util.progress import Progress
from keras2gp._util.version import VERSION
from keras2gp.errors import Keras2GPError, StoreError
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.api import gram
from keras2gp.matrices.fingerprint import digest, graph_identity
from keras2gp.matrices.store import GramStore
from keras2gp.matrices.work import ExecutorLike
from keras2gp.modelfile.archive import save_archive
from keras2gp.xrays.files import FOLDERS, MARKER, require_ours
from keras2gp.xrays.measuring.scores import Scores
from keras2gp.xrays.rows import Inputs, ScoredTargets, arrays_of
from keras2gp.xrays.variants.subject import OWN, Variant

__all__ = [
    "Directory",
    "data_facts",
    "differences_from",
    "identity_of",
    "model_facts",
    "read_record",
    "require_same",
    "scores_file",
]

_FORMAT = 4
_MEANINGS = {
    "keras2gp": "the version of keras2gp",
    "format": "the format of the directory",
    "rows": "the number of rows",
    "data_sha256": "the images",
    "targets_sha256": "the targets",
    "test_rows": "the number of test rows",
    "test_sha256": "the test rows",
    "subsets": "subsets",
    "seed": "the seed",
    "kind": "the kind of kernel",
    "dtype": "the dtype",
    "network": "the model, or its settings (position, overrides, output, ...)",
}


def data_facts(
    x: Inputs, targets: ScoredTargets, test: Inputs | None, subsets: int, seed: int
) -> dict[str, Any]:
    """The facts of the rows and the halvings, which are known before a model is read."""
    tested = [] if test is None else [*arrays_of(test), targets.test]
    return {
        "format": _FORMAT,
        "rows": len(targets.y),
        "data_sha256": _sha256(*arrays_of(x)),
        "targets_sha256": _sha256(targets.y),
        "test_rows": 0 if targets.test is None else len(targets.test),
        "test_sha256": _sha256(*(array for array in tested if array is not None)),
        "subsets": subsets,
        "seed": seed,
    }


def model_facts(kernel: Kernel) -> dict[str, Any]:
    """The facts of the kernel of the model as it is."""
    network = graph_identity(kernel.graph, kernel.parameters)
    return {"kind": kernel.kind, "dtype": kernel.dtype, "network": digest(network)}


def identity_of(data: Mapping[str, Any], kernel: Kernel, key: str) -> dict[str, Any]:
    """All facts.

    Args:
        data: facts of the rows, by `data_facts`.
        kernel: the kernel of the model as it is.
        key: name of its matrix.
    """
    return {"xray": key, **data, **model_facts(kernel)}


def differences_from(earlier: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """A clause for each fact that differs, with the values where they are short.

    Args:
        earlier: the facts of a directory.
        facts: some of the facts of this X-ray.
    """
    clauses = []
    for name, value in {"keras2gp": VERSION, **facts}.items():
        there = earlier.get(name)
        if there == value or name not in _MEANINGS:
            continue
        long = name.endswith("sha256") or name == "network"
        clauses.append(_MEANINGS[name] + ("" if long else f" ({there} there, {value} here)"))
    if not clauses and earlier.get("xray") != facts.get("xray", earlier.get("xray")):
        return ["the images as the model's preprocessing leaves them"]
    return clauses


def _sha256(*arrays: Array) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())
    return total.hexdigest()


_LARGEST = 2**30
_LONGEST_NAME = 40


def scores_file(name: str) -> str:
    """The file of scores in a directory."""
    return f"scores/{name}.json"


def require_same(path: Path, facts: Mapping[str, Any]) -> None:
    """Refuse a directory of another X-ray; nothing is made or written.

    Args:
        path: the directory, which may not exist yet.
        facts: some of the facts of this X-ray.

    Raises:
        StoreError: it is of another one, its record is damaged, or it holds a file that an X-ray
            would replace and keras2gp did not write.
    """
    require_ours(path)
    marker = path / MARKER
    if not marker.exists():
        return
    earlier = read_record(marker)
    if earlier is None:
        raise StoreError(f"{marker} is damaged. Try: another directory")
    if clauses := differences_from(earlier, facts):
        raise StoreError(
            f"{path} is of another X-ray, which differs in {'; '.join(clauses)}. "
            "Try: another directory"
        )


def read_record(path: Path) -> Any:
    """The content of a JSON file of ours; None where there is none, or it is damaged."""
    try:
        data = json.loads(read_if_regular(path, _LARGEST) or b"null")
        if data is not None:
            check_digest(data, str(path))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, Keras2GPError):
        return None
    return data


class Directory:
    """The directory of an X-ray, new or of an earlier run.

    Args:
        path: the directory.
        identity: all facts of the X-ray, as data for JSON.

    Raises:
        StoreError: it is of another X-ray, or cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._names: dict[str, int] = {}
        require_same(path, identity)
        with made_folders(path):
            sweep(path)
            marker = path / MARKER
            if not marker.exists():  # it comes first: without it nothing that is there is ours
                write_file(marker, json.dumps(with_digest(identity), indent=1) + "\n")
            with made_folders(*(path / folder for folder in FOLDERS)):
                pass

    def read(self, name: str) -> Any:
        """The content of a JSON file of ours; None where there is none, or it is damaged."""
        return read_record(self.path / name)

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write a JSON file with its digest."""
        write_file(self.path / name, json.dumps(with_digest(data)) + "\n")

    def scores(self, name: str) -> Scores | None:
        """The scores that an earlier run has left."""
        state = self.read(scores_file(name))
        try:
            return None if state is None else Scores.from_state(state)
        except (KeyError, TypeError, ValueError):
            return None

    def store(
        self,
        kernel: Kernel,
        name: str,
        x1: Inputs,
        x2: Inputs | None = None,
        *,
        executor: ExecutorLike,
        progress: Progress = False,
    ) -> Matrix | GramStore:
        """The store of a kernel matrix, filled or found; arguments are those of `gram`."""
        out = self.path / "kernels" / name
        return gram(kernel, x1, x2, out=out, executor=executor, progress=progress)

    def save_model(self, variant: Variant) -> str:
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
        try:
            with staged_file(path) as partial:
                save_archive(variant.model, partial)
        except (ValueError, TypeError, NotImplementedError):  # a layer that Keras cannot save
            return ""
        return name
