"""ARCHITECTURE.md, CONTRIBUTING.md and the pages of docs/ name what is there."""

import re
from pathlib import Path

import pytest
from test_imports import ORDER, PARTS

ROOT = Path(__file__).resolve().parent.parent
PATHS = re.compile(r"`((?:keras2gp|tests|tools|examples|docs)/[\w/]+\.(?:py|md|png))`")
PAGES = [p.relative_to(ROOT).as_posix() for p in sorted((ROOT / "docs").glob("[!_]*/*.md"))]
PAPERS = (
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    *(page for page in PAGES if PATHS.search((ROOT / page).read_text())),
)


@pytest.mark.parametrize("paper", PAPERS)
def test_files_that_are_named_are_there(paper):
    named = set(PATHS.findall((ROOT / paper).read_text()))
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


NAMED = re.compile(r"`(?:\w+\.)?(\w+)`,? in `(keras2gp/[\w/]+\.py)`")
"""A name of the code in a file."""


@pytest.mark.parametrize("paper", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_names_stand_in_the_files_that_are_said_to_have_them(paper):
    named = NAMED.findall((ROOT / paper).read_text())
    assert paper != "ARCHITECTURE.md" or len(named) > 10
    for name, path in named:
        stated = re.compile(rf"(?:def|class) {name}\b|^\s*{name}\b.*=", re.MULTILINE)
        assert stated.search((ROOT / path).read_text()), (name, path)


def test_the_order_of_imports_is_the_one_that_is_checked():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    stated = text.split("<!-- order -->")[1].split("<!-- /order -->")[0]
    rows = [set(re.findall(r"`(\w+)`", line)) for line in stated.split("\n") if "`" in line]
    assert rows == [set(row) for row in ORDER]


def test_the_hook_of_the_tables_watches_what_they_are_made_of():
    hook = (ROOT / ".pre-commit-config.yaml").read_text().split("- id: tables")[1].split("- id:")[0]
    watched = re.compile(re.search(r"files: (\S+)", hook)[1])
    tables = (ROOT / "tools" / "make_tables.py").read_text()
    sources = re.findall(r"^from (keras2gp\.\w+)", tables, re.MULTILINE)
    assert sources
    for package in sources:
        assert watched.search(f"{package.replace('.', '/')}/any.py"), package
    assert watched.search("docs/reference/layers.md")


def test_ci_calls_targets_of_the_makefile():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = re.search(r"for target in (.*); do", (ROOT / ".ci" / "run").read_text())[1].split()
    assert targets - set(called) == {"check", "cover", "slow", "links"}
    assert set(called) <= targets


def test_every_package_is_in_the_tree():
    tree = (ROOT / "ARCHITECTURE.md").read_text().split("## The tree")[1].split("\n## ")[0]
    named = {name.removesuffix(".py") for name in re.findall(r"`(\w+)(?:/|\.py)`", tree)}
    assert PARTS - {"__init__", "__main__"} <= named
