"""The state of a fit as data: settings, facts and arrays, written by `save` and read by `load`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, GramLike, Matrix, Vector
from keras2gp._util.checks import finite_number
from keras2gp.errors import ModelFileError
from keras2gp.gp.arguments.noise import check_noise_setting
from keras2gp.gp.arguments.rows import RowNoise
from keras2gp.gp.noise.curve import Curves, NoiseCurve
from keras2gp.gp.process.base import GaussianProcess
from keras2gp.gp.solvers.by_output import system_of
from keras2gp.gp.solvers.by_pattern import PatternFactors
from keras2gp.gp.solvers.choice import SOLVERS, check_solver, solver_from_dict, solver_to_dict
from keras2gp.gp.solvers.jitter import check_jitter
from keras2gp.gp.solvers.report import CholeskyReport, SolverReport
from keras2gp.gp.solvers.system import PROBE, Origin

__all__ = ["SavedGaussianProcess", "plain"]

_OF_ROWS = {"file": "noise.npy"}
"""In a saved fit, in the place of a noise variance: it is that of each row, in this file."""


class SavedGaussianProcess(GaussianProcess):
    """A Gaussian process whose fit is written and read as plain data, without pickle."""

    def settings_state(self) -> dict[str, Any]:
        """See FittedInputs.settings_state."""
        settings = self.get_params(deep=False)
        del settings["kernel"]
        settings["solver"] = solver_to_dict(self.solver)
        if np.ndim(self.noise_variance):
            settings["noise_variance"] = _OF_ROWS
        return {name: plain(value) for name, value in settings.items()}

    @classmethod
    def settings_from_state(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """See FittedInputs.settings_from_state."""
        if state["noise_variance"] != _OF_ROWS:
            check_noise_setting(state["noise_variance"])
        check_jitter(state["jitter"])
        return {**state, "solver": solver_from_dict(state["solver"])}

    def fit_state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The facts of a fit as data for JSON, and its arrays by file name; `save` uses it."""
        value = self.log_marginal_likelihood_value_
        facts: dict[str, Any] = {
            "input_shape": list(self.input_shape_),
            "kernel_dtype": self.kernel_dtype_,
            "log_marginal_likelihood": None if math.isnan(value) else value,
            "solver_report": self.solver_report_.state(),
            "jitter_report": self.jitter_report_.state(),
        }
        arrays = {"y.npy": self.targets_, "alpha.npy": self.alpha_, **self.system_.state()}
        if self.inducing_ is not None:
            facts["inducing"] = self.inducing_.tolist()
            arrays["weights.npy"] = self.weights_
        if self.x_train_ is not None:
            arrays["x_train.npy"] = self.x_train_
        facts |= self._names_state()
        if self._positions:
            facts["positions"] = list(self._positions)
        if self.relative_noise_ is not None:
            arrays["relative_noise.npy"] = self.relative_noise_
        if self.observed_targets_ is not None:
            facts["missing_targets"] = int((~self.observed_targets_).sum())
        if self.observed_ is not None:
            arrays["observed.npy"] = self.observed_.astype(np.float64)
        if np.ndim(self.noise_variance):
            facts["mean_noise"] = float(np.mean(self.noise_variance_))
            facts["noise_by_output"] = isinstance(self.noise_variance_, np.ndarray)
            arrays["noise.npy"] = np.asarray(self.noise_variance, dtype=np.float64)
        if isinstance(self.noise_curve_, tuple):
            facts["noise_curves"] = [curve.state() for curve in self.noise_curve_]
        elif self.noise_curve_ is not None:
            facts["noise_curve"] = self.noise_curve_.state()
        return facts, arrays

    def restore_fit(
        self, facts: Mapping[str, Any], arrays: Mapping[str, Array], gram: GramLike
    ) -> None:
        """See FittedInputs.restore_fit."""
        self._intercept = finite_number(facts.get("intercept", 0.0))  # none in earlier releases
        _require(self._intercept >= 0.0)
        targets, alpha = arrays["y.npy"], arrays["alpha.npy"]
        shape, x = tuple(int(n) for n in facts["input_shape"]), arrays.get("x_train.npy")
        positions = tuple(facts.get("positions", ()))
        if positions != self._positions:
            raise ModelFileError(
                f"the kernel has positions {self._positions}, and that of the fit had {positions}"
            )
        observed = arrays.get("observed.npy")
        if self.precomputed:
            fits, every = x is None and len(shape) == 1, shape[0]
        else:
            images = 0 if x is None else len(x)
            fits, every = x is not None and x.shape[1:] == shape, math.prod(positions) * images
        self.observed_ = None if observed is None else observed.astype(np.intp)
        fits = fits and (every == len(targets) if observed is None else _are_rows(observed, every))
        fits = fits and (observed is None or len(observed) == len(targets))
        _require(fits and targets.ndim == 2 and alpha.shape == targets.shape)
        self.x_train_, self.targets_, self.alpha_ = x, targets, alpha
        self._set_input_shape(shape)
        self._restore_names(facts, shape[0])
        self.kernel_dtype_ = str(np.finfo(facts["kernel_dtype"]).dtype)
        value = facts["log_marginal_likelihood"]
        self.log_marginal_likelihood_value_ = math.nan if value is None else finite_number(value)
        self.solver_report_ = SolverReport.from_state(facts["solver_report"])
        self.jitter_report_ = CholeskyReport.from_state(facts["jitter_report"])
        self._restore_gaps(facts, arrays)
        self._restore_noise(facts, arrays)
        by_output = self._by_output
        added = 0.0 if by_output else self._shift()  # the systems of outputs know it
        kind, asked = SOLVERS[self.solver_report_.solver], check_solver(self.solver)
        # The settings that "auto" chose are not saved: they are the defaults.
        solver = asked if isinstance(asked, kind) else kind()
        origin = Origin(self._saved_training(gram), solver, added)
        if by_output:
            self.system_ = system_of(arrays, origin)
            _require(self.system_.added.shape[1] == targets.shape[1])
        else:
            self.system_ = kind.system.from_state(arrays, origin)
        rows, count = facts.get("inducing"), self.system_.basis
        self.inducing_, self.weights_ = None, alpha
        _require(("weights.npy" in arrays) == (rows is not None))
        if rows is not None:
            _require(isinstance(rows, list) and len(rows) == count == len(set(rows)))
            _require(all(type(row) is int and 0 <= row < len(targets) for row in rows))
            _require(arrays["weights.npy"].shape == (count, targets.shape[1]))
            self.inducing_ = np.array(rows, dtype=np.intp)
            self.weights_ = arrays["weights.npy"]
        _require(count == len(self.weights_))

    def _restore_gaps(self, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Set which targets are there from a state; raises as `restore_fit`."""
        stated, missing = (arrays.get(name) for name in ("patterns.npy", "pattern_factors.npy"))
        gaps = facts.get("missing_targets")
        _require((stated is None) == (missing is None) == (gaps is None))
        self.observed_targets_ = None
        if stated is not None:
            seen: Array = stated == 1.0
            _require(not self._labels and stated.shape == self.targets_.shape)
            _require(gaps == (~seen).sum() > 0)
            _require(not (self.targets_[~seen].any() or self.alpha_[~seen].any()))
            self.observed_targets_ = seen

    def _restore_noise(self, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Set the noise of a fit from its state; raises as `restore_fit`."""
        relative, curve = arrays.get("relative_noise.npy"), facts.get("noise_curve")
        curves, outputs = facts.get("noise_curves"), self.targets_.shape[1]
        by_output = curves is not None
        stated: float | Vector | None
        if self.noise_variance == _OF_ROWS:
            self.noise_variance = arrays["noise.npy"]
            stated = finite_number(facts["mean_noise"])
            by_output = facts.get("noise_by_output") is True  # earlier releases: of rows
            if by_output:
                noises = self.noise_variance.reshape(-1)
                _require(len(noises) == outputs > 1)
                stated = noises
        else:
            stated = check_noise_setting(self.noise_variance)
        _require((stated is None) == (curve is not None or curves is not None))
        _require(not (by_output and self._labels))
        if relative is not None:
            _require(relative.shape == (len(self.targets_),) and relative.dtype.kind == "f")
            _require(bool((np.isfinite(relative) & (relative >= 0.0)).all()))
        chosen: Curves = None if curve is None else NoiseCurve.from_state(curve)
        if curves is not None:
            chosen = tuple(NoiseCurve.from_state(one) for one in curves)
            _require(curve is None and len(chosen) == outputs > 1)
        self._set_noise(RowNoise(stated, relative, by_output), chosen)

    def probe(self) -> tuple[Any, Matrix]:
        """The kernel's values between a few inputs of the basis, and those that the fit had."""
        corner = self.system_.kernel_corner(PROBE, self._shift())
        rows: Any = slice(len(corner))
        if isinstance(self.system_, PatternFactors):
            rows = self.system_.corner_rows(len(corner))
        return self._covariance(self._basis[rows]), corner


def plain(value: Any) -> Any:
    """A number of numpy as one of Python, and anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _require(condition: bool) -> None:
    if not condition:
        raise ModelFileError("the arrays do not fit each other")


def _are_rows(numbers: Array, count: int) -> bool:
    """Whether these are different rows out of `count`, in their order."""
    whole = numbers.ndim == 1 and numbers.size > 0 and bool((numbers == np.floor(numbers)).all())
    return whole and numbers[0] >= 0 and numbers[-1] < count and bool((np.diff(numbers) > 0).all())
