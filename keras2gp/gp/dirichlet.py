"""Classification by regression on the logarithms of Dirichlet variables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize_scalar

from keras2gp._util.arrays import Array
from keras2gp._util.memory import require_memory
from keras2gp.gp.softmax import expected_softmax
from keras2gp.gp.solvers.cholesky import factorize
from keras2gp.gp.solvers.factor import CholeskyFactor

__all__ = ["DirichletPosterior", "Transformation", "choose_transformation", "fit_dirichlet"]

Index = npt.NDArray[np.intp]

# Concentrations that are tried, and how many training inputs choose among them and the scale.
_CONCENTRATIONS = (1e-2, 1e-4, 1e-6)
_CHOOSERS = 200
_LOWEST, _HIGHEST = math.log(1.0), math.log(1e3)


@dataclass(frozen=True)
class Transformation:
    """Labels as noisy observations of log x_c, x ~ Gamma(a_c, 1), a_c = [c is the label] + e.

    Math: x_c is taken as log-normal of the same mean and variance: log x_c ~ N(t_c, v_c),
        v_c = log(1 / a_c + 1),  t_c = log a_c - v_c / 2
      x / sum x is then Dirichlet, and its mean the softmax of the latent values.

    concentration: e
    scale:         the factor s on the kernel, which is the prior covariance of log x_c

    Reference: Milios, Camoriano, Michiardi, Rosasco, Filippone (2018), Dirichlet-based Gaussian
        Processes for Large-scale Calibrated Classification, equations 5 and 6.
    """

    concentration: float
    scale: float

    def moments(self, *, member: bool) -> tuple[float, float]:
        """t_c and v_c, of the label's class and of another."""
        a = self.concentration + float(member)
        variance = math.log1p(1.0 / a)
        return math.log(a) - variance / 2.0, variance

    def noises(self) -> tuple[float, float]:
        """v_c / s of another class and of the label's, in the units of the kernel."""
        other, own = (self.moments(member=m)[1] / self.scale for m in (False, True))
        return other, own

    def targets(self, columns: Index, classes: int) -> Array:
        """t less its mean over all classes, [N, C]: the prior mean, which no softmax shows."""
        result = np.full((len(columns), classes), self.moments(member=False)[0])
        result[np.arange(len(columns)), columns] = self.moments(member=True)[0]
        result -= result.mean()
        return result


class DirichletPosterior:
    """The posterior of the latent values, one regression for each class.

    A_c = K + D_c, D_c diagonal with one of two noises, differs from B = K + d I (d the larger
    one) at the members of class c alone: one factorisation of B and one of [N_c, N_c] for each
    class serve for all.

    Math: A_c = B - g P P^T,  P the columns of the identity at the members,  g = d - own noise
        A_c^-1 = B^-1 + B^-1 P M^-1 P^T B^-1,  M = I / g - P^T B^-1 P = R R^T
        mean_c = k* A_c^-1 t_c;  variance_c = s (k** - k* A_c^-1 k*^T)

    factor:  of B              alpha: A_c^-1 t_c, [N, C]
    members: [N_c] of each     inner: R of each, [N_c, N_c]
    """

    def __init__(
        self,
        transformation: Transformation,
        factor: CholeskyFactor,
        alpha: Array,
        members: Sequence[Index],
        inner: Sequence[Array],
    ) -> None:
        self.transformation = transformation
        self.factor = factor
        self.alpha = alpha
        self.members = list(members)
        self.inner = list(inner)

    def mean(self, cross: Array) -> Array:
        """Posterior mean, [M, C], of inputs with the covariances `cross`, [M, N]."""
        mean: Array = cross @ self.alpha
        return mean

    def variance(self, cross: Array, prior: Array) -> Array:
        """Posterior variance, [M, C]; rounding below zero is cut off.

        Shapes: cross [M, N], prior [M].
        """
        solved = self.factor.solve(cross.T)
        common = prior - np.einsum("mn,nm->m", cross, solved)
        parts = []
        for members, inner in zip(self.members, self.inner, strict=True):
            half = solve_triangular(inner, solved[members], lower=True)
            parts.append(common - np.einsum("im,im->m", half, half))
        variance: Array = np.maximum(np.stack(parts, axis=1), 0.0)
        return self.transformation.scale * variance

    def covariances(self, cross: Array, prior: Array) -> Iterator[Array]:
        """Posterior covariance of each class in turn, [M, M].

        Shapes: cross [M, N], prior [M, M].
        """
        solved = self.factor.solve(cross.T)
        common = prior - cross @ solved
        for members, inner in zip(self.members, self.inner, strict=True):
            half = solve_triangular(inner, solved[members], lower=True)
            covariance = common - half.T @ half
            yield self.transformation.scale * (covariance + covariance.T) / 2.0


