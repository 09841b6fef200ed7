"""Tiny kernels, and how small they are cut."""

import keras
import numpy as np

import keras2gp
from keras2gp.matrices.api import compute
from keras2gp.matrices.blocks import BlockShape

SMALL = BlockShape(16, 16, 8, 16)
WIDE = BlockShape(32, 16, 16, 16)
FLAT = BlockShape(16, 32, 16, 16)


def kernel(dtype="float32", weight=2.0, activation="relu", kind="nngp"):
    layers = [
        keras.layers.Input((5,)),
        keras.layers.Dense(8, activation=activation),
        keras.layers.Dense(1),
    ]
    converted = keras2gp.convert(keras.Sequential(layers), dtype=dtype, kind=kind)
    return converted.with_parameters(dict.fromkeys(converted.parameters, (weight, 0.1)))


def images(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 5)).astype(np.float32)


def stored(path, x1, x2=None, kernel_=None, shape=SMALL, **options):
    return compute(kernel_ or kernel(), x1, x2, path, shape=shape, **options)


def bytes_of(path):
    """All files of a store, by name."""
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
