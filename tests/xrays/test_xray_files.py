"""Files at an X-ray's own names that keras2gp did not write: refused, and left as they are."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from xray_networks import xray_run

from keras2gp.cli.main import main
from keras2gp.errors import StoreError
from keras2gp.xrays.files import FILES, MARKER, not_ours, require_ours
from keras2gp.xrays.measuring.comparisons import ALPHA
from keras2gp.xrays.reporting.findings import Summary
from keras2gp.xrays.reporting.report import XRay
from keras2gp.xrays.running import run

NAMES = (
    *FILES,
    "pilot.json",
    "signals-20.json",
    "scores/mine.json",
    "variants/mine.keras",
    "kernels",
)
REPORT = XRay(
    model="dense",
    unit="rows",
    regression=False,
    rows=40,
    test_rows=0,
    classes=2,
    subsets=4,
    seed=0,
    kind="nngp",
    comparisons=0,
    minutes=None,
    notes=(),
    base=Summary(0.1, 0.2, None, -0.3, 0.01, 0.02, 0.1, 0.0),
    findings=(),
    signals=(),
    signal_rows=0,
    graph=(),
)


def model():
    hidden = layers.Dense(8, "relu", kernel_initializer="he_normal", name="hidden")
    return keras.Sequential([keras.Input((2,)), hidden, layers.Dense(2, name="out")])


@pytest.fixture
def rows(rng):
    x = rng.normal(size=(40, 2)).astype("float32")
    return x, (x[:, 0] > 0).astype(int)


def put(folder, name):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"accuracy": 0.9}')
    return path


def listing(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_somebody_else_is_refused_before_the_model_is_read(
    name, rows, tmp_path, monkeypatch
):
    put(tmp_path, name)
    before = listing(tmp_path)
    monkeypatch.setattr(run, "Subject", None)
    with pytest.raises(StoreError, match=f"keras2gp did not write.*{name}.*another directory"):
        xray_run(model(), *rows, out=tmp_path)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", FILES)
def test_a_report_of_somebody_else_in_the_directory_of_an_xray(name, rows, tmp_path, capsys):
    """Both are refused: the call in Python and the command, which reads no data for it."""
    marker = {"xray": "a", "data_sha256": "b", "subsets": 10}
    (tmp_path / MARKER).write_text(json.dumps(marker))
    put(tmp_path, "scores/a.json")
    assert not not_ours(tmp_path), "they are the X-ray's by its record"
    put(tmp_path, name)
    before = listing(tmp_path)
    with pytest.raises(StoreError, match=f"did not write, or which were changed: {name}"):
        xray_run(model(), *rows, out=tmp_path)
    data = tmp_path.parent / "data.npz"
    np.savez(data, x=rows[0], y=rows[1])
    model().save(tmp_path.parent / "model.keras")
    words = ["xray", str(tmp_path.parent / "model.keras"), "--data", str(data), "--train", "40"]
    assert main([*words, "--out", str(tmp_path), "--dry-run"]) == 2
    assert f"keras2gp did not write: {tmp_path / name}" in capsys.readouterr().err
    assert listing(tmp_path) == before


def test_a_link_and_a_folder_in_the_place_of_a_report(tmp_path):
    (tmp_path / "report.json").symlink_to(tmp_path / "elsewhere.json")
    (tmp_path / "report.html").mkdir()
    assert not_ours(tmp_path) == ["report.html", "report.json"]


def test_reports_of_keras2gp_are_replaced_and_no_others(tmp_path):
    for _ in range(2):
        REPORT.save(tmp_path)
    require_ours(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "scores").mkdir()
    require_ours(tmp_path)
    document = {"keras2gp": "0.2", "alpha": ALPHA, "findings": []}
    (tmp_path / "report.json").write_text(json.dumps(document))
    REPORT.save(tmp_path)
    for name in FILES:
        content = (tmp_path / name).read_bytes()
        put(tmp_path, name)
        before = listing(tmp_path)
        with pytest.raises(StoreError, match=name):
            REPORT.save(tmp_path)
        assert listing(tmp_path) == before
        (tmp_path / name).write_bytes(content)
