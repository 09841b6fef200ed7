"""The options of evaluate, predict and export, which read a fit."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras2gp._util.paths import suffix_of
from keras2gp.cli import arguments, option_values
from keras2gp.cli.arguments import Commands
from keras2gp.cli.destinations import (
    EXPORT,
    check_directory,
    check_file_to_replace,
    check_store_of_fit,
    is_predictions,
)
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.loading import Command
from keras2gp.cli.sources import check_data
from keras2gp.fit_record import identity, read_record

__all__ = [
    "add_evaluate",
    "add_export",
    "add_predict",
    "check_evaluate",
    "check_export",
    "check_predict",
]


def add_evaluate(commands: Commands) -> None:
    """Add `evaluate`."""
    evaluate = arguments.add_command(
        commands,
        "evaluate",
        "measure a fitted model's errors",
        "Measure a fitted model on N test rows of D: the first of its test split, or "
        "the last of its rows if it has none.",
        check=check_evaluate,
        run=Command("predict.evaluate", rows="rows_to_evaluate"),
    )
    arguments.add_fit(evaluate)
    arguments.add_data(evaluate)
    arguments.add_test_rows(evaluate)
    evaluate.add_argument(
        "--ood",
        metavar="D2",
        type=option_values.source,
        help="images that are not of D, of the same shape: how well the variance and other scores "
        "tell up to N of them from the test rows (without it none is measured)",
    )
    _add_store_of_fit(evaluate)
    arguments.add_keep(evaluate)


def check_evaluate(options: argparse.Namespace) -> None:
    """Check the arguments of `evaluate`."""
    options.record = read_record(options.fit)
    check_store_of_fit(options.gram, new=False)
    check_data(options)
    if options.ood is not None and identity(options.ood) == identity(options.data):
        raise UsageError(f"--ood {options.ood}: that is the data of --data")


def add_predict(commands: Commands) -> None:
    """Add `predict`."""
    predict = arguments.add_command(
        commands,
        "predict",
        "write a fitted model's predictions",
        "Write label, probabilities and posterior variance (or mean and standard "
        "deviation) of each image: the test images of D if it has any, otherwise all.",
        check=check_predict,
        run=Command("predict.predict", rows="images_to_predict"),
    )
    arguments.add_fit(predict)
    arguments.add_data(predict, note="; an .npz file needs no y")
    arguments.add_output(predict, "a .csv or .npz file; predictions that it holds are replaced")
    predict.add_argument(
        "--limit",
        metavar="N",
        type=option_values.count,
        help="predict the first N images (default: all)",
    )
    _add_store_of_fit(predict)
    arguments.add_keep(predict)


def check_predict(options: argparse.Namespace) -> None:
    """Check the arguments of `predict`."""
    options.record = read_record(options.fit)
    check_store_of_fit(options.gram, new=False)
    check_data(options)
    out: Path = options.out
    if suffix_of(out) not in (".csv", ".npz"):
        raise UsageError(f"--out {out}: expected a name that ends in .csv or .npz")
    check_file_to_replace(options, is_predictions, "predictions")


def add_export(commands: Commands) -> None:
    """Add `export`."""
    export = arguments.add_command(
        commands,
        "export",
        "write a fitted model as a SavedModel that predicts",
        "Write a fitted model as a TensorFlow SavedModel that takes images and returns "
        "labels, probabilities, means and variances, and needs no keras2gp.",
        check=check_export,
        run=Command("predict.export"),
    )
    arguments.add_fit(export)
    export.add_argument(
        "out",
        metavar="OUT",
        type=option_values.path,
        help="directory; an exported fit that it holds is replaced",
    )
    export.add_argument(
        "--no-variance",
        action="store_true",
        help="leave out the variance, which takes most of the space and time for many images",
    )


def check_export(options: argparse.Namespace) -> None:
    """Check the arguments of `export`."""
    read_record(options.fit)
    check_directory(options, EXPORT)


def _add_store_of_fit(parser: argparse.ArgumentParser) -> None:
    """Add the --gram of commands that read a fit."""
    parser.add_argument(
        "--gram",
        metavar="K",
        type=option_values.path,
        help="of a fit by cg or mixed: the store of its kernel matrix, which variances need; "
        "without it the matrix is computed again, in memory",
    )
