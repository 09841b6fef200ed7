"""evaluate and predict: what a fitted model says of images."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras2gp.cli import arguments
from keras2gp.cli.exit_codes import ExitCode, UsageError
from keras2gp.cli.fit_directory import FitRecord, data_digest, identity, read_record
from keras2gp.cli.output import Output, seconds_text
from keras2gp.cli.start import start_tensorflow

if TYPE_CHECKING:
    from keras2gp.data.datasets import Dataset

__all__ = ["add_commands", "unseen_rows"]


def add_commands(commands: Any) -> None:
    """Register `evaluate` and `predict` on the subparsers."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a fitted model's errors",
        description="Measure a fitted model on N test rows of D: the first of its test split, or "
        "the last of its rows if it has none.",
        allow_abbrev=False,
    )
    evaluate.add_argument("fit", metavar="DIR", type=Path, help="what fit wrote")
    arguments.add_data(evaluate)
    evaluate.add_argument("--test", metavar="N", required=True, type=arguments.count, help="rows")
    evaluate.add_argument(
        "--ood",
        metavar="D2",
        help="images that are not of D, of the same shape: how well the variance tells them from "
        "the test rows (AUROC of up to N of them; without it none is measured)",
    )
    _add_gram(evaluate)
    arguments.add_json(evaluate)
    evaluate.set_defaults(check=_check_evaluate, run=_evaluate)

    predict = commands.add_parser(
        "predict",
        help="write a fitted model's predictions",
        description="Write label, probabilities and posterior variance (or mean and standard "
        "deviation) of each image: the test images of D if it has any, otherwise all.",
        allow_abbrev=False,
    )
    predict.add_argument("fit", metavar="DIR", type=Path, help="what fit wrote")
    arguments.add_data(predict, note="; an .npz file needs no y")
    arguments.add_output(predict, "a .csv or .npz file; predictions that it holds are replaced")
    _add_gram(predict)
    arguments.add_json(predict)
    predict.set_defaults(check=_check_predict, run=_predict)


def _add_gram(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gram",
        metavar="K",
        type=Path,
        help="of a fit by conjugate gradients: the store of its kernel matrix, which variances "
        "need; without it the matrix is computed again, in memory",
    )


def _check_gram(options: argparse.Namespace) -> None:
    if options.gram is not None and not (options.gram / "matrix").is_dir():
        raise UsageError(f"--gram {options.gram}: no store of a kernel matrix")


def _check_evaluate(options: argparse.Namespace) -> None:
    options.record = read_record(options.fit)
    _check_gram(options)
    arguments.check_data(options.data)
    if options.ood is not None:
        arguments.check_data(options.ood)
        if identity(options.ood) == identity(options.data):
            raise UsageError(f"--ood {options.ood}: that is the data of --data")


def _evaluate(options: argparse.Namespace, out: Output) -> ExitCode:
    from keras2gp.cli.data_argument import images_only, prepared  # noqa: PLC0415 (imports numpy)

    data, x, y, warnings = _test_rows(options)
    elsewhere = None
    if options.ood is not None:
        elsewhere = images_only(options.ood, download=options.download)[: options.test]
    start_tensorflow()
    from keras2gp.cli.model_argument import rescales  # noqa: PLC0415 (imports TensorFlow)
    from keras2gp.cli.posterior import load_fit, measured, predictions, repeated  # noqa: PLC0415

    estimator = load_fit(options.fit, options.gram)
    images, notes = prepared(estimator.kernel, x, rescales=rescales(estimator.kernel))
    twice = repeated(estimator, images)
    if twice:
        warnings.append(f"{twice} of the {len(images)} test images are training images too")
    began = time.perf_counter()
    found = predictions(estimator, images)
    measures, bins = measured(found, y)
    seconds = time.perf_counter() - began
    ood = None if elsewhere is None else _told_apart(options.ood, estimator, found, elsewhere)
    document = {
        "fit": str(options.fit),
        "data": {"source": options.data, "rows": len(images), "notes": [*data.notes, *notes]},
        "warnings": warnings,
        "measures": measures,
        "reliability": bins,
        "ood": ood,
        "seconds": seconds,
    }
    _show_evaluation(out, options.record, document)
    out.document(document)
    return ExitCode.FINE


def _test_rows(options: argparse.Namespace) -> tuple[Dataset, Any, Any, list[str]]:
    """The data, its test images and targets as they are stored, and what to warn of."""
    from keras2gp.cli.data_argument import read_data, targets, test_rows  # noqa: PLC0415 (imports numpy)

    record: FitRecord = options.record
    whole = read_data(options.data, download=options.download)
    data, warnings = unseen_rows(whole, record, options)
    x, y = test_rows(data)
    return data, x, targets(y, data.name, regression=record.task == "regression"), warnings


