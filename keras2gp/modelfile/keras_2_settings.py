"""Settings of layers of Keras 2 in the form of Keras 3: names, initialisers, dtypes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import cache
from importlib import import_module
from typing import Any

import keras

from keras2gp.layer_table import LAYERS
from keras2gp.modelfile.allowlist import OBJECTS
from keras2gp.modelfile.archive import printable
from keras2gp.modelfile.config_values import PLAIN, Config, UnreadableError

__all__ = [
    "OLD_HARD_SIGMOID",
    "RENAMED",
    "is_of_keras",
    "keras_3_settings",
    "refuse_dropped",
]

OLD_HARD_SIGMOID = "hard_sigmoid_of_keras_2"
"""Name under which a user states Keras 2's hard_sigmoid, another function than Keras 3's."""

RENAMED = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "ThresholdedReLU": "ReLU",
}
"""Layers of Keras 2 that are others in Keras 3."""

_DROPPED = frozenset(
    {
        "ClassMethod",
        "CuDNNGRU",
        "CuDNNLSTM",
        "DenseFeatures",
        "InstanceMethod",
        "InstanceProperty",
        "LinearModel",
        "LocallyConnected1D",
        "LocallyConnected2D",
        "PeepholeLSTMCell",
        "RandomFourierFeatures",
        "RandomHeight",
        "RandomWidth",
        "SequenceFeatures",
        "WideDeepModel",
    }
)
"""Layers of Keras 2 that Keras 3 does not have."""

_NAMES = {
    "LeakyReLU": {"alpha": "negative_slope"},
    "ReLU": {"theta": "threshold"},
    "InputLayer": {"batch_input_shape": "batch_shape"},
}
"""Settings that have another name in Keras 3, by layer."""

_IDLE: dict[str, Any] = {
    "batch_input_shape": ...,
    "dynamic": False,
    "fused": ...,
    "groups": 1,
    "implementation": ...,
    "input_dtype": ...,
    "input_length": ...,
    "adjustment": None,
    "causal": False,
    "kernel_constraint": ...,
    "kernel_initializer": ...,
    "kernel_regularizer": ...,
    "filters": None,
    "key_shape": ...,
    "noise_shape": None,
    "query_shape": ...,
    "ragged": False,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": ...,
    "time_major": False,
    "trainable": ...,
    "value_shape": ...,
    "virtual_batch_size": None,
}
"""Settings that a layer of Keras 3 does without, and the value at which it may; ... for any."""

_ROOTS = frozenset({"builtins", "keras", "tensorflow", "tf_keras"})
_SUFFIXES = {
    "constraint": "keras.constraints",
    "initializer": "keras.initializers",
    "regularizer": "keras.regularizers",
}
_OF_EVERY_LAYER = frozenset({"activity_regularizer", "dtype", "name", "trainable"})
_HINT = (
    "hand over the model itself, loaded where it was made; or build it anew with the layers of "
    "Keras 3."
)


def is_of_keras(module: object) -> bool:
    """Whether a class is Keras's by its module; module-less classes are named as Keras's are."""
    return module is None or (isinstance(module, str) and module.split(".")[0] in _ROOTS)


def refuse_dropped(name: str) -> None:
    """Refuse a layer that Keras 3 does not have. Raises: UnreadableError."""
    if name in _DROPPED:
        why = "a layer of Keras 2 that Keras 3 does not have."
        raise UnreadableError(name, why, "other layers in its place.")


def keras_3_settings(
    name: str,
    settings: Config,
    sublayer: Callable[[Config], Config],
    activations: Collection[str],
    *,
    check: bool,
) -> Config:
    """Translate the settings of a layer.

    Args:
        name: the layer's class in Keras 3.
        settings: its settings in Keras 2.
        sublayer: translates a layer in the settings of another one.
        activations: names of activations that the user has stated.
        check: whether to refuse settings that Keras 3's class does not take.

    Raises:
        UnreadableError: a setting has another meaning or no counterpart in Keras 3.
    """
    names = _NAMES.get(name, {})
    new: Config = {}
    for key, value in settings.items():
        of_keras_2 = check and key.endswith("activation")
        setting = _of_keras_2(key, value, activations) if of_keras_2 else value
        new[names.get(key, key)] = _value(key, setting, sublayer)
    if not check:
        return new
    if isinstance(new.get("name"), str):
        new["name"] = new["name"].replace("/", "_")
    axis = new.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        new["axis"] = axis[0]
    if name == "GRU":
        new.setdefault("reset_after", False)  # Keras 2 before 2.2 had no other
    accepted = _accepted(name)
    for key in [key for key in new if key not in accepted and key in _IDLE]:
        if _IDLE[key] is ... or new[key] == _IDLE[key] or new[key] is None:
            del new[key]
    foreign = sorted(new.keys() - accepted)
    if foreign and accepted:
        listed = ", ".join(map(printable, foreign[:5]))
        why = (
            "Keras 3's layer of that name has no such setting: it is another layer, or was changed."
        )
        raise UnreadableError(f"{name}, {listed}", why, _HINT)
    return new


def _value(key: str, value: Any, sublayer: Callable[[Config], Config]) -> Any:
    """One setting."""
    if isinstance(value, list):
        return [_value(key, item, sublayer) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("class_name")
    if kind in ("__tuple__", "TensorShape"):
        return _value(key, value.get("items"), sublayer)
    if kind is None and value.get("type") == "ndarray":
        return value.get("value")
    if not isinstance(kind, str) or kind in PLAIN or kind == "function":
        return value
    if key == "dtype":
        return _dtype(value)
    suffix = key.rsplit("_", 1)[-1]
    if suffix not in _SUFFIXES:
        return sublayer(value)
    return _small_object(value, _SUFFIXES[suffix])


def _small_object(value: Config, module: str) -> Config:
    """An initialiser, regulariser or constraint; Keras's own if the allow-list has its name."""
    inner = value.get("config")
    if not is_of_keras(value.get("module")) or value["class_name"] not in OBJECTS[module]:
        return value
    if isinstance(inner, dict):
        arrays = {key: _array(item) for key, item in inner.items() if key != "dtype"}
        inner = (
            arrays if module == "keras.initializers" else {k: _array(v) for k, v in inner.items()}
        )
    registered = value.get("registered_name")
    return {
        "module": module,
        "class_name": value["class_name"],
        "config": inner,
        "registered_name": registered,
    }


