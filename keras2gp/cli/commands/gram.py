"""gram: a kernel matrix on disk, computed once, resumed after any interruption."""

from __future__ import annotations

import argparse
import time

from keras2gp._util.progress import stage
from keras2gp._util.text import duration_text, size_text
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.output import Output
from keras2gp.cli.rows import Rows
from keras2gp.cli.session import idle_settings, open_session, resumable
from keras2gp.matrices.api import estimate
from keras2gp.matrices.api import gram as compute
from keras2gp.matrices.speed import speed_of, tried_images
from keras2gp.matrices.store import GramStore

__all__ = ["gram"]


def gram(options: argparse.Namespace, rows: Rows, out: Output) -> ExitCode:
    """Compute the kernel matrix of the rows into a store."""
    session = open_session(options, rows)
    for note in [*session.notes, *idle_settings(session.kernel)]:
        out.line(f"note: {note}")
    count, positions = len(session.images), options.positions
    if positions == "all" and not session.kernel.positions:
        out.line("note: --positions all changes nothing: the output has one position")
    needed = estimate(session.kernel, count, out=options.out, positions=positions)
    out.line(str(needed))
    document = {"out": str(options.out), "estimate": needed.to_dict()}
    if options.dry_run:
        if not needed.fits:
            out.line(f"refused: {needed.shortage}. Try{needed.remedy}", style="red")
            out.document(document)
            return ExitCode.FINE
        with stage("timing the kernel"):
            few = session.images[: tried_images(session.kernel)]
            speed = speed_of(session.kernel, few, positions, whole=count)
        less = "" if not options.out.exists() else f"; less for what {options.out} holds"
        out.line(f"time: {speed.stated(needed.pairs)}{less}")
        if speed.peak is not None:
            out.line(f"TensorFlow and compiled programs beside it: {size_text(speed.peak)}")
        out.document({**document, **speed.to_dict(needed.pairs)})
        return ExitCode.FINE
    needed.require()
    began = time.perf_counter()
    with resumable(options.out), stage(f"{needed.pairs} pairs") as advance:
        compute(
            session.kernel,
            session.images,
            out=options.out,
            executor=options.executor,
            progress=advance,
            positions=positions,
        )
    seconds = time.perf_counter() - began
    fingerprint = GramStore.open(options.out).fingerprint
    out.line(f"wrote {options.out} in {duration_text(seconds)}")
    out.document({**document, "seconds": seconds, "fingerprint": fingerprint})
    return ExitCode.FINE
