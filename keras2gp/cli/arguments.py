"""The options that several commands share, by groups, and the words of their help."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

from keras2gp.cli.loading import Command
from keras2gp.cli.option_values import (
    count,
    path,
    position,
    seed,
    shape,
    source,
    tolerance,
    variance,
    variance_or_auto,
)

__all__ = [
    "DATA_SOURCES",
    "IMAGES_VERIFIED",
    "MODEL",
    "MODEL_OR_KERNEL",
    "ROWS_PLOTTED",
    "SEARCH_SCORES",
    "ZOO_NAMES",
    "Commands",
    "add_command",
    "add_conversion",
    "add_data",
    "add_dtype",
    "add_fit",
    "add_keep",
    "add_kind",
    "add_output",
    "add_position",
    "add_shuffle",
    "add_solver",
    "add_test_rows",
    "add_training_rows",
]

ZOO_NAMES = ("convnet", "residual-cnn", "resnet32")
DATA_SOURCES = (
    "sample, tfds:NAME, an .npz file with x and y, a .csv file with a column y, or a folder of "
    "images (a folder for each class), of x.npy and y.npy, or of IDX files"
)
_MODEL_FILES = "a .keras, .h5 or .json file"
_NETWORKS = ", ".join(f"zoo:{name}" for name in ZOO_NAMES)
MODEL = f"{_MODEL_FILES}, or {_NETWORKS}"
MODEL_OR_KERNEL = f"{_MODEL_FILES}, {_NETWORKS}, or a saved kernel"
Commands: TypeAlias = Any
"""The action of argparse that takes parsers of commands; its class is private."""

IMAGES_VERIFIED, ROWS_PLOTTED = 3, 500
"""Images that verify compares, and rows of the picture of a kernel, unless others are stated."""
SEARCH_SCORES = ("validation", "leave-one-out", "evidence")
_SOLVERS = ("auto", "cholesky", "mixed", "tensorflow", "cg", "nystroem", "projected")


def add_command(
    commands: Commands,
    name: str,
    help_text: str,
    description: str,
    *,
    check: Callable[[argparse.Namespace], None],
    run: Command,
) -> argparse.ArgumentParser:
    """Add a command with --json; `check` and `run` become defaults of its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=description, allow_abbrev=False
    )
    parser.set_defaults(check=check, run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=path,
        help=f"TOML: options of a run that is repeated, in a table [{name}]; those of the command "
        "line win",
    )
    return parser


def add_conversion(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a model becomes a kernel."""
    group = parser.add_argument_group("conversion")
    group.add_argument(
        "--prior",
        choices=("initializers", "weights"),
        help="variances from the layers' initialisers (default) or from their trained weights",
    )
    group.add_argument(
        "--overrides",
        metavar="FILE",
        type=path,
        help="YAML or JSON: variances by layer-name pattern (see inspect --template)",
    )
    group.add_argument("--output", metavar="NAME", help="which output or layer: a name or number")
    group.add_argument(
        "--max-pooling",
        choices=("average",),
        help="put average pooling in the place of max pooling, which has no exact kernel",
    )
    group.add_argument(
        "--tolerance",
        metavar="T",
        type=tolerance,
        help="error of activations without closed form, relative (default 1e-6); inspect says what "
        "is reached",
    )
    group.add_argument(
        "--trained-until",
        metavar="LAYER",
        help="run this layer and all before it with their trained weights; what follows is wide",
    )
    group.add_argument(
        "--input-shape",
        metavar="[NAME=]H,W,C",
        type=shape,
        action="append",
        help="sizes of an input that the model leaves open; once for each input of several. Of a "
        "zoo network (default: that of the data, or 28,28,1)",
    )


def add_position(parser: argparse.ArgumentParser) -> None:
    """Add --position."""
    parser.add_argument(
        "--position",
        metavar="I,J",
        type=position,
        help="of an output with positions: the kernel of this one, counted from 0",
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add --dtype."""
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), help="of the kernel's entries (default float32)"
    )


def add_kind(parser: argparse.ArgumentParser) -> None:
    """Add --kind."""
    parser.add_argument(
        "--kind",
        choices=("nngp", "ntk"),
        help="the covariance of the networks before training (default), or the tangent kernel, "
        "whose fit has the mean of networks that gradient descent has trained",
    )


