"""Dirichlet-based classification: regression on the logarithms of Dirichlet variables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize_scalar

from keras2gp._util.arrays import Array, Indices, Matrix, Targets, Vector
from keras2gp._util.memory import require_memory
from keras2gp.errors import ModelFileError
from keras2gp.gp.probabilities.softmax import expected_softmax
from keras2gp.gp.solvers.cholesky import factorize
from keras2gp.gp.solvers.factor import CholeskyFactor

__all__ = ["DirichletPosterior", "Transformation", "choose_transformation", "fit_dirichlet"]

# Concentrations that are tried, and the number of training inputs that choose among them.
_CONCENTRATIONS = (1e-2, 1e-4, 1e-6)
_CHOOSERS = 200
_LOWEST, _HIGHEST = math.log(1.0), math.log(1e3)


@dataclass(frozen=True)
class Transformation:
    """Labels as noisy observations of log x_c, x ~ Gamma(a_c, 1), a_c = [c is the label] + e.

    Math: x_c is taken as log-normal of the same mean and variance: log x_c ~ N(t_c, v_c),
        v_c = log(1 / a_c + 1),  t_c = log a_c - v_c / 2
      x / sum x is then Dirichlet, and its mean the softmax of the latent values.

    Attributes:
        concentration: e.
        scale: the factor s on the kernel; the product is the prior covariance of log x_c.

    References:
        Milios, Camoriano, Michiardi, Rosasco, Filippone (2018), Dirichlet-based Gaussian
        Processes for Large-scale Calibrated Classification, equations 5 and 6.
    """

    concentration: float
    scale: float

    def moments(self, *, member: bool) -> tuple[float, float]:
        """t_c and v_c of the label's own class (member) or of any other class.

        Args:
            member: whether the class is that of the label.

        Returns:
            Mean and variance of log x_c.
        """
        a = self.concentration + float(member)
        variance = math.log1p(1.0 / a)
        return math.log(a) - variance / 2.0, variance

    def noises(self) -> tuple[float, float]:
        """v_c / s of the other classes and of the label's class, in the units of the kernel."""
        other, member = (self.moments(member=m)[1] / self.scale for m in (False, True))
        return other, member

    def targets(self, columns: Indices, classes: int) -> Targets:
        """t minus its overall mean, [N, C]: the prior mean, which cancels in a softmax.

        Args:
            columns: the column of each label, [N].
            classes: their number.

        Returns:
            Targets of the regressions, [N, C].
        """
        result = np.full((len(columns), classes), self.moments(member=False)[0])
        result[np.arange(len(columns)), columns] = self.moments(member=True)[0]
        result -= result.mean()
        return result


