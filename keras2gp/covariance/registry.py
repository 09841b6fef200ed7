"""Registries of rules by op and of dual activations by name; both refuse duplicates."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap
from keras2gp._util.checks import truth
from keras2gp._util.text import quoted_text
from keras2gp.covariance.base import Maps, Rule, RuleContext
from keras2gp.covariance.dual import Dual
from keras2gp.errors import InputError, RegistryError
from keras2gp.graph.ops import Activation, Op

__all__ = [
    "OWN",
    "dual",
    "dual_of",
    "dual_of_function",
    "dual_table",
    "has_dual",
    "has_outside",
    "is_outside",
    "own_activation",
    "reason_of_outside",
    "rule",
    "rule_of",
    "rule_table",
]

RuleFunction = Callable[[Any, Maps, RuleContext], PairMap]
_RULES: dict[type[Op], type[Rule[Any]]] = {}
_DUALS: dict[str, type[Dual]] = {}
OWN = " (own)"
"""Ends the name of an activation that is a function of the user's own."""
_OWN: dict[tuple[str, float], Dual] = {}
"""Such functions, by their name and their probe."""
_PROBES = 0.3, 1.0, 3.0
MakeDual = Callable[[Any], "Dual"]
_FUNCTIONS: dict[type[Activation], MakeDual] = {}
AnyDual = TypeVar("AnyDual", bound="type[Dual]")
AnyRule = TypeVar("AnyRule", type[Rule[Any]], RuleFunction)


def rule(op: type[Op]) -> Callable[[AnyRule], AnyRule]:
    """Register the rule of an op: a subclass of Rule, or the covariance alone as a function.

    A function (op, maps, context) -> map counts as the rule of an op without weights: it is applied
    to the tangent kernels and the means of the inputs too.

    Args:
        op: the class of the op, a frozen dataclass.

    Returns:
        The decorator, which gives back what it decorates.

    Raises:
        RegistryError: if the op has a rule already, or draws weights and gets a function: its
            tangent kernel and its mean are other equations.
    """

    def register(definition: AnyRule) -> AnyRule:
        if op.random and not isinstance(definition, type):
            raise RegistryError(
                f"{op.__name__} draws weights: a function says its covariance alone. Try: a "
                "subclass of keras2gp.covariance.base.Rule"
            )
        if op in _RULES:
            raise RegistryError(f"{op.__name__} has a rule already: {_RULES[op].__name__}")
        _RULES[op] = definition if isinstance(definition, type) else _linear_rule(definition)
        return definition

    return register


def _linear_rule(function: RuleFunction) -> type[Rule[Any]]:
    """The rule class of a function."""

    class FunctionRule(Rule[Op]):
        __doc__ = function.__doc__

        def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
            return function(self.op, maps, context)

    FunctionRule.__name__ = getattr(function, "__name__", type(function).__name__)
    FunctionRule.__module__ = function.__module__
    return FunctionRule


def dual(name: str, *, override: bool = False) -> Callable[[AnyDual], AnyDual]:
    """Register a dual activation, as a decorator of its class.

    Args:
        name: The name that Keras gives the function, such as "relu" or "erf".
        override: Replace a dual that is there already, also one of keras2gp.

    Returns:
        A decorator that registers a class and returns it unchanged.

    Raises:
        RegistryError: The name has a dual already, and override is False.

    Example:
        >>> import keras2gp
        >>> import tensorflow as tf
        >>> @keras2gp.dual("registered_sine")
        ... class Sine(keras2gp.Hermite):
        ...     def phi(self, u):
        ...         return tf.sin(u)
    """
    if not isinstance(name, str) or not name:
        raise RegistryError(f"{name!r} is no name of an activation: expected text, such as 'relu'")
    override = truth("override", override)

    def register(kind: AnyDual) -> AnyDual:
        if name in _DUALS and not override:
            raise RegistryError(f"activation {name!r} has a dual already: {_DUALS[name].__name__}")
        _DUALS[name] = kind
        return kind

    return register


def rule_of(op: Op) -> Rule[Any]:
    """The rule of an op."""
    return _RULES[type(op)](op)


