"""Times of activations and tangent kernels, beside the NNGP kernel of the same network with ReLU.

python tools/activations.py [--activations NAME ...] [--images N] [--rounds R] [--wide]
                            [--store FILE] [--json]

The network has four 3x3 convolutions of 28 x 28 images, whose variances are near 1 as they are at
an initialiser: He's, and LeCun's for selu, which is made for it. With --wide each activation is
timed at variances of 1e4 too. A row is measured by itself: its symmetric matrix and ReLU's in turn,
so that what changes a machine's speed changes both; the least processor time of each counts. Rows
are printed as they are found. With --store they are kept in a file, a line for each, and a run that
was cut off goes on with those that are missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from benchmarking.rows import Rows

import keras2gp

ACTIVATIONS = (
    *("relu", "gelu", "erf", "sigmoid", "silu", "tanh", "elu", "celu", "selu", "softplus", "mish"),
    *("relu6", "hard_sigmoid", "hard_tanh", "hard_silu"),
)
KINDS = "nngp", "ntk", "both"
SIDE, LAYERS = 28, 4
LECUN, HE = 1.0, 2.0


def network(activation: str) -> Any:
    """Four convolutions with one activation, and a Dense layer; selu has LeCun's weights."""
    function = getattr(keras.activations, activation, None) or getattr(keras.ops, activation)
    scale = LECUN if activation == "selu" else HE
    weight = keras.initializers.VarianceScaling(scale, "fan_in", "untruncated_normal")
    x = image = keras.Input((SIDE, SIDE, 1))
    for _ in range(LAYERS):
        x = keras.layers.Conv2D(8, 3, padding="same", kernel_initializer=weight)(x)
        x = keras.layers.Activation(function)(x)
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(x)))


def images(count: int) -> Any:
    """Random images whose variances after the first layer are between 1/4 and 1 in full windows."""
    rng = np.random.default_rng(0)
    sizes = rng.uniform(0.35, 0.7, (count, SIDE, SIDE, 1))
    return (sizes * np.sign(rng.normal(size=sizes.shape))).astype(np.float32)


def steps(activations: list[str], *, wide: bool = False) -> Iterator[tuple[str, str, float, str]]:
    """Name, activation, size of the images, and kind of kernel of every row."""
    for name in activations:
        yield name, name, 1.0, "nngp"
        if wide:
            yield f"{name}, wide", name, 100.0, "nngp"
    for kind in KINDS:
        yield f"relu, get={kind!r}", "relu", 1.0, kind


def seconds_of(step: Callable[[], Any]) -> float:
    """Processor time of one call, which other work on a machine changes less than the wall time."""
    began = time.process_time()
    step()
    return time.process_time() - began


def measured(step: Callable[[], Any], relu: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Seconds of a first call, and the least of both from then on, in turn."""
    first = seconds_of(step)
    relu()
    pairs = [(seconds_of(relu), seconds_of(step)) for _ in range(rounds)]
    reference, best = (min(column) for column in zip(*pairs, strict=True))
    return {"first_seconds": first, "seconds": best, "ratio": best / reference}


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--activations", nargs="+", default=list(ACTIVATIONS), metavar="NAME")
    parser.add_argument("--images", type=int, default=128, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="R")
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--store", type=Path, metavar="FILE", help="rows that are kept, or reused")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    data = images(options.images)
    entries = options.images * (options.images + 1) / 2 * SIDE * SIDE * LAYERS
    settings = {"images": options.images, "rounds": options.rounds, "version": keras2gp.__version__}
    rows = Rows(options.store, settings)
    relu = keras2gp.convert(network("relu"))

    def measure(activation: str, size: float, kind: str) -> dict[str, float]:
        kernel = relu if activation == "relu" else keras2gp.convert(network(activation))
        row = measured(
            lambda: kernel.matrix(size * data, get=kind), lambda: relu.matrix(data), options.rounds
        )
        row["nanoseconds"] = 1e9 * row.pop("seconds") / entries
        return row

    if not options.json:
        print(f"{'kernel':24}{'first s':>10}{'ns per pair and position':>27}{'ratio':>8}")
    found = {}
    for name, *case in steps(options.activations, wide=options.wide):
        row = found[name] = rows.row(name, lambda case=case: measure(*case))
        if not options.json:
            values = f"{row['first_seconds']:10.1f}{row['nanoseconds']:27.2f}{row['ratio']:8.2f}"
            print(f"{name:24}{values}", flush=True)
    if options.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
