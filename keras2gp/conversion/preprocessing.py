"""The Keras model of all layers before the first random weights, text encoders included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras2gp._util.arrays import KerasTensor
from keras2gp._util.keras_objects import KerasLayer, KerasModel
from keras2gp._util.memory import require_memory
from keras2gp._util.text import quoted_text
from keras2gp.errors import Obstacle
from keras2gp.graph.calls import SharedCalls
from keras2gp.kernel.inputs import as_inputs, numbers_per_image

__all__ = [
    "deterministic_model",
    "encoder_settings",
    "is_sparse",
    "mixing_obstacles",
    "side_by_side",
    "vocabulary_of",
]

_LOOKUPS = (layers.IntegerLookup, layers.StringLookup)


def _lookup_of(layer: KerasLayer) -> Any | None:
    """The lookup of a layer: itself, or the one that TextVectorization keeps."""
    if isinstance(layer, layers.TextVectorization):
        return layer._lookup_layer  # noqa: SLF001
    return layer if isinstance(layer, _LOOKUPS) else None


def vocabulary_of(layer: KerasLayer) -> list[Any] | None:
    """The entries that a layer looks up; None for a layer of another kind."""
    lookup = _lookup_of(layer)
    return None if lookup is None else list(lookup.get_vocabulary(include_special_tokens=False))


def is_sparse(layer: KerasLayer) -> bool:
    """Whether a layer's results are sparse or ragged tensors."""
    stated = (getattr(part, "sparse", False) is True for part in (layer, _lookup_of(layer)))
    return any(stated) or getattr(layer, "_ragged", False) is True


def encoder_settings(layer: KerasLayer) -> dict[str, Any]:
    """The settings that hold what a lookup was adapted to, which Keras keeps outside of them.

    Args:
        layer: Any layer.

    Returns:
        Its vocabulary, and the weights of its entries; nothing for a layer of another kind.
    """
    lookup = _lookup_of(layer)
    if lookup is None:
        return {}
    settings: dict[str, Any] = {"vocabulary": vocabulary_of(layer)}
    if lookup.output_mode == "tf_idf":
        weights = lookup.idf_weights_const.numpy()
        settings["idf_weights"] = weights[lookup.num_oov_indices :].tolist()
    return settings


_PROBES = 3
_TOLERANCE = 1e-3


def deterministic_model(inputs: list[KerasTensor], tensors: list[KerasTensor]) -> Any | None:
    """The Keras model from the inputs to the data tensors; None if they are the inputs."""
    if len(tensors) == len(inputs) and all(a is b for a, b in zip(tensors, inputs, strict=True)):
        return None
    return keras.Model(inputs, tensors)


def side_by_side(
    shared: SharedCalls, data: Sequence[tuple[KerasTensor, KerasTensor]]
) -> list[KerasTensor]:
    """The data tensors of the calls of shared layers, each with the calls as its first axis.

    shared: which data tensors they are of
    data:   pairs of a data tensor and its channels-last form
    """
    sizes = {op.index: (*op.size, op.channels) for op in shared.graph.inputs}
    joined = []
    for number, indices in enumerate(shared.stacks):
        stack = keras.ops.stack([data[i][1] for i in indices], axis=1)
        size = sizes.get(len(data) + number, stack.shape[1:])
        joined.append(keras.ops.reshape(stack, (-1, *size)))
    return joined


def mixing_obstacles(model: Any | None) -> list[Obstacle]:
    """An obstacle if an image's result depends on the other images of its batch.

    Layers and operations that take an axis can be given that of the batch, so the model is run:
    on random images together and one by one.
    """
    if model is None:
        return []
    require_memory(
        8 * _PROBES * numbers_per_image(model),
        f"{model.name}: the layers before the first weights, for {_PROBES} images,",
        "a smaller size of Resizing, padding or upsampling",
    )
    rng = np.random.default_rng(0)
    images = [_probe(model, t, rng) for t in model.inputs]
    try:
        together = _run(model, images)
    except Exception as error:  # noqa: BLE001 (whatever Keras or a user's layer raises)
        why = f"Keras cannot run them: {quoted_text(error)}"
        return [Obstacle(model.name, "the layers before the first weights", why)]
    for tensor, whole in zip(model.outputs, together, strict=True):
        stated, given = tensor.shape[1:], whole.shape[1:]
        if len(stated) != len(given) or any(
            n not in (None, m) for n, m in zip(stated, given, strict=True)
        ):
            why = f"they give {whole.shape} where Keras states {tensor.shape}"
            return [Obstacle(model.name, "the layers before the first weights", why)]
    for i in range(_PROBES):
        alone = _run(model, [image[i : i + 1] for image in images])
        for whole, single in zip(together, alone, strict=True):
            row = whole[i : i + 1]
            scale = np.abs(whole[np.isfinite(whole)]).max(initial=0.0)
            if row.shape != single.shape or not np.allclose(
                row, single, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True
            ):
                why = "they make the result of an image depend on the other images of its batch"
                hint = "operations along the axes of one image only"
                return [Obstacle(model.name, "the layers before the first weights", why, hint)]
    return []


def _probe(model: KerasModel, tensor: KerasTensor, rng: np.random.Generator) -> Any:
    """Random values for an input: numbers, or entries of the vocabulary that it is looked up in."""
    shape = [_PROBES, *(n or 8 for n in tensor.shape[1:])]
    if "float" in tensor.dtype:
        return rng.random(shape).astype("float32")
    found = (
        vocabulary_of(layer)
        for layer in model.layers
        if any(t is tensor for t in keras.tree.flatten(layer.input))
    )
    words = next(filter(None, found), ["a", "b"] if tensor.dtype == "string" else [0, 1])
    chosen = rng.choice(np.asarray(words), shape)
    return chosen if tensor.dtype == "string" else chosen.astype(tensor.dtype)


def _run(model: KerasModel, images: list[Any]) -> list[Any]:
    outputs = model(as_inputs(images), training=False)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [np.asarray(output) for output in outputs]
