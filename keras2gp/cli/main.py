"""The command keras2gp, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
import warnings
from _thread import interrupt_main
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from keras2gp._util.cpu import use_avx512
from keras2gp._util.text import printable, received_text
from keras2gp.cli.configuration import with_configuration
from keras2gp.cli.exit_codes import ExitCode, UsageError, exit_code_of
from keras2gp.cli.output import Output, folded, short_line
from keras2gp.cli.parser import build_parser
from keras2gp.errors import Keras2GPError, OutputError, UnsupportedModelError

__all__ = ["main"]

_LONGEST_MESSAGE = 10_000
"""Longest message; longer ones quote data from files."""
_RETRY_SECONDS = 0.05
"""Time until an interruption that Python dropped is raised again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `keras2gp`; None for those of this process.

    Returns:
        The exit code (see exit_codes.py).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    json_wanted = "--json" in arguments
    _open_streams()
    try:
        with _retry_dropped_interrupts():
            code, error = _run(arguments), None
    except BaseException as raised:  # noqa: BLE001 (the last handler; a user's own code is run)
        code, error = exit_code_of(raised), raised
    try:
        sys.stdout.flush()
    except OSError as full:
        json_wanted = False
        _give_up(sys.stdout)
        if error is None or isinstance(error, OSError):
            code, error = exit_code_of(full), full
    if error is not None and code != ExitCode.CLOSED:
        _tell(error, code, json_wanted=json_wanted)
    return int(code)


@contextmanager
def _retry_dropped_interrupts() -> Iterator[None]:
    """Raise an interruption that Python drops again, a moment later.

    Python prints an interruption raised in a destructor or garbage-collector callback, and goes on.
    JAX has such a callback, and Keras imports JAX where it is installed.
    """
    before, over = sys.unraisablehook, threading.Event()

    def retry() -> None:
        if not over.wait(_RETRY_SECONDS):
            interrupt_main()

    def hook(dropped: Any) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            threading.Thread(target=retry, daemon=True).start()
        else:
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        over.set()
        sys.unraisablehook = before


def _tell(error: BaseException, code: ExitCode, *, json_wanted: bool) -> None:
    """Explain an error on the first stream that can be written to."""
    for as_json in (True, False) if json_wanted else (False,):
        stream = sys.stdout if as_json else sys.stderr
        try:
            _explain(error, code, json_wanted=as_json)
            stream.flush()
        except OSError:  # where both streams fail, the exit code is the only answer
            _give_up(stream)
        else:
            return


def _give_up(*streams: TextIO) -> None:
    """Drop the rest of the streams, so that the flush at the end of Python does not fail again."""
    for stream in streams:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            stream.flush()


def _open_streams() -> None:
    """Make stdout and stderr take any text, also where the shell has closed them."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: >&-
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):  # a layer's name need not fit the terminal
            stream.reconfigure(errors="replace")


def _run(arguments: list[str]) -> ExitCode:
    try:
        parser = build_parser()
        options = parser.parse_args(with_configuration(arguments, parser))
    except SystemExit:  # of --help and --version; wrong arguments raise UsageError
        return ExitCode.FINE
    use_avx512()
    try:
        options.check(options)
    except UsageError as error:
        error.command = f"keras2gp {options.command}"
        raise
    except OSError as error:  # a name that is too long, a directory that cannot be read
        if isinstance(error, Keras2GPError):
            raise
        where = "" if error.filename is None else f"{received_text(error.filename)}: "
        raise UsageError(f"{where}{error.strerror}", f"keras2gp {options.command}") from error
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        try:
            code: ExitCode = options.run(options, Output(json_wanted=options.json))
        except SystemExit as error:  # a user's own code has no say in the exit code
            raise RuntimeError("code that this command runs ended the process") from error
    return code


def _explain(error: BaseException, code: ExitCode, *, json_wanted: bool) -> None:
    """The error on stderr, or as the JSON document; a traceback only for a defect."""
    if json_wanted:
        Output(json_wanted=True).document({"error": _as_data(error, code)})
        return
    command = error.command if isinstance(error, UsageError) else "keras2gp"
    if isinstance(error, KeyboardInterrupt):
        sys.stderr.write(f"{folded(_message(error), sys.stderr)}\n")
        return
    if code == ExitCode.UNEXPECTED and not isinstance(error, Keras2GPError):
        traceback.print_exception(error)
        sys.stderr.write("This is a defect of keras2gp, and worth a report with the lines above.\n")
    message = f"{command}: error: {_with_full_stop(printable(_message(error)))}"
    sys.stderr.write(f"{folded(message, sys.stderr)}\n")
    if isinstance(error, UsageError):
        sys.stderr.write(f"Try: {command} --help\n")


def _with_full_stop(text: str) -> str:
    """The text with a full stop at its end, unless it ends in a list or another such mark."""
    last = text.rpartition("\n")[2]
    return text if last.startswith(" ") or text.endswith((".", "!", "?")) else f"{text}."


def _as_data(error: BaseException, code: ExitCode) -> dict[str, Any]:
    data: dict[str, Any] = {
        "type": type(error).__name__,
        "message": _message(error),
        "exit_code": int(code),
    }
    if isinstance(error, UnsupportedModelError):
        data["obstacles"] = [vars(obstacle) for obstacle in error.obstacles]
    return data


def _message(error: BaseException) -> str:
    """The text of an error, on one line but for the lists that our own errors hold."""
    if isinstance(error, KeyboardInterrupt):
        return ": ".join(["interrupted", *getattr(error, "__notes__", [])])
    text = f"{type(error).__name__}: {error}"
    if type(error).__name__ == "ResourceExhaustedError":  # TensorFlow's own, which lists its ops
        text = f"out of memory. {received_text(str(error).strip(), 300)}"
    if isinstance(error, MemoryError):
        text = f"out of memory. {error}".strip()
    elif isinstance(error, UnsupportedModelError):
        head = str(error).partition("\n")[0]
        text = "\n".join([head, *(f"  - {short_line(str(o), 2000)}" for o in error.obstacles)])
    elif isinstance(error, OutputError):
        names = ", ".join(error.outputs)
        text = f"the model has {len(error.outputs)} outputs. Try: --output NAME, one of {names}"
    elif isinstance(error, Keras2GPError):
        text = str(error)
    # Our own lists are indented: other line breaks come from names in the files of strangers.
    text = re.sub(r"\n(?!  )", r"\\n", text)
    if len(text) > _LONGEST_MESSAGE:
        half = _LONGEST_MESSAGE // 2
        text = f"{text[:half]} [{len(text) - 2 * half} characters left out] {text[-half:]}"
    return text
