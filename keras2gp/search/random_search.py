"""Random search over architectures: it keeps every trial, and goes on after an interruption."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras2gp._util.checks import whole_number
from keras2gp._util.files import held, made_folders, write_file
from keras2gp._util.paths import as_path
from keras2gp._util.progress import Advance, check_advance
from keras2gp.errors import InputError, StoreError
from keras2gp.matrices.work import ExecutorLike
from keras2gp.search.attempts import CANDIDATE, Attempts, Outcome, Split
from keras2gp.search.spaces import OwnModel, PaperNetwork, Space
from keras2gp.search.trials import (
    COLUMNS,
    SCORES,
    Trial,
    read_trials,
    require_same_search,
    write_trials,
)
from keras2gp.search.worker import NotSentError, Worker

__all__ = ["InProcessWarning", "SearchResult", "Split", "random_search"]


_FEW = 10
"""So many trials leave about as much memory behind as another process takes."""


class InProcessWarning(UserWarning):
    """Many trials run in this process, whose memory grows with each of them."""


@dataclass(frozen=True)
class SearchResult:
    """The result of a random search.

    Attributes:
        trials: all trials, in order.
        best: the trial of the best score; None if all failed.
    """

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
    executor: ExecutorLike = "auto",
    isolated: bool | None = None,
    progress: Advance = lambda _done, _total: None,
    told: Callable[[Trial], None] = lambda _trial: None,
) -> SearchResult:
    """Draw networks, and keep the one whose Gaussian process scores best.

    A trial fails, with its reason in the table, if the network cannot be built or converted, or if
    its kernel overflows or is singular. A full disk or memory ends the search. The same call goes
    on with a search that was interrupted.

    Args:
        space: the distributions to draw from: `keras2gp.search.spaces.paper_space`, `own_space`, or
            a `Space`.
        train: images and labels to fit each network's Gaussian process to.
        validation: images and labels of the validation error; None without one.
        samples: trials in all, those of earlier runs included.
        out: directory of trials.csv (a row per trial), best.keras, best.json, and search.json, the
            identity of the search. It keeps the finished blocks of an interrupted trial's kernel
            matrices.
        score: "validation" (error), "leave-one-out" (error, in closed form) or "evidence" (log
            marginal likelihood).
        seed: a number that, with the number of the trial, decides the draw.
        noise_variance: of the targets, which are -1 and 1.
        dtype: "float32" or "float64", of the kernels' entries.
        executor: as for keras2gp.gram.
        isolated: whether trials run in another process, which is replaced when its memory has
            grown by 1 GiB: TensorFlow keeps each trial's compiled program until its process ends.
            None: if there are more than 10 trials, no GPU, and a space of this package or of a
            Python file. The `build` of another space, and everything it registers, has to be in a
            module that the new process can import; else trials run in this process, with an
            InProcessWarning.
        progress: called with (trials done, samples).
        told: called with every new trial.

    Returns:
        All trials and the best one.

    Raises:
        InputError: an argument is none of those above.
        StoreError: `out` is of another search, another process is at work in it, or it cannot be
            written.
        WorkerError: the process of the trials was killed.

    References:
        The paper, section 4. The best network is not fitted again with the validation images.

    >>> import keras, numpy, tempfile
    >>> from keras2gp import random_search
    >>> from keras2gp.search.random_search import Split
    >>> from keras2gp.search.spaces import Space
    >>> def build(settings):
    ...     hidden = [keras.layers.Dense(8, "relu") for _ in range(settings["depth"])]
    ...     return keras.Sequential([keras.Input((2,)), *hidden, keras.layers.Dense(1)])
    >>> x = numpy.random.default_rng(0).normal(size=(20, 2)).astype("float32")
    >>> part = Split(x, x[:, 0] > x[:, 1])
    >>> space = Space("depths", {"depth": [1, 2]}, build, identity="1")
    >>> with tempfile.TemporaryDirectory() as out:
    ...     result = random_search(space, part, samples=2, out=out, score="leave-one-out")
    >>> len(result.trials), result.best.status
    (2, 'fine')
    """
    if score not in SCORES:
        raise InputError(f"score={score!r}: expected {', '.join(map(repr, SCORES))}")
    if score == "validation" and validation is None:
        raise InputError("score='validation' needs validation images. Try: 'leave-one-out'")
    whole_number("samples", samples, 1)
    check_advance(progress, "(trials done, samples)")
    if reserved := COLUMNS & set(space.distributions):
        names = ", ".join(sorted(reserved))
        raise InputError(f"the space {space.name}: the table of trials needs the name {names}")
    attempts = Attempts(
        build=space.build,
        train=train,
        validation=validation,
        score=score,
        noise_variance=noise_variance,
        dtype=dtype,
        executor=executor,
    )
    run = _Run(space=space, attempts=attempts, out=as_path("out", out))
    with made_folders(run.out), held(run.out):
        run.start(seed)
        left = samples - len(run.trials)
        with _runner(attempts, left, isolated) if left > 0 else nullcontext(attempts) as runner:
            while len(run.trials) < samples:
                progress(len(run.trials), samples)
                run.add(len(run.trials), seed, runner)
                told(run.trials[-1])
    progress(samples, samples)
    return SearchResult(tuple(run.trials), run.best)


def _runner(
    attempts: Attempts, left: int, isolated: bool | None
) -> AbstractContextManager[Attempts | Worker]:
    """The object that runs the trials that are left: in this process, or in another one."""
    in_process: AbstractContextManager[Attempts | Worker] = nullcontext(attempts)
    # A GPU's memory belongs to the first process that takes it: perhaps to this one.
    if isolated is None and (left <= _FEW or tf.config.list_physical_devices("GPU")):
        return in_process
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
    return in_process


@dataclass(kw_only=True)
class _Run:
    """The state of one search: its trials, and its directory."""

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
        """Names of the settings, in the order of the table's columns."""
        return list(self.space.distributions)

    @property
    def best(self) -> Trial | None:
        """The trial of least loss, the first of equal ones."""
        score = self.attempts.score
        losses = [(loss, t) for t in self.trials if (loss := t.loss(score)) is not None]
        return min(losses, key=lambda pair: pair[0])[1] if losses else None

    def start(self, seed: int) -> None:
        """Read the trials of an earlier run from the directory, if there are any."""
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
        earlier = read_trials(self.table, self.names)
        self.trials = [
            Trial(**{**vars(t), "settings": self.space.draw(seed, t.trial)}) for t in earlier
        ]

    def add(self, number: int, seed: int, runner: Attempts | Worker) -> None:
        """Run a trial, and write it to the table before its kernel matrices are removed."""
        folder = self.out / f"trial-{number:04d}"
        best = self.best
        least = None if best is None else best.loss(self.attempts.score)
        outcome = runner.run(number, self.space.draw(seed, number), folder, least)
        if outcome.parameters is not None:
            self._write_best(outcome, folder)
        self.trials.append(outcome.trial)
        write_trials(self.table, self.trials, self.names)
        shutil.rmtree(folder, ignore_errors=True)

    def _write_best(self, outcome: Outcome, folder: Path) -> None:
        """Write best.keras and best.json: the best trial so far."""
        best = self.out / "best.keras"
        try:
            (folder / CANDIDATE).replace(best)
        except OSError as error:
            raise StoreError(f"{best} cannot be written: {error}") from error
        record = {
            **asdict(outcome.trial),
            "score": self.attempts.score,
            "space": self.space.name,
            "noise_variance": self.attempts.noise_variance,
            "dtype": self.attempts.dtype,
            "parameters": outcome.parameters,
        }
        write_file(self.out / "best.json", json.dumps(record, indent=2, default=str) + "\n")


def _digest(parts: Sequence[Split]) -> str:
    """SHA-256 of images and labels."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part.x).tobytes())
        digest.update(repr(part.y.tolist()).encode())
    return digest.hexdigest()
