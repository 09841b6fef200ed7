"""The options of plot."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from keras2gp._util.paths import suffix_of
from keras2gp.cli import arguments, checks, option_values
from keras2gp.cli.arguments import ROWS_PLOTTED, SEARCH_SCORES, Commands
from keras2gp.cli.destinations import check_file_to_replace, is_picture, is_store
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.loading import Command
from keras2gp.cli.sources import check_data
from keras2gp.fit_record import read_record
from keras2gp.plots.style import SUFFIXES, new_figure

__all__ = ["add_plot", "check_plot_document", "check_plot_fit", "check_plot_kernel"]


def add_plot(commands: Commands) -> None:
    """Add `plot`."""
    plot = commands.add_parser(
        "plot",
        help="draw pictures: PNG or SVG",
        description="Draw a picture. Needs the extra plot (matplotlib).",
        allow_abbrev=False,
    )
    kinds = plot.add_subparsers(metavar="KIND", dest="picture", required=True)
    for name, text, metavar, source in (
        ("learning-curve", "test errors by number of training images", "JSON",
         "table1.json of examples/table1.py"),
        ("convergence", "random networks of growing width, and their limit", "JSON",
         "what verify --json prints"),
        ("trials", "the trials of a search", "CSV", "trials.csv of a search"),
    ):  # fmt: skip
        run = Command(f"plot_document.{name.replace('-', '_')}", tensorflow=False)
        document = _picture(kinds, name, text, check=check_plot_document, run=run)
        document.add_argument("source", metavar=metavar, type=option_values.path, help=source)
        if name == "trials":
            document.add_argument("--score", choices=SEARCH_SCORES, default="validation")
    for name, text in (
        ("reliability", "how honest a fit's probabilities are"),
        ("images", "the images that a fit is most and least certain of"),
    ):
        run = Command(f"plot.{name}", rows="rows_to_test")
        of_fit = _picture(kinds, name, text, check=check_plot_fit, run=run)
        arguments.add_fit(of_fit)
        arguments.add_data(of_fit)
        arguments.add_test_rows(of_fit)
        arguments.add_keep(of_fit)
    kernel = _picture(
        kinds,
        "kernel",
        "a kernel matrix, its images sorted by class",
        check=check_plot_kernel,
        run=Command("plot.kernel", rows="rows_to_plot"),
    )
    kernel.add_argument(
        "model",
        metavar="KERNEL",
        type=option_values.source,
        help="a store that gram wrote, a saved kernel, or a model",
    )
    arguments.add_data(kernel)
    kernel.add_argument(
        "--rows",
        metavar="N",
        type=option_values.count,
        help=f"(default {ROWS_PLOTTED}, or as many as there are)",
    )
    arguments.add_conversion(kernel)


def _picture(kinds: Any, name: str, text: str, **functions: Any) -> Any:
    parser = arguments.add_command(kinds, name, text, f"Draw {text}.", **functions)
    arguments.add_output(parser, "a .png or .svg file; a picture that plot drew is replaced")
    return parser


def check_plot_document(options: argparse.Namespace) -> None:
    """Check the arguments of the pictures of a document."""
    checks.check_file(options.source, options.picture)
    _check_picture(options)


def check_plot_fit(options: argparse.Namespace) -> None:
    """Check the arguments of the pictures of a fit."""
    options.record = read_record(options.fit)
    if options.record.task != "classification":
        raise UsageError(f"{options.fit} is a regression: it has no classes to draw")
    check_data(options)
    _check_picture(options)


def check_plot_kernel(options: argparse.Namespace) -> None:
    """Check the arguments of the picture of a kernel matrix."""
    options.store = is_store(Path(options.model))
    if options.store:
        checks.refuse_conversion(options, f"{options.model} is a matrix, which is computed already")
    else:
        checks.check_conversion(options, kernels=True)
    check_data(options)
    _check_picture(options)


def _check_picture(options: argparse.Namespace) -> None:
    if suffix_of(options.out) not in SUFFIXES:
        raise UsageError(f"--out {options.out}: expected a name that ends in .png or .svg")
    check_file_to_replace(options, is_picture, "picture of keras2gp")
    new_figure(1, 1)  # says at once where matplotlib is missing
