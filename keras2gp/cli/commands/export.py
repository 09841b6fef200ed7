"""export: a fitted model as a SavedModel that predicts without keras2gp."""

from __future__ import annotations

import argparse

from keras2gp._util.progress import stage
from keras2gp._util.text import size_text
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.output import Output
from keras2gp.cli.predictions import load_fit
from keras2gp.serving.export import export as export_fit

__all__ = ["export"]


def export(options: argparse.Namespace, _rows: None, out: Output) -> ExitCode:
    """Write the fit of DIR as a SavedModel."""
    estimator = load_fit(options.fit)
    with stage("exporting"):
        export_fit(estimator, options.out, variance=not options.no_variance)
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    out.line(f"wrote {options.out}: {size_text(size)}, images in, predictions out")
    out.document({"out": str(options.out), "bytes": size})
    return ExitCode.FINE
