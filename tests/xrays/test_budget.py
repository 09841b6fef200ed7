"""X-rays within so many minutes: what is chosen, what is said, and how a run goes on."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers
from xray_networks import xray_run

import keras2gp
from keras2gp.cli.main import main
from keras2gp.errors import InputError
from keras2gp.matrices.speed import Speed
from keras2gp.xrays.planning import timing
from keras2gp.xrays.planning.budget import Choice
from keras2gp.xrays.planning.sharing import Share
from keras2gp.xrays.planning.timing import Plan, TimingSample, choose_fitting, order_by_information
from keras2gp.xrays.running import clock as clock_module
from keras2gp.xrays.running import run, scoring
from keras2gp.xrays.running.clock import Clock
from keras2gp.xrays.variants.subject import Variant

KINDS = ["activation", "bias"]
SETTINGS = {"kinds": KINDS, "subsets": 4, "signal_rows": 0}
X = np.random.default_rng(5).normal(size=(60, 2)).astype("float32")
Y = (X[:, 0] * X[:, 1] > 0).astype(int)


def dense():
    return keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(8, "relu", kernel_initializer="he_normal", name="hidden"),
            layers.Dense(2, name="out"),
        ],
        name="dense",
    )


def share(rows, key="", work=1.0):
    kernel = SimpleNamespace(graph=SimpleNamespace(nodes=range(4)))
    return Share(kernel, kernel, key, None, rows, work)


def test_what_says_most_comes_first():
    listed = [
        ("", "the model", 0, 1.0, 100),
        ("skip", "no skip into a", 1, 1.0, 100),
        ("skip", "no skips", 2, 1.0, 100),
        ("activation", "tanh", 3, 4.0, 100),
        ("activation", "linear", 3, 0.5, 100),
        ("pooling", "no pool", 1, 9.0, 50),
        ("own", "mine", 0, 3.0, 100),
    ]
    variants = [Variant(k, n, "", work=w, changes=c) for k, n, c, w, _ in listed]
    order = order_by_information(variants, [share(rows) for *_, rows in listed])
    found = [listed[n][1] for n in order]
    assert found[:4] == ["the model", "mine", "no skips", "linear"]
    assert found[4:] == ["no skip into a", "tanh", "no pool"]


@pytest.fixture
def work():
    """Programs of 10 s; the last two variants share one. Fits take a second."""
    shares = [share(10, key) for key in ("a", "b", "c", "c")]
    kernel = shares[0].kernel
    plan = Plan(kernel, shares, [False] * 4, None, 10, 0, 3, 5, signals_there=False)
    pilot = TimingSample(4.0, 10.0, 1e12, ((5, 1.0), (10, 1.0)), ((5, 4.0, 2),))
    return plan, pilot


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (15.9, None),
        (18.0, ([0], False)),
        (24.0, ([0], True)),
        (30.5, ([0, 1], False)),
        (37.0, ([0, 1], True)),
        (44.5, ([0, 1], True)),
        (46.5, ([0, 1, 2], True)),
        (54.0, ([0, 1, 2, 3], True)),
    ],
)
def test_what_fits(work, seconds, expected, monkeypatch):
    """Before 4 s, then 12 for each but the last, 2; the flow, 6, comes soon only if it is short."""
    monkeypatch.setattr(timing, "rounds_of", lambda _fits, _rows: 1)
    assert choose_fitting(*work, [0, 1, 2, 3], seconds) == expected
    plan, pilot = work
    assert pilot.parts(plan, left=False) == pytest.approx((12.0, 12.0, 12.0, 2.0, 6.0))


@pytest.fixture
def slow(monkeypatch):
    """The kernel of the dense model is said to take 100 s, and that without a ReLU 75 s."""
    monkeypatch.setattr(timing, "speed_of", lambda _kernel, _x, **_: Speed(100.0, 1e12))
    monkeypatch.setattr(timing, "_fit_seconds", lambda _rows: 1e-9)


def reasons(report):
    return {f.name: f.reason for f in report.findings if f.summary is None}


def test_the_work_is_cut_to_the_minutes_and_goes_on_with_more(slow, tmp_path, monkeypatch):
    said = []
    out = tmp_path / "out"
    whole = keras2gp.xray(dense(), X, Y, **SETTINGS)
    assert whole.minutes is None
    assert whole.notes == ()
    cut = keras2gp.xray(dense(), X, Y, minutes=5.5, out=out, announce=said.append, **SETTINGS)
    assert len(cut.computed) == 2 < len(whole.computed)
    assert {f.name for f in cut.computed} == {"linear", "biases 0.1"}
    assert cut.finding("linear").summary == whole.finding("linear").summary
    assert set(reasons(cut).values()) == {"it does not fit into 5.5 minutes"}
    assert cut.comparisons == 4, "what is not computed is not tested"
    (note,) = cut.notes
    assert note.startswith(f"2 of {len(whole.computed)} variants in 5.5 minutes: all, on all rows")
    assert f"note: {note}" in said[0]
    for text in (cut.to_text().replace("\n  ", " "), cut.to_html()):
        assert note[2:] in text

    monkeypatch.setattr(timing, "speed_of", None)  # it is kept
    again = keras2gp.xray(dense(), X, Y, minutes=5.5, out=out, **SETTINGS)
    assert again == cut
    counted, score_kernel = [], scoring.score_kernel
    monkeypatch.setattr(
        scoring, "score_kernel", lambda *a, **k: counted.append(1) or score_kernel(*a, **k)
    )
    more = keras2gp.xray(dense(), X, Y, minutes=9, out=out, **SETTINGS)
    assert len(counted) == len(whole.computed) - 2
    assert (more.findings, more.base, more.notes) == (whole.findings, whole.base, ())
    less = keras2gp.xray(dense(), X, Y, minutes=5.5, out=out, **SETTINGS)
    assert less.findings == more.findings, "what is there is not left out"


def test_all_rows_are_given_up_last(slow, monkeypatch):
    """A kernel's time is all in its pairs here: 1830 of 60 rows take 40 s."""
    monkeypatch.setattr(timing, "speed_of", lambda _kernel, _x, **_: Speed(0.0, 1830 / 40.0))
    monkeypatch.setattr(run, "FEWEST", 20)
    report = keras2gp.xray(dense(), X, Y, minutes=1.5, **SETTINGS)
    assert report.rows < 60
    assert any(f"{report.rows} of 60 rows" in note for note in report.notes)
    assert len(report.computed) >= 3
    assert {f.rows for f in report.computed} == {report.rows}
    assert f"{report.rows} rows" in report.to_text()


