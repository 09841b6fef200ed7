"""The noise variance of a projected process, chosen on all training inputs.

Of one eigendecomposition of F^T F, [M, M], every noise is cheap: the evidence of real targets needs
no other pass over the covariances, and the leave-one-out predictions of labels need one for all
noises together.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar

from keras2gp._util.arrays import Indices, Matrix, Targets, Vector
from keras2gp._util.memory import require_memory
from keras2gp.gp.noise.curve import NoiseCurve
from keras2gp.gp.noise.spectra import label_likelihoods
from keras2gp.gp.solvers.projected import NormalEquations
from keras2gp.gp.solvers.tridiagonal import profiled_evidence

__all__ = ["PASSES", "choose_projected_noise"]

PASSES = 3
"""Passes of a fit whose noise is chosen: the sums, the labels that are left out, the fit."""

_GRID = tuple(10.0 ** (0.5 * k) for k in range(-12, 7))
_LABEL_GRID = tuple(10.0 ** (0.75 * k) for k in range(-7, 3))
"""Noise variances relative to the mean variance of the kernel; each of labels takes [N, C]."""


def choose_projected_noise(
    equations: NormalEquations,
    *,
    labels: bool,
    jitter: float,
    advance: Callable[[], object],
) -> NoiseCurve:
    """The noise under which the targets are most probable, as the projected process has them.

    Some noise is always chosen: it stands for what the inducing inputs do not explain, too.

    Args:
        equations: the sums over the training inputs.
        labels: whether the targets are those of a classification: then the labels are predicted
            from all others; otherwise the evidence is taken.
        jitter: what is added to the noise, in the units of the kernel.
        advance: called after each panel of a pass.

    Raises:
        InputError: the memory does not suffice.
    """
    targets = equations.targets
    varied = np.abs(targets).max(axis=0) > 0.0
    count = len(targets)
    if count < 3 or not varied.any():
        reason = "fewer than three rows" if varied.any() else "every target is the same"
        return NoiseCurve((), (), 0.0, count, f"none: {reason}")
    size = np.abs(targets[:, varied]).max(axis=0)
    spectrum = _Spectrum(equations, np.flatnonzero(varied), size, jitter)
    if labels:
        values, chosen = _by_labels(spectrum, advance)
        what, unit = "leave-one-out likelihood", 0.0
    else:
        values, chosen = _by_evidence(spectrum)
        what, unit = "evidence", count * float(np.log(size).sum())
    ordered = {noise: values[noise] - unit for noise in sorted(values)}
    reason = f"the largest {what} of {count} rows under the projected process"
    return NoiseCurve(tuple(ordered), tuple(ordered.values()), chosen, count, reason)


class _Spectrum:
    """F^T F = U diag(s) U^T and the targets, each output divided by its size.

    Math: A^-1 = (I - F U diag(1 / (s + D)) U^T F^T) / D, D the noise
    """

    def __init__(
        self, equations: NormalEquations, outputs: Indices, size: Vector, jitter: float
    ) -> None:
        values, self.vectors = eigh(equations.products, lower=True)
        self.values: Vector = np.maximum(values, 0.0)
        self.features, self.unit = equations.features, equations.mean
        self.jitter = jitter
        self.targets: Targets = equations.targets[:, outputs] / size
        self.moments: Matrix = self.vectors.T @ (equations.moments[:, outputs] / size)
        self.squares: Vector = np.einsum("nc,nc->c", self.targets, self.targets)

    def evidence(self, noise: float) -> float:
        """log p(Y) at a noise, each output with its own factor on kernel and noise."""
        count, rank = len(self.targets), len(self.values)
        noise = noise + self.jitter
        explained = np.einsum("mc,m->c", self.moments**2, 1.0 / (self.values + noise))
        # At least the part that no function of the inducing inputs fits is left.
        left = np.maximum(self.squares - explained, np.finfo(np.float64).eps * self.squares)
        determinant = (count - rank) * math.log(noise) + float(np.log(self.values + noise).sum())
        return profiled_evidence(left / noise, determinant, count)

    def left_out(self, noises: Vector, advance: Callable[[], object]) -> Matrix:
        """Each target predicted from all others at each noise, [noises, N, C], in one pass.

        Math: h_i = F_i (F^T F + D)^-1 F_i^T;  mean_i = y_i - (y_i - f_i) / (1 - h_i)
        """
        noises = noises + self.jitter
        shrunk = 1.0 / (self.values[:, None] + noises)
        means = np.empty((len(noises), *self.targets.shape), np.float32)
        for rows, part in self.features:
            turned = part.T @ self.vectors
            length = np.einsum("nm,nm->n", turned, turned)[:, None]
            left = np.maximum(1.0 - turned**2 @ shrunk, noises / (noises + length))
            for k in range(len(noises)):
                fitted = turned @ (shrunk[:, k, None] * self.moments)
                residual = (self.targets[rows] - fitted) / left[:, k, None]
                means[k, rows] = self.targets[rows] - residual
            advance()
        return means


def _by_evidence(spectrum: _Spectrum) -> tuple[dict[float, float], float]:
    """The evidence by noise, and the noise where it is largest."""
    values = {noise: spectrum.evidence(noise) for noise in spectrum.unit * np.array(_GRID)}
    best = max(values, key=lambda noise: values[noise])

    def loss(log_noise: float) -> float:
        noise = math.exp(log_noise)
        values[noise] = spectrum.evidence(noise)
        return -values[noise]

    around = (math.log(best) - 1.2, math.log(best) + 1.2)
    minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 0.01, "maxiter": 20})
    return values, max(values, key=lambda noise: values[noise])


def _by_labels(
    spectrum: _Spectrum, advance: Callable[[], object]
) -> tuple[dict[float, float], float]:
    """The likelihood of labels by noise, and the peak of the parabola through the best three."""
    noises = spectrum.unit * np.array(_LABEL_GRID)
    require_memory(
        4 * len(noises) * spectrum.targets.size,
        f"the choice of the noise from {len(spectrum.targets)} labels",
        "a number as noise_variance",
    )
    columns = spectrum.targets.argmax(axis=1)
    means = spectrum.left_out(noises, advance)
    found = np.array([label_likelihoods(m.astype(np.float64), columns).sum() for m in means])
    at = int(found.argmax())
    chosen = float(noises[at])
    if 0 < at < len(noises) - 1:
        left, top, right = found[at - 1 : at + 2]
        bend = left - 2.0 * top + right
        vertex = 0.5 * (left - right) / bend if bend < 0.0 else 0.0
        chosen *= (noises[1] / noises[0]) ** vertex
    return dict(zip(noises.tolist(), found.tolist(), strict=True)), float(chosen)
