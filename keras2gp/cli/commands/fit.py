"""fit: a Gaussian process for a model and data, on disk."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Images, InputsLike, Targets
from keras2gp._util.memory import available_memory, require_disk
from keras2gp._util.progress import stage
from keras2gp._util.text import size_text
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.fit_plan import plan_fit, plan_lines
from keras2gp.cli.fit_text import show_fit
from keras2gp.cli.output import Output, show_report
from keras2gp.cli.predictions import Estimator, require_targets
from keras2gp.cli.rows import Rows
from keras2gp.cli.session import Session, open_session
from keras2gp.cli.tables import dominant_column
from keras2gp.errors import InputError, Keras2GPError, NumericalError, StoreError
from keras2gp.fit_record import FitRecord, data_digest, identity
from keras2gp.gp.arguments.kernel_function import KernelLike
from keras2gp.gp.arguments.labels import check_labels
from keras2gp.gp.classification.classifier import UNUSED_MEAN, GPClassifier
from keras2gp.gp.noise.curve import NoiseCurve
from keras2gp.gp.process.fit_files import save_fit
from keras2gp.gp.regression.regressor import GPRegressor
from keras2gp.gp.solvers.fitc import Nystroem
from keras2gp.gp.solvers.iterative import ConjugateGradients
from keras2gp.gp.solvers.projected import ProjectedProcess
from keras2gp.kernel.kernel import Kernel
from keras2gp.kernel.positions import Positions
from keras2gp.matrices.api import gram

__all__ = ["fit", "fitted"]


def fit(options: argparse.Namespace, rows: Rows, out: Output) -> ExitCode:
    """Fit a Gaussian process to the rows, and write it."""
    session = open_session(options, rows)
    kernel, notes = session.kernel, session.notes
    require_targets(kernel, rows)
    show_report(out, kernel.report, folded=True)
    if options.regression:
        less = "" if kernel.mean is None else ", less the mean of the process,"
        notes.append(f"targets{less} shifted and scaled to mean 0 and variance 1")
    elif kernel.mean is not None:
        notes.append(UNUSED_MEAN.partition(" Try: ")[0].rstrip("."))
    if getattr(kernel, "preprocessor", None) is None:
        notes += dominant_column(session.images, rows.x.dtype.names or ())
    out.line(f"\n{options.train} rows of {rows.name}", style="bold")
    for note in [*notes, *rows.warnings]:
        out.line(f"  note: {note}")
    size = _smallest_size(session.images, rows.y, math.prod(kernel.positions), options)
    require_disk(
        options.out,
        size,
        f"a fit of {options.train} rows",
        "another --out, or fewer rows",
    )
    if options.dry_run:
        _show_plan(session, rows, size, options, out)
        return ExitCode.FINE
    estimator, facts = fitted(kernel, session.images, rows.y, options)
    show_fit(out, facts)
    record = FitRecord(
        task="regression" if options.regression else "classification",
        model=options.model,
        source=options.data,
        identity=identity(options.data),
        rows=options.train,
        sha256=data_digest(rows.x, rows.y),
        shuffle=options.shuffle,
        target=options.target,
    )
    _save_or_rescue(options.out, estimator, record)
    out.line(f"wrote {options.out}")
    out.document(
        {
            "out": str(options.out),
            "data": {**asdict(record), "notes": notes},
            "warnings": rows.warnings,
            "fit": facts,
            "conversion": kernel.report.to_dict(),
        }
    )
    return ExitCode.FINE


def _show_plan(
    session: Session,
    rows: Rows,
    size: int,
    options: argparse.Namespace,
    out: Output,
) -> None:
    """Say what a fit would take. Raises: InputError if it cannot be made."""
    labels = None if options.regression else check_labels(rows.y.reshape(-1))
    classes = 1 if labels is None else len(np.unique(labels))
    if labels is not None and classes < 2:
        raise InputError(f"{rows.name}: y holds one class: a classifier needs at least two")
    plan = plan_fit(session.kernel, session.images, classes, _solver(options), options)
    out.pairs(
        [*plan_lines(plan, options), ("disk", f"{size_text(size)} or more, in {options.out}")]
    )
    out.line("dry run: nothing is written")
    data = {"source": options.data, "rows": len(session.images), "notes": session.notes}
    out.document(
        {
            "out": str(options.out),
            "data": data,
            "warnings": rows.warnings,
            "plan": {**plan, "disk": size},
            "conversion": session.kernel.report.to_dict(),
        }
    )


def fitted(
    kernel: Kernel, x: Images, y: Targets, options: argparse.Namespace
) -> tuple[GPClassifier | GPRegressor, dict[str, Any]]:
    """A fitted estimator, and what the fit took, as data for JSON.

    options: `regression`, `probabilities`, `gram`, and those of arguments.add_solver

    Raises: InputError, NumericalError, StoreError.
    """
    timed = _TimedKernel(kernel)
    estimator = _estimator(timed, options)
    began = time.perf_counter()
    matrix = None
    if options.gram is not None:
        matrix = timed.stored(x, options.gram, _inducing(estimator.solver, kernel, x))
    with stage(f"kernel and solve, {len(x)} images") as advance:
        estimator.fit(x, y, gram=matrix, progress=advance)
    total = time.perf_counter() - began
    estimator.kernel = kernel
    report = estimator.jitter_report_
    dirichlet, curve = getattr(estimator, "dirichlet_", None), estimator.noise_curve_
    linear = getattr(estimator, "linear_map_", None)
    facts = {
        "rows": len(x),
        "kernel_seconds": timed.seconds,
        "solve_seconds": total - timed.seconds,
        "solver": asdict(estimator.solver_report_),
        "log_marginal_likelihood": estimator.log_marginal_likelihood_value_,
        "noise_variance": estimator.noise_variance_,
        "noise_std": _noise_std(estimator),
        "noise_curve": curve.state() if isinstance(curve, NoiseCurve) else None,
        "intercept": getattr(estimator, "intercept_", 0.0),
        "intercept_stated": getattr(estimator, "intercept", "auto") != "auto",
        "noise_note": estimator.noise_warning() or None,
        "scale": np.atleast_1d(estimator.scale_).tolist(),
        "degrees_of_freedom": _degrees(estimator),
        "jitter": report.jitter,
        "jitter_steps": [asdict(step) for step in report.steps],
        "smallest_pivot": report.smallest_pivot,
        "equal_rows": report.duplicate,
        "temperature": getattr(estimator, "temperature_", None),
        "linear_map": None if linear is None else linear.state()[0],
        "dirichlet": None if dirichlet is None else asdict(dirichlet.transformation),
    }
    return estimator, facts


def _degrees(estimator: GPClassifier | GPRegressor) -> float | None:
    """Degrees of freedom of the predictions of a regression; None where they are Gaussian."""
    degrees = getattr(estimator, "degrees_of_freedom_", math.inf)
    return degrees if math.isfinite(degrees) else None


def _noise_std(estimator: GPClassifier | GPRegressor) -> float | None:
    """The noise of one real target in its unit; None for classes and several outputs."""
    if not isinstance(estimator, GPRegressor) or not estimator.single_output_:
        return None
    try:
        return float(estimator.noise_std_)
    except NumericalError:  # beyond float64 in the unit of the targets: no reason to lose a fit
        return None


def _estimator(kernel: KernelLike, options: argparse.Namespace) -> GPClassifier | GPRegressor:
    """The estimator that the options ask for, not fitted yet."""
    settings = {
        "noise_variance": options.noise_variance,
        "jitter": options.jitter,
        "solver": _solver(options),
    }
    if options.regression:
        return GPRegressor(kernel, normalize_y=True, **settings)
    stated = ((name, getattr(options, name)) for name in ("probabilities", "intercept"))
    settings |= {name: value for name, value in stated if value is not None}
    return GPClassifier(kernel, **settings)


def _solver(options: argparse.Namespace) -> Any:
    if options.solver == "cg":
        tolerance = {} if options.residual is None else {"tolerance": options.residual}
        return ConjugateGradients(rank=options.rank, probes=options.probes or 0, **tolerance)
    if options.solver == "nystroem":
        return Nystroem(rank=options.rank)
    if options.solver == "projected":
        return ProjectedProcess(rank=options.rank)
    return options.solver


def _inducing(solver: Any, kernel: Kernel, x: Images) -> Images | None:
    """The images of the columns of a store for this solver; None for those of its rows.

    Raises: InputError where the columns are images at positions.
    """
    if not isinstance(solver, ProjectedProcess):
        return None
    if kernel.positions:
        raise InputError(
            f"--gram with --solver projected: the kernel has positions {kernel.positions}, and a "
            "store has all positions of an image, not of some. Try: without --gram, or --position"
        )
    columns: Images = x[solver.rows(len(x))]
    return columns


class _TimedKernel:
    """A kernel with a stopwatch."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.dtype, self.inputs = kernel.dtype, kernel.inputs
        self.positions, self.mean = kernel.positions, kernel.mean
        self.seconds = 0.0

    def __call__(
        self, x1: InputsLike, x2: InputsLike = None, /, *, positions: Positions = "equal"
    ) -> Array:
        began = time.perf_counter()
        matrix = self._kernel.matrix(x1, x2, positions=positions)
        self.seconds += time.perf_counter() - began
        return matrix

    def stored(self, x: Images, path: Path, columns: Images | None) -> Any:
        """The matrix in a store, computed as far as it lacks; it is read as the solver needs it.

        columns: the images of its columns; None for those of its rows
        """
        began = time.perf_counter()
        with stage(f"kernel, {len(x)} images") as advance:
            store = gram(self._kernel, x, columns, path, progress=advance, positions="all")
        self.seconds += time.perf_counter() - began
        return store

    def diag(self, x: InputsLike, /) -> Any:
        return self._kernel.diag(x)


