"""Durations, sizes and received values as text."""

import re

import numpy as np
import pytest

from keras2gp._util.text import (
    duration_text,
    printable,
    quoted_text,
    received_text,
    size_text,
    wrong_shape,
)


@pytest.mark.parametrize(("seconds", "text"), [
    (0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 1 s"), (3 * 3600 + 40 * 60, "3 h 40 min"),
])  # fmt: skip
def test_durations(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"),
    (3 * 2**29, "1.5 GiB"), (2**41, "2.0 TiB"), (None, "an unknown amount"),
])  # fmt: skip
def test_sizes(count, text):
    assert size_text(count) == text


class Mute:
    def __repr__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(("value", "text"), [
    (3, "3"), (np.zeros((2, 3)), "an array of shape (2, 3) and type float64"),
    ("x" * 100, "'" + "x" * 56 + "..."), ("a\nb", r"'a\nb'"), (Mute(), "a value of type Mute"),
    (10**5000, "a value of type int"), (np.int64(1), "1"), (np.str_("a"), "'a'"),
    (np.float32(0.5), "0.5"), (np.array(0.5), "array(0.5)"),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_received_values(value, text):
    assert received_text(value) == text


def test_control_characters_are_spelt_out():
    assert printable("a\x1b[31m\nb") == "a\\x1b[31m\nb"


KERAS = (
    "Exception encountered when calling Dense.call().\n\n\x1b[1mno such \x1b[38;5;1mmode\x1b[0m\n\n"
    "Arguments received by Dense.call():\n  • x=[[0.0]]"
)


@pytest.mark.parametrize(("error", "text"), [
    (ValueError(KERAS), "no such mode"), (ValueError("a\n\n  b"), "a b"), (KeyError(), "KeyError"),
    (ValueError("<x> config={'a': 1}.\n\nException encountered: why"), "why"),
    (ValueError("in user code:\n\n    File 'x', line 3\n        f()\n\n    TypeError: why\n"),
     "TypeError: why"),
    (ValueError("a\x1b]0;title\x07b\x9bc"), "ab\\x9bc"), (ValueError("x" * 400), "x" * 297 + "..."),
])  # fmt: skip
def test_errors_of_other_libraries_are_quoted_in_plain_text(error, text):
    assert quoted_text(error) == text


SHAPES = {
    "one image": ((4, 5, 3), (4, 5, 3)),
    "one grey image": ((4, 5), (4, 5, 1)),
    "one grey image for colours": ((4, 5), (4, 5, 3)),
    "no axis of channels": ((2, 4, 5), (4, 5, 1)),
    "no axis of channels, for colours": ((2, 4, 5), (4, 5, 3)),
    "grey for colours": ((2, 4, 5, 1), (4, 5, 3)),
    "colours for grey": ((2, 4, 5, 3), (4, 5, 1)),
    "transparency": ((2, 4, 5, 4), (4, 5, 3)),
    "transparency of grey": ((2, 4, 5, 2), (4, 5, 1)),
    "channels first": ((2, 3, 4, 5), (4, 5, 3)),
    "images for a table": ((2, 4, 5, 1), (20,)),
    "a table for images": ((2, 20), (4, 5, 1)),
    "one row": ((13,), (13,)),
    "one sequence of an open length": ((7, 3), (None, 3)),
    "open sizes, grey for colours": ((2, 9, 9, 1), (None, None, 3)),
}


@pytest.mark.parametrize(("received", "expected"), SHAPES.values(), ids=SHAPES)
def test_what_is_tried_with_another_shape_gives_the_shape(received, expected):
    text = wrong_shape("x", received, expected)
    code = re.sub(r", (one image|grey.*|without.*|channels last)$", "", text.split(". Try: ")[1])
    tried = eval(code, {"x": np.zeros(received), "numpy": np})  # noqa: S307 (our own message)
    assert len(tried.shape) == len(expected) + 1
    assert all(b in (None, a) for a, b in zip(tried.shape[1:], expected, strict=True))


@pytest.mark.parametrize(("received", "expected", "told"), [
    ((2, 28, 28, 1), (8, 8, 1), "images of 8 x 8 pixels, or a model whose input has the shape"),
    ((2, 5), (13,), "received shape (2, 5), expected (N, 13)"),
    ((2, 5, 5), (None, None, 3, 3), "expected (N, None, None, 3, 3)"),
    ((), (3,), "received shape (), expected (N, 3)"),
])  # fmt: skip
def test_a_shape_that_no_expression_mends(received, expected, told):
    assert told in wrong_shape("x", received, expected)
