"""demo: from a small Keras network to tested predictions, with what comes in the package."""

from __future__ import annotations

import argparse
import time
from typing import Any

from keras2gp.cli import arguments
from keras2gp.cli.commands.fit import add_solver, fitted, show_fit
from keras2gp.cli.commands.predict import show_measures
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.output import Output, seconds_text
from keras2gp.cli.progress import stage
from keras2gp.cli.solver_options import check_choice
from keras2gp.cli.start import start_tensorflow
from keras2gp.cli.view import show_report

__all__ = ["add_commands"]

_MODEL = """\
conv = {"padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
model = keras.Sequential([
    keras.Input((28, 28, 1)),
    Conv2D(32, 5, **conv),
    Conv2D(32, 5, strides=2, **conv),
    Conv2D(64, 3, **conv),
    Conv2D(64, 3, strides=2, **conv),
    Flatten(),
    Dense(10, activation="softmax", kernel_initializer="he_normal"),
])"""


def add_commands(commands: Any) -> None:
    """Register `demo` on the subparsers."""
    demo = commands.add_parser(
        "demo",
        help="convert, fit and test a small network on the digits in the package",
        description="Convert a small convolutional network, fit it to handwritten digits that "
        "come with the package, and test it on others. It takes about a minute.",
        allow_abbrev=False,
    )
    for name, default in (("train", 2000), ("test", 1000)):
        demo.add_argument(
            f"--{name}",
            metavar="N",
            type=arguments.count,
            default=default,
            help=f"digits to {name} on (default {default})",
        )
    add_solver(demo)
    arguments.add_json(demo)
    demo.set_defaults(check=_check_demo, run=_demo, regression=False, gram=None)


def _check_demo(options: argparse.Namespace) -> None:
    """The data's split does the rest at once."""
    check_choice(options)


def _demo(options: argparse.Namespace, out: Output) -> ExitCode:
    from keras2gp.cli.data_argument import prepared, read_data, test_rows  # noqa: PLC0415 (numpy)

    began = time.perf_counter()
    data = read_data("sample", download=False).split(options.train, options.test)
    x_test, y_test = test_rows(data)
    out.line("1  a Keras model", style="bold cyan")
    out.line(_MODEL)
    start_tensorflow()
    import keras2gp  # noqa: PLC0415 (imports TensorFlow)
    from keras2gp.cli.posterior import evaluation  # noqa: PLC0415

    with stage("converting"):
        kernel = keras2gp.convert(_network())
    out.line("\n2  becomes a Gaussian process, at infinite width", style="bold cyan")
    show_report(out, kernel.report)
    x_train, _ = prepared(kernel, data.x_train, rescales=False)
    x_test, _ = prepared(kernel, x_test, rescales=False)
    out.line(f"\n3  fitted to {options.train} handwritten digits", style="bold cyan")
    estimator, facts = fitted(kernel, x_train, data.y_train, options)
    show_fit(out, facts)
    out.line(f"\n4  and tested on {options.test} others", style="bold cyan")
    testing = time.perf_counter()
    measures = evaluation(estimator, x_test, y_test)
    show_measures(out, measures, time.perf_counter() - testing)
    seconds = time.perf_counter() - began
    out.line(
        f"\nerror {measures['error_rate']:.2%} in {seconds_text(seconds)}, without training "
        "a single weight",
        style="bold green",
    )
    out.document(
        {
            "conversion": kernel.report.to_dict(),
            "fit": facts,
            "test_rows": options.test,
            "measures": measures,
            "seconds": seconds,
        }
    )
    return ExitCode.FINE


def _network() -> Any:
    """The model that `_MODEL` shows."""
    import keras  # noqa: PLC0415 (slow)

    layers = keras.layers
    conv = {"padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 5, **conv),
            layers.Conv2D(32, 5, strides=2, **conv),
            layers.Conv2D(64, 3, **conv),
            layers.Conv2D(64, 3, strides=2, **conv),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", kernel_initializer="he_normal"),
        ],
        name="small_convnet",
    )
