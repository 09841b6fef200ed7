"""Traced functions that are kept beside the programs that XLA makes of them.

Tracing the rules of a graph takes a third of the time to a first result, and TensorFlow numbers
what it traces: in the next process the same function has another name, under which no compiled
program is found. So a traced function is kept, under a name that states all that it was made of:
the graph, the shapes, and the source of this package. The functions that it calls are renamed too.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary, finalize

import tensorflow as tf
from google.protobuf.message import DecodeError

from keras2gp._util.files import write_file
from keras2gp._util.paths import read_if_regular
from keras2gp._util.program_cache import ProgramCache
from keras2gp._util.starting import silent_stderr
from keras2gp.covariance.registry import has_outside
from keras2gp.errors import StoreError
from keras2gp.matrices.xla import set_up_xla, unwritten

__all__ = ["KeptFunctions"]

_TRIED = ("2.21.",)
"""Releases of TensorFlow whose context takes functions as they are registered here."""
_LEAF = 0
_DAMAGED = DecodeError, ValueError, TypeError, AttributeError, RuntimeError, StopIteration
_made: WeakValueDictionary[str, KeptFunction] = WeakValueDictionary()
_registered: Counter[str] = Counter()
"""How many of the functions above TensorFlow holds each function for."""
_lock = threading.RLock()  # the last reference may go while it is held


class KeptFunction:
    """A function of tensors under a name of its own; it is forgotten with its last reference.

    names:     of the function, and of those that it calls
    count:     the number of tensors that it returns
    structure: how they are nested, as `_structure` writes it
    """

    def __init__(self, functions: Any, structure: Any) -> None:
        self.names = [function.signature.name for function in functions]
        self.count = len(functions[0].signature.output_arg)
        self.structure = structure
        context = _context()
        with _lock:
            for number, function in enumerate(functions):
                try:
                    if not _registered[function.signature.name]:
                        context.add_function_def(function)
                except tf.errors.OpError:
                    _forget(self.names[:number])
                    raise
                _registered[function.signature.name] += 1
        finalize(self, _forget, self.names)

    def __call__(self, *arguments: Any) -> Any:
        """The function's results, nested as those of the function that was traced."""
        tensors = list(_leaves(arguments))
        results = _context().call_function(self.names[0].encode(), tensors, self.count)
        return _nested(self.structure, iter(results))


class KeptFunctions:
    """The functions of one program, each kept for every shape of its arguments.

    program: all that the functions are made of beside their arguments, for JSON
    """

    def __init__(self, *program: Any) -> None:
        self._program = program
        self._found: dict[Any, KeptFunction | None] = {}

    def call(self, function: Any, *arguments: Any, **settings: Any) -> Any:
        """A tf.function's results, by its kept trace if there can be one.

        Args:
            function: the tf.function.
            arguments: tensors, nested in lists, tuples and dicts of text.
            settings: arguments that are no tensors.

        Raises:
            StoreError: a new program cannot be written, and TensorFlow gives up over that, also
                when there is room for all that this process has seen.
        """
        kept = set_up_xla().kept
        if kept is None or tf.config.functions_run_eagerly() or not tf.executing_eagerly():
            return function(*arguments, **settings)
        name = function.python_function.__name__
        key = (name, *settings.values(), *(tuple(x.shape) for x in _leaves(arguments)))
        first = key not in self._found
        if first:
            kept.bound()
            self._found[key] = self._kept(name, function, arguments, settings, kept)
        found = self._found[key]
        fresh = partial(function, **settings)
        compute = fresh if found is None else found
        # TensorFlow takes features that tune a program for instructions, which the CPU lacks, and
        # says of each program that it reads that it might fail.
        silent = first and os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0"
        try:
            with silent_stderr() if silent else nullcontext():
                return compute(*arguments)
        except tf.errors.OpError as error:
            behind = kept.is_behind(error)
            out_of_memory = isinstance(error, tf.errors.ResourceExhaustedError)
            if not behind and (not first or found is None or out_of_memory):
                raise
            kept.clear()
        try:
            if behind:
                return compute(*arguments)
            # TensorFlow keeps the failure of a function under its name: the trace is not taken.
            self._found[key] = None
            results = fresh(*arguments)
        except tf.errors.OpError as error:
            if not kept.is_behind(error):
                raise
            raise unwritten(error) from error
        kept.drop("*.pb")
        return results

    def _kept(
        self,
        name: str,
        function: Any,
        arguments: Sequence[Any],
        settings: Mapping[str, Any],
        kept: ProgramCache,
    ) -> KeptFunction | None:
        """The function from the cache, or traced and put there.

        None where it cannot be kept: another release of TensorFlow, rules that stand outside of
        this package, tensors that the function holds.
        """
        if not tf.version.VERSION.startswith(_TRIED) or has_outside() or not _source():
            return None
        shapes = _structure(arguments, lambda tensor: [tensor.dtype.name, list(tensor.shape)])
        text = json.dumps([_source(), self._program, name, shapes, dict(settings)], sort_keys=True)
        name = f"keras2gp_{hashlib.sha256(text.encode()).hexdigest()}"
        path = kept.directory / f"{name}.pb"
        with _lock:
            found = _made.get(name)
            if found is None:
                found = _read(name, read_if_regular(path))
                if found is None:
                    if path.exists():
                        kept.drop(path.name)
                    content = _traced(name, function, arguments, settings)
                    _write(path, content)
                    found = _read(name, content)
                if found is not None:
                    _made[name] = found
        return found


