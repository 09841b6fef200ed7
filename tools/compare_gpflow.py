"""Our head beside GPflow on the same precomputed kernel: largest differences, to stand below 1e-8.

GPflow 2.11 needs numpy < 2, and is not installed beside keras2gp. In an environment of its own:

    python -m venv peer && peer/bin/pip install "gpflow==2.11" "tensorflow<2.20" scikit-learn
    PYTHONPATH=. peer/bin/python tools/compare_gpflow.py

Compared are mean, variance and log marginal likelihood of GPR with our exact solvers, and of
GPRFITC with Nystroem() on the same inducing inputs. Exit code 1 if one differs by more.
"""

from __future__ import annotations

import sys
from typing import Any

import gpflow
import numpy as np
import tensorflow as tf

from keras2gp.gp import ConjugateGradients, GPRegressor, Nystroem

LIMIT = 1e-8
COUNT, TESTS, NOISE = 200, 40, 0.1
INDUCING = tuple(range(0, COUNT, 5))


class Precomputed(gpflow.kernels.Kernel):
    """GPflow's kernel interface on a matrix that is there: inputs are indices, [N, 1]."""

    def __init__(self, matrix: Any) -> None:
        super().__init__()
        self.matrix = tf.constant(matrix)

    def K(self, X: Any, X2: Any = None) -> Any:  # noqa: N802, N803 (GPflow's names)
        rows, columns = _indices(X), _indices(X if X2 is None else X2)
        return tf.gather(tf.gather(self.matrix, rows), columns, axis=1)

    def K_diag(self, X: Any) -> Any:  # noqa: N802, N803
        return tf.gather(tf.linalg.diag_part(self.matrix), _indices(X))


def _indices(x: Any) -> Any:
    return tf.cast(tf.reshape(x, [-1]), tf.int32)


def main() -> int:
    """Print the differences."""
    random = np.random.default_rng(0)
    points = random.standard_normal((COUNT + TESTS, 4))
    squares = ((points[:, None] - points[None]) ** 2).sum(-1)
    matrix = 1.7 * np.exp(-squares / 3.0)
    rows = np.arange(len(points), dtype=np.float64)[:, None]
    y = random.standard_normal((COUNT, 3))
    train, cross = matrix[:COUNT, :COUNT], matrix[COUNT:, :COUNT]
    data, kernel = (rows[:COUNT], y), Precomputed(matrix)
    gpflow.config.set_default_jitter(0.0)
    exact = gpflow.models.GPR(data, kernel, noise_variance=NOISE)
    basis = rows[list(INDUCING)]
    sparse = gpflow.models.GPRFITC(data, kernel, inducing_variable=basis, noise_variance=NOISE)
    worst = 0.0
    for peer, solver in (
        (exact, "cholesky"),
        (exact, "tensorflow"),
        (exact, ConjugateGradients(tolerance=1e-12)),
        (exact, Nystroem(rank=COUNT)),
        (sparse, Nystroem(inducing=INDUCING)),
    ):
        ours = GPRegressor("precomputed", NOISE, solver=solver).fit(train, y)
        mean, std = ours.predict(cross, return_std=True, diag=np.diagonal(matrix)[COUNT:])
        expected, variance = (np.asarray(a) for a in peer.predict_f(rows[COUNT:]))
        gaps = [np.abs(mean - expected).max(), np.abs(std**2 - variance).max()]
        if not isinstance(solver, ConjugateGradients):
            evidence = float(tf.reduce_sum(_evidence(peer)))
            gaps.append(abs(ours.log_marginal_likelihood() / evidence - 1.0))
        worst = max(worst, *gaps)
        print(
            f"{type(peer).__name__:8} {getattr(solver, 'name', solver):10} "
            + " ".join(f"{gap:.1e}" for gap in gaps)
        )
    print(f"largest: {worst:.1e}, limit {LIMIT:.0e}")
    return int(worst > LIMIT)


def _evidence(peer: Any) -> Any:
    if isinstance(peer, gpflow.models.GPRFITC):
        return peer.fitc_log_marginal_likelihood()
    return peer.log_marginal_likelihood()


if __name__ == "__main__":
    sys.exit(main())
