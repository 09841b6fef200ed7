"""Duals that are truncated series: the choice of their degree, and their bounds."""

import re

import numpy as np
import pytest
import tensorflow as tf
from oracles.activations import CASES

from keras2gp.covariance import (
    expansion,
    program,  # noqa: F401 (registers the duals)
)
from keras2gp.covariance.duals.expanded import Expanded
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


WAVES = {
    "sin of relu": lambda u: tf.sin(tf.nn.relu(u)),
    "sin of leaky_relu": lambda u: tf.sin(tf.nn.leaky_relu(u, 0.2)),
    "tanh of sin": lambda u: tf.tanh(tf.sin(u)),
    "exp of -relu": lambda u: tf.exp(-tf.nn.relu(u)),
    "u cos u": lambda u: u * tf.cos(u),
    "fine waves": lambda u: u + 0.01 * tf.sin(100 * u),
}
"""Functions whose series has no end at large variances, or whose waves no quadrature resolves."""


def by_quadrature(function, q, rho):
    """E[phi(u) phi(v)] and E[phi(u)^2] of variances q and correlation rho, on a fine grid."""
    z = np.linspace(-8, 8, 1201)
    weights = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
    u = np.sqrt(q) * z
    v = rho * u[:, None] + np.sqrt(q * (1 - rho**2)) * z
    left, right = (np.asarray(function(tf.constant(w, tf.float64))) for w in (u, v))
    return weights @ (left[:, None] * right) @ weights, weights @ left**2


@pytest.mark.parametrize("name", WAVES)
def test_a_series_is_given_as_far_as_it_is_known(name):
    """They gave covariances of -13 and 455 times the variances."""
    dual = Expanded(WAVES[name])
    assert dual.reach < 1e4
    q = np.concatenate([np.geomspace(1e-3, 1e12, 46), [0.3, dual.reach]])
    tensor = tf.constant(q, tf.float64)
    s = dual.prepare(tensor)
    values = {r: dual.covariance(r * tensor, s, s).numpy() for r in (-1.0, -0.5, 0.9, 1.0)}
    known = q <= dual.reach * (1 + 1e-9)
    for row in values.values():
        assert np.isnan(row[~known]).all()
        assert (np.abs(row[known]) <= values[1.0][known] * (1 + 1e-6)).all()
    bounds = dual.bounds(q[-2:])
    for rho in (-0.5, 0.9):
        for value, variance, bound in zip(values[rho][-2:], q[-2:], bounds, strict=True):
            expected, size = by_quadrature(WAVES[name], variance, rho)
            assert abs(value - expected) <= (1.1 * bound + 1e-4) * size  # 1e-4: the quadrature's


@pytest.mark.parametrize("name", NAMES)
def test_functions_of_keras_are_known_everywhere(name):
    dual = dual_named(name)
    assert dual.everywhere
    assert dual.bounds(np.geomspace(1e-3, 1e12, 31)).max() < 0.11


@pytest.mark.parametrize("degree", [-1, 0.5, LARGEST_DEGREE + 1, "3", [2], np.nan])
def test_a_degree_is_a_count(degree):
    with pytest.raises(InputError, match="degree="):
        dual_of(Activation("tanh", (("degree", degree),)))


FEW = {"silu", "tanh"}
_PAIR = r"([-.e\d]+) \(([-.e\d]+)\)"
BEYOND = re.compile(
    f"; at larger variances at most {_PAIR} up to 10, {_PAIR} up to 100, {_PAIR} at any"
)


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_a_report_states_the_errors_at_large_variances(name):
    """They are 2% for tanh at a variance of 100, of which it said nothing."""
    dual = dual_named(name)
    stated = BEYOND.search(expansion._note(name, dual, TOLERANCE))
    up_to_10, slope_10, up_to_100, slope_100, at_any, slope_any = map(float, stated.groups())
    assert up_to_10 <= up_to_100 <= at_any
    assert slope_10 <= slope_100 <= slope_any
    for largest, error, slope in (
        (10.0, up_to_10, slope_10),
        (100.0, up_to_100, slope_100),
        (1e12, at_any, slope_any),
    ):
        q = np.array([0.5 * largest, largest])
        assert dual.bounds(q).max() <= error
        assert dual.bounds(q, derivative=True).max() <= slope
    for q, error in ((10.0, up_to_10), (100.0, up_to_100)):
        for rho in (-0.95, 0.99):
            expected, second = by_quadrature(dual.phi, q, rho)
            s = dual.prepare(tf.constant([q], tf.float64))
            found = float(dual.covariance(tf.constant([rho * q], tf.float64), s, s)[0])
            assert abs(found - expected) <= error * second + 1e-6 * second, (q, rho)


def test_tanh_at_huge_variances_is_a_step_within_what_its_report_states():
    dual, q, rho = dual_named("tanh"), 1e10, np.array([-0.9, 0.5, 0.99, 0.9999])
    at_any = float(BEYOND.search(expansion._note("tanh", dual, TOLERANCE))[5])
    s = dual.prepare(tf.constant(q, tf.float64, rho.shape))
    found = dual.covariance(tf.constant(rho * q), s, s).numpy()
    assert (np.abs(found - 2 / np.pi * np.arcsin(rho)) <= at_any).all()
