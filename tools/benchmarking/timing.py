"""Pairs per second of a step, by several threads at once. Only the standard library."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

__all__ = ["Meter", "Rate"]

Rate = dict[str, float]
"""pairs_per_second, and cores: processor time over wall time, low where others took the cores."""


class Meter:
    """Measures one step, again and again.

    step:    computes something, and returns how many pairs that was
    threads: how many threads run it side by side, each as often as the others, so that none idles
    """

    def __init__(self, step: Callable[[], int], threads: int = 1) -> None:
        self.step = step
        self.threads = threads
        self._wall = 0.0

    def warm(self) -> float:
        """Seconds of the first step, which compiles, by one thread."""
        begin = time.perf_counter()
        self.step()
        return time.perf_counter() - begin

    def run(self, seconds: float) -> Rate:
        """The rate over about that long, and over one step of each thread at least."""
        if not self._wall:
            first = self._repeat(1)
            if self._wall >= seconds:
                return first
        return self._repeat(max(1, round(seconds / self._wall)))

    def _repeat(self, count: int) -> Rate:
        begin, busy = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(self.threads) as pool:
            pairs = sum(pool.map(self._steps, [count] * self.threads))
        wall, busy = time.perf_counter() - begin, time.process_time() - busy
        self._wall = wall / count
        return {"pairs_per_second": pairs / wall, "cores": busy / wall}

    def _steps(self, count: int) -> int:
        return sum(self.step() for _ in range(count))
