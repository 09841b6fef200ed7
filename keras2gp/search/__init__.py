"""Hyperparameters: random search over architectures, and ascent of the evidence by variances."""
