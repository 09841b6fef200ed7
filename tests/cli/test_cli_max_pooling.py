"""--max-pooling average: wherever a model is converted, and said in the report."""

import numpy as np
import pytest

import keras2gp


def test_inspect_says_what_was_replaced(files, run, run_json):
    code, out, err = run("inspect", files / "pooled.keras")
    assert code == 3
    assert "--max-pooling" in out
    code, out, err = run("inspect", files / "pooled.keras", "--max-pooling", "average")
    assert (code, err) == (0, "")
    assert "replaced by average pooling" in " ".join(out.split())
    code, document = run_json("inspect", files / "pooled.keras", "--max-pooling", "average")
    assert (code, document["exact"]) == (0, True)
    (row,) = [row for row in document["layers"] if row["path"] == "pool"]
    assert row["became"] == "average pooling 2x2"
    assert "replaced" in row["note"]


@pytest.mark.parametrize("command", ["convert", "gram", "fit"])
def test_commands_that_convert(command, files, run, tmp_path):
    out = tmp_path / "out"
    data = ["--data", files / "data.npz"] if command != "convert" else []
    target = [out] if command == "convert" else ["--out", out]
    arguments = [files / "pooled.keras", *target, *data]
    if command == "fit":
        arguments += ["--train", "30"]
    assert run(command, *arguments)[0] == 3
    code, _, err = run(command, *arguments, "--max-pooling", "average")
    assert code == 0, err
    if command == "convert":
        x = np.load(files / "data.npz")["x"][:3].astype("float32")
        kernel = keras2gp.convert(files / "pooled.keras", max_pooling="average")
        np.testing.assert_allclose(keras2gp.load(out)(x), kernel(x), rtol=1e-6)


def test_other_replacements_and_kernels_that_are_converted_already(files, fitted, run):
    code, _, err = run("inspect", files / "pooled.keras", "--max-pooling", "mean")
    assert code == 2
    assert "--max-pooling" in err
    code, _, err = run("inspect", fitted / "kernel", "--max-pooling", "average")
    assert code == 2
    assert "converted already" in err
