"""The parts of a kernel as plain data: written into kernel.json, checked when they are read."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import tensorflow as tf

from keras2gp._util.checks import whole_number
from keras2gp.covariance.program import KernelKind, Program, check_rules, check_tangent
from keras2gp.covariance.registry import OWN, dual_of, is_outside, own_activation
from keras2gp.errors import ModelFileError
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Activation
from keras2gp.graph.serial import graph_from_dict, graph_to_dict
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.inputs import InputSpec
from keras2gp.kernel.mean import Mean
from keras2gp.modelfile.building import with_exact_constants
from keras2gp.report import ConversionReport

__all__ = ["KernelParts"]

_FORMAT = 1
_WITH_MEAN = 2
"""Format of a kernel with a mean, which earlier versions would leave out."""
_DTYPES = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bool", "string"),
)
"""Dtypes of inputs that are no real numbers."""


@dataclass(frozen=True, eq=False)
class KernelParts:
    """Everything that determines a kernel; nothing in it is compiled.

    graph:        the network as a graph of ops
    kind:         "nngp" or "ntk"
    dtype:        "float32" or "float64"
    parameters:   prior variances of every random layer, by its path in the model
    inputs:       the inputs of the Keras model
    preprocessor: Keras model of the deterministic layers before the graph, or None
    report:       the record of the conversion
    mean:         the mean of the process; None if it is 0
    """

    graph: Graph
    kind: KernelKind
    dtype: str
    parameters: Mapping[str, LayerVariances]
    inputs: tuple[InputSpec, ...]
    preprocessor: Any | None
    report: ConversionReport
    mean: Mean | None = None

    def to_dict(self) -> dict[str, Any]:
        """The parts as data for JSON; the preprocessor is a flag in it and a file of its own."""
        mean = {} if self.mean is None else {"mean": self.mean.to_dict()}
        return {
            "format": _WITH_MEAN if mean else _FORMAT,
            "dtype": self.dtype,
            "kind": self.kind,
            "inputs": [_entry_of(spec) for spec in self.inputs],
            "preprocessor": self.preprocessor is not None,
            "parameters": {
                layer: {"weight": v.weight, "bias": v.bias} for layer, v in self.parameters.items()
            },
            "graph": graph_to_dict(self.graph),
            "report": self.report.to_dict(),
            **mean,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return _unpickled, (values, _portable_activations(self.graph))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], preprocessor: Any | None) -> KernelParts:
        """The parts that `to_dict` described, checked against each other and against the rules.

        Raises: Keras2GPError where they contradict each other; LookupError, TypeError, ValueError,
            ArithmeticError or AttributeError where a value is malformed.
        """
        if data["format"] != (_WITH_MEAN if "mean" in data else _FORMAT):
            raise ModelFileError(
                f"format {data['format']!r}, this version reads {_FORMAT}, and {_WITH_MEAN} with a "
                "mean"
            )
        if data["dtype"] not in ("float32", "float64"):
            raise ModelFileError(f"dtype {data['dtype']!r}")
        if data["kind"] not in ("nngp", "ntk"):
            raise ModelFileError(f"kind {data['kind']!r}")
        graph = graph_from_dict(data["graph"])
        if graph.between:
            raise ModelFileError("its graph asks for the covariance between positions")
        parameters = {
            str(layer): LayerVariances(entry["weight"], entry["bias"])
            for layer, entry in data["parameters"].items()
        }
        if set(graph.layers) != set(parameters):
            raise ModelFileError("its parameters are not those of its graph")
        obstacles = check_rules(graph)
        if data["kind"] == "ntk" and not obstacles:
            obstacles = check_tangent(graph)
        if obstacles:
            raise ModelFileError(f"no rule: {obstacles[0]}")
        inputs = tuple(_input_of(entry) for entry in data["inputs"])
        shapes = _check_inputs(graph, inputs, preprocessor)
        mean = Mean.from_dict(data["mean"], graph.positions, shapes) if "mean" in data else None
        if len(shapes) > len(graph.inputs) + len(mean.data if mean else ()):
            raise ModelFileError("its preprocessor gives more than its graph and its mean read")
        if preprocessor is not None:
            with_exact_constants(preprocessor, data["dtype"])
        _check_ops(graph, data["dtype"])
        kind = cast("KernelKind", data["kind"])
        report = ConversionReport.from_dict(data["report"])
        return cls(graph, kind, data["dtype"], parameters, inputs, preprocessor, report, mean)


def _portable_activations(graph: Graph) -> dict[str, Any]:
    """Duals of the graph's activations that are not keras2gp's, as far as they can be pickled."""
    portable = {}
    for node in graph.nodes:
        op = node.op.function
        if isinstance(op, Activation) and not op.name.endswith(OWN):
            # Unpickling an instance imports its module, which registers the class.
            dual = dual_of(op) if is_outside(op.name) else None
        elif isinstance(op, Activation):
            probe = ("probe", dict(op.params)["probe"])
            dual = dual_of(replace(op, params=(probe,)))
        else:
            continue
        with suppress(Exception):  # functions that have no name in a module
            pickle.dumps(dual)
            portable[op.name] = dual
    return portable


def _unpickled(values: dict[str, Any], activations: dict[str, Any]) -> KernelParts:
    """Rebuild pickled parts in a process that may not know the activations yet.

    Raises: ModelFileError if it does not, and the pickle does not hold them.
    """
    for name, dual in activations.items():
        if name.endswith(OWN):
            own_activation(name.removesuffix(OWN), dual)
    parts = KernelParts(**values)
    if obstacles := check_rules(parts.graph):
        raise ModelFileError(
            f"a pickled kernel has no rule here: {obstacles[0].where} ({obstacles[0].received}). "
            "Try: define its function in a module that can be imported, and pickle the kernel "
            "anew; or convert the model with activations={...} in this process first"
        )
    return parts


def _entry_of(spec: InputSpec) -> dict[str, Any]:
    """An input as data; real numbers, which have no dtype of their own, state none."""
    stated = {"dtype": spec.dtype} if spec.dtype else {}
    return {"name": spec.name, "shape": spec.shape, **stated}


def _input_of(entry: Mapping[str, Any]) -> InputSpec:
    sizes = [None if n is None else whole_number("shape", n, 1) for n in entry["shape"]]
    dtype = entry.get("dtype", "")
    if dtype not in ("", *_DTYPES):
        raise ModelFileError(f"an input of the type {dtype!r}")
    return InputSpec(str(entry["name"]), tuple(sizes), dtype)


def _check_inputs(
    graph: Graph, inputs: Sequence[InputSpec], preprocessor: Any | None
) -> list[tuple[int | None, ...]]:
    """The shapes of the data tensors, of which those of the graph come first."""
    shapes = [spec.shape for spec in inputs]
    if preprocessor is not None:
        shapes = [tuple(t.shape[1:]) for t in preprocessor.outputs]
    graph_shapes = [(*op.size, op.channels) for op in graph.inputs]
    if shapes[: len(graph_shapes)] != graph_shapes:
        raise ModelFileError(f"its inputs {shapes} are not those of its graph {graph_shapes}")
    return shapes


def _check_ops(graph: Graph, dtype: str) -> None:
    """Trace the rules for one image: a setting that an op cannot have fails here."""
    count = len(graph.layers)
    images = [tf.TensorSpec([*op.size, op.channels, 1], dtype) for op in graph.inputs]
    variances = tf.TensorSpec([count], dtype)
    traced = tf.function(Program(graph).statistics, autograph=False)
    traced.get_concrete_function(images, variances, variances)
