"""Programs that one process compiles are used by the next, and never taken for others."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from keras2gp._util.program_cache import _checksum

SCRIPT = """
import json, os, sys
{before}
import keras2gp, numpy as np
from keras2gp._util.xla_cache import programs
import keras
{then}
layers = keras.layers
weight = keras.initializers.VarianceScaling({scale})
model = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(2, 3, kernel_initializer=weight),
                          layers.Activation({activation!r}), layers.Flatten(), layers.Dense(1)])
kernel = keras2gp.convert(model)
x = np.random.default_rng(0).normal(size=(5, 4, 4, 1)).astype("float32")
kernel.matrix(x)
cache = programs()
folder = None if cache is None else str(cache.directory)
new = linked = None
if cache is not None and cache.directory.exists():
    names = [path.name for path in cache.directory.glob("*.pb")]
    linked = len(cache._known)
    new = len(set(names) - cache._known)
print(json.dumps(dict(values=kernel.matrix(x).tolist(), new=new, linked=linked, folder=folder,
                      flags=os.environ.get("TF_XLA_FLAGS"), xla=os.environ.get("XLA_FLAGS"))))
"""


def ran(folder, activation="relu", scale=2.0, before="", then="", **environment):
    script = SCRIPT.format(activation=activation, scale=scale, before=before, then=then)
    variables = {**os.environ, "KERAS2GP_CACHE": str(folder), **environment}
    for name in [name for name, value in variables.items() if value is None]:
        del variables[name]
    done = subprocess.run(  # noqa: S603 (this interpreter, the text above)
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        env=variables,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder that a process has filled, and what it computed."""
    folder = tmp_path_factory.mktemp("kept") / "programs"
    return folder, ran(folder)


def test_the_second_process_compiles_nothing(filled):
    folder, first = filled
    assert first["new"] >= 2
    assert first["linked"] == 0
    assert (first["flags"], first["xla"]) == (None, None)
    assert len(list(folder.rglob("*.pb"))) == first["new"]
    assert not list(folder.rglob("run-*"))
    second = ran(folder)
    assert second["values"] == first["values"]
    assert (second["new"], second["linked"]) == (0, first["new"])


@pytest.mark.parametrize("other", [{"activation": "tanh"}, {"activation": "gelu"}])
def test_another_model_compiles_its_own(filled, other):
    folder, first = filled
    found = ran(folder, **other)
    alone = ran("off", **other)
    assert found["values"] != first["values"]
    assert found["values"] == alone["values"]
    assert found["new"] > 0


def test_other_variances_share_the_program(filled):
    folder, first = filled
    found = ran(folder, scale=1.0)
    assert found["new"] == 0
    np.testing.assert_allclose(found["values"], np.array(first["values"]) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("damage", "checksum"),
    [
        *((damage, "old") for damage in ("truncated", "empty", "garbage", "flipped")),
        *((damage, "new") for damage in ("truncated", "empty", "flipped")),
    ],
)
def test_damaged_programs_change_nothing(filled, tmp_path, damage, checksum):
    _, first = filled
    again = tmp_path / "programs"
    assert ran(again)["values"] == first["values"]
    for path in again.rglob("*.pb"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes({
            "truncated": bytes(content[: len(content) // 3]),
            "empty": b"",
            "garbage": os.urandom(len(content)),
            "flipped": bytes(content),
        }[damage])  # fmt: skip
        if checksum == "new":
            name = path.name.partition(".")[2]
            path.rename(path.with_name(f"{_checksum(path, name)}.{name}"))
    found = ran(again)
    assert found["values"] == first["values"]
    if checksum == "old":
        assert found["linked"] == 0
        assert found["new"] == first["new"]


@pytest.mark.parametrize(
    "when",
    [
        {"before": "import tensorflow, keras"},
        {"before": "import keras"},
        {"then": "keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])"},
    ],
    ids=["tensorflow-first", "keras-first", "models-before-kernels"],
)
def test_the_order_of_imports(filled, when):
    folder, first = filled
    found = ran(folder, **when)
    assert found["new"] == 0
    assert found["linked"] >= first["new"]  # those of other tests too
    assert found["values"] == first["values"]
    assert found["flags"] is None


def test_after_the_first_operation_it_is_too_late(filled):
    folder, first = filled
    found = ran(folder, before="import tensorflow as tf; tf.zeros([2]) + 1")
    assert found["values"] == first["values"]
    assert found["new"] is None
    assert not list(folder.rglob("run-*"))


def test_what_the_user_states_stays(filled, tmp_path):
    folder, _ = filled
    own = f"--tf_xla_persistent_cache_directory={tmp_path}"
    found = ran(folder, TF_XLA_FLAGS=own)
    assert (found["folder"], found["flags"]) == (None, own)
    assert list(tmp_path.glob("*.pb"))
    found = ran(folder, TF_XLA_FLAGS="--tf_xla_min_cluster_size=3")
    assert found["folder"] is not None
    assert found["flags"] == "--tf_xla_min_cluster_size=3"
    assert ran(folder, KERAS2GP_CACHE="off")["folder"] is None


def test_options_that_change_after_the_import(filled):
    """What is compiled with them is not handed on to processes without them."""
    folder, _ = filled
    kept = sorted(folder.rglob("*.pb"))
    changed = "os.environ['XLA_FLAGS'] = '--xla_cpu_enable_fast_math=true'"
    found = ran(folder, activation="sigmoid", then=changed)
    assert found["folder"] is None
    assert sorted(folder.rglob("*.pb")) == kept
