"""Dual activations: importing this package registers them all."""

from keras2gp.covariance.duals import cornered, homogeneous, sigmoidal, smooth, units

__all__ = ["cornered", "homogeneous", "sigmoidal", "smooth", "units"]
