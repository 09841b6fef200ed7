"""Every example runs, and gives what it says."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keras2gp.matrices.store import GramStore

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LIMITS = {"own_activation": 1e-12, "own_layer": 1e-12, "own_model": 0.2}


def test_all_examples_are_listed():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        *LIMITS,
        "beyond_table1",
        "denoise",
        "sensitivity",
        "strange_inputs",
        "table1",
    }


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_example(name, capsys):
    result = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()
    assert result < LIMITS[name]
    assert capsys.readouterr().out


def test_denoise(tmp_path, capsys):
    """40 images take away 43% of the error; a Gaussian filter takes 31%, a ridge regression 36%."""
    picture = tmp_path / "denoise.png"
    assert runpy.run_path(str(EXAMPLES / "denoise.py"))["main"](str(picture)) < 0.6
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "2560 rows" in capsys.readouterr().out


@pytest.mark.slow
def test_beyond_table1(tmp_path, capsys):
    """Every kernel has a row with four heads; a second run computes no kernel again."""
    main = runpy.run_path(str(EXAMPLES / "beyond_table1.py"))["main"]
    common = ["--networks", "resnet32", "--out", str(tmp_path)]
    assert main(["--train", "100", "--test", "100", *common]) < 0.35
    stores = sorted(tmp_path.glob("resnet32-flatten-*.zarr"))
    assert len(stores) == 4
    written = [path.stat().st_mtime_ns for store in stores for path in store.rglob("c/*")]
    main(["--train", "100", "--test", "100", *common])
    assert [path.stat().st_mtime_ns for store in stores for path in store.rglob("c/*")] == written
    with pytest.raises(SystemExit):
        main(["--train", "24", "--test", "8", *common])
    output = capsys.readouterr()
    assert "beyond.json is of {" in output.err
    few = ["--train", "24", "--test", "8", "--ends", "average", "--kinds", "nngp"]
    assert main([*few, "--networks", "resnet32", "--out", str(tmp_path / "few")]) < 0.7
    lines = (output.out + capsys.readouterr().out).splitlines()
    rows = [line for line in lines if line.startswith("| ResNet")]
    assert [row.count("%, ") for row in rows] == [4] * 5


@pytest.mark.slow
def test_sensitivity(tmp_path, capsys):
    """What tells 3 from 8 lies in the middle of the images, not at their border."""
    picture = tmp_path / "map.png"
    found = runpy.run_path(str(EXAMPLES / "sensitivity.py"))["main"](str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert found[8:20, 8:20].mean() > 2.0 * found.mean()
    assert "of the sensitivity to 3 or 8" in capsys.readouterr().out


@pytest.mark.slow
def test_strange_inputs(capsys):
    """Every kind of strange image is told by some score, and none by all of them."""
    table = runpy.run_path(str(EXAMPLES / "strange_inputs.py"))["main"]()
    for kind, scores in table.items():
        assert max(scores.values()) > 0.95, kind
    assert table["blank"]["variance"] < 0.05 > table["dimmed tenfold"]["variance"]
    assert table["scaled to 0..255"]["uncertainty"] < 0.05
    assert table["shuffled pixels"]["relative_variance"] > 0.9
    assert capsys.readouterr().out.count("warned of") == 2


def table1(*arguments):
    return runpy.run_path(str(EXAMPLES / "table1.py"))["main"]([str(a) for a in arguments])


def recorded(folder):
    return json.loads((folder / "table1.json").read_text())["rows"]


def errors(folder, row):
    return {n: point["test_error"] for n, point in recorded(folder)[row]["points"].items()}


def test_table1_is_made_once(tmp_path, capsys):
    options = ["--train", 192, "--test", 100, "--rows", "nngp", "convnet", "--out", tmp_path]
    assert table1(*options) < 0.3
    rows = recorded(tmp_path)
    assert set(rows) == {"nngp", "convnet"}
    assert set(rows["convnet"]["points"]) == {"6", "12", "24", "48", "96", "192"}
    assert (
        rows["convnet"]["extrapolation"]["error"] < rows["convnet"]["points"]["192"]["test_error"]
    )
    assert "| ConvNet GP |" in (tmp_path / "table1.md").read_text()
    table1(*options)
    assert recorded(tmp_path) == rows


def test_table1_without_validation_images(tmp_path, capsys):
    options = ["--train", 60, "--test", 40, "--validation", 0, "--rows", "nngp"]
    assert table1(*options, "--out", tmp_path) < 0.6
    assert "validation_error" not in recorded(tmp_path)["nngp"]["points"]["60"]
    assert GramStore.open(tmp_path / "nngp-cross.zarr").shape == (40, 60)


def test_table1_of_another_data_set(tmp_path, capsys):
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.uniform(0, 0.5, (120, 6, 6)) + y[:, None, None] / 3
    np.savez(tmp_path / "bands.npz", x=x, y=y)
    options = ["--data", tmp_path / "bands.npz", "--train", 60, "--test", 40, "--rows", "nngp"]
    assert table1(*options, "--out", tmp_path / "out") < 0.2
    with pytest.raises(SystemExit, match="Try: another --out"):
        table1("--train", 48, "--test", 40, "--rows", "nngp", "--out", tmp_path / "out")


def test_the_extrapolation_finds_a_power_law():
    extrapolate = runpy.run_path(str(EXAMPLES / "table1.py"))["extrapolate"]
    points = {
        str(n): {"test_error": 2.0 * n**-0.5, "wrong_tests": 20000 * n**-0.5}
        for n in (100, 200, 400, 800)
    }
    fit = extrapolate(points)
    assert fit["exponent"] == pytest.approx(0.5)
    assert fit["error"] == pytest.approx(2.0 * 50000**-0.5)
    assert fit["low"] < fit["error"] < fit["high"]
    assert extrapolate({"100": points["100"]}) is None


@pytest.mark.slow
def test_table1_goes_on_after_a_kill(tmp_path, capsys):
    options = ["--train", 600, "--test", 100, "--rows", "convnet"]  # three blocks
    command = [sys.executable, EXAMPLES / "table1.py", *options, "--out", tmp_path / "killed"]
    with subprocess.Popen([str(c) for c in command]) as process:  # noqa: S603 (this interpreter)
        while not (tmp_path / "killed" / "table1.json").exists() and process.poll() is None:
            time.sleep(0.05)
        process.kill()
    before = recorded(tmp_path / "killed")["convnet"]["seconds"]["kernel"]
    table1(*options, "--out", tmp_path / "killed")
    assert recorded(tmp_path / "killed")["convnet"]["seconds"]["kernel"] > before
    table1(*options, "--out", tmp_path / "whole")
    assert errors(tmp_path / "killed", "convnet") == errors(tmp_path / "whole", "convnet")
