"""The Gaussian process that regression and classification share: fit, evidence, posterior."""
