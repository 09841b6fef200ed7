"""The state of a classification's fit as data: classes, and the map of means to probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras2gp._util.arrays import Array, Targets, Vector
from keras2gp._util.checks import finite_number, python_number
from keras2gp.errors import ModelFileError
from keras2gp.gp.arguments.labels import classes_from_state, classes_state
from keras2gp.gp.classification.calibration import Calibration
from keras2gp.gp.classification.dirichlet import DirichletPosterior
from keras2gp.gp.probabilities.linear_map import LinearMap

__all__ = ["class_state", "class_weight_from_state", "class_weight_state", "restored_classes"]


def class_weight_state(weights: Any) -> Any:
    """The setting `class_weight` as data for JSON: a mapping as pairs, whose labels keep a type."""
    if not isinstance(weights, dict):
        return weights
    return [[python_number(label), float(weight)] for label, weight in weights.items()]


def class_weight_from_state(state: Any) -> Any:
    """The setting of a `class_weight_state`."""
    return dict(state) if isinstance(state, list) else state


def class_state(
    classes: Vector,
    intercept: float,
    calibration: Calibration,
    dirichlet: DirichletPosterior | None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """The facts of a classification as data for JSON, and its arrays by file name.

    Args:
        classes: labels, [C].
        intercept: the variance of the intercept.
        calibration: the function of means that gives probabilities, fitted.
        dirichlet: the posterior of a Dirichlet regression, if there is one.

    Raises:
        InputError: labels that JSON cannot hold.
    """
    facts: dict[str, Any] = {
        "classes": classes_state(classes),
        "intercept": intercept,
        "temperature": calibration.temperature,
        "dirichlet": None,
    }
    arrays: dict[str, Array] = {}
    if (linear := calibration.linear_map) is not None:
        facts["temperature"] = linear.temperature
        facts["linear_map"], parts = linear.state()
        arrays |= parts
    if dirichlet is not None:
        facts["dirichlet"] = vars(dirichlet.transformation)
        arrays |= dirichlet.state()
    return facts, arrays


def restored_classes(
    facts: Mapping[str, Any], arrays: Mapping[str, Array], probabilities: str, targets: Targets
) -> tuple[Vector, Calibration, DirichletPosterior | None]:
    """Classes, calibration and Dirichlet posterior of a `class_state`.

    Malformed facts raise KeyError, TypeError, ValueError and the like.

    Args:
        facts: the first part of the state.
        arrays: the second part.
        probabilities: the estimator's setting.
        targets: targets -1 and 1 of the fit, [N, C].

    Raises:
        ModelFileError: facts and arrays do not fit the setting, or each other.
    """
    count = targets.shape[1]
    classes = classes_from_state(facts["classes"], count)
    value, tempered = facts["temperature"], probabilities in ("linear", "temperature")
    number = None if value is None else finite_number(value)
    if tempered != (value is not None) or (tempered and value <= 0.0):
        raise ModelFileError(f"temperature {value!r} of probabilities {probabilities!r}")
    calibration = Calibration(probabilities, known=True)
    if probabilities == "temperature":
        calibration.temperature = number
    has_linear_map = [name in arrays for name in LinearMap.files] + ["linear_map" in facts]
    _require_all_or_none(has_linear_map, probabilities == "linear")
    if probabilities == "linear":
        calibration.linear_map = LinearMap.from_state(facts["linear_map"], arrays, count)
    has_dirichlet = [name in arrays for name in DirichletPosterior.files]
    has_dirichlet.append(facts["dirichlet"] is not None)
    _require_all_or_none(has_dirichlet, probabilities == "dirichlet")
    dirichlet = None
    if probabilities == "dirichlet":
        columns = targets.argmax(axis=1)
        dirichlet = DirichletPosterior.from_state(facts["dirichlet"], arrays, columns, count)
    return classes, calibration, dirichlet


def _require_all_or_none(present: list[bool], expected: bool) -> None:
    """Refuse a state that has a part of what its probabilities need, or of others."""
    if set(present) != {expected}:
        raise ModelFileError("the arrays are not those of its probabilities")
