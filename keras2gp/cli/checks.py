"""Checks of arguments before anything heavy is imported: files, places, combinations of options.

The check of a command takes its options, and adds to them the facts that it has read: `source` and
`variances` of a conversion, `record` of a fit.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from keras2gp._util.fit_record import identity, read_record
from keras2gp._util.paths import expanded, missing, suffix_of
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.outputs import (
    EXPORT,
    FIT,
    KERNEL,
    SEARCH,
    STORE,
    XRAY,
    check_directory,
    check_file_to_replace,
    check_new_file,
    check_store_of_fit,
    is_picture,
    is_predictions,
    is_store,
)
from keras2gp.cli.sources import ModelSource, check_data, model_source, stated_shape
from keras2gp.conversion.overrides import read_overrides
from keras2gp.plots.style import SUFFIXES, new_figure
from keras2gp.search import PAPER_SPACES, SPACE_NAMES
from keras2gp.xrays import KINDS

__all__ = [
    "check_completion",
    "check_convert",
    "check_demo",
    "check_evaluate",
    "check_export",
    "check_fit",
    "check_gram",
    "check_inspect",
    "check_plot_document",
    "check_plot_fit",
    "check_plot_kernel",
    "check_predict",
    "check_search",
    "check_tune",
    "check_verify",
    "check_xray",
]

_CONVERSION = (
    *("prior", "overrides", "output", "max_pooling", "tolerance", "trained_until"),
    *("input_shape", "dtype", "kind"),
)


def check_inspect(options: argparse.Namespace) -> None:
    """Check the arguments of `inspect`."""
    _check_conversion(options, kernels=True)
    if options.template is None:
        return
    if options.template == "-":
        if options.json:
            raise UsageError("--template - and --json: stdout can hold one of the two")
        return
    check_new_file(Path(options.template), "--template")


def check_convert(options: argparse.Namespace) -> None:
    """Check the arguments of `convert`."""
    _check_conversion(options, kernels=False)
    check_directory(options, KERNEL)


def check_verify(options: argparse.Namespace) -> None:
    """Check the arguments of `verify`."""
    _check_conversion(options, kernels=False)
    check_data(options)
    if len(set(options.widths)) < 2:
        raise UsageError("--widths: two or more are compared, such as 8,16,64")


def check_gram(options: argparse.Namespace) -> None:
    """Check the arguments of `gram`."""
    _check_conversion(options, kernels=True)
    check_data(options)
    if options.out.exists() and not options.resume:
        raise UsageError(f"{options.out} exists: leave out --no-resume to go on with it")
    check_directory(options, STORE)


def check_fit(options: argparse.Namespace) -> None:
    """Check the arguments of `fit`."""
    if options.regression and options.probabilities is not None:
        raise UsageError("--probabilities: a regression has none")
    if options.regression and options.intercept is not None:
        raise UsageError("--intercept: a regression has none. Its mean is that of the targets")
    _check_conversion(options, kernels=True)
    check_data(options)
    check_store_of_fit(options.gram, new=True)
    check_directory(options, FIT)
    _check_solver(options)


def check_evaluate(options: argparse.Namespace) -> None:
    """Check the arguments of `evaluate`."""
    options.record = read_record(options.fit)
    check_store_of_fit(options.gram, new=False)
    check_data(options)
    if options.ood is not None and identity(options.ood) == identity(options.data):
        raise UsageError(f"--ood {options.ood}: that is the data of --data")


def check_predict(options: argparse.Namespace) -> None:
    """Check the arguments of `predict`."""
    options.record = read_record(options.fit)
    check_store_of_fit(options.gram, new=False)
    check_data(options)
    out: Path = options.out
    if suffix_of(out) not in (".csv", ".npz"):
        raise UsageError(f"--out {out}: expected a name that ends in .csv or .npz")
    check_file_to_replace(options, is_predictions, "predictions")


def check_export(options: argparse.Namespace) -> None:
    """Check the arguments of `export`."""
    read_record(options.fit)
    check_directory(options, EXPORT)


def check_search(options: argparse.Namespace) -> None:
    """Check the arguments of `search`, and set the default of --validation."""
    path, colon, _ = options.space.rpartition(":")
    if options.space not in PAPER_SPACES and (not colon or suffix_of(path) != ".py"):
        raise UsageError(f"{options.space!r} is no space: {SPACE_NAMES}")
    if colon:
        _check_file(Path(path), "SPACE")
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: expected a whole number from 0")
    check_data(options)
    check_directory(options, SEARCH)
    if options.validation is None and options.score == "validation":
        options.validation = max(options.train // 5, 1)


def check_tune(options: argparse.Namespace) -> None:
    """Check the arguments of `tune`."""
    _check_conversion(options, kernels=True)
    check_data(options)
    if suffix_of(options.out) not in (".yaml", ".yml"):
        raise UsageError(f"--out {options.out}: expected a name that ends in .yaml")
    check_new_file(options.out, "--out")


def check_xray(options: argparse.Namespace) -> None:
    """Check the arguments of `xray`."""
    _check_conversion(options, kernels=False)
    for name in ("prior", "trained_until"):
        if getattr(options, name) not in (None, "initializers"):
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag}: variants have no trained weights. Try: --overrides")
    for kind in options.kinds or ():
        if kind not in KINDS:
            raise UsageError(f"--kinds {kind}: expected {', '.join(KINDS)}")
    for name, value in (("most", options.most_work), ("full", options.full_work)):
        if value < 1.0:
            raise UsageError(f"--{name}-work {value:g}: expected a number from 1")
    if options.train < 4:
        raise UsageError(f"--train {options.train}: expected 4 rows or more, for 2 subsets of 2")
    if not 2 <= options.subsets <= options.train // 2:
        raise UsageError(f"--subsets {options.subsets}: expected 2 to {options.train // 2}")
    options.own = _own_variants(options.variants)
    if options.kinds == [] and not options.own:
        raise UsageError("--kinds none: nothing is left to compare. Try: --variants, or some kinds")
    check_data(options)
    check_directory(options, XRAY)


def _own_variants(given: Sequence[str]) -> dict[str, ModelSource]:
    """The models of --variants by name. Raises: UsageError; ModelFileError."""
    found: dict[str, ModelSource] = {}
    for text in given:
        named, equals, rest = text.partition("=")
        name, model = (named, rest) if equals and not Path(text).exists() else ("", text)
        source = model_source(str(expanded(model)), kernels=False)
        name = name.strip() or Path(source.name).stem
        if name in found:
            raise UsageError(f"--variants: {name!r} is there twice. Try: NAME={model}")
        found[name] = source
    return found


def check_plot_document(options: argparse.Namespace) -> None:
    """Check the arguments of the pictures of a document."""
    _check_file(options.source, options.picture)
    _check_picture(options)


def check_plot_fit(options: argparse.Namespace) -> None:
    """Check the arguments of the pictures of a fit."""
    options.record = read_record(options.fit)
    if options.record.task != "classification":
        raise UsageError(f"{options.fit} is a regression: it has no classes to draw")
    check_data(options)
    _check_picture(options)


def check_plot_kernel(options: argparse.Namespace) -> None:
    """Check the arguments of the picture of a kernel matrix."""
    options.store = is_store(Path(options.model))
    if options.store:
        _refuse_conversion(options, f"{options.model} is a matrix, which is computed already")
    else:
        _check_conversion(options, kernels=True)
    check_data(options)
    _check_picture(options)


def check_completion(options: argparse.Namespace) -> None:
    """Nothing to check: the parser has compared the shell with its choices."""


def check_demo(options: argparse.Namespace) -> None:
    """Check the arguments of `demo`; the rows are checked when its data is split."""
    _check_solver(options)


def _check_conversion(options: argparse.Namespace, *, kernels: bool) -> None:
    """Check MODEL and the options of its conversion; add `source` and `variances` to the options.

    Raises: UsageError; ModelFileError for MODEL; PriorError for a file of overrides.
    """
    source = model_source(options.model, kernels=kernels)
    if source.kind == "kernel":
        _refuse_conversion(options, f"{source.name} is a kernel, which is converted already")
    if source.kind == "zoo" and (options.trained_until or options.prior == "weights"):
        flag = "--trained-until" if options.trained_until else "--prior weights"
        raise UsageError(f"{flag}: {source.name} has no trained weights. Try: a model's file")
    options.input_shape = stated_shape(options.input_shape, zoo=source.kind == "zoo")
    if options.overrides is not None:
        _check_file(options.overrides, "--overrides")
    options.source = source
    options.variances = None if options.overrides is None else read_overrides(options.overrides)


def _refuse_conversion(options: argparse.Namespace, why: str) -> None:
    """Refuse the options of a conversion where none takes place. Raises: UsageError."""
    given = [name for name in _CONVERSION if getattr(options, name, None) is not None]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{flags}: {why}")


def _check_solver(options: argparse.Namespace) -> None:
    """Refuse settings of another solver. Raises: UsageError."""
    if options.residual is not None and options.solver != "cg":
        raise UsageError(f"--residual {options.residual:g} is one of --solver cg")
    if options.residual is not None and not 0.0 < options.residual < 1.0:
        raise UsageError(f"--residual {options.residual:g}: expected a number between 0 and 1")
    if options.rank is not None and options.solver not in ("cg", "nystroem", "projected"):
        raise UsageError(
            f"--rank {options.rank} is one of --solver cg, --solver nystroem and --solver projected"
        )
    if options.probes is not None and options.solver != "cg":
        raise UsageError(f"--probes {options.probes} is one of --solver cg")
    if options.probes == 1:
        raise UsageError("--probes 1: expected 2 or more, whose spread is the error")


def _check_picture(options: argparse.Namespace) -> None:
    if suffix_of(options.out) not in SUFFIXES:
        raise UsageError(f"--out {options.out}: expected a name that ends in .png or .svg")
    check_file_to_replace(options, is_picture, "picture of keras2gp")
    new_figure(1, 1)  # says at once where matplotlib is missing


def _check_file(path: Path, option: str) -> None:
    """Whether a file to read is there. Raises: UsageError."""
    if not path.is_file():
        raise UsageError(f"{option} {missing(path)}")
