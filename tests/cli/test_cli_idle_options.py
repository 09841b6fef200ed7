"""Options that have no effect on the data or the estimator at hand: refused, or told.

Every option of every command is in one of two tables: it always has an effect, or a row says where
it has none and what is answered there.
"""

import argparse

import numpy as np
import pytest

from keras2gp.cli.parser import build_parser

EFFECTIVE = {
    "--json", "--config", "--help", "--version", "--data", "--out", "--train", "--test", "--limit",
    "--seed", "--samples", "--steps", "--score", "--widths", "--subsets", "--most-work",
    "--full-work", "--signal-rows", "--variants", "--validation", "--noise-variance", "--jitter",
    "--solver", "--template", "--dry-run", "--shuffle", "--executor", "--resume", "--no-resume",
    "--no-variance", "--ood", "--regression", "--minutes",
}  # fmt: skip
"""Options that act on whatever data, model and estimator there are."""
MODEL, KERNEL, FIT = "tiny.keras", "fitted/kernel", "fitted"
NEW = ("--out", "new")
GRAM = ("gram", MODEL, "--data", "data.npz", "--rows", 9, *NEW)
PREDICT = ("predict", FIT, "--out", "new.csv")
EVALUATE = ("evaluate", FIT, "--data", "data.npz", "--test", 9)
RUN = ("fit", MODEL, "--data", "data.npz", "--train", 9, *NEW)
VERIFY = ("verify", MODEL, "--dry-run")
PLOT = ("plot", "kernel", "--data", "data.npz", "--rows", 9, "--out", "new.png")
XRAY = ("xray", MODEL, "--data", "data.npz", "--train", 9, "--subsets", 2, "--dry-run", *NEW)
CONVERSION = {
    "--prior": "weights", "--overrides": "o.yaml", "--output": "head", "--max-pooling": "average",
    "--tolerance": 1e-4, "--trained-until": "conv", "--input-shape": "6,6,1",
}  # fmt: skip
OF_DATA = (("--download",), ("--target", "label"))
REFUSED = [
    *((*GRAM, *words) for words in OF_DATA),
    *((*PREDICT, "--data", data, *words) for data in ("images.npz", "x.npy", "loose")
      for words in OF_DATA),
    *((*EVALUATE, "--ood", "images.npz", *words) for words in OF_DATA),
    *((*VERIFY, *words) for words in OF_DATA),
    *((*VERIFY, "--data", "images.npz", *words) for words in OF_DATA),
    *((*PLOT, MODEL, *words) for words in OF_DATA),
    *((*PLOT, "stored", option, value) for option, value in CONVERSION.items()),
    *(("inspect", KERNEL, option, value) for option, value in CONVERSION.items()),
    ("gram", KERNEL, *GRAM[2:], "--dtype", "float64"),
    ("gram", KERNEL, *GRAM[2:], "--kind", "ntk"),
    ("inspect", "zoo:convnet", "--prior", "weights"),
    ("inspect", "zoo:convnet", "--trained-until", "conv1"),
    (*RUN, "--regression", "--probabilities", "linear"),
    (*RUN, "--regression", "--intercept", 0.5),
    (*RUN, "--residual", 0.1),
    (*RUN, "--rank", 5),
    (*RUN, "--solver", "nystroem", "--probes", 5),
    (*XRAY, "--prior", "weights"),
    (*XRAY, "--trained-until", "conv"),
    (*XRAY, "--kinds", "none"),
]  # fmt: skip
"""Refused before anything is read: the last option but its value is named."""
DATA_LACKS = [
    ("inspect", MODEL, "--position", "0,0"),
    (*GRAM, "--position", "0,0"),
    (*EVALUATE, "--gram", "stored"),
    ("verify", MODEL, "--dry-run", "--data", "images.npz", "--images", 99),
    (*PLOT[:4], MODEL, "--rows", 999, *PLOT[6:]),
    (*PLOT[:4], "stored", "--rows", 99, *PLOT[6:]),
    (*GRAM[:4], "--rows", 999, *NEW),
    ("predict", FIT, "--out", "new.csv", "--data", "plain.csv", "--target", "z"),
    ("verify", "tabular.keras", "--dry-run", "--data", "plain.csv", "--target", "z"),
]
"""Refused once the data or the model is read."""
TOLD = [
    ((*GRAM, "--positions", "all"), "--positions all changes nothing"),
    (("inspect", MODEL, "--max-pooling", "average"), "max_pooling changes nothing"),
    (("inspect", MODEL, "--tolerance", 1e-4), "tolerance changes nothing"),
    ((*GRAM, "--tolerance", 1e-4), "tolerance changes nothing"),
    ((*VERIFY, "--tolerance", 1e-4), "tolerance changes nothing"),
    ((*XRAY, "--max-pooling", "average"), "max_pooling changes nothing"),
    (("evaluate", "maps", "--data", "maps.npz", "--test", 9, "--keep"), "--keep stores nothing"),
]


