"""The checks of single arguments: whole numbers, paths, and names that stand twice."""

from argparse import ArgumentTypeError
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from keras2gp._util.checks import whole_number
from keras2gp._util.files import write_file
from keras2gp._util.paths import as_path
from keras2gp._util.text import repeated
from keras2gp.cli import option_values
from keras2gp.cli.parser import build_parser
from keras2gp.errors import InputError, PriorError, StoreError


def test_integers_of_python_and_numpy():
    for value in (3, np.int64(3), np.uint8(3)):
        received = whole_number("n", value, 1, 3)
        assert received == 3
        assert type(received) is int


@pytest.mark.parametrize("value", [
    True, np.True_, 3.0, np.float64(3), "3", None, 0, 4, 10**5000, np.arange(3), np.nan, [3],
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_everything_else_is_refused_in_one_short_line(value):
    with pytest.raises(InputError, match="expected a whole number, from 1 to 3") as error:
        whole_number("count", value, 1, 3)
    assert str(error.value).startswith("count=")
    assert len(str(error.value)) < 150
    assert "\n" not in str(error.value)


def test_the_class_of_the_error():
    with pytest.raises(PriorError, match=r"fan_in=-1: expected a whole number, 0 or more"):
        whole_number("fan_in", -1, error=PriorError)


def test_the_first_name_that_stands_twice():
    assert repeated(["a", "b", "b", "a"]) == "b"
    assert repeated([]) is repeated(["a", ""]) is None
    reads = iter(range(10**6))
    assert repeated([*range(300_000), 5]) == 5
    assert repeated(chain([0], reads)) == 0
    assert next(reads) == 1  # it reads no further than it has to


@pytest.mark.parametrize("of_shell", [lambda text: as_path("out", text), option_values.path])
def test_paths_are_those_of_a_shell(of_shell, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody")
    assert of_shell("~") == Path("/home/of/somebody")
    assert of_shell("~/fits/a") == Path("/home/of/somebody/fits/a")
    for text in ("a/~", "./~", "~nobody-of-this-name/a", "~a.npz", "/x y/\u00e9"):
        assert of_shell(text) == Path(text)


def test_names_of_no_file_stay_as_they_are(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody")
    for text in ("zoo:convnet", "tfds:mnist", "./a.keras", "a//b", "sample", "paper", "-"):
        assert option_values.source(text) == text
    assert option_values.source("~/a.py:f") == "/home/of/somebody/a.py:f"


def test_folders_without_end_are_refused(tmp_path):
    """Python makes and walks through folders by recursion."""
    deepest = "/".join(["a"] * 200)
    assert str(as_path("out", deepest)) == str(option_values.path(deepest)) == deepest
    write_file(as_path("out", tmp_path / "x"), "text")
    for count in (201, 2000):
        text = "/".join(["a"] * count)
        with pytest.raises(StoreError, match=rf"^out=.*{count} folders inside one another. Try: "):
            as_path("out", text, StoreError)
        for kind in (option_values.path, option_values.source):
            with pytest.raises(ArgumentTypeError, match=f"{count} folders inside one another"):
                kind(text)


def test_a_null_character_in_a_path():
    for kind in (option_values.path, option_values.source):
        with pytest.raises(ArgumentTypeError, match="it holds a null character"):
            kind("a\0b")


def test_what_is_no_path_at_all():
    for text, words in {
        "": "it is empty",
        "s3://bucket/m.keras": "it is an address, and no path",
        "file:///home/m.keras": "Try: the path alone, /home/m.keras",
    }.items():
        with pytest.raises(InputError, match=words):
            as_path("path", text)
        for kind in (option_values.path, option_values.source):
            with pytest.raises(ArgumentTypeError, match=words):
                kind(text)


def test_all_options_that_name_files_read_them_as_a_shell():
    """Those of words that name files, and no other, have a type that expands ~."""
    names = ("FILE", "OUT", "DIR", "MODEL", "KERNEL", "D", "D2", "SPACE")
    pending, seen = [build_parser()], 0
    while pending:
        parser = pending.pop()
        pending += parser.commands().values()
        for action in parser._actions:
            words = str(action.metavar)
            if words in names or (words == "K" and "--gram" in action.option_strings):
                assert action.type in (option_values.path, option_values.source), action
                seen += 1
            assert action.type is not Path, action
    assert seen > 30
