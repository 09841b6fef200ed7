"""Figures of the kernels: what a first matrix takes."""

from __future__ import annotations

import time

import numpy as np

import keras2gp
from covering.models import built, images
from keras2gp.errors import UnsupportedModelError

__all__ = ["kernel_line"]


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
