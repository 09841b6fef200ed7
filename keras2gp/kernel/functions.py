"""Kernels of scikit-learn as data: their classes by name, from a list, and their settings."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from keras2gp._util.text import received_text
from keras2gp.errors import ModelFileError

__all__ = ["function_from_state", "function_state"]

_MODULE = "sklearn.gaussian_process.kernels"
_CLASSES = (
    *("RBF", "Matern", "RationalQuadratic", "ExpSineSquared", "DotProduct", "ConstantKernel"),
    *("Sum", "Product", "Exponentiation"),
)
"""Those whose settings are numbers, and kernels of this list."""
_FIXED = "fixed"


def function_state(kernel: Any) -> dict[str, Any]:
    """A kernel of scikit-learn as data for JSON.

    Raises:
        ModelFileError: it is of another class, or holds a setting that is no number.
    """
    kind = type(kernel)
    if kind.__module__ != _MODULE or kind.__name__ not in _CLASSES:
        raise ModelFileError(
            f"{received_text(kernel)} is a {kind.__name__}, and a saved kernel holds no code but "
            f"scikit-learn's {', '.join(_CLASSES)}. Try: one of these, or a sum that is put "
            "together again after keras2gp.load of its parts"
        )
    settings = {name: _state(v, name) for name, v in kernel.get_params(deep=False).items()}
    return {"class": kind.__name__, "settings": settings}


def function_from_state(state: Mapping[str, Any]) -> Any:
    """The kernel of a `function_state`; KeyError, TypeError and the like where it is malformed.

    Raises:
        ModelFileError: the class is none of the list.
    """
    name = state["class"]
    if name not in _CLASSES:
        raise ModelFileError(f"a kernel of the class {received_text(name)}")
    settings = {str(key): _value(entry) for key, entry in state["settings"].items()}
    return getattr(importlib.import_module(_MODULE), name)(**settings)


def _state(value: Any, name: str) -> Any:
    if value is None or (isinstance(value, str) and value == _FIXED):
        return value
    if isinstance(value, Integral) and not isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, Real) and math.isfinite(value) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, tuple | list):
        return [_state(entry, name) for entry in value]
    if isinstance(value, np.ndarray) and value.ndim:
        return {"array": [_state(entry, name) for entry in value.tolist()]}
    if hasattr(value, "get_params"):
        return function_state(value)
    raise ModelFileError(
        f"{name}={received_text(value)} of a kernel of scikit-learn cannot be saved: expected "
        "finite numbers"
    )


def _value(entry: Any) -> Any:
    if isinstance(entry, Mapping):
        if "array" not in entry:
            return function_from_state(entry)
        return np.array(entry["array"], dtype=np.float64)
    if isinstance(entry, list):
        return tuple(map(_value, entry))
    if entry is None or entry == _FIXED or (type(entry) in (int, float) and math.isfinite(entry)):
        return entry
    raise ModelFileError(f"a setting of a kernel is {received_text(entry)}")
