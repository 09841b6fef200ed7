"""A posterior as tensors, for a tf.GradientTape that asks for its derivatives by the inputs."""

from __future__ import annotations

from collections.abc import Callable
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
        InputError: the solver solves no further systems; or, where a tape asks, the kernel's values
            do not come from TensorFlow.
    """
    tf = _tensorflow()
    if not hasattr(system, "solve"):
        raise InputError(
            "derivatives of the variance need the inverse of the kernel matrix, which this solver "
            'does not apply. Try: solver="cholesky"'
        )
    x = tf.nest.map_structure(_value, x)
    cross = _followed(lambda: kernel(x, basis[0]), x, "the kernel's values")
    prior = _followed(lambda: kernel.diag(x), x, "the values of kernel.diag", may_be_constant=True)
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


def _followed(
    computed: Callable[[], Any], x: InputsLike, name: str, *, may_be_constant: bool = False
) -> Tensor:
    """Values of a kernel at x in float64, whose derivatives a tape has, or is refused.

    A tape takes values that another library computed for constants, and answers None or zeros.

    Args:
        computed: computes the values.
        x: the inputs, whose tensors a tape may watch.
        name: of the values, for the message.
        may_be_constant: whether tensors that do not depend on x are right: k(x, x) may be.
    """
    tf = _tensorflow()
    tensors = [part for part in tf.nest.flatten(x) if tf.is_tensor(part) and part.dtype.is_floating]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(tensors)
        made = computed()
        values = tf.cast(made, tf.float64)

    def back(upstream: Tensor) -> list[Tensor]:
        found = tape.gradient(values, tensors, output_gradients=upstream)
        if all(part is None for part in found) and not (may_be_constant and tf.is_tensor(made)):
            raise InputError(
                f"derivatives by the inputs: TensorFlow does not see how {name} come from the "
                "inputs. Try: a kernel of keras2gp.convert, or one that computes with TensorFlow"
            )
        return [
            tf.zeros_like(tensor) if part is None else part
            for tensor, part in zip(tensors, found, strict=True)
        ]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def recorded(*_: Tensor) -> Any:
        return tf.identity(values), back

    return recorded(*tensors) if tensors else values


def _value(part: Any) -> Any:
    """The value of a variable, since kernels take tensors; anything else as it is."""
    tf = _tensorflow()
    return tf.convert_to_tensor(part) if isinstance(part, tf.Variable) else part


def _with_values(tensor: Tensor, values: Array) -> Tensor:
    """A tensor of these values, with the derivatives of another."""
    tf = _tensorflow()
    return tf.stop_gradient(tf.constant(values) - tensor) + tensor


def _tensorflow() -> Any:
    """TensorFlow, which derivatives alone take; numpy does for all else."""
    import tensorflow as tf  # noqa: PLC0415

    return tf
