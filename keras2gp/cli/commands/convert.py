"""inspect and convert: what becomes of a model, and its kernel on disk."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras2gp.cli import arguments
from keras2gp.cli.exit_codes import ExitCode, UsageError
from keras2gp.cli.output import Output
from keras2gp.cli.progress import stage
from keras2gp.cli.start import start_tensorflow
from keras2gp.cli.view import show_obstacles, show_report
from keras2gp.conversion.overrides import overrides_template, read_overrides
from keras2gp.errors import UnsupportedModelError

if TYPE_CHECKING:
    from keras2gp.report import ConversionReport

__all__ = ["add_commands", "check_conversion"]

_MODEL = "a .keras or .json file, or zoo:convnet, zoo:residual-cnn, zoo:resnet32"


def add_commands(commands: Any) -> None:
    """Register `inspect` and `convert` on the subparsers."""
    inspect = commands.add_parser(
        "inspect",
        help="show what becomes of each layer",
        description="Show what becomes of each layer. Exit code 0: exact; 3: not convertible.",
        allow_abbrev=False,
    )
    inspect.add_argument("model", metavar="MODEL", help=f"{_MODEL}; or a saved kernel")
    arguments.add_conversion(inspect)
    inspect.add_argument(
        "--template",
        metavar="FILE",
        help="write the variances as a YAML file for --overrides; - prints it instead of the table",
    )
    arguments.add_json(inspect)
    inspect.set_defaults(check=_check_inspect, run=_inspect)

    convert = commands.add_parser(
        "convert",
        help="save a model's kernel",
        description="Save a model's kernel: a SavedModel that runs without keras2gp, and JSON.",
        allow_abbrev=False,
    )
    convert.add_argument("model", metavar="MODEL", help=_MODEL)
    convert.add_argument(
        "out", metavar="OUT", type=Path, help="directory; a kernel that it holds is replaced"
    )
    arguments.add_conversion(convert)
    arguments.add_dtype(convert)
    arguments.add_json(convert)
    convert.set_defaults(check=_check_convert, run=_convert)


def check_conversion(options: argparse.Namespace, *, kernels: bool) -> None:
    """Check MODEL and the options of its conversion; adds `source` and `variances` to them.

    Raises: UsageError; ModelFileError for MODEL; PriorError for a file of overrides.
    """
    source = arguments.check_model(options.model, kernels=kernels)
    names = ("prior", "overrides", "output", "max_pooling", "tolerance", "input_shape", "dtype")
    given = [name for name in names if getattr(options, name, None) is not None]
    if source.kind == "kernel" and given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{flags}: {source.name} is a kernel, which is converted already")
    if source.kind != "zoo" and options.input_shape is not None:
        raise UsageError("--input-shape: only a network of the zoo can be built for any shape")
    arguments.check_file(options.overrides, "--overrides")
    options.source = source
    options.variances = None if options.overrides is None else read_overrides(options.overrides)


def _check_inspect(options: argparse.Namespace) -> None:
    check_conversion(options, kernels=True)
    if options.template is None:
        return
    if options.template == "-":
        if options.json:
            raise UsageError("--template - and --json: stdout can hold one of the two")
        return
    path = Path(options.template)
    if path.exists():
        raise UsageError(f"--template {path} exists, and may hold your changes: choose another")
    arguments.check_parent(path)


def _inspect(options: argparse.Namespace, out: Output) -> ExitCode:
    start_tensorflow()
    from keras2gp.cli.model_argument import report_of  # noqa: PLC0415 (imports TensorFlow)

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
        _write_template(Path(options.template), report)
        out.line(f"wrote {options.template}")
    out.document(report.to_dict())
    return ExitCode.FINE if report.exact else ExitCode.NOT_CONVERTIBLE


def _write_template(path: Path, report: ConversionReport) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as stream:
        stream.write(overrides_template(report.parameters))


def _check_convert(options: argparse.Namespace) -> None:
    check_conversion(options, kernels=False)
    arguments.check_directory(options.out, "kernel.json", "a saved kernel")


def _convert(options: argparse.Namespace, out: Output) -> ExitCode:
    start_tensorflow()
    from keras2gp.cli.model_argument import kernel_of  # noqa: PLC0415 (imports TensorFlow)

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
