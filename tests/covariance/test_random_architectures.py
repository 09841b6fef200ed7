"""Random architectures against the oracle of all positions; tools/fuzz.py draws many more."""

from contextlib import suppress

import numpy as np
import pytest
from keras import layers, ops
from oracles.architectures import (
    WEIGHTS,
    architecture,
    difference,
    drawn_inputs,
    ending_dense,
    promised,
)
from oracles.full_covariance import UnknownError, full_kernel

import keras2gp
from keras2gp.errors import InputError

SEEDS = range(16)


@pytest.mark.parametrize("seed", SEEDS)
def test_agrees_with_all_positions(seed):
    """To 1e-9 of the root of the two variances; a model that is refused says why."""
    rng = np.random.default_rng(seed)
    model = architecture(rng)
    x = drawn_inputs(model, rng, 4)
    report = keras2gp.inspect(model)
    if not report.exact:
        assert all(obstacle.why and obstacle.hint for obstacle in report.obstacles)
        return
    kernel = keras2gp.convert(model, dtype="float64")
    with suppress(UnknownError):
        assert difference(model, np.asarray(kernel(x)), x) < 1e-9


MAPS = range(100, 106)


@pytest.mark.parametrize("seed", MAPS)
def test_maps_agree_between_all_positions(seed):
    rng = np.random.default_rng(seed)
    model = architecture(rng, maps=True)
    x = drawn_inputs(model, rng, 2)
    if keras2gp.inspect(model).exact:
        kernel = keras2gp.convert(model, dtype="float64")
        try:
            matrix = kernel.matrix(x, positions="all")
        except InputError as error:
            if "no covariance between different positions" not in str(error):
                raise
            return
        with suppress(UnknownError):
            assert difference(model, matrix, x) < 1e-9


@pytest.mark.parametrize(("dtype", "size", "error"), [("float32", 8, 2e-5), ("float64", 30, 1e-9)])
def test_bright_borders_of_waves(dtype, size, error):
    """One step beyond the border the window's covariance is larger than the variances at it."""

    def waves(x):
        h = layers.Conv1D(4, 5, padding="same", **WEIGHTS)(x)
        return layers.AveragePooling1D(2)(ops.sin(h))

    model = ending_dense((6, 1), waves)
    x = np.array([[0.1, 0.0, 0.2, 1.0, 1.0, 1.0], [0.0, 0.3, 0.1, 1.0, 0.9, 1.0]])[..., None]
    kernel = keras2gp.convert(model, dtype=dtype)
    assert difference(model, np.asarray(kernel(size * x), dtype="float64"), size * x) < error


@pytest.mark.parametrize("join", [layers.Add, layers.Subtract])
def test_constants_beside_groups_that_do_not_line_up(join):
    """Each stretch of channels has a mean, and constants, of its own."""

    def joined(x):
        first = layers.ReLU()(layers.Dense(3, **WEIGHTS)(x))
        second = layers.Dense(2, **WEIGHTS)(x)
        ends = layers.Concatenate()([first, second]), layers.Concatenate()([second, first])
        return ops.add(join()(ends), np.array([[1.0, 2.0, 3.0, -1.0, 0.5]], "float32"))

    model = ending_dense((4,), joined)
    x = np.random.default_rng(0).normal(size=(3, 4))
    kernel = keras2gp.convert(model, dtype="float64")
    assert difference(model, np.asarray(kernel(x)), x) < 1e-12


def test_most_architectures_are_converted():
    models = (architecture(np.random.default_rng(seed)) for seed in SEEDS)
    assert sum(keras2gp.inspect(model).exact for model in models) > len(SEEDS) / 2


def test_errors_that_a_report_states_are_allowed_and_no_others():
    exact, expanded, integrated = (
        ending_dense((3,), layers.Dense(4, activation=name, **WEIGHTS))
        for name in ("relu", "softplus", "hard_tanh")
    )
    report = keras2gp.inspect(expanded)
    stated = float(report.notes[-1].split("relative error at most ")[1].split(" ")[0])
    assert promised(keras2gp.inspect(exact), "float64") == 1e-9
    assert promised(keras2gp.inspect(exact), "float32") == 2e-5
    assert promised(report, "float64") == 1e-9 + stated
    assert promised(report, "float32") == 2e-5 + stated
    assert promised(keras2gp.inspect(integrated), "float64") == 2e-9
    assert promised(keras2gp.inspect(integrated), "float32") == 2e-5 + 1e-5
    x = drawn_inputs(exact, np.random.default_rng(1), 3)
    matrix = full_kernel(exact, x, x)
    error = np.eye(3) * matrix.diagonal()
    assert 1e-9 < difference(exact, matrix + stated * error, x) < promised(report, "float64")
    assert difference(exact, matrix + 2 * stated * error, x) > promised(report, "float64")
