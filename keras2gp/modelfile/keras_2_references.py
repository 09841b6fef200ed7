"""References between the layers of a file of Keras 2, and the calls that they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from keras2gp._util.keras_objects import KerasNode
from keras2gp.modelfile.config_values import Config
from keras2gp.modelfile.keras_2_settings import is_of_keras

__all__ = [
    "call_of",
    "ends_of",
    "first_calls",
    "is_model",
    "name_in_keras_3",
    "own_name",
    "plain_value",
]

_CONSTANT = "_CONSTANT_VALUE"


def is_model(config: Config) -> bool:
    """Whether an object is a Sequential or functional model, and of no class of the user's own."""
    name = config.get("class_name")
    keras_name = name in ("Functional", "Model", "Sequential") and is_of_keras(config.get("module"))
    return keras_name and config.get("registered_name") in (None, name)


def call_of(node: KerasNode, start: dict[str, int]) -> Any:
    """A call of a layer in the form of Keras 3: arguments, of which some are tensors."""
    if isinstance(node, dict) and "args" in node:
        return node
    keywords: Config = {}
    first = _tensors(node, start, keywords)
    if isinstance(first, list) and len(first) == 1 and _reference(node) is None:
        first = first[0]
    named = {key: _tensors(value, start, {}) for key, value in keywords.items()}
    return {"args": [first], "kwargs": {k: v for k, v in named.items() if v is not None}}


def _tensors(value: Any, start: dict[str, int], keywords: Config) -> Any:
    """Arguments with references in the form of Keras 3. keywords: gets the named arguments."""
    value = plain_value(value)
    if (found := _reference(value)) is not None:
        name, node, tensor, named = found
        keywords |= named
        if name == _CONSTANT:
            return tensor
        history = [name_in_keras_3(name), node - start.get(name, 0), tensor]
        settings = {"shape": [], "dtype": "float32", "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": settings}
    if isinstance(value, list):
        return [_tensors(item, start, keywords) for item in value]
    if isinstance(value, dict) and value.get("class_name") == "__ellipsis__":
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(value, dict) and "class_name" not in value:
        if value.keys() == {"start", "stop", "step"}:
            return {"class_name": "__slice__", "config": value}
        return {key: _tensors(item, start, keywords) for key, item in value.items()}
    return value


def _reference(value: Any) -> tuple[str, int, Any, Config] | None:
    """Layer, call, tensor and named arguments of ["before", 0, 0, {}]; None for other values."""
    if not isinstance(value, list) or len(value) not in (3, 4) or not isinstance(value[0], str):
        return None
    if not isinstance(value[1], int) or isinstance(value[1], bool):
        return None
    if value[0] != _CONSTANT and not isinstance(value[2], int):
        return None
    named = value[3] if len(value) == 4 else {}
    return (value[0], value[1], value[2], named) if isinstance(named, dict) else None


def first_calls(inner: Config) -> dict[str, int]:
    """The number by which each nested model's first call goes: Keras 2 counts from 1 for most.

    A model keeps only calls whose results are used: the least number that occurs is the first.
    """
    found: dict[str, int] = {}
    nodes = [layer.get("inbound_nodes") for layer in inner["layers"] if isinstance(layer, dict)]
    for name, node in _references([nodes, inner.get("output_layers")]):
        found[name] = min(node, found.get(name, node))
    nested = {
        str(own_name(layer))
        for layer in inner["layers"]
        if isinstance(layer, dict) and is_model(layer)
    }
    return {name: node for name, node in found.items() if name in nested}


def _references(value: Any) -> Iterator[tuple[str, int]]:
    """Layer and call of every reference in old form."""
    value = plain_value(value)
    if (found := _reference(value)) is not None:
        yield found[0], found[1]
        value = found[3]
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _references(item)


def ends_of(value: Any, start: dict[str, int], layers: list[Any]) -> Any:
    """References to a model's inputs or outputs; a list of one stands for that one in Keras 2.

    Keras 3 counts the calls of a Functional model from 1 here.
    """
    value = plain_value(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    functional = {
        str(own_name(layer))
        for layer in layers
        if isinstance(layer, dict) and is_model(layer) and layer["class_name"] != "Sequential"
    }

    def renumbered(item: Any) -> Any:
        item = plain_value(item)
        if (found := _reference(item)) is not None:
            name, node, tensor, _ = found
            return [name_in_keras_3(name), node - start.get(name, 0) + (name in functional), tensor]
        return _mapped(renumbered, item)

    return renumbered(value)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, list):
        return [function(item) for item in value]
    if isinstance(value, dict):
        return {key: function(item) for key, item in value.items()}
    return value


def plain_value(value: Any) -> Any:
    """A tuple or a shape as Keras 2 writes them: {"class_name": "__tuple__", "items": [...]}."""
    while isinstance(value, dict) and value.get("class_name") in ("__tuple__", "TensorShape"):
        value = value.get("items")
    return value


def own_name(layer: Config) -> Any:
    """The name of a layer, beside its settings or among them."""
    inner = layer.get("config")
    return layer.get("name") or (inner.get("name") if isinstance(inner, dict) else None)


def name_in_keras_3(name: Any) -> Any:
    """A layer's name without "/", which Keras 3 does not take."""
    return name.replace("/", "_") if isinstance(name, str) else name
