"""512-bit vectors are asked for without a trace in the environment, and change no result."""

import os
import subprocess
import sys

import numpy as np
import pytest

from keras2gp.matrices import xla as vectors

SCRIPT = """
import sys
import numpy as np, tensorflow as tf
from keras2gp.matrices import xla as vectors
asked = vectors.set_up_xla().wide
x = tf.constant(np.random.default_rng(0).random((64, 1000)), tf.float32)
f = tf.function(lambda x: tf.reduce_sum(tf.sqrt(x) * x, 1), jit_compile=True)
np.save(sys.argv[1], f(x).numpy())
print(int(asked))
"""


@pytest.fixture
def fresh(monkeypatch):
    """As at the start of a process, on a CPU that has wide vectors."""
    monkeypatch.setattr(vectors, "cpu_facts", lambda: {"flags": f"fpu {vectors._SIGN}"})
    vectors.set_up_xla.cache_clear()
    yield monkeypatch
    vectors.set_up_xla.cache_clear()


@pytest.mark.parametrize("before", [None, "--xla_cpu_multi_thread_eigen=true"])
def test_the_environment_is_as_it_was(fresh, before):
    if before is None:
        fresh.delenv("XLA_FLAGS", raising=False)
    else:
        fresh.setenv("XLA_FLAGS", before)
    assert vectors.set_up_xla().wide
    assert os.environ.get("XLA_FLAGS") == before


def test_what_the_user_asks_for_stays(fresh):
    fresh.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=256")
    assert not vectors.set_up_xla().wide


def test_a_release_that_was_not_tried_is_not_asked(fresh):
    fresh.delenv("XLA_FLAGS", raising=False)
    fresh.setattr(vectors, "_TRIED", ("0.",))
    assert not vectors.set_up_xla().wide


def test_a_cpu_without_them_is_not_asked(fresh):
    fresh.delenv("XLA_FLAGS", raising=False)
    fresh.setattr(vectors, "cpu_facts", lambda: {"flags": "fpu"})
    assert not vectors.set_up_xla().wide


def test_results_agree(tmp_path):
    """With the narrow vectors that the user may ask for, and with what is chosen here."""
    found = []
    for name, flags in (("a", ""), ("b", "--xla_cpu_prefer_vector_width=128")):
        path = tmp_path / f"{name}.npy"
        environment = {**os.environ, "XLA_FLAGS": flags}
        command = [sys.executable, "-c", SCRIPT, str(path)]
        subprocess.run(command, check=True, env=environment, capture_output=True)  # noqa: S603
        found.append(np.load(path))
    np.testing.assert_allclose(*found, rtol=1e-6)
