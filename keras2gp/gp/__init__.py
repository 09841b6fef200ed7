"""Exact Gaussian process inference for any kernel: estimators, solvers, metrics, saved fits."""

from keras2gp.gp.arguments.kernel_function import KernelFunction
from keras2gp.gp.classification.classifier import GPClassifier
from keras2gp.gp.classification.dirichlet import DirichletPosterior, Transformation
from keras2gp.gp.classification.posterior import Prediction
from keras2gp.gp.ensemble.estimator import TrainedEnsemble
from keras2gp.gp.laplace.base import Likelihood
from keras2gp.gp.laplace.class_likelihoods import Bernoulli, Ordinal, Softmax
from keras2gp.gp.laplace.estimator import GPLaplace
from keras2gp.gp.laplace.number_likelihoods import Poisson, StudentT, Tobit
from keras2gp.gp.metrics import (
    ReliabilityBin,
    brier_score,
    calibration_error_by_chance,
    error_rate,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from keras2gp.gp.noise.curve import NoiseCurve
from keras2gp.gp.noise.noise_warnings import NoiseWarning
from keras2gp.gp.probabilities.linear_map import LinearMap, fit_linear_map
from keras2gp.gp.probabilities.softmax import (
    expected_softmax,
    fit_temperature,
    largest_probabilities,
    tempered_softmax,
)
from keras2gp.gp.process.base import GaussianProcess, JitterWarning
from keras2gp.gp.process.out_of_distribution import (
    InputRange,
    RangeWarning,
    ood_scores,
    out_of_distribution_auroc,
)
from keras2gp.gp.process.prior_mean import MeanWarning
from keras2gp.gp.regression.paths import SamplePaths, SamplePathWarning
from keras2gp.gp.regression.regressor import GPRegressor
from keras2gp.gp.saving import load_head, save_head
from keras2gp.gp.solvers.cholesky import factorize
from keras2gp.gp.solvers.direct import Cholesky, TensorFlowCholesky
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.fitc import Nystroem
from keras2gp.gp.solvers.iterative import ConjugateGradients
from keras2gp.gp.solvers.matrices import MatrixProduct
from keras2gp.gp.solvers.mixed import MixedPrecision
from keras2gp.gp.solvers.projected import ProjectedProcess
from keras2gp.gp.solvers.report import CholeskyReport, JitterStep, SolverReport

__all__ = [
    "Bernoulli",
    "Cholesky",
    "CholeskyFactor",
    "CholeskyReport",
    "ConjugateGradients",
    "DirichletPosterior",
    "GPClassifier",
    "GPLaplace",
    "GPRegressor",
    "GaussianProcess",
    "InputRange",
    "JitterStep",
    "JitterWarning",
    "KernelFunction",
    "Likelihood",
    "LinearMap",
    "MatrixProduct",
    "MeanWarning",
    "MixedPrecision",
    "NoiseCurve",
    "NoiseWarning",
    "Nystroem",
    "Ordinal",
    "Poisson",
    "Prediction",
    "ProjectedProcess",
    "RangeWarning",
    "ReliabilityBin",
    "SamplePathWarning",
    "SamplePaths",
    "Softmax",
    "SolverReport",
    "StudentT",
    "TensorFlowCholesky",
    "Tobit",
    "TrainedEnsemble",
    "Transformation",
    "brier_score",
    "calibration_error_by_chance",
    "error_rate",
    "expected_calibration_error",
    "expected_softmax",
    "factorize",
    "fit_linear_map",
    "fit_temperature",
    "largest_probabilities",
    "load_head",
    "negative_log_likelihood",
    "ood_scores",
    "out_of_distribution_auroc",
    "reliability",
    "save_head",
    "tempered_softmax",
]
