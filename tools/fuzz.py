"""Random architectures against the oracle that carries the covariance of all positions.

python tools/fuzz.py [--count 1000] [--minutes M] [--seed 0] [--compiled 20]

Draws models until COUNT of them are converted, or M minutes are over, and compares the kernel of
each with the oracle in tests/oracles: to 1e-9 of the root of the two variances in float64, to 2e-5
in float32, and to the errors that its report states where functions are expanded. One of COMPILED
is compiled by XLA; the others run as TensorFlow's own graph, or op by op where few offsets make
that the quicker. Prints each difference beyond that, with the seed that draws the model again, and
at the end how many were converted, how many were refused or are not known to the oracle, and for
which reasons. Exits with 1 if there was a difference or an error that is not a refusal.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import keras
import tensorflow as tf
from oracles.architectures import EXACT, architecture, difference, drawn_inputs, promised
from oracles.full_covariance import UnknownError

import keras2gp
from keras2gp.matrices import compiled as programs

FEW = 24
"""Offsets of all loops up to which ops one by one are quicker than a graph of them."""
MAPS = 4
"""One model of so many has an output with positions, which are compared with one another."""


def differences(seed: int, *, compiled: bool) -> dict[str, tuple[float, float]]:
    """The error by dtype of the model that a seed draws, and the largest that its report allows.

    Raises: UnsupportedModelError if the model is refused.
    """
    rng = np.random.default_rng(seed)
    model = architecture(rng, maps=seed % MAPS == 0)
    x = drawn_inputs(model, rng, 4)
    programs.XLA = compiled
    errors = {}
    for dtype in EXACT:
        kernel = keras2gp.convert(model, dtype=dtype)
        loops = kernel.program_of("all").program.analysis.loops
        few = sum(len(loop.turns) for loop in loops) <= FEW
        tf.config.run_functions_eagerly(few and not compiled)
        matrix = kernel.matrix(x, positions="all")
        error = difference(model, matrix.astype("float64"), x)
        errors[dtype] = error, promised(kernel.report, dtype)
    return errors


def main() -> int:
    """Fuzz as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=1000, help="models that are converted")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--compiled", type=int, default=20, help="one of so many goes through XLA")
    arguments = parser.parse_args()
    started, converted, seed = time.perf_counter(), 0, arguments.seed
    refused: Counter[str] = Counter()
    worst: dict[str, float] = {}
    unknown: Counter[str] = Counter()
    faults = 0
    while converted < arguments.count and time.perf_counter() - started < 60 * arguments.minutes:
        compiled = converted % arguments.compiled == 0
        try:
            errors = differences(seed, compiled=compiled)
        except keras2gp.UnsupportedModelError as error:
            refused.update({obstacle.why[:100] for obstacle in error.obstacles})
            refused["refused"] += 1
        except UnknownError as error:
            unknown[str(error)] += 1
        except Exception:  # noqa: BLE001 (reported, and the next model tried)
            faults += 1
            print(f"seed {seed}: {traceback.format_exc(limit=-3)}", flush=True)
        else:
            converted += 1
            for dtype, (error, bound) in errors.items():
                kind = dtype if bound == EXACT[dtype] else f"{dtype}, expanded"
                worst[kind] = max(worst.get(kind, 0.0), error)
                if not error <= bound:
                    faults += 1
                    print(
                        f"seed {seed}: {dtype} differs by {error:.2g}, not {bound:.2g}", flush=True
                    )
        seed += 1
        keras.backend.clear_session()
    minutes = (time.perf_counter() - started) / 60
    print(f"{converted} models in {minutes:.1f} minutes, seeds {arguments.seed} to {seed - 1}")
    share = unknown.total() / max(1, unknown.total() + converted)
    print(f"{unknown.total()} more, {share:.1%}, that the oracle does not know:")
    for why, count in unknown.most_common():
        print(f"  {count:5}  {why}")
    print(f"largest differences {worst}; {faults} faults; {refused.pop('refused', 0)} refused:")
    for why, count in refused.most_common():
        print(f"  {count:5}  {why}")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
