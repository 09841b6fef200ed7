"""The solvers: ours beside scipy's, their growth, and conjugate gradients beside our Cholesky.

python tools/solvers.py [--parts direct growth iterative] [--size N] [--sizes N N] [--target N]
                        [--train N] [--test N] [--networks NAME ...] [--tolerance T] [--rank R]
                        [--directory DIR] [--json]

direct:    time and memory of a solve with 10 right-hand sides, each in a process of its own, which
           is handed a kernel matrix in float32. scipy solves it in a float64 copy: in the order
           that it likes best, without another copy, and as one would write it
growth:    a fit of 10 outputs and its leave-one-out predictions, by Cholesky and in mixed
           precision, at two sizes, and by a N^2 + b N^3 through the two at a third, whose memory
           need not be there
iterative: the zoo's networks on MNIST (from tensorflow_datasets), their matrices in stores under
           DIR, which a second run finds there: iterations with and without the preconditioner, and
           test images whose largest mean is another than by Cholesky
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NETWORKS = ("convnet", "residual-cnn", "resnet32")
NOISE = 0.1
WAYS = {
    "ours": "keras2gp, tiled Cholesky",
    "mixed": "keras2gp, mixed precision",
    "best": "scipy.linalg.solve, Fortran order, overwritten",
    "plain": "scipy.linalg.solve, as one would write it",
}
SOLVERS = ("cholesky", "mixed")


def main() -> int:
    """Measure, and print one table. Exit code 1 if a network could not be measured."""
    options = _parser().parse_args()
    if options.child:
        print(json.dumps(direct(options.child, options.size)))
        return 0
    if options.growth_child:
        print(json.dumps(fit_and_leave_one_out(options.growth_child, options.size)))
        return 0
    if options.network_child:
        print(json.dumps(iterative(options.network_child, options)))
        return 0
    found: dict[str, Any] = {"load": os.getloadavg()[0], "cores": len(os.sched_getaffinity(0))}
    if "direct" in options.parts:
        found["direct"] = _rounds(options)
    if "growth" in options.parts:
        found["growth"] = {solver: _growth(solver, options) for solver in SOLVERS}
    failed = []
    if "iterative" in options.parts:
        found["iterative"] = {}
        for name in options.networks:
            try:
                found["iterative"][name] = _child("--network-child", name, *_settings(options))
            except subprocess.CalledProcessError:  # it has said why; what is measured is kept
                failed.append(name)
    print(json.dumps(found, indent=1) if options.json else _table(found, options))
    return len(failed) > 0


def direct(way: str, size: int) -> dict[str, float]:
    """Seconds and bytes, beyond the matrix that is there, of one solve."""
    import numpy as np

    matrix, targets = _problem(size)
    if way == "ours":
        from keras2gp.gp import factorize

        def solve() -> Any:
            return factorize(matrix, NOISE).solve(targets)
    elif way == "mixed":
        from keras2gp.gp import GPRegressor

        def solve() -> Any:
            gp = GPRegressor("precomputed", NOISE, solver="mixed").fit(matrix, targets)
            return _required(gp, "mixed").alpha_
    else:
        import scipy.linalg

        def solve() -> Any:
            order = "F" if way == "best" else "C"
            shifted = matrix.astype(np.float64, order=order)
            shifted[np.diag_indices(size)] += NOISE
            overwrite = way == "best"
            return scipy.linalg.solve(
                shifted, targets, assume_a="pos", overwrite_a=overwrite, check_finite=True
            )

    before = _peak()
    began = time.perf_counter()
    found = solve()
    seconds = time.perf_counter() - began
    extra = _peak() - before
    sample = matrix[:50].astype(np.float64) @ found + NOISE * found[:50] - targets[:50]
    return {"seconds": seconds, "bytes": extra, "residual": float(np.abs(sample).max())}


def fit_and_leave_one_out(solver: str, size: int) -> dict[str, float]:
    """Seconds and bytes, beyond the matrix that is there, of a fit and its leave-one-out."""
    from keras2gp.gp import GPRegressor

    matrix, targets = _problem(size)
    gp = GPRegressor("precomputed", NOISE, solver=solver)
    before, began = _peak(), time.perf_counter()
    _required(gp.fit(matrix, targets), solver)
    fitted = time.perf_counter()
    gp.leave_one_out()
    ended = time.perf_counter()
    return {"fit": fitted - began, "leave_one_out": ended - fitted, "bytes": _peak() - before}


def _problem(size: int) -> tuple[Any, Any]:
    """The covariance of a ReLU network with three hidden layers, and 10 columns of targets."""
    import numpy as np

    random = np.random.default_rng(0)
    x = random.standard_normal((size, 24), np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    matrix = x @ x.T
    for start in range(0, size, 256):
        block = matrix[start : start + 256]
        for _ in range(3):
            np.clip(block, -1.0, 1.0, out=block)
            block[...] = (np.sqrt(1 - block**2) + (np.pi - np.arccos(block)) * block) / np.pi
    np.fill_diagonal(matrix, 1.0)
    return matrix, random.standard_normal((size, 10))


def _required(gp: Any, solver: str) -> Any:
    """The fit, if no other solver took over."""
    if gp.solver_report_.solver != solver:
        raise RuntimeError(gp.solver_report_.reason)
    return gp


def iterative(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Iterations of conjugate gradients, and agreement with Cholesky, on one network's kernel."""
    import numpy as np

    import keras2gp
    from keras2gp import data, zoo
    from keras2gp.gp import ConjugateGradients, GPClassifier

    digits = data.load("tfds:mnist").split(options.train, options.test)
    x, test = (
        a.astype(np.float32).reshape(len(a), 28, 28, 1) / 255
        for a in (digits.x_train, digits.x_test)
    )
    kernel = keras2gp.convert(zoo.build(name))
    folder = Path(options.directory)
    began = time.perf_counter()
    gram = keras2gp.gram(kernel, x, out=folder / f"{name}-{options.train}.zarr")
    across = folder / f"{name}-{options.test}-{options.train}.zarr"
    cross = np.asarray(keras2gp.gram(kernel, test, x, out=across))
    result: dict[str, Any] = {"kernel_seconds": time.perf_counter() - began}
    matrix = np.asarray(gram)
    means = {}
    for label, solver in (
        ("cholesky", "cholesky"),
        ("cg", ConjugateGradients(tolerance=options.tolerance, rank=options.rank)),
        ("store", ConjugateGradients(tolerance=options.tolerance, rank=options.rank)),
        ("plain", ConjugateGradients(tolerance=options.tolerance, rank=0, max_iterations=5000)),
    ):
        # Without noise, as in the paper; and no temperature, which takes a solve for each image.
        model = GPClassifier("precomputed", 0.0, solver=solver, probabilities="largest")
        began = time.perf_counter()
        model.fit(None, digits.y_train, gram=gram if label == "store" else matrix)
        seconds = time.perf_counter() - began
        means[label] = model.decision_function(cross)
        report = model.solver_report_
        result[label] = {
            "seconds": seconds,
            "iterations": report.iterations,
            "residual": report.residual,
            "rank": report.rank,
            "jitter": model.jitter_report_.jitter,
            "error": float((model.predict(cross) != digits.y_test).mean()),
        }
    best = means["cholesky"].argmax(axis=1)
    for label in ("cg", "store", "plain"):
        result[label]["others"] = int((means[label].argmax(axis=1) != best).sum())
        gap = np.abs(means[label] - means["cholesky"]).max()
        result[label]["largest_difference"] = float(gap)
    return result


