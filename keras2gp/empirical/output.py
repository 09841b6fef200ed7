"""The output of a model whose kernel is asked for, with or without its activation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import activations, layers

from keras2gp._util.checks import is_whole_number
from keras2gp._util.text import received_text
from keras2gp.conversion.walker import functional_of
from keras2gp.errors import InputError, OutputError, one_line

__all__ = ["chosen_model"]

_ACTIVATIONS = (
    activations.softmax,
    activations.sigmoid,
    activations.log_softmax,
    activations.log_sigmoid,
)
_OPERATIONS = ("Softmax", "Sigmoid", "LogSoftmax", "LogSigmoid")


def chosen_model(
    model: Any, output: int | str | None, *, logits: bool
) -> tuple[Any, int | str | None]:
    """A model of one output, and which output of it is meant if Keras has no graph of it.

    Args:
        model: a built Keras model.
        output: a position, or a name; None for the only output.
        logits: whether a softmax or sigmoid at the output is left out.

    Raises:
        InputError: there is no such output, or no such activation.
        OutputError: there are several outputs, and none was chosen.
    """
    if output is not None and not is_whole_number(output) and not isinstance(output, str):
        raise InputError(f"output={received_text(output)}: expected a position or a name")
    functional = functional_of(model)
    if functional is None:
        if logits:
            raise InputError(
                f"logits=True: {one_line(model.name)} is code, which has no layer at its end that "
                "could be left out. Try: a model that returns the logits"
            )
        return model, output
    structure = functional._outputs_struct  # noqa: SLF001
    names = list(functional.output_names)
    if isinstance(structure, Mapping):
        names = sorted(structure)  # the order in which Keras flattens a dict
    tensor = functional.outputs[_place(names, output)]
    if logits:
        tensor = _before_activation(tensor)
    elif len(names) == 1:
        return model, None
    return keras.Model(functional.inputs, tensor, name=model.name), None


def _place(names: list[str], output: int | str | None) -> int:
    if output is None:
        if len(names) > 1:
            text = f"the model has {len(names)} outputs: choose one with output=: {names}"
            raise OutputError(text, names)
        return 0
    if isinstance(output, str) and output in names:
        return names.index(output)
    if isinstance(output, str) or not -len(names) <= output < len(names):
        raise InputError(f"output={received_text(output)}: the model has the outputs {names}")
    return int(output)


def _before_activation(tensor: Any) -> Any:
    """The argument of the softmax or sigmoid whose result a tensor is."""
    operation, number, _ = tensor._keras_history  # noqa: SLF001
    kind, node = type(operation), operation._inbound_nodes[number]  # noqa: SLF001
    activation = getattr(operation, "activation", activations.linear)
    plain = kind is layers.Softmax or (
        kind.__module__.startswith("keras.src.ops.") and kind.__name__ in _OPERATIONS
    )
    if plain or (kind is layers.Activation and activation in _ACTIVATIONS):
        return node.input_tensors[0]
    if activation not in _ACTIVATIONS:
        raise InputError(
            f"logits=True: the output is of {operation.name} ({kind.__name__}), which has no "
            "softmax or sigmoid to be left out. Try: without logits="
        )
    if not kind.__module__.startswith("keras.src.layers.") or len(operation._inbound_nodes) > 1:  # noqa: SLF001
        raise InputError(
            f"logits=True: {operation.name} ({kind.__name__}) is of another library or called "
            "twice, so that its activation cannot be left out. Try: a model that ends in logits"
        )
    twin = kind.from_config(operation.get_config() | {"activation": "linear"})
    result = twin(node.input_tensors[0])
    twin.set_weights(operation.get_weights())
    twin.trainable = operation.trainable
    return result
