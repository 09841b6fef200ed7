"""The state of a classification's fit as data: classes, and the map of means to probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras2gp._util.arrays import Array, GramLike
from keras2gp._util.checks import finite_number
from keras2gp.errors import ModelFileError
from keras2gp.gp.arguments.labels import (
    check_label_setting,
    check_probabilities,
    classes_from_state,
    classes_state,
)
from keras2gp.gp.classification.calibration import Calibration
from keras2gp.gp.classification.dirichlet import DirichletPosterior
from keras2gp.gp.classification.labels import ClassLabels
from keras2gp.gp.probabilities.linear_map import LinearMap
from keras2gp.gp.process.intercept import check_intercept
from keras2gp.gp.process.saved_state import plain

__all__ = ["SavedClassifier"]


class SavedClassifier(ClassLabels):
    """The settings and facts of a fit, written by `save` and read by `load`; see GPClassifier."""

    probabilities: str
    class_weight: Any
    intercept: float | str

    def settings_state(self) -> dict[str, Any]:
        """See FittedInputs.settings_state."""
        settings = super().settings_state()
        if isinstance(self.class_weight, dict):
            pairs = self.class_weight.items()
            settings["class_weight"] = [[plain(label), float(weight)] for label, weight in pairs]
        return settings

    @classmethod
    def settings_from_state(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """See SavedGaussianProcess.settings_from_state."""
        settings = super().settings_from_state(state)
        if isinstance(settings.get("class_weight"), list):
            settings["class_weight"] = dict(settings["class_weight"])
        return settings

    def fit_state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """See SavedGaussianProcess.fit_state."""
        facts, arrays = super().fit_state()
        facts["classes"], facts["intercept"] = classes_state(self.classes_), self._intercept
        facts["temperature"], facts["dirichlet"] = self.temperature_, None
        if (found := self.linear_map_) is not None:
            facts["temperature"] = found.temperature
            facts["linear_map"], linear = found.state()
            arrays |= linear
        if self.dirichlet_ is not None:
            facts["dirichlet"] = vars(self.dirichlet_.transformation)
            arrays |= self.dirichlet_.state()
        return facts, arrays

    def restore_fit(
        self, facts: Mapping[str, Any], arrays: Mapping[str, Array], gram: GramLike
    ) -> None:
        """See SavedGaussianProcess.restore_fit."""
        check_probabilities(self.probabilities)
        check_label_setting(self.labels, self.probabilities)
        super().restore_fit(facts, arrays, gram)
        if check_intercept(self.intercept) not in (None, self._intercept):
            raise ModelFileError(f"an intercept of {self._intercept}, and {self.intercept} stated")
        count = self.targets_.shape[1]
        self.classes_ = classes_from_state(facts["classes"], count)
        value, tempered = facts["temperature"], self.probabilities in ("linear", "temperature")
        number = None if value is None else finite_number(value)
        if tempered != (value is not None) or (tempered and value <= 0.0):
            raise ModelFileError(f"temperature {value!r} of probabilities {self.probabilities!r}")
        self._calibration = Calibration(self.probabilities, known=True)
        if self.probabilities == "temperature":
            self._calibration.temperature = number
        parts = [name in arrays for name in LinearMap.files] + ["linear_map" in facts]
        if set(parts) != {self.probabilities == "linear"}:
            raise ModelFileError("the arrays are not those of its probabilities")
        if self.probabilities == "linear":
            self._calibration.linear_map = LinearMap.from_state(facts["linear_map"], arrays, count)
        parts = [name in arrays for name in DirichletPosterior.files]
        parts.append(facts["dirichlet"] is not None)
        if set(parts) != {self.probabilities == "dirichlet"}:
            raise ModelFileError("the arrays are not those of its probabilities")
        self.dirichlet_ = None
        if self.probabilities == "dirichlet":
            columns = self.targets_.argmax(axis=1)
            self.dirichlet_ = DirichletPosterior.from_state(
                facts["dirichlet"], arrays, columns, count
            )