def _peak() -> int:
    """Largest resident memory so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _rounds(options: argparse.Namespace) -> dict[str, Any]:
    """Each way in turn, so that all meet the same load; the best time of each counts."""
    found: dict[str, Any] = {}
    for _ in range(options.rounds):
        for way in WAYS:
            one = _child("--child", way, "--size", str(options.size))
            if way not in found or one["seconds"] < found[way]["seconds"]:
                found[way] = one
    return found


def _growth(solver: str, options: argparse.Namespace) -> dict[str, Any]:
    """The best time at each size, and what a N^2 + b N^3 through them is at the target."""
    found: dict[str, Any] = {}
    for size in options.sizes:
        tries = [
            _child("--growth-child", solver, "--size", str(size)) for _ in range(options.rounds)
        ]
        found[str(size)] = min(tries, key=lambda one: one["fit"] + one["leave_one_out"])
    small, large = options.sizes
    for part in ("fit", "leave_one_out"):
        one, other = (found[str(n)][part] / n**2 for n in options.sizes)
        cubic = (other - one) / (large - small)
        square = one - cubic * small
        if square < 0.0 or cubic < 0.0:  # noise: the larger one, as if all of it were cubic
            square, cubic = 0.0, other / large
        found[f"{part}_at_target"] = square * options.target**2 + cubic * options.target**3
    return found


def _child(*arguments: str) -> Any:
    print(f"solvers: {' '.join(arguments[:2])}", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _settings(options: argparse.Namespace) -> list[str]:
    names = ("train", "test", "tolerance", "directory", "rank")
    given = [(n, getattr(options, n)) for n in names]
    return [part for n, value in given if value is not None for part in (f"--{n}", str(value))]


def _table(found: dict[str, Any], options: argparse.Namespace) -> str:
    lines = [f"{found['cores']} cores, load average {found['load']:.1f} before"]
    if "direct" in found:
        usual = found["direct"]["plain"]
        lines += [
            "",
            _row(
                f"N = {options.size}, 10 right-hand sides",
                *("s", "MB beyond the float32 matrix"),
                *("time over scipy's usual", "memory over scipy's usual"),
            ),
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {WAYS[way]} | {one['seconds']:.1f} | {one['bytes'] / 1e6:.0f} "
            f"| {one['seconds'] / usual['seconds']:.2f} | {one['bytes'] / usual['bytes']:.2f} |"
            for way, one in found["direct"].items()
        ]
    if "growth" in found:
        lines += ["", *_growth_rows(found["growth"], options)]
    if "iterative" in found:
        lines += [
            "",
            _row(
                f"N = {options.train}, {options.test} test images, tolerance {options.tolerance:g}",
                *("Cholesky s", "CG s", "from the store s", "rank", "iterations"),
                *("without preconditioner", "ratio", "other argmax", "test error"),
            ),
            "|---" * 10 + "|",
        ]
        for name, one in found["iterative"].items():
            cg, plain = one["cg"], one["plain"]
            lines.append(
                f"| {name} | {one['cholesky']['seconds']:.1f} | {cg['seconds']:.1f} "
                f"| {one['store']['seconds']:.1f} | {cg['rank']} | {cg['iterations']} "
                f"| {plain['iterations']} | {plain['iterations'] / cg['iterations']:.1f} "
                f"| {cg['others']} | {one['cholesky']['error']:.2%} |"
            )
    return "\n".join(lines)


def _growth_rows(found: dict[str, Any], options: argparse.Namespace) -> list[str]:
    columns = [f"{n}: fit s | leave-one-out s" for n in (*options.sizes, options.target)]
    columns[-1] = f"extrapolated to {columns[-1]} | together s"
    rows = [_row("10 outputs, N =", *columns), "|---" * 8 + "|"]
    for solver, one in found.items():
        times = [one[str(n)][part] for n in options.sizes for part in ("fit", "leave_one_out")]
        times += [one["fit_at_target"], one["leave_one_out_at_target"]]
        times.append(times[-2] + times[-1])
        rows.append(_row(solver, *(f"{t:.1f}" for t in times)))
    return rows


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="solvers.py", description=main.__doc__)
    add = parser.add_argument
    parts = ("direct", "growth", "iterative")
    add("--parts", nargs="+", choices=parts, default=list(parts))
    add("--size", type=int, default=10_000, help="N of the part direct (default: 10000)")
    add(
        "--rounds", type=int, default=2, help="of the first two parts; the best counts (default: 2)"
    )
    add("--sizes", type=int, nargs=2, default=(10_000, 20_000), help="of the part growth")
    add("--target", type=int, default=50_000, help="N to which growth is extrapolated")
    add("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    add("--train", type=int, default=5000)
    add("--test", type=int, default=1000)
    add("--tolerance", type=float, default=1e-4)
    add("--rank", type=int, help="columns of the preconditioner (default: that of the solver)")
    add(
        "--directory",
        default=str(Path.home() / ".cache" / "keras2gp-solvers"),
        help="of the stores",
    )
    add("--json", action="store_true", help="JSON in place of the table")
    add("--child", choices=WAYS, help=argparse.SUPPRESS)
    add("--growth-child", choices=SOLVERS, help=argparse.SUPPRESS)
    add("--network-child", choices=NETWORKS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
