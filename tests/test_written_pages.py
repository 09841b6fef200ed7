"""Parts of pages that the documentation's extension writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "docs" / "_extensions" / "written_pages.py"


@pytest.fixture
def written():
    spec = importlib.util.spec_from_file_location("written_pages", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("as --out needs", "as `--out` needs"),
        ("as `fit --gram` needs, not --out", "as `fit --gram` needs, not `--out`"),
        ("[N] or *, a | b", r"\[N\] or \*, a \| b"),
    ],
)
def test_options_are_code_once(written, text, cell):
    assert written.cell(text) == cell


def test_no_command_has_code_within_code(written):
    assert "``" not in written.commands().replace("```", "")
