import json
import sys
import time

import numpy as np
import pytest
from gram_kernels import SMALL, images, kernel
from terminals import Stream

import keras2gp
from keras2gp._util import files, memory, progress, progress_bar
from keras2gp.errors import InputError, NumericalError, StoreError
from keras2gp.matrices import api, estimate, local, work
from keras2gp.matrices.blocks import Block, BlockShape
from keras2gp.matrices.executors import Threads
from keras2gp.matrices.plan import Partition
from keras2gp.matrices.store import GramStore
from keras2gp.matrices.work import finish


def test_an_array_in_memory_as_the_kernel_gives():
    k, x1, x2 = kernel(), images(30), images(20, seed=1)
    np.testing.assert_array_equal(keras2gp.gram(k, x1), k.matrix(x1))
    np.testing.assert_array_equal(keras2gp.gram(k, x1, x2), k.matrix(x1, x2))


def test_a_store_where_it_is_asked_for(tmp_path):
    store = keras2gp.gram(kernel(), images(30), out=tmp_path / "K.zarr")
    assert isinstance(store, GramStore)
    np.testing.assert_array_equal(store, kernel().matrix(images(30)))


def test_a_store_where_memory_is_short(tmp_path, monkeypatch):
    k, x = kernel(), images(30)
    needed = estimate.estimate_of(k.program, Partition.of(k.graph, 30)).memory
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "available_memory", lambda: needed - 1)
    with pytest.warns(UserWarning, match=r"memory.*available.*stored in .*gram-.*out=PATH"):
        store = keras2gp.gram(k, x)
    assert store.path.name.startswith("gram-")
    np.testing.assert_array_equal(store, k.matrix(x))
    with pytest.warns(UserWarning, match="stored in"):
        assert keras2gp.gram(k, x).path == store.path


def test_what_cannot_fit_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(work.Work, "compute", lambda *_: pytest.fail("it began"))
    path = tmp_path / "K.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(memory, "available_memory", lambda: 1000)
        with pytest.raises(StoreError, match=r"memory, and 1000 bytes is available"):
            keras2gp.gram(kernel(), images(30), out=path)
    usage = files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StoreError, match=r"more on the disk of .*K\.zarr, and 1000 bytes is free"):
        keras2gp.gram(kernel(), images(30), out=path)
    assert not path.exists()


def test_estimate(tmp_path, monkeypatch):
    usage = files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage._replace(free=10**13))
    k = kernel()
    small = api.estimate(k, 100)
    assert (small.pairs, small.symmetric, small.fits, small.disk) == (5050, True, True, 0)
    large = api.estimate(k, 5_000_000, out=tmp_path / "K.zarr")
    assert not large.fits
    assert large.fits_memory
    assert large.pairs == 5_000_000 * 5_000_001 // 2
    assert large.disk > 0.5 * 4 * 5_000_000**2
    assert not api.estimate(k, 5_000_000, 5_000_000).fits_memory
    data = json.loads(json.dumps(large.to_dict()))
    assert data["fits"] is False
    assert data["blocks"] == large.blocks
    assert "pairs" in str(large)
    assert "free" in str(large)
    for sizes in ((0,), (3, 0)):
        with pytest.raises(InputError, match="whole number, 1 or more"):
            api.estimate(k, *sizes)


def test_what_is_there_needs_no_more_room(tmp_path):
    k = kernel()
    partition = Partition(70, 70, True, SMALL)
    empty = estimate.estimate_of(k.program, partition, tmp_path / "K.zarr")
    api.compute(k, images(70), out=tmp_path / "K.zarr", shape=SMALL)
    full = estimate.estimate_of(k.program, partition, tmp_path / "K.zarr")
    assert full.disk < empty.disk / 10


@pytest.mark.parametrize("out", [None, "K.zarr"])
@pytest.mark.parametrize("x2", [None, images(20, seed=1)])
def test_progress_is_told_of_every_pair(out, x2, tmp_path):
    calls = []
    options = {"progress": lambda *call: calls.append(call), "shape": SMALL}
    out = out and tmp_path / out
    api.compute(kernel(), images(40), x2, out, **options)
    total = 820 if x2 is None else 800
    assert calls[0] == (0, total)
    assert calls[-1] == (total, total)
    assert calls == sorted(calls)
    if out:
        calls.clear()
        api.compute(kernel(), images(40), x2, out, **options)
        assert calls == [(total, total)]


def test_an_interruption_drops_what_waits(tmp_path):
    def interrupt(done, total):
        if done > total / 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.compute(kernel(), images(99), None, tmp_path / "K", progress=interrupt, shape=SMALL)
    assert 5 < len(GramStore.open(tmp_path / "K").missing()) < 28


