"""Random architectures against the oracle that carries the covariance of all positions.

python tools/fuzz.py [--count 1000] [--minutes M] [--seed 0] [--compiled 40] [--log FILE]

Draws models until COUNT of them are converted, or M minutes are over, and compares the kernel of
each with the oracle in tests/oracles: to 1e-9 of the root of the two variances in float64, to 2e-5
in float32, and where functions are expanded to the errors that its report states, or their bounds
at larger variances. One of COMPILED is compiled by XLA; the others run as TensorFlow's own graph,
or op by op where their loops are so short that this is the quicker. Prints each difference beyond
that, with the seed that draws the model again, and at the end how many were converted, how many
were refused or are not known to the oracle, and for which reasons. A line of FILE is written for
each seed; a later run with that FILE counts its lines and goes on after the last of them. Exits
with 1 if there was a difference or an error that is not a refusal.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import keras
import tensorflow as tf
from oracles.architectures import EXACT, architecture, distance, drawn_inputs, promised
from oracles.full_covariance import UnknownError, between_positions

import keras2gp
from keras2gp.covariance.duals.hermite import Hermite
from keras2gp.errors import InputError
from keras2gp.kernel.positions import Positions
from keras2gp.matrices import compiled as programs

FEW = 6
"""Mean turns of a loop up to which ops one by one are quicker than a graph of them."""
MAPS = 4
"""One model of so many has an output with positions, which are compared with one another; or each
with itself, where there is no rule for different ones."""


def differences(seed: int, *, compiled: bool) -> dict[str, tuple[float, float]]:
    """The error by dtype of the model that a seed draws, and the largest that its report allows.

    Raises: UnsupportedModelError if the model is refused; UnknownError if the oracle is
    """
    rng = np.random.default_rng(seed)
    model = architecture(rng, maps=seed % MAPS == 0)
    x = drawn_inputs(model, rng, 4)
    programs.XLA = compiled
    kernels = {dtype: keras2gp.convert(model, dtype=dtype) for dtype in EXACT}
    expected = between_positions(model, x, x)
    errors = {}
    for dtype, kernel in kernels.items():
        positions: Positions = "all"
        try:
            program = kernel.program_of(positions)
        except InputError:  # no rule for different positions of this output
            positions = "equal"
            program = kernel.program_of(positions)
        loops = program.program.analysis.loops
        few = sum(len(loop.turns) for loop in loops) <= FEW * len(loops)
        tf.config.run_functions_eagerly(few and not compiled)
        matrix = kernel.matrix(x, positions=positions)
        error = distance(matrix.astype("float64"), expected)
        bound = promised(kernel.report, dtype)
        if error > bound:  # the report states errors at small variances
            bound = max(bound, EXACT[dtype] + of_expansions(kernels["float64"], x))
        errors[dtype] = error, bound
    return errors


def of_expansions(kernel: Any, x: Any) -> float:
    """Error bounds of a kernel's expansions at the largest variances that they are given."""
    given: dict[Hermite, float] = {}
    prepare = Hermite.prepare

    def noting(dual: Hermite, q: Any) -> Any:
        given[dual] = max(given.get(dual, 0.0), float(tf.reduce_max(q)))
        return prepare(dual, q)

    programs.XLA = False
    tf.config.run_functions_eagerly(True)
    Hermite.prepare = noting
    try:
        kernel.diag(x)
    finally:
        Hermite.prepare = prepare
    return sum(float(dual.bounds(np.array([q]))[0]) for dual, q in given.items())


def outcome(seed: int, *, compiled: bool) -> dict[str, Any]:
    """What came of a seed: its errors, or why it was refused, is unknown, or failed."""
    try:
        return {"errors": differences(seed, compiled=compiled)}
    except keras2gp.UnsupportedModelError as error:
        return {"refused": sorted({obstacle.why[:100] for obstacle in error.obstacles})}
    except UnknownError as error:
        return {"unknown": str(error)}
    except Exception:  # noqa: BLE001 (reported, and the next model tried)
        return {"failed": traceback.format_exc(limit=-3)}


class Tally:
    """Outcomes, counted."""

    def __init__(self) -> None:
        self.converted = 0
        self.faults = 0
        self.refused: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.worst: dict[str, float] = {}

    def add(self, seed: int, came: dict[str, Any]) -> None:
        """Count an outcome, and print it if it is a fault."""
        self.refused.update(came.get("refused", ()))
        self.refused["refused"] += "refused" in came
        self.unknown.update([came["unknown"]] if "unknown" in came else [])
        self.converted += "errors" in came
        if "failed" in came:
            self.faults += 1
            print(f"seed {seed}: {came['failed']}", flush=True)
        for dtype, (error, bound) in came.get("errors", {}).items():
            kind = dtype if bound == EXACT[dtype] else f"{dtype}, expanded"
            self.worst[kind] = max(self.worst.get(kind, 0.0), error)
            if not error <= bound:
                self.faults += 1
                print(f"seed {seed}: {dtype} differs by {error:.2g}, not {bound:.2g}", flush=True)

    def print(self) -> None:
        """Print the numbers of outcomes and the largest differences."""
        unknown, refused = self.unknown.total(), dict(self.refused)
        share = unknown / max(1, unknown + self.converted)
        print(f"{unknown} more, {share:.1%}, that the oracle does not know:")
        for why, count in self.unknown.most_common():
            print(f"  {count:5}  {why}")
        count = refused.pop("refused", 0)
        print(f"largest differences {self.worst}; {self.faults} faults; {count} refused:")
        for why, count in Counter(refused).most_common():
            print(f"  {count:5}  {why}")


def earlier(log: Path | None) -> dict[int, dict[str, Any]]:
    """The outcomes of the seeds that a log holds; a line that was cut off is none."""
    outcomes = {}
    for line in log.read_text().splitlines() if log and log.exists() else ():
        try:
            came = json.loads(line)
        except json.JSONDecodeError:
            continue
        outcomes[came.pop("seed")] = came
    return outcomes


def main() -> int:
    """Fuzz as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=1000, help="models that are converted")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--compiled", type=int, default=40, help="one of so many goes through XLA")
    parser.add_argument("--log", type=Path, metavar="FILE", help="outcomes, to go on from")
    arguments = parser.parse_args()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    started, tally = time.perf_counter(), Tally()
    outcomes = earlier(arguments.log)
    for seed, came in outcomes.items():
        tally.add(seed, came)
    first = seed = max((seed + 1 for seed in outcomes), default=arguments.seed)
    while (
        tally.converted < arguments.count and time.perf_counter() - started < 60 * arguments.minutes
    ):
        came = outcome(seed, compiled=tally.converted % arguments.compiled == 0)
        tally.add(seed, came)
        if arguments.log:
            with arguments.log.open("a") as lines:
                lines.write(json.dumps({"seed": seed, **came}) + "\n")
        seed += 1
        keras.backend.clear_session()
    minutes = (time.perf_counter() - started) / 60
    print(f"{tally.converted} models, {minutes:.1f} minutes for seeds {first} to {seed - 1}")
    tally.print()
    return int(tally.faults > 0)


if __name__ == "__main__":
    sys.exit(main())
