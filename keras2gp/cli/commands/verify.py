"""verify: a model's kernel beside random wide copies of the model."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from keras2gp.cli import arguments
from keras2gp.cli.commands.convert import check_conversion
from keras2gp.cli.exit_codes import ExitCode, UsageError
from keras2gp.cli.output import Output, seconds_text
from keras2gp.cli.progress import stage
from keras2gp.cli.start import start_tensorflow

if TYPE_CHECKING:
    import numpy as np

    from keras2gp.verification.api import Verification
    from keras2gp.verification.report import VerificationReport

__all__ = ["add_commands"]

_STYLES = {"accepted": "green", "rejected": "red", "undecided": "yellow"}
_CODES = {
    "accepted": ExitCode.FINE,
    "rejected": ExitCode.REJECTED,
    "undecided": ExitCode.UNDECIDED,
}


def add_commands(commands: Any) -> None:
    """Register `verify` on the subparsers."""
    verify = commands.add_parser(
        "verify",
        help="compare a model's kernel with random wide networks",
        description="Draw wide random copies of the model, and compare the covariance of their "
        "outputs with the kernel. Exit code 0: accepted, a kernel off by 10%% would have been "
        "rejected; 8: rejected; 9: undecided, more samples or larger widths are needed.",
        allow_abbrev=False,
    )
    verify.add_argument("model", metavar="MODEL", help="a .keras or .json file, or zoo:NAME")
    verify.add_argument(
        "--widths",
        metavar="N,N,...",
        type=arguments.counts,
        default=(8, 16, 64),
        help="channels of the narrowest hidden layer; the others grow with it (default 8,16,64)",
    )
    verify.add_argument(
        "--samples",
        metavar="N",
        type=arguments.count,
        default=300,
        help="networks of each width (default 300)",
    )
    verify.add_argument(
        "--images",
        metavar="N",
        type=arguments.count,
        default=3,
        help="images to compare on: the first of D (default 3)",
    )
    verify.add_argument("--seed", metavar="N", type=int, default=0, help="of the networks")
    arguments.add_data(verify, required=False, note=" (default: random images)")
    verify.add_argument("--dry-run", action="store_true", help="say what it would take, and stop")
    arguments.add_conversion(verify)
    arguments.add_json(verify)
    verify.set_defaults(check=_check, run=_run)


def _check(options: argparse.Namespace) -> None:
    check_conversion(options, kernels=False)
    if options.data is not None:
        arguments.check_data(options.data)
    if len(set(options.widths)) < 2:
        raise UsageError("--widths: two or more are compared, such as 8,16,64")


def _run(options: argparse.Namespace, out: Output) -> ExitCode:
    images = _images(options)
    start_tensorflow()
    verification = _prepared(options, images, out)
    costs = list(zip(verification.scales, verification.costs, strict=True))
    for scale, cost in costs:
        out.line(f"width {scale.width}: {cost}")
    document = {"widths": [{"width": scale.width, **vars(cost)} for scale, cost in costs]}
    if options.dry_run:
        out.document(document)
        return ExitCode.FINE
    began = time.perf_counter()
    with stage(f"drawing {options.samples} networks of each width") as advance:
        report = verification.run(progress=advance)
    seconds = time.perf_counter() - began
    _show(out, report, seconds)
    out.document({**report.to_dict(), "seconds": seconds})
    return _CODES[report.verdict]


def _images(options: argparse.Namespace) -> np.ndarray[Any, Any] | None:
    """The first images of the data, as they are stored; None for random ones."""
    if options.data is None:
        return None
    from keras2gp.cli.data_argument import images_only  # noqa: PLC0415 (numpy)

    return images_only(options.data, download=options.download)[: options.images]


def _prepared(
    options: argparse.Namespace, images: np.ndarray[Any, Any] | None, out: Output
) -> Verification:
    """The networks that are to be drawn. Raises: as keras2gp.verify."""
    from keras2gp.cli.data_argument import image_shape, prepared  # noqa: PLC0415 (numpy)
    from keras2gp.cli.model_argument import rescales, settings_of, source_of  # noqa: PLC0415 (TensorFlow)
    from keras2gp.verification.api import Verification, converted  # noqa: PLC0415

    shape = options.input_shape or (28, 28, 1)
    if options.input_shape is None and images is not None:
        shape = image_shape(images)
    with stage("converting"):
        model, kernel = converted(source_of(options.source, shape), **settings_of(options))
    data: Any = options.images
    if images is not None:
        data, notes = prepared(kernel, images, rescales=rescales(kernel))
        for note in notes:
            out.line(f"note: {note}")
    return Verification(
        model,
        kernel,
        data=data,
        widths=options.widths,
        samples=options.samples,
        seed=options.seed,
        averages=options.max_pooling == "average",
    )


def _show(out: Output, report: VerificationReport, seconds: float) -> None:
    """The convergence, and the verdict."""
    out.line()
    out.line("variance of the networks' outputs, against the kernel's:")
    for line in report.drawing():
        out.line(line)
    out.line()
    out.line(f"{report.verdict}: {report.reason}", style=_STYLES[report.verdict])
    out.line(f"a true kernel is rejected once in {1 / report.false_alarm:,.0f} runs")
    out.line(seconds_text(seconds))
