"""Likelihoods other than a regression's, by Newton's method and the Laplace approximation."""
