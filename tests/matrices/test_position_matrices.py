"""Matrices of kernels with positions: in memory, in stores, interrupted, and refused."""

import json

import keras
import numpy as np
import pytest

import keras2gp
from keras2gp._util import memory
from keras2gp.errors import InputError, NumericalError, StoreError
from keras2gp.matrices import plan
from keras2gp.matrices.api import compute, estimate
from keras2gp.matrices.blocks import BlockShape
from keras2gp.matrices.store import GramStore

SMALL = BlockShape(4, 4, 2, 4)
X = np.random.default_rng(0).normal(size=(10, 3, 2)).astype("float32")


@pytest.fixture(scope="module")
def kernel():
    model = keras.Sequential([
        keras.Input((3, 2)), keras.layers.Conv1D(4, 2, padding="same", activation="relu"),
        keras.layers.Conv1D(1, 1),
    ])  # fmt: skip
    return keras2gp.convert(model)


@pytest.mark.parametrize("positions", ["equal", "all"])
@pytest.mark.parametrize("second", [None, X[:6]])
def test_a_store_holds_the_matrix(kernel, positions, second, tmp_path):
    expected = compute(kernel, X, second, shape=SMALL, positions=positions)
    path = tmp_path / "K.zarr"
    store = compute(kernel, X, second, path, shape=SMALL, positions=positions)
    n2 = len(X if second is None else second)
    if positions == "equal":
        assert store.shape == expected.shape == (10, n2, 3)
    else:
        assert store.shape == (30, 3 * n2)
        assert expected.shape == (10, 3, n2, 3)
    np.testing.assert_array_equal(np.asarray(store).reshape(expected.shape), expected)
    whole = np.asarray(store)
    np.testing.assert_array_equal(store[1:9:3, -1], whole[1:9:3, -1])
    np.testing.assert_array_equal(store[::-1, 2:5], whole[::-1, 2:5])
    diagonal = np.moveaxis(np.diagonal(whole), -1, 0)
    np.testing.assert_array_equal(store.diagonal(), diagonal)
    if second is None:
        variances = np.asarray(kernel.diag(X)).reshape(diagonal.shape)
        np.testing.assert_array_equal(diagonal, variances)
    loose = kernel.matrix(X, second, positions=positions)
    np.testing.assert_allclose(expected, loose, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("positions", ["equal", "all"])
def test_a_store_is_gone_on_with(kernel, positions, tmp_path):
    path = tmp_path / "K.zarr"
    store = compute(kernel, X, None, path, shape=SMALL, positions=positions)
    whole = np.asarray(store)
    chunks = sorted(p for p in (path / "matrix" / "c").rglob("*") if p.is_file())
    chunks[1].unlink()
    chunks[2].write_bytes(chunks[3].read_bytes())  # another place's block
    assert len(store.missing()) == 2
    again = compute(kernel, X, None, path, shape=SMALL, positions=positions)
    np.testing.assert_array_equal(again, whole)
    other = "all" if positions == "equal" else "equal"
    with pytest.raises(StoreError, match="another matrix"):
        compute(kernel, X, None, path, shape=SMALL, positions=other)


def test_other_libraries_read_the_store(kernel, tmp_path):
    import zarr

    path = tmp_path / "K.zarr"
    store = compute(kernel, X, X, path, shape=SMALL)
    np.testing.assert_array_equal(zarr.open_group(path)["matrix"][:], store)


def test_executors_give_the_same(kernel):
    import tensorflow as tf

    expected = keras2gp.gram(kernel, X, progress=False, positions="all")
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    values = keras2gp.gram(kernel, X, progress=False, positions="all", executor=strategy)
    np.testing.assert_array_equal(values, expected)


def test_a_damaged_shape_is_refused(kernel, tmp_path):
    path = tmp_path / "K.zarr"
    compute(kernel, X, None, path, shape=SMALL)
    file = path / "zarr.json"
    data = json.loads(file.read_text())
    for shape in ([10, 10, 2**30], [10, 10, 0], [10, 10, -3], [10, 10, 3.0], [10, 10, *[3] * 40]):
        from keras2gp.matrices.fingerprint import digest

        changed = {**data["attributes"]["keras2gp"], "shape": shape}
        del changed["sha256"]
        changed["sha256"] = digest(changed)
        file.write_text(json.dumps({**data, "attributes": {"keras2gp": changed}}))
        with pytest.raises(StoreError, match="can read"):
            GramStore(path)


def test_the_estimate_counts_positions(kernel, monkeypatch):
    equal = estimate(kernel, 1000)
    assert equal.positions == (3,)
    assert "1000 x 1000 x 3 matrix" in str(equal)
    between = estimate(kernel, 1000, positions="all")
    assert (between.n1, between.n2, between.positions) == (3000, 3000, ())
    assert between.memory > 4 * 3000**2 > equal.memory > 4 * 3 * 1000**2
    monkeypatch.setattr(memory, "available_memory", lambda: 2**24)
    with pytest.raises(InputError, match="of memory"):
        kernel(np.zeros((1000, 3, 2), "float32"), positions="all")


def test_blocks_of_many_positions_stay_small(kernel):
    x = keras.Input((96, 2))
    wide = keras2gp.convert(keras.Model(x, keras.layers.Conv1D(1, 3, padding="same")(x)))
    for positions in ("equal", "all"):
        program = wide.program_of(positions)
        shape = plan.Partition.of(program.graph, 5000).shape
        entries = shape.rows * shape.columns * (96 if positions == "equal" else 1)
        assert entries <= 2**24
        assert shape.rows % shape.tile_rows == shape.columns % shape.tile_columns == 0


def test_a_block_larger_than_a_store_holds_is_refused(tmp_path):
    x = keras.Input((100, 100, 1))
    kernel = keras2gp.convert(keras.Model(x, keras.layers.Conv2D(1, 1)(x)))
    with pytest.raises(StoreError, match=r"kernel\.at"):
        keras2gp.gram(
            kernel, np.zeros((1, 100, 100, 1)), out=tmp_path / "K", progress=False, positions="all"
        )


@pytest.mark.parametrize("positions", ["equal", "all"])
def test_values_that_the_dtype_does_not_hold_are_refused(kernel, positions):
    x = X.copy()
    x[4, 2] = 1e25
    with pytest.raises(NumericalError, match="variance of image 4 is inf"):
        kernel(x, positions=positions)
    with pytest.raises(NumericalError, match="variance of image 4 is inf"):
        kernel.diag(x, positions=positions)
    x[4, 1:] = X[4, 1:] * 1e-25  # two of three positions
    with pytest.raises(NumericalError, match="is not 0"):
        kernel(x, positions=positions)


def test_a_product_of_equal_positions_is_refused(kernel, tmp_path):
    store = compute(kernel, X, None, tmp_path / "K.zarr", shape=SMALL)
    with pytest.raises(InputError, match="equal positions"):
        keras2gp.ClusterProduct(store)


def test_positions_that_are_0_are_not_refused(kernel):
    x = X.copy()
    x[4, 1:] = 0
    assert np.asarray(kernel(x, position=2))[4].tolist() == [0.0] * 10
    assert np.asarray(kernel.diag(x))[4].tolist()[1:] == [0.0, 0.0]
