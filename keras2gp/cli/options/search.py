"""The options of search and tune."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras2gp._util.paths import suffix_of
from keras2gp.cli import arguments, checks, option_values
from keras2gp.cli.arguments import MODEL_OR_KERNEL, SEARCH_SCORES, Commands
from keras2gp.cli.destinations import SEARCH, check_directory, check_new_file
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.loading import Command
from keras2gp.cli.sources import check_data
from keras2gp.search import PAPER_SPACES, SPACE_NAMES

__all__ = ["add_search", "add_tune", "check_search", "check_tune"]


def add_search(commands: Commands) -> None:
    """Add `search`."""
    search = arguments.add_command(
        commands,
        "search",
        "random search over architectures",
        "Draw M networks, fit each to the first N training rows of D, and keep the "
        "best. An interrupted search goes on where it was; every trial is a row of "
        "OUT/trials.csv, the best network is OUT/best.keras.",
        check=check_search,
        run=Command("search.search", rows="rows_to_search"),
    )
    search.add_argument(
        "space",
        metavar="SPACE",
        type=option_values.source,
        help="paper, its hyperparameters, paper-convnet of networks without skips, paper-residual "
        "of those with skips; or path.py:function, your own code, which is run: a function from a "
        "dict of settings to a Keras model, and a dict SPACE of distributions",
    )
    arguments.add_data(search)
    arguments.add_training_rows(search)
    search.add_argument(
        "--validation",
        metavar="V",
        type=option_values.count,
        help="rows after those to train on (default N / 5; none for another --score)",
    )
    search.add_argument(
        "--samples", metavar="M", required=True, type=option_values.count, help="networks in all"
    )
    search.add_argument(
        "--score",
        choices=SEARCH_SCORES,
        default="validation",
        help="what the best is: least error (default), also in closed form on the training rows "
        "alone, or largest log marginal likelihood",
    )
    search.add_argument("--seed", metavar="S", type=int, default=0, help="of the draws (default 0)")
    _add_target_noise(search, 0.0, "default 0")
    search.add_argument("--dry-run", action="store_true", help="show the draws, and stop")
    arguments.add_output(search, "directory of the search")
    arguments.add_dtype(search)


def check_search(options: argparse.Namespace) -> None:
    """Check the arguments of `search`, and set the default of --validation."""
    path, colon, _ = options.space.rpartition(":")
    if options.space not in PAPER_SPACES and (not colon or suffix_of(path) != ".py"):
        raise UsageError(f"{options.space!r} is no space: {SPACE_NAMES}")
    if colon:
        checks.check_file(Path(path), "SPACE")
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: expected a whole number from 0")
    check_data(options)
    check_directory(options, SEARCH)
    if options.validation is None and options.score == "validation":
        options.validation = max(options.train // 5, 1)


def add_tune(commands: Commands) -> None:
    """Add `tune`."""
    tune = arguments.add_command(
        commands,
        "tune",
        "fit a model's layer variances by gradient ascent of the evidence",
        "Ascend the log marginal likelihood of the first N training rows of D in the "
        "logarithms of all layer variances, and write them as a file for --overrides.",
        check=check_tune,
        run=Command("search.tune", rows="rows_to_tune"),
    )
    tune.add_argument("model", metavar="MODEL", type=option_values.source, help=MODEL_OR_KERNEL)
    arguments.add_data(tune)
    arguments.add_training_rows(tune)
    tune.add_argument(
        "--steps", metavar="K", type=option_values.count, default=30, help="at most (default 30)"
    )
    _add_target_noise(
        tune, None, "to start from; 0: none; default: 1%% of the kernel's mean variance"
    )
    arguments.add_output(tune, "a .yaml file, which must not be there yet")
    arguments.add_conversion(tune)


def check_tune(options: argparse.Namespace) -> None:
    """Check the arguments of `tune`."""
    checks.check_conversion(options, kernels=True)
    check_data(options)
    if suffix_of(options.out) not in (".yaml", ".yml"):
        raise UsageError(f"--out {options.out}: expected a name that ends in .yaml")
    check_new_file(options.out, "--out")


def _add_target_noise(
    parser: argparse.ArgumentParser, default: float | None, default_text: str
) -> None:
    """Add the --noise-variance of classification targets."""
    parser.add_argument(
        "--noise-variance",
        metavar="V",
        type=option_values.variance,
        default=default,
        help=f"of the targets, which are -1 and 1 ({default_text})",
    )