@pytest.fixture(scope="module")
def there(files, fitted, tmp_path_factory):
    """The files of the tables, in one folder."""
    import keras

    from keras2gp.cli.main import main

    folder = tmp_path_factory.mktemp("idle")
    for name in ("tiny.keras", "data.npz", "images.npz"):
        (folder / name).write_bytes((files / name).read_bytes())
    (folder / "fitted").symlink_to(fitted)
    (folder / "o.yaml").write_text("head: 2.0\n")
    (folder / "plain.csv").write_text("a,b\n1,2\n3,4\n")
    np.save(folder / "x.npy", np.load(files / "images.npz")["x"])
    (folder / "loose").mkdir()
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((6, 6), "uint8")).save(folder / "loose" / "a.png")
    layers, he = keras.layers, {"kernel_initializer": "he_normal"}
    keras.Sequential([keras.Input((2,)), layers.Dense(3, **he)]).save(folder / "tabular.keras")
    x = np.random.default_rng(0).normal(size=(30, 4, 2))
    np.savez(folder / "maps.npz", x=x, y=(x[..., 0] > 0) * 1)
    mapped = [keras.Input((4, 2)), layers.Conv1D(4, 3, padding="same", **he)]
    keras.Sequential(mapped).save(folder / "mapped.keras")
    data = ["--data", folder / "maps.npz", "--train", 9, "--out", folder / "maps"]
    for line in (
        ["fit", folder / "mapped.keras", *data],
        ["gram", *(folder / w for w in ("tiny.keras",)), "--data", folder / "data.npz",
         "--rows", 12, "--out", folder / "stored"],
    ):  # fmt: skip
        assert main([str(word) for word in line]) == 0
    return folder


@pytest.mark.parametrize("words", REFUSED, ids=lambda words: " ".join(map(str, words)))
def test_an_option_without_effect_is_refused(words, there, run, monkeypatch):
    monkeypatch.chdir(there)
    before = sorted(there.rglob("*"))
    code, out, err = run(*words)
    option = [word for word in words if str(word).startswith("--")][-1]
    assert (code, out) == (2, "")
    assert option in err
    assert sorted(there.rglob("*")) == before


@pytest.mark.parametrize("words", DATA_LACKS, ids=lambda words: " ".join(map(str, words)))
def test_an_option_beyond_the_data_is_refused(words, there, run, monkeypatch):
    monkeypatch.chdir(there)
    code, _, err = run(*words)
    assert code in (2, 5)
    assert "Traceback" not in err
    assert not list(there.glob("new*"))


@pytest.mark.parametrize(("words", "told"), TOLD, ids=lambda words: " ".join(map(str, words)))
def test_an_option_without_effect_is_told(words, told, there, run, monkeypatch, tmp_path):
    monkeypatch.chdir(there)
    code, out, err = run(*(tmp_path / word if word == "new" else word for word in words))
    assert (code, err) == (0, "")
    assert told in " ".join(out.split())


def test_an_option_that_has_an_effect_is_not_told_to_have_none(there, files, run, monkeypatch):
    monkeypatch.chdir(there)
    code, out, _ = run("inspect", files / "pooled.keras", "--max-pooling", "average")
    assert code == 0
    assert "changes nothing" not in out
    code, out, _ = run("inspect", MODEL)
    assert "changes nothing" not in out


def test_every_option_is_in_a_table():
    """A new option states where it has no effect, or that it always has one."""
    known = EFFECTIVE | set(CONVERSION)
    for words in [*REFUSED, *DATA_LACKS, *(words for words, _ in TOLD)]:
        known.update(word for word in words if str(word).startswith("--"))
    assert _options(build_parser()) <= known


def _options(parser):
    """The long options of a parser and of all its commands."""
    found = set()
    for action in parser._actions:
        found.update(option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= _options(command)
    return found