def test_minutes_that_are_too_few_or_none(slow):
    with pytest.raises(InputError, match=r"does not fit into them\. Try: minutes=\d, for all of"):
        keras2gp.xray(dense(), X, Y, minutes=0.1, **SETTINGS)
    for wrong in (0, -1.0, float("nan"), "5", True):
        with pytest.raises(InputError, match=r"minutes=.*: expected a number above 0"):
            xray_run(dense(), X, Y, minutes=wrong, **SETTINGS)
    with pytest.raises(InputError, match=r"minutes=0\b"):  # numbers of numpy before it are taken
        xray_run(dense(), X, Y, most_work=np.int64(3), full_work=np.float32(2), minutes=0)


def test_a_clock_stops_what_is_slower_than_measured(monkeypatch):
    """Parts of 10 s in 44 s; the first takes twice as long, so that one more fits and no third."""
    time, kept = [0.0], {}
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(perf_counter=lambda: time[0]))
    directory = SimpleNamespace(read=kept.get, write=kept.__setitem__)
    choice = Choice([], False, 60, {}, (), (10.0, 10.0, 10.0, 0.0))
    clock = Clock(choice, 44.0 / 60.0, 2.0, directory)
    for number, name in enumerate(("the model", "a", "b")):
        allowed = clock.allows(number, name)
        assert allowed == (number < 2)
        if allowed:
            began = time[0]
            time[0] += 20.0
            clock.count(number, began)
    assert clock.notes() == ("the time was up before b: kernels took longer than was measured",)
    again = Clock(choice, 44.0 / 60.0, 2.0, directory)
    assert not again.allows(2, "b"), "the time of earlier runs counts"
    assert Clock(choice, 2.0, 2.0, directory).allows(2, "b")


@pytest.mark.slow
def test_the_command_in_minutes(slow, tmp_path, capsys):
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    dense().save(tmp_path / "model.keras")
    words = ["xray", str(tmp_path / "model.keras"), "--data", str(tmp_path / "data.npz")]
    words += ["--train", "60", "--kinds", ",".join(KINDS), "--subsets", "4", "--signal-rows", "10"]
    words += ["--out", str(tmp_path / "out"), "--minutes"]
    assert main([*words, "5.5", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "note: 2 of 4 variants in 5.5 minutes" in shown
    assert "it does not fit" in " ".join(shown.split())
    assert not (tmp_path / "out").exists()
    assert main([*words, "5.5", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["cost"]["minutes"] == document["report"]["minutes"] == 5.5
    assert document["cost"]["notes"] == document["report"]["notes"]
    assert main([*words, "0"]) == 2
    assert main([*words, "0.1"]) != 0
    assert "the model as it is does not fit" in capsys.readouterr().err
