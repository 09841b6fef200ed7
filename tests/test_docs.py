"""Every Python block of the documentation runs, and every command line of it parses.

The blocks of a page run in order, in one namespace and in an empty folder, as a reader would copy
them.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib.util import find_spec
from pathlib import Path

import keras
import matplotlib as mpl
import pytest

from keras2gp.cli.parser import build_parser
from keras2gp.data import Dataset

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if "_build" not in page.parts
)
QUICK = ("README.md", "docs/start/five-minutes.md")
"""Pages whose blocks run by default; the others do among the slow tests."""
ELSEWHERE = ("docs/coverage.md",)
"""Pages whose blocks another test runs: tests/test_coverage.py."""
FENCE = re.compile(r"(?:<!-- needs ([\w, ]+) -->\n)?^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


TRUE = {
    "README.md": "K.shape == (len(probabilities), len(x_train)) and (variance > 0).all()",
    "docs/start/five-minutes.md": "K.shape == (5, 4) and (std > 0).all() and stored.shape[0] > 5 "
    "and kernel.parameters['conv2d'] == keras2gp.LayerVariances(2.0, 0.0)",
    "docs/guide/own-model.md": "'f (own)' in str(kernel.report)",
    "docs/guide/maps.md": "kernel.positions == (3,) and mean.shape == clean.shape "
    "and q.shape == values.shape",
    "docs/guide/many-images.md": "block.shape == (3000, 200) and gp.solver_report_.rank == 200",
    "docs/guide/paths.md": "smooth.left_out(pool).mean() < 0.5 * paths.left_out(pool).mean()",
    "docs/guide/gradients.md": "by_image.shape == (2, 3) and (sensitivity.numpy()[:, 1] "
    "> sensitivity.numpy().mean(1)).all()",
    "docs/guide/solvers.md": "classifier.solver_report_.solver == 'cg'",
    "docs/guide/variance.md": "np.median(from_elsewhere) > np.median(variance)",
    "docs/guide/own-layers.md": "abs(MySin().covariance(tf.constant(0.4), (0.7,), (1.3,)) "
    "- tf.exp(-1.0) * tf.sinh(0.4)) < 1e-6",
    "docs/how/verify.md": "report.accepted",
}
"""What is true of a page's names in the end."""
ROWS = 30
"""Digits that a page trains or tests on here, at most: values are right on any number of them."""


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """The blocks of a page in a language, but for those that need a library that is not there."""
    for needs, found, text in FENCE.findall(page.read_text()):
        if found == language and all(find_spec(name) for name in re.findall(r"\w+", needs)):
            yield text


def with_python(page):
    slow = [] if name_of(page) in QUICK else [pytest.mark.slow]
    return pytest.param(page, id=name_of(page), marks=slow)


@pytest.mark.parametrize(
    "page",
    [
        with_python(page)
        for page in PAGES
        if "```python\n" in page.read_text() and name_of(page) not in ELSEWHERE
    ],
)
def test_blocks_run(page, tmp_path, monkeypatch):
    from keras2gp.covariance import registry

    whole = Dataset.split
    few = lambda d, *counts: whole(d, *(min(n, ROWS) for n in counts))  # noqa: E731
    monkeypatch.setattr(Dataset, "split", few)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_DUALS", dict(registry._DUALS))
    mpl.use("Agg")
    keras.utils.clear_session()  # a page's layers are the first of their kind
    names = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page, "python"), start=1):
        code = compile(block, f"{name_of(page)}, block {number}", "exec")
        exec(code, names)  # noqa: S102 (our own text)
    assert eval(TRUE.get(name_of(page), "True"), names)  # noqa: S307 (our own text)


def program_lines(page):
    """The words behind `keras2gp` of every command of a page."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|", line):
                words = shlex.split(part, comments=True)
                if words and words[0].removeprefix(".venv/bin/") == "keras2gp":
                    yield words[1:]


def command_lines():
    for page in PAGES:
        for words in program_lines(page):
            yield pytest.param(words, id=f"{name_of(page)}: keras2gp {' '.join(words)}"[:120])


@pytest.mark.parametrize("words", list(command_lines()))
def test_commands_parse(words):
    if words[-1] in ("--help", "--version"):
        with pytest.raises(SystemExit) as ended:
            build_parser().parse_args(words)
        assert ended.value.code == 0
    else:
        assert build_parser().parse_args(words).run is not None


def test_scripts_are_there():
    """Scripts of commands such as `python tools/benchmark.py` exist."""
    named = {
        words[1]
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.splitlines()
        if (words := line.split())[:1] == ["python"] and words[1].endswith(".py")
    }
    assert named
    assert not [name for name in sorted(named) if not (ROOT / name).is_file()]


def test_the_documentation_has_the_parts_that_readers_look_for():
    """A listed page is there: Sphinx itself checks links, where it is installed."""
    index = (ROOT / "docs" / "index.md").read_text()
    toctrees = "\n".join(re.findall(r"```{toctree}\n(.*?)```", index, flags=re.DOTALL))
    listed = [line for line in toctrees.splitlines() if "/" in line and "*" not in line]
    assert len(listed) > 30
    assert not [name for name in listed if not (ROOT / "docs" / f"{name}.md").is_file()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    local = [link for link in links if "://" not in link]
    assert not [link for link in local if not (page.parent / link).exists()]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) < 7000


def test_one_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for paper in ("CITATION.cff", "docs/project/citing.md", "CHANGELOG.md"):
        assert version in (ROOT / paper).read_text(), paper
