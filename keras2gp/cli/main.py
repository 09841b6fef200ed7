"""The command keras2gp, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras2gp._util.text import printable
from keras2gp.cli.exit_codes import ExitCode, UsageError, exit_code_of
from keras2gp.cli.output import Output
from keras2gp.cli.parser import build_parser
from keras2gp.errors import Keras2GPError, UnsupportedModelError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code (see exit_codes.py)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    json_wanted = "--json" in arguments
    _open_streams()
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except SystemExit as stop:  # --help and --version
        return stop.code if isinstance(stop.code, int) else ExitCode.UNEXPECTED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (the last handler)
        code = exit_code_of(error)
        if code == ExitCode.CLOSED:
            # What Python still has to flush when it ends must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            _explain(error, code, json_wanted=json_wanted)
    return int(code)


def _open_streams() -> None:
    """Stdout and stderr that can be written to, whatever is written."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: >&-
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):  # a layer's name need not fit the terminal
            stream.reconfigure(errors="replace")


def _run(arguments: list[str]) -> ExitCode:
    options = build_parser().parse_args(arguments)
    try:
        options.check(options)
    except UsageError as error:
        error.command = f"keras2gp {options.command}"
        raise
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        code: ExitCode = options.run(options, Output(json_wanted=options.json))
    return code


def _explain(error: BaseException, code: ExitCode, *, json_wanted: bool) -> None:
    """The error on stderr, or as the JSON document; a traceback only for a defect."""
    if json_wanted:
        Output(json_wanted=True).document({"error": _as_data(error, code)})
        return
    command = error.command if isinstance(error, UsageError) else "keras2gp"
    if isinstance(error, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return
    if code == ExitCode.UNEXPECTED and not isinstance(error, Keras2GPError):
        traceback.print_exception(error)
        sys.stderr.write("This is a defect of keras2gp, and worth a report with the lines above.\n")
    sys.stderr.write(f"{command}: error: {printable(_message(error))}\n")
    if isinstance(error, UsageError):
        sys.stderr.write(f"Try: {command} --help\n")


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
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, Keras2GPError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"out of memory. {error}".strip()
    return f"{type(error).__name__}: {error}"
