"""Initial values of weights: variances, means and moments of what Keras's initialisers draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import initializers

from keras2gp._util.arrays import Array
from keras2gp._util.keras_objects import KerasInitializer
from keras2gp._util.text import received_text
from keras2gp.errors import PriorError

__all__ = [
    "TRUNCATED_VARIANCE",
    "Moments",
    "element_variance",
    "initial_constant",
    "initial_constants",
    "moments_of",
]

Shape = tuple[int, ...]

TRUNCATED_VARIANCE = 1.0 - 4.0 * math.exp(-2.0) / (
    math.sqrt(2.0 * math.pi) * math.erf(math.sqrt(2.0))
)
"""Variance of a standard normal variable cut at two standard deviations, 0.7737...

    1 - 2 a phi(a) / (Phi(a) - Phi(-a)) at a = 2, phi and Phi the normal density and distribution.
"""


def element_variance(initializer: object, shape: Shape) -> float:
    """The variance of one weight that a Keras initialiser draws.

    initializer: an instance of one of Keras's own initialiser classes, exactly
    shape:       the shape of the weight; where the variance depends on fans, on this finite ones

    Raises: PriorError if the weights have a mean, if the initialiser is not one of Keras's, or if
        it cannot draw weights of this shape.
    """
    if not all(isinstance(size, int | np.integer) and size > 0 for size in shape):
        raise PriorError(f"a weight's shape is a tuple of positive integers, not {shape!r}")
    rule = _RULES.get(type(initializer))
    if rule is None:
        raise PriorError(
            f"{name_of(initializer)} is no initialiser of Keras's with a known variance; "
            "use one of Keras's, or give the layer's variances as an override"
        )
    variance = rule(initializer, shape)
    if not math.isfinite(variance):
        raise PriorError(f"{name_of(initializer)} has a variance of {variance}: it must be finite")
    if variance == 0.0 and any(float(getattr(initializer, size, 0.0)) for size in _SIZES):
        raise PriorError(
            f"{name_of(initializer)} has a variance below float64, which is not 0; use a larger "
            "one and a smaller Rescaling, or Zeros for weights that are 0"
        )
    return variance


def initial_constant(initializer: object) -> float | None:
    """The one number that an initialiser of Keras gives; None if it gives something else."""
    values = initial_constants(initializer)
    return values if isinstance(values, float) else None


def initial_constants(initializer: object) -> float | Array | None:
    """The number that an initialiser of Keras gives, or different ones, [C]; None for any else."""
    kind = type(initializer)
    if kind is initializers.Constant:
        return _numbers(getattr(initializer, "value", None))
    return {initializers.Zeros: 0.0, initializers.Ones: 1.0}.get(kind)


class Moments(NamedTuple):
    """Moments of a random number: E[x^2], E[x], E[|x|] and Var(x)."""

    square: float
    mean: float
    absolute: float
    variance: float


def moments_of(initializer: KerasInitializer) -> Moments | None:
    """The moments of what an initialiser draws, where it is normal or uniform; None for another."""
    kind = type(initializer)
    if kind is initializers.RandomUniform:
        return _uniform_moments(float(initializer.minval), float(initializer.maxval))
    if kind not in (initializers.RandomNormal, initializers.TruncatedNormal):
        return None
    mean, deviation = float(initializer.mean), float(initializer.stddev)
    cut = 2.0 if kind is initializers.TruncatedNormal else math.inf
    variance = deviation**2 * (TRUNCATED_VARIANCE if cut == 2.0 else 1.0)
    if not deviation > 0.0 or not math.isfinite(mean * mean + variance):
        return None
    middle = min(max(-mean / deviation, -cut), cut)
    above, below = (
        _first_moment(*ends, mean, deviation) for ends in ((middle, cut), (-cut, middle))
    )
    absolute = (above - below) / _first_moment(-cut, cut, 1.0, 0.0)
    absolute = abs(mean) if abs(mean) >= cut * deviation else max(absolute, abs(mean))
    return Moments(mean**2 + variance, mean, absolute, variance)


def _uniform_moments(low: float, high: float) -> Moments | None:
    if not low < high or not math.isfinite(low * low + high * high):
        return None
    mean, variance = (low + high) / 2, (high - low) ** 2 / 12
    absolute = (low**2 + high**2) / (2 * (high - low)) if low < 0.0 < high else abs(mean)
    return Moments(mean**2 + variance, mean, absolute, variance)


def _first_moment(low: float, high: float, mean: float, deviation: float) -> float:
    """The integral of mean + deviation z over the standard normal density from `low` to `high`.

    Math: mean (Phi(high) - Phi(low)) + deviation (phi(low) - phi(high))
    """
    phi = [math.exp(-z * z / 2) / math.sqrt(2 * math.pi) for z in (low, high)]
    share = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    return mean * share + deviation * (phi[0] - phi[1])


def _numbers(value: Any) -> float | Array | None:
    """A number, or a vector of them that are not all equal; None for anything else."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if not array.size or (array.ndim > 1 and array.size > 1):
        return None
    equal = bool((array == array.flat[0]).all())
    return float(array.flat[0]) if equal or array.size == 1 else array


