"""evaluate, predict and export: a fit's errors, its predictions, and itself as a SavedModel."""

from __future__ import annotations

import argparse
import csv
import io
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras2gp._util.arrays import Array, Images
from keras2gp._util.files import made_folders, write_file
from keras2gp._util.paths import suffix_of
from keras2gp._util.progress import stage
from keras2gp._util.text import duration_text, harmless_cell, size_text
from keras2gp.cli.covariance_cache import CovarianceCache
from keras2gp.cli.exit_codes import ExitCode, UsageError
from keras2gp.cli.output import Output
from keras2gp.cli.predictions import (
    ENDS,
    REGRESSION,
    Estimator,
    load_fit,
    measures_of,
    ood_scores,
    predictions_of,
    repeated_rows,
    require_targets,
)
from keras2gp.cli.rows import Rows, Unlabelled
from keras2gp.cli.session import prepared
from keras2gp.errors import InputError, NumericalError
from keras2gp.fit_record import FitRecord
from keras2gp.gp.process.out_of_distribution import SCORES
from keras2gp.report import positions_text
from keras2gp.serving.export import export as export_fit

__all__ = ["evaluate", "export", "predict", "show_measures"]

_MEASURES = {
    "error_rate": ("error", "{:.2%}"),
    "negative_log_likelihood": ("NLL", "{:.4f} nats"),
    "brier_score": ("Brier", "{:.4f}"),
    "expected_calibration_error": ("ECE", "{:.2%}"),
    "calibration_error_by_chance": ("by chance", "{:.2%}, the ECE if perfectly calibrated"),
    "root_mean_squared_error": ("RMSE", "{:.6g}"),
    "r2": ("R2", "{:.4f}"),
    "mean_std": ("mean std", "{:.6g}"),
    "negative_log_density": ("NLL", "{:.4f} nats, of a target in its unit"),
    "interval_coverage": ("coverage", "{:.2%} of the targets lie in their intervals of 95%"),
}


def evaluate(
    options: argparse.Namespace, rows: tuple[Rows, Unlabelled | None], out: Output
) -> ExitCode:
    """Measure a fit on test rows, and how its scores tell other images from them."""
    test, elsewhere = rows
    estimator = load_fit(options.fit, options.gram)
    require_targets(estimator.kernel, test)
    images, notes = prepared(estimator.kernel, test.x, options.data)
    warnings = list(test.warnings)
    twice = repeated_rows(estimator, images)
    if twice:
        warnings.append(f"{twice} of the {len(images)} test images are training images too")
    warnings += _strange(estimator, images)
    cache = CovarianceCache(options.fit, keep=options.keep)
    if elsewhere is not None:
        strange, changes = prepared(estimator.kernel, elsewhere.x, options.ood, "--ood ")
        elsewhere = Unlabelled(strange, (*elsewhere.notes, *changes))
    cache.require_room(estimator, images, *([] if elsewhere is None else [elsewhere.x]))
    began = time.perf_counter()
    columns = predictions_of(estimator, images, cache)
    measures, bins = measures_of(columns, test.y)
    seconds = time.perf_counter() - began
    ood = None
    if elsewhere is not None:
        ood = _ood_scores(options.ood, estimator, (images, columns), elsewhere, cache)
    document = {
        "fit": str(options.fit),
        "data": {
            "source": options.data,
            "rows": len(images),
            "notes": [*test.notes, *notes, *cache.notes()],
        },
        "warnings": warnings,
        "measures": measures,
        "reliability": bins,
        "ood": ood,
        "kept": cache.state(),
        "seconds": seconds,
    }
    _show_evaluation(out, options.record, document)
    out.document(document)
    return ExitCode.FINE


def _strange(estimator: Estimator, images: Images) -> list[str]:
    """A sentence on images far outside the range of the training images, if there are any."""
    told = "" if estimator.input_range_ is None else estimator.input_range_.warning(images)
    return [told] if told else []


def _ood_scores(
    source: str,
    estimator: Estimator,
    pairs: tuple[Images, dict[str, Array]],
    elsewhere: Unlabelled,
    cache: CovarianceCache,
) -> dict[str, Any]:
    """How well each score tells images from elsewhere from the test images.

    elsewhere: as the kernel takes them
    """
    images, notes = elsewhere.x, list(elsewhere.notes)
    try:
        scores = ood_scores(estimator, pairs, images, cache)
    except (InputError, NumericalError) as error:
        raise type(error)(f"--ood {source}: {error}") from error
    if twice := repeated_rows(estimator, images):
        notes.append(f"{twice} of them are training images, of which the fit is certain")
    return {"source": source, "rows": len(images), "notes": notes} | scores


