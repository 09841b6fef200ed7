"""Deep networks whose maps fill the memory: parts, threads, and refusals that are true."""

import keras
import numpy as np
import pytest

import keras2gp
from keras2gp._util import memory
from keras2gp.errors import InputError, StoreError
from keras2gp.matrices import api, compiled, plan, room, work
from keras2gp.matrices.executors import Threads
from keras2gp.matrices.plan import block_shape, images_at_once, working_set
from keras2gp.matrices.room import footprint_of


def pooled(side=6):
    layers = [
        keras.Input((side, side, 2)),
        keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
        keras.layers.AveragePooling2D(2, name="halved"),
        keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(1),
    ]
    return keras.Sequential(layers)


def images(count, side=6, axes=2):
    shape = (count, *(side,) * axes, 2)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def series():
    layers = [
        keras.Input((6, 2)),
        keras.layers.Conv1D(4, 3, padding="same", activation="relu"),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(1),
    ]
    return keras.Sequential(layers)


@pytest.fixture
def without_xla(monkeypatch):
    monkeypatch.setattr(compiled, "XLA", False)


def changed(monkeypatch, name, value):
    monkeypatch.setattr(plan, name, value)


@pytest.mark.parametrize(
    ("model", "count"), [(series, 20), pytest.param(pooled, 40, marks=pytest.mark.slow)]
)
def test_statistics_in_parts_are_those_of_all_images(model, count, without_xla, monkeypatch):
    model = model()
    kernel, x = keras2gp.convert(model), images(count, axes=len(model.input_shape) - 2)
    whole = kernel.matrix(x, x[:3]), kernel.diag(x)
    changed(monkeypatch, "_IMAGES_KEPT", 16 * footprint_of(kernel.graph).kept)
    changed(monkeypatch, "_KEPT", 1)
    shape = block_shape(kernel.graph, 64, 64)
    assert images_at_once(kernel.graph, shape.columns, shape.tile_columns) == 16
    parts = kernel.matrix(x, x[:3]), kernel.diag(x)
    for one, another in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-6)


def test_all_images_at_once_where_little_is_kept():
    graph = keras2gp.convert(pooled()).graph
    assert images_at_once(graph, 128, 32) == 128
    assert images_at_once(graph, 48, 32) == 48


@pytest.mark.slow
def test_tiles_of_a_few_pairs_where_each_keeps_much(without_xla, monkeypatch):
    kernel, x = keras2gp.convert(pooled()), images(5)
    whole, kept = kernel.matrix(x), footprint_of(kernel.graph).kept
    for pairs, tile in ((31, (1, 16)), (9, (1, 8)), (1, (1, 1)), (0, (1, 1))):
        changed(monkeypatch, "_MOST_KEPT", pairs * kept)
        changed(monkeypatch, "_IMAGES_KEPT", kept)
        changed(monkeypatch, "_TILE_MAP", 1)
        changed(monkeypatch, "_KEPT", 1)
        shape = block_shape(kernel.graph, 5, 5)
        assert (shape.tile_rows, shape.tile_columns) == tile
        assert images_at_once(kernel.graph, shape.columns, shape.tile_columns) == tile[1]
        if pairs == 9:
            np.testing.assert_allclose(kernel.matrix(x), whole, rtol=1e-6)


def short_of_memory(monkeypatch, available):
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: available)
    monkeypatch.setattr(work.Work, "compute", lambda *_: pytest.fail("it began"))


@pytest.mark.parametrize("count", [1, 3, 100])
def test_one_block_that_does_not_fit_is_refused_with_its_figures(count, tmp_path, monkeypatch):
    kernel, x = keras2gp.convert(pooled(10)), images(count, 10)
    least = 4 * working_set(kernel.graph, block_shape(kernel.graph, 1, 1), 1)
    short_of_memory(monkeypatch, least - 1)
    reason = r"a block of 16 x 16 images, in tiles of .* keeps .* for .*halved.* \d+ offsets needs"
    remedy = r"Try: smaller images.*strides.*Flatten"
    for call in (kernel.matrix, kernel.diag):
        with pytest.raises(InputError, match=rf"{count}.*images.*: {reason}.*{remedy}"):
            call(x)
    monkeypatch.chdir(tmp_path)
    for out in (None, tmp_path / "K.zarr"):
        with pytest.raises(StoreError, match=rf"{reason}.*however few.*{remedy}"):
            keras2gp.gram(kernel, x, out=out)
    assert not list(tmp_path.iterdir())
    estimate = api.estimate(kernel, count)
    assert not estimate.fits
    assert (estimate.threads, estimate.block_memory) == (1, least)
    assert estimate.to_dict()["hint"] == estimate.hint


@pytest.mark.slow
def test_what_is_proposed_would_fit(monkeypatch):
    kernel = keras2gp.convert(pooled(160))
    short_of_memory(monkeypatch, 2**30)
    with pytest.raises(InputError, match="of 69 x 69 positions one would fit"):
        kernel.matrix(images(1, 160))
    for side in (69, 40, 20):
        smaller = keras2gp.convert(pooled(side)).graph
        assert 4 * working_set(smaller, block_shape(smaller, 1, 1), 1) <= 2**30


def test_fewer_threads_where_memory_holds_fewer_blocks(without_xla, monkeypatch):
    kernel, x = keras2gp.convert(series()), images(40, axes=1)
    partition = kernel.program.partition(40, None)
    each = 4 * working_set(kernel.graph, partition.shape, 1)
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    for blocks, threads in ((0.9, 1), (1.9, 1), (2.1, 2), (9, 4)):
        monkeypatch.setattr(memory, "available_memory", lambda n=blocks: int(n * each) + 100)
        assert room.room_of(kernel.program, partition.shape, 9, 100, 4).threads == threads
    monkeypatch.setattr(memory, "available_memory", lambda: int(1.5 * each) + 4 * 1600)
    estimate = api.estimate(kernel, 40)
    assert estimate.fits
    assert estimate.memory == each + 4 * 1600
    found = api.compute(kernel, x, executor=Threads(8))
    monkeypatch.undo()
    np.testing.assert_allclose(found, kernel.matrix(x), rtol=1e-6)


def test_both_kernels_take_twice_as_much():
    kernel = keras2gp.convert(pooled())
    shape = block_shape(kernel.graph, 40, 40)
    one, two = (kernel.program_of(get=get).working_set(shape, 2) for get in ("nngp", "both"))
    assert two == 2 * one
