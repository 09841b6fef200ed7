"""A process of its own for what only a fresh one can tell: the first result, and the peak memory.

python -m benchmarking.fresh {first,memory} NETWORK COUNT START: one JSON object on stdout

START: the time at which the parent started this process, in seconds since the epoch
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import keras2gp


def _peak() -> int:
    """Largest resident memory so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def first(network: str, count: int, start: float) -> dict[str, Any]:
    """Seconds from the start of the process until a matrix of `count` images is there.

    matrix_cpu: processor time of that matrix, which depends less on what else the machine does
    """
    from benchmarking.networks import images, model

    keras2gp.convert  # noqa: B018 (imported when it is first used)
    imported = time.time()
    x = images(count)
    network = model(network)
    built = time.time()
    kernel = keras2gp.convert(network)
    converted, busy = time.time(), time.process_time()
    kernel.matrix(x)
    done, busy = time.time(), time.process_time() - busy
    kernel.matrix(x)
    again = time.time() - done
    return {
        "total": done - start,
        "imports": imported - start,
        "model": built - imported,
        "convert": converted - built,
        "matrix": done - converted,
        "matrix_cpu": busy,
        "again": again,
    }


def memory(network: str, count: int, _start: float) -> dict[str, Any]:
    """Peak memory, bytes: of the imports, and of a Gram matrix of `count` images."""
    from benchmarking.networks import images, model

    x = images(count)
    kernel = keras2gp.convert(model(network))
    before = _peak()
    begin = time.time()
    matrix = kernel.matrix(x)
    seconds = time.time() - begin
    return {"before": before, "peak": _peak(), "matrix": matrix.nbytes, "seconds": seconds}


if __name__ == "__main__":
    what, name, size, began = sys.argv[1:]
    print(json.dumps({"first": first, "memory": memory}[what](name, int(size), float(began))))
