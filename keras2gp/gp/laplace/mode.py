"""The most probable latent values under any likelihood, by products with the kernel matrix alone.

Newton's method in the latent values f, whose steps conjugate gradients solve. Every iterate is kept
as K u together with u, so that K is multiplied and never inverted:

    maximise  sum_n log p(y_n | f_n) - f^T K^-1 f / 2,  f = K a
    step      (K^-1 + W) df = g - a,  df = K u:  u + W K u = g - a
    with g the gradient of the log likelihood and W minus its second derivative

Conjugate gradients on K^-1 + W, preconditioned by K, take one product with K in each iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from keras2gp._util.arrays import Array, Matrix
from keras2gp._util.progress import Advance
from keras2gp.errors import NumericalError
from keras2gp.gp.laplace.base import Likelihood

__all__ = ["Mode", "find_mode", "solved"]

Apply = Callable[[Array], Array]

_ROUGHEST = 0.1
"""Relative accuracy of the first steps; the later ones follow the gradient, for a fast end."""
_MOST_INNER = 1000
_SHORTEST = 2.0**-40
_ROUNDING = 1e-7
"""Of entries in float32, relative to the matrix."""
_RISE = 1e-4
"""Share of the expected rise that a step must have (Armijo)."""


@dataclass(frozen=True, eq=False)
class Mode:
    """The most probable latent values.

    Attributes:
        weights: a, [N, C].
        latent: f - prior mean = K a, [N, C].
        log_density: log p(y | f) - a^T K a / 2.
        steps: Newton steps.
        products: products with K, of C columns each.
        residual: largest entry of g - a, relative to the largest of g, or to 1.
    """

    weights: Matrix = field(repr=False)
    latent: Matrix = field(repr=False)
    log_density: float
    steps: int
    products: int
    residual: float


def find_mode(
    product: Apply,
    likelihood: Likelihood,
    observed: Array,
    latents: int,
    *,
    prior_mean: float,
    tolerance: float,
    max_steps: int,
    progress: Advance | None = None,
) -> Mode:
    """The mode of the posterior.

    Args:
        product: b -> K b for b of shape [N, C].
        likelihood: with what it takes from the data.
        observed: the observations, [N].
        latents: C.
        prior_mean: of every latent value.
        tolerance: bound on the residual (Mode.residual).
        max_steps: bound on the Newton steps.
        progress: called with (step, max_steps).

    Raises:
        NumericalError: the tolerance is not reached, or K is no covariance.

    References:
        Rasmussen and Williams, section 3.4.1, with the step solved by conjugate gradients;
        Nocedal and Wright, Numerical Optimization, algorithm 7.1.
    """
    a = np.zeros((len(observed), latents))
    latent = np.zeros_like(a)
    counted = _Counted(product)

    def density(weights: Matrix, values: Matrix) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            value = float(likelihood.value(values + prior_mean, observed).sum())
            value -= 0.5 * float(np.einsum("nc,nc->", weights, values))
        return value if np.isfinite(value) else -np.inf

    height = density(a, latent)
    for step in range(max_steps + 1):
        slope = likelihood.gradient(latent + prior_mean, observed)
        rest = slope - a
        residual = float(np.abs(rest).max() / max(1.0, np.abs(slope).max()))
        if residual <= tolerance:
            # f was added up step by step; the last word is that of one product.
            latent = counted(a)
            slope = likelihood.gradient(latent + prior_mean, observed)
            residual = float(np.abs(slope - a).max() / max(1.0, np.abs(slope).max()))
            if residual <= 2.0 * tolerance:
                height = density(a, latent)
                return Mode(a, latent, height, step, counted.count, residual)
            height, rest = density(a, latent), slope - a
        if step == max_steps:
            break
        if progress is not None:
            progress(step, max_steps)
        curvature = likelihood.curvature(latent + prior_mean, observed)
        accuracy = min(_ROUGHEST, max(residual, 1e-2 * tolerance))
        u, change, expected = _direction(counted, curvature, rest, accuracy)
        length, reached = 1.0, -np.inf
        # Near the top the rise is below the rounding of the height itself.
        slack = 1e-13 * abs(height)
        while length >= _SHORTEST:
            reached = density(a + length * u, latent + length * change)
            if reached >= height + _RISE * length * expected - slack:
                break
            length /= 2.0
        else:
            raise NumericalError(_failure(step, residual, tolerance, "no step raises the density"))
        a, latent, height = a + length * u, latent + length * change, reached
    raise NumericalError(_failure(max_steps, residual, tolerance, "the steps are used up"))


def _failure(steps: int, residual: float, tolerance: float, why: str) -> str:
    return (
        f"the mode was not found: {why}, residual {residual:.3g} after {steps} Newton steps, "
        f"tolerance {tolerance:g}. Try: a kernel whose variances are near 1, a larger tolerance or "
        "max_iterations, or a prior_mean near the latent values"
    )


class _Counted:
    """A product that counts its calls, and keeps the largest |K b| / |b|, a bound below |K|."""

    def __init__(self, product: Apply) -> None:
        self._product, self.count, self.norm = product, 0, 0.0

    def __call__(self, b: Array) -> Array:
        self.count += 1
        made = self._product(b)
        length = float(np.linalg.norm(b))
        if length > 0.0:
            self.norm = max(self.norm, float(np.linalg.norm(made)) / length)
        return made


def _direction(
    product: _Counted, curvature: Apply, rest: Matrix, accuracy: float
) -> tuple[Matrix, Matrix, float]:
    """u and K u of a Newton step, and the rise per length at its start.

    Where the curvature along a direction is negative, as it can be where the likelihood is not
    log-concave, the step ends with what it has.
    """
    r = rest.copy()
    z = product(r)
    size = _covariance_norm(r, z, product.norm)
    if not size:  # K does not see r, so that the step is r itself
        return r, z, 0.0
    first = size
    u, change = np.zeros_like(r), np.zeros_like(r)
    pu, pf = r.copy(), z.copy()
    for inner in range(_MOST_INNER):
        bent = pu + curvature(pf)
        bend = float(np.einsum("nc,nc->", pf, bent))
        if not bend > 0.0:
            if not inner:
                u, change = pu, pf
            break
        step = size / bend
        u += step * pu
        change += step * pf
        r -= step * bent
        z = product(r)
        new = _covariance_norm(r, z, product.norm)
        if new <= accuracy**2 * first:
            break
        pu, pf, size = r + new / size * pu, z + new / size * pf, new
    return u, change, float(np.einsum("nc,nc->", rest, change))


def _covariance_norm(r: Array, z: Array, norm: float) -> float:
    """r^T K r, which is 0 or more for a covariance.

    norm: a bound below |K|; what rounding leaves where K r is 0 is small beside |K| |r|^2

    Raises:
        NumericalError: it is negative.
    """
    value = float(np.einsum("nc,nc->", r, z))
    if value < -_ROUNDING * norm * float(np.einsum("nc,nc->", r, r)):
        raise NumericalError(
            "the kernel matrix is no covariance: r^T K r is negative for a residual r. Try: rows "
            'and columns in the same order, or dtype="float64" in the kernel\'s convert or load'
        )
    return max(value, 0.0)


def solved(
    product: Apply, curvature: Apply, columns: Array, *, tolerance: float, max_iterations: int
) -> Array:
    """u with u + W K u = W b for many b at once: b^T u is the variance that b explains.

    Math: b^T (K + W^-1)^-1 b = b^T u;  x = K u solves (K^-1 + W) x = W b

    Args:
        product: b -> K b for b of shape [N, columns].
        curvature: u -> W u.
        columns: b, [N, C, B].
        tolerance: bound on |r|_K / |W b|_K of each column, r the residual.
        max_iterations: bound on the products.

    Raises:
        NumericalError: the tolerance is not reached, or K^-1 + W is not positive definite.
    """

    def apply(v: Array) -> Array:
        count = len(v)
        return product(np.ascontiguousarray(v.reshape(count, -1))).reshape(v.shape)

    r = curvature(columns)
    z = apply(r)
    size = np.einsum("ncb,ncb->b", r, z)
    bound = tolerance**2 * size
    u = np.zeros_like(r)
    pu, pf = r.copy(), z
    for _ in range(max_iterations):
        left = size > bound
        if not left.any():
            return u
        bent = pu + curvature(pf)
        bend = np.einsum("ncb,ncb->b", pf, bent)
        if not (bend[left] > 0.0).all():
            raise NumericalError(
                "the latent values have no Laplace approximation here: the posterior's curvature "
                "is not positive definite at the mode. Try: a larger scale or df of the "
                "likelihood, or return_std=False"
            )
        step = np.where(left, size / np.where(left, bend, 1.0), 0.0)
        u += step * pu
        r -= step * bent
        z = apply(r)
        new = np.einsum("ncb,ncb->b", r, z)
        ratio = np.where(left, new / np.where(left, size, 1.0), 0.0)
        pu, pf, size = r + ratio * pu, z + ratio * pf, np.where(left, new, size)
    raise NumericalError(
        f"a Laplace variance was not reached within {max_iterations} products with the kernel "
        f"matrix, to a relative residual of {tolerance:g}. Try: a larger tolerance or "
        "max_iterations"
    )
