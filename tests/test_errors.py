"""Errors: names of any characters stay on one line."""

import pickle

import keras
import pytest
from keras import layers

import keras2gp
from keras2gp import errors
from keras2gp.errors import Obstacle, UnsupportedModelError, one_line


@pytest.mark.parametrize(("text", "line"), [
    ("plain", "plain"), ("zwei Wörter", "zwei Wörter"), ("a\nb", "a\\nb"), ("", ""),
    ("\x1b[31m", "\\x1b[31m"), ("\u2028", "\\u2028"), ("\ud800", "\\ud800"),
])  # fmt: skip
def test_one_line(text, line):
    assert one_line(text) == line


@pytest.mark.parametrize("why", ["it is so", "it is so."])
def test_a_reason_and_its_hint_are_two_sentences(why):
    assert str(Obstacle("a", "b", why, "that")) == "a (b): it is so. Try: that"
    assert str(Obstacle("a", "b", why)) == f"a (b): {why}"


def test_names_with_line_breaks():
    model = keras.Sequential([
        keras.Input((4,)), layers.Dense(8, name="a\nb"), layers.Softmax(name="c\nd"),
        layers.Dense(1),
    ])  # fmt: skip
    with pytest.raises(UnsupportedModelError) as caught:
        keras2gp.convert(model)
    obstacles = caught.value.obstacles
    assert len(str(caught.value).split("\n")) == 1 + len(obstacles)
    report = caught.value.report
    assert len(str(report).split("\n")) == 3 + len(report.rows) + len(report.notes) + len(obstacles)
    assert "a\\nb" in str(report)
    assert report.rows[0].path == "a\nb" or report.rows[1].path == "a\nb"


MORE = {"UnsupportedModelError": ([Obstacle("a", "b", "c")],), "OutputError": (("x", "y"),)}


@pytest.mark.parametrize("name", [n for n in errors.__all__ if n.endswith("Error")])
def test_errors_come_back_from_other_processes(name):
    error = getattr(errors, name)("why", *MORE.get(name, ()))
    assert isinstance(error, keras2gp.Keras2GPError)
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 (made above)
    assert (type(copied), str(copied)) == (type(error), str(error))
    assert vars(copied) == vars(error)