def test_the_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Stream())
    monkeypatch.setattr(progress_bar, "_PATIENCE", 0.0)
    pairs = [block.pairs for block in Partition(64, 64, True, SMALL).blocks()]
    with progress.counted(True, "kernel matrix", pairs, pairs[:2]) as finished:
        for size in pairs[2:]:
            time.sleep(0.15)
            finished(size)
    shown = sys.stderr.getvalue()
    assert "/10 blocks" in shown
    assert "pairs/s" in shown
    assert "left" in shown


def test_no_bar_for_what_is_quick(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Stream())
    keras2gp.gram(kernel(), images(30))
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize("options", [{"executor": "cloud"}, {"executor": 3}, {"progress": "yes"}])
def test_options_that_make_no_sense(options):
    with pytest.raises(InputError, match=next(iter(options))):
        keras2gp.gram(kernel(), images(3), **options)


def test_data_that_do_not_fit():
    with pytest.raises(InputError, match="x1"):
        keras2gp.gram(kernel(), np.ones((3, 4)))
    with pytest.raises(InputError, match="x2"):
        keras2gp.gram(kernel(), images(3), [[np.nan] * 5])


def test_overflow_names_the_entry():
    with pytest.raises(NumericalError, match=r"image \d+ .*grow beyond float32.*float64"):
        keras2gp.gram(kernel(weight=1e30), images(40))


class Backwards:
    """An executor that takes blocks in another order."""

    def run(self, work, wanted, sink):
        for block in reversed(wanted):
            finish(work, block, sink)
            yield block


@pytest.mark.parametrize("choice", ["auto", "threads", Threads(1), Threads(5), Backwards()])
def test_executors_give_the_same_bits(choice, tmp_path):
    k, x = kernel(), images(90)
    expected = api.compute(k, x, shape=SMALL, executor=Threads(2))
    np.testing.assert_array_equal(api.compute(k, x, shape=SMALL, executor=choice), expected)
    store = api.compute(k, x, None, tmp_path / "K", shape=SMALL, executor=choice)
    np.testing.assert_array_equal(store, expected)


def test_a_fault_in_one_block_is_raised(monkeypatch):
    compute = work.Work.compute

    def faulty(self, block, into):
        if block.row == 16:
            raise RuntimeError("a fault")
        return compute(self, block, into)

    monkeypatch.setattr(work.Work, "compute", faulty)
    with pytest.raises(RuntimeError, match="a fault"):
        api.compute(kernel(), images(90), shape=SMALL)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 70])
@pytest.mark.parametrize("sides", [(16, 16), (16, 32), (32, 16), (48, 32)])
def test_pairs_of_blocks_add_up(size, sides):
    shape = BlockShape(*sides, *sides)
    partition = Partition(size, size, True, shape)
    cut = partition.blocks()
    assert sum(block.pairs for block in cut) == size * (size + 1) // 2
    assert len(cut) == partition.count
    assert [partition.block(*partition.place(block)) for block in cut] == cut
    partition = Partition(size, 21, False, shape)
    cut = partition.blocks()
    assert len(cut) == partition.count
    assert sum(block.pairs for block in cut) == size * 21
    assert Block(0, 0, 3, 4).pairs == 12


def test_matrix_of_is_the_same_path():
    k, x = kernel(), images(20)
    np.testing.assert_array_equal(
        local.matrix_of(k.program, k.parameters, k.images(x), None), keras2gp.gram(k, x)
    )


def test_kernels_compare_memory_before_they_take_it(monkeypatch):
    k, x = kernel(), images(3000)
    monkeypatch.setattr(work.Work, "compute", lambda *_: pytest.fail("it began"))
    monkeypatch.setattr(memory, "available_memory", lambda: 2**26)
    with pytest.raises(InputError, match=r"3000 x 3000 images.*of memory and 64\.0 MiB.*out="):
        k(x)
    monkeypatch.setattr(memory, "available_memory", lambda: 2**25)  # not even for one block
    with pytest.raises(InputError, match=r"memory and 32\.0 MiB.*fewer images at a time$"):
        k(x)
    many = np.broadcast_to(images(1), (300_000, 5))
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"300000 x 300000 images.*335\.\d GiB of memory"):
        k(many)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_values_that_are_not_finite_name_their_place_and_remedy(value):
    values = np.ones((2, 3), np.float32)
    work.require_finite(values)
    values[1, 2] = value
    with pytest.raises(NumericalError, match=r"entry \(11, 22\).*dtype='float64', or smaller"):
        work.require_finite(values, 10, 20)
    with pytest.raises(NumericalError) as error:
        work.require_finite(values.astype(float))
    assert "dtype=" not in str(error.value)
