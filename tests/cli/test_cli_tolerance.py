"""--tolerance: wherever a model is converted; what is reached stands in the report."""

import keras
import numpy as np
import pytest

import keras2gp


@pytest.fixture(scope="module")
def bent(files):
    """A model with an activation that is expanded."""
    parts = [keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3, activation="tanh")]
    parts += [keras.layers.Flatten(), keras.layers.Dense(3)]
    keras.Sequential(parts, name="bent").save(files / "bent.keras")
    return files / "bent.keras"


def test_inspect_says_what_is_reached(bent, run, run_json):
    degrees = []
    for arguments in ([], ["--tolerance", "1e-2"]):
        code, document = run_json("inspect", bent, *arguments)
        (note,) = document["notes"]
        assert code == 0
        degrees.append(int(note.split("degree ")[1].split(":")[0]))
        code, out, _ = run("inspect", bent, *arguments)
        assert f"degree {degrees[-1]}" in " ".join(out.split())
    assert degrees[1] < degrees[0]


def test_convert_takes_it(bent, files, run, tmp_path):
    code, _, err = run("convert", bent, tmp_path / "out", "--tolerance", "1e-2")
    assert code == 0, err
    x = np.load(files / "data.npz")["x"][:3].astype("float32") / 255
    kernel = keras2gp.convert(bent, tolerance=1e-2)
    np.testing.assert_allclose(keras2gp.load(tmp_path / "out")(x), kernel(x), rtol=1e-6)


@pytest.mark.parametrize("value", ["0", "1", "-1e-3", "nan", "small"])
def test_what_is_no_tolerance(value, bent, run):
    code, _, err = run("inspect", bent, f"--tolerance={value}")
    assert code == 2
    assert "--tolerance" in err


def test_a_kernel_is_converted_already(fitted, run):
    code, _, err = run("inspect", fitted / "kernel", "--tolerance", "1e-3")
    assert code == 2
    assert "converted already" in err
