"""Linear solvers of a Gaussian process, from Cholesky factors to conjugate gradients."""
