"""search, tune and plot on the command line."""

import csv
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

OWN = """\
import keras
from scipy import stats

SPACE = {"width": [3, 4], "w2": stats.loguniform(0.1, 10)}


def build(settings):
    x = image = keras.Input((6, 6, 1))
    prior = keras.initializers.VarianceScaling(settings["w2"], "fan_in", "untruncated_normal")
    conv = keras.layers.Conv2D(settings["width"], 3, activation="relu", kernel_initializer=prior)
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(conv(x))))
"""

OF_TABLES = """\
import keras

SPACE = {"width": [3, 4]}


def build(settings):
    x = keras.Input((2,))
    hidden = keras.layers.Dense(settings["width"], activation="relu")
    return keras.Model(x, keras.layers.Dense(2)(hidden(x)))
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return f"{path}:build"


def measures(folder):
    with (folder / "trials.csv").open(newline="") as stream:
        return [
            {k: v for k, v in row.items() if not k.endswith("seconds")}
            for row in csv.DictReader(stream)
        ]


def test_search(run, run_json, files, own, tmp_path):
    options = ["--data", files / "data.npz", "--train", 40, "--validation", 20, "--out"]
    code, draws = run_json("search", own, *options, tmp_path / "s", "--samples", 3, "--dry-run")
    assert code == 0
    assert not (tmp_path / "s").exists()
    code, out, err = run("search", own, *options, tmp_path / "s", "--samples", 2)
    assert (code, err) == (0, "")
    assert "best.keras" in out
    code, document = run_json("search", own, *options, tmp_path / "s", "--samples", 3)
    assert code == 0
    assert [t["settings"] for t in document["trials"]] == draws["draws"]
    assert document["best"]["validation_error"] == min(
        t["validation_error"] for t in document["trials"]
    )
    assert len(measures(tmp_path / "s")) == 3
    code, _, _ = run("inspect", tmp_path / "s" / "best.keras")
    assert code == 0


@pytest.mark.parametrize(("arguments", "code", "told"), [
    (("other",), 2, "expected paper"),
    (("absent.py:build",), 2, "no such file"),
    (("paper", "--seed", "-1"), 2, "--seed -1"),
    (("paper", "--train", "500"), 5, "600 rows were asked for; it has 120"),
])  # fmt: skip
def test_search_refuses(run, files, tmp_path, arguments, code, told):
    space, *rest = arguments
    options = ["--data", files / "data.npz", "--train", 40, "--samples", 2, "--out", tmp_path / "s"]
    found, _, err = run("search", space, *options, *rest)
    assert found == code
    assert told in err


def test_search_of_a_table(run, tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{a},{b},{'up' if a > b else 'down'}" for a, b in rng.normal(size=(60, 2)).round(3)]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,y", *rows]))
    (tmp_path / "own.py").write_text(OF_TABLES)
    code, _, err = run(
        "search", f"{tmp_path / 'own.py'}:build", "--data", tmp_path / "table.csv", "--train", 40,
        "--samples", 1, "--out", tmp_path / "s",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert float(measures(tmp_path / "s")[0]["validation_error"]) < 0.3


@pytest.mark.parametrize("text", ["import sys; sys.exit()", "exit(0)", "raise SystemExit('done')"])
def test_a_space_that_exits(run, files, tmp_path, text):
    (tmp_path / "own.py").write_text(text)
    options = ["--data", files / "data.npz", "--train", 40, "--samples", 2, "--out", tmp_path / "s"]
    code, _, err = run("search", f"{tmp_path / 'own.py'}:build", *options)
    assert code == 5
    assert "fails: SystemExit" in err


def test_a_network_that_exits_and_text_that_it_prints(run, files, own, tmp_path):
    line = "print('noise')\n    if settings['width'] == 3:\n        raise SystemExit(0)\n    "
    (tmp_path / "own.py").write_text(OWN.replace("x = image", f"{line}x = image"))
    options = ["--data", files / "data.npz", "--train", 40, "--samples", 6, "--out", tmp_path / "s"]
    code, out, err = run("search", own, *options, "--json")
    assert code == 0
    trials = json.loads(out)["trials"]
    reasons = {t["settings"]["width"]: t["reason"] for t in trials}
    assert reasons == {3: "build: sys.exit(0)", 4: ""}
    assert "noise" in err


def test_a_directory_of_something_else(run, files, own, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    options = ["--data", files / "data.npz", "--train", 40, "--samples", 2, "--out", tmp_path]
    code, _, err = run("search", own, *options)
    assert code == 2
    assert "is not a search" in err


@pytest.mark.slow
def test_a_killed_search_goes_on(run, files, own, tmp_path):
    # So many that they run in a process of their own.
    options = ["search", own, "--data", files / "data.npz", "--train", 60, "--samples", 12, "--out"]
    command = [sys.executable, "-m", "keras2gp", *options, tmp_path / "killed"]
    with subprocess.Popen([str(c) for c in command]) as process:  # noqa: S603
        while process.poll() is None and not (tmp_path / "killed" / "trials.csv").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert len(measures(tmp_path / "killed")) < 12
    assert run(*options, tmp_path / "killed")[::2] == (0, "")
    assert run(*options, tmp_path / "whole")[0] == 0
    assert measures(tmp_path / "killed") == measures(tmp_path / "whole")


def test_tune(run, run_json, files, tmp_path):
    options = ["--data", files / "data.npz", "--train", 30]
    tuned = tmp_path / "tuned.yaml"
    code, document = run_json("tune", files / "tiny.keras", *options, "--steps", 3, "--out", tuned)
    assert code == 0
    evidences = [step["evidence"] for step in document["trace"]]
    assert document["evidence"] == max(evidences) > evidences[0]
    noise = document["noise_variance"]
    code, fit = run_json(
        "fit", files / "tiny.keras", *options, "--overrides", tuned, "--noise-variance", noise,
        "--intercept", 0, "--dtype", "float64", "--out", tmp_path / "fit",
    )  # fmt: skip
    assert code == 0
    assert fit["fit"]["log_marginal_likelihood"] == pytest.approx(document["evidence"], rel=1e-6)
    code, _, err = run("tune", files / "tiny.keras", *options, "--out", tuned)
    assert code == 2
    assert "may hold your changes" in err
    code, _, err = run("tune", files / "tiny.keras", *options, "--out", tmp_path / "tuned.txt")
    assert code == 2
    assert ".yaml" in err


def test_plot_of_a_fit_and_a_kernel(run, run_json, files, fitted, tmp_path):
    data = ["--data", files / "data.npz"]
    for kind in ("reliability", "images"):
        out = tmp_path / f"{kind}.png"
        code, document = run_json("plot", kind, fitted, *data, "--test", 30, "--out", out)
        assert (code, document) == (0, {"kind": kind, "out": str(out)})
        assert out.read_bytes().startswith(b"\x89PNG")
    model = files / "tiny.keras"
    store = tmp_path / "K.zarr"
    assert run("gram", model, *data, "--rows", 25, "--out", store)[0] == 0
    for source in (model, store):
        out = tmp_path / "kernel.svg"
        code, told, err = run("plot", "kernel", source, *data, "--rows", 20, "--out", out)
        note = "note: uint8 pixels divided by 255, to [0, 1]\n" if source == model else ""
        assert (code, told, err) == (0, f"{note}wrote {out}\n", "")
        assert f"{source}, 20 rows" in out.read_text()


def test_plot_of_documents(run, files, tmp_path):
    table = tmp_path / "table1.json"
    points = {"40": {"test_error": 0.2}, "80": {"test_error": 0.1}}
    rows = {"a": {"points": points, "extrapolation": None}}
    table.write_text(json.dumps({"settings": {"data": "sample", "test": 9}, "rows": rows}))
    out = tmp_path / "curve.svg"
    assert run("plot", "learning-curve", table, "--out", out)[0] == 0
    assert "training images" in out.read_text()
    for wrong, code, told in (
        (("learning-curve", files / "data.npz", "--out", out), 5, "no JSON document"),
        (("learning-curve", "absent.json", "--out", out), 2, "no such file"),
        (("convergence", table, "--out", out), 5, "verify --json"),
        (("learning-curve", table, "--out", tmp_path / "curve.pdf"), 2, ".png or .svg"),
        (("trials", table, "--out", out), 5, "no table of trials"),
        (("reliability", files, "--data", "sample", "--test", 3, "--out", out), 4, "fit.json"),
    ):
        found, _, err = run("plot", *wrong)
        assert found == code
        assert told in err


POINT = {"points": {"1": {"test_error": 0.1}}, "extrapolation": {"train": 1}}
INCOMPLETE = json.dumps({"settings": {"test": 9, "data": 1}, "rows": {"a": POINT}})


@pytest.mark.parametrize("text", [INCOMPLETE, "[" * 100000, "null", "[1]"])
def test_documents_that_cannot_be_drawn(text, run, tmp_path):
    (tmp_path / "a.json").write_text(text)
    for kind in ("learning-curve", "convergence"):
        code, out, err = run("plot", kind, tmp_path / "a.json", "--out", tmp_path / "a.png")
        assert (code, out) == (5, "")
        assert "Traceback" not in err
    assert len(list(tmp_path.iterdir())) == 1


def test_names_are_no_formulas(run, tmp_path):
    rows = {"a": {"points": {"40": {"test_error": 0.2}}, "title": "$\\foo{", "extrapolation": None}}
    (tmp_path / "a.json").write_text(
        json.dumps({"settings": {"data": "$x^", "test": 9}, "rows": rows})
    )
    out = tmp_path / "a.svg"
    assert run("plot", "learning-curve", tmp_path / "a.json", "--out", out)[0] == 0
    assert "$\\foo{" in out.read_text()


def test_plot_without_matplotlib(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (tmp_path / "a.json").write_text("{}")
    code, _, err = run("plot", "learning-curve", tmp_path / "a.json", "--out", tmp_path / "a.png")
    assert code == 5
    assert "keras2gp[plot]" in err


def test_regressions_have_no_classes(run, files, tmp_path):
    fit = tmp_path / "fit"
    options = ["--data", files / "real.npz", "--train", 30, "--regression", "--out", fit]
    assert run("fit", files / "tiny.keras", *options)[0] == 0
    code, _, err = run(
        "plot", "reliability", fit, "--data", files / "real.npz", "--test", 5, "--out", "a.png"
    )
    assert code == 2
    assert "is a regression" in err
