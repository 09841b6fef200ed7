"""search and tune: hyperparameters by random search, and by ascent of the evidence."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.files import write_new_file
from keras2gp._util.progress import stage
from keras2gp._util.text import duration_text
from keras2gp.cli.destinations import is_picture
from keras2gp.cli.exit_codes import ExitCode
from keras2gp.cli.output import Output
from keras2gp.cli.rows import Rows
from keras2gp.cli.session import idle_settings, image_shape, open_session, resumable
from keras2gp.cli.tables import unprepared
from keras2gp.conversion.overrides import overrides_template
from keras2gp.data.images import prepare_images
from keras2gp.graph.variances import LayerVariances
from keras2gp.plots.style import save
from keras2gp.plots.trials import read_rows, trials
from keras2gp.search.ascent import OptimizedVariances, optimize_variances
from keras2gp.search.random_search import SearchResult, Split, random_search
from keras2gp.search.spaces import Space, space_of

__all__ = ["search", "tune"]

_SHOWN = 10
"""Trials of the table that a search prints."""


def search(options: argparse.Namespace, rows: Rows, out: Output) -> ExitCode:
    """Draw networks, fit each, and keep the best."""
    with redirect_stdout(sys.stderr):  # a user's own code prints what it likes
        return _search(options, rows, out)


def _search(options: argparse.Namespace, rows: Rows, out: Output) -> ExitCode:
    x = unprepared(rows.x, options.data)
    shape = image_shape(x)
    images, notes = prepare_images(x, model_rescales=False, sample_shape=shape)
    space = space_of(options.space, shape, len(np.unique(rows.y)))
    if options.dry_run:
        return _show_draws(space, options, out)
    for note in [*rows.notes, *notes]:
        out.line(f"note: {note}")
    train = Split(images[: options.train], rows.y[: options.train])
    held_out = Split(images[options.train :], rows.y[options.train :])
    with resumable(options.out), stage(f"{options.samples} trials") as advance:
        result = random_search(
            space,
            train,
            held_out if options.validation else None,
            samples=options.samples,
            out=options.out,
            score=options.score,
            seed=options.seed,
            noise_variance=options.noise_variance,
            dtype=options.dtype or "float32",
            progress=advance,
        )
    _show_search(out, options, result)
    return ExitCode.FINE if result.best is not None else ExitCode.NUMERICAL


def _show_draws(space: Space, options: argparse.Namespace, out: Output) -> ExitCode:
    draws = [space.draw(options.seed, number) for number in range(options.samples)]
    header = ["trial", *space.distributions]
    rows = [[str(number), *map(_cell, draw.values())] for number, draw in enumerate(draws)]
    out.table(header, rows, header)
    out.document({"space": space.name, "seed": options.seed, "draws": draws})
    return ExitCode.FINE


def _show_search(out: Output, options: argparse.Namespace, result: SearchResult) -> None:
    _show_ranking(out, options.score, result)
    failed = [trial for trial in result.trials if trial.status != "fine"]
    if failed:
        out.line(f"{len(failed)} of {len(result.trials)} trials failed; the first: trial "
                 f"{failed[0].trial}, {failed[0].reason}")  # fmt: skip
    picture = None
    if result.best is not None:
        out.line(f"wrote {options.out}: trials.csv, best.keras and best.json, trial "
                 f"{result.best.trial}", style="bold green")  # fmt: skip
        picture = _picture(options.out, options.score)
    if picture is not None:
        out.line(f"wrote {picture}")
    out.document(
        {
            "out": str(options.out),
            "score": options.score,
            "best": None if result.best is None else asdict(result.best),
            "trials": [asdict(trial) for trial in result.trials],
            "picture": None if picture is None else str(picture),
        }
    )


def _show_ranking(out: Output, score: str, result: SearchResult) -> None:
    """The best trials, and their settings."""
    losses = [(loss, trial) for trial in result.trials if (loss := trial.loss(score)) is not None]
    ranked = [trial for _, trial in sorted(losses, key=lambda pair: pair[0])]
    measures = ("validation_error", "leave_one_out_error", "log_marginal_likelihood")
    texts = ("{:.2%}", "{:.2%}", "{:.6g}")
    header = ["trial", "validation", "leave-one-out", "evidence"]
    header += list(ranked[0].settings) if ranked else []
    rows = []
    for trial in ranked[:_SHOWN]:
        values = [getattr(trial, name) for name in measures]
        cells = ["" if v is None else text.format(v) for v, text in zip(values, texts, strict=True)]
        rows.append([str(trial.trial), *cells, *map(_cell, trial.settings.values())])
    out.table(header, rows, header)


def _picture(directory: Path, score: str) -> Path | None:
    """OUT/trials.png where matplotlib is installed."""
    if find_spec("matplotlib") is None:
        return None
    path = directory / "trials.png"
    if path.exists() and not is_picture(path):
        return None
    save(trials(read_rows(directory / "trials.csv"), score), path)
    return path


def tune(options: argparse.Namespace, rows: Rows, out: Output) -> ExitCode:
    """Ascend the evidence of the rows in a model's variances, and write them."""
    session = open_session(options, rows)
    for note in [*session.notes, *idle_settings(session.kernel)]:
        out.line(f"note: {note}")
    began = time.perf_counter()
    with stage(f"ascending, at most {options.steps} steps") as advance:
        optimum = optimize_variances(
            session.kernel,
            session.images,
            rows.y,
            noise_variance=options.noise_variance,
            steps=options.steps,
            progress=advance,
        )
    seconds = time.perf_counter() - began
    _show_optimum(out, session.kernel.parameters, optimum, seconds)
    write_new_file(options.out, overrides_template(optimum.kernel.parameters))
    out.line(f"wrote {options.out}, for --overrides")
    out.document({"out": str(options.out), **_optimum_data(optimum), "seconds": seconds})
    return ExitCode.FINE


def _show_optimum(
    out: Output,
    before: Mapping[str, LayerVariances],
    optimum: OptimizedVariances,
    seconds: float,
) -> None:
    """Each layer's variances before and after, and what the ascent gained."""
    header = ["layer", "w2 before", "w2", "b2 before", "b2"]
    rows = [
        [layer, *map(_cell, (before[layer].weight, new.weight, before[layer].bias, new.bias))]
        for layer, new in optimum.kernel.parameters.items()
    ]
    out.table(header, rows, header[1:])
    start = optimum.trace[0].evidence
    ascent = f"{len(optimum.trace)} evaluations in {duration_text(seconds)}; {optimum.message}"
    out.pairs(
        [
            ("evidence", f"log p(y | x) = {start:.6g} before, {optimum.evidence:.6g} now"),
            ("noise", f"--noise-variance {optimum.noise_variance:.6g}"),
            ("ascent", ascent),
        ]
    )


def _optimum_data(optimum: OptimizedVariances) -> dict[str, Any]:
    """The result of an ascent as data for JSON."""
    return {
        "evidence": optimum.evidence,
        "noise_variance": optimum.noise_variance,
        "parameters": {k: asdict(v) for k, v in optimum.kernel.parameters.items()},
        "trace": [
            {
                "evidence": step.evidence,
                "noise_variance": step.noise_variance,
                "parameters": {k: asdict(v) for k, v in step.parameters.items()},
                "reason": step.reason,
            }
            for step in optimum.trace
        ],
        "message": optimum.message,
    }


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
