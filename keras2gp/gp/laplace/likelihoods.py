"""The likelihoods by name, as settings and as data for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.laplace.base import Likelihood
from keras2gp.gp.laplace.of_classes import Bernoulli, Ordinal, Softmax
from keras2gp.gp.laplace.of_numbers import Poisson, StudentT, Tobit
from keras2gp.gp.saved_state import plain

__all__ = ["LIKELIHOODS", "likelihood_from_state", "likelihood_of", "likelihood_state"]

LIKELIHOODS: dict[str, type[Likelihood]] = {
    kind.name: kind for kind in (Bernoulli, Softmax, Poisson, StudentT, Tobit, Ordinal)
}


def likelihood_of(setting: Any) -> Likelihood:
    """The likelihood of a setting; InputError for anything else."""
    if isinstance(setting, Likelihood):
        return setting
    if isinstance(setting, str) and setting in LIKELIHOODS:
        return LIKELIHOODS[setting]()
    names = ", ".join(f'"{name}"' for name in LIKELIHOODS)
    raise InputError(
        f"likelihood is {received_text(setting)}: expected one of {names}, or an object such as "
        "StudentT(df=4.0, scale=0.1)"
    )


def likelihood_state(setting: Any) -> Any:
    """A likelihood as data for JSON; the name of one without settings as it is.

    Raises:
        InputError: it is of a class of the user's own, and a file holds no code.
    """
    if isinstance(setting, str):
        return setting
    kind = type(setting)
    if kind not in LIKELIHOODS.values():
        raise InputError(
            f"the likelihood is a {kind.__name__}, a class of your own: a saved fit holds no code. "
            f"Try: one of {', '.join(k.__name__ for k in LIKELIHOODS.values())}"
        )
    values = {field.name: plain(getattr(setting, field.name)) for field in fields(setting)}
    return {"name": setting.name, **values}


def likelihood_from_state(state: Any) -> Any:
    """The likelihood of a `likelihood_state`; KeyError, TypeError and the like if malformed.

    Raises:
        InputError: a setting is out of range.
    """
    if isinstance(state, Mapping):
        settings = dict(state)
        return LIKELIHOODS[settings.pop("name")](**settings)
    likelihood_of(state)
    return state
