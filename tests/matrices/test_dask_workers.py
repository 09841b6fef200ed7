"""Dask workers, some of which are killed."""

import gc
import os
import signal
import threading

import numpy as np
import pytest
from gram_kernels import SMALL, bytes_of, images, kernel, stored

from keras2gp._util import memory
from keras2gp.errors import InputError, NumericalError, StoreError
from keras2gp.matrices.api import compute
from keras2gp.matrices.blocks import Block
from keras2gp.matrices.work import Work

distributed = pytest.importorskip("distributed")

from keras2gp.matrices import dask_workers  # noqa: E402 (needs the extra)

COUNT = 150


@pytest.fixture(autouse=True)
def clients_are_gone():
    """Collect clients that could not connect: one that goes while another starts blocks both."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def cluster():
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=4, **options) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def address(cluster):
    return cluster.scheduler_address


def processes(address):
    with distributed.Client(address) as client:
        return list(client.run(os.getpid).values())


@pytest.mark.slow
def test_two_of_four_workers_are_killed(address, tmp_path):
    alive, victims = [], processes(address)[:2]

    def kill(done, total):
        if 0 < done < total and victims:
            os.kill(victims.pop(), signal.SIGKILL)
            alive.append(done)

    store = stored(tmp_path / "K", images(COUNT), executor=address, progress=kill)
    assert len(alive) == 2
    assert store.complete
    stored(tmp_path / "alone", images(COUNT))
    assert bytes_of(tmp_path / "K") == bytes_of(tmp_path / "alone")


def test_in_memory(address):
    x1, x2 = images(40), images(30, seed=1)
    options = {"shape": SMALL, "executor": address}
    expected = compute(kernel(), x1, x2, shape=SMALL)
    np.testing.assert_array_equal(compute(kernel(), x1, x2, **options), expected)


def test_workers_compute_the_kind_of_kernel_that_is_asked_for(address):
    x, tangent = images(20), kernel(kind="ntk")
    found = compute(tangent, x, shape=SMALL, executor=address)
    np.testing.assert_array_equal(found, compute(tangent, x, shape=SMALL))
    assert not np.allclose(found, compute(kernel(), x, shape=SMALL))


def test_faults_come_back_as_they_are(address, tmp_path, monkeypatch):
    with pytest.raises(NumericalError, match="float64"):
        stored(tmp_path / "K", images(40), images(20), kernel(weight=1e30), executor=address)
    monkeypatch.setattr("keras2gp.matrices.dask_workers.VERSION", "9.9")
    with pytest.raises(StoreError, match=r"version.*all machines"):
        compute(kernel(), images(9), executor=address)


def test_a_wrong_address(monkeypatch):
    made = []

    class Impatient(distributed.Client):
        def __init__(self, address, timeout):
            made.append(self)
            super().__init__(address, timeout=1)

    monkeypatch.setattr(distributed, "Client", Impatient)
    threads = threading.active_count()
    for address in ("tcp://127.0.0.1:9", "foo://x"):
        with pytest.raises(InputError, match="no Dask scheduler"):
            compute(kernel(), images(9), executor=address)
    # What is left to the collection of garbage can lock up a client that starts meanwhile.
    assert [client.status for client in made] == ["closed", "closed"]
    assert not any(client._loop_runner.is_started() for client in made)
    assert threading.active_count() <= threads + 1


@pytest.mark.parametrize(("address", "words"), [
    ("tls://127.0.0.1:9", "certificates are not known.*TLS"), ("foo://x", "unknown address scheme"),
    ("tcp://host:port", "no Dask scheduler there"), ("tcp://", "port"),
    ("ucx://127.0.0.1:9", "UCX"), ("inproc://x", "no Dask scheduler there"),
])  # fmt: skip
def test_addresses_that_cannot_be_connected(address, words):
    with pytest.raises(InputError, match=words):
        compute(kernel(), images(9), executor=address)


def test_workers_on_this_machine_have_room_for_the_data(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2**26)
    work = Work.of(kernel().program, {}, [np.broadcast_to(images(1), (2**22, 5))], None, SMALL)
    with pytest.raises(InputError, match=r"copies of the data.*64\.0 MiB is available"):
        next(dask_workers.DaskWorkers().run(work, [Block(0, 0, 1, 1)] * 4, None))


def test_a_scheduler_without_workers():
    options = {"n_workers": 0, "processes": False, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(**options) as cluster,
        pytest.raises(InputError, match="no workers"),
    ):
        compute(kernel(), images(9), executor=cluster.scheduler_address)


def test_without_dask(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "keras2gp.matrices.dask_workers", None)
    with pytest.raises(InputError, match=r"keras2gp\[cluster\]"):
        compute(kernel(), images(9), executor="dask")
