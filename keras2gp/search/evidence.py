"""The log marginal likelihood as a function of layer variances, and its derivatives.

Math, for outputs c that share A = K + noise I and alpha = A^-1 Y:
    log p(Y) = -1/2 sum_c (y_c . alpha_c + log det A + N log 2 pi)
    d log p / dv = sum_ij G_ij dK_ij/dv,  G = 1/2 (alpha alpha^T - C A^-1)
    sum_ij G_ij K_ij = 1/2 (sum_c y_c . alpha_c - C N) - noise trace G, which is all that a kernel
    asks for that is proportional to powers of its variances

Reference: Rasmussen and Williams, equation 5.9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from keras2gp._util.arrays import Array, InputsLike, TargetsLike
from keras2gp._util.memory import require_memory
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.process.prior_mean import mean_of_rows
from keras2gp.gp.solvers.cholesky import factorize
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.graph.ops import Affine
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.matrices.gradient import degrees_of, gradient_of
from keras2gp.matrices.local import diagonal_of, matrix_of

__all__ = ["Evidence", "targets_of"]


_MATRICES = 4
"""Matrices of doubles at once: K, A^-1 and its work space, and half of one for the factor."""


class Evidence:
    """log p(Y | X, variances) and its derivatives, in float64.

    Raises: InputError for arrays that do not fit.
    """

    def __init__(self, kernel: Kernel, x: InputsLike, y: TargetsLike) -> None:
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
        self._graph = kernel.graph

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

        Those by biases that are 0 are no numbers where the others follow without a pass.

        Raises: NumericalError if the matrix is singular or not finite.
        """
        factor, alpha = self._solved(parameters, noise_variance)
        fit = float(np.einsum("nc,nc->", self._targets, alpha))
        value = self._density(factor, fit)
        count, outputs = self._targets.shape
        weights = factor.solve(np.eye(count))
        weights *= -outputs
        weights += alpha @ alpha.T
        weights *= 0.5
        trace = float(np.trace(weights))
        degrees = degrees_of(self._graph, parameters)
        if degrees is not None:
            total = 0.5 * (fit - outputs * count) - noise_variance * trace
            return value, _by_degrees(degrees, parameters, total), trace
        # The jitter is relative to the mean of the diagonal, which the variances move.
        weights[np.diag_indices(count)] += factor.report.jitter * trace / count
        return value, gradient_of(self._graph)(parameters, self._images, weights), trace

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


def _by_degrees(
    degrees: Mapping[str, int], parameters: Mapping[str, LayerVariances], total: float
) -> dict[str, tuple[float, float]]:
    """The derivatives of sum_ij G_ij K_ij = total by the weights; the jitter's cancel."""
    return {
        layer: (degrees.get(layer, 0) * total / variances.weight, math.nan)
        for layer, variances in parameters.items()
    }


def targets_of(y: TargetsLike) -> Array:
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
