"""The function that a Keras model computes at its present weights, as a function of the weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import activations, layers

from keras2gp._util.arrays import Array, Images, KerasTensor, Tensor
from keras2gp._util.checks import is_whole_number
from keras2gp._util.keras_objects import KerasModel
from keras2gp._util.memory import require_memory
from keras2gp._util.text import quoted_text, received_text
from keras2gp.conversion.on_data import called
from keras2gp.conversion.registry import functional_of
from keras2gp.empirical.inputs import ImageInputs
from keras2gp.empirical.weights import Weight, weights_of
from keras2gp.errors import InputError, NumericalError, OutputError, one_line

__all__ = ["Network", "chosen_model"]

_SAME = 1e-3
"""Relative difference up to which two float32 evaluations of one image are taken for the same."""
_NAMES = ("container", "shared_name")
"""Attributes of operations that are names, which TensorFlow numbers anew."""


class Network:
    """A model's output as a function of its weights and images, with copies of all weights.

    The model is called without side effects, and never changed; training it afterwards does not
    change the network.

    Args:
        model: a built Keras model.
        chosen: which output of a subclassed model, a position or a key; None for the only one.
        values: copies of all its variables, trainable ones first; None for the present values.
    """

    def __init__(
        self, model: KerasModel, chosen: int | str | None, values: Sequence[Array] | None = None
    ) -> None:
        self.model, self._chosen = model, chosen
        self._called = called(model)
        self.weights: tuple[Weight, ...] = tuple(weights_of(model))
        variables = [*model.trainable_variables, *model.non_trainable_variables]
        if values is None:
            needed = 8 * sum(int(np.prod(variable.shape)) for variable in variables)
            require_memory(needed, "a copy of the model's weights", "a smaller model")
            values = [keras.ops.convert_to_numpy(variable) for variable in variables]
        self._values = tuple(values)
        for variable, value in zip(variables, values, strict=True):
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise NumericalError(f"{one_line(variable.path)} holds values that are not finite")
        count = len(model.trainable_variables)
        self.values: list[Tensor] = [tf.constant(value) for value in values[:count]]
        self._constants = [tf.constant(value) for value in values[count:]]
        functional = functional_of(model)
        self.inputs = ImageInputs(functional, str(model.variable_dtype))
        self.units: int | None = None
        """Outputs of an image, all axes flattened; None for a model that states no outputs yet."""
        self.numbers = 0
        """About how many numbers the model computes for one image, once it has seen one."""
        self.computation = ""
        """SHA-256 of the operations that the model runs for one image, once it has seen one."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Network, (self.model, self._chosen, self._values)

    @property
    def name(self) -> str:
        """The model's name."""
        return one_line(str(self.model.name))

    def outputs(self, values: Sequence[Tensor], images: Sequence[Tensor]) -> Tensor:
        """The outputs at given trainable weights, [B, units]."""
        result, _ = self._called(
            values, self._constants, self.inputs.packed(images), training=False
        )
        return tf.reshape(self._output(result), [tf.shape(images[0])[0], -1])

    def meet(self, images: Sequence[Images]) -> None:
        """Evaluate the model on the first images that the kernel is given.

        Raises:
            InputError: the model cannot be called on them, its output is no array of
                floating-point numbers, or an image's output is not a function of that image.
        """
        one, two = ([tf.constant(array[:count]) for array in images] for count in (1, 2))
        shapes = [tf.TensorSpec([None, *t.shape[1:]], t.dtype) for t in one]
        try:
            traced = tf.function(self.outputs, autograph=False).get_concrete_function(
                self.values, shapes
            )
            first, again, both = (traced(self.values, x).numpy() for x in (one, one, two))
        except InputError:
            raise
        except (ValueError, TypeError, AttributeError, tf.errors.OpError) as error:
            text = quoted_text(error)
            raise InputError(f"{self.name} cannot be called on these images: {text}") from error
        if first.dtype.kind != "f":
            raise InputError(f"{self.name} gives an output of type {first.dtype}")
        if not np.isfinite(both).all():
            raise NumericalError(f"{self.name} gives an output that is not finite for image 0 or 1")
        if not np.array_equal(first, again):
            raise InputError(
                f"{self.name} gives another output each time, with training=False too: it draws "
                "random numbers, so that there is no kernel. Try: without the layer that draws"
            )
        if np.abs(both[:1] - first).max() > _SAME * np.abs(both).max():
            raise InputError(
                f"{self.name} gives an image another output beside another image: it mixes the "
                "images of a batch, so that there is no kernel of two images"
            )
        self.units = first.shape[1]
        sizes = [t.shape for op in traced.graph.get_operations() for t in op.outputs]
        known = [s.as_list() for s in sizes if s.rank is not None]
        self.numbers = max(sum(math.prod(size or 1 for size in s) for s in known), 1)
        self.computation = _computation(traced.graph)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Copies of all variables."""
        return self._values

    def _output(self, result: Any) -> Tensor:
        if isinstance(result, Mapping) and self._chosen in result:
            return result[self._chosen]
        tensors = keras.tree.flatten(result)
        names = list(result) if isinstance(result, Mapping) else list(map(str, range(len(tensors))))
        if self._chosen is None and len(tensors) > 1:
            text = f"the model has {len(tensors)} outputs: choose one with output=: {names}"
            raise OutputError(text, names)
        place = 0 if self._chosen is None else self._chosen
        if isinstance(place, str) or not -len(tensors) <= place < len(tensors):
            raise InputError(f"output={received_text(place)}: the model has the outputs {names}")
        return tensors[place]


def _computation(graph: Any) -> str:
    """SHA-256 of the operations of a traced function, whatever its layers are called.

    It holds for code of the user's own too, and for what layers are configured to do.
    """
    definition = graph.as_graph_def()
    bodies = [definition.node, *(function.node_def for function in definition.library.function)]
    digests = [_of_nodes(nodes) for nodes in bodies]
    return hashlib.sha256("".join([digests[0], *sorted(digests[1:])]).encode()).hexdigest()


def _of_nodes(nodes: Any) -> str:
    places = {node.name: str(place) for place, node in enumerate(nodes)}
    total = hashlib.sha256()
    for node in nodes:
        inputs = [name.lstrip("^").partition(":") for name in node.input]
        # A function's own arguments are no nodes; their names are those of its parameters.
        read = " ".join(places.get(name, "argument") + rest for name, _, rest in inputs)
        total.update(f"{node.op} {read}\n".encode())
        for key, value in sorted(node.attr.items()):
            if key[0] != "_" and key not in _NAMES and value.WhichOneof("value") != "func":
                total.update(f"{key} ".encode() + value.SerializeToString(deterministic=True))
    return total.hexdigest()


_ACTIVATIONS = (
    activations.softmax,
    activations.sigmoid,
    activations.log_softmax,
    activations.log_sigmoid,
)
_OPERATIONS = ("Softmax", "Sigmoid", "LogSoftmax", "LogSigmoid")


def chosen_model(
    model: KerasModel, output: int | str | None, *, logits: bool
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


def _before_activation(tensor: KerasTensor) -> Any:
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
