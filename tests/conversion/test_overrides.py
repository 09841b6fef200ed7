"""Overrides of prior variances: patterns, mistakes, files, the template."""

import json
import math
import os

import keras
import numpy as np
import pytest
import yaml

import keras2gp
from keras2gp.conversion.overrides import apply_overrides, overrides_template, read_overrides
from keras2gp.errors import PriorError
from keras2gp.graph.variances import LayerVariances

MODEL = {
    "conv2d": LayerVariances(2, 0.1),
    "block/conv2d": LayerVariances(1.5),
    "block/Conv2D_1": LayerVariances(1, 1),
    "dense": LayerVariances(1),
}


def test_nothing_to_override():
    for nothing in (None, {}):
        result = apply_overrides(MODEL, nothing)
        assert result == MODEL
        assert result is not MODEL


@pytest.mark.parametrize(
    "value",
    [
        {"weight": 3, "bias": 0.5},
        LayerVariances(3, 0.5),
        (3, 0.5),
        [np.float32(3), np.float64(0.5)],
    ],
)
def test_forms_of_a_value(value):
    result = apply_overrides(MODEL, {"dense": value})
    assert result == MODEL | {"dense": LayerVariances(3.0, 0.5)}
    assert list(result) == list(MODEL)


def test_absent_entries_stay():
    assert apply_overrides(MODEL, {"conv2d": {"weight": 9}})["conv2d"] == LayerVariances(9, 0.1)
    assert apply_overrides(MODEL, {"conv2d": {"bias": 9}})["conv2d"] == LayerVariances(2, 9)


def test_patterns_match_the_whole_path_case_sensitively():
    def changed(pattern):
        result = apply_overrides(MODEL, {pattern: (7, 7)})
        return [name for name in MODEL if result[name] == LayerVariances(7, 7)]

    assert changed("*") == list(MODEL)
    assert changed("conv2d") == ["conv2d"]
    assert changed("*conv2d*") == ["conv2d", "block/conv2d"]
    assert changed("block/*") == ["block/conv2d", "block/Conv2D_1"]
    assert changed("block/[C]onv2D_?") == ["block/Conv2D_1"]


def test_later_patterns_win():
    result = apply_overrides(MODEL, {"*": (1, 0), "block/*": {"weight": 5}, "block/conv2d": (6, 6)})
    assert result["block/conv2d"] == LayerVariances(6, 6)
    assert result["block/Conv2D_1"] == LayerVariances(5, 0)
    assert apply_overrides(MODEL, {"dense": (6, 6), "*": (1, 0)})["dense"] == LayerVariances(1, 0)


@pytest.mark.parametrize(
    "bad",
    [True, np.bool_(True), "2", None, -1, -1e-300, math.nan, math.inf, 10**400, 1j, [1.0]],
)
def test_refuses_what_is_no_variance(bad):
    for value in ({"bias": bad}, (1.0, bad)):
        with pytest.raises(PriorError, match=r"'dense': bias is .* finite number of at least 0"):
            apply_overrides(MODEL, {"dense": value})


@pytest.mark.parametrize("bad", [None, 2.0, "2", {}, (1,), (1, 2, 3), []])
def test_refuses_what_holds_no_variances(bad):
    with pytest.raises(PriorError, match="'dense': give weight and bias"):
        apply_overrides(MODEL, {"dense": bad})


@pytest.mark.parametrize("bad", [[("dense", 1)], "dense", 3])
def test_refuses_overrides_that_are_no_mapping(bad):
    with pytest.raises(PriorError, match="map layer-name patterns"):
        apply_overrides(MODEL, bad)


def test_all_mistakes_at_once_and_the_layers_close_ones_first():
    with pytest.raises(PriorError) as caught:
        apply_overrides(
            MODEL,
            {"dens": (1, 0), "conv2d": {"wieght": 1, "bias": -2}, 7: (1, 1), "dense": "2"},
        )
    text = str(caught.value)
    assert "5 mistakes" in text
    assert "'dens' matches no layer; the layers are 'dense', 'conv2d', 'block/conv2d'" in text
    assert "unknown key 'wieght'" in text
    assert "bias is -2" in text
    assert "7 matches no layer" in text
    assert "received '2'" in text


def test_errors_stay_readable():
    many = {f"layer_{i}": LayerVariances(1) for i in range(1000)}
    with pytest.raises(PriorError) as caught:
        apply_overrides(many, {"x" * 10**5: {"y" * 10**5: [[1] * 10**5]}})
    assert len(str(caught.value)) < 2000
    assert "and 980 more" in str(caught.value)
    with pytest.raises(PriorError, match="no layers with weights"):
        apply_overrides({}, {"dense": (1, 1)})


