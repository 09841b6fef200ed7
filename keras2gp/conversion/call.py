"""One call of a layer as its reader sees it, the state of the walk, and how a call is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from keras2gp._util.arrays import Array
from keras2gp._util.keras_objects import KerasOperation
from keras2gp.conversion.settings import Settings
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.conversion.tracing import Tracer
from keras2gp.conversion.user_code import UntracedError
from keras2gp.errors import Obstacle
from keras2gp.graph.graph import GraphBuilder
from keras2gp.graph.variances import LayerVariances

__all__ = ["Call", "CallContext", "RefusalError", "State"]


class RefusalError(Exception):
    """Raised by `CallContext.refuse`; an Obstacle is made of it, or the one it holds taken."""

    def __init__(
        self,
        why: str,
        hint: str,
        *,
        by_shape: bool,
        by_layout: bool = False,
        obstacle: Obstacle | None = None,
    ) -> None:
        super().__init__(why)
        self.obstacle = obstacle
        self.why = why
        self.hint = hint
        self.by_shape = by_shape
        self.by_layout = by_layout


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation, with Tensors in place of Keras tensors.

    output: the Keras shape of the (first) result, without the batch axis
    line: the line of the user's code that made it, if that was traced
    untraced: the reason why the user's code inside of it could not be traced
    """

    operation: KerasOperation
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: tuple[int | None, ...]
    line: str = ""
    untraced: UntracedError | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments, in order, lists of them included."""
        return [t for t in _flat([self.args, list(self.kwargs.values())]) if isinstance(t, Tensor)]

    @property
    def received(self) -> str:
        """The call in an error message."""
        shapes = ", ".join(str((None, *t.shape)) for t in self.tensors)
        line = f" in {self.line}" if self.line else ""
        return f"{type(self.operation).__name__} of {shapes}{line}"


def _flat(value: Any) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


@dataclass
class State:
    """The settings of one walk over a model, and what it collects.

    settings:    the arguments of the conversion
    inside:      reads a layer that another one wraps (see KerasWalker.inside)
    by_calls:    reads a function of the user's (see KerasWalker.by_calls)
    at_output:   whether the present call has no weights after it
    tracer:      traces the user's own code
    replaced_max_pooling: whether average pooling stands in the place of a max pooling
    inputs:      Keras's symbolic inputs of the deterministic model
    data:        pairs of a data tensor and its channels-last form, in the order of Input.index
    fixed:       tensors of data that are the same for all images, by shape and values
    forms:       the Input.index of data in another form, by the identity of its tensor and the form
    masks:       data and form of the weights of positions, by Input.index
    names:       the path of the first call of each layer's weights, by its identity and their name
    owners:      weights, by identity: each with its layer and that layer's path
    gammas:      the channels that each random gamma multiplies, by the name of its weights
    calls:       how often each of them was called so far, by that name
    patterns:    numbers of the ways in which channels of a node are scattered over a tensor
    holding_data: terms of sums of random tensors and one of data, with coefficients, by their parts
    constants:   arrays of constants that are added, [*spatial, C] or of one entry along an axis,
                 and the channel of their node at which they begin; by Constants.index
    """

    settings: Settings
    tracer: Tracer = field(default_factory=Tracer)
    replaced_max_pooling: bool = False
    inside: Callable[..., list[Tensor]] = field(default=lambda *_: [])
    by_calls: Callable[[Any, Tensor, str], Tensor | None] = field(default=lambda *_: None)
    at_output: bool = False
    builder: GraphBuilder = field(default_factory=GraphBuilder)
    parameters: dict[str, LayerVariances] = field(default_factory=dict)
    inputs: Sequence[Any] = ()
    data: list[Any] = field(default_factory=list)
    fixed: dict[object, Any] = field(default_factory=dict)
    forms: dict[tuple[int, object], int] = field(default_factory=dict)
    masks: dict[int, tuple[Any, Callable[[Any], Any]]] = field(default_factory=dict)
    names: dict[tuple[int, str], str] = field(default_factory=dict)
    owners: dict[int, tuple[Any, Any, str]] = field(default_factory=dict)
    gammas: dict[str, tuple[Part, ...]] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    patterns: dict[tuple[tuple[int, int, int], ...], int] = field(default_factory=dict)
    holding_data: dict[tuple[Part, ...], tuple[tuple[Tensor, float], ...]] = field(
        default_factory=dict
    )
    constants: list[tuple[Array, int]] = field(default_factory=list)


class CallContext:
    """One call of the model, for its reader: ops are added and refusals made through it.

    became, note, biases_have_mean, variances: what the report says of the call
    extra_rows: variances of a layer with two kinds of weights, by the suffix of its path
    """

    def __init__(self, state: State, path: str) -> None:
        self.state = state
        self.path = path
        self.became = ""
        self.note = ""
        self.biases_have_mean = False
        self.variances: LayerVariances | None = None
        self.extra_rows: dict[str, LayerVariances] = {}

    def refuse(
        self, why: str, hint: str = "", *, by_shape: bool = True, by_layout: bool = False
    ) -> NoReturn:
        """Refuse this call, which has no exact rule; the walk goes on and collects all refusals.

        by_shape:  whether other shapes of the arguments might have a rule
        by_layout: whether they might with the channels on another axis
        """
        raise RefusalError(why, hint, by_shape=by_shape, by_layout=by_layout)
