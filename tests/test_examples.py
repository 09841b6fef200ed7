"""Every example runs, and gives what it says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LIMITS = {"own_activation": 1e-12, "own_model": 0.2}


def test_all_examples_are_listed():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(LIMITS)


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_example(name, capsys):
    result = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()
    assert result < LIMITS[name]
    assert capsys.readouterr().out
