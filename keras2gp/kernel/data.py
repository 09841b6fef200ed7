"""The data tensors of a kernel: its images behind the layers that Keras runs on them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Images
from keras2gp._util.memory import require_memory
from keras2gp.errors import InputError
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Patches, Weigh
from keras2gp.kernel.inputs import as_inputs, numbers_per_image, require_tokens

__all__ = ["data_tensors", "require_pair"]

_BATCH = 2**28
"""Most numbers that the preprocessor gives at once."""


def data_tensors(
    arrays: list[Array], preprocessor: Any | None, graph: Graph, dtype: str, name: str
) -> list[Images]:
    """The data tensors of checked images, and behind them those that the mean alone is made of.

    Args:
        arrays: the images, one array for each input of the model.
        preprocessor: Keras model of the deterministic layers before the first weights, or None.
        graph: of the kernel.
        dtype: of the kernel.
        name: of the argument, for messages.

    Raises:
        InputError: a layer gives values that are not finite, or the memory does not suffice.
    """
    if preprocessor is None:
        return [array.astype(dtype, copy=False) for array in arrays]
    size, count = numbers_per_image(preprocessor), len(arrays[0])
    batch = min(1024, count, max(1, _BATCH // size))
    results = sum(math.prod(n or 1 for n in t.shape[1:]) for t in preprocessor.outputs)
    require_memory(
        (batch * size + 2 * count * results) * np.dtype(dtype).itemsize,
        f"{name}: {count} images behind the layers before the first weights",
        "fewer images, or a smaller size of Resizing, padding or upsampling",
    )
    batches = _batches(arrays, batch)
    outputs = [preprocessor(as_inputs(batch), training=False) for batch in batches]
    columns = zip(*(o if isinstance(o, list | tuple) else [o] for o in outputs), strict=True)
    images = [np.concatenate([np.asarray(part) for part in parts]) for parts in columns]
    for image in images:
        if not np.isfinite(image).all():
            place = np.argwhere(~np.isfinite(image))[0][0]
            raise InputError(
                f"{name}: the layers that Keras runs on the data, up to "
                f"{preprocessor.layers[-1].name}, give values that are not finite, first of image "
                f"{place}{_of_masks(graph)}"
            )
    images = [image.astype(dtype) for image in images]
    inputs = graph.inputs
    require_tokens(images[: len(inputs)], inputs, name)
    return images


def require_pair(graph: Graph, dtype: str) -> None:
    """Refuse a graph of which the largest map of one pair of images does not fit into memory.

    Raises:
        InputError: with both figures.
    """
    largest = _largest_map(graph)
    require_memory(
        2 * largest * np.dtype(dtype).itemsize,
        f"one pair of images, of maps of {largest} positions,",
        "smaller images or windows, or less padding and upsampling",
    )


def _largest_map(graph: Graph) -> int:
    """Positions of the largest map, those that are padded for a window included."""
    sizes = [node.spatial for node in graph.nodes]
    for node in graph.nodes:
        if isinstance(node.op, Patches):
            read = graph.nodes[node.inputs[0]].spatial
            sizes.append(tuple(n + sum(p) for n, p in zip(read, node.op.pads, strict=True)))
    return max(map(math.prod, sizes))


def _of_masks(graph: Graph) -> str:
    """Why a mask may have no weights."""
    if not any(isinstance(node.op, Weigh) for node in graph.nodes):
        return ""
    return (
        ". Its mask may leave out all steps, or, in a recurrence, steps between others, where the "
        "state is carried on"
    )


def _batches(arrays: list[Array], size: int) -> list[list[Array]]:
    count = len(arrays[0])
    starts = range(0, count, size)
    return [[a[i : i + size] for a in arrays] for i in starts]
