"""keras2gp: the Gaussian process that a Keras model becomes at infinite width.

Names are imported when they are first used, so that `import keras2gp` does not wait for
TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras2gp.engine.api import gram
    from keras2gp.frontend.registry import deterministic, reader
    from keras2gp.gp.classification import GPClassifier
    from keras2gp.gp.regression import GPRegressor
    from keras2gp.graph.parameters import LayerVariances
    from keras2gp.kernel import Kernel
    from keras2gp.persistence import load
    from keras2gp.report import ConversionReport
    from keras2gp.rules.registry import dual, rule
    from keras2gp.serving import export
    from keras2gp.translate import convert, inspect

__all__ = [
    "ConversionReport",
    "GPClassifier",
    "GPRegressor",
    "Kernel",
    "LayerVariances",
    "__version__",
    "convert",
    "deterministic",
    "dual",
    "export",
    "gram",
    "inspect",
    "load",
    "reader",
    "rule",
]

__version__ = "0.1.0"

_HOMES = {
    "ConversionReport": "report",
    "GPClassifier": "gp.classification",
    "GPRegressor": "gp.regression",
    "Kernel": "kernel",
    "LayerVariances": "graph.parameters",
    "convert": "translate",
    "deterministic": "frontend.registry",
    "dual": "rules.registry",
    "export": "serving",
    "gram": "engine.api",
    "inspect": "translate",
    "load": "persistence",
    "reader": "frontend.registry",
    "rule": "rules.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
