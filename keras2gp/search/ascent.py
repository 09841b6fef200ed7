"""The ascent of the evidence in the logarithms of a kernel's variances, by L-BFGS."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from keras2gp._util.arrays import Array, InputsLike, TargetsLike
from keras2gp._util.checks import whole_number
from keras2gp._util.progress import Advance, check_advance
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.arguments.noise import check_noise
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.kernel import Kernel
from keras2gp.search.evidence import Evidence

__all__ = ["AscentStep", "OptimizedVariances", "optimize_variances"]


_LARGEST_STEP = math.log(1e4)
"""Largest distance of the logarithm of a variance from its start."""

_START_NOISE = 0.01
"""Noise variance at the start, relative to the kernel's mean variance."""


@dataclass(frozen=True)
class AscentStep:
    """One evaluation of the evidence.

    Attributes:
        evidence: log p(Y) in nats; None if the matrix is singular or not finite.
        noise_variance: of the targets.
        parameters: variances by layer.
        reason: why there is no evidence.
    """

    evidence: float | None
    noise_variance: float
    parameters: Mapping[str, LayerVariances]
    reason: str = ""


@dataclass(frozen=True)
class OptimizedVariances:
    """The best of all variances that an ascent evaluated.

    Attributes:
        kernel: the kernel with these variances; nothing is compiled again.
        noise_variance: the noise variance that goes with it.
        evidence: log p(Y), in nats, summed over outputs.
        trace: every evaluation, the start first.
        message: why the ascent ended.
    """

    kernel: Kernel
    noise_variance: float
    evidence: float
    trace: tuple[AscentStep, ...]
    message: str


def optimize_variances(
    kernel: Kernel,
    x: InputsLike,
    y: TargetsLike,
    *,
    noise_variance: float | None = None,
    steps: int = 30,
    progress: Advance = lambda _done, _total: None,
) -> OptimizedVariances:
    """Ascend the log marginal likelihood in the logarithms of all variances, by L-BFGS.

    Variances that are 0 stay 0: such a layer has no biases. Each stays within a factor of 10^4 of
    its start. The ascent starts where the evidence is largest over a factor on kernel and noise,
    which the last layer takes up: targets in {-1, 1} say nothing of the scale of a prior. A network
    of ReLUs without biases knows only the product of its weight variances (k is proportional to
    each): the evidence is flat in all other directions, which the ascent leaves as they are.

    Entries and their derivatives are computed in float64, whatever the kernel's dtype. A mean of
    the kernel is taken away from real targets, as GPRegressor does, and not from labels.

    Args:
        kernel: the kernel whose variances are the start.
        x: inputs, [N, *shape].
        y: labels [N], which become targets -1 and 1; or real targets, [N] or [N, C], if their type
            is floating-point.
        noise_variance: noise variance of the targets to start from. None: 1% of the kernel's mean
            variance. 0: no noise, at the start and later.
        steps: largest number of steps; each costs one or a few evaluations.
        progress: called with (evaluations done, steps).

    Returns:
        The best variances, the noise variance, and the way there.

    Raises:
        InputError: an argument does not fit, or all variances are 0.
        NumericalError: the start has no evidence.

    References:
        Rasmussen and Williams, Gaussian Processes for Machine Learning, section 5.4.1.

    >>> import keras, keras2gp, numpy
    >>> layers = [keras.Input((2,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
    >>> kernel = keras2gp.convert(keras.Sequential(layers))
    >>> x = numpy.random.default_rng(0).normal(size=(20, 2))
    >>> optimum = keras2gp.optimize_variances(kernel, x, numpy.sin(x[:, 0]), steps=3)
    >>> optimum.evidence > optimum.trace[0].evidence
    True
    """
    whole_number("steps", steps, 1)
    evidence = Evidence(kernel, x, y)
    check_advance(progress, "(evaluations done, steps)")
    if noise_variance is None:
        noise_variance = _START_NOISE * float(evidence.diagonal(kernel.parameters).mean())
    noise = check_noise(noise_variance)
    first = AscentStep(evidence.value(kernel.parameters, noise)[0], noise, kernel.parameters)
    ascent = _Ascent(evidence, *evidence.rescaled(kernel, noise), steps, progress)
    ascent.trace.append(first)
    if not len(ascent.start):
        raise InputError("every variance of the kernel is 0: there is nothing to optimise")
    optimum = optimize.minimize(
        ascent,
        ascent.start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(v - _LARGEST_STEP, v + _LARGEST_STEP) for v in ascent.start],
        options={"maxiter": steps},
    )
    steps_taken = [(step.evidence, step) for step in ascent.trace if step.evidence is not None]
    largest, best = max(steps_taken, key=lambda pair: pair[0])
    return OptimizedVariances(
        kernel.with_parameters(best.parameters),
        best.noise_variance,
        largest,
        tuple(ascent.trace),
        _why_it_ended(optimum.status, steps, str(optimum.message)),
    )


def _why_it_ended(status: int, steps: int, message: str) -> str:
    """The end of an L-BFGS ascent in words; scipy's own for an end that is none of its three."""
    if status == 1:
        return f"it took all of its {steps} steps. Try: more of them, if the evidence still rises"
    if status == 0:
        return "the evidence rises no further"
    if status == 2:
        return "no step along the last direction raises the evidence"
    return message


class _Ascent:
    """Minus the evidence per target as a function of logarithms: the objective of L-BFGS."""

    def __init__(
        self,
        evidence: Evidence,
        parameters: Mapping[str, LayerVariances],
        noise: float,
        steps: int,
        progress: Advance,
    ) -> None:
        self._evidence = evidence
        self._parameters = dict(parameters)
        self._noise = noise
        self._steps, self._progress = steps, progress
        self._places = [
            (layer, field)
            for layer, variances in parameters.items()
            for field in ("weight", "bias")
            if getattr(variances, field) > 0.0
        ]
        values = [getattr(parameters[layer], field) for layer, field in self._places]
        self.start = np.log([*values, *([noise] if noise else [])])
        self.trace: list[AscentStep] = []
        self._worst = 0.0

    def __call__(self, logs: Array) -> tuple[float, Array]:
        parameters, noise = self._at(np.exp(logs))
        try:
            value, slopes, by_noise = self._evidence(parameters, noise)
        except NumericalError as error:
            if len(self.trace) < 2:  # the scaled start itself
                raise
            # The line search turns back from a value that is worse than all before.
            self.trace.append(AscentStep(None, noise, parameters, str(error)))
            return self._worst + 1.0 + abs(self._worst), np.zeros_like(logs)
        self.trace.append(AscentStep(value, noise, parameters))
        self._progress(min(len(self.trace) - 1, self._steps), self._steps)
        fields = {"weight": 0, "bias": 1}
        gradient = [slopes[layer][fields[field]] for layer, field in self._places]
        gradient += [by_noise] if noise else []
        scale = -1.0 / self._evidence.entries
        self._worst = max(self._worst, scale * value)
        return scale * value, scale * np.array(gradient) * np.exp(logs)

    def _at(self, values: Array) -> tuple[dict[str, LayerVariances], float]:
        variances: dict[str, dict[str, float]] = {
            layer: {"weight": v.weight, "bias": v.bias} for layer, v in self._parameters.items()
        }
        for (layer, field), value in zip(self._places, values, strict=False):
            variances[layer][field] = float(value)
        parameters = {layer: LayerVariances(**fields) for layer, fields in variances.items()}
        return parameters, float(values[-1]) if self._noise else 0.0
