"""The parts of the benchmark. Each fills rows of one table, a column for every network."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarking.environments import PEER
from benchmarking.serving import Child, environment
from benchmarking.timing import Rate

__all__ = ["PARTS", "Session"]

DENSE = "fully-connected"
BATCHES = {
    "maps": ((8, 8), (16, 16), (8, 64), (32, 32)),
    DENSE: ((128, 128), (256, 256), (512, 512)),
    "pooling": ((1, 1), (2, 2), (4, 4)),
    "resnet32-pooled": ((1, 1), (2, 2)),
}
"""Images of either side in one call of the peer; larger and smaller ones were slower."""
NAIVE_BATCHES = (8, 16, 32)
TILES = ((2, 128), (4, 64), (4, 256), (16, 64), (16, 256), (64, 64))
FIRST = 64
"""Images of a first matrix."""
VALUES = {"maps": 16, "pooling": 4, "resnet32-pooled": 2}
"""Images of either side whose covariances are compared; the peer takes a second for each pair."""


class Session:
    """The children that measure, the options, and the table so far."""

    def __init__(self, options: Namespace, ours: Child, peer: Child | None) -> None:
        self.options = options
        self.ours = ours
        self.peer = peer
        self.folder = tempfile.TemporaryDirectory()
        self.inputs = str(Path(self.folder.name) / "images.npy")
        self.rows: dict[str, dict[str, Any]] = {}
        self.rates: dict[str, dict[str, Rate]] = {}
        self.failed: list[str] = []
        ours.ask("prepare", inputs=self.inputs, count=1024)

    def put(self, row: str, network: str, value: Any) -> None:
        """One cell of the table."""
        self.rows.setdefault(row, {})[network] = value

    def side(self, network: str) -> int:
        """Images of either side of a block."""
        return int(self.ours.ask("plan", network=network, side=self.options.side)["rows"])

    def race(self, network: str, steps: dict[str, Callable[[], Rate]]) -> dict[str, float]:
        """Best rate of every step over the rounds, A B C A B C ..., into its row."""
        found: dict[str, list[Rate]] = {row: [] for row in steps}
        for _ in range(self.options.rounds):
            for row, step in steps.items():
                found[row].append(step())
        best = {}
        for row, rates in found.items():
            top = max(rates, key=lambda rate: rate["pairs_per_second"])
            self.rates.setdefault(row, {})[network] = top
            self.put(row, network, top["pairs_per_second"])
            best[row] = top["pairs_per_second"]
        return best

    def values(self, child: Child, network: str, **more: Any) -> np.ndarray[Any, Any]:
        """Covariances by one child."""
        out = str(Path(self.folder.name) / "values.npy")
        count = VALUES.get(network, VALUES["maps"])
        child.ask("values", network=network, inputs=self.inputs, count=count, out=out, **more)
        return np.asarray(np.load(out), np.float64)


def rates(session: Session) -> None:
    """keras2gp and Neural Tangents in turn, on one block and on a matrix."""
    options = session.options
    for network in options.networks:
        count = 2 * session.side(network)
        block_row, peer_row = "keras2gp, program.block", f"Neural Tangents {PEER}"
        block = {"threads": options.threads, "side": options.side}
        steps = {block_row: _asking(session.ours, session, "block", network, **block)}
        if session.peer is not None:
            batch = _tune(session, session.peer, network)
            steps[peer_row] = _asking(session.peer, session, "rate", network)
        steps["keras2gp, kernel.matrix"] = _asking(
            session.ours, session, "matrix", network, count=count
        )
        best = session.race(network, steps)
        session.put("images of that matrix", network, str(count))
        if session.peer is not None:
            session.put("batch of Neural Tangents, the best", network, batch)
            session.put("ratio, program.block", network, best[block_row] / best[peer_row])
            used = [session.rates[row][network]["cores"] for row in (block_row, peer_row)]
            per_core = best[block_row] / used[0] / (best[peer_row] / used[1])
            session.put("ratio, per core in use", network, per_core)


def _tune(session: Session, peer: Child, network: str) -> str:
    """Makes the peer keep its best batch, which it names."""
    tuned = peer.ask(
        "tune",
        network=network,
        inputs=session.inputs,
        batches=BATCHES.get(network, BATCHES["maps"]),
        threads=sorted({1, session.options.threads}),
        seconds=session.options.seconds / 4,
    )
    return str(tuned["chosen"])


def accuracy(session: Session) -> None:
    """Largest relative differences between the libraries, and to keras2gp in float64."""
    for network in session.options.networks:
        exact = session.values(session.ours, network, what="float64")
        single = session.values(session.ours, network, what="float32")
        session.put("largest difference to float64, relative", network, _difference(single, exact))
        if session.peer is not None:
            other = session.values(session.peer, network)
            session.put("of Neural Tangents to float64", network, _difference(other, exact))
            session.put("largest difference of the two", network, _difference(single, other))


def _difference(values: Any, reference: Any) -> float:
    return float(np.abs(values / reference - 1).max())


def kinds(session: Session) -> None:
    """The tangent kernel, and both kernels in one pass, beside the NNGP kernel alone."""
    for network in session.options.networks:
        count = 2 * session.side(network)
        steps = {
            f"kernel.matrix, get={get!r}": _asking(
                session.ours, session, "matrix", network, count=count, get=get
            )
            for get in ("nngp", "ntk", "both")
        }
        alone, tangent, both = session.race(network, steps).values()
        session.put("time of the tangent kernel over that of one", network, alone / tangent)
        session.put("time of both kernels over that of one", network, alone / both)


def naive(session: Session) -> None:
    """The paper's way for ResNet-32, next to one block of ours."""
    network = "resnet32"
    if network not in session.options.networks:
        return
    seconds = session.options.seconds
    found: list[Rate] = []
    for _ in range(session.options.rounds):
        found += [
            session.ours.ask("naive_rate", seconds=seconds / 2, batch=b) for b in NAIVE_BATCHES
        ]
    top = max(found, key=lambda rate: rate["pairs_per_second"])
    row = "tf.nn.conv2d on [pairs, H, W, 1]"
    session.rates[row] = {network: top}
    session.put(row, network, top["pairs_per_second"])
    single = session.values(session.ours, network, what="float32")
    other = session.values(session.ours, network, what="naive")
    session.put("its difference to keras2gp", network, _difference(other, single))


