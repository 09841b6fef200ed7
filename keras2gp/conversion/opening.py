"""From what a user hands over, a model or a file, to the graph of layers that is walked over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from keras2gp._util.keras_objects import KerasModel
from keras2gp.conversion.registry import functional_of, runs_own_code
from keras2gp.conversion.sizes import arguments_of, one_shape, sized_inputs
from keras2gp.conversion.tracing import Tracer
from keras2gp.conversion.unchanged import Unchanged, with_global_state_kept
from keras2gp.conversion.user_code import UntracedError
from keras2gp.errors import InputError, Obstacle
from keras2gp.modelfile.loading import load_model_file

__all__ = ["Opened", "opened"]


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that is ready to be walked over.

    name:       the model's name
    functional: its graph of layers; None if there is none
    tracer:     traces the user's code inside of it
    unreadable: obstacles of layers that its file only names, by path
    obstacle:   the reason why there is no graph; None if it stands among the unreadable
    layers:     path and class of each layer, for a model without a graph
    """

    name: str
    functional: Any | None
    tracer: Tracer = field(default_factory=Tracer)
    unreadable: Mapping[str, Obstacle] = field(default_factory=dict)
    obstacle: Obstacle | None = None
    layers: tuple[tuple[str, str], ...] = ()


@contextmanager
def opened(
    source: Any,
    *,
    weights: bool = False,
    activations: Mapping[str, Any] | None = None,
    layers: Mapping[Any, Any] | None = None,
    input_shape: Any = None,
) -> Iterator[Opened]:
    """Open a model or its file; a live model is as it was when the context ends.

    Args:
        source: A Keras model, or the path of its file; one that is opened already stays as it is.
        weights: Whether the values of the weights are needed.
        activations: As for `load_model_file`.
        layers: As for `convert`.
        input_shape: As for `convert`.

    Raises:
        ModelFileError: The file cannot be read.
        PriorError: Weights are asked for, and there are none.
        InputError: The source is something else, or the shapes do not fit the model.
    """
    if isinstance(source, Opened):
        yield source
        return
    with with_global_state_kept():
        if isinstance(source, str | Path):
            loaded = load_model_file(
                source,
                weights=weights,
                activations=activations,
                layers=layers,
                input_shape=one_shape(input_shape),
            )
            if loaded.model is None:
                unreadable = loaded.unreadable
                yield Opened(loaded.name, None, unreadable=unreadable, layers=loaded.layers)
                return
            tracer = Tracer(live=False)
            functional, obstacle = _with_graph(loaded.model, tracer, input_shape)
            yield Opened(
                loaded.name, functional, tracer, loaded.unreadable, obstacle, loaded.layers
            )
            return
        if not isinstance(source, keras.Model):
            raise InputError(
                f"expected a Keras model or the path of one, received {type(source).__name__}"
            )
        kept: list[Unchanged] = []

        def keep() -> None:
            if not kept:
                kept.append(Unchanged(source))

        tracer = Tracer(keep)
        try:
            functional, obstacle = _with_graph(source, tracer, input_shape)
            parts = tuple((part.name, type(part).__name__) for part in source.layers)
            yield Opened(source.name, functional, tracer, {}, obstacle, parts)
        finally:
            for before in kept:
                before.restore()


def _with_graph(
    model: KerasModel, tracer: Tracer, input_shape: Any
) -> tuple[Any | None, Obstacle | None]:
    """The graph of a model, or the reason why there is none."""
    functional = functional_of(model)
    if functional is not None:
        return _with_sizes(functional, tracer, input_shape), None
    kind = type(model).__name__
    arguments = arguments_of(model, input_shape) if _can_be_called(model) else None
    if arguments is None:
        return None, _unsized(model)
    try:
        if not runs_own_code(model):
            return tracer.built(model, *arguments[0]), None
        return tracer.called(model, *arguments), None
    except UntracedError as error:
        return None, Obstacle(model.name, kind, str(error), error.hint)


def _with_sizes(functional: KerasModel, tracer: Tracer, input_shape: Any) -> Any:
    """The graph with the stated sizes. Raises: InputError if the model does not take them."""
    if input_shape is None:
        return functional
    inputs = sized_inputs(functional.inputs, input_shape)
    if all(new is old for new, old in zip(inputs, functional.inputs, strict=True)):
        return functional
    try:
        return tracer.replayed(functional, inputs)
    except UntracedError as error:
        raise InputError(f"input_shape: {error}") from error


def _can_be_called(model: KerasModel) -> bool:
    return not isinstance(model, keras.Sequential) or runs_own_code(model) or bool(model.layers)


def _unsized(model: KerasModel) -> Obstacle:
    """The obstacle of a model whose sizes are not known."""
    kind = type(model).__name__
    if isinstance(model, keras.Sequential) and not runs_own_code(model):
        if not model.layers:
            why = "the Sequential model has no layers, and so no weights that are random"
            return Obstacle(model.name, "Sequential", why, "model.add(keras.layers.Dense(1))")
        why = "the Sequential model is not built, so its shapes are not known"
        hint = "keras.Input(shape) as its first element, or input_shape="
        return Obstacle(model.name, "Sequential", why, hint)
    why = "it is code, which is called on symbolic tensors, and the shape of its input is not known"
    return Obstacle(model.name, kind, why, "input_shape=, such as input_shape=(28, 28, 1)")
