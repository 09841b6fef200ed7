"""Times the kernels of Neural Tangents on JAX's default device, beside those of tools/gpu/run.py.

    python tools/gpu/peer.py FOLDER [--networks resnet32,...] [--batches 64,128] [--json FILE]

FOLDER holds what tools/gpu/export.py wrote: its images and its float64 kernels, which the values
are compared with. Each batch is a block of so many images of either side; products have float32's
full precision, as ours do. Neural Tangents 0.6.5 is archived, and imports names from where JAX had
them in 2024: `restore_names` puts them back, and leaves out the parts that need TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import jax
import jax.core
import numpy as np
from jax._src import core, util
from jax.extend import core as extended
from jax.interpreters import ad
from run import timed

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def restore_names() -> None:
    """Names of JAX where Neural Tangents looks for them, and no empirical kernels of TensorFlow."""
    for source in (extended, core):
        for name, value in vars(source).items():
            if not name.startswith("__"):
                vars(jax.core).setdefault(name, value)
    old = types.ModuleType("jax.util")
    vars(old).update({k: v for k, v in vars(util).items() if not k.startswith("__")})
    sys.modules["jax.util"] = old
    vars(ad).setdefault("zeros_like_p", extended.Primitive("zeros_like_of_old"))
    sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")


def measured(kernel: Any, data: Any, batch: int, repeats: int) -> dict[str, Any]:
    """Rates of one batch, and its largest relative error."""
    x1, x2 = (np.moveaxis(data[name], -1, 0) if data[name].ndim > 2 else data[name]
              for name in ("image1", "image2"))  # fmt: skip
    a, b = jax.device_put(x1[:batch]), jax.device_put(x2[:batch])
    begin = time.perf_counter()
    found = np.asarray(kernel(a, b))
    compiling = time.perf_counter() - begin
    usual, piped = timed(lambda: kernel(a, b), repeats)
    expected = data["expected"][:batch, :batch]
    corner = len(expected)
    return {
        "batch": batch,
        "pairs_per_second": batch**2 / usual,
        "piped_pairs_per_second": batch**2 / piped,
        "error": float(np.max(np.abs(found[:corner, :corner] / expected - 1))),
        "compile_seconds": round(compiling, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", default="resnet32,convnet,fully-connected,pooling")
    parser.add_argument("--batches", default="32,64,128,256")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=300.0, help="start no batch after these")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    restore_names()
    from benchmarking.peer import NETWORKS

    jax.config.update("jax_default_matmul_precision", "highest")
    print(f"jax {jax.__version__}: {jax.devices()[0].device_kind}", flush=True)
    began, rows = time.perf_counter(), []
    for name in arguments.networks.split(","):
        with np.load(arguments.folder / f"{name}.npz") as file:
            data = dict(file)
        *_, function = NETWORKS[name]()
        kernel = jax.jit(lambda a, b, function=function: function(a, b, "nngp"))
        for batch in map(int, arguments.batches.split(",")):
            images = data["image1"].shape[0 if data["image1"].ndim == 2 else -1]
            if batch > images or time.perf_counter() - began > arguments.seconds:
                continue
            try:
                row = {"network": name, **measured(kernel, data, batch, arguments.repeats)}
            except Exception as error:  # noqa: BLE001 (memory is out: larger batches are too)
                print(f"{name}, {batch}: {type(error).__name__}: {str(error)[:200]}", flush=True)
                break
            rows.append(row)
            print(json.dumps(row), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
