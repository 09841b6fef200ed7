"""xray: the worth of every part of an architecture on given rows, without training."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import redirect_stdout
from typing import Any

from keras2gp._util.progress import stage
from keras2gp._util.text import duration_text
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.output import Output
from keras2gp.cli.rows import Rows
from keras2gp.cli.session import (
    conversion_settings,
    idle_settings,
    image_shape,
    kernel_of,
    model_of,
    prepared,
    resumable,
)
from keras2gp.xrays.arguments import XRaySettings
from keras2gp.xrays.files import FILES
from keras2gp.xrays.running.run import XRayRun

__all__ = ["xray"]

_OTHERS = ("prior", "trained_until", "overrides")


def xray(options: argparse.Namespace, rows: Rows, out: Output) -> ExitCode:
    """Compute the kernels of a model's ablations, compare them, and write the report."""
    # Keras prints to stdout, which holds the report.
    with redirect_stdout(sys.stderr), stage("building variants"):
        run = _xray_run(options, rows, out)
    with stage("measuring a few rows"):
        cost = run.cost()
    out.line(str(cost))
    document: dict[str, Any] = {"out": str(options.out), "cost": cost.to_dict()}
    if options.dry_run:
        listed = [[v.kind, v.name, f"{v.work:.3g}", run.left_out(v)] for v in run.variants[1:]]
        header = ["kind", "variant", "work", "not computed"]
        out.table(header, listed, ["work"])
        named = [dict(zip(header, entry, strict=True)) for entry in listed]
        out.document({**document, "variants": named})
        return ExitCode.FINE
    cost.require()
    began = time.perf_counter()
    with resumable(options.out), stage(f"{cost.kernels} kernels") as advance:
        report = run.run(progress=lambda _name, done, _total: advance(*cost.progress(done)))
    if not options.json:
        out.raw(f"\n{report.to_text()}\n")
    seconds = duration_text(time.perf_counter() - began)
    out.line(f"wrote {options.out}: {', '.join(FILES)} and variants, in {seconds}")
    out.document({**document, "report": report.to_dict()})
    return ExitCode.FINE


def _xray_run(options: argparse.Namespace, rows: Rows, out: Output) -> XRayRun:
    """The X-ray of the options. Raises: as keras2gp.xray."""
    kernel = kernel_of(options, image_shape(rows.x))
    images, notes = prepared(kernel, rows.x, options.data)
    for note in [*rows.notes, *notes, *idle_settings(kernel)]:
        out.line(f"note: {note}")
    settings = conversion_settings(options)
    conversion = {k: v for k, v in settings.items() if k not in _OTHERS and v is not None}
    count = options.train
    test = None if options.test is None else (images[count:], rows.y[count:])
    shape = options.input_shape or image_shape(rows.x)
    return XRayRun(
        model_of(options.source, shape),
        images[:count],
        rows.y[:count],
        XRaySettings(
            out=options.out,
            variants={name: model_of(source, shape) for name, source in options.own.items()},
            kinds=options.kinds,
            most_work=options.most_work,
            full_work=options.full_work,
            subsets=options.subsets,
            signal_rows=options.signal_rows,
            seed=options.seed,
            minutes=options.minutes,
            position=options.position,
            overrides=settings["overrides"],
            dtype=options.dtype or "float32",
            kind=options.kind or "nngp",
            conversion=conversion,
        ),
        test=test,
    )