def name_of(initializer: object) -> str:
    """The name that a user gives an initialiser: its class, or a function's name."""
    if isinstance(initializer, type) or not isinstance(initializer, initializers.Initializer):
        return str(getattr(initializer, "__name__", type(initializer).__name__))
    return type(initializer).__name__


def _refuse_mean(initializer: object, what: str) -> PriorError:
    return PriorError(
        f"{name_of(initializer)} with {what} has a mean: there is an exact rule for weights of "
        "mean zero only; use a centred initialiser, or give the layer's variances as an override"
    )


def _normal(initializer: KerasInitializer, shape: Shape) -> float:  # noqa: ARG001
    if float(initializer.mean) != 0.0:
        raise _refuse_mean(initializer, f"mean={float(initializer.mean)}")
    return float(initializer.stddev) * float(initializer.stddev)  # inf rather than an error


def _truncated_normal(initializer: KerasInitializer, shape: Shape) -> float:
    # Keras cuts at two standard deviations and does not widen the normal to make up for it.
    return TRUNCATED_VARIANCE * _normal(initializer, shape)


def _uniform(initializer: KerasInitializer, shape: Shape) -> float:  # noqa: ARG001
    low, high = float(initializer.minval), float(initializer.maxval)
    if low != -high:
        raise _refuse_mean(initializer, f"minval={low}, maxval={high}")
    return (high - low) * (high - low) / 12.0


def _variance_scaling(initializer: KerasInitializer, shape: Shape) -> float:
    # All three distributions are scaled to this variance, the truncated one after its cut.
    fan_in, fan_out = _fans(shape, initializer.input_axes, initializer.output_axes)
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}
    return float(initializer.scale) / max(1.0, fan[initializer.mode])


def _fans(shape: Shape, input_axes: Any = None, output_axes: Any = None) -> tuple[int, int]:
    """Count inputs and outputs as Keras does: axes if both are given, else [*window, in, out]."""
    if input_axes is not None and output_axes is not None:
        return (
            math.prod(shape[axis] for axis in input_axes),
            math.prod(shape[axis] for axis in output_axes),
        )
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def _orthogonal(initializer: KerasInitializer, shape: Shape) -> float:
    # The fewer of rows and columns are unit vectors, each of max(rows, columns) entries.
    if len(shape) < 2:
        raise PriorError(f"Orthogonal draws matrices, not a weight of shape {shape}")
    return float(initializer.gain) * float(initializer.gain) / max(math.prod(shape[:-1]), shape[-1])


def _constant(initializer: KerasInitializer, shape: Shape) -> float:  # noqa: ARG001
    if np.any(np.asarray(initializer.value, dtype=np.float64) != 0.0):
        raise _refuse_mean(initializer, f"value={received_text(initializer.value)}")
    return 0.0


def _zeros(initializer: KerasInitializer, shape: Shape) -> float:  # noqa: ARG001
    return 0.0


def _deterministic(initializer: KerasInitializer, shape: Shape) -> float:  # noqa: ARG001
    raise _refuse_mean(initializer, "fixed values")


_RULES: dict[type, Callable[[Any, Shape], float]] = {
    initializers.RandomNormal: _normal,
    initializers.TruncatedNormal: _truncated_normal,
    initializers.RandomUniform: _uniform,
    initializers.VarianceScaling: _variance_scaling,
    initializers.GlorotNormal: _variance_scaling,
    initializers.GlorotUniform: _variance_scaling,
    initializers.HeNormal: _variance_scaling,
    initializers.HeUniform: _variance_scaling,
    initializers.LecunNormal: _variance_scaling,
    initializers.LecunUniform: _variance_scaling,
    initializers.Orthogonal: _orthogonal,
    initializers.Zeros: _zeros,
    initializers.Constant: _constant,
    initializers.Ones: _deterministic,
    initializers.Identity: _deterministic,
    initializers.STFT: _deterministic,
}

_SIZES = ("gain", "maxval", "scale", "stddev")
"""Settings by which initialisers scale what they draw."""
