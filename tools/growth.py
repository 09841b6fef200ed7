"""How the time of a Gram matrix grows with images, depth, side of the images, and offsets.

python tools/growth.py [--quantities NAME ...] [--images N] [--rounds R] [--largest K]
                       [--store FILE] [--json]

One quantity at a time is doubled. Networks have 3x3 convolutions with ReLU: four of them on images
of 16 x 16 where nothing else is said. With "pooled side" a global average pooling ends them, for
which the covariances between all offsets are computed; "pooling window" averages windows before
the last layer. Every round computes all matrices of a quantity in turn; the least processor time
of each counts, after programs were compiled. The exponent p of t ~ size^p is fitted by least
squares to the logarithms. Rows are printed as they are found; with --store they are kept in a file,
and a run that was cut off goes on with those that are missing.

Images enter as N (N + 1) / 2 pairs, so that 2 is expected of them; 1 of depth; 2 of the side, and 4
where all offsets are walked.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from benchmarking.rows import Rows

import keras2gp

SIDE, DEPTH = 16, 4
SIZES: dict[str, tuple[int, ...]] = {
    "images": (1, 2, 4, 8),
    "depth": (2, 4, 8, 16),
    "side": (8, 16, 32, 64),
    "pooled side": (4, 8, 16, 32),
    "pooling window": (1, 2, 4, 8),
}
"""Values of each quantity; images as multiples of --images."""


def network(side: int = SIDE, depth: int = DEPTH, window: int = 1, *, pooled: bool = False) -> Any:
    """Convolutions, an average pooling of `window`, or of all positions, and a Dense layer."""
    x = image = keras.Input((side, side, 1))
    for _ in range(depth):
        weight = keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")
        x = keras.layers.Conv2D(8, 3, padding="same", kernel_initializer=weight)(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.AveragePooling2D(window)(x) if window > 1 else x
    x = keras.layers.GlobalAveragePooling2D()(x) if pooled else keras.layers.Flatten()(x)
    return keras.Model(image, keras.layers.Dense(1)(x))


def case(quantity: str, size: int, images: int) -> tuple[Any, Any]:
    """The kernel of one size, and the images of its matrix."""
    models = {
        "images": network,
        "depth": lambda: network(depth=size),
        "side": lambda: network(side=size),
        "pooled side": lambda: network(side=size, pooled=True),
        "pooling window": lambda: network(window=size),
    }
    model = models[quantity]()
    count = images * size if quantity == "images" else images
    rng = np.random.default_rng(0)
    return keras2gp.convert(model), rng.normal(size=(count, *model.input_shape[1:]))


def exponent(sizes: Any, seconds: Any) -> tuple[float, float]:
    """The slope of log seconds over log sizes, and its standard error (NaN for two sizes)."""
    x, y = np.log(sizes), np.log(seconds)
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    free = len(x) - 2
    error = float(np.sqrt(rest @ rest / free / (x @ x))) if free else float("nan")
    return slope, error


def measured(quantity: str, images: int, rounds: int, largest: int) -> dict[str, Any]:
    """Least seconds of a matrix by size, and the exponent with its error."""
    cases = {size: case(quantity, size, images) for size in SIZES[quantity][:largest]}
    for kernel, x in cases.values():
        kernel.matrix(x)
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(rounds):
        for size, (kernel, x) in cases.items():
            began = time.process_time()
            kernel.matrix(x)
            best[size] = min(best[size], time.process_time() - began)
    slope, error = exponent(list(best), list(best.values()))
    return {"seconds": best, "exponent": slope, "error": error}


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--quantities", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--images", type=int, default=256, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="R")
    parser.add_argument("--largest", type=int, default=4, metavar="K", help="sizes of each, 2 to 4")
    parser.add_argument("--store", type=Path, metavar="FILE", help="rows that are kept, or reused")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    given = options.images, options.rounds, options.largest
    names = "images", "rounds", "largest"
    rows = Rows(options.store, {**dict(zip(names, given, strict=True)), "of": keras2gp.__version__})
    if not options.json:
        print("| doubled | sizes | seconds | exponent |\n|---|---|---|---|")
    found = {}
    for quantity in options.quantities:
        row = found[quantity] = rows.row(quantity, lambda q=quantity: measured(q, *given))
        scale = options.images if quantity == "images" else 1
        sizes = ", ".join(str(scale * int(size)) for size in row["seconds"])
        seconds = ", ".join(f"{value:.3g}" for value in row["seconds"].values())
        if not options.json:
            exponents = f"{row['exponent']:.2f} ± {row['error']:.2f}"
            print(f"| {quantity} | {sizes} | {seconds} | {exponents} |", flush=True)
    if options.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
