"""Durations, sizes and received values as text."""

import numpy as np
import pytest

from keras2gp._util.text import duration_text, printable, quoted_text, received_text, size_text


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
    (np.float32(0.5), "0.5"),
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
