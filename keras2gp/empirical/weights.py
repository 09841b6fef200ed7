"""The trainable weights of a model: their layers, their prior variances, and which are the last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from keras2gp._util.keras_objects import KerasLayer, KerasModel
from keras2gp._util.text import received_text
from keras2gp.conversion.initial_values import element_variance, initial_constant
from keras2gp.conversion.registry import functional_of
from keras2gp.errors import InputError, PriorError, one_line

__all__ = ["Weight", "last_weights", "weights_of"]


@dataclass(frozen=True)
class Weight:
    """One trainable variable.

    Attributes:
        path: its path in the model.
        shape: its shape.
        layer: the layer that holds it; None for a variable that no layer lists.
        name: its name in the layer.
    """

    path: str
    shape: tuple[int, ...]
    layer: KerasLayer
    name: str

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def fan_in(self) -> int:
        """How many of its numbers one output sums over; 0 for a bias, a scale and their like."""
        return math.prod(self.shape[:-1]) if len(self.shape) > 1 else 0

    @property
    def variance(self) -> float:
        """The variance that its initialiser draws it with; 0 for one that gives a constant.

        Raises:
            PriorError: the initialiser is not known, or draws around a mean.
        """
        names = (self.name, self.name.removesuffix("_kernel"))
        found = [getattr(self.layer, f"{name}_initializer", None) for name in names]
        initializer = next((one for one in found if one is not None), None)
        remedy = "parameterization='standard', in which every weight counts alike"
        if initializer is None:
            raise PriorError(
                f"{one_line(self.path)}: its layer states no {self.name}_initializer, so that its "
                f"prior variance is not known. Try: {remedy}"
            )
        if initial_constant(initializer) is not None:
            return 0.0
        try:
            return element_variance(initializer, self.shape)
        except PriorError as error:
            raise PriorError(f"{one_line(self.path)}: {error}. Or try: {remedy}") from error


def weights_of(model: KerasModel) -> Iterator[Weight]:
    """The trainable variables of a model, in Keras's order."""
    layers = model._flatten_layers()  # noqa: SLF001
    owners = {id(v): layer for layer in layers for v in layer._trainable_variables}  # noqa: SLF001
    for variable in model.trainable_variables:
        shape = tuple(int(n) for n in variable.shape)
        yield Weight(variable.path, shape, owners.get(id(variable)), variable.name)


def last_weights(model: KerasModel, weights: Sequence[Weight], last: str | None) -> list[int]:
    """Which of the weights belong to the last layers: the output depends on no later ones.

    Args:
        model: the Keras model.
        weights: its weights.
        last: name of the last layer; None for those that the graph of a functional model ends in,
            or for the last of the layers that a subclassed model lists.

    Raises:
        InputError: there is no layer of that name, or it has no trainable weights.
    """
    layers = model._flatten_layers(include_self=False)  # noqa: SLF001
    functional = functional_of(model)
    if last is not None:
        chosen = [layer for layer in layers if layer.name == last]
        if not chosen:
            names = ", ".join(dict.fromkeys(layer.name for layer in layers))
            raise InputError(f"last={received_text(last)}: no layer of that name. Layers: {names}")
    elif functional is not None:
        chosen = list(_final(functional).values())
    else:
        chosen = [weight.layer for weight in weights if weight.layer is not None][-1:]
    held = {id(variable) for layer in chosen for variable in layer.trainable_variables}
    places = [i for i, v in enumerate(model.trainable_variables) if id(v) in held]
    if not places:
        names = ", ".join(layer.name for layer in chosen) or "none"
        raise InputError(f"the last layers ({names}) have no trainable weights")
    return places


def _final(functional: KerasModel) -> dict[int, Any]:
    """The layers with trainable weights that are met first on the ways back from the output."""
    found: dict[int, Any] = {}
    waiting, seen = list(functional.outputs), set()
    while waiting:
        tensor = waiting.pop()
        operation, number, _ = tensor._keras_history  # noqa: SLF001
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if getattr(operation, "trainable_variables", None):
            inner = functional_of(operation)
            found |= {id(operation): operation} if inner is None else _final(inner)
        else:
            waiting += operation._inbound_nodes[number].input_tensors  # noqa: SLF001
    return found
