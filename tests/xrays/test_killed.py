"""An X-ray that is killed and goes on, as a process: every byte of its report is the same."""

import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from keras import layers

from keras2gp.xrays.files import FILES

PATIENCE = 240.0
MOMENTS = {
    "kernels/*.zarr": 1,  # the first matrix is begun
    "scores/*.json": 2,
    ".report.html.*": 1,  # the report is being written
}
"""Pattern of files, and how many are there when the process is killed."""


@pytest.fixture
def words(tmp_path):
    """The command without the directory."""
    x = np.random.default_rng(5).normal(size=(60, 2)).astype("float32")
    np.savez(tmp_path / "data.npz", x=x, y=(x[:, 0] * x[:, 1] > 0).astype(int))
    model = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(8, "relu", kernel_initializer="he_normal", name="hidden"),
            layers.Dense(2, name="out"),
        ]
    )
    model.save(tmp_path / "model.keras")
    words = [sys.executable, "-m", "keras2gp", "xray", str(tmp_path / "model.keras")]
    words += ["--data", str(tmp_path / "data.npz"), "--train", "40", "--test", "20"]
    return [*words, "--kinds", "activation", "--subsets", "4", "--signal-rows", "20", "--out"]


def killed_at(words, out, pattern, count):
    """Whether a process was killed as soon as so many files were there."""
    process = subprocess.Popen(  # noqa: S603 (our own command)
        [*words, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and len(list(out.glob(pattern))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_that_is_killed_at_every_stage_ends_in_the_same_bytes(words, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    subprocess.run([*words, str(whole)], check=True, capture_output=True)  # noqa: S603
    killed = [killed_at(words, out, *moment) for moment in MOMENTS.items()]
    assert sum(killed) >= 2, "the last moment is short, and may be missed"
    subprocess.run([*words, str(out)], check=True, capture_output=True)  # noqa: S603
    for name in FILES:
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    names = [sorted(str(p.relative_to(d)) for p in d.rglob("*")) for d in (whole, out)]
    assert names[0] == names[1], "nothing is left over"