def _told_apart(source: str, estimator: Any, found: Any, elsewhere: Any) -> dict[str, Any]:
    """How the variance tells images from elsewhere from those of the predictions `found`."""
    from keras2gp.cli.data_argument import prepared  # noqa: PLC0415 (imports numpy)
    from keras2gp.cli.model_argument import rescales  # noqa: PLC0415 (imports TensorFlow)
    from keras2gp.cli.posterior import outsiders  # noqa: PLC0415

    images, notes = prepared(estimator.kernel, elsewhere, rescales=rescales(estimator.kernel))
    told = {"source": source, "rows": len(images), "notes": notes}
    return told | outsiders(estimator, found, images)


def _show_evaluation(out: Output, record: FitRecord, document: dict[str, Any]) -> None:
    data, ood = document["data"], document["ood"]
    out.line(f"{document['fit']}: {record.model} fitted to {record.rows} rows of {record.source}")
    out.line(f"{data['rows']} test rows of {data['source']}", style="bold")
    for note in [*data["notes"], *document["warnings"]]:
        out.line(f"  note: {note}")
    show_measures(out, document["measures"], document["seconds"])
    if ood is not None:
        out.line(f"{ood['rows']} images of {ood['source']}, from elsewhere", style="bold")
        out.pairs([("AUROC", f"{ood['auroc']:.4f} of the variance; 0.5 is chance")])


def show_measures(out: Output, measures: dict[str, float], seconds: float) -> None:
    """Names and figures, with what a figure is."""
    texts = {
        "error_rate": ("error", "{:.2%}"),
        "negative_log_likelihood": ("NLL", "{:.4f} nats"),
        "brier_score": ("Brier", "{:.4f}"),
        "expected_calibration_error": ("ECE", "{:.2%}"),
        "calibration_error_by_chance": ("by chance", "{:.2%}, the ECE if perfectly calibrated"),
        "root_mean_squared_error": ("RMSE", "{:.6g}"),
        "r2": ("R2", "{:.4f}"),
        "mean_std": ("mean std", "{:.6g}"),
    }
    rows = [(texts[k][0], texts[k][1].format(value)) for k, value in measures.items()]
    out.pairs([*rows, ("time", seconds_text(seconds))])


def unseen_rows(
    whole: Dataset, record: FitRecord, options: argparse.Namespace
) -> tuple[Dataset, list[str]]:
    """The test rows, never those of the fit, and what to warn of.

    Raises: DataError if training and test rows of one source overlap, or there are too few.
    """
    if identity(options.data) != record.identity:
        return whole.split(0, options.test), []
    data = whole.split(record.rows, options.test)
    if data_digest(data.x_train, data.y_train) == record.sha256:
        return data, []
    return data, [f"{options.data} is not what it was: its training rows differ from those fitted"]


def _check_predict(options: argparse.Namespace) -> None:
    options.record = read_record(options.fit)
    _check_gram(options)
    arguments.check_data(options.data)
    out: Path = options.out
    if out.suffix not in (".csv", ".npz"):
        raise UsageError(f"--out {out}: expected a name that ends in .csv or .npz")
    arguments.check_parent(out)
    if out.exists():
        from keras2gp.cli.predictions_file import is_predictions  # noqa: PLC0415 (imports numpy)

        if not is_predictions(out):
            raise UsageError(f"--out {out} exists and holds no predictions: it would be lost")


def _predict(options: argparse.Namespace, out: Output) -> ExitCode:
    from keras2gp.cli.data_argument import images_only, prepared  # noqa: PLC0415 (imports numpy)

    x = images_only(options.data, download=options.download)
    start_tensorflow()
    from keras2gp.cli.model_argument import rescales  # noqa: PLC0415 (imports TensorFlow)
    from keras2gp.cli.posterior import load_fit, predictions  # noqa: PLC0415
    from keras2gp.cli.predictions_file import write_predictions  # noqa: PLC0415

    estimator = load_fit(options.fit, options.gram)
    images, notes = prepared(estimator.kernel, x, rescales=rescales(estimator.kernel))
    began = time.perf_counter()
    columns = predictions(estimator, images)
    seconds = time.perf_counter() - began
    write_predictions(options.out, columns)
    for note in notes:
        out.line(f"note: {note}")
    out.line(f"wrote {options.out}: {len(images)} rows in {seconds_text(seconds)}")
    out.document(
        {
            "out": str(options.out),
            "rows": len(images),
            "columns": {name: list(values.shape) for name, values in columns.items()},
            "notes": notes,
            "seconds": seconds,
        }
    )
    return ExitCode.FINE
