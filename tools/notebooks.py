"""Runs the pages of docs/notebooks/, and writes their pictures and what their blocks print.

python tools/notebooks.py [NAME ...]

The Python blocks of a page run in order, in one namespace, in an empty folder; its pictures go to
docs/notebooks/pictures/. What a block prints stands after it, in a block of text. `jupytext --to
ipynb PAGE` makes a Jupyter notebook of a page.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib as mpl

PAGES = Path(__file__).resolve().parent.parent / "docs" / "notebooks"
BLOCK = re.compile(
    r"(?P<block>^```python\n(?P<code>.*?)^```\n)(?:\n<!-- printed -->\n```text\n.*?^```\n)?",
    re.DOTALL | re.MULTILINE,
)


def written(page: Path) -> str:
    """The page, with what its blocks print now."""
    names = {"__name__": "__main__"}

    def run(found: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(found["code"], page.name, "exec"), names)
        text = "\n".join(line.rstrip() for line in printed.getvalue().splitlines())
        after = f"\n<!-- printed -->\n```text\n{text}\n```\n" if text else ""
        return found["block"] + after

    return BLOCK.sub(run, page.read_text(encoding="utf-8"))


def main() -> int:
    """Run the pages that are named, or all of them."""
    mpl.use("Agg")
    wanted = sys.argv[1:] or sorted(
        page.stem for page in PAGES.glob("*.md") if page.stem != "index"
    )
    for name in wanted:
        began = time.perf_counter()
        page = PAGES / f"{name}.md"
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            text = written(page)
            for picture in Path(folder).glob("*.png"):
                shutil.copy(picture, PAGES / "pictures")
        page.write_text(text, encoding="utf-8")
        print(f"{name}: {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
