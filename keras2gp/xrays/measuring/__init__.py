"""Measurements on kernels: scores of fits, differences between scores, and how signal flows."""
