"""Kernels on disk: what is written comes back, and what is damaged is refused."""

import contextlib
import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras2gp
from keras2gp._util.digest import with_digest
from keras2gp.cli.exit_codes import ExitCode, exit_code_of
from keras2gp.errors import Keras2GPError, ModelFileError

HE = {"kernel_initializer": "he_normal"}
IMAGES = np.random.default_rng(5).normal(size=(6, 5, 4, 2)).astype("float32")


@pytest.fixture(scope="module")
def double():
    model = keras.Sequential([
        keras.Input((5, 4, 2), name="image"), layers.Rescaling(0.5),
        layers.Conv2D(4, 2, activation="relu", name="conv", **HE),
        layers.BatchNormalization(), layers.Flatten(), layers.Dense(3, name="out", **HE),
    ])  # fmt: skip
    return keras2gp.convert(model, dtype="float64")


@pytest.fixture(scope="module")
def pair():
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    h = layers.Add()([layers.Dense(8, **HE)(a), layers.Dense(8, **HE)(b)])
    return keras2gp.convert(keras.Model([a, b], layers.Dense(1, **HE)(layers.ReLU()(h))))


@pytest.fixture(scope="module")
def saved(tmp_path_factory, double):
    directory = tmp_path_factory.mktemp("kernels") / "kernel"
    double.save(directory)
    return directory


def test_a_loaded_kernel_is_the_same_to_the_bit(saved, double):
    loaded = keras2gp.load(saved)
    np.testing.assert_array_equal(loaded(IMAGES, IMAGES[:2]), double(IMAGES, IMAGES[:2]))
    np.testing.assert_array_equal(loaded(IMAGES), double(IMAGES))
    assert loaded.parameters == double.parameters
    assert str(loaded.report) == str(double.report)
    assert loaded.dtype == double.dtype


def test_saving_again_replaces_and_nothing_else_is_replaced(saved, double, tmp_path):
    directory = tmp_path / "kernel"
    shutil.copytree(saved, directory)
    changed = double.with_parameters({"out": (5.0, 0.0)})
    changed.save(directory)
    assert keras2gp.load(directory).parameters["out"].weight == 5.0
    assert [p.name for p in tmp_path.iterdir()] == ["kernel"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(ModelFileError):
        double.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "words"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (tf.errors.ResourceExhaustedError(None, None, "part-00000; No space left on device"), 28),
        (tf.errors.OutOfRangeError(None, None, "saved_model.pb; File too large"), 27),
        (tf.errors.UnknownError(None, None, "variables; Input/output error"), 5),
    ],
)
def test_a_full_disk_is_told_as_one_and_leaves_the_old_kernel(
    saved, double, tmp_path, monkeypatch, error, cause
):
    directory = tmp_path / "kernel"
    shutil.copytree(saved, directory)

    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(ModelFileError, match=f"cannot be written.*{os.strerror(cause)}") as caught:
        double.save(directory)
    assert exit_code_of(caught.value) == ExitCode.STORAGE
    assert keras2gp.load(directory).parameters == double.parameters
    assert [p.name for p in tmp_path.iterdir()] == ["kernel"]


def test_files_that_may_not_grow(double, tmp_path):
    """As TensorFlow itself reports it."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, before[1]))
    try:
        with pytest.raises(ModelFileError, match=r"cannot be written.*File too large") as caught:
            double.save(tmp_path / "kernel")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert exit_code_of(caught.value) == ExitCode.STORAGE
    assert not list(tmp_path.iterdir())


RUN = """
import sys
sys.modules["keras2gp"] = None
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
x = np.load(sys.argv[2])
f = model.signatures["serving_default"]
for n1, n2 in ((6, 6), (1, 1), (6, 1), (1, 6), (17, 1), (33, 6)):
    x1 = np.concatenate([x] * 6)[:n1]
    matrix = f(x1=tf.constant(x1), x2=tf.constant(x[:n2]))["matrix"].numpy()
    np.save(f"{sys.argv[3]}-{n1}-{n2}.npy", matrix)
