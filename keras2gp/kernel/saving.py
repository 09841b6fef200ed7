"""Kernels on disk: a SavedModel that runs without keras2gp, and JSON that rebuilds the kernel.

    DIR/saved_model.pb, variables/, ...   serving signature: x1, x2 -> matrix
    DIR/kernel.json                       graph, parameters, inputs, report
    DIR/preprocessor.keras                the deterministic layers, where there are any

A directory is written under another name and moved into place, so that a failed write leaves the
old one. A reader takes everything for data: nothing in a saved kernel is code to keras2gp.
kernel.json states its own digest and that of preprocessor.keras; a changed file is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp._util.digest import check_digest, file_digest, with_digest
from keras2gp._util.files import DISK_ERRORS, staged_directory
from keras2gp._util.paths import missing, read_if_regular
from keras2gp.covariance.own_activations import OwnActivations
from keras2gp.covariance.pairs import ImageBlock
from keras2gp.covariance.program import Program
from keras2gp.errors import Keras2GPError, ModelFileError, StoreError, one_line
from keras2gp.kernel.parts import KernelParts
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.modelfile.allowlist import FOREIGN_CODE
from keras2gp.modelfile.archive import save_archive
from keras2gp.modelfile.directories import CONFIG
from keras2gp.modelfile.loading import load_model_file

__all__ = [
    "JSON",
    "ExportedKernel",
    "json_of",
    "malformed_refused",
    "read_kernel",
    "replaced",
    "save_kernel",
    "save_module",
]

_ROWS = 16
"""Rows of the matrix that one step of the loop computes."""


class ExportedKernel(tf.Module):  # type: ignore[misc]
    """Pure functions of images [N, *shape]; the prior variances are tf.Variables.

    Images are transposed to [*spatial, C, N] behind the preprocessor, as `ImageBlock` holds them.
    """

    def __init__(self, parts: KernelParts) -> None:
        super().__init__()
        self._program = Program(parts.graph, kind=parts.kind)
        compiled = CompiledProgram(parts.graph, parts.dtype)
        weights, biases = compiled.variances(parts.parameters)
        self._weights = [tf.Variable(value) for value in weights]
        self._biases = [tf.Variable(value) for value in biases]
        self.dtype = tf.as_dtype(parts.dtype)
        self._preprocessor = parts.preprocessor

    def images(self, arrays: Sequence[Tensor]) -> list[Tensor]:
        """Images behind the preprocessor, [*spatial, C, N]."""
        tensors = list(arrays)
        if self._preprocessor is not None:
            outputs = self._preprocessor(tensors, training=False)
            tensors = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        tensors = tensors[: len(self._program.graph.inputs)]  # the mean reads the others
        last = [tf.concat([tf.range(1, t.shape.rank), [0]], 0) for t in tensors]
        return [
            tf.transpose(tf.cast(t, self.dtype), perm)
            for t, perm in zip(tensors, last, strict=True)
        ]

    def side(self, images: Sequence[Tensor]) -> tuple[Tensor, ImageBlock]:
        """Variances of the output, [N, *positions], and the statistics that `cross` reads."""
        outputs, prepared, statistics = self._program.statistics(
            images, self._weights, self._biases
        )
        return _images_first(outputs[0], 1), ImageBlock(prepared, statistics)

    def cross(self, images: Sequence[Tensor], second: ImageBlock) -> tuple[Tensor, Tensor]:
        """The matrix, [N1, N2, *positions], and the variances of the first images."""
        positions = self._program.graph.positions
        count, columns = tf.shape(images[0])[-1], tf.shape(second.images[0])[-1]

        def rows(start: Tensor, matrix: Tensor, diagonal: Tensor) -> tuple[Tensor, ...]:
            variances, first = self.side([x[..., start : start + _ROWS] for x in images])
            (values,) = self._program.cross(first, second, self._weights, self._biases)
            matrix = tf.concat([matrix, _images_first(values, 2)], 0)
            return start + _ROWS, matrix, tf.concat([diagonal, variances], 0)

        empty = [
            tf.zeros([0, columns, *positions], self.dtype),
            tf.zeros([0, *positions], self.dtype),
        ]
        _, matrix, diagonal = tf.while_loop(
            lambda start, *_: start < count,
            rows,
            [tf.constant(0), *empty],
            shape_invariants=[
                tf.TensorShape(s) for s in ([], [None, None, *positions], [None, *positions])
            ],
            parallel_iterations=1,
        )
        return matrix, diagonal


def _images_first(values: Tensor, count: int) -> Tensor:
    """Values with the axes of images, the last `count`, before those of positions."""
    rank = values.shape.rank
    if rank == count:
        return values
    return tf.transpose(values, [*range(rank - count, rank), *range(rank - count)])


_LARGEST_JSON = 64 * 2**20
JSON, _PREPROCESSOR = "kernel.json", "preprocessor.keras"
_OF_ONE = (JSON, _PREPROCESSOR, "saved_model.pb", "fingerprint.pb", "variables/*")
FILES = (*_OF_ONE, *(f"parts/*/{name}" for name in _OF_ONE))
"""Files of a saved kernel, and of the parts of a sum or product, as patterns."""


def save_kernel(parts: KernelParts, directory: Path) -> None:
    """Write a kernel into a directory, which is replaced if it holds a kernel already.

    Raises:
        ModelFileError: the directory holds anything else, is a link, or cannot be written.
    """
    with replaced(directory) as target:
        module = _MatrixModule(parts)
        save_module(module, target, module.matrix)
        files = {}
        if parts.preprocessor is not None:
            _check_code(parts.preprocessor)
            save_archive(parts.preprocessor, target / _PREPROCESSOR)
            files[_PREPROCESSOR] = file_digest(target / _PREPROCESSOR)
        data = with_digest({**parts.to_dict(), "files": files})
        (target / JSON).write_text(json.dumps(data, indent=1), encoding="utf-8")


def save_module(module: Any, directory: Path, function: Any) -> None:
    """Write a module of TensorFlow's, whose errors of a full disk speak of memory.

    Args:
        module: the module.
        directory: to write into.
        function: the one that is served.

    Raises:
        OSError: the directory cannot be written.
    """
    try:
        tf.saved_model.save(module, str(directory), signatures=function)
    except tf.errors.OpError as error:
        for number in DISK_ERRORS:
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number)) from error
        raise


@contextmanager
def replaced(directory: Path) -> Iterator[Path]:
    """A directory to write a kernel into, which then takes the place of one that was saved there.

    Raises:
        ModelFileError: the directory holds anything else, is a link, or cannot be written.
    """
    try:
        if directory.exists() and not _is_replaceable(directory):
            raise ModelFileError(f"{directory} exists and is not a saved kernel: choose another")
        with staged_directory(directory, FILES) as target:
            yield target
    except StoreError as error:
        raise ModelFileError(str(error)) from error
    except (OSError, ValueError) as error:  # a name that no file can have
        raise ModelFileError(f"{_short(directory)} cannot be written: {_cause(error)}") from error


def _check_code(preprocessor: Any) -> None:
    """Refuse layers that hold code, which is never run from a file. Raises: ModelFileError."""
    for layer in preprocessor.layers:
        if type(layer).__name__ in FOREIGN_CODE and type(layer).__module__.startswith("keras."):
            raise ModelFileError(
                f"the layer {layer.name} ({type(layer).__name__}), which runs on the data, holds "
                "code, and a saved kernel holds none. Try: Keras's own layers or keras.ops, or a "
                "layer class of your own, which load(..., layers=) hands over again"
            )


def _short(path: Path) -> str:
    """A path for a message: one line of at most 300 characters."""
    return one_line(str(path)[:300])


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _is_replaceable(directory: Path) -> bool:
    """Whether a path is an empty directory, or one with a kernel.json of keras2gp's."""
    if not directory.is_dir() or not any(directory.iterdir()):
        return directory.is_dir()
    try:  # Jupyter calls its files kernel.json too.
        keys = set(json_of(directory))
    except ModelFileError:
        return False
    return {"graph", "parameters"} <= keys or {"operation", "parts"} <= keys


