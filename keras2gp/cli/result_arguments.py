"""The arguments of commands that read a fit or data: evaluate, predict, export, search, ..."""

from __future__ import annotations

from typing import Any

from keras2gp.cli import arguments, checks, option_values
from keras2gp.cli.arguments import MODEL_OR_KERNEL, Commands
from keras2gp.cli.completion import SHELLS
from keras2gp.cli.loading import Command

__all__ = [
    "add_completion",
    "add_demo",
    "add_evaluate",
    "add_export",
    "add_plot",
    "add_predict",
    "add_search",
    "add_tune",
]

_SCORES = ("validation", "leave-one-out", "evidence")


def add_evaluate(commands: Commands) -> None:
    """Add `evaluate`."""
    evaluate = arguments.add_command(
        commands,
        "evaluate",
        "measure a fitted model's errors",
        "Measure a fitted model on N test rows of D: the first of its test split, or "
        "the last of its rows if it has none.",
        check=checks.check_evaluate,
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
    arguments.add_store_of_fit(evaluate)
    arguments.add_keep(evaluate)


def add_predict(commands: Commands) -> None:
    """Add `predict`."""
    predict = arguments.add_command(
        commands,
        "predict",
        "write a fitted model's predictions",
        "Write label, probabilities and posterior variance (or mean and standard "
        "deviation) of each image: the test images of D if it has any, otherwise all.",
        check=checks.check_predict,
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
    arguments.add_store_of_fit(predict)
    arguments.add_keep(predict)


def add_export(commands: Commands) -> None:
    """Add `export`."""
    export = arguments.add_command(
        commands,
        "export",
        "write a fitted model as a SavedModel that predicts",
        "Write a fitted model as a TensorFlow SavedModel that takes images and returns "
        "labels, probabilities, means and variances, and needs no keras2gp.",
        check=checks.check_export,
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


def add_search(commands: Commands) -> None:
    """Add `search`."""
    search = arguments.add_command(
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


def add_tune(commands: Commands) -> None:
    """Add `tune`."""
    tune = arguments.add_command(
        commands,
        "tune",
        "fit a model's layer variances by gradient ascent of the evidence",
        "Ascend the log marginal likelihood of the first N training rows of D in the "
        "logarithms of all layer variances, and write them as a file for --overrides.",
        check=checks.check_tune,
        run=Command("search.tune", rows="rows_to_tune"),
    )
    tune.add_argument("model", metavar="MODEL", type=option_values.source, help=MODEL_OR_KERNEL)
    arguments.add_data(tune)
    arguments.add_training_rows(tune)
    tune.add_argument(
        "--steps", metavar="K", type=option_values.count, default=30, help="at most (default 30)"
    )
    arguments.add_target_noise(
        tune, None, "to start from; 0: none; default: 1%% of the kernel's mean variance"
    )
    arguments.add_output(tune, "a .yaml file, which must not be there yet")
    arguments.add_conversion(tune)


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
        document = _picture(kinds, name, text, check=checks.check_plot_document, run=run)
        document.add_argument("source", metavar=metavar, type=option_values.path, help=source)
        if name == "trials":
            document.add_argument("--score", choices=_SCORES, default="validation")
    for name, text in (
        ("reliability", "how honest a fit's probabilities are"),
        ("images", "the images that a fit is most and least certain of"),
    ):
        run = Command(f"plot.{name}", rows="rows_to_test")
        of_fit = _picture(kinds, name, text, check=checks.check_plot_fit, run=run)
        arguments.add_fit(of_fit)
        arguments.add_data(of_fit)
        arguments.add_test_rows(of_fit)
        arguments.add_keep(of_fit)
    kernel = _picture(
        kinds,
        "kernel",
        "a kernel matrix, its images sorted by class",
        check=checks.check_plot_kernel,
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
        help=f"(default {arguments.ROWS_PLOTTED}, or as many as there are)",
    )
    arguments.add_conversion(kernel)


def _picture(kinds: Any, name: str, text: str, **functions: Any) -> Any:
    parser = arguments.add_command(kinds, name, text, f"Draw {text}.", **functions)
    arguments.add_output(parser, "a .png or .svg file; a picture that plot drew is replaced")
    return parser


def add_demo(commands: Commands) -> None:
    """Add `demo`."""
    demo = arguments.add_command(
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
            type=option_values.count,
            default=default,
            help=f"digits to {name} on (default {default})",
        )
    arguments.add_solver(demo)
    demo.set_defaults(regression=False, gram=None)


def add_completion(commands: Commands) -> None:
    """Add `completion`."""
    completion = arguments.add_command(
        commands,
        "completion",
        "print the script that completes commands and options in a shell",
        "Print the completion script of a shell: source <(keras2gp completion bash); for zsh into "
        "a file _keras2gp of $fpath; for fish into ~/.config/fish/completions/keras2gp.fish.",
        check=checks.check_completion,
        run=Command("completion.completion", tensorflow=False),
    )
    completion.add_argument("shell", choices=SHELLS, help="bash, zsh or fish")
