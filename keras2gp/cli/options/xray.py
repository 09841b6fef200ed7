"""The options of xray."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from keras2gp._util.paths import expanded
from keras2gp.cli import arguments, checks, option_values
from keras2gp.cli.arguments import MODEL, Commands
from keras2gp.cli.destinations import XRAY, check_directory
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.loading import Command
from keras2gp.cli.sources import NamedModel, check_data, model_source
from keras2gp.xrays import KINDS

__all__ = ["add_xray", "check_xray"]


def add_xray(commands: Commands) -> None:
    """Add `xray`."""
    xray = arguments.add_command(
        commands,
        "xray",
        "what each part of an architecture is worth, without training it",
        "Take each part of a model out or exchange it, fit every variant's Gaussian process to the "
        "first N training rows of D, and compare leave-one-out errors row by row. OUT holds "
        "report.html, the variants, and what an interrupted run goes on with.",
        check=check_xray,
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


def check_xray(options: argparse.Namespace) -> None:
    """Check the arguments of `xray`."""
    checks.check_conversion(options, kernels=False)
    for name in ("prior", "trained_until"):
        if getattr(options, name) not in (None, "initializers"):
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag}: variants have no trained weights. Try: --overrides")
    for kind in options.kinds or ():
        if kind not in KINDS:
            raise UsageError(f"--kinds {kind}: expected {', '.join(KINDS)}")
    for name, value in (("most", options.most_work), ("full", options.full_work)):
        if value < 1.0:
            raise UsageError(f"--{name}-work {value:g}: expected a number from 1")
    if options.train < 4:
        raise UsageError(f"--train {options.train}: expected 4 rows or more, for 2 subsets of 2")
    if not 2 <= options.subsets <= options.train // 2:
        raise UsageError(f"--subsets {options.subsets}: expected 2 to {options.train // 2}")
    options.own = _own_variants(options.variants)
    if options.kinds == [] and not options.own:
        raise UsageError("--kinds none: nothing is left to compare. Try: --variants, or some kinds")
    check_data(options)
    check_directory(options, XRAY)


def _names(text: str) -> list[str]:
    return [] if text == "none" else [part.strip() for part in text.split(",")]


def _own_variants(given: Sequence[str]) -> dict[str, NamedModel]:
    """The models of --variants by name. Raises: UsageError; ModelFileError."""
    found: dict[str, NamedModel] = {}
    for text in given:
        named, equals, rest = text.partition("=")
        name, model = (named, rest) if equals and not Path(text).exists() else ("", text)
        source = model_source(str(expanded(model)), kernels=False)
        name = name.strip() or Path(source.name).stem
        if name in found:
            raise UsageError(f"--variants: {name!r} is there twice. Try: NAME={model}")
        found[name] = source
    return found