class DirichletPosterior:
    """The posterior of the latent values, one regression for each class.

    A_c = K + D_c, with D_c diagonal and one of two noises in each entry, differs from B = K + d I
    (d the larger noise) only at the members of class c. One factorisation of B, and one of
    [N_c, N_c] for each class, suffice.

    Math: A_c = B - g P P^T,  P the columns of the identity at the members,  g = d - member's noise
        A_c^-1 = B^-1 + B^-1 P M^-1 P^T B^-1,  M = I / g - P^T B^-1 P = R R^T
        mean_c = k* A_c^-1 t_c;  variance_c = s (k** - k* A_c^-1 k*^T)

    Attributes:
        transformation: from labels to targets and noises.
        factor: the Cholesky factor of B.
        alpha: A_c^-1 t_c, [N, C].
        members: rows of the members of each class, [N_c] each.
        inner: R of each class, [N_c, N_c] each.
    """

    files = ("dirichlet_factor.npy", "dirichlet_alpha.npy", "dirichlet_inner.npy")
    """Names of the arrays of `state`."""

    def __init__(
        self,
        transformation: Transformation,
        factor: CholeskyFactor,
        alpha: Matrix,
        members: Sequence[Indices],
        inner: Sequence[Matrix],
    ) -> None:
        self.transformation = transformation
        self.factor = factor
        self.alpha = alpha
        self.members = list(members)
        self.inner = list(inner)

    def mean(self, cross: Matrix) -> Matrix:
        """Posterior mean, [M, C], for covariances with the training inputs, [M, N].

        Args:
            cross: covariances with the training inputs, [M, N].

        Returns:
            Means, [M, C].
        """
        mean: Matrix = cross @ self.alpha
        return mean

    def variance(self, cross: Matrix, prior: Vector) -> Matrix:
        """Posterior variance, [M, C], with rounding below zero set to zero.

        Shapes:
            cross [M, N], prior [M].

        Args:
            cross: covariances with the training inputs.
            prior: prior variances.

        Returns:
            Variances, [M, C].
        """
        solved = self.factor.solve(cross.T)
        common = prior - np.einsum("mn,nm->m", cross, solved)
        parts = []
        for members, inner in zip(self.members, self.inner, strict=True):
            half = solve_triangular(inner, solved[members], lower=True)
            parts.append(common - np.einsum("im,im->m", half, half))
        variance: Matrix = np.maximum(np.stack(parts, axis=1), 0.0)
        return self.transformation.scale * variance

    def covariances(self, cross: Matrix, prior: Matrix) -> Iterator[Matrix]:
        """Posterior covariance of each class in turn, [M, M].

        Shapes:
            cross [M, N], prior [M, M].

        Args:
            cross: covariances with the training inputs.
            prior: prior covariance.

        Yields:
            A covariance matrix, [M, M].
        """
        solved = self.factor.solve(cross.T)
        common = prior - cross @ solved
        for members, inner in zip(self.members, self.inner, strict=True):
            half = solve_triangular(inner, solved[members], lower=True)
            covariance = common - half.T @ half
            yield self.transformation.scale * (covariance + covariance.T) / 2.0

    def state(self) -> dict[str, Array]:
        """The arrays that a saved fit keeps; the last has the inner factors one after another."""
        inner = np.concatenate([r.reshape(-1) for r in self.inner])
        return dict(zip(self.files, (self.factor.as_vector(), self.alpha, inner), strict=True))

    @classmethod
    def from_state(
        cls, settings: Any, state: Mapping[str, Array], columns: Indices, classes: int
    ) -> DirichletPosterior:
        """The posterior of a `state`.

        Args:
            settings: concentration and scale of the transformation.
            state: the arrays.
            columns: the column of each label, [N].
            classes: their number.

        Returns:
            The posterior.

        Raises:
            ModelFileError: the arrays do not fit the labels; TypeError for malformed settings.
        """
        transformation = Transformation(**settings)
        numbers = vars(transformation).values()
        if not all(isinstance(v, float) and 0.0 < v < math.inf for v in numbers):
            raise ModelFileError(f"{transformation}: expected positive numbers")
        vector, alpha, flat = (state[name] for name in cls.files)
        factor = CholeskyFactor.from_vector(vector, cls.files[0])
        counts = np.bincount(columns, minlength=classes)
        fits = factor.size == len(columns) and alpha.shape == (len(columns), classes)
        if not fits or flat.shape != (int((counts**2).sum()),):
            raise ModelFileError("the arrays of the Dirichlet posterior do not fit the labels")
        members = [np.flatnonzero(columns == c) for c in range(classes)]
        parts = np.split(flat, np.cumsum(counts**2)[:-1])
        inner = [part.reshape(n, n) for part, n in zip(parts, counts, strict=True)]
        return cls(transformation, factor, alpha, members, inner)


