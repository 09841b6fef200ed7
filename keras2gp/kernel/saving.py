"""Kernels on disk: a SavedModel that runs without keras2gp, and JSON that rebuilds the kernel.

    DIR/saved_model.pb, variables/, ...   serving signature: x1, x2 -> matrix
    DIR/kernel.json                       graph, parameters, inputs, report
    DIR/preprocessor.keras                the deterministic layers, where there are any

A directory is written under another name and moved into place, so that a failed write leaves the
old one. A reader takes everything for data: nothing in a saved kernel is code to keras2gp.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras2gp._util.files import staged_directory
from keras2gp.covariance.own_activations import OwnActivations
from keras2gp.errors import Keras2GPError, ModelFileError
from keras2gp.kernel.exported import ExportedKernel
from keras2gp.kernel.parts import KernelParts
from keras2gp.modelfile.loading import load_model_file

__all__ = ["read_kernel", "save_kernel"]

_LARGEST_JSON = 64 * 2**20


def save_kernel(parts: KernelParts, directory: Path) -> None:
    """Write a kernel into a directory, which is replaced if it holds a kernel already.

    Raises: ModelFileError if the directory exists and holds something else.
    """
    if directory.exists() and not (directory / "kernel.json").is_file():
        empty = directory.is_dir() and not any(directory.iterdir())
        if not empty:
            raise ModelFileError(f"{directory} exists and is not a saved kernel: choose another")
    with staged_directory(directory) as target:
        module = _MatrixModule(parts)
        tf.saved_model.save(module, str(target), signatures=module.matrix)
        if parts.preprocessor is not None:
            parts.preprocessor.save(target / "preprocessor.keras")
        (target / "kernel.json").write_text(json.dumps(parts.to_dict(), indent=1))


def read_kernel(
    directory: Path, activations: OwnActivations, layers: Mapping[Any, Any] | None = None
) -> KernelParts:
    """The parts of the kernel that `save_kernel` wrote.

    Raises: ModelFileError if there is none, if it is damaged, or if it needs an activation that
        is not among `activations`.
    """
    file = directory / "kernel.json"
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise ModelFileError(f"{file} is larger than any kernel that is written here")
        data = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise ModelFileError(f"{directory} holds no saved kernel: no kernel.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{file} cannot be read: {error}") from error
    try:
        preprocessor = None
        if data["preprocessor"]:
            preprocessor = _preprocessor(directory, activations, layers)
        return KernelParts.from_dict(data, preprocessor)
    except Keras2GPError as error:
        raise ModelFileError(f"{file}: {error}") from error
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ModelFileError(f"{file} is malformed: {type(error).__name__}: {error}") from error


def _preprocessor(
    directory: Path, activations: OwnActivations, layers: Mapping[Any, Any] | None
) -> Any:
    file = directory / "preprocessor.keras"
    loaded = load_model_file(file, weights=True, activations=activations.functions, layers=layers)
    if loaded.model is None or loaded.unreadable:
        raise ModelFileError(f"{file} holds layers that are not Keras's: state layers=")
    return loaded.model


class _MatrixModule(tf.Module):  # type: ignore[misc]
    """The matrix of a kernel as the signature of a SavedModel."""

    def __init__(self, parts: KernelParts) -> None:
        super().__init__()
        self._kernel = ExportedKernel(parts)
        names = ["x1", "x2"] if len(parts.inputs) == 1 else []
        names = names or [f"{x}_{spec.name}" for x in ("x1", "x2") for spec in parts.inputs]
        shapes = [spec.shape for spec in parts.inputs] * 2
        signature = [
            tf.TensorSpec([None, *shape], self._kernel.dtype, name=name)
            for name, shape in zip(names, shapes, strict=True)
        ]
        self._count = len(parts.inputs)
        self.matrix = tf.function(self._matrix, input_signature=signature, autograph=False)

    def _matrix(self, *arrays: Any) -> dict[str, Any]:
        first = self._kernel.images(arrays[: self._count])
        _, second = self._kernel.side(self._kernel.images(arrays[self._count :]))
        return {"matrix": self._kernel.cross(first, second)[0]}
