"""Reads models from files of strangers (.keras, .h5, .json), without running anything of theirs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras.src.saving.serialization_lib import SafeModeScope

from keras2gp._util.arrays import KerasTensor
from keras2gp._util.keras_objects import KerasLayer, KerasModel
from keras2gp._util.memory import require_memory
from keras2gp._util.paths import as_path
from keras2gp._util.text import size_text
from keras2gp.errors import ModelFileError, Obstacle, PriorError
from keras2gp.modelfile.archive import printable
from keras2gp.modelfile.building import size_of, without_values
from keras2gp.modelfile.screening import OWN_LAYER, Screened, screen
from keras2gp.modelfile.sources import ModelSource, read_config, source_of
from keras2gp.modelfile.vocabularies import fill_vocabularies
from keras2gp.modelfile.weights import cause_of, load_weights

__all__ = ["LoadedModel", "load_model_file"]

_SMALL = 2**26
"""Bytes of weights that are taken without a look at what the file holds of them."""
_FRAMES, _DEEPEST = 10, 3000
"""Frames of Python's stack for a layer; the most layers for which there is room."""
_UNBUILT = "the model has no input shape, so that its layers have no sizes."
_UNBUILT_HINT = (
    "input_shape= (--input-shape), or keras.Input(shape) as the first layer of the Sequential "
    "model."
)


@dataclass(frozen=True)
class LoadedModel:
    """A model from a file.

    model:      the Keras model, uncompiled; an Identity replaces each unreadable layer. None if
                the model cannot be built with them.
    unreadable: obstacles by layer path ("outer/inner/lambda_1", without the model's own name);
                a layer inside a wrapper has the wrapper's path
    name:       the model's name
    layers:     path and class of every layer, in the order of the file
    """

    model: keras.Model | None
    unreadable: Mapping[str, Obstacle]
    name: str
    layers: tuple[tuple[str, str], ...]


