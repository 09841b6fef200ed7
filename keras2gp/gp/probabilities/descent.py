"""L-BFGS for smooth losses of a few numbers: the iterates of scipy's, at a tenth of its overhead.

Cross-validation minimises a few dozen losses of a hundred numbers, whose evaluation takes 30 us.
`scipy.optimize.minimize` takes 60 us around each of them, and 0.2 ms around each minimisation.
Directions, steps and tests are those of scipy's L-BFGS-B, so that both stop at the same iterate.

References:
    Liu and Nocedal (1989), On the limited memory BFGS method for large scale optimization; More and
    Thuente (1994), Line search algorithms with guaranteed sufficient decrease.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from keras2gp._util.arrays import Vector

__all__ = ["Loss", "minimized", "minimized_by_scipy"]

Loss = Callable[[Vector], tuple[float, Vector]]
"""A smooth function of a vector, and its gradient, a new array."""

_PAIRS = 10
"""Steps that are remembered, with what the gradient changed by."""
_MOST_STEPS, _MOST_TRIALS = 500, 20
_SUFFICIENT, _CURVATURE, _NARROW = 1e-3, 0.9, 0.1
"""Sufficient decrease, remaining slope, and relative width of the bracket of a line search."""
_LONGEST = 1e10


class _Stuck(Exception):  # noqa: N818 (no error of the caller's)
    """A line search without a step, after which L-BFGS-B forgets what it has learned."""


def minimized(loss: Loss, start: Vector, *, decrease: float, slope: float) -> Vector:
    """The minimum of a smooth function, from where it starts.

    Args:
        loss: the function, with its gradient.
        start: where the search begins.
        decrease: relative decrease of the loss at which it ends.
        slope: largest entry of the gradient at which it ends.

    Returns:
        The last iterate.
    """
    try:
        return _descended(loss, start, decrease, slope)
    except _Stuck:  # near the limit of rounding; scipy starts again with the gradient
        return minimized_by_scipy(loss, start, decrease=decrease, slope=slope)


def minimized_by_scipy(loss: Loss, start: Vector, *, decrease: float, slope: float) -> Vector:
    """The same by `scipy.optimize.minimize`.

    Args:
        loss: as for `minimized`.
        start: as for `minimized`.
        decrease: as for `minimized`.
        slope: as for `minimized`.

    Returns:
        The last iterate.
    """
    options = {"maxiter": _MOST_STEPS, "ftol": decrease, "gtol": slope}
    result: Vector = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return result


def _descended(loss: Loss, x: Vector, decrease: float, slope: float) -> Vector:
    """The last iterate; raises _Stuck where a line search finds no step."""
    value, gradient = loss(x)
    memory: deque[tuple[Vector, Vector, float]] = deque(maxlen=_PAIRS)
    for number in range(_MOST_STEPS):
        if float(np.abs(gradient).max()) <= slope:
            break
        direction = _direction(gradient, memory)
        down = float(direction @ gradient)
        if not -math.inf < down < 0.0:
            raise _Stuck
        step = 1.0 if number else min(1.0 / math.sqrt(float(direction @ direction)), _LONGEST)
        search = _LineSearch(value, down, step)
        for _ in range(_MOST_TRIALS):
            trial = x + search.step * direction
            new, changed = loss(trial)
            along = float(direction @ changed)
            if search.accepts(new, along):
                break
        else:
            raise _Stuck
        before, value, x = value, new, trial
        if before - value <= decrease * max(abs(before), abs(value), 1.0):
            break
        change = changed - gradient
        gradient = changed
        product = (along - down) * search.step
        if product > np.finfo(np.float64).eps * -down * search.step:
            memory.append((direction * search.step, change, product))
    return x


def _direction(gradient: Vector, memory: deque[tuple[Vector, Vector, float]]) -> Vector:
    """Minus the approximate inverse of the Hessian times the gradient, by two loops."""
    result = -gradient
    if not memory:
        return result
    factors = []
    for step, change, product in reversed(memory):
        factor = float(step @ result) / product
        factors.append(factor)
        result -= factor * change
    _, change, product = memory[-1]
    result *= product / float(change @ change)
    for (step, change, product), factor in zip(memory, reversed(factors), strict=True):
        result += (factor - float(change @ result) / product) * step
    return result


class _LineSearch:
    """A step along a direction, of sufficient decrease and with little of the slope left.

    Args:
        value: the loss at step 0.
        slope: its derivative by the step there, below 0.
        step: the first one to try.
    """

    def __init__(self, value: float, slope: float, step: float) -> None:
        self.step = step
        self._value, self._slope, self._test = value, slope, _SUFFICIENT * slope
        self._first, self._bracketed = True, False
        self._width, self._width_before = _LONGEST, 2.0 * _LONGEST
        self._best = self._other = (0.0, value, slope)  # step, value and slope
        self._least, self._most = 0.0, 5.0 * step

    def accepts(self, value: float, slope: float) -> bool:
        """Whether the step is taken; if not, `step` is the next one to try.

        Raises _Stuck where the bracket has become too narrow.

        Args:
            value: the loss at the step.
            slope: its derivative by the step there.
        """
        if not (math.isfinite(value) and math.isfinite(slope)):
            raise _Stuck
        step, bound = self.step, self._value + self.step * self._test
        if self._first and value <= bound and slope >= 0.0:
            self._first = False
        if value <= bound and abs(slope) <= -_CURVATURE * self._slope:
            return True
        if self._bracketed and not self._least < step < self._most:
            raise _Stuck
        if self._bracketed and self._most - self._least <= _NARROW * self._most:
            raise _Stuck
        if step >= _LONGEST or step <= 0.0:
            raise _Stuck
        # Until a step of sufficient decrease is known, the line of that decrease is subtracted.
        tilt = self._test if self._first and bound < value <= self._best[1] else 0.0
        self._next(_tilted((step, value, slope), tilt), tilt)
        if self._bracketed:
            gap = abs(self._other[0] - self._best[0])
            if gap >= 0.66 * self._width_before:
                self.step = self._best[0] + 0.5 * (self._other[0] - self._best[0])
            self._width_before, self._width = self._width, gap
            self._least, self._most = sorted((self._best[0], self._other[0]))
        else:
            ahead = self.step - self._best[0]
            self._least, self._most = self.step + 1.1 * ahead, self.step + 4.0 * ahead
        self.step = min(max(self.step, 0.0), _LONGEST)
        narrow = self._most - self._least <= _NARROW * self._most
        if self._bracketed and (narrow or not self._least < self.step < self._most):
            self.step = self._best[0]
        return False

    def _next(self, tried: tuple[float, float, float], tilt: float) -> None:
        """Set the next step, and the two that bracket the minimum (dcstep of MINPACK-2)."""
        at, value, slope = tried
        x, best, descent = _tilted(self._best, tilt)
        y, other, rise = _tilted(self._other, tilt)
        turned = slope * math.copysign(1.0, descent) < 0.0
        cubic = 0.0
        if value > best:  # the minimum is between the two
            cubic = _cubic((x, best, descent), (at, value, slope))
            square = x + (descent / ((best - value) / (at - x) + descent)) / 2.0 * (at - x)
            nearer = abs(cubic - x) < abs(square - x)
            step = cubic if nearer else cubic + (square - cubic) / 2.0
            self._bracketed = True
        elif turned:
            cubic = _cubic((at, value, slope), (x, best, descent))
            secant = at + slope / (slope - descent) * (x - at)
            step = cubic if abs(cubic - at) > abs(secant - at) else secant
            self._bracketed = True
        elif abs(slope) < abs(descent):
            cubic = self._cubic_ahead((x, best, descent), (at, value, slope))
            secant = at + slope / (slope - descent) * (x - at)
            nearer = abs(cubic - at) < abs(secant - at)
            step = cubic if nearer == self._bracketed else secant
            if self._bracketed:
                limit = at + 0.66 * (y - at)
                step = min(limit, step) if at > x else max(limit, step)
            else:
                step = min(max(step, self._least), self._most)
        elif self._bracketed:
            step = _cubic((at, value, slope), (y, other, rise))
        else:
            step = self._most if at > x else self._least
        if value > best:
            y, other, rise = at, value, slope
        else:
            if turned:
                y, other, rise = x, best, descent
            x, best, descent = at, value, slope
        self._best = _tilted((x, best, descent), -tilt)
        self._other = _tilted((y, other, rise), -tilt)
        self.step = step

    def _cubic_ahead(
        self, known: tuple[float, float, float], tried: tuple[float, float, float]
    ) -> float:
        """The minimum of the cubic beyond the step that was tried, or the end of the range."""
        (x, best, descent), (at, value, slope) = known, tried
        theta = 3.0 * (best - value) / (at - x) + descent + slope
        size = max(abs(theta), abs(descent), abs(slope))
        root = size * math.sqrt(max(0.0, (theta / size) ** 2 - descent / size * (slope / size)))
        root = -root if at > x else root
        ratio = ((root - slope) + theta) / ((root + (descent - slope)) + root)
        if ratio < 0.0 and root:
            return at + ratio * (x - at)
        return self._most if at > x else self._least


def _tilted(point: tuple[float, float, float], tilt: float) -> tuple[float, float, float]:
    """Step, value and slope, less those of a line through 0."""
    step, value, slope = point
    return step, value - step * tilt, slope - tilt


def _cubic(near: tuple[float, float, float], far: tuple[float, float, float]) -> float:
    """The minimum of the cubic with the values and slopes of two steps, from the first of them."""
    (x, f, g), (y, h, k) = near, far
    theta = 3.0 * (f - h) / (y - x) + g + k
    size = max(abs(theta), abs(g), abs(k))
    root = size * math.sqrt(max(0.0, (theta / size) ** 2 - g / size * (k / size)))
    root = -root if y < x else root
    return x + ((root - g) + theta) / (((root - g) + root) + k) * (y - x)
