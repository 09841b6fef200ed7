"""X-rays as a whole: what is planted is found, and nothing else; interrupted runs; the page."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers
from xray_networks import dense, pooled, shifted, xray_run

import keras2gp
from keras2gp._util.files import held
from keras2gp._util.memory import peak_memory
from keras2gp._util.text import size_text
from keras2gp.cli.main import main
from keras2gp.errors import InputError, NumericalError, StoreError, UnsupportedModelError
from keras2gp.matrices.speed import Speed
from keras2gp.xrays.files import FILES
from keras2gp.xrays.measuring import flow, scores
from keras2gp.xrays.measuring.scores import rounds_of, score_kernel
from keras2gp.xrays.planning import cost, timing
from keras2gp.xrays.rows import ScoredTargets
from keras2gp.xrays.running import run, scoring
from keras2gp.xrays.variants.subject import Subject

KINDS = ["activation", "bias"]


@pytest.fixture(scope="module")
def products():
    """Labels that no linear function of the inputs tells."""
    x = np.random.default_rng(5).normal(size=(90, 2)).astype("float32")
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


@pytest.fixture(scope="module")
def made(products, tmp_path_factory):
    out = tmp_path_factory.mktemp("xray") / "out"
    x, y = products
    test = (x[60:], y[60:])
    own = {"my own": keras.Sequential([keras.Input((2,)), layers.Dense(2)])}
    settings = {"test": test, "variants": own, "kinds": KINDS, "subsets": 6, "signal_rows": 20}
    return keras2gp.xray(dense(), x[:60], y[:60], out=out, **settings), out, settings


def test_what_must_matter_is_found(made):
    report, _, _ = made
    linear = report.finding("linear")
    assert linear.nats.verdict == "worse"
    assert linear.error.mean > 0.1
    assert report.finding("my own").nats.verdict == "worse", "one layer is as linear as two"
    assert report.finding("gelu").nats.verdict == "no difference"
    assert report.finding("gelu").nats.needed > 60
    assert report.comparisons == 3 * len(report.computed)
    assert [s.path for s in report.signals] == ["input", "hidden", "out"]


@pytest.mark.slow
def test_labels_that_are_noise_show_nothing(products):
    x, y = products
    noise = np.random.default_rng(1).permutation(y)
    report = keras2gp.xray(dense(), x, noise, kinds=KINDS, subsets=4, signal_rows=0)
    for finding in report.computed:
        assert finding.error.verdict == finding.nats.verdict == "no difference"


@pytest.mark.slow
def test_pooling_is_found_for_patterns_that_are_shifted():
    x, y = shifted(80, seed=1, size=9)
    settings = {"kinds": ["pooling"], "subsets": 8, "signal_rows": 0}
    report = keras2gp.xray(pooled(9), x, y, **settings)
    finding = report.finding("pool as a Flatten")
    assert finding.error.verdict == finding.nats.verdict == "worse"
    still = x[[int((y == label).argmax()) for label in y]]
    still = still + 0.1 * np.random.default_rng(0).normal(size=x.shape)
    report = keras2gp.xray(pooled(9), still, y, **settings)
    assert report.finding("pool as a Flatten").error.verdict == "no difference"


def test_the_differences_are_those_of_the_scores(made):
    report, out, _ = made
    scores = {p.stem: json.loads(p.read_text()) for p in (out / "scores").glob("*.json")}
    base = json.loads((out / "xray.json").read_text())["xray"]
    means = {k: np.mean(s["nats"]) - np.mean(scores[base]["nats"]) for k, s in scores.items()}
    found = sorted(f.nats.mean for f in report.computed)
    np.testing.assert_allclose(found, sorted(m for k, m in means.items() if k != base))


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_writes_the_same_bytes(
    made, products, tmp_path, monkeypatch
):
    report, out, settings = made
    x, y = products
    seen = []

    def interrupt(*arguments, **others):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(1)
        return score_kernel(*arguments, **others)

    score_kernel = scoring.score_kernel
    monkeypatch.setattr(scoring, "score_kernel", interrupt)
    with pytest.raises(KeyboardInterrupt):
        keras2gp.xray(dense(), x[:60], y[:60], out=tmp_path / "out", **settings)
    assert not (tmp_path / "out" / "report.html").exists()
    assert len(list((tmp_path / "out" / "scores").glob("*.json"))) == 2
    monkeypatch.setattr(scoring, "score_kernel", score_kernel)
    counted = []
    counting = lambda *a, **k: counted.append(1) or score_kernel(*a, **k)  # noqa: E731
    monkeypatch.setattr(scoring, "score_kernel", counting)
    again = keras2gp.xray(dense(), x[:60], y[:60], out=tmp_path / "out", **settings)
    assert again == report
    assert len(counted) == len(report.computed) + 1 - 2
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.slow
def test_damaged_scores_are_computed_again_and_other_data_is_refused(made, products, tmp_path):
    report, out, settings = made
    x, y = products
    shutil.copytree(out, tmp_path / "out")
    damaged = next((tmp_path / "out" / "scores").glob("*.json"))
    damaged.write_text(damaged.read_text().replace("0.", "1.", 1))
    assert keras2gp.xray(dense(), x[:60], y[:60], out=tmp_path / "out", **settings) == report
    with pytest.raises(StoreError, match="of another X-ray, which differs in the targets"):
        keras2gp.xray(dense(), x[:60], 1 - y[:60], out=tmp_path / "out", **settings)


def test_two_xrays_in_one_directory(made, products):
    _, out, settings = made
    x, y = products
    with held(out), pytest.raises(StoreError, match="another process is at work in"):
        keras2gp.xray(dense(), x[:60], y[:60], out=out, **settings)


def test_another_xray_is_refused_before_anything_is_built(made, products, monkeypatch):
    """Other data before the model is read, and another model before its variants are built."""
    _, out, settings = made
    (x, y), words = products, "of another X-ray, which differs in "
    monkeypatch.setattr(Subject, "variants", None)
    other = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    with pytest.raises(StoreError, match=words + r"the model, or its settings \(.*\)\. Try"):
        xray_run(other, x[:60], y[:60], out=out, **settings)
    with pytest.raises(StoreError, match=words + r"the dtype \(float32 there, float64 here\)\."):
        xray_run(dense(), x[:60], y[:60], out=out, dtype="float64", **settings)
    monkeypatch.setattr(run, "Subject", None)
    with pytest.raises(StoreError, match=words + r"the targets; subsets \(6 there, 5 here\)\."):
        xray_run(dense(), x[:60], 1 - y[:60], out=out, **{**settings, "subsets": 5})
    with pytest.raises(StoreError, match=words + r"the number of test rows \(30 there, 0 here\);"):
        xray_run(dense(), x[:60], y[:60], out=out, **{**settings, "test": None})


@pytest.mark.slow
def test_tangent_kernels(products):
    """Of a linear network it is a sum of covariances; errors are those of its own matrix."""
    x, y = products
    settings = {"kinds": ["activation"], "subsets": 4, "signal_rows": 0}
    report = keras2gp.xray(dense(), x, y, kind="ntk", **settings)
    matrix = keras2gp.convert(dense(), kind="ntk").matrix(x)
    alone = score_kernel(matrix, ScoredTargets(y, None, regression=False))
    assert report.base.nats == pytest.approx(np.mean(alone.nats), rel=1e-6)
    assert report.base.nats != keras2gp.xray(dense(), x, y, **settings).base.nats
    assert report.finding("linear").nats.verdict == "worse"
    assert "tangent kernel" in report.to_text()
    assert "tangent kernel" in report.to_html()
    assert report.to_dict()["kind"] == "ntk"
    with pytest.raises(InputError, match="kind='nkt'"):
        keras2gp.xray(dense(), x, y, kind="nkt")


def test_the_report_in_its_forms(made):
    report, out, _ = made
    data = json.loads((out / "report.json").read_text())
    assert data["findings"][0]["error"]["verdict"] in ("worse", "better", "no difference")
    lines = (out / "report.txt").read_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("linear" in line and line.endswith("worse") for line in lines)
    html = report.to_html()
    assert all("ariance none: it grows or falls" in text for text in (report.to_text(), html))
    assert "no variant was computed\n" in replace(report, findings=()).to_text()
    for strange in ("http:", "https:", "<script", "url(", "<link", "@import", "src="):
        assert strange not in html
    kept = {f.file for f in report.findings if f.file}
    assert kept == {f"variants/{p.name}" for p in (out / "variants").glob("*.keras")}
    assert all(f"<code>{name}</code>" in html for name in kept)
    assert "variants/my-own.keras" in kept


def test_the_guide_names_every_key_of_the_document(made):
    guide = Path(__file__).parents[2] / "docs" / "guide" / "xray.md"
    section = guide.read_text().split("`report.json` holds")[1].split("Errors are shares")[0]
    named = set(re.findall(r"`(\w+)`", section))
    data = json.loads(made[0].to_json())
    parts = [data, data["base"], *data["findings"], *data["signals"], *data["graph"]]
    parts += [f["nats"] for f in data["findings"] if f["nats"]]
    assert {key for part in parts for key in part} <= named


@pytest.mark.slow
def test_names_from_strangers_are_text(products):
    x, y = products
    image = keras.Input((2,))
    hidden = layers.Dense(4, "relu", name="a<b>&\"'")(image)
    model = keras.Model(image, layers.Dense(2)(hidden), name="<script>alert(1)")
    own = {"<img src=x onerror=alert(1)>\x1b[31m\n": dense()}
    report = keras2gp.xray(model, x[:20], y[:20], variants=own, kinds=["bias"], subsets=2)
    for text in (report.to_html(), report.to_text()):
        assert "\x1b" not in text
    html = report.to_html()
    assert "<script" not in html
    assert "<img" not in html
    assert "a&lt;b&gt;&amp;&quot;&#x27;" in html


@pytest.mark.slow
def test_a_regression_takes_the_mean_of_the_model(rng):
    x = rng.normal(size=(24, 2)).astype("float32")
    image = keras.Input((2,))
    hidden = layers.Dense(4, "relu", kernel_initializer="he_normal")(image)
    model = keras.Model(image, layers.Dense(1)(hidden) + 5.0)
    y = np.abs(x[:, 0]).astype(float) + 5.0
    report = keras2gp.xray(model, x, y, kinds=["activation"], subsets=3, signal_rows=0)
    assert report.regression
    assert report.base.error < report.finding("linear").summary.error
    assert "% of variance" in report.to_text()
    assert not report.notes


def test_labels_that_are_taken_for_real_numbers_are_noted(products, tmp_path):
    x, y = products
    noted = xray_run(dense(), x, y.astype(float), kinds=[], out=tmp_path / "xray")
    assert "floating-point; labels are whole numbers" in str(noted.cost(measure=False))
    assert "floating" not in str(xray_run(dense(), x, y, kinds=[]).cost(measure=False))
    ages = ScoredTargets(np.arange(30.0), None, regression=True)
    assert not ages.notes()
    assert not replace(ages, y=np.array([0.5, 1.0, 1.5])).notes()


def test_what_does_not_fit_is_refused(products):
    x, y = products
    with pytest.raises(InputError, match="prior is no argument of xray: variants have no trained"):
        keras2gp.xray(dense(), x, y, prior="weights")
    for name in ("most_work", "full_work"):
        with pytest.raises(InputError, match=rf"{name}=0\.5: expected a number from 1"):
            keras2gp.xray(dense(), x, y, **{name: 0.5})
    with pytest.raises(InputError, match="signal_rows=1: pairs of images"):
        keras2gp.xray(dense(), x, y, signal_rows=1)
    with pytest.raises(InputError, match="x has 5 rows: 8 or more"):
        keras2gp.xray(dense(), x[:5], y[:5])
    with pytest.raises(InputError, match="the labels of all rows are the same"):
        keras2gp.xray(dense(), x, np.ones_like(y))
    with pytest.raises(InputError, match="the labels of all rows but one"):
        keras2gp.xray(dense(), x, (np.arange(90) == 3).astype(int))
    few = np.where(np.arange(90) == 3, 1.0, 0.0)
    for targets in (np.ones(90), np.stack([x[:, 0], np.ones(90)], axis=1)):
        with pytest.raises(InputError, match="the targets of all rows are the same"):
            keras2gp.xray(dense(), x, targets)
    with pytest.raises(InputError, match="the targets of half of the rows are the same"):
        keras2gp.xray(dense(), x, few)
    for labels, shown in ((np.full(9, 7), "7"), (np.array(["0", "1", "0"] * 3), "'0'")):
        with pytest.raises(InputError, match=f"such as {shown}, are of none of the rows, whose la"):
            keras2gp.xray(dense(), x, y, test=(x[:9], labels))
    with pytest.raises(InputError, match=r"have shape \(9, 2\), and those of the rows \(90,\)"):
        keras2gp.xray(dense(), x, x[:, 0], test=(x[:9], x[:9]))
    zero = r"of the diagonal .counted from 0. is 0, .*Try: without that input, a bi"
    with pytest.raises(NumericalError, match=zero):
        keras2gp.xray(dense(), np.zeros_like(x), y, kinds=[], subsets=2)
    with pytest.raises(InputError, match="subsets=50: expected a whole number, from 2 to 45"):
        keras2gp.xray(dense(), x, y, subsets=50)
    with pytest.raises(InputError, match="'linear' is taken"):
        keras2gp.xray(dense(), x, y, variants={"linear": dense()}, kinds=["activation"])
    for nothing in (None, "x", np.array(5.0)):
        with pytest.raises(InputError, match="expected an array of images"):
            keras2gp.xray(dense(), nothing, y)
    with pytest.raises(InputError, match="x holds no array"):
        keras2gp.xray(dense(), [], y)
    with pytest.raises(InputError, match="x is no array"):
        keras2gp.xray(dense(), [[[1.0], [1.0, 2.0]]], y)
    with pytest.raises(InputError, match="expected a pair of images and targets"):
        keras2gp.xray(dense(), x, y, test=x)
    with pytest.raises(UnsupportedModelError):
        keras2gp.xray(
            keras.Sequential([keras.Input((2, 1)), layers.LSTM(2), layers.Dense(2)]),
            x[..., None],
            y,
        )


def test_the_cost_is_stated_before_anything_is_computed(products, tmp_path):
    x, y = products
    xray = xray_run(dense(), x, y, kinds=KINDS, subsets=4, out=tmp_path)
    stated = xray.cost(measure=False)
    assert stated.kernels == len(xray.computed) >= 4
    assert stated.pairs == stated.kernels * 90 * 91 // 2
    assert stated.seconds is None
    assert not list(tmp_path.iterdir())


def test_the_cost_counts_the_signal_flow_and_leaves_out_what_is_there(
    made, products, tmp_path, monkeypatch
):
    _, out, settings = made
    x, y = products
    monkeypatch.setattr(timing, "speed_of", lambda _kernel, _x, **_: Speed(0.0, 1e12))
    monkeypatch.setattr(timing, "_fit_seconds", float)
    monkeypatch.setattr(timing, "seconds_of", lambda _kernel, x, count: (1000.0 * count, len(x)))
    new, old = (
        xray_run(dense(), x[:60], y[:60], out=place, **settings).cost() for place in (tmp_path, out)
    )
    assert new.there == 0
    flow = 1000.0 * (20 + 16) + 20 * 20
    fits = 60 + rounds_of(12, 60) * 30
    assert new.seconds == pytest.approx(new.kernels * fits + flow, rel=1e-6)
    assert old.there == old.kernels == new.kernels
    assert new.progress(0) == (0, round(1000 * new.seconds))
    assert new.progress(new.kernels)[0] == pytest.approx(1000 * new.kernels * fits, rel=1e-6)
    assert old.seconds == old.disk == old.progress(old.kernels)[0] == 0
    assert f"{old.kernels} of {old.kernels} kernels are there already" in str(old)


def test_the_work_of_a_kernel_and_programs_of_test_rows_count(products, monkeypatch):
    x, y = products
    monkeypatch.setattr(timing, "speed_of", lambda _kernel, _x, **_: Speed(100.0, 1.0))
    monkeypatch.setattr(timing, "_fit_seconds", lambda _rows: 0.0)
    settings = {"kinds": ["depth"], "subsets": 4, "signal_rows": 0}
    alone = xray_run(dense(), x[:60], y[:60], **settings)
    tested = xray_run(dense(), x[:60], y[:60], test=(x[60:], y[60:]), **settings)
    works = [v.work for v in alone.computed]
    assert len(set(works)) > 1
    nodes = [len(v.kernel.graph.nodes) for v in alone.computed]
    compiling = [100.0 * count / nodes[0] for count in nodes]
    pairs, more = 60 * 61 // 2, 30 * 60
    expected = [c + work * pairs for c, work in zip(compiling, works, strict=True)]
    assert alone.cost().parts == pytest.approx([*expected, 0.0])
    expected = [
        c * (1.0 + timing._OF_TEST) + work * (pairs + more)
        for c, work in zip(compiling, works, strict=True)
    ]
    assert tested.cost().parts == pytest.approx([*expected, 0.0])


def test_a_fit_of_few_rows_is_timed_by_one_of_more():
    assert timing._fit_seconds(1) > 0.0


def test_the_flow_is_timed_by_a_tile(monkeypatch):
    """6 tiles of 48 x 48 images, each of 5.76 times the pairs of the one that is timed."""
    clock = iter([0.0, 5.0, 5.0, 7.0])
    monkeypatch.setattr(flow, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    kernel = keras2gp.convert(dense())
    seconds, layers_seen = flow.seconds_of(kernel, np.ones((20, 2), "float32"), 100)
    assert seconds == pytest.approx((5.0 - 2.0) + 6 * 5.76 * 2.0)
    assert layers_seen == 3


def two_inputs():
    parts = [keras.Input((1,), name="left"), keras.Input((1,), name="right")]
    hidden = layers.Concatenate(name="both")(parts)
    hidden = layers.Dense(8, "relu", kernel_initializer="he_normal", name="hidden")(hidden)
    return keras.Model(parts, layers.Dense(2, name="out")(hidden))


@pytest.mark.slow
def test_several_inputs_are_as_one_that_holds_all(products):
    x, y = products
    settings = {"kinds": ["activation"], "subsets": 4, "signal_rows": 0}
    expected = keras2gp.xray(dense(), x, y, test=(x[:9], y[:9]), **settings)
    parts = [x[:, :1], x[:, 1:]]
    test = {"right": parts[1][:9], "left": parts[0][:9]}, y[:9]
    found = keras2gp.xray(two_inputs(), parts, y, test=test, **settings)
    assert [f.name for f in found.findings] == [f.name for f in expected.findings]
    for one, other in zip(found.computed, expected.computed, strict=True):
        assert one.nats.mean == pytest.approx(other.nats.mean, rel=1e-4, abs=1e-6)
    assert found.base.nats == pytest.approx(expected.base.nats, rel=1e-4)
    assert found.base.test_error == expected.base.test_error


@pytest.mark.slow
def test_signals_of_several_inputs(products):
    x, y = products
    parts = [keras.Input((1,), name="left"), keras.Input((1,), name="right")]
    both = layers.Add(name="both")([layers.Dense(8, name=f"dense{i}")(parts[i]) for i in (0, 1)])
    hidden = layers.Activation("relu", name="relu")(both)
    model = keras.Model(parts, layers.Dense(2, name="out")(hidden))
    settings = {"kinds": ["activation"], "subsets": 4, "signal_rows": 30}
    report = keras2gp.xray(model, [x[:, :1], x[:, 1:]], y, **settings)
    found = {signal.path: signal for signal in report.signals}
    assert {"input", "input 2", "both", "relu", "out"} <= set(found)
    assert found["both"].growth == pytest.approx(1.0, abs=0.1), "the inputs have like variances"
    one = keras2gp.xray(dense(), x, y, **settings)
    sums = x.astype(float) @ x.T
    scale = np.sqrt(np.diagonal(sums))
    pairs = (sums / np.outer(scale, scale))[:30, :30][np.triu_indices(30, 1)]
    assert found["both"].correlation == pytest.approx(pairs.mean(), rel=1e-5)
    assert one.signals[0].correlation == pytest.approx(pairs.mean(), rel=1e-5)


def sequence(*behind):
    law = {"padding": "same", "kernel_initializer": "he_normal"}
    return keras.Sequential(
        [
            keras.Input((6, 1)),
            layers.Conv1D(4, 3, activation="relu", name="conv", **law),
            layers.Conv1D(2, 3, name="out", **law),
            *behind,
        ]
    )


@pytest.mark.slow
def test_the_output_at_one_position_is_that_of_a_cropped_model(rng):
    x = rng.normal(size=(30, 6, 1)).astype("float32")
    y = (x[:, 2, 0] * x[:, 3, 0] > 0).astype(int)
    settings = {"kinds": ["activation", "padding"], "subsets": 3, "signal_rows": 12}
    found = keras2gp.xray(sequence(), x, y, position=2, **settings)
    cropped = sequence(layers.Cropping1D((2, 3)), layers.Flatten())
    expected = keras2gp.xray(cropped, x, y, **settings)
    assert found.base == expected.base
    for name in ("linear", "tanh"):
        assert found.finding(name).nats == expected.finding(name).nats
    assert [s.error for s in found.signals][:2] == [s.error for s in expected.signals][:2]
    moved = found.finding("padding valid")
    assert moved.reason == "its output has positions (2,), and that of the model (6,)"


def test_an_output_with_positions_is_refused_for_the_true_reason(products, rng):
    x = rng.normal(size=(20, 6, 1)).astype("float32")
    y = np.arange(20) % 2
    with pytest.raises(InputError, match=r"positions of an image would tell .* Try: position="):
        keras2gp.xray(sequence(), x, y)
    with pytest.raises(InputError, match=r"position=9: the output has \(6,\)"):
        keras2gp.xray(sequence(), x, y, position=9)
    with pytest.raises(InputError, match="position=1: the model's output is a vector"):
        keras2gp.xray(dense(), *products, position=1)


def data_file(products, folder):
    x, y = products
    np.savez(folder / "data.npz", x=x, y=np.array(["odd", "even"])[y])
    dense().save(folder / "model.keras")
    return [str(folder / "model.keras"), "--data", str(folder / "data.npz")]


@pytest.mark.slow
def test_the_command(products, tmp_path, capsys):
    words = [*data_file(products, tmp_path), "--train", "40", "--test", "20", "--out"]
    words = ["xray", *words, str(tmp_path / "out"), "--kinds", "activation", "--subsets", "4"]
    words += ["--signal-rows", "20"]
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "4 kernels" in shown
    assert "linear" in shown
    assert not (tmp_path / "out").exists()
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "leave-one-out error" in shown
    first = (tmp_path / "out" / "report.html").read_bytes()
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["report"]["rows"] == 40
    assert (tmp_path / "out" / "report.html").read_bytes() == first
    assert main([*words[:-4], "--subsets", "5"]) != 0, "another X-ray than that in OUT"
    assert main([*words, "--prior", "weights"]) == 2
    assert main([*words, "--kinds", "skips"]) == 2


def test_the_command_checks_variants_before_anything_is_read(products, tmp_path, capsys):
    words = ["xray", *data_file(products, tmp_path), "--train", "40", "--out", str(tmp_path / "o")]
    assert main([*words, "--variants", f"one={tmp_path / 'none.keras'}"]) != 0
    assert "none.keras: no such file" in capsys.readouterr().err
    model = str(tmp_path / "model.keras")
    assert main([*words, "--variants", model, "--variants", model]) == 2
    assert "'model' is there twice. Try: NAME=" in capsys.readouterr().err
    words[-1] = str(tmp_path / "out")
    (tmp_path / "out").mkdir()
    dense().save(tmp_path / "out" / "own.keras")
    assert main([*words, "--variants", str(tmp_path / "out" / "own.keras")]) == 2


@pytest.mark.slow
def test_the_command_on_variants_of_files_alone(products, tmp_path, capsys):
    words = ["xray", *data_file(products, tmp_path), "--train", "40", "--out", str(tmp_path / "o")]
    keras.Sequential([keras.Input((2,)), layers.Dense(2)]).save(tmp_path / "line.keras")
    words += ["--kinds", "none", "--subsets", "4", "--signal-rows", "10", "--kind", "ntk", "--json"]
    own = ["--variants", str(tmp_path / "line.keras"), "--variants", "a twin="]
    assert main([*words, *own[:-1], f"a twin={tmp_path / 'model.keras'}"]) == 0
    found = {f["name"]: f for f in json.loads(capsys.readouterr().out)["report"]["findings"]}
    assert list(found) == ["line", "a twin"]
    assert found["line"]["nats"]["verdict"] == "worse"
    assert found["a twin"]["same_as"] == "the model"


@pytest.mark.slow
def test_the_command_takes_whole_numbers_for_real_targets(products, tmp_path, capsys):
    x, _ = products
    words = ["xray", *data_file(products, tmp_path), "--train", "40", "--out", str(tmp_path / "o")]
    np.savez(tmp_path / "data.npz", x=x, y=np.round(3 * x[:, 0]).astype(int))
    words += ["--kinds", "activation", "--subsets", "4", "--signal-rows", "10", "--json"]
    assert main([*words, "--regression"]) == 0
    assert json.loads(capsys.readouterr().out)["report"]["regression"] is True


def chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser")


def title_in_browser(text, script, tmp_path, width, *, dark=False):
    """The title of a page that a browser of this width shows, set by a script at its end."""
    page = tmp_path / "page.html"
    policy = text.replace("default-src 'none'", "default-src 'none';script-src 'unsafe-inline'")
    page.write_text(policy.replace("</body>", f"<script>document.title={script}</script></body>"))
    words = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    words += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    words += ["--blink-settings=preferredColorScheme=0"] if dark else []
    shown = subprocess.run(  # noqa: S603 (a browser on our own page)
        [*words, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    return shown.partition("<title>")[2].partition("</title>")[0]


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="no chromium here")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (500, False)])
def test_the_page_opens_in_a_browser(made, tmp_path, width, dark):
    """The page is drawn, in light and in dark, and nothing sticks out of a narrow window."""
    _, out, _ = made
    script = "document.documentElement.scrollWidth+' '+getComputedStyle("
    script += "document.body).backgroundColor+' '+document.querySelectorAll('svg *').length"
    text = (out / "report.html").read_text()
    title = title_in_browser(text, script, tmp_path, width, dark=dark)
    across, colour, shapes = title.partition(" ")[0], title[title.index("rgb") :], title.split()[-1]
    assert int(across) <= width
    assert colour.startswith("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    assert int(shapes) > 50


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="no chromium here")
def test_nothing_is_cut_off_on_paper(made, tmp_path):
    """The rules of print hold on a screen as wide as a sheet: what scrolls there has room."""
    _, out, _ = made
    text = (out / "report.html").read_text()
    assert text.count("@media print") == 1
    script = "Array.from(document.querySelectorAll('.scroll')).filter(e=>e.offsetParent)"
    script += ".map(e=>e.scrollWidth<=e.clientWidth+1).join()"
    on_screen = title_in_browser(text, script, tmp_path, 698)
    assert "false" in on_screen, "a picture of all layers is wider than a sheet"
    on_paper = text.replace("@media screen and", "@media not all and")
    shown = title_in_browser(on_paper.replace("@media print", "@media all"), script, tmp_path, 698)
    assert set(shown.split(",")) == {"true"}


def test_the_memory_counts_halves_side_by_side_and_what_the_process_holds(products, monkeypatch):
    x, y = products
    xray = xray_run(dense(), x, y, kinds=KINDS, subsets=4, signal_rows=0)
    few = xray.cost(measure=False)
    assert few.peak == few.memory + few.held
    assert few.held > 2**26, "TensorFlow alone takes more"
    assert few.peak > peak_memory() / 2.0
    assert f"{size_text(few.peak)} in all of this process" in str(few)
    monkeypatch.setattr(scores.os, "cpu_count", lambda: 16)
    assert cost._of_fits(2000, 0, 4) > 2 * few.memory
    sixteen = cost._of_fits(2000, 0, 10)
    monkeypatch.setattr(scores.os, "cpu_count", lambda: 2)
    assert sixteen > 3 * cost._of_fits(2000, 0, 10)
