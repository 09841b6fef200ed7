"""The command: its options, the children, and the table."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarking.environments import PEER, peer_python
from benchmarking.parts import DENSE, PARTS, Session
from benchmarking.serving import Child

__all__ = ["main"]

NETWORKS = ("convnet", "residual-cnn", "resnet32", DENSE)
POOLED = ("pooling", "resnet32-pooled")
"""With average pooling: the peer takes minutes for them, so they are measured when asked for."""
CACHE = Path.home() / ".cache" / "keras2gp-benchmark"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print one table. Exit code 1 if the peer cannot be had, or a part failed."""
    options = _parser().parse_args(arguments)
    options.memory_networks = options.memory_networks or options.networks[-1:]
    before = _load()
    try:
        session = _measured(options)
    except RuntimeError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    machine = {**_machine(), "load_before": before, "load_after": _load()}
    if options.json:
        print(json.dumps({"machine": machine, "rows": session.rows, "rates": session.rates}))
    else:
        print(_table(machine, session))
    return 1 if session.failed else 0


def _measured(options: argparse.Namespace) -> Session:
    with ExitStack() as children:
        peer = None
        if options.peer and {"rates", "accuracy"} & set(options.parts):
            peer = children.enter_context(Child("benchmarking.peer", peer_python(options.peer_env)))
        ours = children.enter_context(Child("benchmarking.ours"))
        session = Session(options, ours, peer)
        for name in options.parts:
            print(f"benchmark: {name}", file=sys.stderr)
            try:
                PARTS[name](session)
            except (subprocess.CalledProcessError, RuntimeError) as error:
                session.failed.append(name)  # the others' figures are printed nevertheless
                print(f"benchmark: {name} failed: {error}", file=sys.stderr)
    return session


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmark.py", description=main.__doc__)
    add = parser.add_argument
    add(
        "--networks",
        nargs="+",
        choices=NETWORKS + POOLED,
        default=list(NETWORKS),
        metavar="NAME",
        help=f"columns of the table: {', '.join(NETWORKS)} (the default), {', '.join(POOLED)}",
    )
    add(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        metavar="NAME",
        help=f"what to measure: {', '.join(PARTS)}",
    )
    add("--seconds", type=float, default=4.0, help="of one measurement (default: 4)")
    add("--rounds", type=int, default=3, help="of which the best counts (default: 3)")
    add(
        "--threads",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="side by side (default: one per core)",
    )
    add("--side", type=int, help="most images of either side of a block, for short runs")
    add("--old", type=Path, metavar="DIR", help="another checkout, beside it in the part first")
    add("--memory", type=int, default=10_000, metavar="N", help="images of the part memory")
    add(
        "--memory-networks",
        nargs="+",
        choices=NETWORKS + POOLED,
        metavar="NAME",
        help="networks of the part memory (default: the last of --networks)",
    )
    add(
        "--peer-env",
        type=Path,
        default=CACHE,
        metavar="DIR",
        help=f"virtual environment of Neural Tangents {PEER} (default: {CACHE})",
    )
    add("--no-peer", dest="peer", action="store_false", help="without Neural Tangents")
    add("--json", action="store_true", help="JSON in place of the table")
    return parser


def _table(machine: dict[str, Any], session: Session) -> str:
    """Rows by network, in Markdown; after every rate how many cores the measurement had."""
    networks = session.options.networks
    extra = [n for n in session.options.memory_networks if n not in networks]
    columns = [*networks, *extra] if "memory" in session.options.parts else networks
    head = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['date']}; Python "
        f"{machine['python']}, TensorFlow {machine['tensorflow']}; load average "
        f"{machine['load_before']} before, {machine['load_after']} after"
    )
    lines = [
        head,
        "",
        f"| pairs/s, unless it says otherwise | {' | '.join(columns)} |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for row, cells in session.rows.items():
        values = [_cell(cells.get(n), session.rates.get(row, {}).get(n)) for n in columns]
        lines.append(f"| {row} | {' | '.join(values)} |")
    return "\n".join([*lines, "", "In brackets: cores in use, processor time over wall time."])


def _cell(value: Any, rate: dict[str, float] | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if rate is not None:
        return f"{_rounded(value)} [{rate['cores']:.1f}]"
    if value < 1e-2:
        return f"{value:.1e}"
    return f"{value:.3g}" if value < 1000 else _rounded(value)


def _rounded(value: float) -> str:
    """Three digits, thousands apart by a space."""
    digits = len(str(int(value)))
    whole = round(value, min(3 - digits, 0)) if digits > 3 else round(value)
    return f"{int(whole):,}".replace(",", " ")


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "date": dt.datetime.now().astimezone().date().isoformat(),
        "python": platform.python_version(),
        "tensorflow": importlib.metadata.version("tensorflow"),
    }


def _processor() -> str:
    """Name and widest vector instructions, where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    widest = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "")
    name = facts.get("model name", platform.machine())
    return f"{name} ({widest})" if widest else name


def _load() -> str:
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())
