"""Random architectures against the oracle of all positions; tools/fuzz.py draws many more."""

from contextlib import suppress

import numpy as np
import pytest
from oracles.architectures import architecture, difference, drawn_inputs
from oracles.full_covariance import UnknownError

import keras2gp

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
        with suppress(UnknownError):
            assert difference(model, kernel.matrix(x, positions="all"), x) < 1e-9


def test_most_architectures_are_converted():
    models = (architecture(np.random.default_rng(seed)) for seed in SEEDS)
    assert sum(keras2gp.inspect(model).exact for model in models) > len(SEEDS) / 2
