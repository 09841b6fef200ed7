"""Derivatives of a kernel by its variances: the sweep beside a tape over the whole pass.

python tools/gradient.py [--network NAME] [--images N] [--rounds R]

The tape is the way of version 0.1.0. Both are compiled, then take turns; the least processor time
of each counts, for the N (N + 1) / 2 entries of a symmetric matrix. Exit code 1 if the derivatives
differ by more than 1e-9 of each.
"""

from __future__ import annotations

import argparse
import sys
import time


def main() -> int:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(prog="gradient.py", description=main.__doc__)
    parser.add_argument("--network", default="convnet", help="one of the zoo")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    import numpy as np

    import keras2gp
    from keras2gp import data, zoo
    from keras2gp.matrices.gradient import MatrixGradient

    kernel = keras2gp.convert(zoo.build(options.network), dtype="float64")
    digits = data.load("sample").split(options.images, 1).x_train
    images = kernel.images(digits.reshape(len(digits), 28, 28, 1).astype("float64") / 255)
    count = len(digits)
    weights = np.random.default_rng(0).normal(size=(count, count))
    weights += weights.T
    ways = {
        "tape": MatrixGradient(kernel.graph, sweep=False),
        "sweep": MatrixGradient(kernel.graph),
    }
    found, seconds = {}, dict.fromkeys(ways, float("inf"))
    for name, gradient in ways.items():
        began = time.process_time()
        found[name] = np.array(list(gradient(kernel.parameters, images, weights).values()))
        print(f"{name}: compiled in {time.process_time() - began:.0f} s", file=sys.stderr)
    for _ in range(options.rounds):
        for name, gradient in ways.items():
            began = time.process_time()
            gradient(kernel.parameters, images, weights)
            seconds[name] = min(seconds[name], time.process_time() - began)
    gap = np.abs(found["sweep"] - found["tape"]) / np.maximum(np.abs(found["tape"]), 1e-300)
    print("| way | stated MB | entries a second of a core | ratio |\n|---|---|---|---|")
    for name, gradient in ways.items():
        rate, ratio = count * (count + 1) / 2 / seconds[name], seconds["tape"] / seconds[name]
        print(f"| {name} | {gradient.memory / 1e6:.0f} | {rate:.0f} | {ratio:.2f} |")
    print(f"the largest relative difference: {gap.max():.1e}")
    return int(gap.max() > 1e-9)


if __name__ == "__main__":
    sys.exit(main())
