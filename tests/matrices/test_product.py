"""Products of a stored matrix on Dask workers, and a fit that uses nothing else."""

import os
import signal

import numpy as np
import pytest
from gram_kernels import FLAT, SMALL, WIDE, images, kernel, stored

from keras2gp._util import memory
from keras2gp.errors import InputError, StoreError
from keras2gp.gp import ConjugateGradients, GPRegressor
from keras2gp.matrices.product import ClusterProduct, _shares

distributed = pytest.importorskip("distributed")


COUNT = 100


@pytest.fixture(scope="module")
def address():
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=3, processes=False, **options) as cluster:
        yield cluster.scheduler_address


@pytest.mark.parametrize("shape", [SMALL, WIDE, FLAT])
def test_products_are_those_of_the_matrix(address, tmp_path, shape):
    store = stored(tmp_path / "K", images(COUNT), shape=shape)
    matrix = np.asarray(store).astype(np.float64)
    b = np.random.default_rng(0).standard_normal((COUNT, 3))
    wanted = [99, 0, 17, 17, 50, 31, 32]
    with ClusterProduct(tmp_path / "K", address) as product:
        found = product.product(b)
        np.testing.assert_allclose(found, matrix @ b, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(product.product(b), found)
        np.testing.assert_array_equal(product.columns(wanted), matrix[:, wanted])
        np.testing.assert_array_equal(product.corner(wanted), matrix[np.ix_(wanted, wanted)])
        np.testing.assert_array_equal(product.diagonal(), np.diagonal(matrix))
        assert (product.shape, product.dtype) == ((COUNT, COUNT), np.float32)


def test_a_fit_on_workers(address, tmp_path):
    x, y = images(COUNT), np.random.default_rng(1).standard_normal((COUNT, 2))
    store, test = stored(tmp_path / "K", x), images(7, seed=3)
    direct = GPRegressor(kernel(), 0.1, solver="cholesky").fit(x, y, gram=store)
    solver = ConjugateGradients(tolerance=1e-9, rank=20)
    with ClusterProduct(store, address) as product:
        ours = GPRegressor(kernel(), 0.1, solver=solver).fit(x, y, gram=product)
        assert GPRegressor(kernel(), 0.1).fit(x, y, gram=product).solver_report_.solver == "cg"
        for one, other in zip(
            ours.predict(test, return_std=True), direct.predict(test, return_std=True), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(ours.predict(test), direct.predict(test), rtol=1e-6, atol=1e-7)
    with pytest.raises(InputError, match="outside of its `with`"):
        ours.predict(test, return_std=True)


def test_a_damaged_block_is_named(address, tmp_path):
    stored(tmp_path / "K", images(COUNT))
    chunk = tmp_path / "K" / "matrix" / "c" / "2" / "4"
    content = bytearray(chunk.read_bytes())
    content[5] ^= 1
    chunk.write_bytes(bytes(content))
    with (
        ClusterProduct(tmp_path / "K", address) as product,
        pytest.raises(StoreError, match=r"block \[32:48, 64:80\] is missing or damaged"),
    ):
        product.product(np.ones((COUNT, 1)))
    for solver in ("cholesky", "cg"):
        with pytest.raises(StoreError, match=r"block \[32:48, 64:80\]"):
            GPRegressor(kernel(), 0.1, solver=solver).fit(
                images(COUNT), np.ones(COUNT), gram=stored_again(tmp_path / "K")
            )


def stored_again(path):
    from keras2gp.matrices.store import GramStore

    return GramStore(path)


def test_vectors_are_checked(address, tmp_path, monkeypatch):
    stored(tmp_path / "K", images(COUNT))
    with ClusterProduct(tmp_path / "K", address) as product:
        for b in (np.ones(COUNT), np.ones((COUNT - 1, 2)), np.full((COUNT, 1), np.nan)):
            with pytest.raises(InputError, match=r"b=an array.*expected an array \[100, C\]"):
                product.product(b)
        monkeypatch.setattr(memory, "available_memory", lambda: 2**24)
        with pytest.raises(InputError, match=r"a product with 10000 vectors needs 22\.9 MiB"):
            product.product(np.ones((COUNT, 10_000)))


def test_matrices_of_two_sets_are_refused(tmp_path):
    stored(tmp_path / "K", images(20), images(20, seed=1))
    with pytest.raises(InputError, match="two sets"):
        ClusterProduct(tmp_path / "K")
    with pytest.raises(InputError, match="two sets"):
        GPRegressor(kernel(), 0.1).fit(images(20), np.ones(20), gram=stored_again(tmp_path / "K"))


def test_shares_hold_every_block_once():
    for count in (1, 3, 12, 50):
        shares = _shares(list(range(12)), count)
        assert [block for share in shares for block in share] == list(range(12))
        assert len(shares) == min(count, 12)


@pytest.mark.slow
def test_a_worker_is_killed_between_and_in_products(tmp_path):
    store = stored(tmp_path / "K", images(COUNT))
    matrix = np.asarray(store).astype(np.float64)
    b = np.random.default_rng(0).standard_normal((COUNT, 3))
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with (
        distributed.LocalCluster(n_workers=3, **options) as cluster,
        ClusterProduct(store, cluster.scheduler_address) as product,
    ):
        np.testing.assert_allclose(product.product(b), matrix @ b, rtol=1e-12, atol=1e-12)
        with distributed.Client(cluster.scheduler_address) as client:
            victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        for _ in range(3):
            np.testing.assert_allclose(product.product(b), matrix @ b, rtol=1e-12, atol=1e-12)