def add_shuffle(parser: argparse.ArgumentParser) -> None:
    """Add --shuffle."""
    parser.add_argument(
        "--shuffle",
        metavar="SEED",
        nargs="?",
        const=0,
        type=seed,
        help="take training rows at random, in the order of this seed (default 0), and not the "
        "first ones",
    )


def add_data(parser: argparse.ArgumentParser, *, required: bool = True, note: str = "") -> None:
    """Add --data and --download."""
    group = parser.add_argument_group("data")
    help_text = DATA_SOURCES + note
    group.add_argument("--data", metavar="D", required=required, type=source, help=help_text)
    group.add_argument(
        "--download", action="store_true", help="let tensorflow_datasets download what is missing"
    )
    group.add_argument(
        "--target",
        metavar="COLUMN",
        help="of a .csv file: the column of labels or targets (default y, or that of the fit)",
    )


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Add DIR, the fit that a command takes."""
    parser.add_argument("fit", metavar="DIR", type=path, help="what fit wrote")


def add_output(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add --out."""
    parser.add_argument("--out", metavar="OUT", required=True, type=path, help=help_text)


def add_training_rows(parser: argparse.ArgumentParser) -> None:
    """Add --train, the number of training rows."""
    parser.add_argument("--train", metavar="N", required=True, type=count, help="rows")


def add_test_rows(parser: argparse.ArgumentParser) -> None:
    """Add --test, the number of test rows."""
    parser.add_argument("--test", metavar="N", required=True, type=count, help="rows")


def add_keep(parser: argparse.ArgumentParser) -> None:
    """Add the --keep of commands that read a fit."""
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the kernel between these images and the training images in DIR, for later "
        "commands on the same images (kept ones are read with or without --keep)",
    )


def add_solver(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how the linear system of a fit is solved."""
    group = parser.add_argument_group("solver")
    group.add_argument(
        "--noise-variance",
        metavar="V",
        type=variance_or_auto,
        default="auto",
        help="of the targets, which are -1 and 1; of a regression's, scaled to variance 1; auto: "
        "of the largest evidence of a regression, or the least within half a standard error of the "
        "largest leave-one-out likelihood of labels, and 0 unless that is raised by more than 2 "
        "nats, and that of labels by half a standard error (default)",
    )
    group.add_argument(
        "--jitter",
        metavar="J",
        type=variance_or_auto,
        default="auto",
        help="added to the diagonal, relative to its mean; auto: only if needed (default)",
    )
    _add_method(group)
    parser.add_argument(
        "--probabilities",
        choices=("linear", "temperature", "largest", "dirichlet"),
        help="of a classification: softmax of a linear map of the mean, set by leave-one-out "
        "predictions (default); of the mean, its temperature set by them; of each class's latent "
        "value being the largest; or of a regression on the logarithms of Dirichlet variables, "
        "which sets the labels too",
    )
    parser.add_argument(
        "--intercept",
        metavar="V",
        type=variance_or_auto,
        help="of a classification: a variance that is added to the kernel, that of an intercept; "
        "auto: the mean variance of the kernel where labels that are left out gain (default)",
    )


def _add_method(group: Any) -> None:
    group.add_argument(
        "--solver",
        choices=_SOLVERS,
        default="auto",
        metavar="SOLVER",
        help="cholesky, mixed (a float32 factor, refined), tensorflow (a GPU), cg (from a store on "
        "disk), nystroem and projected (inducing images, approximate; projected reads the "
        "covariances with them once or twice, from --gram if it is given); auto: an exact one that "
        "fits the machine (default)",
    )
    group.add_argument(
        "--residual",
        metavar="E",
        type=variance,
        help="of cg: the relative residual to reach (default 1e-6)",
    )
    group.add_argument(
        "--rank",
        metavar="R",
        type=count,
        help="of cg: columns of the preconditioner (default N / 10, 100 to 1000); of nystroem "
        "and projected: inducing images (default 1000)",
    )
    group.add_argument(
        "--probes",
        metavar="P",
        type=count,
        help="of cg: random vectors that estimate the log marginal likelihood, with its standard "
        "error (default none: it is not known)",
    )