def _traced(
    name: str, function: Any, arguments: Sequence[Any], settings: Mapping[str, Any]
) -> bytes | None:
    """The structure of the results, a line of JSON; and a library of functions, the first named."""
    concrete = function.get_concrete_function(*arguments, **settings)
    results = concrete.structured_outputs
    if concrete.captured_inputs or len(list(_leaves(results))) != len(concrete.outputs):
        return None
    root = concrete.function_def
    inner = {f.signature.name: f for f in concrete.graph.as_graph_def().library.function}
    order = [root]
    for caller in order:
        order += [
            inner.pop(called.name) for called in list(_called(caller)) if called.name in inner
        ]
    names = {f.signature.name: f"{name}_{number}" for number, f in enumerate(order)}
    library = tf.compat.v1.GraphDef()
    for function_def in order:
        copy = library.library.function.add()
        copy.CopyFrom(function_def)
        copy.signature.name = names[copy.signature.name]
        copy.attr.pop("_construction_context", None)  # of the graph that it was traced in
        for called in _called(copy):
            called.name = names.get(called.name, called.name)
    structure = json.dumps(_structure(results, lambda _: _LEAF))
    content: bytes = library.SerializeToString(deterministic=True)
    return structure.encode() + b"\n" + content


def _called(function: Any) -> Iterator[Any]:
    """The names of the functions that a function calls, in the order of its text."""
    for node in function.node_def:
        for key in sorted(node.attr):
            value = node.attr[key]
            if value.HasField("func"):
                yield value.func
            yield from value.list.func


def _read(name: str, content: bytes | None) -> KeptFunction | None:
    """The function of this name; None where there is none, or another's or half of one."""
    if content is None:
        return None
    structure, _, library = content.partition(b"\n")
    try:
        functions = tf.compat.v1.GraphDef.FromString(library).library.function
        if not functions or functions[0].signature.name != f"{name}_0":
            return None
        nested = json.loads(structure)
        count = len(functions[0].signature.output_arg)
        if len(list(_leaves(_nested(nested, iter(range(count)))))) != count:
            return None
        return KeptFunction(functions, nested)
    except (*_DAMAGED, tf.errors.OpError):
        return None


def _write(path: Path, content: bytes | None) -> None:
    """Write a file in one piece, or none where there is no room."""
    if content is not None:
        with suppress(StoreError):
            write_file(path, content)


def _structure(nested: Any, leaf: Any) -> Any:
    """Nested lists, tuples and dicts of tensors, for JSON: each with its kind."""
    if isinstance(nested, dict):
        return {"dict": {key: _structure(nested[key], leaf) for key in sorted(nested)}}
    if isinstance(nested, list | tuple):
        kind = "list" if isinstance(nested, list) else "tuple"
        return {kind: [_structure(part, leaf) for part in nested]}
    return leaf(nested)


def _leaves(nested: Any) -> Iterator[Any]:
    """The tensors, in the order of TensorFlow: those of a dict by their keys."""
    if isinstance(nested, dict):
        nested = [nested[key] for key in sorted(nested)]
    if isinstance(nested, list | tuple):
        for part in nested:
            yield from _leaves(part)
    else:
        yield nested


def _nested(structure: Any, tensors: Iterator[Any]) -> Any:
    if structure == _LEAF:
        return next(tensors)
    ((kind, parts),) = structure.items()
    if kind == "dict":
        return {key: _nested(part, tensors) for key, part in parts.items()}
    return (list if kind == "list" else tuple)(_nested(part, tensors) for part in parts)


def _forget(names: Sequence[str]) -> None:
    context = _context()
    with _lock:
        for name in names:
            _registered[name] -= 1
            if not _registered[name]:
                context.remove_function(name)


def _context() -> Any:
    """TensorFlow's table of functions."""
    return import_module("tensorflow.python.eager.context").context()


@cache
def _source() -> str:
    """SHA-256 of this package; empty where its files cannot be read."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent.parent
    files = sorted(folder.rglob("*.py"))
    for file in files:
        digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest() if files else ""
