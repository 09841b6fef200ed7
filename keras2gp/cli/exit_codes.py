"""Exit codes of the command line, and which error gives which."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from keras2gp._util.files import DISK_ERRORS
from keras2gp.errors import (
    DataError,
    InputError,
    Keras2GPError,
    ModelFileError,
    NumericalError,
    PriorError,
    StoreError,
    UnsupportedModelError,
    WideningError,
)

__all__ = ["MEANINGS", "ExitCode", "UsageError", "exit_code_of"]


class UsageError(Keras2GPError):
    """The command line itself is wrong: an option, a number, a place to write to."""

    def __init__(self, message: str, command: str = "keras2gp") -> None:
        super().__init__(message)
        self.command = command


class ExitCode(IntEnum):
    """The exit codes of a command."""

    FINE = 0
    UNEXPECTED = 1
    USAGE = 2
    NOT_CONVERTIBLE = 3
    BAD_MODEL = 4
    BAD_DATA = 5
    NUMERICAL = 6
    STORAGE = 7
    REJECTED = 8
    UNDECIDED = 9
    INTERRUPTED = 130
    CLOSED = 141


MEANINGS = {
    ExitCode.FINE: "fine",
    ExitCode.UNEXPECTED: "unexpected error",
    ExitCode.USAGE: "wrong arguments",
    ExitCode.NOT_CONVERTIBLE: "the model has no exact kernel, or cannot be widened",
    ExitCode.BAD_MODEL: "a model file, kernel or fit is missing or damaged",
    ExitCode.BAD_DATA: "data, prior or another input is missing or wrong",
    ExitCode.NUMERICAL: "numerical trouble: singular matrix, overflow",
    ExitCode.STORAGE: "the disk or memory is full, or cannot be written",
    ExitCode.REJECTED: "verify: the kernel is not that of the networks",
    ExitCode.UNDECIDED: "verify: too few samples, or too small widths, to tell",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.CLOSED: "the reader of the output went away",
}

# The first that matches decides: several of these are ValueErrors or OSErrors as well.
_FAMILIES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (UsageError, ExitCode.USAGE),
    (UnsupportedModelError, ExitCode.NOT_CONVERTIBLE),
    (WideningError, ExitCode.NOT_CONVERTIBLE),
    (ModelFileError, ExitCode.BAD_MODEL),
    (PriorError, ExitCode.BAD_DATA),
    (InputError, ExitCode.BAD_DATA),
    (DataError, ExitCode.BAD_DATA),
    (NumericalError, ExitCode.NUMERICAL),
    (StoreError, ExitCode.STORAGE),
    (Keras2GPError, ExitCode.UNEXPECTED),
    (BrokenPipeError, ExitCode.CLOSED),
    (OSError, ExitCode.STORAGE),
    (MemoryError, ExitCode.STORAGE),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)


def exit_code_of(error: BaseException) -> ExitCode:
    """The exit code of an error, or of the full disk behind it."""
    if any(_is_exhaustion(link) for link in _chain(error)):
        return ExitCode.STORAGE
    for family, code in _FAMILIES:
        if isinstance(error, family):
            return code
    return ExitCode.UNEXPECTED


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_exhaustion(error: BaseException) -> bool:
    """Whether disk or memory ran out; TensorFlow's own error is known by name, not imported."""
    full = isinstance(error, OSError) and error.errno in DISK_ERRORS
    return full or type(error).__name__ == "ResourceExhaustedError"
