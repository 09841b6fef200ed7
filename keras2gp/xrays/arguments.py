"""The settings of an X-ray, checked."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras2gp._util.checks import is_number, one_of, whole_number
from keras2gp._util.paths import as_path
from keras2gp._util.text import received_text
from keras2gp.conversion.overrides import check_overrides
from keras2gp.errors import InputError, StoreError
from keras2gp.xrays.variants.ablations import check_kinds

__all__ = ["XRaySettings"]

_OF_CONVERSION = ("output", "max_pooling", "tolerance", "activations", "layers", "input_shape")


@dataclass(frozen=True)
class XRaySettings:
    """The settings of an X-ray; `keras2gp.xray` says what each of them is.

    Values are replaced by their plain forms: a path, a tuple of kinds, integers of Python.

    Raises:
        InputError: a setting is of another type, or out of its range.
        PriorError: `overrides` are no mapping.
        StoreError: `out` is no path.
    """

    out: str | os.PathLike[str] | None = None
    variants: Mapping[str, Any] | None = None
    kinds: Collection[str] | None = None
    most_work: float = 20.0
    full_work: float = 1.5
    subsets: int = 10
    signal_rows: int = 200
    seed: int = 0
    minutes: float | None = None
    position: Any = None
    overrides: Mapping[str, Any] | None = None
    dtype: str = "float32"
    kind: str = "nngp"
    conversion: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("float32", "float64"))
        one_of("kind", self.kind, ("nngp", "ntk"))
        self._replace("subsets", whole_number("subsets", self.subsets, 2))
        self._replace("seed", whole_number("seed", self.seed, 0, 2**32 - 1))
        self._replace("signal_rows", whole_number("signal_rows", self.signal_rows, 0))
        if self.signal_rows == 1:
            raise InputError("signal_rows=1: pairs of images show how signal flows. Try: 2 or more")
        for name, value in (("most_work", self.most_work), ("full_work", self.full_work)):
            if not is_number(value) or not value >= 1.0:
                raise InputError(f"{name}={received_text(value)}: expected a number from 1")
        if self.minutes is not None and not (is_number(self.minutes) and 0.0 < self.minutes < 1e9):
            raise InputError(
                f"minutes={received_text(self.minutes)}: expected a number above 0, or None"
            )
        _check_names(self.variants)
        self._replace("kinds", check_kinds(self.kinds))
        _check_conversion(self.conversion)
        self._replace("overrides", check_overrides(self.overrides))
        if self.out is not None:
            self._replace("out", as_path("out", self.out, StoreError))

    def _replace(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def directory(self) -> Path | None:
        """The directory of the report; None for none."""
        return None if self.out is None else Path(self.out)


def _check_names(variants: Any) -> None:
    """Refuse the user's own variants unless they are a mapping of names."""
    if variants is None:
        return
    if not isinstance(variants, Mapping) or not all(isinstance(n, str) and n for n in variants):
        raise InputError(f"variants={received_text(variants)}: expected a dict of models by name")


def _check_conversion(conversion: Mapping[str, Any]) -> None:
    """Refuse arguments that are not passed on to `convert`."""
    for name in conversion:
        if name not in _OF_CONVERSION:
            reason = ""
            if name in ("prior", "trained_until"):
                reason = ": variants have no trained weights. Try: overrides"
            raise InputError(f"{name} is no argument of xray{reason}")
