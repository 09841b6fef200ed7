"""Which files, models and families of models have an exact kernel: writes docs/coverage.md.

python tools/coverage.py [--check] [--models NAME ...] [--text] [--kernels]
                         [--verify [--widths N ...] [--samples N]]

Every model is built without trained weights, on 32x32 images or the smallest that it takes, and
inspected as it is and with max_pooling="average". Seconds of that are printed and not written,
since they are the machine's. --text writes all but the rows, which stay as they are. --kernels
computes a kernel matrix of every model that has one, and prints its figures alone. --verify draws
random copies of it, and writes a row of the document's last table as each model finishes; models
that have one are left out, unless --models names them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from covering.models import names
from covering.page import applications_in, page, row_of
from covering.verified import rows_in, verified_row, with_rows

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "coverage.md"


def main() -> int:
    options = _parser().parse_args()
    if options.text:
        document = DOCUMENT.read_text()
        DOCUMENT.write_text(page(applications_in(document), rows_in(document)))
        return 0
    wanted = options.models or names()
    if unknown := set(wanted) - set(names()):
        print(f"coverage: keras.applications has no {', '.join(unknown)}", file=sys.stderr)
        return 2
    if options.kernels:
        from covering.figures import kernel_line

        for name in wanted:
            if line := kernel_line(name):
                print(line, flush=True)
        return 0
    if options.verify:
        _verify(wanted, options)
        return 0
    rows = {}
    for name in wanted:
        rows[name], seconds = row_of(name)
        print(f"{rows[name]}  {seconds:.2f} s", flush=True)
    if options.check:
        return _compared(rows)
    if options.models:
        print("coverage: not written, since only some models were asked for", file=sys.stderr)
        return 0
    DOCUMENT.write_text(page(rows, rows_in(DOCUMENT.read_text())))
    return 0


def _verify(wanted: Sequence[str], options: argparse.Namespace) -> None:
    """Rows of random copies, each written as it is made."""
    for name in wanted:
        if name in rows_in(DOCUMENT.read_text()) and not options.models:
            continue
        if row := verified_row(name, options.widths, options.samples):
            print(row, flush=True)
            document = DOCUMENT.read_text()
            DOCUMENT.write_text(with_rows(document, {**rows_in(document), name: row}))


def _compared(rows: dict[str, str]) -> int:
    """1 if the document differs from these rows, or, with all of them, from the page."""
    old = DOCUMENT.read_text()
    stale = [name for name, row in rows.items() if row not in old.splitlines()]
    if not stale and set(rows) == set(names()) and page(rows, rows_in(old)) != old:
        stale = ["its text"]
    if stale:
        print(f"{DOCUMENT.name}: stale: {', '.join(stale)}", file=sys.stderr)
    return int(bool(stale))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="coverage.py", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--models", nargs="+", metavar="NAME", help="these alone (default: all)")
    add("--check", action="store_true", help="compare with the document, and write nothing")
    add("--text", action="store_true", help="write the text, and keep the rows")
    add("--kernels", action="store_true", help="compute a kernel matrix of each")
    add("--verify", action="store_true", help="draw random copies of each")
    add("--widths", nargs="+", type=int, default=[8, 16, 64], help="for --verify")
    add("--samples", type=int, default=200, help="for --verify: networks of each width")
    return parser


if __name__ == "__main__":
    sys.exit(main())
