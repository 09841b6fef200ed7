"""The clock of an X-ray that is to be done within so many minutes."""

from __future__ import annotations

import time
from collections.abc import Collection

from keras2gp.xrays.planning.budget import Choice
from keras2gp.xrays.running.directory import Directory

__all__ = ["Clock"]

_SPENT = "spent.json"


class Clock:
    """The time that all runs of an X-ray have spent, beside the time that it is to take.

    Args:
        choice: the work, with its parts.
        minutes: None for any.
        before: seconds before the first kernel.
        directory: the directory, in which the time is kept.
    """

    def __init__(
        self, choice: Choice, minutes: float | None, before: float, directory: Directory
    ) -> None:
        self._parts, self._directory = choice.parts, directory
        self._limit = None if minutes is None else 60.0 * minutes
        state = directory.read(_SPENT) if minutes is not None else None
        self._spent = before if state is None else float(state["seconds"])
        self._expected = self._taken = 0.0
        self.cut: list[str] = []

    def allows(self, number: int, name: str) -> bool:
        """Whether there is time for a part, if it takes as much longer as others have taken.

        The model as it is, the first part, is not left out.
        """
        if self._limit is None or number == 0:
            return True
        slower = max(1.0, self._taken / self._expected) if self._expected else 1.0
        last = len(self._parts) - 1
        ahead = self._parts[number] + (self._parts[last] if number < last else 0.0)
        if self._spent + slower * ahead <= self._limit:
            return True
        self.cut.append(name)
        return False

    def count(self, number: int, began: float) -> None:
        """Count a part that began at a value of `time.perf_counter`."""
        if self._limit is None:
            return
        seconds = time.perf_counter() - began
        self._taken += seconds
        self._spent += seconds
        self._expected += self._parts[number]
        self._directory.write(_SPENT, {"seconds": self._spent})

    def notes(self) -> Collection[str]:
        """The parts that were left out as the time was up, in a sentence or none."""
        if not self.cut:
            return ()
        listed = f"{len(self.cut)} parts" if len(self.cut) > 1 else self.cut[0]
        return (f"the time was up before {listed}: kernels took longer than was measured",)
