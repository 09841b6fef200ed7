"""Screens the configuration of a model from a stranger before Keras sees it.

The configuration is copied, value by value. A class or function is kept only if its module and
name stand in the allow-lists. Any other layer, and a layer that holds any other object, becomes
an Obstacle, with an Identity layer in its place, so that the rest of the model can be reported.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from keras2gp.errors import ModelFileError, Obstacle
from keras2gp.modelfile.allowlist import LAYERS, MODELS, OBJECTS, OPS
from keras2gp.modelfile.archive import printable
from keras2gp.modelfile.config_values import (
    PLAIN,
    Config,
    UnreadableError,
    asked_for,
    call_count,
    check_no_code,
    check_number,
    check_outputs,
    check_vocabulary,
    depth_of,
    first_tensor,
    is_custom,
    is_listed,
    is_shared,
    keras_function,
    plain_value,
    refused_class,
    text_value,
)
from keras2gp.modelfile.keras_2 import REFUSAL, is_older_form, keras_3_config

__all__ = ["OWN_LAYER", "Screened", "screen"]

OWN_LAYER = "keras2gp.layers>"
"""Prefix of the names under which Keras finds a user's own layer classes while it builds."""

_DEEPEST = 96  # Levels of JSON: some thirty models within models.
_MOST_CALLS = 20_000  # Keras and the walk take some 10 ms for each.

# Keys under which Keras keeps a layer inside a layer.
_SUBLAYERS = frozenset({"backward_layer", "cell", "cells", "forward_layer", "layer", "layers"})

# Keys of a model's wiring; Keras reads their values as names and numbers only.
_WIRING = ("name", "trainable", "input_layers", "output_layers", "build_input_shape")

_IDENTITY: Config = {"module": "keras.layers", "class_name": "Identity"}


@dataclass(frozen=True)
class Screened:
    """The part of a configuration that Keras may build, and the obstacles that were taken out.

    config:     the configuration of a Functional or Sequential model
    name:       the model's name
    unreadable: obstacles by layer path
    layers:     path and class of every layer
    """

    config: Config
    name: str
    unreadable: dict[str, Obstacle]
    layers: list[tuple[str, str]]


def screen(
    config: Config,
    where: str,
    *,
    has_weights: bool,
    version: str | None = None,
    activations: Collection[str] = (),
    layers: Collection[str] = (),
) -> Screened:
    """Screen the configuration of a model, in the form of Keras 3 or 2.

    Args:
        config: the configuration, of any content.
        where: the file, for messages.
        has_weights: whether the file also holds weights, such as the statistics of Normalization.
        version: the version of Keras that the file states, if any.
        activations: names of activations that the user has stated.
        layers: names of layer classes that the user has handed over.

    Raises:
        ModelFileError: the configuration is malformed, or is not that of a Functional or
            Sequential model.
    """
    if depth_of(config) > _DEEPEST:
        raise ModelFileError(f"{where}: nested deeper than {_DEEPEST} levels: no model of Keras's")
    if is_older_form(config, version):
        config = keras_3_config(config, version, activations)
    if not is_listed(config, MODELS) or is_custom(config):
        raise ModelFileError(
            f"{where}: holds a {asked_for(config)}, not a Functional or Sequential model. "
            "What a subclassed model computes is code, which a file does not hold. Try: "
            "keras2gp.convert(model, input_shape=...) in the Python program that makes the model, "
            "where its code is traced; or build it with the Sequential or functional interface"
        )
    if (calls := call_count(config)) > _MOST_CALLS:
        raise ModelFileError(
            f"{where}: makes {calls} calls of layers, models within models multiplied, and at most "
            f"{_MOST_CALLS} are read. Try: a smaller model"
        )
    screening = _Screening(where, has_weights, activations, layers)
    try:
        clean = screening.model(config, "")
    except UnreadableError as refusal:
        raise ModelFileError(f"{where}: {refusal.received}: {refusal.why}") from refusal
    return Screened(clean, clean["config"]["name"], screening.unreadable, screening.seen)


