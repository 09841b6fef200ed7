"""The options of verify."""

from __future__ import annotations

import argparse

from keras2gp.cli import arguments, checks, option_values
from keras2gp.cli.arguments import IMAGES_VERIFIED, MODEL, Commands
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.loading import Command
from keras2gp.cli.sources import check_data

__all__ = ["add_verify", "check_verify"]


def add_verify(commands: Commands) -> None:
    """Add `verify`."""
    verify = arguments.add_command(
        commands,
        "verify",
        "compare a model's kernel with random wide networks",
        "Draw wide random copies of the model, and compare the covariance of their "
        "outputs with the kernel. Exit code 0: accepted, a kernel off by 10% would have been "
        "rejected; 8: rejected; 9: undecided, more samples or larger widths are needed.",
        check=check_verify,
        run=Command("verify.verify", rows="images_to_verify"),
    )
    verify.add_argument("model", metavar="MODEL", type=option_values.source, help=MODEL)
    verify.add_argument(
        "--widths",
        metavar="N,N,...",
        type=option_values.counts,
        default=(8, 16, 64),
        help="channels of the narrowest hidden layer; the others grow with it (default 8,16,64)",
    )
    verify.add_argument(
        "--samples",
        metavar="N",
        type=option_values.count,
        default=300,
        help="networks of each width (default 300)",
    )
    verify.add_argument(
        "--images",
        metavar="N",
        type=option_values.count,
        help="images to compare on: the first of D "
        f"(default {IMAGES_VERIFIED}, or as many as there are)",
    )
    verify.add_argument("--seed", metavar="N", type=int, default=0, help="of the networks")
    arguments.add_data(verify, required=False, note=" (default: random images)")
    verify.add_argument("--dry-run", action="store_true", help="say what it would take, and stop")
    arguments.add_conversion(verify)


def check_verify(options: argparse.Namespace) -> None:
    """Check the arguments of `verify`."""
    checks.check_conversion(options, kernels=False)
    check_data(options)
    if len(set(options.widths)) < 2:
        raise UsageError("--widths: two or more are compared, such as 8,16,64")
