"""The words of a fit: its times, and what had to be done to solve it."""

from __future__ import annotations

import math
from typing import Any

from keras2gp._util.text import duration_text
from keras2gp.cli.output import Output

__all__ = ["show_fit"]


def show_fit(out: Output, facts: dict[str, Any]) -> None:
    """The times of a fit, and what had to be done to solve it."""
    inducing = facts["solver"]["solver"] in ("nystroem", "projected")
    columns = facts["solver"]["rank"] if inducing else (facts["rows"] + 1) / 2
    pairs = facts["rows"] * columns
    rate = f"{pairs / max(facts['kernel_seconds'], 1e-9):,.0f}".replace(",", " ")
    kernel = f"{duration_text(facts['kernel_seconds'])}, {rate} pairs/s with compilation"
    lines = [
        ("kernel", kernel),
        ("solve", f"{duration_text(facts['solve_seconds'])}, {_jitter_text(facts)}"),
        ("solver", _solver_text(facts)),
        ("noise", _noise_text(facts)),
        *_interval_lines(facts),
        ("evidence", _evidence_text(facts)),
    ]
    if facts["intercept"]:
        chosen = "the mean variance of the kernel, by which labels that are left out gain"
        how = "stated" if facts["intercept_stated"] else chosen
        lines.append(("intercept", f"of variance {facts['intercept']:.4g}, {how}"))
    if (text := _probabilities_text(facts)) is not None:
        lines.append(("probabilities", text))
    out.pairs(lines)
    if facts["noise_note"] is not None:
        out.line(f"  note: {facts['noise_note']}", style="yellow")
    if facts["equal_rows"] is not None:
        first, second = facts["equal_rows"]
        out.line(
            f"  note: training rows {first} and {second} (counted from 0) agree to five digits"
        )


def _solver_text(facts: dict[str, Any]) -> str:
    report = facts["solver"]
    text = f"{report['solver']}: {report['reason']}"
    if report["iterations"] is not None:
        text += f", {report['iterations']} iterations to residual {report['residual']:.2g}"
    if report["rank"] is not None:
        text += f", rank {report['rank']}"
    return text


def _jitter_text(facts: dict[str, Any]) -> str:
    if not facts["jitter"]:
        return "no jitter needed" if len(facts["jitter_steps"]) == 1 else "no jitter"
    tries = len(facts["jitter_steps"])
    return f"jitter {facts['jitter']:g} of the mean diagonal" + (
        f" (singular without; {tries} attempts)" if tries > 1 else ""
    )


def _noise_text(facts: dict[str, Any]) -> str:
    curve, value = facts["noise_curve"], f"{facts['noise_variance']:.4g}"
    if facts["noise_std"] is not None:
        value += f" (deviation {facts['noise_std']:.3g} of a target)"
    return f"{value}, stated" if curve is None else f"{value}, {curve['reason']}"


def _interval_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The distribution of predictions whose scale was learned."""
    if facts["degrees_of_freedom"] is None:
        return []
    degrees = f"{facts['degrees_of_freedom']:g}"
    return [
        ("intervals", f"of Student's t with {degrees} degrees of freedom: the scale is learned")
    ]


def _probabilities_text(facts: dict[str, Any]) -> str | None:
    """How means become probabilities; None for a regression."""
    if facts["temperature"] is not None:
        return f"softmax of the mean / {facts['temperature']:.4g}, by leave-one-out"
    if facts["linear_map"] is not None:
        return _linear_text(facts["linear_map"])
    if facts["dirichlet"] is not None:
        text = "Dirichlet, of concentration {concentration:.3g} and scale {scale:.4g}"
        return text.format(**facts["dirichlet"])
    return None


def _linear_text(linear: dict[str, Any]) -> str:
    if linear["ridge"] is None:
        return f"softmax of the mean / {linear['temperature']:.4g}: {linear['reason']}"
    return f"softmax of a linear map of the mean, ridge {linear['ridge']:g}: {linear['reason']}"


def _evidence_text(facts: dict[str, Any]) -> str:
    value, error = facts["log_marginal_likelihood"], facts["solver"]["evidence_error"]
    if math.isnan(value):
        return "not known: conjugate gradients give no determinant without --probes"
    if error is None:
        return f"log p(y | x) = {value:.6g}"
    return f"log p(y | x) ~ {value:.6g}, an estimate with the standard error {error:.2g}"
