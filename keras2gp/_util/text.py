"""Text for people: durations, sizes, received values, control characters, and a plain console."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from keras2gp.errors import one_line

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "console_for",
    "did_you_mean",
    "duration_text",
    "harmless_cell",
    "numbers_text",
    "printable",
    "quoted_text",
    "received_text",
    "repeated",
    "shape_text",
    "shortened",
    "size_text",
    "unique_object",
    "wrong_shape",
]

# A pipe has no width: lines are as long as they are, for grep and awk; tables are folded.
_PIPE_WIDTH = 400
_MOST_NUMBERS = 4
"""Numbers that are written out."""
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))")
"""Colours, and other sequences by which a terminal is told something."""
_TAIL = re.compile(r"\n\s*(Arguments received|Call arguments received)")
_HEAD = re.compile(r"(Exception|Error) encountered(:| when calling [^\n]*)")


def duration_text(seconds: float) -> str:
    """A duration in seconds, minutes or hours, such as "3 min 20 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size_text(count: int | None) -> str:
    """A number of bytes in binary units, such as "1.5 GiB"; None is an unknown amount."""
    if count is None:
        return "an unknown amount"
    if abs(count) >= 2**70:
        return "more than 2^70 bytes"
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def numbers_text(values: Any) -> str:
    """A number or an array of them: "0.5", "1, 2, 3", "12 numbers from 0.1 to 4"."""
    numbers = [float(value) for value in getattr(values, "flat", (values,))]
    if len(set(numbers)) == 1:
        return f"{numbers[0]:g}"
    if len(numbers) <= _MOST_NUMBERS:
        return ", ".join(f"{number:g}" for number in numbers)
    return f"{len(numbers)} numbers from {min(numbers):g} to {max(numbers):g}"


def received_text(value: Any, length: int = 60) -> str:
    """A received value for an error message: one short line, an array by its shape and type.

    A number or a text of numpy reads as Python's: 1, not np.int64(1). An array without axes is
    named as one, since it is no number.
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"an array of shape {shape} and type {getattr(value, 'dtype', '?')}"
    try:
        if shape == () and type(value).__module__ == "numpy" and type(value).__name__ != "ndarray":
            value = value.item()
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 (a stranger's repr, or an integer of too many digits)
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= length else f"{text[: length - 3]}..."


def quoted_text(error: BaseException, length: int = 300) -> str:
    """The message of another library's error, as one short line of plain text.

    Terminal colours are left out, and what Keras puts around the cause: the layer that it was
    calling, its arguments and whole configurations. Of code that TensorFlow traced it is the last
    line, below those of the code.
    """
    try:
        text = _ESCAPES.sub("", str(error))
    except Exception:  # noqa: BLE001 (a stranger's)
        text = ""
    text = _HEAD.split(_TAIL.split(text)[0])[-1].strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0] == "in user code:":
        lines = lines[-1:]
    text = one_line(" ".join(lines)) or type(error).__name__
    return text if len(text) <= length else f"{text[: length - 3]}..."


def shortened(text: str, length: int, mark: str = "...") -> str:
    """Text on one line of at most so many characters; a longer one ends in the mark.

    >>> from keras2gp._util.text import shortened
    >>> shortened("a long name", 8)
    'a lon...'
    """
    line = one_line(text)
    return line if len(line) <= length else line[: length - len(mark)] + mark


def repeated(items: Iterable[Hashable]) -> Any:
    """The first of the items that stands there again, in one pass; None if all differ."""
    seen = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None


def shape_text(shape: Sequence[int | None]) -> str:
    """Sizes as a tuple is written, with None for those that are open: "8, 8, 1"."""
    return ", ".join(map(str, shape))


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which no key may stand twice: readers take different ones.

    Raises:
        ValueError: with the first such key.
    """
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError(f"{received_text(repeated(key for key, _ in pairs))} stands there twice")
    return result


def wrong_shape(name: str, received: Sequence[int], expected: Sequence[int | None]) -> str:
    """The message on images of another shape, with what brings them into the one expected.

    Args:
        name: of the array, as in the expressions that the message has the reader try.
        received: its whole shape, [N, *sizes].
        expected: of one image, with None for a size that is open.
    """
    sizes, wanted = tuple(received[1:]), tuple(expected)
    channels = wanted[-1] or 0 if len(wanted) > 1 else 0
    each = f".repeat({channels}, axis=-1)" if channels > 1 else ""
    likely = {
        f"{name}[None], one image": _fits(received, wanted),
        f"{name}[None, ..., None]{each}, one image": channels and _fits(received, wanted[:-1]),
        f"{name}[..., None]{each}": channels and _fits(sizes, wanted[:-1]),
        f"{name}{each}, grey in each channel": each and _fits(sizes, (*wanted[:-1], 1)),
        f"{name}.mean(axis=-1, keepdims=True), grey": channels == 1
        and _fits(sizes, (*wanted[:-1], 3)),
        f"{name}[..., :{channels}], without transparency": channels in (1, 3)
        and _fits(sizes, (*wanted[:-1], channels + 1)),
        f"numpy.moveaxis({name}, 1, -1), channels last": channels
        and _fits(sizes, (channels, *wanted[:-1])),
        f"{name}.reshape(-1, {shape_text(wanted)})": None not in wanted
        and math.prod(sizes) == math.prod(map(int, wanted)),  # type: ignore[arg-type]
        f"images of {' x '.join(map(str, wanted[:-1]))} pixels, or a model whose input has the "
        f"shape ({shape_text(sizes)})": len(wanted) == len(sizes) == 3 and sizes[-1] == channels,
    }
    hint = next((f". Try: {text}" for text, fits in likely.items() if fits), "")
    return f"{name}: received shape {tuple(received)}, expected (N, {shape_text(wanted)}){hint}"


def _fits(sizes: Sequence[int], expected: Sequence[int | None]) -> bool:
    """Whether sizes are those expected, of which None is any."""
    pairs = zip(sizes, expected, strict=False)
    return len(sizes) == len(expected) and all(b is None or a == b for a, b in pairs)


def did_you_mean(
    received: Any, names: Iterable[str], *, alike: float = 0.6, before: str = ""
) -> str:
    """A question, after a space, for a word that resembles one of the names; otherwise empty.

    Args:
        received: the word.
        names: that it may be.
        alike: the share of letters in common, by difflib, from which it resembles one.
        before: what stands before the name.
    """
    close = difflib.get_close_matches(str(received)[:200], list(names), n=1, cutoff=alike)
    return f" Did you mean {before}{one_line(close[0])}?" if close else ""


def printable(text: str) -> str:
    """Text with its control characters spelt out, line by line; see `one_line`."""
    return "\n".join(map(one_line, text.split("\n")))


def harmless_cell(value: Any) -> Any:
    """A value for a cell of a CSV file: text that a spreadsheet would run gets a ' before it."""
    if not isinstance(value, str) or value[:1] not in ("=", "+", "-", "@", "\t", "\r"):
        return value
    try:
        float(value)  # a number is no formula
    except ValueError:
        return f"'{value}"
    return value


def console_for(stream: TextIO) -> Console:
    """A console that takes nothing in the text as markup.

    Escape codes go to a terminal only, and to none at all where NO_COLOR is set.
    """
    from rich.console import Console  # noqa: PLC0415 (0.1 s that --version need not wait for)

    plain = bool(os.environ.get("NO_COLOR"))
    return Console(
        file=stream,
        markup=False,
        highlight=False,
        emoji=False,
        width=None if stream.isatty() else _PIPE_WIDTH,
        color_system=None if plain else "auto",
    )
