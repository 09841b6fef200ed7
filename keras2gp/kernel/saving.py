"""Kernels on disk: a SavedModel that runs without keras2gp, and JSON that rebuilds the kernel.

    DIR/saved_model.pb, variables/, ...   serving signature: x1, x2 -> matrix
    DIR/kernel.json                       graph, parameters, inputs, report
    DIR/preprocessor.keras                the deterministic layers, where there are any

A directory is written under another name and moved into place, so that a fault leaves what was
there. Everything read is data: nothing in a saved kernel is code to keras2gp.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras2gp._util.files import staged_directory
from keras2gp._util.version import VERSION
from keras2gp.covariance.own_activations import OwnActivations
from keras2gp.covariance.program import Program, check_rules, check_tangent, layers_of
from keras2gp.errors import Keras2GPError, ModelFileError
from keras2gp.graph.graph import Graph
from keras2gp.graph.serial import graph_from_dict, graph_to_dict
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.inputs import InputSpec
from keras2gp.kernel.kernel import Kernel
from keras2gp.kernel.module import ExportedKernel
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.modelfile.loading import load_model_file
from keras2gp.report import ConversionReport

__all__ = ["load", "save_kernel"]

_FORMAT = 1
_LARGEST_JSON = 64 * 2**20


def save_kernel(kernel: Kernel, directory: Path) -> None:
    """Write the kernel into a directory, which is replaced if it holds a kernel already.

    Raises: ModelFileError if the directory exists and holds something else.
    """
    if directory.exists() and not (directory / "kernel.json").is_file():
        empty = directory.is_dir() and not any(directory.iterdir())
        if not empty:
            raise ModelFileError(f"{directory} exists and is not a saved kernel: choose another")
    with staged_directory(directory) as target:
        module = _Exported(kernel)
        tf.saved_model.save(module, str(target), signatures=module.matrix)
        if kernel.preprocessor is not None:
            kernel.preprocessor.save(target / "preprocessor.keras")
        (target / "kernel.json").write_text(json.dumps(_to_dict(kernel), indent=1))


def load(directory: str | Path, activations: Mapping[Any, Any] | None = None) -> Kernel:
    """The kernel that Kernel.save wrote.

    activations: as for convert(); functions of your own, which a saved kernel does not hold

    Raises: ModelFileError if there is none, if it is damaged, or if it needs an activation that
            is not stated or is another function; InputError for `activations` themselves.
    """
    own = OwnActivations(activations)
    own.register()
    file = Path(directory) / "kernel.json"
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise ModelFileError(f"{file} is larger than any kernel that is written here")
        data = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise ModelFileError(f"{directory} holds no saved kernel: no kernel.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{file} cannot be read: {error}") from error
    try:
        return _from_dict(data, Path(directory), own)
    except Keras2GPError as error:
        raise ModelFileError(f"{file}: {error}") from error
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ModelFileError(f"{file} is malformed: {type(error).__name__}: {error}") from error


def _to_dict(kernel: Kernel) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "keras2gp": VERSION,
        "dtype": kernel.dtype,
        "kind": kernel.kind,
        "inputs": [{"name": spec.name, "shape": spec.shape} for spec in kernel.inputs],
        "preprocessor": kernel.preprocessor is not None,
        "parameters": {
            layer: {"weight": v.weight, "bias": v.bias} for layer, v in kernel.parameters.items()
        },
        "graph": graph_to_dict(kernel.graph),
        "report": kernel.report.to_dict(),
    }


def _from_dict(data: dict[str, Any], directory: Path, own: OwnActivations) -> Kernel:
    if data["format"] != _FORMAT:
        raise ModelFileError(f"format {data['format']!r}, this version reads {_FORMAT}")
    if data["dtype"] not in ("float32", "float64"):
        raise ModelFileError(f"dtype {data['dtype']!r}")
    if data["kind"] not in ("nngp", "ntk"):
        raise ModelFileError(f"kind {data['kind']!r}")
    graph = graph_from_dict(data["graph"])
    parameters = {
        str(layer): LayerVariances(entry["weight"], entry["bias"])
        for layer, entry in data["parameters"].items()
    }
    if set(layers_of(graph)) != set(parameters):
        raise ModelFileError("its parameters are not those of its graph")
    if obstacles := check_rules(graph):
        raise ModelFileError(f"no rule: {obstacles[0]}")
    if data["kind"] == "ntk" and (obstacles := check_tangent(graph)):
        raise ModelFileError(f"no rule: {obstacles[0]}")
    inputs = [
        InputSpec(str(entry["name"]), tuple(None if n is None else int(n) for n in entry["shape"]))
        for entry in data["inputs"]
    ]
    preprocessor = _preprocessor(directory, own) if data["preprocessor"] else None
    _check_inputs(graph, inputs, preprocessor)
    _check_ops(graph, data["dtype"])
    report = ConversionReport.from_dict(data["report"])
    program = CompiledProgram(graph, data["dtype"], kind=data["kind"])
    return Kernel(program, parameters, inputs, preprocessor, report)


def _preprocessor(directory: Path, own: OwnActivations) -> Any:
    loaded = load_model_file(directory / "preprocessor.keras", weights=True, own=own.functions)
    if loaded.model is None or loaded.unreadable:
        raise ModelFileError(
            f"{directory / 'preprocessor.keras'} holds layers that are not Keras's"
        )
    return loaded.model


def _check_inputs(graph: Graph, inputs: list[InputSpec], preprocessor: Any) -> None:
    shapes = [spec.shape for spec in inputs]
    if preprocessor is not None:
        shapes = [tuple(t.shape[1:]) for t in preprocessor.outputs]
    wanted = [(*op.size, op.channels) for op in graph.inputs]
    if shapes != wanted:
        raise ModelFileError(f"its inputs {shapes} are not those of its graph {wanted}")


def _check_ops(graph: Graph, dtype: str) -> None:
    """Trace the rules for one image, so that what an op holds is found to be wrong here."""
    count = len(layers_of(graph))
    images = [tf.TensorSpec([*op.size, op.channels, 1], dtype) for op in graph.inputs]
    variances = tf.TensorSpec([count], dtype)
    traced = tf.function(Program(graph).statistics, autograph=False)
    traced.get_concrete_function(images, variances, variances)


class _Exported(tf.Module):  # type: ignore[misc]
    """The matrix of a kernel, as a SavedModel's signature."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self._kernel = ExportedKernel(kernel)
        names = ["x1", "x2"] if len(kernel.inputs) == 1 else []
        names = names or [f"{x}_{spec.name}" for x in ("x1", "x2") for spec in kernel.inputs]
        shapes = [spec.shape for spec in kernel.inputs] * 2
        signature = [
            tf.TensorSpec([None, *shape], self._kernel.dtype, name=name)
            for name, shape in zip(names, shapes, strict=True)
        ]
        self._count = len(kernel.inputs)
        self.matrix = tf.function(self._matrix, input_signature=signature, autograph=False)

    def _matrix(self, *arrays: Any) -> dict[str, Any]:
        first = self._kernel.images(arrays[: self._count])
        _, second = self._kernel.side(self._kernel.images(arrays[self._count :]))
        return {"matrix": self._kernel.cross(first, second)[0]}
