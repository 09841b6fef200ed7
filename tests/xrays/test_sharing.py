"""Programs that variants share, and variants that are compared on fewer rows."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from xray_networks import HE, pooled, xray_run

import keras2gp
from keras2gp.errors import NumericalError
from keras2gp.matrices import compiled
from keras2gp.xrays.measuring.scores import score_kernel
from keras2gp.xrays.planning import cost, sharing
from keras2gp.xrays.rows import ScoredTargets, draw_halves
from keras2gp.xrays.running import scoring
from keras2gp.xrays.running.directory import Directory
from keras2gp.xrays.variants.work import work_of

KINDS = ["pooling", "depth"]


def twice_pooled():
    """Most of the work is in front of the first pooling, at 49 offsets."""
    x = image = keras.Input((8, 8, 1))
    for i in (1, 2):
        x = layers.Conv2D(4, 3, padding="same", kernel_initializer=HE, name=f"conv{i}")(x)
        x = layers.Activation("relu", name=f"relu{i}")(x)
        x = layers.AveragePooling2D(2, name=f"pool{i}")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(4, "relu", kernel_initializer=HE, name="hidden")(x)
    return keras.Model(image, layers.Dense(2, name="out")(x), name="twice_pooled")


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.setattr(compiled, "XLA", False)  # many kernels, each for a moment


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    return rng.normal(size=(24, 8, 8, 1)).astype("float32"), rng.integers(0, 2, 24)


def run_of(data, **settings):
    x, y = data
    return xray_run(twice_pooled(), x, y, **{"subsets": 3, "signal_rows": 0, **settings})


def shared(run):
    """The variants of the program of the model as it is, with their places in it."""
    shares = run._scoring.shares
    first = shares[run.computed[0].key]
    every = [(v, shares[v.key]) for v in run.computed]
    return first, [(v, s) for v, s in every if s.key == first.key]


def test_variants_share_what_is_in_front_of_the_pooling(data):
    run = run_of(data, kinds=KINDS)
    first, group = shared(run)
    names = {v.name for v, _ in group}
    assert {"the model", "no pool2", "conv2 twice", "hidden left out", "hidden twice"} <= names
    assert not names & {"no pool1", "pool1 as a stride", "conv1 twice", "pooling at the end"}
    assert [s.place for _, s in group] == list(range(len(group)))
    assert first.kernel.positions == (len(group),)
    alone = sum(work_of(s.own) for _, s in group)
    assert first.work < 0.5 * alone / work_of(first.own)
    assert {s.work for _, s in group} == {first.work}


def unpooled():
    """Four convolutions, three with an activation, and no offsets to walk."""
    x = image = keras.Input((8, 8, 1))
    for i in (1, 2, 3):
        x = layers.Conv2D(4, 3, padding="same", kernel_initializer=HE, name=f"conv{i}")(x)
        x = layers.Activation("relu", name=f"relu{i}")(x)
    x = layers.Conv2D(4, 3, padding="same", kernel_initializer=HE, name="conv4")(x)
    return keras.Model(image, layers.Dense(2, name="out")(layers.Flatten()(x)), name="unpooled")


def without_offsets(data, **settings):
    x, y = data
    settings = {"kinds": ["depth", "activation"], "subsets": 3, "signal_rows": 0, **settings}
    return shared(xray_run(unpooled(), x, y, **settings))


def test_without_offsets_variants_share_the_layers_in_front_of_the_change(data):
    first, group = without_offsets(data)
    names = {v.name for v, _ in group}
    assert {"the model", "conv4 left out", "conv4 twice"} <= names
    assert not names & {"tanh", "gelu"}  # whose tiles are others
    assert first.work <= 0.8 * sum(work_of(s.own) for _, s in group) / work_of(first.own)
    assert {s.rows for _, s in group} == {len(data[1])}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_values_that_are_shared_without_offsets(kind, data, plain):
    x, _ = data
    first, group = without_offsets(data, kind=kind, dtype="float64")
    matrix, cross = first.kernel.matrix(x[:6]), first.kernel.matrix(x[6:9], x[:6])
    for _, share in group:
        np.testing.assert_allclose(matrix[..., share.place], share.own.matrix(x[:6]), rtol=1e-10)
        np.testing.assert_allclose(
            cross[..., share.place], share.own.matrix(x[6:9], x[:6]), rtol=1e-10
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_shared_values_are_those_of_kernels_on_their_own(kind, data, plain):
    x, _ = data
    names = {"no pool2", "pool2 as a stride", "hidden twice", "conv2 left out"}
    run = run_of(data, kinds=KINDS, kind=kind, dtype="float64")
    first, group = shared(run)
    matrix, cross = first.kernel.matrix(x[:6]), first.kernel.matrix(x[6:9], x[:6])
    seen = [(v, s) for v, s in group if v.name in names]
    assert len(seen) == len(names)
    for _, share in seen:
        np.testing.assert_allclose(matrix[..., share.place], share.own.matrix(x[:6]), rtol=1e-10)
        np.testing.assert_allclose(
            cross[..., share.place], share.own.matrix(x[6:9], x[:6]), rtol=1e-10
        )


def test_layers_of_one_name_and_other_variances_stay_apart(plain):
    """The fan-in of the last layer, and so its variance, is that of the layer in front of it."""

    def network(units):
        inner = [layers.Dense(units, "relu", name=f"hidden{units}")] if units else []
        normal = keras.initializers.RandomNormal(stddev=0.5)
        last = layers.Dense(2, kernel_initializer=normal, name="out")
        return keras2gp.convert(keras.Sequential([keras.Input((3,)), *inner, last]))

    kernels = [network(units) for units in (0, 5, 9)]
    x = np.random.default_rng(0).normal(size=(4, 3))
    joint = sharing.joint_kernel(kernels).matrix(x)
    for place, kernel in enumerate(kernels):
        np.testing.assert_allclose(joint[..., place], kernel.matrix(x), rtol=1e-6)


def test_a_variant_that_takes_long_has_fewer_rows(monkeypatch, data):
    monkeypatch.setattr(sharing, "_SOON", 0.0)
    monkeypatch.setattr(sharing, "FEWEST", 12)
    settings = {"kinds": ["depth", "pooling"], "full_work": 1.0}
    run = run_of(data, **settings)
    rows = {v.name: run._scoring.shares[v.key].rows for v in run.computed}
    works = {v.name: v.work for v in run.computed}
    assert rows["conv1 twice"] == max(12, int(24 * works["conv1 twice"] ** -0.5)) < 24
    assert rows["the model"] == rows["hidden twice"] == rows["no pool1"] == 24
    monkeypatch.undo()  # a kernel of less than a minute has all rows
    assert {s.rows for s in run_of(data, kinds=["depth"])._scoring.shares.values()} == {24}


@pytest.mark.slow
def test_fewer_rows_are_compared_with_the_model_on_the_same_ones(monkeypatch, data, plain):
    x, y = data
    monkeypatch.setattr(sharing, "_SOON", 0.0)
    monkeypatch.setattr(sharing, "FEWEST", 12)
    test = (x[:5], y[:5])
    settings = {"kinds": ["depth"], "full_work": 1.0, "test": test}
    run = run_of((x[5:], y[5:]), **settings)
    variant = next(v for v in run.computed if v.name == "conv1 twice")
    report = run.run()
    finding = report.finding("conv1 twice")
    count = finding.rows
    assert 12 <= count < 19 == report.finding("hidden twice").rows == report.rows
    rows = sharing.chosen_rows(count, 19, 0)
    chosen, labels = x[5:][rows], y[5:][rows]
    targets = ScoredTargets(labels, y[:5], regression=False)
    both = [
        score_kernel(k.matrix(chosen), targets, draw_halves(targets, 3, 0), k.matrix(x[:5], chosen))
        for k in (variant.kernel, run.computed[0].kernel)
    ]
    for measure in ("error", "nats", "test_error"):
        one, other = (np.mean(getattr(scores, measure)) for scores in both)
        assert getattr(finding, measure).mean == pytest.approx(one - other, abs=1e-5)
    assert f"conv1 twice on {count}" in report.to_text()
    assert f"on {count} of the images" in report.to_html()


def test_rows_that_are_chosen_are_nested_and_random():
    few, more = (set(sharing.chosen_rows(n, 100, 1).tolist()) for n in (20, 50))
    assert few < more
    assert len(few) == 20
    assert sharing.chosen_rows(100, 100, 1).tolist() == list(range(100))
    assert few != set(sharing.chosen_rows(20, 100, 2).tolist())


@pytest.mark.slow
def test_a_shared_program_without_finite_entries_is_not_used(tmp_path, data, plain, monkeypatch):
    run = run_of(data, kinds=["depth"])
    first, group = shared(run)
    work = Directory(tmp_path, {"xray": "one"})
    store, names = work.store, []

    def failing(kernel, name, *sides, executor):
        names.append(name)
        if kernel is first.kernel:
            raise NumericalError("an entry is not finite")
        return store(kernel, name, *sides, executor=executor)

    monkeypatch.setattr(work, "store", failing)
    for variant, _ in group[:2]:
        assert run._scoring.score(variant, work, "auto").error
    assert names == [f"{first.key}.zarr", *(f"{v.key}.zarr" for v, _ in group[:2])]


@pytest.mark.slow
def test_a_shared_run_that_was_interrupted_writes_the_same_bytes(
    tmp_path, data, plain, monkeypatch
):
    settings = {"kinds": ["depth"], "test": (data[0][:5], data[1][:5])}
    whole = run_of(data, out=tmp_path / "whole", **settings).run()
    seen = []

    def interrupt(*arguments):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(1)
        return score_kernel(*arguments)

    monkeypatch.setattr(scoring, "score_kernel", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_of(data, out=tmp_path / "again", **settings).run()
    monkeypatch.setattr(scoring, "score_kernel", score_kernel)
    assert run_of(data, out=tmp_path / "again", **settings).run() == whole
    for name in ("report.html", "report.json", "report.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    document = json.loads((tmp_path / "whole" / "report.json").read_text())
    assert {f["rows"] for f in document["findings"] if f["summary"]} == {24}


def test_compiled_kernels_are_counted_one_by_one_and_more_with_loops_over_offsets():
    """A shared pass compiles the layers of all its kernels; loops over offsets take most."""
    x = np.random.default_rng(0).random((40, 6, 6, 1)).astype("float32")
    y = np.arange(40) % 2

    flat = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 2, activation="relu", kernel_initializer=HE),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )

    def stated(model):
        taken = xray_run(model, x, y, kinds=["bias"], subsets=4, signal_rows=0).cost(measure=False)
        assert taken.kernels > 1
        return taken.memory / taken.kernels

    with_loops, without = stated(pooled()), stated(flat)
    assert with_loops > cost._LOOPS > 2 * cost._PROGRAM
    assert cost._PROGRAM + 4 * cost._NODE < without < cost._LOOPS
