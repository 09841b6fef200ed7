"""fit: a Gaussian process for a model and data, on disk."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras2gp._util.files import staged_directory
from keras2gp.cli import arguments
from keras2gp.cli.commands.convert import check_conversion
from keras2gp.cli.exit_codes import ExitCode, UsageError
from keras2gp.cli.fit_directory import RECORD, FitRecord, data_digest, identity
from keras2gp.cli.output import Output, seconds_text
from keras2gp.cli.progress import stage
from keras2gp.cli.solver_options import add_choice, check_choice, solver_of, solver_text
from keras2gp.cli.start import start_tensorflow
from keras2gp.cli.view import show_report
from keras2gp.errors import DataError

if TYPE_CHECKING:
    from keras2gp.data.datasets import Dataset
    from keras2gp.kernel.kernel import Kernel

__all__ = ["add_commands", "fitted", "show_fit"]

_MODEL = "a .keras or .json file, zoo:convnet, zoo:residual-cnn, zoo:resnet32, or a saved kernel"


def add_commands(commands: Any) -> None:
    """Register `fit` on the subparsers."""
    fit = commands.add_parser(
        "fit",
        help="fit a model's Gaussian process to data",
        description="Fit a model's Gaussian process to the first N training rows of D.",
        allow_abbrev=False,
    )
    fit.add_argument("model", metavar="MODEL", help=_MODEL)
    arguments.add_data(fit)
    fit.add_argument("--train", metavar="N", required=True, type=arguments.count, help="rows")
    fit.add_argument(
        "--gram",
        metavar="K",
        type=Path,
        help="store of the kernel matrix (see gram); what it lacks is computed into it",
    )
    arguments.add_output(fit, "directory; a fitted model that it holds is replaced at the end")
    arguments.add_conversion(fit)
    arguments.add_dtype(fit)
    add_solver(fit)
    fit.add_argument("--regression", action="store_true", help="y is a real number, not a label")
    arguments.add_json(fit)
    fit.set_defaults(check=_check_fit, run=_fit)


def add_solver(parser: argparse.ArgumentParser) -> None:
    """How the linear system is solved."""
    group = parser.add_argument_group("solver")
    group.add_argument(
        "--noise-variance",
        metavar="V",
        type=arguments.variance,
        default=0.0,
        help="of the targets, which are -1 and 1; of a regression's, scaled to variance 1 "
        "(default 0)",
    )
    group.add_argument(
        "--jitter",
        metavar="J",
        type=arguments.jitter,
        default="auto",
        help="added to the diagonal, relative to its mean; auto: only if needed (default)",
    )
    add_choice(group)
    parser.add_argument(
        "--probabilities",
        choices=("temperature", "largest", "dirichlet"),
        help="of a classification: softmax of the mean, its temperature set by leave-one-out "
        "predictions (default); of each class's latent value being the largest; or of a regression "
        "on the logarithms of Dirichlet variables, which sets the labels too",
    )


def fitted(kernel: Kernel, x: Any, y: Any, options: argparse.Namespace) -> tuple[Any, Any]:
    """A fitted estimator, and what the fit took, as data for JSON.

    options: `regression`, `probabilities`, `gram`, and those of `add_solver`
    Raises: InputError, NumericalError, StoreError.
    """
    from keras2gp.gp.classifier import GPClassifier  # noqa: PLC0415 (imports scikit-learn)
    from keras2gp.gp.regressor import GPRegressor  # noqa: PLC0415

    timed = _Timed(kernel)
    kind = GPRegressor if options.regression else GPClassifier
    settings = {
        "noise_variance": options.noise_variance,
        "jitter": options.jitter,
        "solver": solver_of(options),
    }
    if options.regression:
        settings["normalize_y"] = True
    elif options.probabilities is not None:
        settings["probabilities"] = options.probabilities
    estimator = kind(timed, **settings)
    began = time.perf_counter()
    matrix = None if options.gram is None else timed.stored(x, options.gram)
    with stage(f"kernel and solve, {len(x)} images") as advance:
        estimator.fit(x, y, gram=matrix, progress=advance)
    total = time.perf_counter() - began
    estimator.kernel = kernel
    report = estimator.jitter_report_
    dirichlet = getattr(estimator, "dirichlet_", None)
    facts = {
        "rows": len(x),
        "kernel_seconds": timed.seconds,
        "solve_seconds": total - timed.seconds,
        "solver": asdict(estimator.solver_report_),
        "log_marginal_likelihood": estimator.log_marginal_likelihood_value_,
        "noise_variance": options.noise_variance,
        "jitter": report.jitter,
        "jitter_steps": [asdict(step) for step in report.steps],
        "smallest_pivot": report.smallest_pivot,
        "equal_rows": report.duplicate,
        "temperature": getattr(estimator, "temperature_", None),
        "dirichlet": None if dirichlet is None else asdict(dirichlet.transformation),
    }
    return estimator, facts


def show_fit(out: Output, facts: Any) -> None:
    """The times of a fit, and what had to be done to solve it."""
    pairs = facts["rows"] * (facts["rows"] + 1) / 2
    rate = pairs / max(facts["kernel_seconds"], 1e-9)
    kernel = f"{seconds_text(facts['kernel_seconds'])}, {_grouped(rate)} pairs/s with compilation"
    out.pairs(
        [
            ("kernel", kernel),
            ("solve", f"{solver_text(facts)}, {_jitter_text(facts)}"),
            ("evidence", _evidence_text(facts)),
        ]
    )
    if facts["temperature"] is not None:
        text = f"softmax of the mean / {facts['temperature']:.4g}, by leave-one-out"
        out.pairs([("probabilities", text)])
    if facts["dirichlet"] is not None:
        text = "Dirichlet, of concentration {concentration:.3g} and scale {scale:.4g}"
        out.pairs([("probabilities", text.format(**facts["dirichlet"]))])
    if facts["equal_rows"] is not None:
        first, second = facts["equal_rows"]
        out.line(f"  note: training rows {first} and {second} agree to five digits")


class _Timed:
    """A kernel with a stopwatch."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.dtype = kernel.dtype
        self.seconds = 0.0

    def __call__(self, x1: Any, x2: Any = None, /) -> Any:
        began = time.perf_counter()
        matrix = self._kernel.matrix(x1, x2)
        self.seconds += time.perf_counter() - began
        return matrix

    def stored(self, x: Any, path: Path) -> Any:
        """The matrix in a store, computed as far as it lacks; it is read as the solver needs it."""
        from keras2gp.matrices.api import gram  # noqa: PLC0415 (imports TensorFlow)

        began = time.perf_counter()
        with stage(f"kernel, {len(x)} images") as advance:
            store = gram(self._kernel, x, out=path, progress=advance)
        self.seconds += time.perf_counter() - began
        return store

    def diag(self, x: Any, /) -> Any:
        return self._kernel.diag(x)


