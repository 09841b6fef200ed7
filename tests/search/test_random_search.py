"""Random search: draws, trials, the table, and going on after any interruption."""

import csv
import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy import stats

import keras2gp
from keras2gp.errors import InputError, StoreError
from keras2gp.search import attempts as module
from keras2gp.search.random_search import Split, random_search
from keras2gp.search.spaces import Space, network, own_space, paper_space, space_of
from keras2gp.search.trials import read_trials

SECONDS = ("kernel_seconds", "solve_seconds")


def build(settings):
    if settings["depth"] == 3:
        raise ValueError("three layers\nare too many")
    x = image = keras.Input((6,))
    prior = keras.initializers.VarianceScaling(settings["w2"], "fan_in", "untruncated_normal")
    for _ in range(settings["depth"]):
        x = keras.layers.Dense(4, activation=settings["phi"], kernel_initializer=prior)(x)
    return keras.Model(image, keras.layers.Dense(2)(x))


SPACE = Space(
    "small",
    {"depth": [1, 2, 3], "w2": stats.loguniform(0.1, 10), "phi": ["relu", "softplus3"]},
    build,
    "1",
    lambda settings: settings["phi"] == "relu",
)


@pytest.fixture
def parts(rng):
    x = rng.normal(size=(60, 6)).astype("float32")
    y = np.where(x[:, 0] * x[:, 1] > 0, "same", "other")
    return Split(x[:40], y[:40]), Split(x[40:], y[40:])


def rows(folder):
    with (folder / "trials.csv").open(newline="") as stream:
        return [
            {k: v for k, v in row.items() if k not in SECONDS} for row in csv.DictReader(stream)
        ]


def test_a_search(parts, tmp_path):
    told = []
    found = random_search(SPACE, *parts, samples=6, out=tmp_path, told=told.append)
    assert list(found.trials) == told
    table = rows(tmp_path)
    assert [row["trial"] for row in table] == list("012345")
    failed = [row for row in table if row["status"] == "failed"]
    assert failed
    assert {row["reason"] for row in failed} == {"build: three layers are too many"}
    assert {row["depth"] for row in failed} == {"3"}
    fine = [trial for trial in found.trials if trial.status == "fine"]
    assert len(fine) >= 2
    assert found.best.validation_error == min(trial.validation_error for trial in fine)

    model = keras.saving.load_model(tmp_path / "best.keras")
    kernel = keras2gp.convert(model)
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["trial"] == found.best.trial
    assert best["settings"] == found.best.settings
    written = {layer: (v.weight, v.bias) for layer, v in kernel.parameters.items()}
    assert written == {k: (v["weight"], v["bias"]) for k, v in best["parameters"].items()}

    train, validation = parts
    head = keras2gp.GPClassifier(kernel, 0.0).fit(train.x, train.y)
    assert head.log_marginal_likelihood_value_ == pytest.approx(
        found.best.log_marginal_likelihood, rel=1e-9
    )
    missed = np.mean(head.predict(validation.x) != validation.y)
    assert missed == pytest.approx(found.best.validation_error)
    left_out = head.classes_[head.leave_one_out()[0].argmax(axis=1)]
    assert np.mean(left_out != train.y) == pytest.approx(found.best.leave_one_out_error)
    assert not list(tmp_path.glob("trial-*"))


@pytest.mark.parametrize("score", ["leave-one-out", "evidence"])
def test_scores_without_validation_images(parts, tmp_path, score):
    found = random_search(SPACE, parts[0], samples=4, out=tmp_path, score=score)
    fine = [trial for trial in found.trials if trial.status == "fine"]
    assert all(trial.validation_error is None for trial in fine)
    if score == "evidence":
        expected = max(trial.log_marginal_likelihood for trial in fine)
        assert found.best.log_marginal_likelihood == expected
    else:
        assert found.best.leave_one_out_error == min(t.leave_one_out_error for t in fine)


