"""Helpers for every other package: arrays, checks, files, memory, progress, text, TensorFlow."""