def read_kernel(
    directory: Path, activations: OwnActivations, layers: Mapping[Any, Any] | None = None
) -> KernelParts:
    """The parts of the kernel that `save_kernel` wrote.

    Raises:
        ModelFileError: there is no kernel, it was changed or damaged, or it needs an activation
            or a layer that is not stated.
    """
    file = directory / JSON
    data = json_of(directory)
    check_digest(data, str(file))
    with malformed_refused(file):
        preprocessor = None
        if data["preprocessor"]:
            preprocessor = _preprocessor(directory, data.get("files"), activations, layers)
        return KernelParts.from_dict(data, preprocessor)


@contextmanager
def malformed_refused(file: Path) -> Iterator[None]:
    """Errors of reading the contents of a file, each under its name.

    Raises:
        ModelFileError: anything of ours, or what Python raises for contents of another form.
    """
    try:
        yield
    except Keras2GPError as error:
        raise ModelFileError(f"{file}: {error}") from error
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ModelFileError(f"{file} is malformed: {type(error).__name__}: {error}") from error


def _no_kernel(directory: Path) -> str:
    """Why there is no kernel at a path."""
    if directory.is_file():
        return (
            f"{directory} is a file, and a saved kernel is a directory. Try: keras2gp.convert, if "
            "it is a model"
        )
    if not directory.exists():
        return missing(directory, "no such directory")
    is_model = (directory / CONFIG).is_file()
    hint = ". It is a model. Try: keras2gp.convert, which reads it" if is_model else ""
    return f"{directory} holds no saved kernel: no file {JSON}{hint}"


def json_of(directory: Path) -> dict[str, Any]:
    """The object in kernel.json, of any content."""
    file = directory / JSON
    try:
        content = read_if_regular(file, _LARGEST_JSON)
        if content is None:
            raise ModelFileError(_no_kernel(directory))
        data = json.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{_short(file)} cannot be read: {_cause(error)}") from error
    if not isinstance(data, dict):
        raise ModelFileError(f"{file} is malformed: not an object but a {type(data).__name__}")
    return data


def _preprocessor(
    directory: Path,
    digests: Mapping[str, str] | None,
    activations: OwnActivations,
    layers: Mapping[Any, Any] | None,
) -> Any:
    file = directory / _PREPROCESSOR
    # keras2gp 0.1 wrote no digests of files.
    if digests is not None and digests.get(_PREPROCESSOR) != file_digest(file):
        raise ModelFileError(
            f"{_PREPROCESSOR} is missing or is not the file that keras2gp wrote (its digest "
            "differs). Try: an unchanged copy, or save the kernel again"
        )
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
        signature = [
            tf.TensorSpec([None, *spec.shape], spec.dtype or self._kernel.dtype, name=name)
            for name, spec in zip(names, parts.inputs * 2, strict=True)
        ]
        self._count = len(parts.inputs)
        self.matrix = tf.function(self._matrix, input_signature=signature, autograph=False)

    def _matrix(self, *arrays: Any) -> dict[str, Any]:
        first = self._kernel.images(arrays[: self._count])
        _, second = self._kernel.side(self._kernel.images(arrays[self._count :]))
        return {"matrix": self._kernel.cross(first, second)[0]}
