"""Durations, sizes and received values as text."""

import numpy as np
import pytest

from keras2gp._util.text import duration_text, printable, received_text, size_text


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
    (10**5000, "a value of type int"),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_received_values(value, text):
    assert received_text(value) == text


def test_control_characters_are_spelt_out():
    assert printable("a\x1b[31m\nb") == "a\\x1b[31m\nb"
