"""Checks of single values in a Keras configuration: which class or function a value names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras

from keras2gp.modelfile.allowlist import ACTIVATIONS, ARRAY_DTYPES, FOREIGN_CODE, OBJECTS, OPS
from keras2gp.modelfile.archive import printable

__all__ = [
    "PLAIN",
    "Config",
    "UnreadableError",
    "asked_for",
    "call_count",
    "check_no_code",
    "check_number",
    "check_outputs",
    "check_vocabulary",
    "depth_of",
    "first_tensor",
    "is_custom",
    "is_listed",
    "is_shared",
    "keras_function",
    "plain_value",
    "refused_class",
    "text_value",
]

Config = dict[str, Any]

# Plain values that Keras writes in the form of objects, and their settings.
PLAIN: dict[object, tuple[str, ...]] = {
    "__ellipsis__": (),
    "__keras_tensor__": ("shape", "dtype", "keras_history"),
    "__numpy__": ("value", "dtype"),
    "__slice__": ("start", "stop", "step"),
    "__tensor__": ("value", "dtype"),
}

# Settings that Keras does not look at until the layer is run.
_NUMBERS = ("alpha", "epsilon", "max_value", "negative_slope", "threshold")

# Key suffix -> Keras module in which its string value is looked up. Other strings name nothing.
_NAMED = {"constraint": "constraints", "initializer": "initializers", "regularizer": "regularizers"}

_HINT = (
    "load the model in a Python program that you trust it in, and hand over the model itself; or "
    "put Keras's own layers, activations or keras.ops in its place."
)


_MOST_OUTPUTS = 4096
_LOOKUPS = ("IntegerLookup", "StringLookup", "TextVectorization")
_STATED = " Or say what the activation computes: activations={name: function} in Python."
_HANDED_OVER = " Or hand over its class and its reader: layers={YourLayer: reader} in Python."
_FUNCTION: Config = {"module": "keras.activations", "class_name": "function"}


class UnreadableError(Exception):
    """A layer must not be built; screening turns this error into an Obstacle."""

    def __init__(self, received: str, why: str, hint: str = _HINT) -> None:
        super().__init__(why)
        self.received, self.why, self.hint = received, why, hint


def depth_of(config: object) -> int:
    """Levels of nesting of a JSON value, counted without recursion."""
    level, values = 0, [config]
    while values:
        level += 1
        values = [
            child
            for value in values
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
    return level


def call_count(config: Any) -> int:
    """Calls of layers that a model makes when all models within models are unrolled."""
    if isinstance(config, list):
        return sum(map(call_count, config))
    if not isinstance(config, dict):
        return 0
    nodes = config.get("inbound_nodes")
    inside = sum(call_count(value) for key, value in config.items() if key != "inbound_nodes")
    is_layer = "class_name" in config and not is_listed(config, OBJECTS)
    return (inside + is_layer) * max(1, len(nodes) if isinstance(nodes, list) else 1)


def is_listed(config: Config, table: dict[str, frozenset[str]]) -> bool:
    """Whether an object's class stands in a table of allowed classes."""
    module, name = config.get("module"), config.get("class_name")
    return isinstance(module, str) and isinstance(name, str) and name in table.get(module, ())


def is_custom(config: Config) -> bool:
    """Whether an object names a registered class of a user, which Keras looks up first."""
    return config.get("registered_name") not in (None, config.get("class_name"))


def asked_for(config: Config) -> str:
    """Name of an object's class, as a user would say it."""
    return printable(config.get("registered_name" if is_custom(config) else "class_name"))


def is_shared(config: Config) -> bool:
    """Whether an object with weights is marked as shared by several places of a model."""
    return "shared_object_id" in config and _has_weights(config.get("config"))


def refused_class(config: Config) -> UnreadableError:
    """The reason why a layer of this class is not built."""
    module, custom = config.get("module"), is_custom(config)
    if str(config.get("class_name")) in FOREIGN_CODE and not custom:
        why = "it holds code, which is never run from a file."
        return UnreadableError(asked_for(config), why)
    if custom or not isinstance(module, str) or not module.startswith("keras."):
        why = "it is not one of Keras's own layers: a file holds its name, and not what it does."
        return UnreadableError(asked_for(config), why, _HINT + _HANDED_OVER)
    why = "it is not among the classes of Keras that this package reads from a file."
    return UnreadableError(f"{printable(module)}.{asked_for(config)}", why)


def check_number(value: object, key: str | None) -> None:
    """Refuse something else in the place of a number.

    Raises:
        UnreadableError: Keras would take it, and fail when the layer is run.
    """
    if key in _NUMBERS and not (value is None or isinstance(value, int | float)):
        raise UnreadableError(
            _setting(key, value), "it is no number.", f"a number as {key}, such as 0.2."
        )


def check_outputs(config: Config) -> None:
    """Refuse an operation that makes more tensors than any model uses.

    Raises:
        UnreadableError: Split or Unstack into more than 4096 parts.
    """
    if not is_listed(config, OPS) or not str(config["class_name"]).endswith(("plit", "stack")):
        return
    counts = [n for n in config["config"].values() if isinstance(n, int)]
    for node in config.get("inbound_nodes") or ():
        tensor = first_tensor(node)
        shape = tensor["config"].get("shape") if tensor else None
        counts += [n for n in shape or () if isinstance(n, int)]
    if config["class_name"] != "Unstack":
        counts = [n for n in config["config"].values() if isinstance(n, int)]
    if max(counts, default=0) > _MOST_OUTPUTS:
        raise UnreadableError(
            f"{asked_for(config)} into {max(counts)}",
            f"it makes more than {_MOST_OUTPUTS} tensors.",
            "slices of the few that are used.",
        )


