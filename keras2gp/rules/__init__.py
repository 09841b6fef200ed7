"""One covariance rule for each op, one dual for each activation, in TensorFlow."""
