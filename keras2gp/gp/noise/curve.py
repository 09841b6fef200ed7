"""The curve that a noise variance was chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from keras2gp._util.checks import finite_number
from keras2gp._util.html import lines, page, table

__all__ = ["Curves", "NoiseCurve"]


@dataclass(frozen=True)
class NoiseCurve:
    """The choice of a noise variance.

    Attributes:
        candidates: noise variances, ascending, in the units of the kernel.
        values: of each, in nats; None where the matrix is singular. Of a regression the evidence,
            log p(Y), at the factors on kernel and noise that make it largest. Of a classification
            the log probability of the labels, each predicted from all others, under the softmax
            at the temperature that suits them (keras2gp.gp.fit_temperature).
        chosen: the noise variance of the fit.
        rows: number of rows whose targets these are; fewer than those of the fit for large ones.
        reason: how it was chosen, in words.
    """

    candidates: tuple[float, ...]
    values: tuple[float | None, ...]
    chosen: float
    rows: int
    reason: str

    def _repr_html_(self) -> str:
        """The curve as a table, for notebooks."""
        rows = [
            (
                f"{noise:.4g}",
                "singular" if value is None else f"{value:.2f}",
                "chosen" if noise == self.chosen else "",
            )
            for noise, value in zip(self.candidates, self.values, strict=True)
        ]
        curve = table(("noise", "nats", ""), rows, ("noise", "nats"))
        return page(f"noise variance {self.chosen:.4g}", lines([self.reason]), curve)

    def state(self) -> dict[str, Any]:
        """The curve as data for JSON."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> NoiseCurve:
        """The curve of a `state`; KeyError, TypeError or ValueError where it is malformed.

        Args:
            state: the data.

        Returns:
            The curve.

        Raises:
            TypeError: a text is none.
            ValueError: a number is none.
        """
        candidates = tuple(finite_number(value) for value in state["candidates"])
        values = tuple(None if v is None else finite_number(v) for v in state["values"])
        rows, reason, chosen = state["rows"], state["reason"], finite_number(state["chosen"])
        if not isinstance(reason, str) or type(rows) is not int:
            raise TypeError(f"reason {reason!r}, {rows!r} rows of a choice of noise")
        if len(candidates) != len(values) or min(chosen, *candidates, 0.0) < 0.0:
            raise ValueError(f"{len(candidates)} noises, {len(values)} values, chosen {chosen}")
        return cls(candidates, values, chosen, rows, reason)


Curves = NoiseCurve | tuple[NoiseCurve, ...] | None
"""The choice of the noise, or those of all outputs; None where it is stated."""