def _array(value: Any) -> Any:
    """A number or an array that Keras 2 wrote as {"type": "ndarray", "value": ...}."""
    if isinstance(value, dict) and value.get("type") == "ndarray":
        return value.get("value")
    return value


def _dtype(value: Config) -> Any:
    """A dtype policy of Keras 2 by its name, "mixed_float16"."""
    inner = value.get("config")
    if value["class_name"] in ("Policy", "PolicyV1", "AutoPolicy") and isinstance(inner, dict):
        return inner.get("name")
    return value


def _of_keras_2(key: str, value: Any, activations: Collection[str]) -> Any:
    """An activation; Keras 2's hard_sigmoid by the name under which the user states it."""
    name = value.get("config") if isinstance(value, dict) else value
    if name != "hard_sigmoid":
        return value
    if OLD_HARD_SIGMOID not in activations:
        raise UnreadableError(
            f"{key}=hard_sigmoid",
            "Keras 2 computes clip(0.2 x + 0.5, 0, 1), and Keras 3 another function of that name.",
            f"activations={{{OLD_HARD_SIGMOID!r}: lambda x: keras.ops.clip(0.2 * x + 0.5, 0, 1)}} "
            "in Python.",
        )
    return OLD_HARD_SIGMOID


@cache
def _accepted(name: str) -> frozenset[str]:
    """The settings that Keras 3's class takes; empty for one that is not read from files."""
    entry = LAYERS[name]
    kind = getattr(import_module(entry.module), name, None)
    if not entry.in_files or not isinstance(kind, type):
        return frozenset()
    names: set[str] = set()
    for base in kind.__mro__:
        if base is keras.layers.Layer:
            names |= _OF_EVERY_LAYER
            break
        if "__init__" in vars(base):
            parameters = inspect.signature(base).parameters
            names |= parameters.keys()
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                break
    return frozenset(names - {"args", "kwargs"})
