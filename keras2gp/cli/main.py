"""The command keras2gp: parser, and one place where errors become messages and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from keras2gp._util.version import VERSION
from keras2gp.cli.commands import (
    convert,
    demo,
    export,
    fit,
    gram,
    plot,
    predict,
    search,
    verify,
)
from keras2gp.cli.exit_codes import MEANINGS, ExitCode, UsageError, exit_code_of
from keras2gp.cli.output import Output, printable
from keras2gp.errors import Keras2GPError, UnsupportedModelError

__all__ = ["build_parser", "main"]

_FAMILIES = (
    convert,
    verify,
    gram,
    fit,
    predict,
    export,
    search,
    plot,
    demo,
)
_EPILOG = """\
MODEL is a .keras file, the .json of model.to_json(), or a network of the paper:
zoo:convnet, zoo:residual-cnn, zoo:resnet32. D is sample (digits in the package),
tfds:NAME, an .npz file with x and y, or a folder of IDX files.

examples:
  keras2gp inspect model.keras
  keras2gp verify model.keras --samples 2000
  keras2gp fit model.keras --data sample --train 2000 --out fitted
  keras2gp evaluate fitted --data sample --test 1000
  keras2gp predict fitted --data images.npz --out predictions.csv

exit codes:
"""


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that --json gets its document for a usage error too."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.prog)


def build_parser() -> argparse.ArgumentParser:
    """The parser; a command is a subparser whose defaults are `check` and `run`."""
    codes = "\n".join(f"  {int(code):<5}{meaning}" for code, meaning in MEANINGS.items())
    parser = _Parser(
        prog="keras2gp",
        description="The Gaussian process that a Keras model becomes at infinite width.",
        epilog=_EPILOG + codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"keras2gp {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for family in _FAMILIES:
        family.add_commands(commands)
    return parser


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
