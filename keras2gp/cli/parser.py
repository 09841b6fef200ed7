"""The parser: every command's arguments, its check, and by name the function that runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from keras2gp._util.version import VERSION
from keras2gp.cli import arguments, checks
from keras2gp.cli.exit_codes import MEANINGS, UsageError
from keras2gp.cli.loading import Command

__all__ = ["build_parser"]

_MODEL = "a .keras or .json file, or zoo:convnet, zoo:residual-cnn, zoo:resnet32"
_MODEL_OR_KERNEL = (
    "a .keras or .json file, zoo:convnet, zoo:residual-cnn, zoo:resnet32, or a saved kernel"
)
_SCORES = ("validation", "leave-one-out", "evidence")
_PLOT_ROWS = 500
_EPILOG = """\
MODEL is a .keras file, the .json of model.to_json(), or a network of the paper:
zoo:convnet, zoo:residual-cnn, zoo:resnet32. D is sample (digits in the package),
tfds:NAME, an .npz file with x and y, or a folder of IDX files.

examples:
  keras2gp inspect model.keras
  keras2gp verify model.keras --samples 2000
  keras2gp fit model.keras --data sample --train 2000 --out fitted
  keras2gp evaluate fitted --data sample --test 1000
  keras2gp predict fitted --data images.npz --out predictions.csv

