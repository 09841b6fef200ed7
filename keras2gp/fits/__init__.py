"""Kernels and fits from disk: whatever keras2gp wrote into a directory, as it was."""
