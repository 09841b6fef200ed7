"""Configurations that Keras 2 wrote, and those of HDF5 files, in the form of Keras 3.

The translation maps JSON values to JSON values, and decides nothing about trust: screening (see
screening.py) reads its result as it reads a file of Keras 3. A layer that has no counterpart
carries the reason, an `UnreadableError`, under the key `REFUSAL`: JSON cannot hold such an object.

Keras 2 names classes without modules, or with modules of its own; states the shape of the input in
the first layer; and writes the calls of a layer as [[["before", 0, 0, {}]]].
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from keras2gp.layer_table import LAYERS, OPERATIONS
from keras2gp.modelfile.config_values import Config, UnreadableError
from keras2gp.modelfile.keras_2_references import (
    call_of,
    ends_of,
    first_calls,
    is_model,
    name_in_keras_3,
    own_name,
    plain_value,
)
from keras2gp.modelfile.keras_2_settings import (
    RENAMED,
    is_of_keras,
    keras_3_settings,
    refuse_dropped,
)
from keras2gp.modelfile.tf_functions import OP_LAYERS, graph_operation, operation

__all__ = ["REFUSAL", "is_older_form", "keras_3_config"]

REFUSAL = "refusal"
"""Key of the reason for which a layer is not built."""

_MODELS = {"Functional": "keras.src.models.functional", "Sequential": "keras"}


def is_older_form(config: Config, version: str | None) -> bool:
    """Whether a configuration is in the form of Keras 2, or in that of HDF5 files.

    Args:
        config: the configuration of a model.
        version: the version of Keras that the file states, if any.
    """
    module = config.get("module")
    if not is_model(config):
        return False
    stated = (version or "").startswith("2.")
    return module is None or stated or ".engine" in module or not module.startswith("keras")


def keras_3_config(
    config: Config, version: str | None, activations: Collection[str] = ()
) -> Config:
    """Translate the configuration of a model.

    Args:
        config: a configuration of which `is_older_form` is true, of bounded depth.
        version: the version of Keras that the file states, if any.
        activations: names of activations that the user has stated.

    Returns:
        The configuration in the form of Keras 3. What is malformed is left as it is.
    """
    newer = (version or "").startswith("3.")
    translation = _Translation(newer, activations)
    translation.shared = _shared(config)
    return translation.model(config)


class _Translation:
    """One pass over a configuration. newer: Keras 3 wrote it, into an HDF5 file."""

    def __init__(self, newer: bool, activations: Collection[str]) -> None:
        self.newer, self.activations = newer, activations
        self.shared: frozenset[Any] = frozenset()

    def model(self, config: Config) -> Config:
        """A model, also as a layer of another model."""
        inner = config.get("config")
        kind = "Sequential" if config["class_name"] == "Sequential" else "Functional"
        if isinstance(inner, list):  # Keras 2 before 2.2.3
            inner = {"layers": inner}
        if isinstance(inner, dict) and isinstance(inner.get("layers"), list):
            inner = self._wired(inner, kind)
        head = {"module": _MODELS[kind], "class_name": kind, "registered_name": None}
        return {**head, "config": inner}

    def _wired(self, inner: Config, kind: str) -> Config:
        """The settings of a model: its layers, and which of their tensors go in and out."""
        start = first_calls(inner)
        layers = [self._layer(layer, start) for layer in inner["layers"]]
        kept: Config = {key: inner[key] for key in ("name", "trainable") if key in inner}
        kept.setdefault("name", kind.lower())
        if kind == "Sequential":
            shape = plain_value(inner.get("build_input_shape"))
            entrance = _entrance(inner["layers"][0]) if inner["layers"] else None
            kept |= {"layers": [entrance, *layers] if entrance else layers}
            return {**kept, "build_input_shape": shape} if shape is not None else kept
        kept |= {key: inner.get(key) for key in ("input_layers", "output_layers")}
        if not self.newer:
            kept["input_layers"] = ends_of(inner.get("input_layers"), {}, [])
            kept["output_layers"] = ends_of(inner.get("output_layers"), start, inner["layers"])
        return {**kept, "layers": layers}

    def _layer(self, config: Any, start: dict[str, int]) -> Any:
        """A layer of a model, with its calls. start: see `first_calls`."""
        if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
            return config
        nodes, calls = config.get("inbound_nodes"), None
        if isinstance(nodes, list):
            calls = [call_of(node, start) for node in nodes]
        rest = {"name": name_in_keras_3(config["name"])} if "name" in config else {}
        try:
            new = self._object(config, calls)
        except UnreadableError as refusal:
            inner: Any = config.get("config")
            kept = {"name": name_in_keras_3(inner["name"])} if _is_named(inner) else {}
            new = {"module": None, "class_name": config["class_name"], "config": kept}
            new[REFUSAL] = refusal
        new |= rest
        if _identity(config) in self.shared:
            new["shared_object_id"] = config["shared_object_id"]
        if calls is not None:
            new["inbound_nodes"] = calls
        return new

    def _object(self, config: Config, calls: list[Any] | None) -> Config:
        """A layer, operation or model without its calls, which an operation changes in place."""
        name, inner, module = config["class_name"], config.get("config"), config.get("module")
        if is_model(config):
            return self.model(config)
        if not isinstance(inner, dict) or not is_of_keras(module):
            return {key: config.get(key) for key in _HEAD} | {"config": inner}
        if name in OP_LAYERS or name == "TensorFlowOpLayer":
            return _operation(name, inner, calls)
        # Layers state both of these, and some operations a dtype as a setting.
        of_layer = "trainable" in inner or ("dtype" in inner and name in LAYERS)
        of_operation = name in OPERATIONS and not of_layer
        if self.newer and of_operation:
            return {"module": OPERATIONS[name].module, "class_name": name, "config": inner}
        name = str(RENAMED.get(name, name))
        refuse_dropped(name)
        entry = LAYERS.get(name)
        registered = config.get("registered_name")
        if entry is None or registered not in (None, name, config["class_name"]):
            registered = registered or (name if ">" in name else None)
            head = {"module": module, "class_name": name.rsplit(">", 1)[-1]}
            inner = {
                key: plain_value(value)
                for key, value in inner.items()
                if key != "batch_input_shape"
            }
            return {**head, "config": inner, "registered_name": registered}
        settings = keras_3_settings(
            name, inner, self._sublayer, self.activations, check=not self.newer
        )
        head = {"module": entry.module, "class_name": name, "registered_name": None}
        return {**head, "config": settings}

    def _sublayer(self, config: Config) -> Config:
        """A layer in the settings of another one."""
        new: Config = self._layer(config, {})
        return new


_HEAD = ("module", "class_name", "registered_name")


def _shared(config: Config) -> frozenset[Any]:
    """The identities of objects that occur several times; Keras 2 also marks those of one place."""
    seen: set[Any] = set()
    again: set[Any] = set()
    values: list[Any] = [config]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            if (identity := _identity(value)) is not None:
                (again if identity in seen else seen).add(identity)
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
    return frozenset(again)


def _identity(value: Config) -> tuple[str, int] | None:
    name, number = value.get("class_name"), value.get("shared_object_id")
    return (name, number) if isinstance(name, str) and isinstance(number, int) else None


def _operation(name: str, inner: Config, calls: list[Any] | None) -> Config:
    """The operation that a layer of one TensorFlow function becomes; its calls are changed."""
    made = []
    for call in calls or ():
        given, arguments = call.get("args"), call.get("kwargs")
        if not given or not isinstance(given, list) or not isinstance(arguments, dict):
            raise UnreadableError(name, "its calls are not in the form of Keras 2.")
        first = given[0]
        if name == "TensorFlowOpLayer":
            made.append(graph_operation(inner, first if isinstance(first, list) else [first]))
        else:
            made.append(operation(inner.get("function"), first, arguments))
    if not made or any(entry[0] != made[0][0] for entry in made):
        raise UnreadableError(name, "its calls differ in more than their tensors.")
    for call, (_, new) in zip(calls or (), made, strict=True):
        call.update(new)
    new_name = {"name": name_in_keras_3(inner["name"])} if _is_named(inner) else {}
    return {**made[0][0], "config": {**made[0][0]["config"], **new_name}}


def _entrance(config: Any) -> Config | None:
    """The InputLayer that a Sequential model's first layer stands for by its batch_input_shape."""
    if not isinstance(config, dict) or config.get("class_name") == "InputLayer":
        return None
    inner = config.get("config")
    while isinstance(inner, dict) and "batch_input_shape" not in inner:
        inside = inner.get("layer")
        inner = inside.get("config") if isinstance(inside, dict) else None
    shape = plain_value(inner.get("batch_input_shape")) if isinstance(inner, dict) else None
    if not isinstance(shape, list) or not isinstance(inner, dict):
        return None
    dtype = inner.get("dtype")
    dtype = dtype if isinstance(dtype, str) and not dtype.startswith("mixed") else "float32"
    settings = {"batch_shape": shape, "dtype": dtype, "name": f"{own_name(config)}_input"}
    return {"module": "keras.layers", "class_name": "InputLayer", "config": settings}


def _is_named(inner: Any) -> bool:
    return isinstance(inner, dict) and isinstance(inner.get("name"), str)
