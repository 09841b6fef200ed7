"""keras2gp: the Gaussian process that a Keras model becomes at infinite width.

Names are imported when they are first used, so that `import keras2gp` does not wait for
TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras2gp._util.starting import importer
from keras2gp._util.version import VERSION
from keras2gp._util.xla_cache import keep_programs

if TYPE_CHECKING:
    from keras2gp.conversion.pipeline import convert, inspect
    from keras2gp.conversion.registry import deterministic, reader
    from keras2gp.covariance.dual import Dual
    from keras2gp.covariance.duals.hermite import Hermite
    from keras2gp.covariance.own_activations import Expanded
    from keras2gp.covariance.registry import dual, rule
    from keras2gp.empirical.api import empirical_kernel
    from keras2gp.empirical.kernel import EmpiricalKernel
    from keras2gp.errors import Keras2GPError, UnsupportedModelError
    from keras2gp.gp.classification.classifier import GPClassifier
    from keras2gp.gp.regression.regressor import GPRegressor
    from keras2gp.graph.variances import LayerVariances
    from keras2gp.kernel.kernel import Kernel
    from keras2gp.loading import load
    from keras2gp.matrices.api import gram
    from keras2gp.matrices.product import ClusterProduct
    from keras2gp.report import ConversionReport
    from keras2gp.search.ascent import optimize_variances
    from keras2gp.search.random_search import random_search
    from keras2gp.serving.export import export
    from keras2gp.verification.api import verify
    from keras2gp.verification.report import VerificationReport
    from keras2gp.xrays.api import xray

__all__ = [
    "ClusterProduct",
    "ConversionReport",
    "Dual",
    "EmpiricalKernel",
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
    "empirical_kernel",
    "export",
    "gram",
    "inspect",
    "load",
    "optimize_variances",
    "random_search",
    "reader",
    "rule",
    "verify",
    "xray",
]

__version__ = VERSION
keep_programs()

_HOMES = {
    "ClusterProduct": "matrices.product",
    "ConversionReport": "report",
    "Dual": "covariance.dual",
    "EmpiricalKernel": "empirical.kernel",
    "Expanded": "covariance.own_activations",
    "GPClassifier": "gp.classification.classifier",
    "GPRegressor": "gp.regression.regressor",
    "Hermite": "covariance.duals.hermite",
    "Keras2GPError": "errors",
    "Kernel": "kernel.kernel",
    "LayerVariances": "graph.variances",
    "UnsupportedModelError": "errors",
    "VerificationReport": "verification.report",
    "convert": "conversion.pipeline",
    "deterministic": "conversion.registry",
    "dual": "covariance.registry",
    "empirical_kernel": "empirical.api",
    "export": "serving.export",
    "gram": "matrices.api",
    "inspect": "conversion.pipeline",
    "load": "loading",
    "optimize_variances": "search.ascent",
    "random_search": "search.random_search",
    "reader": "conversion.registry",
    "rule": "covariance.registry",
    "verify": "verification.api",
    "xray": "xrays.api",
}


__getattr__ = importer(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
