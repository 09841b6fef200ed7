"""Weights of a user's own layer that act as those of a Keras layer: x @ w + b as Dense.

In the graph that tracing leaves, a product with a matrix of weights, and the biases that are added
to it alone, become one call of a Dense layer with these weights, and a convolution one of a
convolution layer; biases that are added elsewhere a
Dense layer of no other weights; a product with a factor that starts at a constant becomes a
Rescaling. Readers, random copies and reports then see Keras's own.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras2gp._util.keras_objects import KerasLayer, KerasNode, KerasVariable
from keras2gp.conversion.derived_weights import AffineWeight, as_drawn
from keras2gp.conversion.initial_values import initial_constant
from keras2gp.conversion.own_filters import convolution_of, is_convolution
from keras2gp.conversion.weight_calls import (
    StandIn,
    is_pair,
    last_of,
    matrix_of,
    uses_of,
    variables_of,
)
from keras2gp.modelfile.building import without_values

__all__ = ["OwnWeights"]


_SETTINGS = ("strides", "padding", "output_padding", "data_format", "dilation_rate")
"""What tells two convolutions with the same filters apart."""


_OF_BUILDING = ("Model .* had a build config", r"`build\(\)` was called on layer")
"""How Keras's warnings on a copy begin that it cannot build: the model itself is built."""


