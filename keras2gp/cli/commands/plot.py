"""plot: pictures of a fit's predictions and of a kernel matrix."""

from __future__ import annotations

import argparse

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.progress import stage
from keras2gp.cli.arguments import ROWS_PLOTTED
from keras2gp.cli.commands.plot_document import save_picture
from keras2gp.cli.covariance_cache import CovarianceCache
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.output import Output
from keras2gp.cli.predictions import as_classes, load_fit, predictions_of
from keras2gp.cli.rows import Rows
from keras2gp.cli.session import idle_settings, open_session, prepared
from keras2gp.errors import DataError, InputError
from keras2gp.gp import metrics
from keras2gp.matrices.store import GramStore
from keras2gp.plots import predictions as pictures
from keras2gp.plots.matrix import kernel_matrix
from keras2gp.report import positions_text

__all__ = ["images", "kernel", "reliability"]


def reliability(options: argparse.Namespace, rows: Rows, out: Output) -> ExitCode:
    """Draw how honest a fit's probabilities are."""
    columns = _predictions(options, rows)
    y = as_classes(rows.y, columns["classes"])
    bins = metrics.reliability(y, columns["probability"], columns["classes"])
    title = f"{options.record.model}, {len(rows.y)} test rows of {options.data}"
    return save_picture(pictures.reliability(bins, title), options, out)


def images(options: argparse.Namespace, rows: Rows, out: Output) -> ExitCode:
    """Draw the images that a fit is most and least certain of."""
    columns = _predictions(options, rows)
    y = as_classes(rows.y, columns["classes"])
    figure = pictures.images(rows.x, columns["probability"], y, columns["classes"])
    return save_picture(figure, options, out)


def _predictions(options: argparse.Namespace, rows: Rows) -> dict[str, Array]:
    estimator = load_fit(options.fit)
    if estimator.kernel.positions:
        raise InputError(
            f"{options.fit} is of labels at {positions_text(estimator.kernel.positions)}, and the "
            "picture is of one label an image"
        )
    x, _ = prepared(estimator.kernel, rows.x, options.data)
    cache = CovarianceCache(options.fit, keep=options.keep)
    cache.require_room(estimator, x)
    return predictions_of(estimator, x, cache)


def kernel(options: argparse.Namespace, rows: Rows, out: Output) -> ExitCode:
    """Draw a kernel matrix, its images sorted by class."""
    if options.store:
        store = GramStore.open(options.model)
        if store.ndim != 2:
            raise InputError(
                f"{options.model} holds a map for each pair of images, and the picture is of one "
                "matrix. Try: keras2gp gram with --position"
            )
        count = options.rows or min(ROWS_PLOTTED, *store.shape)
        if count > min(store.shape):
            raise DataError(
                f"--rows {count}: {options.model} is of {' x '.join(map(str, store.shape))} entries"
            )
        if count > len(rows.y):
            raise DataError(
                f"{rows.name}: {count} rows of the matrix were asked for; it has {len(rows.y)}"
            )
        matrix = store[:count, :count]
    else:
        session = open_session(options, rows)
        for note in [*session.notes, *idle_settings(session.kernel)]:
            out.line(f"note: {note}")
        if positions := session.kernel.positions:
            raise InputError(
                f"the kernel is of {positions_text(positions)}, and the picture is of one matrix. "
                "Try: keras2gp convert with --position, and the kernel that it saves"
            )
        with stage("kernel"):
            matrix = session.kernel.matrix(session.images)
    title = f"{options.model}, {len(matrix)} rows of {options.data}"
    figure = kernel_matrix(np.asarray(matrix), rows.y[: len(matrix)], title)
    return save_picture(figure, options, out)
