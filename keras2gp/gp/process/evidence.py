"""The evidence of targets, and the scale of the prior under which it is largest."""

from __future__ import annotations

import math

import numpy as np

from keras2gp._util.arrays import Array, Matrix, Targets, Vector
from keras2gp.errors import NumericalError
from keras2gp.gp.solvers.system import Fit

__all__ = ["log_evidence", "output_factors", "target_counts"]


def target_counts(seen: Array | None, rows: int) -> int | Vector:
    """The number of targets of the outputs; that of each, [C], where they may differ.

    Args:
        seen: whether a row has a target of an output, [N, C]; None where all have.
        rows: N.
    """
    if seen is None:
        return rows
    counts: Vector = seen.sum(axis=0)
    return counts


def output_factors(targets: Targets, alpha: Matrix, counts: int | Vector) -> Vector:
    """The factor on kernel and noise under which the targets of each output are most probable, [C].

    Math: y_c^T A^-1 y_c / N; 1 for an output that is 0 throughout

    Args:
        targets: Y, [N, C]; 0 where a target is missing, as is alpha.
        alpha: A^-1 Y, [N, C].
        counts: see `target_counts`.

    Raises:
        NumericalError: it is beyond float64.

    References:
        Rasmussen and Williams, equation 5.8, solved for a factor on K.
    """
    with np.errstate(over="ignore", under="ignore"):
        factors: Vector = np.einsum("nc,nc->c", targets, alpha) / counts
    flat = ~targets.any(axis=0)
    if not (np.isfinite(factors) & (flat | (factors > 0.0))).all():
        raise NumericalError(
            "the scale of the prior that suits the targets is beyond float64: it has their "
            f"squares, and they go up to {np.abs(targets).max():.3g}. Try: targets in another "
            "unit, or normalize_y=True"
        )
    return np.where(flat, 1.0, factors)


def log_evidence(targets: Targets, fit: Fit, factors: Vector | None, counts: int | Vector) -> float:
    """log p(Y), summed over outputs; NaN where the determinant is not known.

    factors: on kernel and noise of each output, [C]; None for 1
    counts: see `target_counts`
    """
    if fit.log_determinant is None:
        return math.nan
    with np.errstate(over="ignore", invalid="ignore"):
        if factors is None:
            explained = float(np.einsum("nc,nc->", targets, fit.alpha))
        else:
            explained = float(np.einsum("nc,nc->c", targets, fit.alpha) @ (1.0 / factors))
            logs = np.log(factors)
            explained += float(np.broadcast_to(counts, logs.shape) @ logs)
    if not math.isfinite(explained):
        raise NumericalError(
            "the log marginal likelihood is beyond float64: it has the squares of the targets, up "
            f"to {np.abs(targets).max():.3g}. Try: targets in another unit, or normalize_y=True"
        )
    constant = float(np.mean(counts)) * math.log(2.0 * math.pi)
    value: float = -0.5 * (explained + targets.shape[1] * (fit.log_determinant + constant))
    return value
