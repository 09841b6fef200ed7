"""Processes that die, and processes that meet."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gram_kernels import SMALL, bytes_of, images, kernel, stored

from keras2gp.matrices.api import compute
from keras2gp.matrices.store import GramStore

SCRIPT = Path(__file__).with_name("filling.py")
COUNT = 150


def start(path, seconds=0.05):
    command = [sys.executable, str(SCRIPT), str(path), str(COUNT), str(seconds)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
    return subprocess.Popen(command, env=env, **pipes)  # noqa: S603


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "K.zarr"
    stored(path, images(COUNT))
    return bytes_of(path)


def test_killed_again_and_again(whole, tmp_path):
    path, counts = tmp_path / "K.zarr", []
    for lines in (3, 7):
        process = start(path)
        counts += [int(process.stdout.readline()) for _ in range(lines)]
        process.kill()
        process.communicate()
        assert not GramStore.open(path).complete
    assert counts[3] >= counts[2] > 0, "the second run began where the first was killed"
    store = stored(path, images(COUNT))
    assert bytes_of(path) == whole
    np.testing.assert_array_equal(store, compute(kernel(), images(COUNT), shape=SMALL))


def test_two_writers(whole, tmp_path):
    path = tmp_path / "K.zarr"
    writers = [start(path, seconds) for seconds in (0.01, 0.03)]
    for writer in writers:
        _, errors = writer.communicate(timeout=400)
        assert writer.returncode == 0, errors
    assert bytes_of(path) == whole


def test_many_that_make_the_same_store(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    k = kernel()
    with ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(stored, tmp_path / "K.zarr", images(20), None, k) for _ in range(6)]
        stores = [np.asarray(run.result()) for run in runs]
    for store in stores:
        np.testing.assert_array_equal(store, stores[0])
    assert [path.name for path in tmp_path.iterdir()] == ["K.zarr"]
