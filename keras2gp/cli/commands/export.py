"""export: a fitted model as a SavedModel that predicts without keras2gp."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from keras2gp.cli import arguments
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.fit_directory import read_record
from keras2gp.cli.output import Output
from keras2gp.cli.progress import stage
from keras2gp.cli.start import start_tensorflow

__all__ = ["add_commands"]

_MARKER = "predictor.json"


def add_commands(commands: Any) -> None:
    """Register `export` on the subparsers."""
    export = commands.add_parser(
        "export",
        help="write a fitted model as a SavedModel that predicts",
        description="Write a fitted model as a TensorFlow SavedModel that takes images and returns "
        "labels, probabilities, means and variances, and needs no keras2gp.",
        allow_abbrev=False,
    )
    export.add_argument("fit", metavar="DIR", type=Path, help="what fit wrote")
    export.add_argument(
        "out", metavar="OUT", type=Path, help="directory; an exported fit that it holds is replaced"
    )
    export.add_argument(
        "--no-variance",
        action="store_true",
        help="leave out the variance, which takes most of the space and time for many images",
    )
    arguments.add_json(export)
    export.set_defaults(check=_check_export, run=_export)


def _check_export(options: argparse.Namespace) -> None:
    read_record(options.fit)
    arguments.check_directory(options.out, _MARKER, "an exported fit")


def _export(options: argparse.Namespace, out: Output) -> ExitCode:
    start_tensorflow()
    import keras2gp  # noqa: PLC0415 (imports TensorFlow)
    from keras2gp.cli.posterior import load_fit  # noqa: PLC0415

    estimator = load_fit(options.fit)
    with stage("exporting"):
        keras2gp.export(estimator, options.out, variance=not options.no_variance)
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    out.line(f"wrote {options.out}: {size / 2**20:.1f} MiB, images in, predictions out")
    out.document({"out": str(options.out), "bytes": size})
    return ExitCode.FINE
