"""Verification of kernels by random networks: wide copies of a model, drawn from its prior."""
