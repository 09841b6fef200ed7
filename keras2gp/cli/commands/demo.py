"""demo: from a small Keras network to tested predictions, with what comes in the package."""

from __future__ import annotations

import argparse
import time
from typing import Any

import keras
from keras import layers

from keras2gp._util.progress import stage
from keras2gp._util.text import duration_text
from keras2gp.cli.commands.fit import fitted
from keras2gp.cli.commands.predict import show_measures
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.fit_text import show_fit
from keras2gp.cli.output import Output, show_report
from keras2gp.cli.predictions import measures_of, predictions_of
from keras2gp.cli.rows import Rows
from keras2gp.cli.session import prepared
from keras2gp.conversion.pipeline import convert

__all__ = ["demo"]

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


def demo(options: argparse.Namespace, rows: tuple[Rows, Rows], out: Output) -> ExitCode:
    """Convert, fit and test the network that is shown."""
    began = time.perf_counter()
    train, test = rows
    out.line("1  a Keras model", style="bold cyan")
    out.line(_MODEL)
    with stage("converting"):
        kernel = convert(_network())
    out.line("\n2  becomes a Gaussian process, at infinite width", style="bold cyan")
    show_report(out, kernel.report)
    x_train, _ = prepared(kernel, train.x, train.name)
    x_test, _ = prepared(kernel, test.x, test.name)
    out.line(f"\n3  fitted to {options.train} handwritten digits", style="bold cyan")
    estimator, facts = fitted(kernel, x_train, train.y, options)
    show_fit(out, facts)
    out.line(f"\n4  and tested on {options.test} others", style="bold cyan")
    testing = time.perf_counter()
    measures, _ = measures_of(predictions_of(estimator, x_test), test.y)
    show_measures(out, measures, time.perf_counter() - testing)
    seconds = time.perf_counter() - began
    out.line(
        f"\nerror {measures['error_rate']:.2%} in {duration_text(seconds)}, without training "
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
