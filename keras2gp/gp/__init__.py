"""The head: exact Gaussian process inference for any kernel or kernel matrix."""

from keras2gp.gp.base import GaussianProcess, JitterWarning
from keras2gp.gp.cholesky import factorize
from keras2gp.gp.classification import GPClassifier
from keras2gp.gp.direct import Cholesky, TensorFlowCholesky
from keras2gp.gp.factor import CholeskyFactor, CholeskyReport, JitterStep
from keras2gp.gp.inputs import KernelFunction
from keras2gp.gp.iterative import ConjugateGradients
from keras2gp.gp.matrices import MatrixProduct
from keras2gp.gp.metrics import (
    brier_score,
    error_rate,
    expected_calibration_error,
    negative_log_likelihood,
)
from keras2gp.gp.nystroem import Nystroem
from keras2gp.gp.persistence import load_head, save_head
from keras2gp.gp.probability import largest_probabilities
from keras2gp.gp.regression import GPRegressor
from keras2gp.gp.system import SolverReport

__all__ = [
    "Cholesky",
    "CholeskyFactor",
    "CholeskyReport",
    "ConjugateGradients",
    "GPClassifier",
    "GPRegressor",
    "GaussianProcess",
    "JitterStep",
    "JitterWarning",
    "KernelFunction",
    "MatrixProduct",
    "Nystroem",
    "SolverReport",
    "TensorFlowCholesky",
    "brier_score",
    "error_rate",
    "expected_calibration_error",
    "factorize",
    "largest_probabilities",
    "load_head",
    "negative_log_likelihood",
    "save_head",
]
