"""A block for each replica, on logical CPU devices, which need a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from gram_kernels import images, kernel

import keras2gp
from keras2gp.errors import InputError
from keras2gp.matrices.executors import Mirrored

SCRIPT = Path(__file__).with_name("replicas.py")


def test_replicas_give_the_same_bits(tmp_path):
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(SCRIPT), str(tmp_path / "K.zarr")],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["equal"] == [True, True, True]
    assert [name[-5:] for name in result["seen"]] == ["CPU:0", "CPU:1", "CPU:2"]


def test_a_strategy_of_several_machines_is_refused():
    strategy = object.__new__(tf.distribute.MultiWorkerMirroredStrategy)
    with pytest.raises(InputError, match="several machines"):
        Mirrored(strategy)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU")
def test_gpus_where_there_are_none():
    with pytest.raises(InputError, match="no GPU"):
        keras2gp.gram(kernel(), images(3), executor="gpus")
