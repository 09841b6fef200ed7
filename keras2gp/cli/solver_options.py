"""How the linear system of a fit is solved: the options, and what is said of it."""

from __future__ import annotations

import argparse
from typing import Any

from keras2gp.cli import arguments
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.output import seconds_text

__all__ = ["add_choice", "check_choice", "solver_of", "solver_text"]

_NAMES = ("auto", "cholesky", "tensorflow", "cg", "nystroem")


def add_choice(group: Any) -> None:
    """--solver, --residual, --rank and --probes."""
    group.add_argument(
        "--solver",
        choices=_NAMES,
        default="auto",
        help="cholesky, tensorflow (a GPU), cg (from a store on disk), nystroem (inducing images, "
        "approximate); auto: an exact one that fits the machine (default)",
    )
    group.add_argument(
        "--residual",
        metavar="E",
        type=arguments.variance,
        help="of cg: the relative residual to reach (default 1e-6)",
    )
    group.add_argument(
        "--rank",
        metavar="R",
        type=arguments.count,
        help="of cg: columns of the preconditioner (default N / 10, 100 to 1000); of nystroem: "
        "inducing images (default 1000)",
    )
    group.add_argument(
        "--probes",
        metavar="P",
        type=arguments.count,
        help="of cg: random vectors that estimate the log marginal likelihood, with its standard "
        "error (default none: it is not known)",
    )


def check_choice(options: argparse.Namespace) -> None:
    """Refuse settings of another solver. Raises: UsageError."""
    if options.residual is not None and options.solver != "cg":
        raise UsageError(f"--residual {options.residual:g} is one of --solver cg")
    if options.residual is not None and not 0.0 < options.residual < 1.0:
        raise UsageError(f"--residual {options.residual:g}: expected a number between 0 and 1")
    if options.rank is not None and options.solver not in ("cg", "nystroem"):
        raise UsageError(f"--rank {options.rank} is one of --solver cg and --solver nystroem")
    if options.probes is not None and options.solver != "cg":
        raise UsageError(f"--probes {options.probes} is one of --solver cg")
    if options.probes == 1:
        raise UsageError("--probes 1: expected 2 or more, whose spread is the error")


def solver_of(options: argparse.Namespace) -> Any:
    """The solver that the options ask for, as estimators take it."""
    from keras2gp.gp.solvers.iterative import ConjugateGradients  # noqa: PLC0415 (imports scipy)
    from keras2gp.gp.solvers.nystroem import Nystroem  # noqa: PLC0415

    if options.solver == "cg":
        tolerance = {} if options.residual is None else {"tolerance": options.residual}
        return ConjugateGradients(rank=options.rank, probes=options.probes or 0, **tolerance)
    if options.solver == "nystroem":
        return Nystroem(rank=options.rank)
    return options.solver


def solver_text(facts: Any) -> str:
    """The solver of a fit, why it was taken, and what it took."""
    report = facts["solver"]
    text = f"{seconds_text(facts['solve_seconds'])}, {report['solver']} ({report['reason']})"
    if report["iterations"] is not None:
        text += f", {report['iterations']} iterations to residual {report['residual']:.2g}"
    if report["rank"] is not None:
        text += f", rank {report['rank']}"
    return text
