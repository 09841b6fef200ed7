"""The parser: every command's arguments, its check, and by name the function that runs."""

from __future__ import annotations

import argparse

from keras2gp._util.version import VERSION
from keras2gp.cli import arguments, checks, option_values
from keras2gp.cli import result_arguments as results
from keras2gp.cli.arguments import MODEL, MODEL_OR_KERNEL, Commands
from keras2gp.cli.described import Parser
from keras2gp.cli.exit_codes import MEANINGS
from keras2gp.cli.loading import Command
from keras2gp.cli.xray_arguments import add_xray

__all__ = ["build_parser"]

_EPILOG = """\
MODEL is a .keras or .h5 file, the .json of model.to_json(), or a network of the
paper: zoo:convnet, zoo:residual-cnn, zoo:resnet32. D is sample (digits in the
package), tfds:NAME, an .npz file with x and y, a .csv file with a column y, or a
folder of images (a folder for each class), of x.npy and y.npy, or of IDX files.

examples:
  keras2gp inspect model.keras
  keras2gp verify model.keras --samples 2000
  keras2gp fit model.keras --data sample --train 2000 --out fitted
  keras2gp evaluate fitted --data sample --test 1000
  keras2gp predict fitted --data images.npz --out predictions.csv

exit codes:
"""


def build_parser() -> Parser:
    """The parser; the defaults `check` and `run` of a subparser are functions of the options."""
    codes = "\n".join(f"  {int(code):<5}{meaning}" for code, meaning in MEANINGS.items())
    parser = Parser(
        prog="keras2gp",
        description="The Gaussian process that a Keras model becomes at infinite width.",
        epilog=_EPILOG + codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"keras2gp {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for add in (
        *(_add_inspect, _add_convert, _add_verify, _add_gram, _add_fit),
        *(results.add_evaluate, results.add_predict, results.add_export, results.add_search),
        *(results.add_tune, add_xray, results.add_plot, results.add_demo),
        results.add_completion,
    ):
        add(commands)
    return parser


def _add_inspect(commands: Commands) -> None:
    inspect = arguments.add_command(
        commands,
        "inspect",
        "show what becomes of each layer",
        "Show what becomes of each layer. Exit code 0: exact; 3: not convertible.",
        check=checks.check_inspect,
        run=Command("convert.inspect"),
    )
    inspect.add_argument(
        "model", metavar="MODEL", type=option_values.source, help=f"{MODEL}; or a saved kernel"
    )
    arguments.add_conversion(inspect)
    arguments.add_position(inspect)
    inspect.add_argument(
        "--template",
        metavar="FILE",
        type=option_values.source,
        help="write the variances as a YAML file for --overrides; - prints it instead of the table",
    )


def _add_convert(commands: Commands) -> None:
    convert = arguments.add_command(
        commands,
        "convert",
        "save a model's kernel",
        "Save a model's kernel: a SavedModel that runs without keras2gp, and JSON.",
        check=checks.check_convert,
        run=Command("convert.convert"),
    )
    convert.add_argument("model", metavar="MODEL", type=option_values.source, help=MODEL)
    convert.add_argument(
        "out",
        metavar="OUT",
        type=option_values.path,
        help="directory; a kernel that it holds is replaced",
    )
    arguments.add_conversion(convert)
    arguments.add_position(convert)
    arguments.add_dtype(convert)
    arguments.add_kind(convert)


def _add_verify(commands: Commands) -> None:
    verify = arguments.add_command(
        commands,
        "verify",
        "compare a model's kernel with random wide networks",
        "Draw wide random copies of the model, and compare the covariance of their "
        "outputs with the kernel. Exit code 0: accepted, a kernel off by 10% would have been "
        "rejected; 8: rejected; 9: undecided, more samples or larger widths are needed.",
        check=checks.check_verify,
        run=Command("verify.verify", rows="images_to_verify"),
    )
    verify.add_argument(
        "model",
        metavar="MODEL",
        type=option_values.source,
        help="a .keras, .h5 or .json file, or zoo:NAME",
    )
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
        f"(default {arguments.IMAGES_VERIFIED}, or as many as there are)",
    )
    verify.add_argument("--seed", metavar="N", type=int, default=0, help="of the networks")
    arguments.add_data(verify, required=False, note=" (default: random images)")
    verify.add_argument("--dry-run", action="store_true", help="say what it would take, and stop")
    arguments.add_conversion(verify)


def _add_gram(commands: Commands) -> None:
    gram = arguments.add_command(
        commands,
        "gram",
        "compute a kernel matrix into a store on disk",
        "The kernel matrix of the first N training rows of D, in a Zarr store. An "
        "interrupted run goes on where it was; `fit --gram OUT` uses the store.",
        check=checks.check_gram,
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


def _add_fit(commands: Commands) -> None:
    fit = arguments.add_command(
        commands,
        "fit",
        "fit a model's Gaussian process to data",
        "Fit a model's Gaussian process to the first N training rows of D.",
        check=checks.check_fit,
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
