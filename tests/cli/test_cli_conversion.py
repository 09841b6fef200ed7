"""inspect and convert."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import yaml

import keras2gp
from keras2gp.report import VARIANCES


def test_inspect_shows_every_layer(files, run):
    code, out, err = run("inspect", files / "tiny.keras")
    assert (code, err) == (0, "")
    for text in ("conv", "Conv2D", "convolution 3x3", "head", "w2", "exact", "softmax"):
        assert text in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_the_columns_of_variances_have_a_legend(files, run):
    """In text alone, and only where a layer has some."""
    assert run("inspect", files / "tiny.keras")[1].split("\n").count(VARIANCES) == 1
    assert "w2" not in run("inspect", files / "tiny.keras", "--json")[1]
    report = keras2gp.inspect(files / "tiny.keras")
    assert str(report).split("\n").count(VARIANCES) == 1
    assert VARIANCES in report._repr_html_()
    bare = replace(report, rows=tuple(replace(row, variances=None) for row in report.rows))
    assert VARIANCES not in str(bare)


def test_inspect_of_what_cannot_be_converted_says_why_and_exits_with_3(files, run, run_json):
    code, out, err = run("inspect", files / "pooled.keras")
    assert (code, err) == (3, "")
    assert "pool (MaxPooling2D" in out
    assert "1 obstacle" in out
    assert "[red]conv" in out
    assert "\x1b" not in out
    code, document = run_json("inspect", files / "pooled.keras")
    assert code == 3
    assert not document["exact"]
    assert document["obstacles"][0]["where"] == "pool"


def test_inspect_of_json_text_of_the_zoo_and_of_a_kernel_agree_with_the_api(
    files, fitted, run_json
):
    for model in (files / "tiny.json", fitted / "kernel"):
        code, document = run_json("inspect", model)
        assert code == 0
        assert [row["path"] for row in document["layers"]] == ["conv", "flatten", "head"]
        assert document["layers"][0]["weight_variance"] == pytest.approx(2)
    code, document = run_json("inspect", "zoo:resnet32", "--input-shape", "8,8,3")
    assert code == 0
    assert document["inputs"] == [[8, 8, 3]]


def test_a_trained_part(files, run, run_json, tmp_path):
    model = files / "tiny.keras"
    code, document = run_json("inspect", model, "--trained-until", "flatten")
    assert code == 0
    became = {row["path"]: row["became"] for row in document["layers"]}
    assert became["conv"] == "run by Keras with its present weights"
    assert became["head"].startswith("dense")
    assert run("convert", model, tmp_path / "kernel", "--trained-until", "flatten")[0] == 0
    assert set(keras2gp.load(tmp_path / "kernel").parameters) == {"head"}
    code, _, error = run("inspect", model, "--trained-until", "pool")
    assert code == 5
    assert "no layer of that name. There are: conv, flatten, head" in error
    assert run("inspect", tmp_path / "kernel", "--trained-until", "conv")[0] == 2


def test_sizes_that_a_file_leaves_open(run, run_json, tmp_path):
    layers = keras.layers
    a, b = keras.Input((None, 2), name="a"), keras.Input((3,), name="b")
    h = layers.GlobalAveragePooling1D()(layers.Conv1D(4, 2)(a))
    h = layers.Concatenate()([h, layers.Dense(4)(b)])
    model = tmp_path / "m.keras"
    keras.Model([a, b], layers.Dense(1)(h)).save(model)
    code, out, _ = run("inspect", model)
    assert code == 3
    assert "--input-shape" in out
    shapes = ("--input-shape", "a=5,2", "--input-shape", "b=3")
    code, document = run_json("inspect", model, *shapes)
    assert code == 0
    assert document["inputs"] == [[5, 2], [3]]
    assert run("convert", model, tmp_path / "kernel", *shapes)[0] == 0
    for wrong in (["a=5,2"], ["5,2", "b=3"], ["a=5,2", "a=5,2"], ["a=5,3", "b=3"]):
        options = [text for shape in wrong for text in ("--input-shape", shape)]
        code, _, error = run("inspect", model, *options)
        assert code in (2, 5)
        assert "input" in error
    assert run("inspect", "zoo:resnet32", "--input-shape", "8,8")[0] == 2


def test_template_round_trip(files, run, run_json, tmp_path):
    file = tmp_path / "new" / "overrides.yaml"
    code, out, _ = run("inspect", files / "tiny.keras", "--template", file)
    assert code == 0
    assert str(file) in out
    assert yaml.safe_load(file.read_text())["conv"]["weight"] == 2.0
    assert run("inspect", files / "tiny.keras", "--template", file)[0] == 2
    file.write_text(file.read_text().replace("weight: 2.0", "weight: 3.0", 1))
    code, document = run_json("inspect", files / "tiny.keras", "--overrides", file)
    assert code == 0
    weights = {row["path"]: row["weight_variance"] for row in document["layers"]}
    assert weights == {"conv": 3.0, "flatten": None, "head": 2.0}


def test_template_on_stdout_is_all_there_is(files, run):
    code, out, err = run("inspect", files / "tiny.keras", "--template", "-")
    assert (code, err) == (0, "")
    assert set(yaml.safe_load(out)) == {"conv", "head"}
    code, out, err = run("inspect", files / "pooled.keras", "--template", "-")
    assert code == 3
    assert len(yaml.safe_load(out)) == 2
    assert "pool" in err


def test_overrides_that_do_not_fit(files, run, tmp_path):
    file = tmp_path / "overrides.json"
    file.write_text(json.dumps({"cnov": {"weight": 1}}))
    code, _, err = run("inspect", files / "tiny.keras", "--overrides", file)
    assert code == 5
    assert "'cnov'" in err
    assert "'conv'" in err


def test_output_by_name_and_by_number(files, run, run_json):
    assert run_json("inspect", files / "tiny.keras", "--output", "head")[1]["output"] == "head"
    assert run_json("inspect", files / "tiny.keras", "--output", "-1")[0] == 0
    code, _, err = run("inspect", files / "tiny.keras", "--output", "nowhere")
    assert code == 5
    assert "nowhere" in err


def test_convert_writes_a_kernel_that_loads(files, run, run_json, tmp_path):
    out = tmp_path / "deep" / "kernel"
    code, document = run_json("convert", files / "tiny.keras", out, "--dtype", "float64")
    assert code == 0
    assert document["dtype"] == "float64"
    assert document["conversion"]["exact"]
    x = np.random.default_rng(1).normal(size=(3, 6, 6, 1))
    expected = keras2gp.convert(str(files / "tiny.keras"), dtype="float64").matrix(x)
    np.testing.assert_allclose(keras2gp.load(out).matrix(x), expected, rtol=1e-12)
    code, text, _ = run("convert", files / "tiny.json", out)
    assert code == 0
    assert f"wrote {out}" in text
    assert keras2gp.load(out).dtype == "float32"
    assert [path.name for path in out.parent.iterdir()] == ["kernel"]


def test_convert_of_what_has_no_kernel(files, run, run_json, tmp_path):
    code, out, err = run("convert", files / "pooled.keras", tmp_path / "kernel")
    assert code == 3
    assert "refused" in out
    assert "MaxPooling2D" in err
    code, document = run_json("convert", files / "pooled.keras", tmp_path / "kernel")
    assert code == 3
    assert [entry["where"] for entry in document["error"]["obstacles"]] == ["pool"]
    assert list(tmp_path.iterdir()) == []


def test_damaged_model_file(files, run, tmp_path):
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes((files / "tiny.keras").read_bytes()[:2000])
    code, out, err = run("convert", damaged, tmp_path / "kernel")
    assert (code, out) == (4, "")
    assert "damaged.keras" in err


def test_trained_weights_of_a_json_file(files, run):
    code, _, err = run("inspect", files / "tiny.json", "--prior", "weights")
    assert code == 5
    assert "holds no trained weights" in err


@pytest.fixture(scope="module")
def branched(files):
    """A model with two outputs."""
    image = keras.Input((4,))
    x = keras.layers.Dense(8, activation="relu", name="shared")(image)
    heads = [keras.layers.Dense(3, name="first")(x), keras.layers.Dense(2, name="second")(x)]
    keras.Model(image, heads).save(files / "branched.keras")
    return files / "branched.keras"


def test_a_model_with_two_outputs(branched, run, run_json, tmp_path):
    code, out, _ = run("inspect", branched)
    assert code == 3
    assert "shared" in out
    assert "exact:" not in out
    assert "2 outputs" in out
    assert "--output first" in out
    code, _, err = run("convert", branched, tmp_path / "k")
    assert (code, "--output NAME" in err) == (5, True)
    code, document = run_json("inspect", branched, "--output", "second")
    assert (code, document["output"]) == (0, "second")


@pytest.mark.parametrize("end", ["\n", "\r", "\u2028", "\n  ", "\x1b[2J"])
def test_names_with_line_breaks(end, files, run, tmp_path):
    for file in ("tiny.json", "pooled.json"):
        text = (files / "tiny.json").read_text()
        if file == "pooled.json":
            text = text.replace('"conv"', '"pool"').replace("Conv2D", "Unknown2D")
        name = f"odd{end}exact: all is well"
        text = text.replace('"conv"', json.dumps(name)).replace('"pool"', json.dumps(name))
        (tmp_path / file).write_text(text)
        for words in (["inspect", tmp_path / file], ["convert", tmp_path / file, tmp_path / "k"]):
            _, out, err = run(*words)
            lines = (out + err).splitlines()
            assert not [line for line in lines if line.strip().startswith("exact: all")]
            assert "Traceback" not in err
