"""The arguments of `xray`."""

from __future__ import annotations

from keras2gp.cli import arguments, checks, option_values
from keras2gp.cli.arguments import MODEL, Commands
from keras2gp.cli.loading import Command
from keras2gp.xrays import KINDS

__all__ = ["add_xray"]


def add_xray(commands: Commands) -> None:
    """Add `xray`."""
    xray = arguments.add_command(
        commands,
        "xray",
        "what each part of an architecture is worth, without training it",
        "Take each part of a model out or exchange it, fit every variant's Gaussian process to the "
        "first N training rows of D, and compare leave-one-out errors row by row. OUT holds "
        "report.html, the variants, and what an interrupted run goes on with.",
        check=checks.check_xray,
        run=Command("xray.xray", rows="rows_to_xray"),
    )
    xray.add_argument("model", metavar="MODEL", type=option_values.source, help=MODEL)
    arguments.add_data(xray)
    arguments.add_training_rows(xray)
    xray.add_argument(
        "--test", metavar="M", type=option_values.count, help="test rows (default none)"
    )
    xray.add_argument(
        "--kinds",
        metavar="K,K,...",
        type=_names,
        help=f"of {', '.join(KINDS)} (default all); none: the variants of --variants alone",
    )
    xray.add_argument(
        "--variants",
        metavar="[NAME=]FILE",
        action="append",
        default=[],
        help="a model of your own beside the ablations, as MODEL; once for each",
    )
    xray.add_argument(
        "--regression",
        action="store_true",
        help="take whole numbers for real targets, and not for labels",
    )
    xray.add_argument(
        "--most-work",
        metavar="F",
        type=option_values.variance,
        default=20.0,
        help="leave out variants that take F times the time of the model (default 20)",
    )
    xray.add_argument(
        "--full-work",
        metavar="F",
        type=option_values.variance,
        default=1.5,
        help="compare variants that take F times the time of the model, and more than a minute, on "
        "fewer rows (default 1.5)",
    )
    xray.add_argument(
        "--subsets",
        metavar="G",
        type=option_values.count,
        default=10,
        help="random halvings of the rows, fitted for standard errors (default 10)",
    )
    xray.add_argument(
        "--signal-rows",
        metavar="R",
        type=option_values.count,
        default=200,
        help="rows that show how signal flows (default 200)",
    )
    xray.add_argument(
        "--seed",
        metavar="S",
        type=option_values.seed,
        default=0,
        help="of the halvings (default 0)",
    )
    xray.add_argument(
        "--minutes",
        metavar="M",
        type=option_values.minutes,
        help="leave out what does not fit into M minutes, the variants that say least first; a run "
        "with more goes on (default any time)",
    )
    xray.add_argument("--dry-run", action="store_true", help="say what it would take, and stop")
    arguments.add_output(xray, "directory of the report")
    arguments.add_conversion(xray)
    arguments.add_position(xray)
    arguments.add_kind(xray)
    arguments.add_dtype(xray)


def _names(text: str) -> list[str]:
    return [] if text == "none" else [part.strip() for part in text.split(",")]
