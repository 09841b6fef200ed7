"""Figures of the kernels: what a first matrix takes, and what random copies say of it."""

from __future__ import annotations

import argparse
import time

import numpy as np

import keras2gp
from covering.models import built, images
from keras2gp.errors import InputError, NumericalError, UnsupportedModelError

__all__ = ["kernel_line", "verify_line"]


def kernel_line(name: str) -> str:
    """Seconds of a first matrix, compilation included, and of a second; whether it is a kernel."""
    with built(name) as model:
        began = time.perf_counter()
        try:
            kernel = keras2gp.convert(model, max_pooling="average")
        except UnsupportedModelError:
            return ""
        x = images(model)
        seconds = [time.perf_counter() - began]
        for _ in range(2):
            began = time.perf_counter()
            matrix = kernel.matrix(x)
            seconds.append(time.perf_counter() - began)
    values = np.linalg.eigvalsh(matrix.astype(np.float64))
    times = ", ".join(
        f"{what} {s:.2f} s" for what, s in zip(("convert", "first", "again"), seconds, strict=True)
    )
    return f"{name}: {times}; least eigenvalue over trace {values[0] / values.sum():.1e}"


def verify_line(name: str, options: argparse.Namespace) -> str:
    """The verdict of random copies of the model, and how far off they are."""
    with built(name) as model:
        began = time.perf_counter()
        try:
            report = keras2gp.verify(
                model,
                data=images(model),
                widths=options.widths,
                samples=options.samples,
                max_pooling="average",
            )
        except UnsupportedModelError:
            return ""
        except (InputError, NumericalError) as error:
            return f"{name}: {error}"
        seconds = time.perf_counter() - began
    levels = ", ".join(
        f"{level.width}: {100 * (level.variance - 1):+.1f}% +- {100 * level.error:.1f}%"
        for level in report.levels
    )
    return f"{name}: {report.verdict} in {seconds:.0f} s. {report.reason} By width {levels}"