def _smallest_size(x: Images, y: Targets, positions: int, options: argparse.Namespace) -> int:
    """A lower bound on the bytes of a fit on disk: its images, targets, weights and factor."""
    count, outputs = len(x) * positions, 1 if options.regression else len(np.unique(y))
    factor = (2 if options.solver == "mixed" else 4) * count * (count + 1)
    available = available_memory()
    # Conjugate gradients and inducing images keep no factor; "auto" may choose the first.
    stored = options.gram is not None or (available is not None and factor > available)
    if options.solver in ("cg", "nystroem", "projected") or (options.solver == "auto" and stored):
        factor = 0
    return int(x.nbytes) + 16 * count * outputs + factor


def _save_or_rescue(out: Path, estimator: Estimator, record: FitRecord) -> None:
    """Save a fit; in another place if OUT cannot be written, so that no hours are lost.

    Raises: StoreError, which names the other place.
    """
    try:
        _save(out, estimator, record)
    except (OSError, Keras2GPError, tf.errors.OpError) as error:
        name = f"{out.absolute().name}-rescued-{os.getpid()}"
        for folder in (out.absolute().parent, Path(tempfile.gettempdir())):
            with suppress(OSError, Keras2GPError, tf.errors.OpError):
                _save(folder / name, estimator, record)
                break
        else:
            if isinstance(error, Keras2GPError):
                raise
            raise StoreError(f"{out} cannot be written: {error}") from error
        raise StoreError(f"{error}. The fit is saved in {folder / name} instead") from error


def _save(out: Path, estimator: Estimator, record: FitRecord) -> None:
    with stage("saving"):
        save_fit(estimator, out, record)
