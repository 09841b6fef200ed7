"""The state of a Laplace fit as data: its likelihood by name, settings, facts and arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, GramLike
from keras2gp._util.checks import (
    finite_number,
    is_number,
    proper_share,
    python_number,
    whole_number,
)
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp.arguments.labels import classes_from_state, classes_state
from keras2gp.gp.laplace.base import Likelihood
from keras2gp.gp.laplace.class_likelihoods import Bernoulli, Ordinal, Softmax
from keras2gp.gp.laplace.latent import LatentPosterior
from keras2gp.gp.laplace.mode import Mode
from keras2gp.gp.laplace.number_likelihoods import Poisson, StudentT, Tobit
from keras2gp.gp.solvers.system import PROBE

__all__ = [
    "LIKELIHOODS",
    "SavedLaplace",
    "likelihood_from_state",
    "likelihood_of",
    "likelihood_state",
]

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
    values = {field.name: python_number(getattr(setting, field.name)) for field in fields(setting)}
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


class SavedLaplace(LatentPosterior):
    """The settings and facts of a fit, written by `save` and read by `load`; see GPLaplace."""

    mode_: Mode
    likelihood: Any

    def _check_settings(self) -> None:
        whole_number("max_iterations", self.max_iterations, 1)
        if not is_number(self.prior_mean) or not math.isfinite(self.prior_mean):
            raise InputError(
                f"prior_mean is {received_text(self.prior_mean)}: expected a finite number"
            )
        proper_share("tolerance", self.tolerance)

    def settings_state(self) -> dict[str, Any]:
        """See FittedInputs.settings_state.

        Raises:
            InputError: the likelihood is of a class of the user's own.
        """
        settings = {
            name: python_number(value) for name, value in self.get_params(deep=False).items()
        }
        del settings["kernel"]
        return {**settings, "likelihood": likelihood_state(self.likelihood)}

    @classmethod
    def settings_from_state(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """See FittedInputs.settings_from_state."""
        return {**state, "likelihood": likelihood_from_state(state["likelihood"])}

    def fit_state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """See FittedInputs.fit_state.

        The matrix is not kept: means need none, and for variances it is computed again, or read.
        """
        mode = self.mode_
        facts = {
            "input_shape": list(self.input_shape_),
            "fitted_likelihood": likelihood_state(self.likelihood_),
            "classes": None if self.classes_ is None else classes_state(self.classes_),
            "mode": {
                "log_density": mode.log_density,
                "steps": mode.steps,
                "products": mode.products,
                "residual": mode.residual,
            },
            **self._names_state(),
        }
        arrays = {
            "y.npy": self.targets_.astype(np.float64),
            "alpha.npy": self.alpha_,
            "latent.npy": mode.latent,
            "prior.npy": np.asarray(self._corner, dtype=np.float64),
        }
        if self.x_train_ is not None:
            arrays["x_train.npy"] = self.x_train_
        return facts, arrays

    def restore_fit(
        self, facts: Mapping[str, Any], arrays: Mapping[str, Array], gram: GramLike
    ) -> None:
        """See FittedInputs.restore_fit.

        Raises:
            ModelFileError: the arrays do not fit each other.
            InputError: a setting is out of range.
        """
        self._check_settings()
        y, alpha, latent = (arrays[name] for name in ("y.npy", "alpha.npy", "latent.npy"))
        x, shape = arrays.get("x_train.npy"), tuple(int(n) for n in facts["input_shape"])
        likelihood, classes = likelihood_from_state(facts["fitted_likelihood"]), facts["classes"]
        observed: Any = y
        if classes is not None:
            classes = classes_from_state(classes, len(classes["values"]))
            if not np.isin(y, np.arange(len(classes))).all():
                raise ModelFileError(
                    f"y.npy holds other numbers than those of {len(classes)} classes"
                )
            observed = classes[y.astype(np.intp)]
        # What the likelihood takes from the data it has already: only the numbers come out again.
        likelihood, self.targets_, again = likelihood.observed(observed, 1.0)
        rows, side = len(y), min(PROBE, len(y))
        fits = (
            y.shape == (rows,)
            and alpha.shape == latent.shape == (rows, likelihood.latents(classes))
            and arrays["prior.npy"].shape == (side, side)
            and np.array_equal(self.targets_, y)
            and (again is None if classes is None else np.array_equal(again, classes))
            and (shape == (rows,) if x is None else x.shape == (rows, *shape))
            and (x is None) == self.precomputed
        )
        if not fits:
            raise ModelFileError("the arrays do not fit each other")
        state = facts["mode"]
        self.mode_ = Mode(
            alpha,
            latent,
            finite_number(state["log_density"]),
            whole_number("steps", state["steps"], 0),
            whole_number("products", state["products"], 0),
            finite_number(state["residual"]),
        )
        self.x_train_, self.likelihood_, self.classes_ = x, likelihood, classes
        self.alpha_, self.latent_ = alpha, latent + float(self.prior_mean)
        self._corner, self._matrix = arrays["prior.npy"], gram
        self._set_input_shape(shape)
        self._restore_names(facts, shape[0])
