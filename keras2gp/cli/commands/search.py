"""search and tune: hyperparameters by random search, and by ascent of the evidence."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keras2gp.cli import arguments
from keras2gp.cli.commands.convert import check_conversion
from keras2gp.cli.exit_codes import ExitCode, UsageError
from keras2gp.cli.output import Output, seconds_text
from keras2gp.cli.progress import stage
from keras2gp.cli.start import start_tensorflow
from keras2gp.conversion.overrides import overrides_template
from keras2gp.errors import DataError

__all__ = ["add_commands"]

_SHOWN = 10
_MODEL = "a .keras or .json file, zoo:convnet, zoo:residual-cnn, zoo:resnet32, or a saved kernel"


def add_commands(commands: Any) -> None:
    """Register `search` and `tune` on the subparsers."""
    search = commands.add_parser(
        "search",
        help="random search over architectures",
        description="Draw M networks, fit each to the first N training rows of D, and keep the "
        "best. An interrupted search goes on where it was; every trial is a row of "
        "OUT/trials.csv, the best network is OUT/best.keras.",
        allow_abbrev=False,
    )
    search.add_argument(
        "space",
        metavar="SPACE",
        help="paper, its hyperparameters; or path.py:function, your own code, which is run: a "
        "function from a dict of settings to a Keras model, and a dict SPACE of distributions",
    )
    arguments.add_data(search)
    search.add_argument("--train", metavar="N", required=True, type=arguments.count, help="rows")
    search.add_argument(
        "--validation",
        metavar="V",
        type=arguments.count,
        help="rows after those to train on (default N / 5; none for another --score)",
    )
    search.add_argument(
        "--samples", metavar="M", required=True, type=arguments.count, help="networks in all"
    )
    search.add_argument(
        "--score",
        choices=("validation", "leave-one-out", "evidence"),
        default="validation",
        help="what the best is: least error (default), also in closed form on the training rows "
        "alone, or largest log marginal likelihood",
    )
    search.add_argument("--seed", metavar="S", type=int, default=0, help="of the draws (default 0)")
    _add_noise(search, 0.0, "default 0")
    search.add_argument("--dry-run", action="store_true", help="show the draws, and stop")
    arguments.add_output(search, "directory of the search")
    arguments.add_dtype(search)
    arguments.add_json(search)
    search.set_defaults(check=_check_search, run=_search)

    tune = commands.add_parser(
        "tune",
        help="fit a model's layer variances by gradient ascent of the evidence",
        description="Ascend the log marginal likelihood of the first N training rows of D in the "
        "logarithms of all layer variances, and write them as a file for --overrides.",
        allow_abbrev=False,
    )
    tune.add_argument("model", metavar="MODEL", help=_MODEL)
    arguments.add_data(tune)
    tune.add_argument("--train", metavar="N", required=True, type=arguments.count, help="rows")
    tune.add_argument(
        "--steps", metavar="K", type=arguments.count, default=30, help="at most (default 30)"
    )
    _add_noise(tune, None, "to start from; 0: none; default: 1%% of the kernel's mean variance")
    arguments.add_output(tune, "a .yaml file, which must not be there yet")
    arguments.add_conversion(tune)
    arguments.add_json(tune)
    tune.set_defaults(check=_check_tune, run=_tune, dtype=None)


def _add_noise(parser: argparse.ArgumentParser, default: float | None, note: str) -> None:
    parser.add_argument(
        "--noise-variance",
        metavar="V",
        type=arguments.variance,
        default=default,
        help=f"of the targets, which are -1 and 1 ({note})",
    )


def _check_search(options: argparse.Namespace) -> None:
    path, colon, _ = options.space.rpartition(":")
    if options.space != "paper" and (not colon or Path(path).suffix != ".py"):
        raise UsageError(f"{options.space!r} is no space: expected paper, or path.py:function")
    if colon:
        arguments.check_file(Path(path), "SPACE")
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: expected a whole number from 0")
    arguments.check_data(options.data)
    arguments.check_directory(options.out, "search.json", "a search")
    if options.validation is None and options.score == "validation":
        options.validation = max(options.train // 5, 1)


def _search(options: argparse.Namespace, out: Output) -> ExitCode:
    import numpy as np  # noqa: PLC0415

    from keras2gp.cli.data_argument import image_shape, read_data  # noqa: PLC0415
    from keras2gp.data.datasets import prepare_images  # noqa: PLC0415

    held_out = options.validation or 0
    whole = read_data(options.data, download=options.download)
    rows = options.train + held_out
    if rows > len(whole.x_train):
        raise DataError(f"{whole.name}: {rows} rows were asked for; it has {len(whole.x_train)}")
    data = whole.split(rows, 0)
    if data.y_train.dtype.kind == "f":
        raise DataError(f"{data.name}: y holds real numbers, and a search is for labels")
    shape = image_shape(data.x_train)
    images, notes = prepare_images(data.x_train, model_rescales=False, sample_shape=shape)
    start_tensorflow()
    from keras2gp.search.random_search import Split, random_search  # noqa: PLC0415
    from keras2gp.search.spaces import space_of  # noqa: PLC0415

    space = space_of(options.space, shape, len(np.unique(data.y_train)))
    if options.dry_run:
        draws = [space.draw(options.seed, number) for number in range(options.samples)]
        header = ["trial", *space.distributions]
        out.table(
            header, [[str(i), *map(_cell, draw.values())] for i, draw in enumerate(draws)], header
        )
        out.document({"space": space.name, "seed": options.seed, "draws": draws})
        return ExitCode.FINE
    for note in [*whole.notes, *notes]:
        out.line(f"note: {note}")
    parts = [
        Split(images[part], data.y_train[part])
        for part in (slice(options.train), slice(options.train, rows))
    ]
    with stage(f"{options.samples} trials") as advance:
        found = random_search(
            space,
            parts[0],
            parts[1] if held_out else None,
            samples=options.samples,
            out=options.out,
            score=options.score,
            seed=options.seed,
            noise_variance=options.noise_variance,
            dtype=options.dtype or "float32",
            progress=advance,
        )
    _show_search(out, options, found)
    return ExitCode.FINE if found.best is not None else ExitCode.NUMERICAL


def _show_search(out: Output, options: argparse.Namespace, found: Any) -> None:
    ranked = sorted(
        (t for t in found.trials if t.loss(options.score) is not None),
        key=lambda t: t.loss(options.score),
    )
    measures = ("validation_error", "leave_one_out_error", "log_marginal_likelihood")
    texts = ("{:.2%}", "{:.2%}", "{:.6g}")
    header = ["trial", "validation", "leave-one-out", "evidence"]
    names = list(ranked[0].settings) if ranked else []
    rows = []
    for trial in ranked[:_SHOWN]:
        values = [getattr(trial, name) for name in measures]
        cells = ["" if v is None else text.format(v) for v, text in zip(values, texts, strict=True)]
        rows.append([str(trial.trial), *cells, *map(_cell, trial.settings.values())])
    out.table([*header, *names], rows, [*header, *names])
    failed = [trial for trial in found.trials if trial.status != "fine"]
    if failed:
        out.line(f"{len(failed)} of {len(found.trials)} trials failed; the first: trial "
                 f"{failed[0].trial}, {failed[0].reason}")  # fmt: skip
    if found.best is not None:
        out.line(f"wrote {options.out}: trials.csv, best.keras and best.json, trial "
                 f"{found.best.trial}", style="bold green")  # fmt: skip
    picture = _picture(options.out, options.score) if found.best is not None else None
    if picture is not None:
        out.line(f"wrote {picture}")
    out.document(
        {
            "out": str(options.out),
            "score": options.score,
            "best": None if found.best is None else asdict(found.best),
            "trials": [asdict(trial) for trial in found.trials],
            "picture": None if picture is None else str(picture),
        }
    )


def _picture(directory: Path, score: str) -> Path | None:
    """OUT/trials.png where matplotlib is installed."""
    from importlib.util import find_spec  # noqa: PLC0415

    if find_spec("matplotlib") is None:
        return None
    from keras2gp.plots.style import save  # noqa: PLC0415
    from keras2gp.plots.trials import read_rows, trials  # noqa: PLC0415

    path = directory / "trials.png"
    save(trials(read_rows(directory / "trials.csv"), score), path)
    return path


def _check_tune(options: argparse.Namespace) -> None:
    check_conversion(options, kernels=True)
    arguments.check_data(options.data)
    if options.out.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--out {options.out}: expected a name that ends in .yaml")
    if options.out.exists():
        raise UsageError(f"--out {options.out} exists, and may hold your changes: choose another")
    arguments.check_parent(options.out)


def _tune(options: argparse.Namespace, out: Output) -> ExitCode:
    import time  # noqa: PLC0415

    from keras2gp.cli.data_argument import image_shape, prepared, read_data  # noqa: PLC0415

    data = read_data(options.data, download=options.download).split(options.train, 0)
    start_tensorflow()
    from keras2gp.cli.model_argument import kernel_of, rescales  # noqa: PLC0415 (imports TensorFlow)
    from keras2gp.search.evidence import optimize_variances  # noqa: PLC0415

    kernel = kernel_of(options, image_shape(data.x_train))
    images, notes = prepared(kernel, data.x_train, rescales=rescales(kernel))
    for note in [*data.notes, *notes]:
        out.line(f"note: {note}")
    began = time.perf_counter()
    with stage(f"ascending, at most {options.steps} steps") as advance:
        found = optimize_variances(
            kernel,
            images,
            data.y_train,
            noise_variance=options.noise_variance,
            steps=options.steps,
            progress=advance,
        )
    seconds = time.perf_counter() - began
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("x", encoding="utf-8") as stream:
        stream.write(overrides_template(found.kernel.parameters))
    _show_tuned(out, kernel.parameters, found, seconds)
    out.line(f"wrote {options.out}, for --overrides")
    out.document({"out": str(options.out), **_tuned(found), "seconds": seconds})
    return ExitCode.FINE


def _show_tuned(out: Output, before: Any, found: Any, seconds: float) -> None:
    """Each layer's variances before and after, and what the ascent gained."""
    header = ["layer", "w2 before", "w2", "b2 before", "b2"]
    rows = [
        [layer, *map(_cell, (before[layer].weight, new.weight, before[layer].bias, new.bias))]
        for layer, new in found.kernel.parameters.items()
    ]
    out.table(header, rows, header[1:])
    start = found.trace[0].evidence
    ascent = f"{len(found.trace)} evaluations in {seconds_text(seconds)}; {found.message}"
    out.pairs(
        [
            ("evidence", f"log p(y | x) = {start:.6g} before, {found.evidence:.6g} now"),
            ("noise", f"--noise-variance {found.noise_variance:.6g}"),
            ("ascent", ascent),
        ]
    )


def _tuned(found: Any) -> dict[str, Any]:
    """What an ascent found, as data for JSON."""
    return {
        "evidence": found.evidence,
        "noise_variance": found.noise_variance,
        "parameters": {k: asdict(v) for k, v in found.kernel.parameters.items()},
        "trace": [
            {
                "evidence": step.evidence,
                "noise_variance": step.noise_variance,
                "parameters": {k: asdict(v) for k, v in step.parameters.items()},
                "reason": step.reason,
            }
            for step in found.trace
        ],
        "message": found.message,
    }


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
