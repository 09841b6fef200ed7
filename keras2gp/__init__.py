"""keras2gp: the Gaussian process that a Keras model becomes at infinite width.

Names are imported when they are first used, so that `import keras2gp` does not wait for
TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras2gp.engine.api import gram
    from keras2gp.errors import Keras2GPError, UnsupportedModelError
    from keras2gp.frontend.registry import deterministic, reader
    from keras2gp.gp.classification import GPClassifier
    from keras2gp.gp.regression import GPRegressor
    from keras2gp.graph.parameters import LayerVariances
    from keras2gp.kernel import Kernel
    from keras2gp.persistence import load
    from keras2gp.report import ConversionReport
    from keras2gp.rules.duals.base import Dual
    from keras2gp.rules.duals.expanded import Expanded
    from keras2gp.rules.duals.hermite import Hermite
    from keras2gp.rules.registry import dual, rule
    from keras2gp.search.evidence import optimize_variances
    from keras2gp.search.random_search import random_search
    from keras2gp.serving import export
    from keras2gp.translate import convert, inspect
    from keras2gp.verification.api import verify
    from keras2gp.verification.report import VerificationReport

__all__ = [
    "ConversionReport",
    "Dual",
    "Expanded",
    "GPClassifier",
    "GPRegressor",
    "Hermite",
    "Keras2GPError",
    "Kernel",
    "LayerVariances",
    "UnsupportedModelError",
    "VerificationReport",
    "__version__",
    "convert",
    "deterministic",
    "dual",
    "export",
    "gram",
    "inspect",
    "load",
    "optimize_variances",
    "random_search",
    "reader",
    "rule",
    "verify",
]

__version__ = "0.1.0"

_HOMES = {
    "ConversionReport": "report",
    "Dual": "rules.duals.base",
    "Expanded": "rules.duals.expanded",
    "GPClassifier": "gp.classification",
    "GPRegressor": "gp.regression",
    "Hermite": "rules.duals.hermite",
    "Keras2GPError": "errors",
    "Kernel": "kernel",
    "LayerVariances": "graph.parameters",
    "UnsupportedModelError": "errors",
    "VerificationReport": "verification.report",
    "convert": "translate",
    "deterministic": "frontend.registry",
    "dual": "rules.registry",
    "export": "serving",
    "gram": "engine.api",
    "inspect": "translate",
    "load": "persistence",
    "optimize_variances": "search.evidence",
    "random_search": "search.random_search",
    "reader": "frontend.registry",
    "rule": "rules.registry",
    "verify": "verification.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
