"""The benchmark runs, without the peer and at small size, and fills its table."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras2gp._util.cpu import cpu_facts

TOOL = Path(__file__).resolve().parent.parent / "tools" / "benchmark.py"
SMALL = ["--no-peer", "--seconds", "0.01", "--rounds", "1", "--side", "16", "--threads", "2"]


def run(*arguments):
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)  # noqa: S603


def benchmark(*arguments):
    done = run(*SMALL, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_rates_and_accuracy():
    out = json.loads(
        benchmark("--networks", "fully-connected", "--parts", "rates", "accuracy", "--json")
    )
    cells = {row: values["fully-connected"] for row, values in out["rows"].items()}
    assert cells["keras2gp, program.block"] > 0
    assert cells["keras2gp, kernel.matrix"] > 0
    assert cells["images of that matrix"] == "32"
    assert 0 < cells["largest difference to float64, relative"] < 2e-5
    assert out["machine"]["cores"] >= 1
    assert not any("Neural Tangents" in row for row in cells)


@pytest.mark.slow
def test_every_other_part():
    parts = ["kinds", "naive", "first", "tiles", "threads", "sizes", "memory"]
    out = benchmark("--networks", "resnet32", "--parts", *parts, "--memory", "64")
    for row in (
        "time of both kernels over that of one",
        "tf.nn.conv2d on [pairs, H, W, 1]",
        "first result, s",
        "first result (next), s",
        "its processor time (keeps it), s",
        "tile 4 x 16",
        "1 thread on as many cores",
        "2 threads on as many cores",
        "kernel.matrix, N = 32",
        "Gram matrix, N = 64: peak beyond the matrix, GB",
    ):
        assert f"| {row} |" in out
    cell = out.split("| its difference to keras2gp | ")[1].split(" ")[0]
    assert float(cell) < 2e-5


def test_unknown_part():
    done = run("--parts", "everything")
    assert done.returncode == 2
    assert "invalid choice" in done.stderr


def test_solvers_beside_scipy():
    tool = TOOL.with_name("solvers.py")
    command = [sys.executable, str(tool), "--parts", "direct", "--size", "300", "--rounds", "1"]
    done = subprocess.run(  # noqa: S603
        [*command, "--json"], check=True, capture_output=True, text=True, timeout=300
    )
    found = json.loads(done.stdout)["direct"]
    assert set(found) == {"ours", "mixed", "best", "plain"}
    for one in found.values():
        assert one["seconds"] > 0.0
        assert one["residual"] < 1e-8


@pytest.mark.slow
def test_growth_of_the_solvers():
    tool = TOOL.with_name("solvers.py")
    command = [sys.executable, str(tool), "--parts", "growth", "--sizes", "200", "300"]
    done = subprocess.run(  # noqa: S603
        [*command, "--target", "600", "--rounds", "1"],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    assert [row[0].strip() for row in rows[2:]] == ["cholesky", "mixed"]
    assert {len(row) for row in rows} == {8}


def measured(tool, *arguments):
    command = [sys.executable, str(TOOL.with_name(tool)), *arguments, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)  # noqa: S603
    return json.loads(done.stdout)


@pytest.mark.slow
def test_growth_of_the_kernels():
    rows = measured("growth.py", "--images", "8", "--rounds", "1", "--largest", "3")
    assert list(rows) == ["images", "depth", "side", "pooled side", "pooling window"]
    for row in rows.values():
        sizes, seconds = (
            np.log([float(v) for v in part]) for part in zip(*row["seconds"].items(), strict=True)
        )
        assert row["exponent"] == pytest.approx(np.polyfit(sizes, seconds, 1)[0], abs=1e-9)
        assert row["error"] >= 0


@pytest.mark.slow
def test_a_table_of_activations_goes_on_where_it_was_cut_off(tmp_path):
    store = tmp_path / "rows.jsonl"
    few = "--images", "4", "--rounds", "1", "--store", str(store)
    first = measured("activations.py", "--activations", "relu", *few)
    assert list(first) == ["relu", *(f"relu, get={kind!r}" for kind in ("nngp", "ntk", "both"))]
    kept = store.read_text().splitlines()
    second = measured("activations.py", "--activations", "relu", "gelu", *few)
    assert {name: second[name] for name in first} == first
    assert second["gelu"]["ratio"] > 0
    lines = store.read_text().splitlines()
    assert lines[:-1] == kept
    assert json.loads(lines[-1])["name"] == "gelu"
    other = measured("activations.py", "--activations", "relu", *few, "--rounds", "2")
    assert other["relu"] != first["relu"]


@pytest.mark.slow
@pytest.mark.skipif(
    "avx512f" not in cpu_facts().get("flags", "").split() or not shutil.which("cc"),
    reason="the processor has no AVX-512, or there is no compiler",
)
def test_the_limit_computes_the_same_kernel():
    found = measured("limit.py", "--images", "16", "--rounds", "1")
    assert found["difference"] < 2e-6
    assert found["share"] == pytest.approx(found["keras2gp"] / found["limit"])
