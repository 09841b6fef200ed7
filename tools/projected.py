"""The projected process at many images: time, memory beside what is stated, and error.

python tools/projected.py [--train N] [--test N] [--rank M] [--network NAME] [--exact N]
                          [--directory DIR]

Digits of MNIST (from tensorflow_datasets), moved by up to two pixels where there are not enough
of them. The covariances go to a store under DIR, which a second run finds there. An exact fit
of the first N images of --exact stands beside them.
"""

from __future__ import annotations

import argparse
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any


def main() -> int:
    """Measure, and print one table."""
    options = _parser().parse_args()
    import keras2gp
    from keras2gp import data, zoo
    from keras2gp.gp import GPClassifier, ProjectedProcess

    digits = data.load("tfds:mnist").split(60_000, options.test)
    x, y = _moved(_pixels(digits.x_train), digits.y_train, options.train)
    test = _pixels(digits.x_test)
    kernel = keras2gp.convert(
        _dense() if options.network == "dense" else zoo.build(options.network)
    )
    kernel(x[:600], x[:600])  # compiled
    solver = ProjectedProcess(rank=options.rank)
    name = f"{options.network}-{options.train}-{options.rank}.zarr"
    began = time.perf_counter()
    block = keras2gp.gram(kernel, x, x[solver.rows(len(x))], out=Path(options.directory) / name)
    kernel_seconds = time.perf_counter() - began
    rows = [
        ("", "kernel s", "fit s", "over its products", "stated MB", "measured MB", "test error")
    ]
    gp = GPClassifier(kernel, options.noise, solver=solver)
    before = _seconds_of_products(options.rank)
    with _Peak() as peak:
        began = time.perf_counter()
        gp.fit(x, y, gram=block)
        seconds = time.perf_counter() - began
    products = (before + _seconds_of_products(options.rank)) / 2 * len(x)
    report = gp.solver_report_
    error = float((gp.predict(test) != digits.y_test).mean())
    rows.append(
        (
            f"N = {options.train}, M = {report.rank}, from the store",
            *(f"{kernel_seconds:.1f}", f"{seconds:.1f}", f"{seconds / products:.2f}"),
            *(f"{report.memory / 1e6:.0f}", f"{(peak.bytes - x.nbytes) / 1e6:.0f}"),
            f"{error:.2%}",
        )
    )
    if options.exact:
        exact = GPClassifier(kernel, options.noise, solver="cholesky")
        began = time.perf_counter()
        exact.fit(x[: options.exact], y[: options.exact])
        seconds = time.perf_counter() - began
        error = float((exact.predict(test) != digits.y_test).mean())
        rows.append(
            (f"exact, N = {options.exact}", "", f"{seconds:.1f}", *[""] * 3, f"{error:.2%}")
        )
    print("\n".join(f"| {' | '.join(row)} |" for row in (rows[0], ("---",) * 7, *rows[1:])))
    print("measured: beside the estimator's copy of the images")
    return 0


def _seconds_of_products(rank: int, rows: int = 512) -> float:
    """Seconds for each image of the matrix products of a fit alone: three solves, a square."""
    import numpy as np
    from scipy.linalg import blas

    lower = np.asfortranarray(np.tril(np.ones((rank, rank))) / rank + np.eye(rank))
    total = np.zeros((rank, rank), order="F")
    best = float("inf")
    for _ in range(3):
        panel = np.ones((rows, rank))
        began = time.perf_counter()
        for _ in range(3):
            panel = blas.dtrsm(1.0, lower, panel.T, side=0, lower=1, overwrite_b=1).T
        total = blas.dsyrk(1.0, panel.T, beta=1.0, c=total, lower=1, overwrite_c=1)
        best = min(best, time.perf_counter() - began)
    return best / rows


class _Peak:
    """The largest resident memory while it is entered, beyond that at the start."""

    def __enter__(self) -> _Peak:
        self._start = self._largest = _resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def bytes(self) -> int:
        return self._largest - self._start

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self._largest = max(self._largest, _resident())


def _resident() -> int:
    """Resident memory now; the largest so far where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )


def _pixels(images: Any) -> Any:
    return images.reshape(len(images), 28, 28, 1).astype("float32") / 255


def _moved(x: Any, y: Any, count: int) -> tuple[Any, Any]:
    """The first `count` images: all of them, then again moved by some pixels, and so on."""
    import numpy as np

    parts, labels, moves = [x], [y], ((1, 0), (0, 1), (-1, 0), (0, -1), (2, 0), (0, 2))
    for move in moves:
        if sum(map(len, parts)) >= count:
            break
        parts.append(np.roll(x, move, axis=(1, 2)))
        labels.append(y)
    return np.concatenate(parts)[:count], np.concatenate(labels)[:count]


def _dense() -> Any:
    """A network of three hidden layers: its covariances take less time than the fit."""
    import keras

    hidden = [keras.layers.Dense(8, "relu") for _ in range(3)]
    return keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), *hidden, keras.layers.Dense(1)]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="projected.py", description=main.__doc__)
    add = parser.add_argument
    add("--train", type=int, default=100_000)
    add("--test", type=int, default=5000)
    add("--rank", type=int, default=2000)
    add("--network", default="dense", help='one of the zoo, or "dense"')
    add("--noise", type=float, default=0.05)
    add("--exact", type=int, default=5000, help="images of the exact fit (0: none)")
    add("--directory", default=str(Path.home() / ".cache" / "keras2gp-projected"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
