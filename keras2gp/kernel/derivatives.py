"""Derivatives of a kernel by its inputs, where these are tensors: what a tf.GradientTape asks for.

Values are computed as ever. A tape that watches an argument is told how to go back from them: first
to the images of the graph, tile by tile, then through the layers that Keras runs on the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import InputsLike, Tensor
from keras2gp.errors import InputError
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.inputs import InputSpec, separated
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.matrices.input_gradient import InputGradient, input_gradient_of

__all__ = ["Derivatives", "derived"]

_Pulled = Callable[[InputGradient, list[Tensor], Tensor], list[Tensor]]
"""Derivatives by images, from those by the values that are made of them."""


@dataclass(frozen=True)
class Derivatives:
    """How values of a kernel depend on the tensors among its arguments.

    specs:        the inputs of the model
    preprocessor: the layers that Keras runs on them, or None
    program:      what computes the values
    parameters:   the prior variances
    """

    specs: Sequence[InputSpec]
    preprocessor: Any
    program: CompiledProgram
    parameters: Mapping[str, LayerVariances]

    def of_matrix(self, values: Tensor, x1: InputsLike, x2: InputsLike) -> Tensor:
        """A kernel matrix whose derivatives by the tensors in x1 and x2 are known to tapes."""
        count = len(self.program.graph.inputs)

        def pulled(gradient: InputGradient, images: list[Tensor], upstream: Tensor) -> list[Tensor]:
            second = images[count:] or None
            left, right = gradient.of_matrix(self.parameters, images[:count], second, upstream)
            return left + right

        return self._known(values, [x1] if x2 is None else [x1, x2], pulled)

    def of_diagonal(self, values: Tensor, x: InputsLike) -> Tensor:
        """Variances whose derivatives by the tensors in x are known to tapes."""

        def pulled(gradient: InputGradient, images: list[Tensor], upstream: Tensor) -> list[Tensor]:
            return gradient.of_diagonal(self.parameters, images, upstream)

        return self._known(values, [x], pulled)

    def _known(self, values: Tensor, sides: Sequence[InputsLike], pulled: _Pulled) -> Tensor:
        def back(tensors: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
            return self._back(sides, tensors, upstream, pulled)

        return _recorded(values, sides, back)

    def _back(
        self,
        sides: Sequence[InputsLike],
        tensors: Sequence[Tensor],
        upstream: Tensor,
        pulled: _Pulled,
    ) -> list[Tensor]:
        """Derivatives by the tensors. Raises: InputError where there are none."""
        graph = self.program.graph
        if graph.between:
            raise InputError(
                "positions='all': there is no derivative by the inputs. Try: one position, "
                "kernel.at(position)"
            )
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            left = iter(tensors)
            images = [image for side in sides for image in self._images(_with(side, left))]
        found = pulled(input_gradient_of(graph, self.program.kind), images, upstream)
        try:
            result: list[Tensor] = tape.gradient(
                images, list(tensors), output_gradients=found, unconnected_gradients="zero"
            )
        except LookupError as error:
            raise InputError(
                f"a layer before the first weights has no derivative by its input: {error}"
            ) from error
        return result

    def _images(self, x: InputsLike) -> list[Tensor]:
        """The data tensors of the graph in float64, of an argument that was checked before."""
        parts = []
        for part, spec in zip(separated(x, self.specs, "x"), self.specs, strict=True):
            tensor = tf.convert_to_tensor(part)
            if not spec.dtype:
                tensor = tf.cast(tensor, tf.float64)
            if tensor.shape.rank != len(spec.shape) + 1:
                tensor = tf.reshape(tensor, [-1, *(size or 1 for size in spec.shape)])
            parts.append(tensor)
        if self.preprocessor is not None:
            made = self.preprocessor(parts, training=False)
            parts = list(made) if isinstance(made, list | tuple) else [made]
        count = len(self.program.graph.inputs)
        return [tf.cast(part, tf.float64) for part in parts[:count]]


def derived(values: Tensor, sides: Sequence[InputsLike], again: Callable[..., Tensor]) -> Tensor:
    """Values whose derivatives by the tensors among the sides are those of a computation of them.

    again: the same values of the sides, which is called if a tape asks; raises what it refuses
    """

    def back(tensors: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            left = iter(tensors)
            made = again(*(_with(side, left) for side in sides))
        upstream = tf.cast(upstream, made.dtype)
        found: list[Tensor] = tape.gradient(
            made, list(tensors), output_gradients=upstream, unconnected_gradients="zero"
        )
        return found

    return _recorded(values, sides, back)


def _recorded(
    values: Tensor,
    sides: Sequence[InputsLike],
    back: Callable[[Sequence[Tensor], Tensor], list[Tensor]],
) -> Tensor:
    """Values, and for tapes how to go back from them to the tensors among the sides."""
    watched = [tensor for side in sides for tensor in _tensors_in(side)]
    if not watched:
        return values

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def recorded(*tensors: Tensor) -> Any:
        return tf.identity(values), lambda upstream: back(tensors, upstream)

    return recorded(*map(tf.convert_to_tensor, watched))


def _tensors_in(x: InputsLike) -> list[Tensor]:
    """The tensors and variables of real numbers in an argument, in its order."""
    if isinstance(x, Mapping):
        return [value for value in x.values() if _is_tensor(value)]
    values = x if isinstance(x, list | tuple) else [x]
    return [value for value in values if _is_tensor(value)]


def _with(x: InputsLike, tensors: Any) -> Any:
    """The argument with the next of the tensors in the place of those that it holds."""
    if isinstance(x, Mapping):
        return {key: next(tensors) if _is_tensor(value) else value for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [next(tensors) if _is_tensor(value) else value for value in x]
    return next(tensors) if _is_tensor(x) else x


def _is_tensor(value: Any) -> bool:
    return isinstance(value, tf.Tensor | tf.Variable) and bool(value.dtype.is_floating)
