"""Time of a matrix, stated from a few images."""

import os
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

import keras2gp
from keras2gp.matrices import speed
from keras2gp.matrices.speed import Speed, speed_of, tried_images


@pytest.fixture
def clock(monkeypatch):
    """A matrix takes 3 seconds at first, and 2 then."""
    times = iter([0.0, 3.0, 3.0, 5.0])
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: next(times)))


def test_the_first_matrix_compiles_and_the_second_one_counts(clock):
    parts = [keras.Input((1,)), keras.Input((1,))]
    both = layers.Add()([layers.Dense(8)(part) for part in parts])
    kernel = keras2gp.convert(keras.Model(parts, layers.Dense(1)(both)))
    found = speed_of(kernel, [np.ones((5, 1), "float32")] * 2)
    assert (found.compilation, found.rate) == (1.0, 15 / 2.0)
    assert found.peak is None or found.peak > 2**20
    assert found.seconds(75) == 11.0


def test_the_rate_is_that_of_a_large_matrix(clock, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    inputs = keras.Input((28, 28, 1))
    parts = [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(1)]
    kernel = keras2gp.convert(keras.Sequential([inputs, *parts]))
    count, whole = 16, 2000
    found = speed_of(kernel, np.ones((count, 28, 28, 1), "float32"), whole=whole)
    shape = kernel.program.partition(count, None).shape
    assert shape.rows == 16  # one block, on one core
    assert shape.tile_columns == 16  # whose tiles take 256 pairs, of which 136 count
    shape = kernel.program.partition(whole, None).shape
    assert found.rate == pytest.approx(2 * 256 / 2.0, rel=0.2)
    assert shape.rows < whole / 2


def test_pairs_between_positions_count_each(clock):
    inputs = keras.Input((4, 1))
    kernel = keras2gp.convert(keras.Model(inputs, layers.Conv1D(2, 3)(inputs)))
    x = np.ones((3, 4, 1), "float32")
    assert speed_of(kernel, x, "all").rate == 6 * 7 / 2 / 2.0


def test_words_state_slow_and_fast_kernels():
    assert (
        Speed(10.0, 0.25).stated(20)
        == "about 1 min 30 s: 20 pairs, 0.25 a second, and 10.0 s to compile"
    )
    assert Speed(0.0, 123456.7).stated(10).endswith("123 457 a second, and 0.0 s to compile")


def test_a_deep_kernel_is_tried_on_fewer_images(monkeypatch):
    kernel = SimpleNamespace(graph=None)
    for entries, count in ((10**3, 128), (10**6, 64), (10**9, 16)):
        monkeypatch.setattr(
            speed, "footprint_of", lambda _graph, n=entries: SimpleNamespace(entries=n)
        )
        assert tried_images(kernel, 128) == count
        assert tried_images(kernel, 5) == 5
