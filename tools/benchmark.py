"""Speed and memory of keras2gp, next to Neural Tangents on the same images in the same run.

python tools/benchmark.py [--networks NAME ...] [--parts NAME ...] [--no-peer] [--json]

The work is in the package benchmarking; see `python tools/benchmark.py --help`.
"""

from __future__ import annotations

import sys

from benchmarking.main import main

if __name__ == "__main__":
    sys.exit(main())
