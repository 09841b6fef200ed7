"""Constants that are added, and elementwise functions that are made of several ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.ops.base import Kind, NotGaussian, Op, Spatial
from keras2gp.graph.ops.channels import Activation, Scale, Sum
from keras2gp.graph.ops.products import Product

__all__ = ["Composed", "Shift", "Steps"]

_MOST_STEPS = 128
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Shift(Op):
    """A constant added: k' = k + constant (m1 + m2) + constant^2, features of a known mean."""

    constant: float
    pointwise: ClassVar[bool] = True
    not_gaussian: ClassVar[NotGaussian] = NotGaussian(
        cause="a constant was added, and what is between mixes it with other numbers",
        hint="the constant straight before the activation, or biases in its place",
        output="a constant was added before the output, and what comes after makes a mean of it "
        "that is not the same for all inputs and positions",
    )

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Kind.FEATURES: the output has a mean."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else Kind.FEATURES

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True unless the constant or the input may be negative."""
        return self.constant >= 0.0 and inputs[0]

    def needs_means(self, inputs: Sequence[Kind]) -> bool:
        """True for features and data: the constant multiplies their mean."""
        return not {Kind.FEATURES, Kind.DATA}.isdisjoint(inputs)

    @property
    def keeps_zeros(self) -> bool:
        """False: the constant is added beyond the border too."""
        return False


Steps = tuple[tuple[Op, tuple[int, ...]], ...]
"""Ops, each on earlier results: 0 is the argument u, and i the result of the ith of them."""


@dataclass(frozen=True)
class Composed(Activation):
    """Elementwise ops on one Gaussian tensor as one activation: u * sigmoid(u), relu(u + 1).

    name:  the function as text; `steps` alone say what it computes
    steps: the ops

    Raises: GraphError if the steps are not elementwise ops of earlier ones.
    """

    steps: Steps = ()

    def __post_init__(self) -> None:
        """Check the steps, which a file may state."""
        if not 0 < len(self.steps) <= _MOST_STEPS:
            raise GraphError(f"a function of {len(self.steps)} steps: expected 1 to {_MOST_STEPS}")
        for number, (op, inputs) in enumerate(self.steps):
            known = isinstance(op, Activation | Scale | Sum | Product | Shift)
            if not known or isinstance(op, Composed):
                raise GraphError(f"{op.title} is no step of an elementwise function")
            count = len(op.coefficients) if isinstance(op, Sum) else 1
            fits = bool(inputs) if isinstance(op, Product) else len(inputs) == count
            if not fits or not all(0 <= i <= number for i in inputs):
                raise GraphError(f"step {number} of a function reads {inputs}")

    @classmethod
    def of(cls, steps: Steps) -> Composed:
        """The function of these steps, named by its text."""
        texts = ["u"]
        for op, inputs in steps:
            texts.append(_text(op, [texts[i] for i in inputs]))
        return cls(texts[-1], (), steps)

    @property
    def identity_from_zero(self) -> bool:
        """False: it is not known of a composed function."""
        return False

    @property
    def homogeneous(self) -> bool:
        """False: it is not known of a composed function."""
        return False

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True if the last step is never negative, whatever the sign of the argument."""
        never = [False]
        for op, read in self.steps:
            never.append(op.never_negative([never[i] for i in read]))
        return never[-1]

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The argument's shape."""
        return inputs[0]


def _text(op: Op, texts: list[str]) -> str:
    """One step as text, cut where it becomes long."""
    if isinstance(op, Activation):
        constants = "".join(f", {name}={value:g}" for name, value in op.params)
        text = f"{op.name}({texts[0]}{constants})"
    elif isinstance(op, Scale):
        text = f"{op.factor:g} * {texts[0]}"
    elif isinstance(op, Shift):
        text = f"({texts[0]} + {op.constant:g})"
    elif isinstance(op, Sum):
        terms = zip(op.coefficients, texts, strict=True)
        text = f"({' + '.join(t if c == 1.0 else f'{c:g} * {t}' for c, t in terms)})"
    else:
        text = " * ".join(texts)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 3]}..."