def test_it_goes_on(parts, tmp_path, monkeypatch):
    whole = random_search(SPACE, *parts, samples=5, out=tmp_path / "whole")
    random_search(SPACE, *parts, samples=2, out=tmp_path / "cut")
    gram = module.gram

    def interrupted(kernel, x1, x2=None, **options):
        if x2 is not None:
            raise KeyboardInterrupt
        return gram(kernel, x1, x2, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "gram", interrupted)
        with pytest.raises(KeyboardInterrupt):
            random_search(SPACE, *parts, samples=5, out=tmp_path / "cut")
    stored = list((tmp_path / "cut").glob("trial-*/train.zarr"))
    assert len(stored) == 1  # what was finished of the interrupted trial
    again = random_search(SPACE, *parts, samples=5, out=tmp_path / "cut")
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert again.best.trial == whole.best.trial
    assert again.best.settings == whole.best.settings
    best = [json.loads((tmp_path / d / "best.json").read_text()) for d in ("cut", "whole")]
    assert best[0]["parameters"] == best[1]["parameters"]  # names of layers too
    assert not list((tmp_path / "cut").glob("trial-*"))

    def no_more(*arguments, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr(module, "gram", no_more)
    assert random_search(SPACE, *parts, samples=5, out=tmp_path / "cut").trials == again.trials


def test_another_search_is_refused(parts, tmp_path):
    random_search(SPACE, *parts, samples=1, out=tmp_path)
    with pytest.raises(StoreError, match="seed: 0, now 1"):
        random_search(SPACE, *parts, samples=1, out=tmp_path, seed=1)
    other = Split(parts[0].x + 1, parts[0].y)
    with pytest.raises(StoreError, match="data_sha256"):
        random_search(SPACE, other, parts[1], samples=1, out=tmp_path)
    table = (tmp_path / "trials.csv").read_text()
    for damaged in (
        "trial,status\n0,fine\n",
        table.replace("\n0,", "\n1,"),
        table + table.splitlines()[1] + "\n",
        table + "1,fine\n",
        table.replace("\n0,fine,", "\n0,fine,nan"),
    ):
        (tmp_path / "trials.csv").write_text(damaged)
        with pytest.raises(StoreError, match="no table of trials"):
            random_search(SPACE, *parts, samples=1, out=tmp_path)
    (tmp_path / "trials.csv").write_text(table.replace("\n0,", "\n1,"))
    with pytest.raises(StoreError, match="line 2 is trial 1, and has to be trial 0"):
        random_search(SPACE, *parts, samples=1, out=tmp_path)


@pytest.mark.parametrize("name", ["trials.csv", "search.json"])
def test_a_pipe_or_a_folder_in_the_place_of_a_file(name, parts, tmp_path):
    """Refused, and not waited for; a table with a cell beyond the limit of CSV files too."""
    random_search(SPACE, *parts, samples=1, out=tmp_path)
    table = (tmp_path / "trials.csv").read_text()
    for make in (os.mkfifo, Path.mkdir, lambda path: path.symlink_to(tmp_path / "nothing")):
        (tmp_path / name).unlink()
        make(tmp_path / name)
        with pytest.raises(StoreError, match=f"{name} is no file"):
            random_search(SPACE, *parts, samples=1, out=tmp_path)
        (tmp_path / name).rmdir() if (tmp_path / name).is_dir() else (tmp_path / name).unlink()
        (tmp_path / name).touch()
    (tmp_path / name).write_text("[" * 100_000 if name == "search.json" else table + "x" * 200_000)
    with pytest.raises(StoreError, match=f"{name} is no "):
        random_search(SPACE, *parts, samples=1, out=tmp_path)


def test_two_searches_in_one_directory(parts, tmp_path):
    """Each would remove the folder of a trial that the other is at work on."""
    refused = []

    def second(trial):
        with pytest.raises(StoreError, match="another process is at work in") as caught:
            random_search(SPACE, *parts, samples=2, out=tmp_path)
        refused.append(caught.value)

    found = random_search(SPACE, *parts, samples=1, out=tmp_path, told=second)
    assert len(refused) == len(found.trials) == 1
    assert len(random_search(SPACE, *parts, samples=2, out=tmp_path).trials) == 2


def test_a_cell_that_a_spreadsheet_would_run(parts, tmp_path):
    space = Space("s", {"depth": [1], "w2": [1.0], "phi": ["relu"], "x": ["=1+1"]}, build, "1")
    for _ in range(2):
        found = random_search(space, *parts, samples=1, out=tmp_path)
        assert found.trials[0].settings["x"] == "=1+1"
    assert rows(tmp_path)[0]["x"] == "'=1+1"


def test_what_is_refused(parts, tmp_path):
    with pytest.raises(InputError, match="score='accuracy'"):
        random_search(SPACE, *parts, samples=1, out=tmp_path, score="accuracy")
    with pytest.raises(InputError, match="needs validation images"):
        random_search(SPACE, parts[0], samples=1, out=tmp_path)
    with pytest.raises(InputError, match="samples"):
        random_search(SPACE, *parts, samples=0, out=tmp_path)
    for name in ("trial", "reason", "jitter"):
        with pytest.raises(InputError, match=f"needs the name {name}"):
            random_search(Space("s", {name: [1]}, build, "1"), *parts, samples=1, out=tmp_path)
    never = Space("never", {"a": [1]}, build, "1", lambda settings: False)
    with pytest.raises(InputError, match="none of 1000 draws"):
        never.draw(0, 0)
    with pytest.raises(InputError, match="cannot be drawn from"):
        Space("wrong", {"a": 3}, build, "1").draw(0, 0)


def test_a_trial_that_overflows_is_a_row(parts, tmp_path):
    space = Space("big", {"depth": [2], "w2": [1e38], "phi": ["relu"]}, build, "1")
    found = random_search(space, *parts, samples=1, out=tmp_path)
    assert found.best is None
    assert found.trials[0].reason.startswith("NumericalError")
    assert not (tmp_path / "best.keras").exists()


def test_a_space_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from scipy import stats\n"
        "SPACE = {'width': [1, 2], 'w2': stats.uniform(1, 2)}\n"
        "def build(settings):\n    return settings\n"
    )
    space = space_of(f"{file}:build", (6, 6, 1), 3)
    drawn = space.draw(3, 1)
    assert drawn == space.draw(3, 1) != space.draw(3, 2)
    assert type(drawn["w2"]) is float
    assert 1 <= drawn["w2"] <= 3
    before = space.identity
    file.write_text(file.read_text() + "# changed\n")
    assert own_space(file, "build").identity != before
    with pytest.raises(InputError, match="no function absent"):
        own_space(file, "absent")
    file.write_text("1 / 0")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        own_space(file, "build")
    file.write_text("def build(settings): ...")
    with pytest.raises(InputError, match="no dict SPACE"):
        own_space(file, "build")
    for wrong in ("other", "mine.txt:build"):
        with pytest.raises(InputError, match="expected paper"):
            space_of(wrong, (6, 6, 1), 3)
    with pytest.raises(InputError, match="cannot be read"):
        own_space(tmp_path / "absent.py", "build")
    file.write_text("SPACE = {1: [2]}\ndef build(settings): pass\n")
    with pytest.raises(InputError, match="a setting is named 1"):
        own_space(file, "build")
    file.write_text("class Own(BaseException): pass\nraise Own('x')\n")
    with pytest.raises(InputError, match="fails: Own: x"):
        own_space(file, "build")
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(InputError, match="it is no file"):
        own_space(tmp_path / "pipe.py", "build")


