"""gram: a kernel matrix on disk, computed once, resumed after any interruption."""

from __future__ import annotations

import argparse
import time
from typing import Any

from keras2gp.cli import arguments
from keras2gp.cli.commands.convert import check_conversion
from keras2gp.cli.exit_codes import ExitCode, UsageError
from keras2gp.cli.output import Output, seconds_text
from keras2gp.cli.progress import stage
from keras2gp.cli.start import start_tensorflow

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Register `gram` on the subparsers."""
    gram = commands.add_parser(
        "gram",
        help="compute a kernel matrix into a store on disk",
        description="The kernel matrix of the first N training rows of D, in a Zarr store. An "
        "interrupted run goes on where it was; `fit --gram OUT` uses the store.",
        allow_abbrev=False,
    )
    gram.add_argument("model", metavar="KERNEL", help="a saved kernel, or a model as for fit")
    arguments.add_data(gram)
    gram.add_argument(
        "--rows", metavar="N", type=arguments.count, help="training rows of D (default: all)"
    )
    arguments.add_output(gram, "directory of the store, such as K.zarr")
    gram.add_argument(
        "--executor",
        default="auto",
        help="auto, threads, gpus, dask, or the address of a Dask scheduler",
    )
    gram.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on with a store that is there already (default), or refuse it",
    )
    gram.add_argument("--dry-run", action="store_true", help="say what it would take, and stop")
    arguments.add_conversion(gram)
    arguments.add_dtype(gram)
    arguments.add_json(gram)
    gram.set_defaults(check=_check, run=_run)


def _check(options: argparse.Namespace) -> None:
    check_conversion(options, kernels=True)
    arguments.check_data(options.data)
    if options.out.exists() and not options.resume:
        raise UsageError(f"{options.out} exists: leave out --no-resume to go on with it")


def _run(options: argparse.Namespace, out: Output) -> ExitCode:
    from keras2gp.cli.data_argument import image_shape, prepared, read_data  # noqa: PLC0415 (numpy)

    whole = read_data(options.data, download=options.download)
    rows = options.rows or len(whole.x_train)
    data = whole.split(rows, 0)
    start_tensorflow()
    from keras2gp.cli.model_argument import kernel_of, rescales  # noqa: PLC0415 (imports TensorFlow)
    from keras2gp.matrices.api import estimate, gram  # noqa: PLC0415
    from keras2gp.matrices.store import GramStore  # noqa: PLC0415

    kernel = kernel_of(options, image_shape(data.x_train))
    images, notes = prepared(kernel, data.x_train, rescales=rescales(kernel))
    for note in [*whole.notes, *notes]:
        out.line(f"note: {note}")
    needed = estimate(kernel, len(images), out=options.out)
    out.line(str(needed))
    document = {"out": str(options.out), "estimate": needed.to_dict()}
    if options.dry_run:
        out.document(document)
        return ExitCode.FINE
    needed.require()
    began = time.perf_counter()
    with stage(f"{needed.pairs} pairs") as advance:
        gram(kernel, images, out=options.out, executor=options.executor, progress=advance)
    seconds = time.perf_counter() - began
    fingerprint = GramStore.open(options.out).fingerprint
    out.line(f"wrote {options.out} in {seconds_text(seconds)}")
    out.document({**document, "seconds": seconds, "fingerprint": fingerprint})
    return ExitCode.FINE
