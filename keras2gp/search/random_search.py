"""Random search over architectures: every trial kept, resumed after any interruption."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.checks import whole_number
from keras2gp._util.files import write_file
from keras2gp.errors import InputError, StoreError
from keras2gp.search.attempts import CANDIDATE, Attempts, Outcome, Split
from keras2gp.search.spaces import OwnModel, PaperNetwork, Space
from keras2gp.search.trials import (
    SCORES,
    Trial,
    read_trials,
    require_same_search,
    write_trials,
)
from keras2gp.search.worker import NotSentError, Worker

__all__ = ["InProcessWarning", "SearchResult", "Split", "random_search"]

Advance = Callable[[int, int], None]

# So many trials leave about as much behind as another process takes.
_FEW = 10


class InProcessWarning(UserWarning):
    """Many trials run in this process, whose memory grows with each of them."""


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
    isolated: bool | None = None,
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
    isolated: whether trials run in a process of their own, which is replaced when its memory has
              grown by 1 GiB: TensorFlow keeps each trial's compiled program until its process
              ends. None: of more than 10 trials, without a GPU, in a space of this package or of a
              Python file. The `build` of another space, and what it registers, has to be in a
              module that the new process can import; else trials run here, with an
              InProcessWarning
    progress: called with (trials done, samples); told: with every trial, those found included

    A trial fails, with its reason in the table, if the network cannot be built or converted, or if
    its kernel overflows or is singular; a full disk or memory ends the search.

    Reference: the paper, section 4; it does not fit again after adding the validation images.

    Raises: InputError; StoreError if `out` is of another search or cannot be written; WorkerError
        if the process of the trials is killed.
    """
    if score not in SCORES:
        raise InputError(f"score={score!r}: expected {', '.join(map(repr, SCORES))}")
    if score == "validation" and validation is None:
        raise InputError("score='validation' needs validation images. Try: 'leave-one-out'")
    whole_number("samples", samples, 1)
    attempts = Attempts(
        build=space.build,
        train=train,
        validation=validation,
        score=score,
        noise_variance=noise_variance,
        dtype=dtype,
        executor=executor,
    )
    run = _Run(space=space, attempts=attempts, out=Path(out))
    run.start(seed)
    left = samples - len(run.trials)
    with _place(attempts, left, isolated) if left > 0 else nullcontext(attempts) as place:
        while len(run.trials) < samples:
            progress(len(run.trials), samples)
            run.add(len(run.trials), seed, place)
            told(run.trials[-1])
    progress(samples, samples)
    return SearchResult(tuple(run.trials), run.best)


def _place(
    attempts: Attempts, left: int, isolated: bool | None
) -> AbstractContextManager[Attempts | Worker]:
    """Where the trials that are left run: here, or in a process of their own."""
    here: AbstractContextManager[Attempts | Worker] = nullcontext(attempts)
    # A GPU's memory belongs to the first process that takes it: perhaps to this one.
    if isolated is None and (left <= _FEW or tf.config.list_physical_devices("GPU")):
        return here
    reason = "its space is a function, of which another process may lack what it registers"
    if isolated or (isolated is None and isinstance(attempts.build, OwnModel | PaperNetwork)):
        try:
            return Worker(attempts)
        except NotSentError as error:
            reason = f"another process cannot run them ({error})"
    if isolated is not False:
        warnings.warn(
            f"{left} trials run in this process, whose memory grows with each: {reason}. Try: "
            "isolated=True, with functions of a module; isolated=False to leave it so",
            InProcessWarning,
            stacklevel=3,
        )
    return here


@dataclass(kw_only=True)
class _Run:
    """The state of one search: its table, and the best so far."""

    space: Space
    attempts: Attempts
    out: Path
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
        score = self.attempts.score
        known = [(loss, t) for t in self.trials if (loss := t.loss(score)) is not None]
        return min(known, key=lambda pair: pair[0])[1] if known else None

    def start(self, seed: int) -> None:
        """Make the directory, or find what an earlier run has left in it."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.out} cannot be made: {error.strerror}") from error
        shared = self.attempts
        parts = [shared.train] if shared.validation is None else [shared.train, shared.validation]
        identity = {
            "space": self.space.name,
            "space_identity": self.space.identity,
            "score": shared.score,
            "seed": seed,
            "rows": [len(part.x) for part in parts],
            "data_sha256": _digest(parts),
            "noise_variance": shared.noise_variance,
            "dtype": shared.dtype,
        }
        require_same_search(self.out / "search.json", identity)
        found = read_trials(self.table, self.names)
        self.trials = [
            Trial(**{**vars(t), "settings": self.space.draw(seed, t.trial)}) for t in found
        ]

    def add(self, number: int, seed: int, place: Attempts | Worker) -> None:
        """One more trial, kept in the table before its kernel matrices are removed."""
        folder = self.out / f"trial-{number:04d}"
        best = self.best
        least = None if best is None else best.loss(self.attempts.score)
        found = place.run(number, self.space.draw(seed, number), folder, least)
        if found.parameters is not None:
            self._keep(found, folder)
        self.trials.append(found.trial)
        write_trials(self.table, self.trials, self.names)
        shutil.rmtree(folder, ignore_errors=True)

    def _keep(self, found: Outcome, folder: Path) -> None:
        """best.keras and best.json."""
        best = self.out / "best.keras"
        try:
            (folder / CANDIDATE).replace(best)
        except OSError as error:
            raise StoreError(f"{best} cannot be written: {error}") from error
        told = {
            **asdict(found.trial),
            "score": self.attempts.score,
            "space": self.space.name,
            "noise_variance": self.attempts.noise_variance,
            "dtype": self.attempts.dtype,
            "parameters": found.parameters,
        }
        write_file(self.out / "best.json", json.dumps(told, indent=2, default=str) + "\n")


def _digest(parts: Sequence[Split]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part.x).tobytes())
        digest.update(repr(part.y.tolist()).encode())
    return digest.hexdigest()