def own_activation(name: str, dual: Dual) -> Activation:
    """The op of a user's own activation, whose dual this process knows from now on.

    It holds a number that is made of moments, which tells one function from another of its name.

    Raises:
        InputError: the moments are not finite, or its code cannot be run.
    """
    probe = _probe(dual)
    _OWN[name + OWN, probe] = dual
    return Activation(name + OWN, (("probe", probe),))


def _probe(dual: Dual) -> float:
    q = tf.constant(_PROBES, tf.float64)
    try:
        moments = tf.concat([_mean(dual, q), tf.sqrt(dual.second_moment(q))], 0)
    except Exception as error:
        raise InputError(f"its own code does not run: {_raised(error)}") from error
    if moments.shape != 2 * q.shape[0]:
        raise InputError("its own code does not act on each number by itself")
    if not np.isfinite(moments).all():
        raise InputError(
            "its mean or its mean square is infinite, or no series of it is exact to the stated "
            "error, where its argument is Gaussian. Try: a function that grows more slowly, or is "
            "less steep"
        )
    weights = tf.sqrt(tf.range(2.0, 8.0, dtype=tf.float64))
    # Rounded: the last digits differ from machine to machine.
    return float(f"{float(tf.reduce_sum(moments * weights)):.6g}")


def _mean(dual: Dual, q: ImageMap) -> ImageMap:
    """The mean, or 0 of a dual that does not state it: sums alone need it."""
    try:
        return dual.mean(q)
    except NotImplementedError:
        return tf.zeros_like(q)


def _raised(error: Exception) -> str:
    kind = type(error).__name__
    said = quoted_text(error)
    return kind if said == kind else f"{kind}: {said}"


def reason_of_outside(op: Activation) -> str:
    """Why the dual that was registered for an activation cannot be used, in words; or ""."""
    kind: Any = _DUALS.get(op.name)
    return _reason(kind, op.params) if is_outside(op.name) else ""


@cache
def _reason(kind: Any, params: tuple[tuple[str, float], ...]) -> str:
    try:
        made = kind(**dict(params))
    except Exception as error:  # noqa: BLE001 (a user's own code)
        return f"its own code does not run: {_raised(error)}"
    try:
        _probe(made)
    except InputError as error:
        return str(error)
    return ""


def dual_of_function(op: type[Activation]) -> Callable[[MakeDual], MakeDual]:
    """Register what makes the duals of a kind of activations, whose names do not tell them."""

    def register(make: MakeDual) -> MakeDual:
        _FUNCTIONS[op] = make
        return make

    return register


def has_dual(op: Activation) -> bool:
    """Whether the covariance of an activation is known here."""
    if type(op) in _FUNCTIONS:
        try:
            _FUNCTIONS[type(op)](op)
        except InputError:
            return False
        return True
    if op.name.endswith(OWN):
        return (op.name, dict(op.params).get("probe")) in _OWN
    return op.name in _DUALS and not reason_of_outside(op)


def is_outside(name: str) -> bool:
    """Whether a dual of that name was registered from outside of this package."""
    return name in _DUALS and not _DUALS[name].__module__.startswith("keras2gp.")


def has_outside() -> bool:
    """Whether any rule or dual was registered from outside of this package."""
    ours = "keras2gp."
    known = (*_RULES.values(), *_DUALS.values())
    return bool(_OWN) or not all(definition.__module__.startswith(ours) for definition in known)


def dual_of(op: Activation) -> Dual:
    """The dual activation of an op, with its constants."""
    if type(op) in _FUNCTIONS:
        return _FUNCTIONS[type(op)](op)
    params = dict(op.params)
    if not op.name.endswith(OWN):
        return _DUALS[op.name](**params)
    own = _OWN[op.name, params["probe"]]
    return own.with_degree(int(params["degree"])) if "degree" in params else own


def rule_table() -> dict[str, str]:
    """First line of each rule's docstring, by the op's name, sorted."""
    return {
        op.__name__: (definition.__doc__ or "").split("\n")[0]
        for op, definition in sorted(_RULES.items(), key=lambda item: item[0].__name__)
    }


def dual_table() -> dict[str, str]:
    """First line of each dual's docstring, by the activation's name, sorted."""
    return {name: (kind.__doc__ or "").split("\n")[0] for name, kind in sorted(_DUALS.items())}
