"""Deep networks of keras.applications on photographs: memory that is stated, and that is taken.

python tools/deep.py [NETWORK:SIDE ...] [--rows N] [--columns N] [--json]

Each network has a process of its own, without compiled programs of earlier ones. It converts the
network with average pooling in the place of max pooling, states what the matrix of crops of
scikit-learn's two photographs will take, and computes it twice: the first time compiles.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NETWORKS = (
    "ConvNeXtTiny:224",
    "ResNet50V2:224",
    "VGG16:32",
    "DenseNet121:32",
    "Xception:71",
    "InceptionV3:75",
    "NASNetMobile:32",
)
PHOTOGRAPHS = 200
"""Photographs of the Gram matrix whose time is extrapolated."""


def photographs(side: int, count: int, seed: int) -> Any:
    """Crops of scikit-learn's two photographs, [count, side, side, 3] from 0 to 255."""
    import numpy as np
    from sklearn.datasets import load_sample_images

    random, crops = np.random.default_rng(seed), []
    for number in range(count):
        whole = load_sample_images().images[number % 2]
        top, left = (random.integers(0, n - side + 1) for n in whole.shape[:2])
        crops.append(whole[top : top + side, left : left + side])
    return np.stack(crops).astype(np.float32)


def peak() -> int:
    """The largest resident memory since the last `forget_peak`, bytes."""
    return _status("VmHWM:")


def resident() -> int:
    """The resident memory, bytes."""
    return _status("VmRSS:")


def forget_peak() -> None:
    """Let the peak begin anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measured(network: str, side: int, rows: int, columns: int) -> dict[str, Any]:
    """The figures of one network, in this process."""
    import keras

    import keras2gp
    from keras2gp.matrices.api import estimate

    model = getattr(keras.applications, network)(
        input_shape=(side, side, 3), weights=None, classes=10
    )
    kernel = keras2gp.convert(model, max_pooling="average")
    sides = [photographs(side, rows, 0), photographs(side, columns, 1)]
    if kernel.preprocessor is None:  # no Rescaling of its own
        sides = [x / 127.5 - 1 for x in sides]
    stated = estimate(kernel, rows, columns)
    result: dict[str, Any] = {
        "network": network,
        "side": side,
        "nodes": len(kernel.graph.nodes),
        "pairs": rows * columns,
        "stated": stated.memory,
        "threads": stated.threads,
    }
    for run in ("first", "second"):
        forget_peak()
        before, wall, busy = resident(), time.perf_counter(), time.process_time()
        kernel.matrix(*sides)
        result[f"{run}_seconds"] = time.perf_counter() - wall
        result[f"{run}_cpu"] = time.process_time() - busy
        result[f"{run}_memory"] = peak() - before
        result["peak"] = max(result.get("peak", 0), peak())
    return result


def row(found: dict[str, Any]) -> str:
    """A row of the table."""
    gigabytes = {k: f"{found[k] / 2**30:.2f}" for k in ("stated", "first_memory", "peak")}
    rate = found["pairs"] / found["second_seconds"]
    hours = PHOTOGRAPHS * (PHOTOGRAPHS + 1) / 2 / rate / 3600
    return (
        f"| {found['network']} | {found['side']} | {found['nodes']} | {found['first_seconds']:.0f} "
        f"| {found['first_cpu']:.0f} | {rate:.1f} | {gigabytes['stated']} "
        f"| {gigabytes['first_memory']} | {gigabytes['peak']} | {hours:.2f} |"
    )


def main(argv: list[str] | None = None) -> int:
    """Print the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK:SIDE")
    parser.add_argument("--rows", type=int, default=16, metavar="N")
    parser.add_argument("--columns", type=int, default=16, metavar="N")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help="in this process, as JSON")
    options = parser.parse_args(argv)
    if options.here:
        (chosen,) = options.networks
        network, _, side = chosen.partition(":")
        print(json.dumps(measured(network, int(side), options.rows, options.columns)))
        return 0
    if not options.json:
        print(
            "| network | side | nodes | first result, s | processor s | pairs/s "
            "| stated, GiB | taken at first | peak of the process | 200 photographs, h |\n"
            + "|---" * 10
            + "|"
        )
    environment = {**os.environ, "KERAS2GP_CACHE": "off", "TF_CPP_MIN_LOG_LEVEL": "3"}
    sizes = ["--rows", str(options.rows), "--columns", str(options.columns)]
    for chosen in options.networks:
        command = [sys.executable, __file__, chosen, *sizes, "--here"]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            print(f"deep: {chosen} ended with {done.returncode}", file=sys.stderr)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(found) if options.json else row(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
