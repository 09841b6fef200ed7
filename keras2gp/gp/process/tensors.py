"""A posterior as tensors, for a tf.GradientTape that asks for its derivatives by the inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, ArrayLike, Images, InputsLike, Matrix, Tensor, Vector
from keras2gp.errors import InputError
from keras2gp.gp.arguments.kernel_function import KernelLike
from keras2gp.gp.probabilities.linear_map import LinearMap
from keras2gp.gp.solvers.system import LinearSystem

__all__ = ["class_probabilities", "mean_and_variance"]


def mean_and_variance(
    kernel: KernelLike,
    x: InputsLike,
    basis: tuple[Images | None, Matrix],
    system: LinearSystem,
    values: tuple[Matrix, Vector],
) -> tuple[Tensor, Tensor]:
    """Posterior mean and variance at x as tensors, whose derivatives by x a tape finds.

    Math: mean = k(x, basis) weights;  d variance = d k(x, x) - 2 (A^-1 k(basis, x))^T d k(basis, x)

    Args:
        kernel: a kernel whose values a tape can go back through.
        x: inputs, a tensor.
        basis: the inputs of the mean, and their weights [B, C].
        system: A.
        values: the posterior mean [M, C] and variance [M] at x.

    Raises:
        InputError: the solver solves no further systems.
    """
    tf = _tensorflow()
    if not hasattr(system, "solve"):
        raise InputError(
            "derivatives of the variance need the inverse of the kernel matrix, which this solver "
            'does not apply. Try: solver="cholesky"'
        )
    cross = tf.cast(kernel(x, basis[0]), tf.float64)
    prior = tf.cast(kernel.diag(x), tf.float64)
    solved = system.solve(np.asarray(cross).T).T
    mean = tf.matmul(cross, basis[1])
    variance = prior - 2.0 * tf.reduce_sum(cross * solved, axis=1)
    return _with_values(mean, values[0]), _with_values(variance, values[1])


def class_probabilities(
    mean: Tensor, linear: LinearMap | None, temperature: float | None, values: ArrayLike
) -> Tensor:
    """Probabilities of classes as tensors, with the derivatives of the softmax of their means.

    Args:
        mean: posterior means, [M, C].
        linear: from means to logits; None for the temperature.
        temperature: the divisor of the means.
        values: the probabilities, [M, C].
    """
    tf = _tensorflow()
    if linear is None:
        logits = mean / temperature
    else:
        logits = tf.matmul(mean, linear.matrix, transpose_b=True) + linear.offset
    return _with_values(tf.nn.softmax(logits), values)


def _with_values(tensor: Tensor, values: Array) -> Tensor:
    """A tensor of these values, with the derivatives of another."""
    tf = _tensorflow()
    return tf.stop_gradient(tf.constant(values) - tensor) + tensor


def _tensorflow() -> Any:
    """TensorFlow, which derivatives alone take; numpy does for all else."""
    import tensorflow as tf  # noqa: PLC0415

    return tf
