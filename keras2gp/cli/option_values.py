"""Values of options: numbers, counts and shapes from the text of a command line."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from keras2gp._util.paths import expanded, no_path
from keras2gp._util.text import received_text

__all__ = [
    "count",
    "counts",
    "minutes",
    "path",
    "position",
    "seed",
    "shape",
    "source",
    "tolerance",
    "variance",
    "variance_or_auto",
]

_DIGITS = 19
"""Numbers of so many digits do not fit into 64 bits."""


def _refusal(text: str, expected: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{received_text(text)}: expected {expected}")


def _whole(text: str) -> int:
    """A whole number from 0, or -1 for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else -1


def path(text: str) -> Path:
    """A path as a shell would read it, which does not expand ~ in --out=~/fit."""
    if why := no_path(text):
        raise argparse.ArgumentTypeError(f"{received_text(text)}: {why}")
    return expanded(text)


def source(text: str) -> str:
    """A path as a shell would read it, or a name of something else."""
    return str(path(text)) if text.startswith("~") or no_path(text) else text


def count(text: str) -> int:
    """A whole number from 1."""
    number = _whole(text)
    if number < 1:
        raise _refusal(text, "a whole number from 1")
    return number


def seed(text: str) -> int:
    """A whole number from 0 to 2^32 - 1."""
    number = _whole(text)
    if not 0 <= number < 2**32:
        raise _refusal(text, "a whole number from 0 to 2^32 - 1")
    return number


def position(text: str) -> tuple[int, ...]:
    """An index for each axis, such as 3,4."""
    index = tuple(_whole(part.strip()) for part in text.split(","))
    if min(index) < 0:
        raise _refusal(text, "whole numbers from 0, such as 3,4")
    return index


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers from 1, such as 32,128,512."""
    return tuple(count(part.strip()) for part in text.split(","))


def _number(text: str) -> float:
    """A number, NaN for any other text."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def minutes(text: str) -> float:
    """A finite number above 0."""
    number = _number(text)
    if not 0.0 < number < math.inf:
        raise _refusal(text, "a finite number above 0")
    return number


def variance(text: str) -> float:
    """A finite number from 0."""
    return _variance(text, "a finite number, 0 or more")


def _variance(text: str, expected: str) -> float:
    number = _number(text)
    if not 0.0 <= number < math.inf:
        raise _refusal(text, expected)
    return number


def tolerance(text: str) -> float:
    """A number between 0 and 1."""
    number = _number(text)
    if not 0.0 < number < 1.0:
        raise _refusal(text, "a number between 0 and 1")
    return number


def variance_or_auto(text: str) -> float | str:
    """A finite number from 0, or "auto" for one that is chosen."""
    return text if text == "auto" else _variance(text, "auto, or a finite number, 0 or more")


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Sizes such as 28,28,1, with the input's name before them: image=28,28,1."""
    name, _, sizes = text.rpartition("=")
    numbers = tuple(_whole(part.strip()) for part in sizes.replace("x", ",").split(","))
    if min(numbers) < 1:
        raise _refusal(text, "sizes such as 28,28,1, whole numbers from 1")
    return name, numbers
