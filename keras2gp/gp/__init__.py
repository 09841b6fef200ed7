"""The head: exact Gaussian process inference for any kernel or kernel matrix."""

from keras2gp.gp.base import GaussianProcess, JitterWarning
from keras2gp.gp.calibration import fit_temperature, tempered_softmax
from keras2gp.gp.cholesky import factorize
from keras2gp.gp.classification import GPClassifier, Prediction
from keras2gp.gp.dirichlet import DirichletPosterior, Transformation
from keras2gp.gp.factor import CholeskyFactor, CholeskyReport, JitterStep
from keras2gp.gp.inputs import KernelFunction
from keras2gp.gp.metrics import (
    ReliabilityBin,
    brier_score,
    calibration_error_by_chance,
    error_rate,
    expected_calibration_error,
    negative_log_likelihood,
    out_of_distribution_auroc,
    reliability,
)
from keras2gp.gp.persistence import load_head, save_head
from keras2gp.gp.probability import largest_probabilities
from keras2gp.gp.regression import GPRegressor
from keras2gp.gp.softmax import expected_softmax

__all__ = [
    "CholeskyFactor",
    "CholeskyReport",
    "DirichletPosterior",
    "GPClassifier",
    "GPRegressor",
    "GaussianProcess",
    "JitterStep",
    "JitterWarning",
    "KernelFunction",
    "Prediction",
    "ReliabilityBin",
    "Transformation",
    "brier_score",
    "calibration_error_by_chance",
    "error_rate",
    "expected_calibration_error",
    "expected_softmax",
    "factorize",
    "fit_temperature",
    "largest_probabilities",
    "load_head",
    "negative_log_likelihood",
    "out_of_distribution_auroc",
    "reliability",
    "save_head",
    "tempered_softmax",
]
