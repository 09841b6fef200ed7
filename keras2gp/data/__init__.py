"""Data to fit and evaluate on: embedded MNIST digits, tfds:NAME, .npz archives, IDX folders."""

from keras2gp.data.datasets import Dataset
from keras2gp.data.images import prepare_images
from keras2gp.data.loading import load

__all__ = ["Dataset", "load", "prepare_images"]