def fit_dirichlet(
    factor: CholeskyFactor,
    columns: Index,
    classes: int,
    transformation: Transformation | None = None,
) -> DirichletPosterior:
    """The posterior given labels, of the covariance whose Cholesky factor is there already.

    transformation: None for the one that `choose_transformation` finds

    Shapes: factor of [N, N]; columns [N], the column of each label, of which there are `classes`.

    Raises: InputError if the memory does not suffice.
    """
    size = factor.size
    largest = int(np.bincount(columns).max())
    require_memory(
        8 * (2 * size * size + size * (largest + 2 * classes)),
        f"the Dirichlet posterior of {size} inputs",
        "fewer training images, or probabilities='temperature'",
    )
    lower = factor.lower()
    if transformation is None:
        transformation = choose_transformation(lower, columns, classes)
    other, own = transformation.noises()
    shifted = factorize(_Squared(lower), other)
    targets = transformation.targets(columns, classes)
    plain = shifted.solve(targets)
    members, inner, correction = [], [], np.zeros_like(targets)
    for c in range(classes):
        rows = np.flatnonzero(columns == c)
        unit = np.zeros((size, len(rows)))
        unit[rows, np.arange(len(rows))] = 1.0
        half = shifted.half_solve(unit)
        r = _inner(half.T @ half, other - own)
        correction[rows, c] = _solve(r, plain[rows, c])
        members.append(rows)
        inner.append(r)
    alpha = plain + shifted.solve(correction)
    return DirichletPosterior(transformation, shifted, alpha, members, inner)


def choose_transformation(lower: Array, columns: Index, classes: int) -> Transformation:
    """The transformation under which leave-one-out predictions make the labels most probable.

    Among 200 training inputs, drawn with a fixed seed; all, if there are fewer.

    Shapes: lower [N, N], the Cholesky factor of their covariance; columns [N].

    Reference: Milios et al. (2018), section 4.3, which chooses e by held-out likelihood.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(columns))[:_CHOOSERS])
    matrix = lower[rows] @ lower[rows].T
    labels = columns[rows]
    unit = float(np.diagonal(matrix).mean())
    best, found = math.inf, Transformation(_CONCENTRATIONS[0], 1.0 / unit)
    for concentration in _CONCENTRATIONS:

        def loss(log_scale: float, concentration: float = concentration) -> float:
            transformation = Transformation(concentration, math.exp(log_scale) / unit)
            return _leave_one_out_loss(matrix, labels, classes, transformation)

        search = minimize_scalar(
            loss, bounds=(_LOWEST, _HIGHEST), method="bounded", options={"xatol": 0.3}
        )
        if search.fun < best:
            best, found = search.fun, Transformation(concentration, math.exp(search.x) / unit)
    return found


def _leave_one_out_loss(
    matrix: Array, labels: Index, classes: int, transformation: Transformation
) -> float:
    """Mean -log p(label) of each input given all others, in closed form (RW 5.10 to 5.12)."""
    other, own = transformation.noises()
    size = len(labels)
    lower = cholesky(matrix + other * np.eye(size), lower=True)
    half = solve_triangular(lower, np.eye(size), lower=True)
    inverse = half.T @ half
    targets = transformation.targets(labels, classes)
    noise = np.where(np.arange(classes) == labels[:, None], own, other)
    mean, variance = np.empty_like(targets), np.empty_like(targets)
    for c in range(classes):
        rows = np.flatnonzero(labels == c)
        precision = np.diagonal(inverse).copy()
        alpha = inverse @ targets[:, c]
        if rows.size:
            r = _inner(inverse[np.ix_(rows, rows)], other - own)
            spread = solve_triangular(r, inverse[rows], lower=True)
            precision += np.einsum("in,in->n", spread, spread)
            alpha += spread.T @ solve_triangular(r, alpha[rows], lower=True)
        mean[:, c] = targets[:, c] - alpha / precision
        variance[:, c] = transformation.scale * np.maximum(1.0 / precision - noise[:, c], 0.0)
    p = expected_softmax(mean, variance, step=1.5)
    return -float(np.log(np.maximum(p[np.arange(size), labels], 1e-300)).mean())


def _inner(block: Array, gap: float) -> Array:
    """R of M = I / gap - block."""
    result: Array = cholesky(np.eye(len(block)) / gap - block, lower=True)
    return result


def _solve(lower: Array, b: Array) -> Array:
    half = solve_triangular(lower, b, lower=True)
    result: Array = solve_triangular(lower, half, lower=True, trans=1)
    return result


class _Squared:
    """L L^T, read block by block."""

    def __init__(self, lower: Array) -> None:
        self._lower = lower
        self.shape = lower.shape

    def __getitem__(self, key: Any) -> Array:
        rows, columns = key
        product: Array = self._lower[rows] @ self._lower[columns].T
        return product
