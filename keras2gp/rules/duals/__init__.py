"""Dual activations: importing this package registers them all."""

from keras2gp.rules.duals import homogeneous, smooth

__all__ = ["homogeneous", "smooth"]
