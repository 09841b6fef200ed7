"""Random search over architectures: every trial kept, resumed after any interruption."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp.engine.api import gram
from keras2gp.errors import (
    InputError,
    NumericalError,
    PriorError,
    StoreError,
    UnsupportedModelError,
)
from keras2gp.gp import GPClassifier, JitterWarning
from keras2gp.gp.metrics import error_rate
from keras2gp.kernel import Kernel
from keras2gp.search.spaces import Settings, Space
from keras2gp.search.trials import (
    SCORES,
    Trial,
    read_trials,
    replace_file,
    require_same_search,
    write_trials,
)
from keras2gp.translate import convert

__all__ = ["SearchResult", "Split", "random_search"]

Array = np.ndarray[Any, Any]
Advance = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Split:
    """Images, float, and labels of one part of the data."""

    x: Array
    y: Array


@dataclass(frozen=True)
class SearchResult:
    """All trials, and the best one; None if all failed."""

    trials: tuple[Trial, ...]
    best: Trial | None


def random_search(
    space: Space,
    train: Split,
    validation: Split | None = None,
    *,
    samples: int,
    out: str | Path,
    score: str = "validation",
    seed: int = 0,
    noise_variance: float = 0.0,
    dtype: str = "float32",
    executor: Any = "auto",
    progress: Advance = lambda _done, _total: None,
    told: Callable[[Trial], None] = lambda _trial: None,
) -> SearchResult:
    """Draw networks, and keep the one whose Gaussian process scores best.

    samples:  trials in all, those of earlier runs included
    out:      directory: trials.csv, a row each; best.keras and best.json; search.json, which says
              what the search is of. The same call goes on with it. Of a trial that was interrupted
              the blocks of its kernel matrices are kept.
    score:    "validation" (error), "leave-one-out" (error, in closed form) or "evidence" (log
              marginal likelihood)
    seed:     with the trial's number it decides the draw
    progress: called with (trials done, samples); told: with every trial, those found included

    A trial fails, with its reason in the table, if the network cannot be built or converted, or if
    its kernel overflows or is singular; a full disk or memory ends the search.

    Reference: the paper, section 4; it does not fit again after adding the validation images.

    Raises: InputError; StoreError if `out` is of another search or cannot be written.
    """
    if score not in SCORES:
        raise InputError(f"score={score!r}: expected {', '.join(map(repr, SCORES))}")
    if score == "validation" and validation is None:
        raise InputError("score='validation' needs validation images. Try: 'leave-one-out'")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise InputError(f"samples is {samples!r}: expected a whole number, 1 or more")
    run = _Run(
        space=space,
        train=train,
        validation=validation,
        out=Path(out),
        score=score,
        noise_variance=noise_variance,
        dtype=dtype,
        executor=executor,
    )
    run.start(seed)
    while len(run.trials) < samples:
        progress(len(run.trials), samples)
        run.add(len(run.trials), seed)
        told(run.trials[-1])
    progress(samples, samples)
    return SearchResult(tuple(run.trials), run.best)


@dataclass(kw_only=True)
class _Run:
    """The state of one search: its table, and the best so far."""

    space: Space
    train: Split
    validation: Split | None
    out: Path
    score: str
    noise_variance: float
    dtype: str
    executor: Any
    trials: list[Trial] = field(default_factory=list)

    @property
    def table(self) -> Path:
        """trials.csv."""
        return self.out / "trials.csv"

    @property
    def names(self) -> list[str]:
        """Of the settings, in the order of the table's columns."""
        return list(self.space.distributions)

    @property
    def best(self) -> Trial | None:
        """The trial of least loss, the first of equal ones."""
        known = [(loss, t) for t in self.trials if (loss := t.loss(self.score)) is not None]
        return min(known, key=lambda pair: pair[0])[1] if known else None

    def start(self, seed: int) -> None:
        """Make the directory, or find what an earlier run has left in it."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.out} cannot be made: {error.strerror}") from error
        parts = [self.train] if self.validation is None else [self.train, self.validation]
        identity = {
            "space": self.space.name,
            "space_identity": self.space.identity,
            "score": self.score,
            "seed": seed,
            "rows": [len(part.x) for part in parts],
            "data_sha256": _digest(parts),
            "noise_variance": self.noise_variance,
            "dtype": self.dtype,
        }
        require_same_search(self.out / "search.json", identity)
        found = read_trials(self.table, self.names)
        self.trials = [
            Trial(**{**vars(t), "settings": self.space.draw(seed, t.trial)}) for t in found
        ]

    def add(self, number: int, seed: int) -> None:
        """One more trial, kept in the table before its kernel matrices are removed."""
        settings = self.space.draw(seed, number)
        stores = self.out / f"trial-{number:04d}"
        trial, model, kernel = self._try(number, settings, stores)
        before, loss = self.best, trial.loss(self.score)
        if model is not None and kernel is not None and loss is not None:
            least = None if before is None else before.loss(self.score)
            if least is None or loss < least:
                self._keep(trial, model, kernel)
        self.trials.append(trial)
        write_trials(self.table, self.trials, self.names)
        shutil.rmtree(stores, ignore_errors=True)

    def _try(
        self, number: int, settings: Settings, stores: Path
    ) -> tuple[Trial, Any | None, Kernel | None]:
        try:
            model = self.space.build(dict(settings))
        except Exception as error:  # noqa: BLE001 (a user's own code, and Keras for its layers)
            return _failed(number, settings, "build", error), None, None
        try:
            kernel = convert(model, dtype=self.dtype)
            return self._scored(number, settings, kernel, stores), model, kernel
        except (UnsupportedModelError, PriorError, NumericalError, InputError) as error:
            return _failed(number, settings, type(error).__name__, error), None, None

    def _scored(self, number: int, settings: Settings, kernel: Kernel, stores: Path) -> Trial:
        began = time.perf_counter()
        matrix = self._matrix(kernel, stores / "train.zarr", self.train.x)
        cross = None
        if self.validation is not None:
            cross = self._matrix(kernel, stores / "cross.zarr", self.validation.x, self.train.x)
        computed = time.perf_counter()
        classifier = GPClassifier("precomputed", self.noise_variance)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", JitterWarning)  # it is a column of the table
            classifier.fit(matrix, self.train.y)
        left_out, _ = classifier.leave_one_out()
        missed = None
        if cross is not None and self.validation is not None:
            missed = error_rate(self.validation.y, classifier.predict(cross))
        return Trial(
            number,
            "fine",
            settings,
            validation_error=missed,
            leave_one_out_error=error_rate(
                self.train.y, classifier.classes_[left_out.argmax(axis=1)]
            ),
            log_marginal_likelihood=classifier.log_marginal_likelihood_value_,
            jitter=classifier.jitter_report_.jitter,
            kernel_seconds=computed - began,
            solve_seconds=time.perf_counter() - computed,
        )

    def _matrix(self, kernel: Kernel, store: Path, x1: Array, x2: Array | None = None) -> Array:
        found = gram(kernel, x1, x2, out=store, executor=self.executor, progress=False)
        return np.asarray(found)

    def _keep(self, trial: Trial, model: Any, kernel: Kernel) -> None:
        """best.keras and best.json."""
        temporary = self.out / ".best.partial.keras"
        try:
            model.save(temporary)
            temporary.replace(self.out / "best.keras")
        except OSError as error:
            raise StoreError(f"{self.out / 'best.keras'} cannot be written: {error}") from error
        found = {
            **asdict(trial),
            "score": self.score,
            "space": self.space.name,
            "noise_variance": self.noise_variance,
            "dtype": self.dtype,
            "parameters": {layer: asdict(v) for layer, v in kernel.parameters.items()},
        }
        replace_file(self.out / "best.json", json.dumps(found, indent=2, default=str) + "\n")


def _failed(number: int, settings: Settings, where: str, error: Exception) -> Trial:
    reason = " ".join(str(error).split()) or type(error).__name__
    return Trial(number, "failed", settings, reason=f"{where}: {reason}")


def _digest(parts: Sequence[Split]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part.x).tobytes())
        digest.update(repr(part.y.tolist()).encode())
    return digest.hexdigest()
