"""Dual activations E[phi(u) phi(v)]: importing this package registers all of them."""

from keras2gp.covariance.duals import clipped, expansions, homogeneous, rest, smooth

__all__ = ["clipped", "expansions", "homogeneous", "rest", "smooth"]