def load_model_file(
    path: str | os.PathLike[str],
    *,
    weights: bool,
    activations: Mapping[str, Any] | None = None,
    layers: Mapping[Any, Any] | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> LoadedModel:
    """Read a Functional or Sequential model from a file that Keras 3 or Keras 2 wrote.

    Only Keras's own classes are built, by an allow-list (see allowlist.py); any other layer
    becomes an obstacle in `unreadable`. A layer with weights that two nested models share becomes
    one too, since Keras does not restore the sharing. (model.to_json() writes it as two layers.)

    Args:
        path: a .keras or .h5 file, the text of model.to_json() as .json, or the directory of an
            unzipped .keras file.
        weights: whether to load the trained weights. Without them the layers hold fresh draws of
            their initialisers; the largest weights of a large model hold nothing, and draw a value
            whenever it is read. An adapted Normalization always gets its statistics from the file.
            A model with an unreadable layer gets no weights.
        activations: activations that the user has stated, by name, with the function that the
            model calls; None for an activation that is known by its covariance alone.
        layers: layer classes of the user's own, which are built as Keras's are: see `convert`.
        input_shape: sizes of the input of a Sequential model that does not state them.

    Raises:
        ModelFileError: the file is missing, of another kind, damaged, malformed or too large, or
            Keras cannot build the model; the message names the file.
        PriorError: weights are asked of a .json file, which holds none.
    """
    activations = activations or {}
    file = as_path("path", path, ModelFileError)
    source = source_of(file)
    classes = _own_classes(layers or {})
    config, version = read_config(source)
    fill_vocabularies(source, config)
    screened = screen(
        config,
        str(file),
        has_weights=source.has_weights,
        version=version,
        activations=activations,
        layers=classes,
    )
    if weights and not source.has_weights:
        raise PriorError(
            f"{file}: a .json file holds no trained weights; save the model as .keras, or use "
            "prior='initializers' without trained_until="
        )
    model = _built(file, screened, activations, classes, input_shape)
    unreadable = dict(screened.unreadable)
    if model is not None and not model.built:
        if not unreadable:
            raise ModelFileError(f"{file}: {_UNBUILT} Try: {_UNBUILT_HINT}")
        unreadable[screened.name] = Obstacle(screened.name, "Sequential", _UNBUILT, _UNBUILT_HINT)
        model = None
    if model is not None and not unreadable and source.has_weights:
        leaves = list(_leaves(model))
        fixed = [] if weights else [leaf for leaf in leaves if not _is_adapted(leaf)]
        if weights or len(fixed) < len(leaves):
            _load_weights(source, version, model, fixed)
    if model is not None:
        _require_low_rank(file, model)
    layers_of_file = tuple(screened.layers)
    return LoadedModel(model, MappingProxyType(unreadable), screened.name, layers_of_file)


def _own_classes(layers: Mapping[Any, Any]) -> dict[str, type]:
    """The layer classes that a user has handed over, by every name that a file may give them."""
    classes: dict[str, type] = {}
    for key, value in layers.items():
        kind = key if isinstance(key, type) else value
        if isinstance(kind, type):
            names = (kind.__name__, keras.saving.get_registered_name(kind))
            classes |= dict.fromkeys([*names, *([key] if isinstance(key, str) else [])], kind)
    return classes


def _built(
    file: Path,
    screened: Screened,
    activations: Mapping[str, Any],
    classes: Mapping[str, type],
    input_shape: tuple[int, ...] | None,
) -> keras.Model | None:
    """Build the model; None if that fails because unreadable layers are missing in it."""
    if not screened.config["config"]["layers"]:
        raise ModelFileError(f"{file}: the model has no layers")
    objects = {name: _stand_in(name, function) for name, function in activations.items()}
    objects |= {OWN_LAYER + name: kind for name, kind in classes.items()}
    try:
        # Screening has refused names of other custom objects that this process has in scope.
        with (
            keras.saving.custom_object_scope(objects),
            SafeModeScope(safe_mode=True),
            without_values(),
            _sequential_built_once(),
            _deep_stack(len(screened.config["config"]["layers"])),
        ):
            model = keras.saving.deserialize_keras_object(screened.config, safe_mode=True)
            if input_shape is not None and not model.built:
                model.build((None, *input_shape))
            return model
    except Exception as error:
        if screened.unreadable:
            return None
        raise ModelFileError(f"{file}: Keras cannot build it: {cause_of(error)}") from error


def _stand_in(name: str, function: Any | None) -> Any:
    """The function that a model calls for an activation that the user has stated."""

    def stand_in(x: KerasTensor) -> Any:
        return x if function is None else function(x)

    stand_in.__name__ = name
    vars(stand_in)["unknown"] = function is None
    return stand_in


@contextlib.contextmanager
def _deep_stack(layers: int) -> Iterator[None]:
    """Allow the recursion that Keras needs for a model of so many layers, one behind the other."""
    before = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(max(before, before + _FRAMES * min(layers, _DEEPEST)))
        yield
    finally:
        sys.setrecursionlimit(before)


_FROM_CONFIG = vars(keras.Sequential)["from_config"]


@contextlib.contextmanager
def _sequential_built_once() -> Iterator[None]:
    """Read Sequential models with all their layers at once.

    Keras builds the model anew for every layer that it adds: 30 seconds for 200 layers.
    """
    try:
        keras.Sequential.from_config = classmethod(_sequential)
        yield
    finally:
        keras.Sequential.from_config = _FROM_CONFIG


def _sequential(cls: Any, config: Any, custom_objects: Any = None) -> Any:
    """Sequential.from_config with one build."""
    layers = [
        keras.saving.deserialize_keras_object(layer, custom_objects=custom_objects)
        for layer in config["layers"]
    ]
    model = cls(layers, name=config["name"])
    shape = config.get("build_input_shape")
    if not model.built and isinstance(shape, list | tuple) and shape:
        model.build(shape)
    return model


def _leaves(layer: KerasLayer) -> Iterator[Any]:
    """The layers inside of a model; models, pipelines and wrappers are opened."""
    children = getattr(layer, "layers", None)
    if isinstance(layer, keras.layers.Wrapper):
        children = [layer.layer]
    if children is None:
        yield layer
    for child in children or ():
        yield from _leaves(child)


def _require_low_rank(file: Path, model: KerasModel) -> None:
    """Refuse low-rank updates that do not fit in memory: Keras adds them to read a kernel's shape.

    Raises: ModelFileError
    """
    for layer in _leaves(model):
        if getattr(layer, "lora_enabled", False):
            parts = (layer._kernel, layer.lora_kernel_a, layer.lora_kernel_b)  # noqa: SLF001
            require_memory(
                3 * 4 * sum(map(size_of, parts)),  # drawn, scaled and added
                f"{file}: the low-rank updates of {printable(layer.name)}",
                "the model without them",
                ModelFileError,
            )


def _is_adapted(layer: object) -> bool:
    """Whether a layer's constants stand in the weights of the file and not in its settings."""
    return isinstance(layer, keras.layers.Normalization) and layer.input_mean is None


def _load_weights(
    source: ModelSource, version: str | None, model: KerasModel, fixed: list[Any]
) -> None:
    """Load trained weights, except those of the layers in `fixed`; refuse non-finite ones."""
    file = source.path
    left_out = {id(variable) for layer in fixed for variable in layer.variables}
    variables = [v for v in model.variables if id(v) not in left_out]
    size = sum(
        size_of(v) * np.dtype(keras.backend.standardize_dtype(v.dtype)).itemsize for v in variables
    )
    held = source.weights_size()
    if size > max(_SMALL, held):
        raise ModelFileError(
            f"{file}: its weights do not fit the model: it has {size_text(size)} of weights, and "
            f"the file holds {size_text(held)}"
        )
    require_memory(
        3 * size,  # drawn, drawn once more by the way, and read
        f"{file}: loading its weights",
        "prior='initializers', which needs no weights",
        ModelFileError,
    )
    for variable in variables:
        if variable._value is None:  # noqa: SLF001 (Keras has no public way to draw it later)
            variable._deferred_initialize()  # noqa: SLF001
    # Optimisers keep up to a few numbers for each weight; HDF5 takes some kilobytes a group.
    count = sum(map(size_of, model.variables))
    limit = 64 * 2**20 + 2**16 * len(model.variables) + 40 * count
    load_weights(source, version, model, fixed, limit)
    for variable in variables:
        values = np.asarray(keras.ops.convert_to_numpy(variable))
        if keras.backend.is_float_dtype(variable.dtype) and not np.isfinite(values).all():
            raise ModelFileError(
                f"{file}: the trained {printable(variable.path)} is not finite: training has "
                "diverged, or the file is damaged"
            )
