"""Compiles and times exported block programs with JAX alone, on JAX's default device.

    python tools/gpu/run.py FOLDER [NAME-PATTERN ...] [--repeats 5] [--seconds 500] [--json FILE]

FOLDER holds what tools/gpu/export.py wrote. The script needs numpy and jax, not TensorFlow. For
each program whose name matches a pattern it compiles the statistics of either side and the tiles of
one block, compares the block with the float64 kernel of the file, and times the tiles on arrays
that lie on the device. It prints one line for each program:

    pairs/s   entries of the block over the median time of one run, the host waiting for each run
    piped     the same with all runs queued and the host waiting for the last one
    error     largest |k / k64 - 1| of the block, and largest |k - k64| over the least variance:
              where covariances are near 0, as those of odd activations, the second one counts
    kernels   instructions of the optimised program by kind: fusion, conditional, while, ...

The exit code is 1 if a program fails, or if its second error exceeds --tolerance.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import gzip
import json
import re
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np
from jaxlib import _jax
from jaxlib import xla_client as xc

FUSED = ("%fused", "%wrapped", "%parallel_fus")
"""Prefixes of the names of computations that are bodies of fusions."""

KIND = re.compile(
    r"[\])}] (fusion|convolution|custom-call|dot|conditional|while|copy|transpose|pad|reduce"
    r"|concatenate|reduce-window|call|dynamic-slice|dynamic-update-slice)\("
)


def stablehlo(path: Path) -> bytes:
    """A gzipped HloModuleProto as StableHLO, which every PJRT client takes."""
    return _jax.mlir.hlo_to_stablehlo(gzip.decompress(path.read_bytes()))


def compiled(module: bytes, device, options: list[tuple[str, str]]):
    """An executable for one device."""
    settings = xc.CompileOptions()
    settings.num_replicas = settings.num_partitions = 1
    if options:
        settings.env_option_overrides = options
    return device.client.compile_and_load(module, xc.DeviceList((device,)), settings)


def run(executable, arguments) -> list:
    """The results on the device, which may not be ready yet."""
    results = executable.execute_sharded(arguments).disassemble_into_single_device_arrays()
    return [shards[0] for shards in results]


def timed(step, repeats: int) -> tuple[float, float]:
    """Median seconds of a step that the host waits for, and seconds of each of a queue of steps."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(step())
        times.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    for _ in range(repeats):
        last = step()
    jax.block_until_ready(last)
    return statistics.median(times), (time.perf_counter() - begin) / repeats


def kinds(executable) -> dict[str, int]:
    """The number of instructions of each kind that stand outside fusions."""
    counts: collections.Counter[str] = collections.Counter()
    inside = False
    for line in executable.hlo_modules()[0].to_string().splitlines():
        if line.endswith("{") and not line.startswith(" "):  # a computation begins
            inside = line.startswith(FUSED)
        elif not inside and (match := KIND.search(line)):
            counts[match[1]] += 1
    return dict(counts)


