"""Helpers that every other package may import: files, memory, progress, starting TensorFlow."""
