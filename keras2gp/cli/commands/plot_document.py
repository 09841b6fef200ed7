"""plot: pictures of documents that other commands wrote, drawn without TensorFlow."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.text import received_text
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.output import Output
from keras2gp.errors import DataError, Keras2GPError
from keras2gp.plots import convergence as wide_networks
from keras2gp.plots import learning
from keras2gp.plots import trials as search_trials
from keras2gp.plots.style import save

__all__ = ["convergence", "learning_curve", "save_picture", "trials"]

_LARGEST = 2**26
"""Bytes of a JSON document."""


def learning_curve(options: argparse.Namespace, _rows: None, out: Output) -> ExitCode:
    """Draw the test errors of examples/table1.py."""
    return _drawn(lambda: learning.learning_curve(_document(options.source)), options, out)


def convergence(options: argparse.Namespace, _rows: None, out: Output) -> ExitCode:
    """Draw the networks of growing width of verify --json."""
    return _drawn(lambda: wide_networks.convergence(_document(options.source)), options, out)


def trials(options: argparse.Namespace, _rows: None, out: Output) -> ExitCode:
    """Draw the trials of a search."""

    def draw() -> Any:
        return search_trials.trials(search_trials.read_rows(options.source), options.score)

    return _drawn(draw, options, out)


def _drawn(draw: Callable[[], Any], options: argparse.Namespace, out: Output) -> ExitCode:
    """Draw a stranger's document and save it. Raises: DataError if it cannot be drawn."""
    try:
        with np.errstate(all="ignore"):
            return save_picture(draw(), options, out)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        if isinstance(error, Keras2GPError):
            raise
        raise DataError(
            f"{options.source} cannot be drawn: {type(error).__name__}: {received_text(error, 200)}"
        ) from error


def _document(path: Path) -> Any:
    if path.stat().st_size > _LARGEST:
        raise DataError(f"{path} is larger than any document that is drawn here")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON document: {error}") from error


def save_picture(figure: Any, options: argparse.Namespace, out: Output) -> ExitCode:
    """Write a figure to --out, and say so."""
    save(figure, options.out)
    out.line(f"wrote {options.out}")
    out.document({"kind": options.picture, "out": str(options.out)})
    return ExitCode.FINE
