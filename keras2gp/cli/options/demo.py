"""The options of demo."""

from __future__ import annotations

import argparse

from keras2gp.cli import arguments, checks, option_values
from keras2gp.cli.arguments import Commands
from keras2gp.cli.loading import Command

__all__ = ["add_demo", "check_demo"]


def add_demo(commands: Commands) -> None:
    """Add `demo`."""
    demo = arguments.add_command(
        commands,
        "demo",
        "convert, fit and test a small network on the digits in the package",
        "Convert a small convolutional network, fit it to handwritten digits that "
        "come with the package, and test it on others. It takes about a minute.",
        check=check_demo,
        run=Command("demo.demo", rows="rows_of_demo"),
    )
    for name, default in (("train", 2000), ("test", 1000)):
        demo.add_argument(
            f"--{name}",
            metavar="N",
            type=option_values.count,
            default=default,
            help=f"digits to {name} on (default {default})",
        )
    arguments.add_solver(demo)
    demo.set_defaults(regression=False, gram=None)


def check_demo(options: argparse.Namespace) -> None:
    """Check the arguments of `demo`; the rows are checked when its data is split."""
    checks.check_solver(options)