def first(session: Session) -> None:
    """From the start of a process to its first matrix, compilation included: without kept programs,
    in the process that makes them, and in the next one; and in another checkout (--old)."""
    for network in session.options.networks:
        runs: dict[str, list[dict[str, float]]] = {}
        for _ in range(2):
            with tempfile.TemporaryDirectory() as folder:
                ways = [("", "off", None), (" (keeps it)", folder, None), (" (next)", folder, None)]
                if session.options.old is not None:
                    ways.append((f" ({session.options.old.name})", "off", session.options.old))
                for way, cache, checkout in ways:
                    found = _fresh("first", network, FIRST, checkout, KERAS2GP_CACHE=cache)
                    runs.setdefault(way, []).append(found)
        for way, found in runs.items():
            best = {key: min(run[key] for run in found) for key in found[0]}
            session.put(f"first result{way}, s", network, best["total"])
            session.put(f"of which imports{way}, s", network, best["imports"])
            session.put(f"compilation and matrix{way}, s", network, best["matrix"])
            session.put(f"its processor time{way}, s", network, best["matrix_cpu"])


def tiles(session: Session) -> None:
    """One thread per core, every tile of TILES that divides the block, and the planned one."""
    ours, options = session.ours, session.options
    for network in _detailed(session):
        plan = ours.ask("plan", network=network, side=options.side)
        chosen = (plan["tile_rows"], plan["tile_columns"])
        shapes = [t for t in TILES if t[0] <= plan["rows"] and t[1] <= plan["columns"]]
        block = {"threads": options.threads, "side": options.side}
        steps = {
            f"tile {t[0]} x {t[1]}": _asking(ours, session, "block", network, tile=t, **block)
            for t in sorted({chosen, *shapes})
        }
        session.race(network, steps)
        session.put("tile of the plan", network, f"{chosen[0]} x {chosen[1]}")


def threads(session: Session) -> None:
    """From one core to all, a thread on each, the process kept to them."""
    for network in _detailed(session):
        steps = {
            f"{n} thread{'s' * (n > 1)} on as many cores": _asking(
                session.ours, session, "pinned", network, cores=n, side=session.options.side
            )
            for n in _powers(session.options.threads)
        }
        session.race(network, steps)


def sizes(session: Session) -> None:
    """kernel.matrix of more and more images."""
    for network in _detailed(session):
        side = session.side(network)
        counts = (max(side // 4, 2), side, 2 * side)
        steps = {
            f"kernel.matrix, N = {n}": _asking(session.ours, session, "matrix", network, count=n)
            for n in counts
        }
        session.race(network, steps)


def memory(session: Session) -> None:
    """Peak resident memory of a process that computes a Gram matrix."""
    count = session.options.memory
    for network in session.options.memory_networks:
        found = _fresh("memory", network, count)
        name = f"Gram matrix, N = {count}"
        session.put(f"{name}: peak beyond the matrix, GB", network, _beyond(found))
        session.put(f"{name}: the matrix, GB", network, found["matrix"] / 1e9)
        session.put(f"{name}: before it, GB", network, found["before"] / 1e9)
        session.put(f"{name}: seconds", network, found["seconds"])


def _beyond(found: dict[str, float]) -> float:
    return (found["peak"] - found["matrix"]) / 1e9


def _fresh(
    what: str, network: str, count: int, checkout: Path | None = None, **variables: str
) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarking.fresh", what, network, str(count)]
    done = subprocess.run(
        [*command, repr(time.time())],
        check=True,
        stdout=subprocess.PIPE,
        env={**environment(checkout), **variables},
        text=True,
    )
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _asking(
    child: Child, session: Session, do: str, network: str, **arguments: Any
) -> Callable[[], Rate]:
    arguments = {"network": network, "seconds": session.options.seconds, **arguments}
    return lambda: child.ask(do, **arguments)


def _powers(most: int) -> Iterable[int]:
    """1, 2, 4 and so on, and the last."""
    return sorted({most, *(2**i for i in range(most.bit_length()) if 2**i <= most)})


def _detailed(session: Session) -> list[str]:
    """Networks that are measured in detail: ResNet-32 if asked for, and the fully connected one."""
    wanted = [n for n in ("resnet32", DENSE) if n in session.options.networks]
    return wanted or session.options.networks[:1]


PARTS: dict[str, Callable[[Session], None]] = {
    part.__name__: part
    for part in (rates, accuracy, kinds, naive, first, tiles, threads, sizes, memory)
}
