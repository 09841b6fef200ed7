"""Regression: the estimator, its predictive distribution and its sample paths."""
