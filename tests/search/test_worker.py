"""Trials in processes of their own: the same trials, and what becomes of the processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from interruptible import hear_interrupts

from keras2gp.errors import StoreError, WorkerError
from keras2gp.search import worker as module
from keras2gp.search.attempts import Attempts, Split
from keras2gp.search.random_search import InProcessWarning, random_search
from keras2gp.search.spaces import Space, own_space
from keras2gp.search.trials import Trial
from keras2gp.search.worker import NotSentError, Worker

OWN = """\
import keras
import keras2gp

SPACE = {"depth": [1, 2, 3], "act": ["relu", "worked"]}


@keras.saving.register_keras_serializable("tests")
def worked(x):
    return keras.ops.relu(x)


@keras2gp.dual("worked", override=True)
class Worked(keras2gp.Hermite):
    def phi(self, u):
        return keras.ops.relu(u)


def build(settings):
    print("a line for nobody")
    if settings["depth"] == 3:
        raise ValueError("three layers")
    x = image = keras.Input((6,))
    activation = worked if settings["act"] == "worked" else "relu"
    for _ in range(settings["depth"]):
        x = keras.layers.Dense(4, activation=activation)(x)
    return keras.Model(image, keras.layers.Dense(2)(x))
"""


def build(settings):
    """A network, or what its setting asks for."""
    deed = settings.get("deed")
    if deed == "exit":
        os.kill(os.getpid(), signal.SIGKILL)
    x = image = keras.Input((6,))
    x = keras.layers.Dense(4, activation="relu")(x)
    return keras.Model(image, keras.layers.Dense(2)(x))


@pytest.fixture
def parts(rng):
    x = rng.normal(size=(60, 6)).astype("float32")
    y = np.where(x[:, 0] * x[:, 1] > 0, "same", "other")
    return Split(x[:40], y[:40]), Split(x[40:], y[40:])


def attempts(parts, build=build):
    return Attempts(
        build=build,
        train=parts[0],
        validation=parts[1],
        score="validation",
        noise_variance=0.0,
        dtype="float32",
        executor="auto",
    )


def untimed(trial):
    return {k: v for k, v in vars(trial).items() if not k.endswith("seconds")}


def test_the_same_trials_in_another_process(parts, tmp_path, capfd):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    space = own_space(path, "build")
    path.write_text("this is no longer what the search is of")
    here = random_search(space, *parts, samples=4, out=tmp_path / "here", isolated=False)
    capfd.readouterr()
    there = random_search(space, *parts, samples=4, out=tmp_path / "there", isolated=True)
    printed, _ = capfd.readouterr()
    assert printed == ""
    assert [untimed(t) for t in there.trials] == [untimed(t) for t in here.trials]
    assert {t.status for t in there.trials} == {"fine", "failed"}
    assert {t.settings["act"] for t in there.trials if t.status == "fine"} == {"relu", "worked"}
    names = sorted(p.name for p in (tmp_path / "there").iterdir())
    assert names == ["best.json", "best.keras", "search.json", "trials.csv"]
    assert keras.saving.load_model(tmp_path / "there" / "best.keras").count_params() > 0


def test_functions_that_cannot_be_sent(parts, tmp_path, monkeypatch):
    def inner(settings):
        return build(settings)

    space = Space("inner", {"a": [1, 2]}, inner, "1")
    with pytest.warns(InProcessWarning, match="another process cannot run them"):
        found = random_search(space, *parts, samples=1, out=tmp_path / "s", isolated=True)
    assert found.best is not None
    stub = Trial(0, "failed", {"a": 1})
    monkeypatch.setattr(Attempts, "run", lambda *_: (type("Found", (), {"parameters": None,
                                                                     "trial": stub})))  # fmt: skip
    with pytest.warns(InProcessWarning, match="its space is a function"):
        random_search(space, *parts, samples=11, out=tmp_path / "t")


@pytest.mark.slow
def test_a_module_that_the_other_process_lacks(parts, monkeypatch):
    lost = type(sys)("a_lost_module")
    lost.build = type(build)(build.__code__, {}, "build")
    lost.build.__module__ = "a_lost_module"
    monkeypatch.setitem(sys.modules, "a_lost_module", lost)
    with pytest.raises(NotSentError, match="a_lost_module"):
        Worker(attempts(parts, lost.build))


@pytest.mark.slow
def test_a_process_is_replaced_when_it_has_grown(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_GROWTH", 2**10)
    with Worker(attempts(parts)) as worker:
        pids = [worker.pid]
        for number in range(4):
            worker.run(number, {}, tmp_path / str(number), None)
            pids.append(worker.pid)
    assert len(set(pids[:2])) == 1
    assert len(set(pids)) > 1
    for pid in set(pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.slow
def test_a_process_that_dies(parts, tmp_path):
    killed = pytest.raises(WorkerError, match=r"by signal 9, .* before trial 3 was done")
    with Worker(attempts(parts)) as worker, killed:
        worker.run(3, {"deed": "exit"}, tmp_path / "3", None)


@pytest.mark.slow
def test_errors_that_end_a_search(parts, tmp_path):
    (tmp_path / "file").write_text("no directory")
    with Worker(attempts(parts)) as worker:
        with pytest.raises(StoreError) as caught:
            worker.run(0, {}, tmp_path / "file", None)
        assert "keras2gp/search/attempts.py" in caught.value.__notes__[0]
        assert worker.run(1, {}, tmp_path / "1", None).trial.status == "fine"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are read from /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_its_parent(tmp_path, how):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from keras2gp.search.random_search import Split, random_search\n"
        "from keras2gp.search.spaces import own_space\n"
        "rng = np.random.default_rng(0)\n"
        "part = Split(rng.normal(size=(30, 6)).astype('float32'), np.arange(30) % 2)\n"
        f"space = own_space(Path({str(path)!r}), 'build')\n"
        f"random_search(space, part, part, samples=1000, out={str(tmp_path / 's')!r})\n"
    )
    with subprocess.Popen(  # noqa: S603 (this interpreter, text from above)
        [sys.executable, "-c", code],
        stderr=subprocess.DEVNULL,
        preexec_fn=hear_interrupts,  # noqa: PLW1509
    ) as process:
        while not (tmp_path / "s" / "trials.csv").exists():
            assert process.poll() is None
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(how)
        process.wait()
    assert len(children) == 1
    for _ in range(100):
        if not Path(f"/proc/{children[0]}").exists():
            break
        time.sleep(0.05)
    assert not Path(f"/proc/{children[0]}").exists()
