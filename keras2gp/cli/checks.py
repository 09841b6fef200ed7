"""Checks that several commands share, before anything heavy is imported.

The check of a command stands beside its options, in `options/`. It adds to the options the facts
that it has read: `source` and `variances` of a conversion, `record` of a fit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from keras2gp._util.paths import missing
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.sources import model_source, stated_shape
from keras2gp.conversion.overrides import read_overrides

__all__ = ["check_conversion", "check_file", "check_solver", "refuse_conversion"]

_CONVERSION = (
    *("prior", "overrides", "output", "max_pooling", "tolerance", "trained_until"),
    *("input_shape", "dtype", "kind"),
)
"""Options that say how a model becomes a kernel."""


def check_conversion(options: argparse.Namespace, *, kernels: bool) -> None:
    """Check MODEL and the options of its conversion; add `source` and `variances` to the options.

    Raises: UsageError; ModelFileError for MODEL; PriorError for a file of overrides.
    """
    source = model_source(options.model, kernels=kernels)
    if source.kind == "kernel":
        refuse_conversion(options, f"{source.name} is a kernel, which is converted already")
    if source.kind == "zoo" and (options.trained_until or options.prior == "weights"):
        flag = "--trained-until" if options.trained_until else "--prior weights"
        raise UsageError(f"{flag}: {source.name} has no trained weights. Try: a model's file")
    options.input_shape = stated_shape(options.input_shape, zoo=source.kind == "zoo")
    if options.overrides is not None:
        check_file(options.overrides, "--overrides")
    options.source = source
    options.variances = None if options.overrides is None else read_overrides(options.overrides)


def refuse_conversion(options: argparse.Namespace, why: str) -> None:
    """Refuse the options of a conversion where none takes place. Raises: UsageError."""
    given = [name for name in _CONVERSION if getattr(options, name, None) is not None]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{flags}: {why}")


def check_solver(options: argparse.Namespace) -> None:
    """Refuse settings of another solver. Raises: UsageError."""
    if options.residual is not None and options.solver != "cg":
        raise UsageError(f"--residual {options.residual:g} is one of --solver cg")
    if options.residual is not None and not 0.0 < options.residual < 1.0:
        raise UsageError(f"--residual {options.residual:g}: expected a number between 0 and 1")
    if options.rank is not None and options.solver not in ("cg", "nystroem", "projected"):
        raise UsageError(
            f"--rank {options.rank} is one of --solver cg, --solver nystroem and --solver projected"
        )
    if options.probes is not None and options.solver != "cg":
        raise UsageError(f"--probes {options.probes} is one of --solver cg")
    if options.probes == 1:
        raise UsageError("--probes 1: expected 2 or more, whose spread is the error")


def check_file(path: Path, option: str) -> None:
    """Whether a file to read is there. Raises: UsageError."""
    if not path.is_file():
        raise UsageError(f"{option} {missing(path)}")
