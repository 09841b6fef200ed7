"""Readers of Keras layers, one family of layers in each module."""
