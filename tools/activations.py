"""Times of activations and tangent kernels, beside the NNGP kernel of the same network with ReLU.

python tools/activations.py [--activations NAME ...] [--images N] [--rounds R] [--wide] [--json]

The network has four 3x3 convolutions of 28 x 28 images, whose variances are near 1 as they are at
an initialiser: He's, and LeCun's for selu, which is made for it. With --wide each activation is
timed at variances of 1e4 too. Every round computes the symmetric matrix of all kernels in turn; the
least processor time of each counts, as a multiple of the first one's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import keras2gp

ACTIVATIONS = (
    *("relu", "gelu", "erf", "sigmoid", "silu", "tanh", "elu", "celu", "selu", "softplus", "mish"),
    *("relu6", "hard_sigmoid", "hard_tanh", "hard_silu"),
)
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


def steps(activations: list[str], data: Any, *, wide: bool = False) -> dict[str, Callable[[], Any]]:
    """Timed functions by name: matrices of each activation, and ReLU's other kernels."""
    found: dict[str, Callable[[], Any]] = {}
    for name in activations:
        kernel = keras2gp.convert(network(name))
        found[name] = lambda kernel=kernel: kernel.matrix(data)
        if wide:
            found[f"{name}, wide"] = lambda kernel=kernel: kernel.matrix(100 * data)
    relu = keras2gp.convert(network("relu"))
    for kind in ("nngp", "ntk", "both"):
        found[f"relu, get={kind!r}"] = lambda kind=kind: relu.matrix(data, get=kind)
    return found


def seconds_of(step: Callable[[], Any]) -> float:
    """Processor time of one call, which other work on a machine changes less than the wall time."""
    began = time.process_time()
    step()
    return time.process_time() - began


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--activations", nargs="+", default=list(ACTIVATIONS), metavar="NAME")
    parser.add_argument("--images", type=int, default=256, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="R")
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    measured = steps(options.activations, images(options.images), wide=options.wide)
    first = {name: seconds_of(step) for name, step in measured.items()}
    best = dict.fromkeys(measured, float("inf"))
    for _ in range(options.rounds):
        for name, step in measured.items():
            best[name] = min(best[name], seconds_of(step))
    entries = options.images * (options.images + 1) / 2 * SIDE * SIDE * LAYERS
    reference = best[next(iter(best))]
    rows = {
        name: {
            "first_seconds": first[name],
            "nanoseconds": 1e9 * seconds / entries,
            "ratio": seconds / reference,
        }
        for name, seconds in best.items()
    }
    if options.json:
        print(json.dumps(rows))
        return 0
    print(f"{'kernel':24}{'first s':>10}{'ns per pair and position':>27}{'ratio':>8}")
    for name, row in rows.items():
        print(f"{name:24}{row['first_seconds']:10.1f}{row['nanoseconds']:27.2f}{row['ratio']:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