class OwnWeights:
    """The layers that weights of users' layers stand for, one for the same weights."""

    def __init__(self) -> None:
        self._layers: dict[tuple[Any, ...], tuple[Any, Sequence[Any]]] = {}
        self._laws: dict[int, Any] = {}
        self._names: dict[int, str] = {}
        self._biases_of: dict[int, Any] = {}

    def note(self, layer: KerasLayer) -> None:
        """Note the names and initialisers of a layer's weights.

        Keras forgets an initialiser when it draws the weight: the weights of another layer of the
        same settings are made, with shapes only.
        """
        own = _own(layer)
        self._names |= {id(variable): name for name, variable in own}
        for make in (_built_anew, _made_again):
            if all(id(variable) in self._laws for _, variable in own):
                return
            try:
                with without_values(), warnings.catch_warnings():
                    for beginning in _OF_BUILDING:
                        warnings.filterwarnings("ignore", beginning, UserWarning)
                    made = [(name, v.shape, v._initializer) for name, v in _own(make(layer))]  # noqa: SLF001
            except Exception:  # noqa: BLE001, S112 (whatever the user's code raises)
                continue
            if [law[:2] for law in made] == [(name, v.shape) for name, v in own]:
                self._laws |= {id(v): law for (_, v), (*_, law) in zip(own, made, strict=True)}

    def as_layers(
        self, nodes: Sequence[Any], outputs: Sequence[Any], refuse: Callable[[Any, Any], None]
    ) -> list[tuple[Any, Any]]:
        """The records with the calls of Keras's layers in the place of those on weights.

        refuse: raises the reason for a record and a weight that has no such place

        Returns: pairs of a new record and the one that it stands for, whose line it has.
        """
        made: list[tuple[Any, Any]] = []
        done = set[int]()
        for node in nodes:
            found = variables_of(node)
            if id(node) in done or not found:
                made += [] if id(node) in done else [(node, node)]
                continue
            stand_in, name = None, type(node.operation).__name__
            if isinstance(found[0], AffineWeight) and name != "Multiply":
                refuse(node, found[0])
            if len(found) == 1 and name == "Add":
                biases = self._biases(node, found[0])
                if biases:
                    made += [(each, node) for each in biases]
                    continue
            elif len(found) == 1 and is_pair(node, found[0]):
                bias = self._bias_of(found[0], nodes, outputs)
                last = node if bias is None else last_of(node, nodes, outputs)
                stand_in = self._stand_in(node, found[0], bias, last)
            if stand_in is None:
                refuse(node, found[0])
                continue
            done |= {id(n) for n in nodes if n.outputs is stand_in.outputs}
            made.append((stand_in, node))
        return made

    def _bias_of(
        self, weight: KerasVariable, nodes: Sequence[Any], outputs: Sequence[Any]
    ) -> Any | None:
        """The biases that are added to each product with a weight, and to nothing else.

        A weight belongs to one layer: what another call does with it is no layer of its own.
        """
        uses = uses_of(weight, nodes)
        found = [
            v for n in uses for v in variables_of(last_of(n, nodes, outputs)) if v is not weight
        ]
        bias = found[0] if len(found) == len(uses) and len({*map(id, found)}) == 1 else None
        if bias is not None and len(uses_of(bias, nodes)) > len(uses):
            bias = None
        return bias if self._biases_of.setdefault(id(as_drawn(weight)), bias) is bias else None

    def _stand_in(
        self, node: KerasNode, weight: KerasVariable, bias: Any | None, last: Any
    ) -> StandIn | None:
        """The call of a layer in the place of one on a weight; None if no layer is that.

        bias: the weights that are added to its result
        last: the call that adds them, or itself
        """
        name = type(node.operation).__name__
        matrix = matrix_of(node, weight)
        if matrix is not None:
            layer = self._dense(matrix, bias)
        elif is_convolution(node):
            layer = self._convolution(node, weight, bias)
        else:
            last = node
            layer = self._factor(weight, node) if name == "Multiply" else None
        arguments = type(node.arguments)(node.arguments.keras_tensors[0])
        return None if layer is None else StandIn(layer, arguments, last.outputs)

    def _biases(self, node: KerasNode, weight: KerasVariable) -> list[StandIn]:
        """Calls that add biases, one for each channel, or constants; none if a weight is neither.

        Biases are a Dense layer of zeros, in a sum with what they are added to.
        """
        (tensor,), (result,) = node.arguments.keras_tensors, node.outputs
        shape, channels = tuple(weight.shape), result.shape[-1]
        arguments = type(node.arguments)
        if tensor.shape != result.shape:
            return []
        if set(shape[:-1]) <= {1} and shape[-1:] == (channels,):
            zeros = keras.KerasTensor(result.shape, result.dtype, name="zeros")
            biases = keras.KerasTensor(result.shape, result.dtype, name="biases")
            layer = self._zero_dense(weight, channels)
            total = type(node.operation)(name=node.operation.name)
            return [
                StandIn(self._zeros_for(layer), arguments(tensor), [zeros]),
                StandIn(layer, arguments(zeros), [biases]),
                StandIn(total, arguments(tensor, biases), node.outputs),
            ]
        number = initial_constant(self._law(weight))
        if number is None or set(shape) - {1}:
            return []
        shift = self._once(
            [weight],
            lambda: keras.layers.Rescaling(1.0, float(number), name=self._name(weight)),
        )
        return [StandIn(shift, arguments(tensor), node.outputs)]

    def _zero_dense(self, bias: Any, channels: int) -> Any:
        def build() -> Any:
            layer = keras.layers.Dense(channels, kernel_initializer="zeros", name=self._name(bias))
            # Zeros that take no memory, however many channels there are.
            layer._kernel = np.broadcast_to(np.float32(0.0), (channels, channels))  # noqa: SLF001
            layer.bias, layer.bias_initializer = bias, self._law(bias)
            layer.built = True
            return layer

        return self._once([bias], build)

    def _zeros_for(self, layer: KerasLayer) -> Any:
        """The input of biases: the tensor times 0, so that no weights can act on it."""
        return self._once([layer], lambda: keras.layers.Rescaling(0.0, name=f"{layer.name}_zeros"))

    def table(self, weight: KerasVariable) -> Any:
        """The Embedding that a weight [*positions, units] is, of the numbers of its positions."""

        def build() -> Any:
            *positions, units = weight.shape
            layer = keras.layers.Embedding(math.prod(positions), units, name=self._name(weight))
            layer._embeddings = weight  # noqa: SLF001
            layer.embeddings_initializer = self._law(weight)
            layer.built = True
            return layer

        return self._once([weight], build)

    def _dense(self, weight: KerasVariable, bias: Any | None) -> Any:
        weights = [weight] if bias is None else [weight, bias]

        def build() -> Any:
            layer = keras.layers.Dense(
                int(weight.shape[1]),
                use_bias=bias is not None,
                name=self._name(weight),
            )
            layer._kernel, layer.bias = weight, bias  # noqa: SLF001
            layer.kernel_initializer = self._law(weight)
            layer.bias_initializer = self._law(bias)
            layer.built = True
            return layer

        return self._once(weights, build)

    def _convolution(self, node: KerasNode, filters: Any, bias: Any | None) -> Any:
        operation = node.operation
        settings = [getattr(operation, name, None) for name in _SETTINGS]
        return self._once(
            [filters] if bias is None else [filters, bias],
            lambda: convolution_of(
                node,
                filters,
                bias,
                self._law,
                self._name(filters),
            ),
            type(operation).__name__,
            str(settings),
        )

    def _factor(self, weight: KerasVariable, node: KerasNode) -> Any | None:
        derived = weight if isinstance(weight, AffineWeight) else None
        own = weight if derived is None else derived.of
        number = initial_constant(self._law(own))
        if derived is not None:
            number = derived.at(number)
        (tensor,), (result,) = node.arguments.keras_tensors, node.outputs
        ahead, own_channels = tuple(weight.shape)[:-1], tuple(weight.shape)[-1:]
        fits = set(ahead) <= {1} and own_channels in ((), (1,), (result.shape[-1],))
        if number is None or not fits or tensor.shape != result.shape:
            return None
        return self._once(
            [own],
            lambda: keras.layers.Rescaling(float(number), name=self._name(own)),
            float(number),
        )

    def _name(self, weight: KerasVariable) -> str:
        return self._names.get(id(as_drawn(weight)), "weight")

    def _law(self, weight: KerasVariable) -> Any:
        """The initialiser of a weight, as it is drawn; None if it is not known."""
        return self._laws.get(id(as_drawn(weight)))

    def _once(self, weights: Sequence[Any], build: Callable[[], Any], *settings: Any) -> Any:
        key = (*map(id, weights), *settings)  # equal ones are one object as long as one is kept
        if key not in self._layers:
            self._layers[key] = build(), weights
        return self._layers[key][0]


def _own(layer: KerasLayer) -> list[tuple[str, Any]]:
    """The weights that a layer made itself, by the names of its attributes."""
    names = {id(v): name for name, v in vars(layer).items() if isinstance(v, keras.Variable)}
    return [
        (names.get(id(variable), "weight"), variable)
        for kind in ("_trainable_variables", "_non_trainable_variables")
        for variable in getattr(layer, kind, ())
    ]


def _built_anew(layer: KerasLayer) -> Any:
    """A layer with the attributes of another, whose `build` has made its weights."""
    kind: Any = type(layer)
    twin = kind.__new__(kind)
    keras.Layer.__init__(twin)
    for name, value in vars(layer).items():
        if not (isinstance(value, keras.Variable) or name.startswith("_self_")):  # TensorFlow's
            vars(twin).setdefault(name, value)
    twin.build_from_config(layer.get_build_config())
    return twin


def _made_again(layer: KerasLayer) -> Any:
    """A layer of the same class and settings, whose __init__ has made its weights."""
    return type(layer).from_config(layer.get_config())
