"""Which op has a rule, and which activation a dual. Both registries refuse duplicates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from keras2gp.errors import RegistryError
from keras2gp.graph.ops import Activation, Op

if TYPE_CHECKING:
    from keras2gp.rules.covariance import Here
    from keras2gp.rules.duals.base import Dual

__all__ = ["dual", "dual_of", "dual_table", "has_dual", "rule", "rule_of", "rule_table"]

Rule = Callable[[Any, tuple[Any, ...], "Here"], Any]
_RULES: dict[type[Op], Rule] = {}
_DUALS: dict[str, type[Dual]] = {}
AnyDual = TypeVar("AnyDual", bound="type[Dual]")


def rule(op: type[Op]) -> Callable[[Rule], Rule]:
    """Register the covariance rule of an op: (op, maps of its inputs, here) -> map.

    Raises: RegistryError if the op has one.
    """

    def register(function: Rule) -> Rule:
        if op in _RULES:
            raise RegistryError(f"{op.__name__} has a rule already: {_RULES[op].__name__}")
        _RULES[op] = function
        return function

    return register


def dual(name: str, *, override: bool = False) -> Callable[[AnyDual], AnyDual]:
    """Register a dual activation under the name that Keras gives the function ("relu", "erf").

    Raises: RegistryError if the name has one and override is False.
    """

    def register(kind: AnyDual) -> AnyDual:
        if name in _DUALS and not override:
            raise RegistryError(f"activation {name!r} has a dual already: {_DUALS[name].__name__}")
        _DUALS[name] = kind
        return kind

    return register


def rule_of(op: Op) -> Rule:
    """The rule of an op."""
    return _RULES[type(op)]


def has_dual(name: str) -> bool:
    """Whether the activation has a closed form here."""
    return name in _DUALS


def dual_of(op: Activation) -> Dual:
    """The dual activation of an op, with its constants."""
    return _DUALS[op.name](**dict(op.params))


def rule_table() -> dict[str, str]:
    """First line of each rule's docstring, by the op's name, sorted."""
    return {
        op.__name__: (function.__doc__ or "").split("\n")[0]
        for op, function in sorted(_RULES.items(), key=lambda item: item[0].__name__)
    }


def dual_table() -> dict[str, str]:
    """First line of each dual's docstring, by the activation's name, sorted."""
    return {name: (kind.__doc__ or "").split("\n")[0] for name, kind in sorted(_DUALS.items())}
