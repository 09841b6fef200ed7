"""The covariance rules: for each op its equation, in TensorFlow."""