def _show_evaluation(out: Output, record: FitRecord, document: dict[str, Any]) -> None:
    data, ood = document["data"], document["ood"]
    out.line(f"{document['fit']}: {record.model} fitted to {record.rows} rows of {record.source}")
    out.line(f"{data['rows']} test rows of {data['source']}", style="bold")
    for note in [*data["notes"], *document["warnings"]]:
        out.line(f"  note: {note}")
    show_measures(out, document["measures"], document["seconds"])
    if ood is not None:
        out.line(f"{ood['rows']} images of {ood['source']}, from elsewhere", style="bold")
        for note in ood["notes"]:
            out.line(f"  note: {note}")
        rows = [
            (
                name,
                SCORES[name],
                *(f"{of[k]:.4g}" for k in ("auroc", "mean_of_the_test_rows", "mean")),
            )
            for name, of in ood["scores"].items()
        ]
        header = ("score", "is", "AUROC", "test rows", "elsewhere")
        out.table(header, rows, header[2:])
        out.line("  of each score, larger is stranger; an AUROC of 0.5 is chance")


def show_measures(out: Output, measures: dict[str, float], seconds: float) -> None:
    """Names and figures, with what a figure is."""
    rows = [(_MEASURES[k][0], _MEASURES[k][1].format(value)) for k, value in measures.items()]
    out.pairs([*rows, ("time", duration_text(seconds))])


def predict(options: argparse.Namespace, given: Unlabelled, out: Output) -> ExitCode:
    """Write a fit's predictions of images."""
    estimator = load_fit(options.fit, options.gram)
    positions = estimator.kernel.positions
    if positions and suffix_of(options.out) == ".csv":
        raise UsageError(
            f"--out {options.out}: predictions at {positions_text(positions)} have no rows and "
            "columns. Try: a name that ends in .npz"
        )
    images, changes = prepared(estimator.kernel, given.x, options.data)
    notes = [*given.notes, *changes]
    cache = CovarianceCache(options.fit, keep=options.keep)
    cache.require_room(estimator, images)
    began = time.perf_counter()
    columns = predictions_of(estimator, images, cache)
    seconds = time.perf_counter() - began
    if suffix_of(options.out) == ".csv" and "label" not in columns and columns["mean"].ndim > 1:
        raise UsageError(
            f"--out {options.out}: the fit has {columns['mean'].shape[1]} outputs, and a row of a "
            ".csv file has one. Try: a name that ends in .npz"
        )
    write_predictions(options.out, columns)
    notes += cache.notes()
    notes += _strange(estimator, images)
    for note in notes:
        out.line(f"note: {note}")
    out.line(f"wrote {options.out}: {len(images)} rows in {duration_text(seconds)}")
    out.pairs(columns_text(columns, csv=suffix_of(options.out) == ".csv"))
    out.document(
        {
            "out": str(options.out),
            "rows": len(images),
            "columns": {name: list(values.shape) for name, values in columns.items()},
            "notes": notes,
            "kept": cache.state(),
            "seconds": seconds,
        }
    )
    return ExitCode.FINE


def export(options: argparse.Namespace, _rows: None, out: Output) -> ExitCode:
    """Write the fit of DIR as a SavedModel."""
    estimator = load_fit(options.fit)
    with stage("exporting"):
        export_fit(estimator, options.out, variance=not options.no_variance)
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    out.line(f"wrote {options.out}: {size_text(size)}, images in, predictions out")
    out.document({"out": str(options.out), "bytes": size})
    return ExitCode.FINE


def write_predictions(path: Path, columns: dict[str, Array]) -> None:
    """Write predictions, by the file's ending; the file has its name only once it is complete.

    columns: as predictions_of returns

    Raises: StoreError if the file cannot be written.
    """
    with made_folders(path.parent):
        if suffix_of(path) == ".csv":
            write_file(path, lambda stream: _write_csv(stream, columns))
        else:
            write_file(path, lambda stream: np.savez(stream, allow_pickle=False, **columns))


def columns_text(columns: dict[str, Array], *, csv: bool) -> list[tuple[str, str]]:
    """The columns of a file of predictions, in words: of a .csv file, or the arrays of an .npz."""
    if "label" not in columns:
        described = [
            ("mean, std", "of the function, in the unit of the targets"),
            ("observation_std", "of a new target, which has the noise besides"),
            ("low, high", "between them lie 95% of new targets, if the model is right"),
        ]
        degrees = ("degrees_of_freedom", "of Student's t, which std is of; infinite: a Gaussian")
        return described if csv else [*described, degrees]
    known = [("label", "the predicted class")]
    variance = ("variance", "of the latent function: large for inputs unlike all training inputs")
    if csv:
        first, *_, last = columns["classes"].tolist()
        return [*known, variance, (f"p_{first} ... p_{last}", "probabilities of the classes")]
    return [
        *known,
        ("probability", "of each class, in the order of classes"),
        ("mean", "of the latent function of each class"),
        variance,
    ]


def _write_csv(stream: BinaryIO, columns: dict[str, Array]) -> None:
    if "label" not in columns:
        names = (*REGRESSION, *ENDS)
        header = ["row", *names]
        rows = np.stack([columns[name] for name in names], axis=1).tolist()
    else:
        header = [
            "row",
            "label",
            "variance",
            *(f"p_{name}" for name in columns["classes"].tolist()),
        ]
        values = np.column_stack([columns["variance"], columns["probability"]]).tolist()
        labels = [harmless_cell(label) for label in columns["label"].tolist()]
        rows = [[label, *row] for label, row in zip(labels, values, strict=True)]
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([number, *row] for number, row in enumerate(rows))
    text.detach()  # flushes, and leaves the stream open
