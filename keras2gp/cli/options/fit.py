"""The options of fit."""

from __future__ import annotations

import argparse

from keras2gp.cli import arguments, checks, option_values
from keras2gp.cli.arguments import MODEL_OR_KERNEL, Commands
from keras2gp.cli.destinations import FIT, check_directory, check_store_of_fit
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.loading import Command
from keras2gp.cli.sources import check_data

__all__ = ["add_fit", "check_fit"]


def add_fit(commands: Commands) -> None:
    """Add `fit`."""
    fit = arguments.add_command(
        commands,
        "fit",
        "fit a model's Gaussian process to data",
        "Fit a model's Gaussian process to the first N training rows of D.",
        check=check_fit,
        run=Command("fit.fit", rows="rows_to_fit"),
    )
    fit.add_argument("model", metavar="MODEL", type=option_values.source, help=MODEL_OR_KERNEL)
    arguments.add_data(fit)
    arguments.add_training_rows(fit)
    arguments.add_shuffle(fit)
    fit.add_argument(
        "--gram",
        metavar="K",
        type=option_values.path,
        help="store of the kernel matrix (see gram); what it lacks is computed into it",
    )
    arguments.add_output(fit, "directory; a fitted model that it holds is replaced at the end")
    arguments.add_conversion(fit)
    arguments.add_position(fit)
    arguments.add_dtype(fit)
    arguments.add_kind(fit)
    arguments.add_solver(fit)
    fit.add_argument("--regression", action="store_true", help="y is a real number, not a label")
    fit.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, say what it would take, and stop; nothing is written",
    )


def check_fit(options: argparse.Namespace) -> None:
    """Check the arguments of `fit`."""
    if options.regression and options.probabilities is not None:
        raise UsageError("--probabilities: a regression has none")
    if options.regression and options.intercept is not None:
        raise UsageError("--intercept: a regression has none. Its mean is that of the targets")
    checks.check_conversion(options, kernels=True)
    check_data(options)
    check_store_of_fit(options.gram, new=True)
    check_directory(options, FIT)
    checks.check_solver(options)