def fit_dirichlet(
    factor: CholeskyFactor,
    columns: Indices,
    classes: int,
    transformation: Transformation | None = None,
) -> DirichletPosterior:
    """The posterior given labels, from the Cholesky factor of the regression.

    Args:
        factor: the factor of the covariance, [N, N].
        columns: the column of each label, [N].
        classes: their number.
        transformation: None for the result of `choose_transformation`.

    Raises:
        InputError: the memory does not suffice.
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
    other, member = transformation.noises()
    shifted = factorize(_Squared(lower), other)
    targets = transformation.targets(columns, classes)
    plain = shifted.solve(targets)
    members, inner, correction = [], [], np.zeros_like(targets)
    for c in range(classes):
        rows = np.flatnonzero(columns == c)
        unit = np.zeros((size, len(rows)))
        unit[rows, np.arange(len(rows))] = 1.0
        half = shifted.half_solve(unit)
        r = _inner(half.T @ half, other - member)
        correction[rows, c] = _solve(r, plain[rows, c])
        members.append(rows)
        inner.append(r)
    alpha = plain + shifted.solve(correction)
    return DirichletPosterior(transformation, shifted, alpha, members, inner)


def choose_transformation(lower: Matrix, columns: Indices, classes: int) -> Transformation:
    """The transformation under which leave-one-out predictions make the labels most probable.

    It is chosen on 200 training inputs, drawn with a fixed seed, or on all of a smaller number.

    Args:
        lower: the Cholesky factor of the covariance, [N, N].
        columns: the column of each label, [N].
        classes: their number.

    References:
        Milios et al. (2018), section 4.3, which chooses e by held-out likelihood.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(columns))[:_CHOOSERS])
    matrix = lower[rows] @ lower[rows].T
    labels = columns[rows]
    unit = float(np.diagonal(matrix).mean())
    least, best = math.inf, Transformation(_CONCENTRATIONS[0], 1.0 / unit)
    for concentration in _CONCENTRATIONS:

        def loss(log_scale: float, concentration: float = concentration) -> float:
            transformation = Transformation(concentration, math.exp(log_scale) / unit)
            return _leave_one_out_loss(matrix, labels, classes, transformation)

        search = minimize_scalar(
            loss, bounds=(_LOWEST, _HIGHEST), method="bounded", options={"xatol": 0.3}
        )
        if search.fun < least:
            least, best = search.fun, Transformation(concentration, math.exp(search.x) / unit)
    return best


def _leave_one_out_loss(
    matrix: Matrix, labels: Indices, classes: int, transformation: Transformation
) -> float:
    """Mean -log p(label) of each input given all others, in closed form (RW 5.10 to 5.12)."""
    other, member = transformation.noises()
    size = len(labels)
    lower = cholesky(matrix + other * np.eye(size), lower=True)
    half = solve_triangular(lower, np.eye(size), lower=True)
    inverse = half.T @ half
    targets = transformation.targets(labels, classes)
    noise = np.where(np.arange(classes) == labels[:, None], member, other)
    mean, variance = np.empty_like(targets), np.empty_like(targets)
    for c in range(classes):
        rows = np.flatnonzero(labels == c)
        precision = np.diagonal(inverse).copy()
        alpha = inverse @ targets[:, c]
        if rows.size:
            r = _inner(inverse[np.ix_(rows, rows)], other - member)
            spread = solve_triangular(r, inverse[rows], lower=True)
            precision += np.einsum("in,in->n", spread, spread)
            alpha += spread.T @ solve_triangular(r, alpha[rows], lower=True)
        mean[:, c] = targets[:, c] - alpha / precision
        variance[:, c] = transformation.scale * np.maximum(1.0 / precision - noise[:, c], 0.0)
    p = expected_softmax(mean, variance, step=1.5)
    return -float(np.log(np.maximum(p[np.arange(size), labels], 1e-300)).mean())


def _inner(block: Matrix, gap: float) -> Matrix:
    """R of M = I / gap - block."""
    result: Matrix = cholesky(np.eye(len(block)) / gap - block, lower=True)
    return result


def _solve(lower: Matrix, b: Array) -> Array:
    """(R R^T)^-1 b."""
    half = solve_triangular(lower, b, lower=True)
    result: Array = solve_triangular(lower, half, lower=True, trans=1)
    return result


class _Squared:
    """The matrix L L^T, computed block by block where it is read."""

    def __init__(self, lower: Matrix) -> None:
        self._lower = lower
        self.shape = lower.shape

    def __getitem__(self, key: Any) -> Matrix:
        rows, columns = key
        product: Matrix = self._lower[rows] @ self._lower[columns].T
        return product