exit codes:
"""


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that --json gets its document for a usage error too."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.prog)

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse would swallow the error of a full disk or a closed pipe.
        (file or sys.stdout).write(message)


def build_parser() -> argparse.ArgumentParser:
    """The parser; the defaults `check` and `run` of a subparser are functions of the options."""
    codes = "\n".join(f"  {int(code):<5}{meaning}" for code, meaning in MEANINGS.items())
    parser = _Parser(
        prog="keras2gp",
        description="The Gaussian process that a Keras model becomes at infinite width.",
        epilog=_EPILOG + codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"keras2gp {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for add in (
        _add_inspect, _add_convert, _add_verify, _add_gram, _add_fit, _add_evaluate, _add_predict,
        _add_export, _add_search, _add_tune, _add_plot, _add_demo,
    ):  # fmt: skip
        add(commands)
    return parser


def _command(
    commands: Any,
    name: str,
    help_text: str,
    description: str,
    *,
    check: Callable[[argparse.Namespace], None],
    run: Command,
) -> Any:
    """A subparser with --json."""
    parser = commands.add_parser(name, help=help_text, description=description, allow_abbrev=False)
    parser.set_defaults(check=check, run=run)
    arguments.add_json(parser)
    return parser


def _add_inspect(commands: Any) -> None:
    inspect = _command(
        commands,
        "inspect",
        "show what becomes of each layer",
        "Show what becomes of each layer. Exit code 0: exact; 3: not convertible.",
        check=checks.check_inspect,
        run=Command("convert.inspect"),
    )
    inspect.add_argument("model", metavar="MODEL", help=f"{_MODEL}; or a saved kernel")
    arguments.add_conversion(inspect)
    inspect.add_argument(
        "--template",
        metavar="FILE",
        help="write the variances as a YAML file for --overrides; - prints it instead of the table",
    )


def _add_convert(commands: Any) -> None:
    convert = _command(
        commands,
        "convert",
        "save a model's kernel",
        "Save a model's kernel: a SavedModel that runs without keras2gp, and JSON.",
        check=checks.check_convert,
        run=Command("convert.convert"),
    )
    convert.add_argument("model", metavar="MODEL", help=_MODEL)
    convert.add_argument(
        "out", metavar="OUT", type=Path, help="directory; a kernel that it holds is replaced"
    )
    arguments.add_conversion(convert)
    arguments.add_dtype(convert)


def _add_verify(commands: Any) -> None:
    verify = _command(
        commands,
        "verify",
        "compare a model's kernel with random wide networks",
        "Draw wide random copies of the model, and compare the covariance of their "
        "outputs with the kernel. Exit code 0: accepted, a kernel off by 10% would have been "
        "rejected; 8: rejected; 9: undecided, more samples or larger widths are needed.",
        check=checks.check_verify,
        run=Command("verify.verify", rows="images_to_verify"),
    )
    verify.add_argument("model", metavar="MODEL", help="a .keras or .json file, or zoo:NAME")
    verify.add_argument(
        "--widths",
        metavar="N,N,...",
        type=arguments.counts,
        default=(8, 16, 64),
        help="channels of the narrowest hidden layer; the others grow with it (default 8,16,64)",
    )
    verify.add_argument(
        "--samples",
        metavar="N",
        type=arguments.count,
        default=300,
        help="networks of each width (default 300)",
    )
    verify.add_argument(
        "--images",
        metavar="N",
        type=arguments.count,
        default=3,
        help="images to compare on: the first of D (default 3)",
    )
    verify.add_argument("--seed", metavar="N", type=int, default=0, help="of the networks")
    arguments.add_data(verify, required=False, note=" (default: random images)")
    verify.add_argument("--dry-run", action="store_true", help="say what it would take, and stop")
    arguments.add_conversion(verify)


def _add_gram(commands: Any) -> None:
    gram = _command(
        commands,
        "gram",
        "compute a kernel matrix into a store on disk",
        "The kernel matrix of the first N training rows of D, in a Zarr store. An "
        "interrupted run goes on where it was; `fit --gram OUT` uses the store.",
        check=checks.check_gram,
        run=Command("gram.gram", rows="rows_of_matrix"),
    )
    gram.add_argument("model", metavar="KERNEL", help="a saved kernel, or a model as for fit")
    arguments.add_data(gram)
    gram.add_argument(
        "--rows", metavar="N", type=arguments.count, help="training rows of D (default: all)"
    )
    arguments.add_output(gram, "directory of the store, such as K.zarr")
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
    arguments.add_dtype(gram)


def _add_fit(commands: Any) -> None:
    fit = _command(
        commands,
        "fit",
        "fit a model's Gaussian process to data",
        "Fit a model's Gaussian process to the first N training rows of D.",
        check=checks.check_fit,
        run=Command("fit.fit", rows="rows_to_fit"),
    )
    fit.add_argument("model", metavar="MODEL", help=_MODEL_OR_KERNEL)
    arguments.add_data(fit)
    arguments.add_training_rows(fit)
    fit.add_argument(
        "--gram",
        metavar="K",
        type=Path,
        help="store of the kernel matrix (see gram); what it lacks is computed into it",
    )
    arguments.add_output(fit, "directory; a fitted model that it holds is replaced at the end")
    arguments.add_conversion(fit)
    arguments.add_dtype(fit)
    arguments.add_solver(fit)
    fit.add_argument("--regression", action="store_true", help="y is a real number, not a label")


def _add_evaluate(commands: Any) -> None:
    evaluate = _command(
        commands,
        "evaluate",
        "measure a fitted model's errors",
        "Measure a fitted model on N test rows of D: the first of its test split, or "
        "the last of its rows if it has none.",
        check=checks.check_evaluate,
        run=Command("predict.evaluate", rows="rows_to_evaluate"),
    )
    evaluate.add_argument("fit", metavar="DIR", type=Path, help="what fit wrote")
    arguments.add_data(evaluate)
    arguments.add_test_rows(evaluate)
    evaluate.add_argument(
        "--ood",
        metavar="D2",
        help="images that are not of D, of the same shape: how well the variance tells them from "
        "the test rows (AUROC of up to N of them; without it none is measured)",
    )
    arguments.add_store_of_fit(evaluate)


def _add_predict(commands: Any) -> None:
    predict = _command(
        commands,
        "predict",
        "write a fitted model's predictions",
        "Write label, probabilities and posterior variance (or mean and standard "
        "deviation) of each image: the test images of D if it has any, otherwise all.",
        check=checks.check_predict,
        run=Command("predict.predict", rows="images_to_predict"),
    )
    predict.add_argument("fit", metavar="DIR", type=Path, help="what fit wrote")
    arguments.add_data(predict, note="; an .npz file needs no y")
    arguments.add_output(predict, "a .csv or .npz file; predictions that it holds are replaced")
    arguments.add_store_of_fit(predict)


def _add_export(commands: Any) -> None:
    export = _command(
        commands,
        "export",
        "write a fitted model as a SavedModel that predicts",
        "Write a fitted model as a TensorFlow SavedModel that takes images and returns "
        "labels, probabilities, means and variances, and needs no keras2gp.",
        check=checks.check_export,
        run=Command("export.export"),
    )
    export.add_argument("fit", metavar="DIR", type=Path, help="what fit wrote")
    export.add_argument(
        "out", metavar="OUT", type=Path, help="directory; an exported fit that it holds is replaced"
    )
    export.add_argument(
        "--no-variance",
        action="store_true",
        help="leave out the variance, which takes most of the space and time for many images",
    )


def _add_search(commands: Any) -> None:
    search = _command(
        commands,
        "search",
        "random search over architectures",
        "Draw M networks, fit each to the first N training rows of D, and keep the "
        "best. An interrupted search goes on where it was; every trial is a row of "
        "OUT/trials.csv, the best network is OUT/best.keras.",
        check=checks.check_search,
        run=Command("search.search", rows="rows_to_search"),
    )
    search.add_argument(
        "space",
        metavar="SPACE",
        help="paper, its hyperparameters; or path.py:function, your own code, which is run: a "
        "function from a dict of settings to a Keras model, and a dict SPACE of distributions",
    )
    arguments.add_data(search)
    arguments.add_training_rows(search)
    search.add_argument(
        "--validation",
        metavar="V",
        type=arguments.count,
        help="rows after those to train on (default N / 5; none for another --score)",
    )
    search.add_argument(
        "--samples", metavar="M", required=True, type=arguments.count, help="networks in all"
    )
    search.add_argument(
        "--score",
        choices=_SCORES,
        default="validation",
        help="what the best is: least error (default), also in closed form on the training rows "
        "alone, or largest log marginal likelihood",
    )
    search.add_argument("--seed", metavar="S", type=int, default=0, help="of the draws (default 0)")
    arguments.add_target_noise(search, 0.0, "default 0")
    search.add_argument("--dry-run", action="store_true", help="show the draws, and stop")
    arguments.add_output(search, "directory of the search")
    arguments.add_dtype(search)


def _add_tune(commands: Any) -> None:
    tune = _command(
        commands,
        "tune",
        "fit a model's layer variances by gradient ascent of the evidence",
        "Ascend the log marginal likelihood of the first N training rows of D in the "
        "logarithms of all layer variances, and write them as a file for --overrides.",
        check=checks.check_tune,
        run=Command("search.tune", rows="rows_to_tune"),
    )
    tune.add_argument("model", metavar="MODEL", help=_MODEL_OR_KERNEL)
    arguments.add_data(tune)
    arguments.add_training_rows(tune)
    tune.add_argument(
        "--steps", metavar="K", type=arguments.count, default=30, help="at most (default 30)"
    )
    arguments.add_target_noise(
        tune, None, "to start from; 0: none; default: 1%% of the kernel's mean variance"
    )
    arguments.add_output(tune, "a .yaml file, which must not be there yet")
    arguments.add_conversion(tune)


def _add_plot(commands: Any) -> None:
    plot = commands.add_parser(
        "plot",
        help="draw pictures: PNG or SVG",
        description="Draw a picture. Needs the extra plot (matplotlib).",
        allow_abbrev=False,
    )
    kinds = plot.add_subparsers(metavar="KIND", dest="kind", required=True)
    for name, text, metavar, source in (
        ("learning-curve", "test errors by number of training images", "JSON",
         "table1.json of examples/table1.py"),
        ("convergence", "random networks of growing width, and their limit", "JSON",
         "what verify --json prints"),
        ("trials", "the trials of a search", "CSV", "trials.csv of a search"),
    ):  # fmt: skip
        run = Command(f"plot_document.{name.replace('-', '_')}", tensorflow=False)
        document = _picture(kinds, name, text, check=checks.check_plot_document, run=run)
        document.add_argument("source", metavar=metavar, type=Path, help=source)
        if name == "trials":
            document.add_argument("--score", choices=_SCORES, default="validation")
    for name, text in (
        ("reliability", "how honest a fit's probabilities are"),
        ("images", "the images that a fit is most and least certain of"),
    ):
        run = Command(f"plot.{name}", rows="rows_to_test")
        of_fit = _picture(kinds, name, text, check=checks.check_plot_fit, run=run)
        of_fit.add_argument("fit", metavar="DIR", type=Path, help="what fit wrote")
        arguments.add_data(of_fit)
        arguments.add_test_rows(of_fit)
    kernel = _picture(
        kinds,
        "kernel",
        "a kernel matrix, its images sorted by class",
        check=checks.check_plot_kernel,
        run=Command("plot.kernel", rows="rows_to_plot"),
    )
    kernel.add_argument(
        "model", metavar="KERNEL", help="a store that gram wrote, a saved kernel, or a model"
    )
    arguments.add_data(kernel)
    kernel.add_argument(
        "--rows",
        metavar="N",
        type=arguments.count,
        default=_PLOT_ROWS,
        help=f"(default {_PLOT_ROWS})",
    )
    arguments.add_conversion(kernel)


def _picture(kinds: Any, name: str, text: str, **functions: Any) -> Any:
    parser = _command(kinds, name, text, f"Draw {text}.", **functions)
    arguments.add_output(parser, "a .png or .svg file; a picture that plot drew is replaced")
    return parser


def _add_demo(commands: Any) -> None:
    demo = _command(
        commands,
        "demo",
        "convert, fit and test a small network on the digits in the package",
        "Convert a small convolutional network, fit it to handwritten digits that "
        "come with the package, and test it on others. It takes about a minute.",
        check=checks.check_demo,
        run=Command("demo.demo", rows="rows_of_demo"),
    )
    for name, default in (("train", 2000), ("test", 1000)):
        demo.add_argument(
            f"--{name}",
            metavar="N",
            type=arguments.count,
            default=default,
            help=f"digits to {name} on (default {default})",
        )
    arguments.add_solver(demo)
    demo.set_defaults(regression=False, gram=None)
