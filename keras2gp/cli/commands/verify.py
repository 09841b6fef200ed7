"""verify: a model's kernel beside random wide copies of the model."""

from __future__ import annotations

import argparse
import time
from typing import Any

from keras2gp._util.progress import stage
from keras2gp._util.text import duration_text
from keras2gp.cli.arguments import IMAGES_VERIFIED
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.output import Output
from keras2gp.cli.rows import Unlabelled
from keras2gp.cli.session import conversion_settings, idle_settings, image_shape, model_of, prepared
from keras2gp.verification.api import converted
from keras2gp.verification.report import VerificationReport
from keras2gp.verification.verification import Verification

__all__ = ["verify"]

_STYLES = {"accepted": "green", "rejected": "red", "undecided": "yellow"}
_CODES = {
    "accepted": ExitCode.FINE,
    "rejected": ExitCode.REJECTED,
    "undecided": ExitCode.UNDECIDED,
}


def verify(options: argparse.Namespace, given: Unlabelled | None, out: Output) -> ExitCode:
    """Draw wide networks, and compare the covariance of their outputs with the kernel."""
    verification = _verification(options, given, out)
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


def _verification(
    options: argparse.Namespace, given: Unlabelled | None, out: Output
) -> Verification:
    """The networks that are to be drawn. Raises: as keras2gp.verify."""
    shape = options.input_shape or (28, 28, 1)
    if options.input_shape is None and given is not None:
        shape = image_shape(given.x)
    with stage("converting"):
        model, kernel = converted(model_of(options.source, shape), **conversion_settings(options))
    for note in idle_settings(kernel):
        out.line(f"note: {note}")
    data: Any = options.images or IMAGES_VERIFIED
    if given is not None:
        data, notes = prepared(kernel, given.x, options.data)
        for note in [*given.notes, *notes]:
            out.line(f"note: {note}")
    return Verification(
        model,
        kernel,
        data=data,
        widths=options.widths,
        samples=options.samples,
        seed=options.seed,
        averages=options.max_pooling == "average",
        trained_until=options.trained_until,
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
    out.line(duration_text(seconds))