def test_template_reads_back_to_the_same_floats(tmp_path):
    draw = np.random.default_rng(0)
    names = [
        "dense",
        "block/conv",
        "a: b",
        "#x",
        "é\U0001f600",
        "[x]*?",
        "null",
        "1e3",
        "~",
        "-",
        "n" * 300,
    ]
    parameters = {
        name: LayerVariances(
            math.exp(draw.uniform(-300, 300)), draw.choice([0.0, draw.random(), 1e-5, 1e22])
        )
        for name in names
    }
    text = overrides_template(parameters)
    assert text.startswith("# ")
    path = tmp_path / "overrides.yaml"
    path.write_text(text, encoding="utf-8")
    assert read_overrides(path) == yaml.safe_load(text)
    ones = dict.fromkeys(parameters, LayerVariances(1, 1))
    assert apply_overrides(ones, read_overrides(path)) == parameters
    assert yaml.safe_load(overrides_template({})) == {}


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_reads_yaml_and_json(tmp_path):
    path = write(tmp_path, "o.yml", "dense: {weight: 1e-5, bias: 2}\n'*': [1, .5]\n")
    assert read_overrides(path) == {"dense": {"weight": 1e-5, "bias": 2}, "*": [1, 0.5]}
    path = write(tmp_path, "o.JSON", json.dumps({"dense": {"weight": 1e-5}}))
    assert read_overrides(str(path)) == {"dense": {"weight": 1e-5}}
    assert read_overrides(write(tmp_path, "o.yaml", "# all out\n")) == {}


BOMB = "a: &a [x, x]\n" + "\n".join(
    f"{c}: &{c} [*{p}, *{p}]" for p, c in zip("abcde", "bcdef", strict=True)
)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("o.txt", "", "read from .yaml, .yml or .json"),
        ("o.yaml", "a: [", "not valid YAML"),
        ("o.yaml", "a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("o.yaml", BOMB, "aliases"),
        ("o.yaml", "a: {weight: 1}\na: {weight: 2}\n", "'a' stands there twice"),
        ("o.yaml", "a: {weight: 1, weight: 2}\n", "'weight' stands there twice"),
        ("o.yaml", "? {a: 1}\n: 2\n", "not valid YAML"),
        ("o.yaml", "[" * 5000, "not valid YAML"),
        ("o.yaml", b"\xff\xfe\xfa", "not valid YAML"),
        ("o.yaml", "- 1\n", r"holds \[1\]"),
        ("o.json", "", "not valid JSON"),
        ("o.json", "{", "not valid JSON"),
        ("o.json", "[" * 100_000, "not valid JSON"),
        ("o.json", '{"a": 1, "a": 2}', "'a' stands there twice"),
        ("o.json", "[1]", r"holds \[1\]"),
        ("o.json", " " * (2**20 + 1), "larger than 1 MB"),
    ],
)
def test_bad_files(tmp_path, name, text, words):
    path = write(tmp_path, name, text)
    with pytest.raises(PriorError, match=words) as caught:
        read_overrides(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(PriorError, match="cannot be read: No such file"):
        read_overrides(tmp_path / "none.yaml")
    (tmp_path / "dir.yaml").mkdir()
    with pytest.raises(PriorError, match="cannot be read"):
        read_overrides(tmp_path / "dir.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")  # which would be waited for
    with pytest.raises(PriorError, match="is a pipe"):
        read_overrides(tmp_path / "pipe.yaml")


YAML_1_2 = {
    "a: {weight: 010}": {"a": {"weight": 10}},  # 8 in YAML 1.1
    "a: {weight: 1:30}": {"a": {"weight": "1:30"}},  # 90
    "a: {weight: 1_000}": {"a": {"weight": "1_000"}},  # 1000
    "a: {weight: 0x10}": {"a": {"weight": "0x10"}},  # 16
    "a: {weight: 1e-5, bias: .5}": {"a": {"weight": 1e-5, "bias": 0.5}},
    "on: [1, 2]\nno: [3, 4]": {"on": [1, 2], "no": [3, 4]},  # True and False
    "12: [1, 2]\n010: [3, 4]": {"12": [1, 2], "010": [3, 4]},  # numbers
    "2001-01-01: [1, 2]": {"2001-01-01": [1, 2]},  # a date
}


@pytest.mark.parametrize("text", YAML_1_2)
def test_numbers_and_names_are_what_they_look_like(text, tmp_path):
    (tmp_path / "o.yaml").write_text(text)
    assert read_overrides(tmp_path / "o.yaml") == YAML_1_2[text]


@pytest.mark.parametrize("number", ["1:30", "1_000", "0x10", "0b1", "yes", "2001-01-01", "1e400"])
def test_what_yaml_1_1_takes_for_a_number_is_no_variance(number, tmp_path):
    (tmp_path / "o.yaml").write_text(f"a: {{weight: {number}}}")
    overrides = read_overrides(tmp_path / "o.yaml")
    with pytest.raises(PriorError, match="a variance is a finite number"):
        apply_overrides({"a": LayerVariances(1.0)}, overrides)


@pytest.mark.parametrize("name", ["1e3", "010", "on", "1:30", "null", "2001-01-01", "0x1", "<<"])
def test_layers_whose_names_look_like_numbers(name, tmp_path):
    parameters = {name: LayerVariances(1e-5, 0.1 + 0.2)}
    (tmp_path / "o.yaml").write_text(overrides_template(parameters))
    assert apply_overrides({name: LayerVariances(1.0)}, read_overrides(tmp_path / "o.yaml")) == (
        parameters
    )


@pytest.mark.parametrize("overrides", [3, "a", [("a", 1)], 0, False, ()])
def test_overrides_that_are_no_mapping(overrides):
    with pytest.raises(PriorError, match="overrides map layer-name patterns"):
        keras2gp.convert(keras.Sequential([keras.Input((2,))]), overrides=overrides)
