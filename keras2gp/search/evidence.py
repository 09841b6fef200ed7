"""The log marginal likelihood as a function of layer variances, and its gradient ascent.

Math, for outputs c that share A = K + noise I and alpha = A^-1 Y:
    log p(Y) = -1/2 sum_c (y_c . alpha_c + log det A + N log 2 pi)
    d log p / dv = sum_ij G_ij dK_ij/dv,  G = 1/2 (alpha alpha^T - C A^-1)

Reference: Rasmussen and Williams, equation 5.9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from keras2gp._util.arrays import Array
from keras2gp._util.checks import whole_number
from keras2gp._util.memory import require_memory
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.prior_mean import mean_of_rows
from keras2gp.gp.solvers.cholesky import factorize
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.jitter import check_noise
from keras2gp.graph.ops import Affine
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.matrices.gradient import gradient_of
from keras2gp.matrices.local import diagonal_of, matrix_of

__all__ = ["AscentStep", "Evidence", "OptimizedVariances", "optimize_variances", "targets_of"]

Advance = Callable[[int, int], None]

_LARGEST_STEP = math.log(1e4)
"""Largest distance of the logarithm of a variance from its start."""
_START_NOISE = 0.01
"""Noise variance at the start, relative to the kernel's mean variance."""
_MATRICES = 4
"""Matrices of doubles at once: K, A^-1 and its work space, and half of one for the factor."""


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
    x: Any,
    y: Any,
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
        str(optimum.message),
    )


class Evidence:
    """log p(Y | X, variances) and its derivatives, in float64.

    Raises: InputError for arrays that do not fit.
    """

    def __init__(self, kernel: Kernel, x: Any, y: Any) -> None:
        if not isinstance(kernel, Kernel):
            raise InputError(
                f"kernel={received_text(kernel)}: expected a kernel that keras2gp.convert or "
                "keras2gp.load gave"
            )
        if kernel.positions:
            raise InputError(
                f"the kernel's output has positions {kernel.positions}: the evidence is "
                "differentiated for one number an image. Try: kernel.at(position), of one of them"
            )
        self._images = [image.astype(np.float64) for image in kernel.images(x)]
        self._targets = targets_of(y)
        if np.asarray(y).dtype.kind == "f":  # labels have no units
            self._targets = self._targets - mean_of_rows(kernel, x, self._targets.shape[1])
        if len(self._targets) != len(self._images[0]):
            raise InputError(
                f"y has {len(self._targets)} rows and x has {len(self._images[0])} images"
            )
        require_memory(
            8 * _MATRICES * len(self._targets) ** 2,
            f"the derivatives of the evidence of {len(self._targets)} images",
            "fewer training images",
        )
        exact = kernel.dtype == "float64" and kernel.kind == "nngp"
        self._program = kernel.program if exact else CompiledProgram(kernel.graph, "float64")
        self._gradient = gradient_of(kernel.graph)

    @property
    def entries(self) -> int:
        """The number of targets, N C."""
        return int(self._targets.size)

    def diagonal(self, parameters: Mapping[str, LayerVariances]) -> Array:
        """Prior variances, [N]."""
        return diagonal_of(self._program, parameters, self._images)

    def rescaled(
        self, kernel: Kernel, noise_variance: float
    ) -> tuple[dict[str, LayerVariances], float]:
        """Variances times the factor on kernel and noise under which the targets are most probable.

        Math: the factor is trace(Y^T A^-1 Y) / (N C), on both variances of the last layer. The
        variances stay as they are if the output is no layer with weights, or the factor is not a
        positive number.
        """
        parameters, output = kernel.parameters, kernel.graph.nodes[kernel.graph.output].op
        factor = self.value(parameters, noise_variance)[1]
        if not isinstance(output, Affine) or not 0.0 < factor < math.inf:
            return parameters, noise_variance
        last = parameters[output.layer]
        changed = LayerVariances(factor * last.weight, factor * last.bias)
        return {**parameters, output.layer: changed}, factor * noise_variance

    def value(
        self, parameters: Mapping[str, LayerVariances], noise_variance: float
    ) -> tuple[float, float]:
        """The evidence, and the factor on kernel and noise that makes it largest.

        Raises: NumericalError if the matrix is singular or not finite.
        """
        factor, alpha = self._solved(parameters, noise_variance)
        fit = float(np.einsum("nc,nc->", self._targets, alpha))
        return self._density(factor, fit), fit / self.entries

    def __call__(
        self, parameters: Mapping[str, LayerVariances], noise_variance: float
    ) -> tuple[float, dict[str, tuple[float, float]], float]:
        """The evidence, its derivatives by (weight, bias) of each layer, and by the noise.

        Raises: NumericalError if the matrix is singular or not finite.
        """
        factor, alpha = self._solved(parameters, noise_variance)
        value = self._density(factor, float(np.einsum("nc,nc->", self._targets, alpha)))
        count, outputs = self._targets.shape
        weights = factor.solve(np.eye(count))
        weights *= -outputs
        weights += alpha @ alpha.T
        weights *= 0.5
        trace = float(np.trace(weights))
        # The jitter is relative to the mean of the diagonal, which the variances move.
        weights[np.diag_indices(count)] += factor.report.jitter * trace / count
        return value, self._gradient(parameters, self._images, weights), trace

    def _solved(
        self, parameters: Mapping[str, LayerVariances], noise_variance: float
    ) -> tuple[CholeskyFactor, Array]:
        matrix = matrix_of(self._program, parameters, self._images, None)
        factor = factorize(matrix, noise_variance)
        return factor, factor.solve(self._targets)

    def _density(self, factor: CholeskyFactor, fit: float) -> float:
        count, outputs = self._targets.shape
        constant = factor.log_determinant + count * math.log(2.0 * math.pi)
        return -0.5 * (fit + float(outputs * constant))


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


def targets_of(y: Any) -> Array:
    """Targets [N, C]: labels as -1 and 1, floating-point numbers as they are.

    Raises: InputError if y is no array of labels or finite numbers.
    """
    array = np.asarray(y)
    if array.dtype.kind == "f":
        if array.ndim not in (1, 2) or not np.isfinite(array).all():
            raise InputError(f"y has shape {array.shape}; expected finite targets, [N] or [N, C]")
        return array.reshape(len(array), -1).astype(np.float64)
    if array.ndim != 1 or array.dtype.kind not in "biuU":
        raise InputError(f"y of shape {array.shape}, {array.dtype}: expected labels, [N]")
    classes, index = np.unique(array, return_inverse=True)
    if len(classes) < 2:
        raise InputError("y holds one class: its evidence says nothing")
    return np.where(np.arange(len(classes)) == index[:, None], 1.0, -1.0)