def check_vocabulary(config: Config) -> None:
    """Refuse a lookup whose vocabulary does not stand in its settings.

    Raises:
        UnreadableError: it is the path of a file, or was adapted and lies beside the settings.
    """
    name, inner = config.get("class_name"), config["config"]
    if name not in _LOOKUPS or config.get("module") != "keras.layers":
        return
    for key in ("vocabulary", "idf_weights"):
        if isinstance(inner.get(key), str):
            raise UnreadableError(
                _setting(key, inner[key]),
                "the path of another file, which is not opened.",
                f"a list as {key}=, which stands in the settings; or {_HINT}",
            )
    if not inner.get("vocabulary"):
        raise UnreadableError(
            f"{name}(vocabulary=None)",
            "its vocabulary was adapted, and stands neither in its settings nor beside them.",
            "vocabulary=layer.get_vocabulary(include_special_tokens=False) in a new layer; or "
            + _HINT,
        )


def text_value(text: str, key: str | None, activations: Collection[str] = ()) -> str | Config:
    """A text of a configuration; a function if it names an activation that the user has stated.

    Args:
        text: the value of a setting.
        key: the name of the setting; None in the arguments of a call.
        activations: names of activations that the user has stated; they take precedence.

    Raises:
        UnreadableError: the text names something that is not Keras's own.
    """
    slot, hint = _slot(key), _HINT
    if slot == "activation":
        if (stated := _stated(text, activations)) is not None:
            return stated
        good, hint = text in ACTIVATIONS, _HINT + _STATED
    elif slot in _NAMED:
        good = isinstance(vars(getattr(keras, _NAMED[slot])).get(text), type)
    else:
        good = key == "name" or text not in keras.saving.get_custom_objects()
    if not good:
        why = "the name of something that is not Keras's own: a file does not hold what it does."
        raise UnreadableError(_setting(key, text), why, hint)
    return text


def keras_function(config: Config, key: str | None, activations: Collection[str] = ()) -> Config:
    """Copy a function: one of keras.activations, and only as the value of an activation.

    Args:
        config: the function as Keras writes it.
        key: the name of the setting; None in the arguments of a call.
        activations: names of activations that the user has stated; they take precedence.

    Raises:
        UnreadableError: any other function.
    """
    name = config.get("config")
    is_activation = isinstance(name, str) and _slot(key) == "activation"
    if is_activation and (stated := _stated(str(name), activations)) is not None:
        return stated
    is_keras_module = config.get("module") in ("builtins", "keras.activations")
    if not (is_activation and is_keras_module and name in ACTIVATIONS):
        why = "a function that is not one of keras.activations: a file holds its name only."
        raise UnreadableError(_setting(key, name), why, _HINT + _STATED)
    return {**_FUNCTION, "config": name, "registered_name": name}


def check_no_code(config: Config, key: str | None) -> None:
    """Refuse a lambda, of which Keras writes the compiled code as the value of an activation."""
    if _slot(key) == "activation" and "class_name" not in config:
        why = "it is a function without a name, whose code is never run from a file."
        raise UnreadableError(f"{key}=lambda", why)


def _stated(name: str, activations: Collection[str]) -> Config | None:
    """The function of an activation that the user has stated, with or without its package."""
    for stated in (name, name.rsplit(">", 1)[-1]):
        if stated in activations:
            return {**_FUNCTION, "config": stated, "registered_name": stated}
    return None


def plain_value(config: Config, key: str | None) -> Config | None:
    """Copy an array, a slice, an ellipsis or, in a call, a tensor; None if it is malformed."""
    name, inner = config["class_name"], config.get("config")
    if not isinstance(inner, dict):
        return None
    good = True
    if name in ("__numpy__", "__tensor__"):
        good = str(inner.get("dtype")) in ARRAY_DTYPES and _is_numeric(inner.get("value"))
    elif name == "__slice__":
        good = all(isinstance(inner.get(end), int | None) for end in PLAIN[name])
    elif name == "__keras_tensor__":
        history = inner.get("keras_history")
        good = (
            key is None
            and isinstance(inner.get("dtype"), str)
            and isinstance(history, list)
            and [type(item) for item in history] == [str, int, int]
        )
    return {"class_name": name, "config": {k: inner.get(k) for k in PLAIN[name]}} if good else None


def first_tensor(value: object) -> Config | None:
    """Find the first reference to a tensor in the arguments of a call."""
    if not isinstance(value, dict | list):
        return None
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        return value
    children = value.values() if isinstance(value, dict) else value
    return next((tensor for child in children if (tensor := first_tensor(child))), None)


def _slot(key: str | None) -> str:
    return (key or "").rsplit("_", 1)[-1]


def _setting(key: str | None, value: object) -> str:
    return f"{printable(key or 'an argument')}={printable(value)}"


def _is_numeric(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_numeric, value))
    return isinstance(value, bool | int | float)


def _has_weights(settings: object) -> bool:
    if isinstance(settings, dict):
        named = any(key.endswith("initializer") for key in settings)
        return named or any(map(_has_weights, settings.values()))
    return isinstance(settings, list) and any(map(_has_weights, settings))
