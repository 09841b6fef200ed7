"""One trial of a search: a network is built, converted, fitted and scored."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.text import quoted_text
from keras2gp.conversion.pipeline import convert
from keras2gp.conversion.unchanged import names_kept
from keras2gp.errors import (
    InputError,
    NumericalError,
    PriorError,
    StoreError,
    UnsupportedModelError,
)
from keras2gp.gp.classification.classifier import GPClassifier
from keras2gp.gp.metrics import error_rate
from keras2gp.gp.process.base import JitterWarning
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.api import gram
from keras2gp.matrices.work import ExecutorLike
from keras2gp.modelfile.archive import save_archive
from keras2gp.search.spaces import Settings
from keras2gp.search.trials import Trial

__all__ = ["CANDIDATE", "Attempts", "Outcome", "Split"]


CANDIDATE = "best.keras"
"""File in a trial's directory that holds its network, if it is the best so far."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the data.

    Attributes:
        x: images, [N, *shape], floating-point.
        y: labels, [N].
    """

    x: Array
    y: Array


class Outcome(NamedTuple):
    """The result of a trial.

    parameters: weight and bias variance of each layer, if the trial is the best so far; its network
        is then saved as CANDIDATE. None otherwise.
    """

    trial: Trial
    parameters: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """The settings that all trials of a search share; they are arguments of `random_search`."""

    build: Callable[[Settings], Any]
    train: Split
    validation: Split | None
    score: str
    noise_variance: float
    dtype: str
    executor: ExecutorLike

    def run(self, number: int, settings: Settings, folder: Path, least: float | None) -> Outcome:
        """Run one trial; the outcome of a failed one has its reason.

        folder: holds its kernel matrices, whose finished blocks are used again
        least:  the loss of the best trial so far; None if there is none

        A network has the names that it would have alone, in a search that goes on too.

        Raises: StoreError; whatever a full disk or memory raises.
        """
        with names_kept():
            return self._outcome(number, settings, folder, least)

    def _outcome(
        self, number: int, settings: Settings, folder: Path, least: float | None
    ) -> Outcome:
        try:
            model = self.build(dict(settings))
        except (MemoryError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 (a user's own code, and Keras)
            return _failed(number, settings, "build", error)
        try:
            kernel = convert(model, dtype=self.dtype)
            if kernel.positions:
                raise InputError(
                    f"the output has positions {kernel.positions}, and the labels are of images. "
                    "Try: Flatten or pooling, and a Dense layer at the end"
                )
            trial = self._scored(number, settings, kernel, folder)
        except (UnsupportedModelError, PriorError, NumericalError, InputError) as error:
            return _failed(number, settings, type(error).__name__, error)
        loss = trial.loss(self.score)
        if loss is None or (least is not None and loss >= least):
            return Outcome(trial, None)
        try:
            save_archive(model, folder / CANDIDATE)
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{folder / CANDIDATE} cannot be written: {error}") from error
        return Outcome(trial, {layer: asdict(v) for layer, v in kernel.parameters.items()})

    def _scored(self, number: int, settings: Settings, kernel: Kernel, folder: Path) -> Trial:
        began = time.perf_counter()
        matrix = self._matrix(kernel, folder / "train.zarr", self.train.x)
        cross = None
        if self.validation is not None:
            cross = self._matrix(kernel, folder / "cross.zarr", self.validation.x, self.train.x)
        computed = time.perf_counter()
        classifier = GPClassifier("precomputed", self.noise_variance, intercept=0.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", JitterWarning)  # it is a column of the table
            classifier.fit(matrix, self.train.y)
        left_out, _ = classifier.leave_one_out()
        validation_error = None
        if cross is not None and self.validation is not None:
            validation_error = error_rate(self.validation.y, classifier.predict(cross))
        evidence = classifier.log_marginal_likelihood_value_
        return Trial(
            number,
            "fine",
            settings,
            validation_error=validation_error,
            leave_one_out_error=error_rate(
                self.train.y, classifier.classes_[left_out.argmax(axis=1)]
            ),
            log_marginal_likelihood=None if math.isnan(evidence) else evidence,
            jitter=classifier.jitter_report_.jitter,
            kernel_seconds=computed - began,
            solve_seconds=time.perf_counter() - computed,
        )

    def _matrix(self, kernel: Kernel, store: Path, x1: Array, x2: Array | None = None) -> Array:
        return np.asarray(gram(kernel, x1, x2, out=store, executor=self.executor, progress=False))


def _failed(number: int, settings: Settings, where: str, error: BaseException) -> Outcome:
    text = (
        f"sys.exit({error.code!r})" if isinstance(error, SystemExit) else quoted_text(error, 2000)
    )
    return Outcome(Trial(number, "failed", settings, reason=f"{where}: {text}"), None)
