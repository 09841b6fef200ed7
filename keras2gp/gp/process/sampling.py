"""Draws from a posterior: of latent values at all inputs jointly, and of class labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from keras2gp._util.arrays import Array, Indices, Matrix, Vector
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, NumericalError

__all__ = ["draw_classes", "draw_jointly", "random_generator"]


def random_generator(random_state: Any) -> np.random.RandomState:
    """The generator of a setting `random_state`; InputError for anything else."""
    try:
        generator: np.random.RandomState = check_random_state(random_state)
    except (TypeError, ValueError) as error:
        raise InputError(f"random_state is {received_text(random_state)}: {error}") from error
    return generator


def draw_jointly(
    mean: Matrix,
    covariance: Matrix,
    count: int,
    bound: Vector,
    random: np.random.RandomState,
) -> Array:
    """Draws from Gaussians that share a covariance over inputs, [M, C, count].

    Math: mean_c + V S^(1/2) z, with V S V^T the covariance and z standard normal

    Eigenvalues below zero that rounding explains are set to zero: no jitter is needed.

    Args:
        mean: posterior means.
        covariance: posterior covariance.
        count: number of draws.
        bound: the largest rounding error of each variance.
        random: the generator.

    Shapes:
        mean [M, C], covariance [M, M], bound [M].

    Raises:
        NumericalError: an eigenvalue lies further below zero.
    """
    values, vectors = np.linalg.eigh(covariance)
    least = -len(mean) * float(bound.max())
    if values[0] < least:
        raise NumericalError(
            f"the posterior covariance has the eigenvalue {values[0]:.3g}, below zero by more "
            f"than rounding explains ({-least:.3g}): the kernel is no covariance, or its "
            "entries are less precise than their type. Try: a noise_variance, or "
            'dtype="float64" in the kernel\'s convert or load'
        )
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = random.standard_normal((len(mean), mean.shape[1] * count))
    draws: Array = (root @ normal).reshape(*mean.shape, count)
    draws += mean[:, :, None]
    return draws


def draw_classes(scores: Array, random: np.random.RandomState) -> Indices:
    """Columns drawn from softmax(scores) over classes, [M, count], for scores [M, C, count].

    Math: argmax over c of scores_c + g_c, g standard Gumbel
    """
    columns: Indices = (scores + random.gumbel(size=scores.shape)).argmax(axis=1)
    return columns