class _Screening:
    """One pass over a configuration; collects the obstacles."""

    def __init__(
        self,
        where: str,
        has_weights: bool,
        activations: Collection[str],
        layers: Collection[str],
    ) -> None:
        self.where = where
        self.activations = activations
        self.has_weights = has_weights
        self.layers = layers
        self.unreadable: dict[str, Obstacle] = {}
        self.seen: list[tuple[str, str]] = []

    def model(self, config: Config, path: str) -> Config:
        """Copy the configuration of a model whose class is allowed. path: "" for the outermost."""
        inner = config.get("config")
        if not isinstance(inner, dict) or not isinstance(inner.get("layers"), list):
            raise self._malformed(path, "a model without a list of layers")
        if not isinstance(inner.get("name"), str):
            raise self._malformed(path, "a model without a name")
        layers = [self._layer(layer, path) for layer in inner["layers"]]
        wiring = {key: inner[key] for key in _WIRING if key in inner}
        rest = {
            key: self._value(value, key, path)
            for key, value in inner.items()
            if key not in _WIRING and key != "layers"
        }
        return _object(config, {**rest, **wiring, "layers": layers})

    def _layer(self, config: object, parent: str) -> Config:
        """Copy the configuration of a layer; an Identity where it is unreadable."""
        if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
            raise self._malformed(parent, "a layer without a configuration")
        names = (config["config"].get("name"), config.get("name"), config.get("class_name"))
        name = next((name for name in names if isinstance(name, str)), None)
        nodes = config.get("inbound_nodes")
        if name is None or not isinstance(nodes, list | None):
            raise self._malformed(parent, "a layer without a name, or calls that are no list")
        path = f"{parent}/{name}" if parent else name
        self.seen.append((path, asked_for(config)))
        try:
            clean = self._settings(config, path)
            calls = [self._call(node, path) for node in nodes or ()]
        except UnreadableError as refusal:
            self.unreadable[path] = Obstacle(
                printable(path, 200), refusal.received, refusal.why, refusal.hint
            )
            clean = _object(_IDENTITY, {"name": name})
            calls = [self._call_on_first(node, path) for node in nodes or ()]
        if nodes is not None:
            clean["inbound_nodes"] = calls
        if "name" in config:
            clean["name"] = config["name"]
        return clean

    def _settings(self, config: Config, path: str) -> Config:
        """Copy the class and settings of a layer, an operation or a nested model."""
        if isinstance(refusal := config.get(REFUSAL), UnreadableError):
            raise refusal
        own_name = self._own_name(config)
        if own_name is None and (
            is_custom(config)
            or not any(is_listed(config, table) for table in (MODELS, LAYERS, OPS))
        ):
            raise refused_class(config)
        if is_shared(config):
            raise UnreadableError(
                f"{asked_for(config)}, shared",
                "it is shared by two models inside of this one, which Keras does not restore.",
                "hand over the model itself instead of its file.",
            )
        if own_name is None and is_listed(config, MODELS):
            return self.model(config, path)
        inner = config["config"]
        adapted = config["class_name"] == "Normalization" and inner.get("mean") is None
        if adapted and not self.has_weights:
            raise UnreadableError(
                "Normalization(mean=None)",
                "its mean and variance were adapted to data and stand in the weights, which this "
                "file does not hold.",
                "save the model as .keras, or give the layer mean= and variance=.",
            )
        check_vocabulary(config)
        check_outputs(config)
        settings = {key: self._value(item, key, path) for key, item in inner.items()}
        # A wrapper would compute something else with an Identity inside it.
        inside = next((o for p, o in self.unreadable.items() if p.startswith(f"{path}/")), None)
        if inside is not None:
            why = f"inside it, {inside.where} ({inside.received}): {inside.why}"
            raise UnreadableError(asked_for(config), why, inside.hint)
        return _object(config, settings) if own_name is None else _own_layer(own_name, settings)

    def _own_name(self, config: Config) -> str | None:
        """The name of a layer class that the user has handed over; None for any other class.

        A class of Keras's keeps its name, whatever the user has handed over under the same name.
        """
        custom = is_custom(config)
        name = config.get("registered_name" if custom else "class_name")
        module = config.get("module")
        of_keras = isinstance(module, str) and module.split(".")[0] == "keras"
        is_own = isinstance(name, str) and name in self.layers and (custom or not of_keras)
        return name if is_own else None

    def _call(self, node: object, path: str) -> Config:
        """Copy one call of a layer: its arguments, of which at least one is a tensor."""
        # Keras runs a call without a tensor at once, on arrays as large as the file asks for.
        if not isinstance(node, dict) or first_tensor(node) is None:
            raise self._malformed(path, "a call without a tensor")
        if not isinstance(node.get("args"), list) or not isinstance(node.get("kwargs"), dict):
            raise self._malformed(path, "a call that is not in the form of Keras 3")
        return {key: self._value(node[key], None, path) for key in ("args", "kwargs")}

    def _call_on_first(self, node: object, path: str) -> Config:
        """The call of an Identity on the first tensor of a call that is not read."""
        tensor = first_tensor(node)
        if tensor is None:
            raise self._malformed(path, "a call without a tensor")
        return {"args": [self._value(tensor, None, path)], "kwargs": {}}

    def _value(self, value: Any, key: str | None, path: str) -> Any:
        """Copy one setting of a layer. key: its name; None in the arguments of a call."""
        check_number(value, key)
        if isinstance(value, str):
            return text_value(value, key, self.activations)
        if isinstance(value, list):
            return [self._value(item, key, path) for item in value]
        if not isinstance(value, dict):
            return value
        if "class_name" not in value:
            check_no_code(value, key)
            return {k: self._value(v, k if key else None, path) for k, v in value.items()}
        return self._inner_object(value, key, path)

    def _inner_object(self, value: Config, key: str | None, path: str) -> Config:
        """Copy an object in the settings of a layer, or among the arguments of a call."""
        name, inner = value["class_name"], value.get("config")
        if not isinstance(name, str):
            raise self._malformed(path, "a class whose name is no text")
        if name in PLAIN:
            plain = plain_value(value, key)
            if plain is None:
                raise self._malformed(path, f"a {name} that Keras does not write")
            return plain
        if name == "function":
            return keras_function(value, key, self.activations)
        if key in _SUBLAYERS or (key is not None and is_listed(value, LAYERS)):
            return self._layer(value, path)
        if "Quantized" in name and key == "dtype":
            raise UnreadableError(
                f"dtype={asked_for(value)}",
                "its weights are quantised, and the kernel is that of the layer before.",
                "the model as it was before model.quantize().",
            )
        if not is_listed(value, OBJECTS) or is_custom(value) or not isinstance(inner, dict):
            raise UnreadableError(
                f"{printable(key or 'an argument')}={asked_for(value)}",
                "a class that this package does not read from a file, where only its name stands.",
            )
        return _object(value, {k: self._value(v, k, path) for k, v in inner.items()})

    def _malformed(self, path: str, what: str) -> ModelFileError:
        place = f" at {printable(path, 200)}" if path else ""
        return ModelFileError(f"{self.where}: malformed configuration{place}: {what}")


def _own_layer(name: str, settings: Config) -> Config:
    """An object of a layer class that the user has handed over."""
    registered_name = OWN_LAYER + name
    config = {"module": None, "class_name": name, "config": settings}
    return {**config, "registered_name": registered_name}


def _object(config: Config, settings: Config) -> Config:
    """An object with these settings and nothing else of the original.

    The rest is not needed: registered names are refused before, calls build the layers, nothing
    trains, and a shared initialiser or dtype may be replaced by a copy of the same settings.
    """
    return {
        "module": config["module"],
        "class_name": config["class_name"],
        "config": settings,
        "registered_name": None,
    }
