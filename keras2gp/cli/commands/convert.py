"""inspect and convert: the report of a conversion, and a model's kernel on disk."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from keras2gp._util.files import write_new_file
from keras2gp._util.progress import stage
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.output import Output, show_obstacles, show_report
from keras2gp.cli.session import kernel_of, report_of
from keras2gp.conversion.overrides import overrides_template
from keras2gp.errors import UnsupportedModelError

__all__ = ["convert", "inspect"]


def inspect(options: argparse.Namespace, _rows: None, out: Output) -> ExitCode:
    """Show what becomes of each layer."""
    report = report_of(options)
    if options.template == "-":
        out.raw(overrides_template(report.parameters))
        # The template is stdout's; reasons must not get lost in it.
        out = Output(json_wanted=False, stream=sys.stderr) if report.obstacles else out
    else:
        show_report(out, report)
    if report.obstacles:
        show_obstacles(out, report.obstacles)
    if options.template not in (None, "-"):
        write_new_file(Path(options.template), overrides_template(report.parameters))
        out.line(f"wrote {options.template}")
    out.document(report.to_dict())
    return ExitCode.FINE if report.exact else ExitCode.NOT_CONVERTIBLE


def convert(options: argparse.Namespace, _rows: None, out: Output) -> ExitCode:
    """Save the kernel of MODEL."""
    try:
        kernel = kernel_of(options)
    except UnsupportedModelError as error:
        if error.report is not None:
            show_report(out, error.report)
        raise
    show_report(out, kernel.report)
    with stage("saving"):
        kernel.save(options.out)
    out.line(f"wrote {options.out}: SavedModel and kernel.json, {kernel.dtype}")
    document = {"kernel": str(options.out), "dtype": kernel.dtype}
    out.document({**document, "conversion": kernel.report.to_dict()})
    return ExitCode.FINE
