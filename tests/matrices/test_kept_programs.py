"""Programs that one process compiles are used by the next, and never taken for others."""

import hmac
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

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
x = np.random.default_rng(0).normal(size=({count}, 4, 4, 1)).astype("float32")
kernel.matrix(x)
cache = programs()
folder = None if cache is None else str(cache.directory)
new = linked = None
if cache is not None and cache.directory.exists():
    names = [path.name for path in cache.directory.glob("*.pb")]
    linked = len(cache._known)
    new = len(set(names) - cache._known)
print(json.dumps(dict(values=kernel.matrix(x[:5]).tolist(), new=new, linked=linked, folder=folder,
                      flags=os.environ.get("TF_XLA_FLAGS"), xla=os.environ.get("XLA_FLAGS"))))
"""


def ran(folder, activation="relu", scale=2.0, before="", then="", count=5, **environment):
    settings = {"activation": activation, "scale": scale, "count": count}
    script = SCRIPT.format(**settings, before=before, then=then)
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
    found = json.loads(done.stdout.splitlines()[-1])
    return {**found, "damaged": "are damaged; they are removed" in done.stderr}


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


def test_the_blocks_of_larger_matrices_share_the_programs(tmp_path):
    folder = tmp_path / "programs"
    one = ran(folder, count=512)["new"]  # a single block, and one of five images
    assert one >= 2
    assert ran(folder, count=600)["new"] == 0  # blocks on, beside and at the end of the diagonal
    assert ran(folder, count=900)["new"] == 0


@pytest.fixture(scope="module")
def whole(filled, tmp_path_factory):
    """A copy of that folder, before other tests add to it."""
    folder = tmp_path_factory.mktemp("whole") / "programs"
    shutil.copytree(filled[0], folder)
    return folder


def truncated(content, _random):
    return content[: len(content) // 3]


def empty(_content, _random):
    return b""


def flipped(content, _random):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def noise(content, random):
    return random.bytes(len(content))


def short_noise(_content, random):
    return random.bytes(7)


@pytest.mark.parametrize(
    ("damage", "digest"),
    [
        *((damage, "old") for damage in (truncated, empty, noise, flipped)),
        *((damage, "without a key") for damage in (truncated, noise, flipped)),
        *((damage, "right") for damage in (truncated, empty, noise, short_noise)),
    ],
)
def test_damaged_programs_change_nothing(filled, whole, tmp_path, damage, digest):
    _, first = filled
    again = tmp_path / "programs"
    shutil.copytree(whole, again)
    (key,) = again.rglob("key")
    for number, path in enumerate(sorted(again.rglob("*.pb"))):
        name = path.name.partition(".")[2]
        content = damage(path.read_bytes(), np.random.default_rng(number))
        path.write_bytes(content)
        if digest != "old":
            secret = key.read_bytes() if digest == "right" else b""
            made = hmac.digest(secret, content + name.encode(), "sha256").hex()
            path.rename(path.with_name(f"{made}.{name}"))
    found = ran(again)
    assert found["values"] == first["values"]
    assert found["damaged"] == (digest == "right")
    if digest != "right":
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
