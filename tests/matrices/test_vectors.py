"""Kernels of vectors: tiles within blocks, and the lower triangle, against the formula in numpy."""

import keras
import numpy as np
import pytest

import keras2gp
from keras2gp.matrices import api, compiled, plan
from keras2gp.matrices.blocks import BlockShape
from keras2gp.matrices.plan import block_shape, inner_tiles

CHANNELS = 20


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(compiled, "XLA", False)
    layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((CHANNELS,)), *layers])
    return keras2gp.convert(model, overrides={"*": (2.0, 0.5)}, dtype="float64")


def expected(x1, x2):
    def variances(x):
        return 0.5 + 2 * (x**2).mean(1)

    k = 0.5 + 2 * x1 @ x2.T / CHANNELS
    sizes = np.sqrt(np.outer(variances(x1), variances(x2)))
    rho = np.clip(k / sizes, -1, 1)
    relu = sizes * (np.sqrt(1 - rho**2) + (np.pi - np.arccos(rho)) * rho) / (2 * np.pi)
    return 0.5 + 2 * relu


@pytest.mark.parametrize("shape", [None, BlockShape(32, 32, 32, 32), BlockShape(32, 16, 32, 16)])
def test_matrices_are_those_of_the_formula(kernel, rng, monkeypatch, shape):
    monkeypatch.setattr(plan, "_VECTORS_TILE", 16)
    x, y = rng.normal(size=(70, CHANNELS)), rng.normal(size=(45, CHANNELS))
    symmetric = api.compute(kernel, x, shape=shape)
    np.testing.assert_allclose(symmetric, expected(x, x), rtol=1e-7)
    np.testing.assert_array_equal(symmetric, symmetric.T)
    rectangular = api.compute(kernel, x, y, shape=shape)
    np.testing.assert_allclose(rectangular, expected(x, y), rtol=1e-12)


def test_tiles_of_vectors_waste_little_on_the_diagonal(kernel):
    block = block_shape(kernel.graph, 5000, 5000)
    inner = inner_tiles(kernel.graph, block, "cpu")
    assert (block.rows, inner.rows) == (2048, 2048)
    assert (inner.tile_rows, inner.tile_columns) == (512, 512)
    assert inner_tiles(kernel.graph, block, "gpu") == block