class Case:
    """One row of the manifest, compiled and loaded."""

    def __init__(self, row: dict, folder: Path, device, options) -> None:
        self.row, self.device = row, device
        with np.load(folder / f"{row['network']}.npz") as file:
            self.file = {name: file[name] for name in file.files}
        self.statistics, self.statistics_compile = self._compiled(folder, "statistics", options)
        self.tiles, self.compile = self._compiled(folder, "tiles", options)
        self.scalars = [self.put(v) for v in (*self.file["weights"], *self.file["biases"])]
        self.images = [self.put(self.file[name]) for name in ("image1", "image2")]
        side, tile = row["side"], row["tile"]
        self.starts = [(i, j) for j in range(0, side, tile) for i in range(0, side, tile)]

    def _compiled(self, folder: Path, which: str, options) -> tuple:
        begin = time.perf_counter()
        executable = compiled(stablehlo(folder / self.row[which]), self.device, options)
        has, exported = len(executable.get_parameter_layouts()), self.row[f"{which}_arguments"]
        if has != exported:
            raise ValueError(f"{which} takes {has} arguments, {exported} were exported")
        return executable, time.perf_counter() - begin

    def put(self, array) -> jax.Array:
        return jax.device_put(np.asarray(array), self.device)

    def sides(self) -> tuple[list, list]:
        """Results of the statistics of either side."""
        one, two = (run(self.statistics, [image, *self.scalars]) for image in self.images)
        return one, two

    def arguments(self) -> list:
        """Arguments of the tiles, on the device."""
        one, two = self.sides()
        starts = self.put(np.array(self.starts, np.int32))
        count = self.put(np.int32(len(self.starts)))
        return [*one[1:], *two[1:], starts, count, *self.scalars]

    def matrix(self, tiles) -> np.ndarray:
        """The block, [side, side]."""
        side, tile = self.row["side"], self.row["tile"]
        values = np.full((side, side), np.nan)
        for (i, j), part in zip(self.starts, np.asarray(tiles), strict=True):
            values[i : i + tile, j : j + tile] = part
        return values

    def measure(self, repeats: int) -> dict:
        """Values and times."""
        diagonal = np.asarray(self.sides()[0][0])[: len(self.file["diagonal"])]
        arguments = self.arguments()
        jax.block_until_ready(arguments)
        (tiles,) = run(self.tiles, arguments)
        expected = self.file["expected"]
        corner = self.matrix(tiles)[: len(expected), : len(expected)]
        difference = np.abs(corner - expected)
        error = float(np.max(difference / np.abs(expected)))
        of_variance = float(np.max(difference)) / float(np.min(self.file["diagonal"]))
        off = float(np.max(np.abs(diagonal / self.file["diagonal"] - 1)))
        usual, piped = timed(lambda: run(self.tiles, arguments), repeats)
        one_side = [self.images[0], *self.scalars]
        of_statistics, _ = timed(lambda: run(self.statistics, one_side), repeats)
        pairs = self.row["side"] ** 2
        return {
            "name": self.row["name"],
            "device": self.device.device_kind,
            "error": error,
            "of_variance": of_variance,
            "diagonal_error": off,
            "pairs_per_second": pairs / usual,
            "piped_pairs_per_second": pairs / piped,
            "seconds": usual,
            "statistics_seconds": of_statistics,
            "compile_seconds": round(self.compile + self.statistics_compile, 2),
            "kernels": kinds(self.tiles),
            "temporary_bytes": self.tiles.get_compiled_memory_stats().temp_size_in_bytes,
        }


def line(result: dict) -> str:
    counts = " ".join(f"{kind}:{n}" for kind, n in sorted(result["kernels"].items()))
    return (
        f"{result['name']:40s} {result['pairs_per_second']:12.0f} pairs/s "
        f"(piped {result['piped_pairs_per_second']:.0f})  error {result['error']:.1e} "
        f"({result['of_variance']:.1e} of a variance)  diag {result['diagonal_error']:.1e}  "
        f"{1e3 * result['seconds']:.2f} ms, statistics "
        f"{1e3 * result['statistics_seconds']:.2f} ms  compile {result['compile_seconds']:.1f} s  "
        f"temp {result['temporary_bytes'] / 1e9:.2f} GB  [{counts}]"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("--repeats", type=int, default=5, help="at least 1")
    parser.add_argument("--seconds", type=float, default=500.0, help="start no program after these")
    parser.add_argument("--json", type=Path, help="results, written anew after every program")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="of XLA")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.platform}: {device.device_kind}", flush=True)
    rows = json.loads((arguments.folder / "manifest.json").read_text())
    ordered = {
        row["name"]: row
        for pattern in arguments.patterns
        for row in rows
        if fnmatch.fnmatch(row["name"], pattern)
    }
    options = [tuple(setting.split("=", 1)) for setting in arguments.set]
    results, bad = [], 0
    for name, row in ordered.items():
        if time.perf_counter() - begin > arguments.seconds:
            print(f"{name}: not started, the time is up", flush=True)
            continue
        try:
            result = Case(row, arguments.folder, device, options).measure(arguments.repeats)
        except Exception as error:  # noqa: BLE001 (one bad program must not cost the others)
            print(f"{name}: FAILED {type(error).__name__}: {str(error)[:600]}", flush=True)
            results.append({"name": name, "failed": str(error)[:2000]})
            bad += 1
        else:
            wrong = not max(result["of_variance"], result["diagonal_error"]) < arguments.tolerance
            bad += wrong
            print(line(result) + ("  WRONG" if wrong else ""), flush=True)
            results.append(result)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