def _check_fit(options: argparse.Namespace) -> None:
    if options.regression and options.probabilities is not None:
        raise UsageError("--probabilities: a regression has none")
    check_conversion(options, kernels=True)
    arguments.check_data(options.data)
    arguments.check_directory(options.out, RECORD, "a fitted model")
    check_choice(options)


def _fit(options: argparse.Namespace, out: Output) -> ExitCode:
    from keras2gp.cli.data_argument import (  # noqa: PLC0415 (imports numpy)
        image_shape,
        prepared,
        read_data,
        targets,
    )

    whole = read_data(options.data, download=options.download)
    held = len(whole.x_train)
    if held < options.train:
        raise DataError(f"{whole.name}: --train {options.train}: it has {held} rows to train on")
    data = whole.split(options.train, 0)
    y = targets(data.y_train, data.name, regression=options.regression)
    start_tensorflow()
    from keras2gp.cli.model_argument import kernel_of, rescales  # noqa: PLC0415 (imports TensorFlow)

    kernel = kernel_of(options, image_shape(data.x_train))
    show_report(out, kernel.report, folded=True)
    images, notes = prepared(kernel, data.x_train, rescales=rescales(kernel))
    notes = [*whole.notes, *notes]
    if options.regression:
        notes.append("targets shifted and scaled to mean 0 and variance 1")
    out.line(f"\n{options.train} rows of {data.name}", style="bold")
    for note in notes:
        out.line(f"  note: {note}")
    estimator, facts = fitted(kernel, images, y, options)
    show_fit(out, facts)
    record = _record(options, data)
    _save(options.out, kernel, estimator, record)
    out.line(f"wrote {options.out}")
    out.document(
        {
            "out": str(options.out),
            "data": {**asdict(record), "notes": notes},
            "fit": facts,
            "conversion": kernel.report.to_dict(),
        }
    )
    return ExitCode.FINE


def _record(options: argparse.Namespace, data: Dataset) -> FitRecord:
    return FitRecord(
        task="regression" if options.regression else "classification",
        model=options.model,
        source=options.data,
        identity=identity(options.data),
        rows=options.train,
        sha256=data_digest(data.x_train, data.y_train),
    )


def _save(out: Path, kernel: Kernel, estimator: Any, record: FitRecord) -> None:
    from keras2gp.gp.saving import save_head  # noqa: PLC0415 (imports scikit-learn)

    with stage("saving"), staged_directory(out) as directory:
        kernel.save(directory / "kernel")
        save_head(estimator, directory / "head")
        record.write(directory)


def _jitter_text(facts: Any) -> str:
    if not facts["jitter"]:
        return "no jitter needed" if len(facts["jitter_steps"]) == 1 else "no jitter"
    tries = len(facts["jitter_steps"])
    return f"jitter {facts['jitter']:g} of the mean diagonal" + (
        f" (singular without; {tries} attempts)" if tries > 1 else ""
    )


def _evidence_text(facts: Any) -> str:
    value, error = facts["log_marginal_likelihood"], facts["solver"]["evidence_error"]
    if math.isnan(value):
        return "not known: conjugate gradients give no determinant without --probes"
    if error is None:
        return f"log p(y | x) = {value:.6g}"
    return f"log p(y | x) ~ {value:.6g}, an estimate with the standard error {error:.2g}"


def _grouped(number: float) -> str:
    return f"{number:,.0f}".replace(",", " ")
