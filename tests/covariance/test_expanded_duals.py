"""Duals that are truncated series: the choice of their degree, and their bounds."""

import numpy as np
import pytest
import tensorflow as tf
from oracles.activations import CASES

from keras2gp.covariance import program  # noqa: F401 (registers the duals)
from keras2gp.covariance.duals.hermite import LARGEST_DEGREE, TOLERANCE
from keras2gp.covariance.registry import dual_of
from keras2gp.errors import InputError
from keras2gp.graph.ops import Activation

NAMES = [name for name, case in CASES.items() if case.expanded]
SLOW = {"arctan", "celu", "elu", "selu", "softsign"}
"""Series that fall slowly: a corner in the function or a derivative, or a pole near the axis."""


def dual_named(name):
    return dual_of(Activation(name, tuple(CASES[name].constants.items())))


@pytest.mark.parametrize("name", NAMES)
def test_the_degree_is_the_least_that_reaches_the_tolerance(name):
    dual = dual_named(name)
    q = np.array([0.1, 0.5, 1.0, 2.0, 4.0])
    coarse = dual.with_degree(dual.least_degree(1e-3))
    assert coarse.degree < dual.degree or coarse.degree == LARGEST_DEGREE
    assert coarse.bounds(q).max() <= 1e-3
    less = dual.with_degree(coarse.degree - 1)
    assert coarse.degree == 1 or less.bounds(q).max() > 1e-3
    if dual.degree < LARGEST_DEGREE:
        assert dual.bounds(q).max() <= TOLERANCE
    else:
        assert name in SLOW


def test_nothing_is_claimed_beyond_the_table():
    dual = dual_named("tanh")
    q = tf.constant([1e11, 1e13], tf.float64)
    values = dual.covariance(0.5 * q, dual.prepare(q), dual.prepare(q)).numpy()
    assert np.isfinite(values[0])
    assert np.isnan(values[1])


@pytest.mark.parametrize("degree", [-1, 0.5, LARGEST_DEGREE + 1, "3", [2], np.nan])
def test_a_degree_is_a_count(degree):
    with pytest.raises(InputError, match="degree="):
        dual_of(Activation("tanh", (("degree", degree),)))
