"""The options of inspect and convert."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras2gp.cli import arguments, checks, option_values
from keras2gp.cli.arguments import MODEL, Commands
from keras2gp.cli.destinations import KERNEL, check_directory, check_new_file
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.loading import Command

__all__ = ["add_convert", "add_inspect", "check_convert", "check_inspect"]


def add_inspect(commands: Commands) -> None:
    """Add `inspect`."""
    inspect = arguments.add_command(
        commands,
        "inspect",
        "show what becomes of each layer",
        "Show what becomes of each layer. Exit code 0: exact; 3: not convertible.",
        check=check_inspect,
        run=Command("convert.inspect"),
    )
    inspect.add_argument(
        "model", metavar="MODEL", type=option_values.source, help=f"{MODEL}; or a saved kernel"
    )
    arguments.add_conversion(inspect)
    arguments.add_position(inspect)
    inspect.add_argument(
        "--template",
        metavar="FILE",
        type=option_values.source,
        help="write the variances as a YAML file for --overrides; - prints it instead of the table",
    )


def check_inspect(options: argparse.Namespace) -> None:
    """Check the arguments of `inspect`."""
    checks.check_conversion(options, kernels=True)
    if options.template is None:
        return
    if options.template == "-":
        if options.json:
            raise UsageError("--template - and --json: stdout can hold one of the two")
        return
    check_new_file(Path(options.template), "--template")


def add_convert(commands: Commands) -> None:
    """Add `convert`."""
    convert = arguments.add_command(
        commands,
        "convert",
        "save a model's kernel",
        "Save a model's kernel: a SavedModel that runs without keras2gp, and JSON.",
        check=check_convert,
        run=Command("convert.convert"),
    )
    convert.add_argument("model", metavar="MODEL", type=option_values.source, help=MODEL)
    convert.add_argument(
        "out",
        metavar="OUT",
        type=option_values.path,
        help="directory; a kernel that it holds is replaced",
    )
    arguments.add_conversion(convert)
    arguments.add_position(convert)
    arguments.add_dtype(convert)
    arguments.add_kind(convert)


def check_convert(options: argparse.Namespace) -> None:
    """Check the arguments of `convert`."""
    checks.check_conversion(options, kernels=False)
    check_directory(options, KERNEL)
