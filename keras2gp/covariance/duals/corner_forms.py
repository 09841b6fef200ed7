"""Forms of a function of polynomials between corners at small variances, the fastest first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.dual import Dual, Limited
from keras2gp.covariance.duals.chebyshev import roots
from keras2gp.covariance.duals.coefficients import KinkedFunction
from keras2gp.covariance.duals.compact import FAR, compact_of
from keras2gp.covariance.duals.corner_slopes import WithSlopes, corner_slopes_of
from keras2gp.covariance.duals.far_corners import far_corners_of
from keras2gp.covariance.duals.hermite import TOLERANCE
from keras2gp.covariance.duals.sampled import sampled_of

__all__ = ["Cornered", "forms_of"]

_SLOPE_TOLERANCE = 1e-5
"""Of E[phi'(u) phi'(v)], relative to the variances: that of the integrals."""
_LIMITS = 1.05, 4.0
"""Least variance up to which a form is worth its program, as normalised maps have one of 1, and the
largest that is tried: networks of such functions have none beyond it at their initialisers."""
_MOST = 400.0
"""Largest cost of a sum (compact.py), beside the integrals."""
_NEAREST = 0.9
"""Least distance of edges of curves without corners, in deviations."""
_NODES = 96


@dataclass(frozen=True)
class Cornered:
    """A continuous function of polynomials between corners.

    edges:       the corners
    polynomials: coefficients between them, the constant first
    jumps:       of phi' at the corners
    start:       phi' at 0, or left of a corner there
    phi:         the function
    integrals:   its dual, for all variances
    """

    edges: tuple[float, ...]
    polynomials: tuple[tuple[float, ...], ...]
    jumps: tuple[float, ...]
    start: float
    phi: Callable[[Tensor], Tensor]
    integrals: Dual

    @property
    def is_straight(self) -> bool:
        """Whether all pieces are straight."""
        return all(len(p) <= 2 for p in self.polynomials)


def forms_of(function: Cornered, *, tangent: bool) -> list[Limited]:
    """Two forms at most, each up to a larger variance than the one before it.

    Straight pieces have the form of two slopes where nothing else is seen of the function
    (far_corners.py), else that in the fewest points, and that in points for the largest variance
    (sampled.py); curves have a sum (compact.py). A sum for straight pieces takes as long for a pair
    as three points, and its columns three times as long for an image as theirs.

    tangent: whether the derivative is needed too
    """
    far = far_corners_of(function.edges, function.polynomials, TOLERANCE, _LIMITS[0])
    with tf.init_scope():
        sums = [] if far else _sums(function)
        points = _points(function)
    forms = [*sums, *(points[-1:] if far else points)]
    if tangent:
        forms = [_with_slopes(function, form) for form in forms]
    return [far, *forms] if far else forms


def _sums(function: Cornered) -> list[Limited]:
    """The sum of a function of curves whose corners are all far, but for one at 0."""
    if function.is_straight:
        return []
    kappa = dict(zip(function.edges, function.jumps, strict=True)).get(0.0, 0.0) / 2
    form = compact_of(
        KinkedFunction(function.phi, function.edges, kappa),
        (TOLERANCE,),
        most=_MOST,
        # Curves that meet without a corner leave terms that fall faster.
        nearest=FAR if any(function.jumps) else _NEAREST,
    )
    return [] if form is None else [form]


def _points(function: Cornered) -> list[Limited]:
    if not function.is_straight:
        return []
    corners, start = (function.edges, function.jumps), function.start
    forms = sampled_of(
        function.phi,
        function.integrals,
        *corners,
        start=start,
        limits=_LIMITS,
        tolerance=TOLERANCE,
    )
    return [*forms]


def _with_slopes(function: Cornered, form: Limited) -> Limited:
    """A form with the derivative: by the angles of straight corners, else by integrals."""
    if function.is_straight:
        corners = [c for c in zip(function.edges, function.jumps, strict=True) if c[1]]
        with tf.init_scope():
            q = tf.constant(roots(form.limit, _NODES) ** 2)
            steepness = np.asarray(function.integrals.derivative_second_moment(q))
            slopes = corner_slopes_of(
                corners, function.start, steepness, form.limit, tolerance=_SLOPE_TOLERANCE
            )
        if slopes is not None:
            return WithSlopes(form, *slopes)
    return WithSlopes(form, function.integrals, _SLOPE_TOLERANCE)
