"""plot: pictures of what other commands have computed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras2gp.cli import arguments
from keras2gp.cli.commands.convert import check_conversion
from keras2gp.cli.commands.predict import unseen_rows
from keras2gp.cli.exit_codes import ExitCode, UsageError
from keras2gp.cli.fit_directory import FitRecord, read_record
from keras2gp.cli.output import Output
from keras2gp.cli.progress import stage
from keras2gp.cli.start import start_tensorflow
from keras2gp.errors import DataError
from keras2gp.plots.style import SUFFIXES, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["add_commands"]

_LARGEST = 2**26
"""Bytes of a JSON document."""
_ROWS = 500


def add_commands(commands: Any) -> None:
    """Register `plot`, with a subcommand for each kind of picture."""
    plot = commands.add_parser(
        "plot",
        help="draw pictures: PNG or SVG",
        description="Draw a picture. Needs the extra plot (matplotlib).",
        allow_abbrev=False,
    )
    kinds = plot.add_subparsers(metavar="KIND", dest="kind", required=True)

    curve = _kind(kinds, "learning-curve", "test errors by number of training images")
    curve.add_argument(
        "source", metavar="JSON", type=Path, help="table1.json of examples/table1.py"
    )
    curve.set_defaults(check=_check_file, run=_learning_curve)

    wide = _kind(kinds, "convergence", "random networks of growing width, and their limit")
    wide.add_argument("source", metavar="JSON", type=Path, help="what verify --json prints")
    wide.set_defaults(check=_check_file, run=_convergence)

    trials = _kind(kinds, "trials", "the trials of a search")
    trials.add_argument("source", metavar="CSV", type=Path, help="trials.csv of a search")
    trials.add_argument(
        "--score", choices=("validation", "leave-one-out", "evidence"), default="validation"
    )
    trials.set_defaults(check=_check_file, run=_trials)

    for name, text, run in (
        ("reliability", "how honest a fit's probabilities are", _reliability),
        ("images", "the images that a fit is most and least certain of", _images),
    ):
        of_fit = _kind(kinds, name, text)
        of_fit.add_argument("fit", metavar="DIR", type=Path, help="what fit wrote")
        arguments.add_data(of_fit)
        of_fit.add_argument("--test", metavar="N", required=True, type=arguments.count, help="rows")
        of_fit.set_defaults(check=_check_fit, run=run)

    kernel = _kind(kinds, "kernel", "a kernel matrix, its images sorted by class")
    kernel.add_argument(
        "model", metavar="KERNEL", help="a store that gram wrote, a saved kernel, or a model"
    )
    arguments.add_data(kernel)
    kernel.add_argument(
        "--rows", metavar="N", type=arguments.count, default=_ROWS, help=f"(default {_ROWS})"
    )
    arguments.add_conversion(kernel)
    kernel.set_defaults(check=_check_kernel, run=_kernel, dtype=None)


def _kind(kinds: Any, name: str, text: str) -> Any:
    parser = kinds.add_parser(name, help=text, description=f"Draw {text}.", allow_abbrev=False)
    arguments.add_output(parser, "a .png or .svg file; one that is there is replaced")
    arguments.add_json(parser)
    return parser


def _check_out(options: argparse.Namespace) -> None:
    if options.out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {options.out}: expected a name that ends in .png or .svg")
    arguments.check_parent(options.out)
    new_figure(1, 1)  # says at once where matplotlib is missing


def _check_file(options: argparse.Namespace) -> None:
    arguments.check_file(options.source, options.kind)
    _check_out(options)


def _check_fit(options: argparse.Namespace) -> None:
    options.record = read_record(options.fit)
    if options.record.task != "classification":
        raise UsageError(f"{options.fit} is a regression: it has no classes to draw")
    arguments.check_data(options.data)
    _check_out(options)


def _check_kernel(options: argparse.Namespace) -> None:
    options.store = (Path(options.model) / "matrix").is_dir()
    if not options.store:
        check_conversion(options, kernels=True)
    arguments.check_data(options.data)
    _check_out(options)


def _document(path: Path) -> Any:
    if path.stat().st_size > _LARGEST:
        raise DataError(f"{path} is larger than any document that is drawn here")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON document: {error}") from error


def _learning_curve(options: argparse.Namespace, out: Output) -> ExitCode:
    from keras2gp.plots.learning import learning_curve  # noqa: PLC0415 (imports numpy)

    return _finished(learning_curve(_document(options.source)), options, out)


def _convergence(options: argparse.Namespace, out: Output) -> ExitCode:
    from keras2gp.plots.convergence import convergence  # noqa: PLC0415 (imports numpy)

    return _finished(convergence(_document(options.source)), options, out)


def _trials(options: argparse.Namespace, out: Output) -> ExitCode:
    from keras2gp.plots.trials import read_rows, trials  # noqa: PLC0415 (imports numpy)

    return _finished(trials(read_rows(options.source), options.score), options, out)


def _reliability(options: argparse.Namespace, out: Output) -> ExitCode:
    from keras2gp.plots.predictions import reliability  # noqa: PLC0415 (imports numpy)

    _, y, found = _predicted(options)
    from keras2gp.gp import metrics  # noqa: PLC0415 (imports scikit-learn)

    bins = metrics.reliability(y, found["probability"], found["classes"])
    title = f"{options.record.model}, {len(y)} test rows of {options.data}"
    return _finished(reliability(bins, title), options, out)


def _images(options: argparse.Namespace, out: Output) -> ExitCode:
    from keras2gp.plots.predictions import images  # noqa: PLC0415 (imports numpy)

    x, y, found = _predicted(options)
    return _finished(images(x, found["probability"], y, found["classes"]), options, out)


def _predicted(options: argparse.Namespace) -> tuple[Any, Any, dict[str, Any]]:
    """Images and labels as they are stored, and what the fit says of them."""
    from keras2gp.cli.data_argument import prepared, read_data, targets, test_rows  # noqa: PLC0415

    record: FitRecord = options.record
    whole = read_data(options.data, download=options.download)
    data, _ = unseen_rows(whole, record, options)
    x, y = test_rows(data)
    y = targets(y, data.name, regression=False)
    start_tensorflow()
    from keras2gp.cli.model_argument import rescales  # noqa: PLC0415 (imports TensorFlow)
    from keras2gp.cli.posterior import load_fit, predictions  # noqa: PLC0415

    estimator = load_fit(options.fit)
    images, _ = prepared(estimator.kernel, x, rescales=rescales(estimator.kernel))
    return x, y, predictions(estimator, images)


def _kernel(options: argparse.Namespace, out: Output) -> ExitCode:
    import numpy as np  # noqa: PLC0415

    from keras2gp.cli.data_argument import image_shape, prepared, read_data  # noqa: PLC0415
    from keras2gp.plots.matrix import kernel_matrix  # noqa: PLC0415

    whole = read_data(options.data, download=options.download)
    if options.store:
        start_tensorflow()
        from keras2gp.matrices.store import GramStore  # noqa: PLC0415 (imports TensorFlow)

        store = GramStore.open(options.model)
        rows = min(options.rows, *store.shape)
        data = whole.split(rows, 0)
        matrix = store[:rows, :rows]
    else:
        data = whole.split(min(options.rows, len(whole.x_train)), 0)
        start_tensorflow()
        from keras2gp.cli.model_argument import kernel_of, rescales  # noqa: PLC0415

        kernel = kernel_of(options, image_shape(data.x_train))
        images, _ = prepared(kernel, data.x_train, rescales=rescales(kernel))
        with stage("kernel"):
            matrix = kernel.matrix(images)
    title = f"{options.model}, {len(matrix)} rows of {options.data}"
    return _finished(kernel_matrix(np.asarray(matrix), data.y_train, title), options, out)


def _finished(figure: Figure, options: argparse.Namespace, out: Output) -> ExitCode:
    save(figure, options.out)
    out.line(f"wrote {options.out}")
    out.document({"kind": options.kind, "out": str(options.out)})
    return ExitCode.FINE
