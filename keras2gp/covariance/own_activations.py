"""Activations of the user's own: functions, which are expanded, or Duals, stated by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras2gp._util.text import received_text
from keras2gp.covariance.dual import Dual
from keras2gp.covariance.duals.expanded import Expanded
from keras2gp.covariance.registry import is_outside, own_activation
from keras2gp.errors import InputError
from keras2gp.graph.ops import Activation

__all__ = ["Expanded", "OwnActivations"]


class OwnActivations:
    """The argument `activations=`: a name or a function, to a function or a Dual.

    Raises: InputError for anything else, or for a function that cannot be expanded.
    """

    def __init__(self, stated: Mapping[Any, Any] | None = None) -> None:
        self._stated: dict[Any, Dual] = {}
        if stated is not None and not isinstance(stated, Mapping):
            raise InputError(
                f"activations={received_text(stated)}: expected a dict. Try: "
                "{'my_activation': function}"
            )
        for key, value in (stated or {}).items():
            if not isinstance(key, str) and not callable(key):
                raise InputError(
                    f"activations: {key!r} is neither a name nor a function. Try: "
                    "{'my_activation': function}"
                )
            self._stated[key] = _dual(value, _name(key))

    @property
    def functions(self) -> dict[str, Any]:
        """Functions of a tensor by the names under which a model file may ask for them.

        None for a Dual without a `phi`.
        """
        return {
            key if isinstance(key, str) else _name(key): getattr(dual, "phi", None)
            for key, dual in self._stated.items()
        }

    def activation(self, function: Any, names: Sequence[str]) -> Activation:
        """The activation of a function that Keras does not know, by itself or under its names.

        Raises: InputError, with the reason, if it cannot be expanded.
        """
        name, stated = _plain(names[-1]), self._stated_for(function, names)
        if stated is not None:
            return own_activation(name, stated)
        if is_outside(name):
            return Activation(name)
        return own_activation(name, _dual(function, name))

    def knows(self, function: Any, names: Sequence[str]) -> bool:
        """Whether a covariance was stated or registered for a function."""
        return is_outside(_plain(names[-1])) or self._stated_for(function, names) is not None

    def _stated_for(self, function: Any, names: Sequence[str]) -> Dual | None:
        keys = (function, *names, _plain(names[-1]))
        return next((self._stated[key] for key in keys if key in self._stated), None)

    def register(self) -> None:
        """Make the stated activations known to graphs that are read from files."""
        for key, dual in self._stated.items():
            own_activation(_plain(_name(key)), dual)


def _name(key: Any) -> str:
    return key if isinstance(key, str) else str(getattr(key, "__name__", type(key).__name__))


def _plain(name: str) -> str:
    """The name without the package under which Keras has registered it."""
    return name.rsplit(">", 1)[-1]


def _dual(value: Any, name: str) -> Dual:
    if isinstance(value, Dual):
        return value
    if not callable(value) or isinstance(value, type):
        raise InputError(
            f"activations[{name!r}] is a {type(value).__name__}: expected a function or a Dual"
        )
    try:
        return Expanded(value)
    except InputError as error:
        raise InputError(f"the activation {name!r} has no expansion: {error}") from error
