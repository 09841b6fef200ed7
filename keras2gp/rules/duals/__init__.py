"""Dual activations: importing this package registers them all."""

from keras2gp.rules.duals import homogeneous, sigmoidal, smooth

__all__ = ["homogeneous", "sigmoidal", "smooth"]