"""


def test_the_saved_model_runs_without_this_package(saved, double, tmp_path):
    images = IMAGES.astype("float64")
    np.save(tmp_path / "x.npy", images)
    arguments = [str(saved), str(tmp_path / "x.npy"), str(tmp_path / "matrix")]
    subprocess.run(  # noqa: S603 (this interpreter, the text above)
        [sys.executable, "-c", RUN, *arguments], check=True, cwd=tmp_path, capture_output=True
    )
    expected = np.asarray(double(images, images))
    many = np.concatenate([expected] * 6)
    for n1, n2 in ((6, 6), (1, 1), (6, 1), (1, 6), (17, 1), (33, 6)):
        result = np.load(tmp_path / f"matrix-{n1}-{n2}.npy")
        assert result.shape == (n1, n2)
        np.testing.assert_allclose(result, many[:n1, :n2], rtol=1e-10)


def test_several_inputs_saved(pair, tmp_path, rng):
    import tensorflow as tf

    pair.save(tmp_path / "kernel")
    x = [rng.normal(size=(3, n)).astype("float32") for n in (4, 3)]
    np.testing.assert_array_equal(keras2gp.load(tmp_path / "kernel")(x), pair(x))
    run = tf.saved_model.load(str(tmp_path / "kernel")).signatures["serving_default"]
    named = {f"{side}_{n}": v for side in ("x1", "x2") for n, v in zip("ab", x, strict=True)}
    np.testing.assert_allclose(run(**named)["matrix"], pair(x, x), rtol=1e-5)


def test_files_of_others_are_kept(saved, double, tmp_path):
    """Another SavedModel, a kernel of Jupyter, a file beside a saved kernel, a link."""
    other, jupyter, mixed = (tmp_path / name for name in ("other", "jupyter", "mixed"))
    for directory in (other, jupyter):
        directory.mkdir()
    (other / "saved_model.pb").write_bytes(b"mine")
    (jupyter / "kernel.json").write_text('{"argv": ["python"], "display_name": "Python 3"}')
    shutil.copytree(saved, mixed)
    (mixed / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to(saved)
    (tmp_path / "file").write_text("mine")
    before = sorted(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    for name in ("other", "jupyter", "mixed", "link", "file", "file/below"):
        with pytest.raises(ModelFileError):
            double.save(tmp_path / name)
    assert sorted(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()) == before


@pytest.mark.parametrize("name", ["n" * 5000, "null\0", "new\nline"])
def test_names_of_directories(name, double, tmp_path):
    if "line" in name:
        double.save(tmp_path / name)
        assert keras2gp.load(tmp_path / name).parameters == double.parameters
        return
    for call in (double.save, keras2gp.load):
        with pytest.raises(ModelFileError) as caught:
            call(tmp_path / name)
        assert len(str(caught.value)) < 500


def damaged(saved, tmp_path, text):
    directory = tmp_path / "damaged"
    directory.mkdir()
    for file in saved.glob("*.keras"):
        shutil.copy(file, directory)
    (directory / "kernel.json").write_text(text)
    return directory


DAMAGE = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "nested": lambda text: "[" * 100_000,
    "a list": lambda text: "[]",
    "a number": lambda text: "3",
    "null": lambda text: "null",
    "unknown op": lambda text: text.replace('"Affine"', '"Exec"', 1),
    "another op": lambda text: text.replace('"Affine"', '"Scale"', 1),
    "unknown activation": lambda text: text.replace('"name": "relu"', '"name": "unheard"', 1),
    "another format": lambda text: text.replace('"format": 1', '"format": 2', 1),
    "a constant without a value": lambda text: text.replace('"params": []', '"params": [[0]]', 1),
    "an unknown constant": lambda text: text.replace('"params": []', '"params": [["a", 1]]', 1),
    "another layer": lambda text: text.replace('"layer": "conv"', '"layer": "other"', 1),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_are_named(name, saved, tmp_path):
    text = DAMAGE[name]((saved / "kernel.json").read_text())
    with contextlib.suppress(ValueError, RecursionError):
        text = sealed(json.loads(text))
    with pytest.raises(ModelFileError, match=r"kernel\.json(?!.*digest differs)"):
        keras2gp.load(damaged(saved, tmp_path, text))


def sealed(data):
    """The text of a kernel.json whose digest fits its content."""
    if isinstance(data, dict):
        data = with_digest({k: v for k, v in data.items() if k != "digest"})
    return json.dumps(data)


CHANGES = {
    "a variance": lambda d: d["parameters"]["conv"].update(weight=0.25),
    "the last bit of a variance": lambda d: d["parameters"]["conv"].update(
        weight=np.nextafter(d["parameters"]["conv"]["weight"], 9)
    ),
    "the kind": lambda d: d.update(kind="ntk"),
    "the type": lambda d: d.update(dtype="float32"),
    "without preprocessing": lambda d: d.update(preprocessor=False),
    "the report": lambda d: d["report"].update(model="another"),
    "the digest of a file": lambda d: d["files"].clear(),
    "no digest": lambda d: d.pop("digest"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_kernel_is_refused(name, saved, tmp_path):
    data = json.loads((saved / "kernel.json").read_text())
    CHANGES[name](data)
    with pytest.raises(ModelFileError, match="digest differs"):
        keras2gp.load(damaged(saved, tmp_path, json.dumps(data)))


def test_another_preprocessor_is_refused(saved, tmp_path):
    directory = damaged(saved, tmp_path, (saved / "kernel.json").read_text())
    keras2gp.load(directory)
    layer = layers.Rescaling(0.25)
    keras.Sequential([keras.Input((5, 4, 2)), layer]).save(directory / "preprocessor.keras")
    with pytest.raises(ModelFileError, match=r"preprocessor\.keras.*digest differs"):
        keras2gp.load(directory)
    (directory / "preprocessor.keras").unlink()
    with pytest.raises(ModelFileError, match=r"preprocessor\.keras is missing"):
        keras2gp.load(directory)


def test_a_kernel_of_the_first_version_has_no_digest(saved, double, tmp_path):
    data = json.loads((saved / "kernel.json").read_text())
    del data["digest"], data["files"]
    data["keras2gp"] = "0.1.0"
    loaded = keras2gp.load(damaged(saved, tmp_path, json.dumps(data)))
    np.testing.assert_array_equal(loaded(IMAGES), double(IMAGES))


@pytest.mark.parametrize("name", ["kernel.json", "preprocessor.keras"])
@pytest.mark.parametrize("put", [os.mkfifo, Path.mkdir, lambda p: p.symlink_to("/dev/zero")])
def test_a_pipe_or_device_is_not_read(name, put, saved, tmp_path):
    directory = damaged(saved, tmp_path, (saved / "kernel.json").read_text())
    (directory / name).unlink()
    put(directory / name)
    with pytest.raises(ModelFileError, match=name):
        keras2gp.load(directory)


def test_a_huge_file_is_not_read(saved, tmp_path):
    directory = damaged(saved, tmp_path, "")
    with (directory / "kernel.json").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(ModelFileError, match="larger"):
        keras2gp.load(directory)


@pytest.mark.parametrize("where", ["nowhere", "kernel.json/x"])
def test_no_kernel_there(where, tmp_path):
    with pytest.raises(ModelFileError):
        keras2gp.load(tmp_path / where)


def places(value, path=()):
    yield path
    children = {}
    if isinstance(value, dict | list):
        children = value if isinstance(value, dict) else dict(enumerate(value))
    for key, child in children.items():
        yield from places(child, (*path, key))


def test_no_damaged_value_leads_to_an_error_of_another_kind(saved, tmp_path):
    """Every value in turn of a wrong type or size: refused, or a kernel that can be asked."""
    data = json.loads((saved / "kernel.json").read_text())
    directory = damaged(saved, tmp_path, "")
    wrong = [None, -1, 1e300, "x", [], {}, [[0]], [1] * 9]
    strangers = []
    graph_places = [p for p in places(data) if p and p[0] != "report"]
    for number, path in enumerate(graph_places):
        value = wrong[number % len(wrong)], wrong[(number + 3) % len(wrong)]
        for bad in value:
            changed = copy.deepcopy(data)
            target = changed
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = bad
            (directory / "kernel.json").write_text(sealed(changed))
            try:
                keras2gp.load(directory)
            except Keras2GPError:
                continue
            except Exception as error:  # noqa: BLE001 (what the test is about)
                strangers.append((path, bad, repr(error)))
    assert strangers == []
