"""The choice of OpenBLAS's kernels: only where it would not take those for AVX-512 by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras2gp._util import cpu

FLAGS = "fpu sse2 avx2 avx512f avx512cd avx512bw avx512dq avx512vl"


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """A function that pretends a processor with these flags, before numpy is loaded."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", "")  # so that it is as before after the test
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    monkeypatch.delitem(sys.modules, "numpy")

    def pretend(flags, architecture):
        path = tmp_path / "cpuinfo"
        path.write_text(f"processor : 0\nflags\t\t: {flags}\nbugs : none\n")
        monkeypatch.setattr(cpu, "_FILE", path)
        monkeypatch.setattr(cpu, "_architecture", lambda: architecture)

    return pretend


@pytest.mark.parametrize(
    ("flags", "architecture", "expected"),
    [
        (FLAGS, "Haswell", "SkylakeX"),
        (FLAGS, "Zen", "SkylakeX"),
        (FLAGS, "SkylakeX", None),
        (FLAGS, "Cooperlake", None),
        (FLAGS, "SAPPHIRERAPIDS", None),
        (FLAGS, "", None),
        (FLAGS.replace("avx512vl", ""), "Haswell", None),
        ("fpu sse2 avx2", "Haswell", None),
        ("", "Haswell", None),
    ],
)
def test_only_where_it_is_missed(processor, flags, architecture, expected):
    processor(flags, architecture)
    assert cpu.use_avx512() is (expected is not None)
    assert os.environ.get("OPENBLAS_CORETYPE") == expected


def test_never_too_late_nor_over_a_setting_of_the_user(processor, monkeypatch):
    processor(FLAGS, "Haswell")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert not cpu.use_avx512()
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert not cpu.use_avx512()
    monkeypatch.delitem(sys.modules, "numpy")
    monkeypatch.setattr(cpu, "_FILE", Path("/nowhere/cpuinfo"))
    assert not cpu.use_avx512()
    assert "OPENBLAS_CORETYPE" not in os.environ


def run(code, **environment):
    kept = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert not done.stderr
    return done.stdout.splitlines()


ASKED = """
import sys
from keras2gp._util import cpu
print(cpu._architecture())
print("numpy" in sys.modules)
import numpy
from threadpoolctl import threadpool_info
print(*(d["architecture"] for d in threadpool_info() if d["internal_api"] == "openblas"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="OpenBLAS is asked on Linux")
def test_the_child_says_what_numpy_will_take():
    for setting in ({}, {"OPENBLAS_CORETYPE": "Haswell"}):
        asked, loaded, taken = run(ASKED, **setting)
        assert loaded == "False"
        assert asked in taken.split() or asked == ""


COMMAND = """
import os, sys
from keras2gp._util import cpu
from keras2gp.cli import main
assert "numpy" not in sys.modules, "the command comes before numpy"
cpu._has_avx512, cpu._architecture = (lambda: True), (lambda: "Haswell")
main.main(["inspect", "nothing.keras"])
print(os.environ["OPENBLAS_CORETYPE"])
"""


def test_the_command_sets_it_before_numpy(tmp_path):
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", COMMAND],
        env={k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "SkylakeX"


SOLVED = """
import numpy as np
from keras2gp.gp import factorize
from keras2gp.gp.solvers.products import LowerTriangle
from keras2gp.gp.solvers.single import factorize_single
random = np.random.default_rng(0)
f = random.standard_normal((900, 400))
a, b = f @ f.T / 400 + np.eye(900), random.standard_normal((900, 3))
for x, most in ((factorize(a).solve(b), 1e-13),
                (factorize_single(a, np.diagonal(a), 0.0, None)[0].apply(b), 1e-4)):
    print(np.abs(LowerTriangle(a).product(x) - b).max() < most)
"""


@pytest.mark.skipif(not cpu._has_avx512(), reason="the processor has no AVX-512")
def test_solves_with_the_kernels_for_avx512_are_right():
    assert run(SOLVED, OPENBLAS_CORETYPE="SkylakeX") == ["True", "True"]
