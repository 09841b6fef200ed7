"""The options of gram."""

from __future__ import annotations

import argparse

from keras2gp.cli import arguments, checks, option_values
from keras2gp.cli.arguments import Commands
from keras2gp.cli.destinations import STORE, check_directory
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.loading import Command
from keras2gp.cli.sources import check_data

__all__ = ["add_gram", "check_gram"]


def add_gram(commands: Commands) -> None:
    """Add `gram`."""
    gram = arguments.add_command(
        commands,
        "gram",
        "compute a kernel matrix into a store on disk",
        "The kernel matrix of the first N training rows of D, in a Zarr store. An "
        "interrupted run goes on where it was; `fit --gram OUT` uses the store.",
        check=check_gram,
        run=Command("gram.gram", rows="rows_of_matrix"),
    )
    gram.add_argument(
        "model",
        metavar="KERNEL",
        type=option_values.source,
        help="a saved kernel, or a model as for fit",
    )
    arguments.add_data(gram)
    gram.add_argument(
        "--rows", metavar="N", type=option_values.count, help="training rows of D (default: all)"
    )
    arguments.add_output(gram, "directory of the store, such as K.zarr")
    gram.add_argument(
        "--positions",
        choices=("equal", "all"),
        default="equal",
        help="of an output with positions: covariances at equal positions (default), or between "
        "all of them, as `fit --gram` needs",
    )
    gram.add_argument(
        "--executor",
        default="auto",
        help="auto, threads, gpus, dask, or the address of a Dask scheduler",
    )
    gram.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on with a store that is there already (default), or refuse it",
    )
    gram.add_argument("--dry-run", action="store_true", help="say what it would take, and stop")
    arguments.add_conversion(gram)
    arguments.add_position(gram)
    arguments.add_dtype(gram)
    arguments.add_kind(gram)
    arguments.add_shuffle(gram)


def check_gram(options: argparse.Namespace) -> None:
    """Check the arguments of `gram`."""
    checks.check_conversion(options, kernels=True)
    check_data(options)
    if options.out.exists() and not options.resume:
        raise UsageError(f"{options.out} exists: leave out --no-resume to go on with it")
    check_directory(options, STORE)
