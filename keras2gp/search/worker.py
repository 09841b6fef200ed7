"""Trials in another process, which is replaced when its memory has grown.

TensorFlow keeps every compiled program for the life of a process, and each trial compiles its own.

concurrent.futures.ProcessPoolExecutor does not suffice here. It starts processes by `spawn`, which
runs the caller's main module again: a script that calls `random_search` without
`if __name__ == "__main__"` would fail. (`fork` copies a process in which TensorFlow has threads.)
Its processes outlive a parent that is killed, it counts tasks and not memory, and it does not tell
how a process ended.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from keras2gp.errors import WorkerError
from keras2gp.search.attempts import Attempts, Outcome
from keras2gp.search.child import Answer, receive, send
from keras2gp.search.spaces import Settings

__all__ = ["NotSentError", "Worker"]

_GROWTH = 2**30
"""Bytes that the process may gain after its first trial."""
_TRIALS = 20
"""Trials that gain about as much, for systems that do not tell a process's memory."""
_CODE = "import sys; sys.path[:] = {path!r}; from keras2gp.search.child import main; main()"


class NotSentError(Exception):
    """The attempts cannot be sent to another process; the message is the reason."""


class Worker:
    """Runs trials as `Attempts.run` does, in another process, which ends when this one does.

    Raises: NotSentError if the attempts have no pickle, or the process cannot read it: a function
        is sent as the name of its module, which the process has to be able to import.
    """

    def __init__(self, attempts: Attempts) -> None:
        try:
            pickle.dumps((attempts.build, attempts.executor))  # the data can be sent
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise NotSentError(str(error)) from error
        self._attempts = attempts
        self._process = self._started()
        self._trials, self._first = 0, 0

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """The id of the process of the next trial."""
        return self._process.pid

    def run(self, number: int, settings: Settings, folder: Path, least: float | None) -> Outcome:
        """Run a trial as Attempts.run does. Raises: WorkerError if the process ended before it."""
        kind, value, memory = self._asked((number, settings, folder, least), f"trial {number}")
        if kind == "failed":
            raise value
        self._trials += 1
        if self._trials == 1:
            self._first = memory or 0
        if self._trials >= _TRIALS if memory is None else memory - self._first > _GROWTH:
            self._stop()
            self._process = self._started()
            self._trials = 0
        outcome: Outcome = value
        return outcome

    def _started(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(  # noqa: S603 (this interpreter, text from above)
            [sys.executable, "-c", _CODE.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            kind, value, _ = self._asked(self._attempts, "the first trial")
        except BaseException:
            self._stop()
            raise
        if kind == "unread":
            self._stop()
            raise NotSentError(value)
        return self._process

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _asked(self, question: Any, what: str) -> Answer:
        stdin, stdout = self._process.stdin, self._process.stdout
        try:
            send(stdin, pickle.dumps(question))  # type: ignore[arg-type]
            answer: Answer = pickle.loads(receive(stdout))  # type: ignore[arg-type]  # noqa: S301
        except (EOFError, BrokenPipeError) as error:
            raise WorkerError(_ended(self._process.wait(), what)) from error
        return answer


def _ended(code: int, what: str) -> str:
    how = f"with exit code {code}"
    if code < 0:
        how = f"by signal {-code}"
        if code == -signal.SIGKILL:
            how += ", as a system does that runs out of memory"
    return (
        f"the process of the trials ended {how}, before {what} was done. The same call goes on "
        "with that trial. Try: fewer training images, or isolated=False to see what it says"
    )