def test_the_papers_space_holds_its_findings():
    space = paper_space((28, 28, 1), 10)
    findings = (
        {"layers": 7, "window": 7, "weight_variance": 2.79, "bias_variance": 7.86, "skip": 0},
        {"layers": 9, "window": 4, "weight_variance": 7.27, "bias_variance": 4.69, "skip": 1},
    )
    for finding in findings:
        rest = {"stride": 1, "padding": "same", "activation": "relu"}
        for name, value in (finding | rest).items():
            choices = space.distributions[name]
            density = getattr(choices, "pdf", getattr(choices, "pmf", None))
            assert value in choices if density is None else density(value) > 0
        assert space.fits(finding | rest)


def test_the_papers_space_is_drawn_everywhere():
    draws = [paper_space((28, 28, 1), 10).draw(0, number) for number in range(300)]
    assert {d["skip"] for d in draws} == {0, 1, 2, 3}
    assert {(d["stride"], d["padding"]) for d in draws} == {
        (1, "same"), (1, "valid"), (2, "same"), (2, "valid"),
    }  # fmt: skip
    assert 0.2 < np.mean([d["skip"] == 0 for d in draws]) < 0.8
    assert {d["layers"] for d in draws} == set(range(2, 13))


def test_parts_of_the_papers_space():
    for part, skips in (("paper-convnet", {0}), ("paper-residual", {1, 2, 3})):
        space = space_of(part, (28, 28, 1), 10)
        assert {space.draw(0, number)["skip"] for number in range(60)} == skips
        assert space.name == part
        assert space.identity != space_of("paper", (28, 28, 1), 10).identity


@pytest.mark.parametrize("changes", [
    {"skip": 2, "activation": "erf"}, {"padding": "valid", "stride": 2}, {"skip": 1},
])  # fmt: skip
def test_the_papers_networks_convert(changes):
    settings = {
        "layers": 3, "window": 3, "stride": 1, "padding": "same", "activation": "relu",
        "skip": 0, "weight_variance": 0.3, "bias_variance": 0.2,
    } | changes  # fmt: skip
    kernel = keras2gp.convert(network(settings, (16, 16, 1), 3))
    assert kernel.parameters["conv2"].weight == pytest.approx(0.3 * 9)
    assert kernel.parameters["dense"].weight == pytest.approx(0.3)
    assert all(v.bias == pytest.approx(0.2) for v in kernel.parameters.values())


def test_skips_add_what_equation_16_adds():
    """One pixel, window 1: v3 = v1 + b2 + w2 relu(v2), by hand."""
    settings = {
        "layers": 3, "window": 1, "stride": 1, "padding": "same", "activation": "relu",
        "skip": 2, "weight_variance": 1.5, "bias_variance": 0.5,
    }  # fmt: skip
    kernel = keras2gp.convert(network(settings, (1, 1, 1), 2), dtype="float64")
    v1 = 1.5 * 4.0 + 0.5
    v2 = 1.5 * v1 / 2 + 0.5
    v3 = v1 + 1.5 * v2 / 2 + 0.5
    expected = 1.5 * v3 / 2 + 0.5
    assert kernel.diag(np.full((1, 1, 1, 1), 2.0)).numpy() == pytest.approx(expected)


def test_the_table_reads_back(parts, tmp_path):
    found = random_search(SPACE, *parts, samples=2, out=tmp_path)
    back = read_trials(tmp_path / "trials.csv", list(SPACE.distributions))
    for trial, read in zip(found.trials, back, strict=True):
        assert {k: str(v) for k, v in trial.settings.items()} == read.settings
        assert trial.log_marginal_likelihood == read.log_marginal_likelihood


def sequence(settings):
    steps = keras.layers.Conv1D(settings["filters"], 2, activation="relu")
    shape = [keras.Input((6,)), keras.layers.Reshape((6, 1))]
    return keras.Sequential([*shape, steps, keras.layers.Dense(2)])


def test_a_network_whose_output_has_positions_is_a_failed_trial(parts, tmp_path):
    space = Space("maps", {"filters": [2, 3]}, sequence, "1", lambda settings: True)
    (trial,) = random_search(space, *parts, samples=1, out=tmp_path).trials
    assert trial.status == "failed"
    assert "the output has positions (5,), and the labels are of images" in trial.reason
