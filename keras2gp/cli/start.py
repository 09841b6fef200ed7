"""Starts TensorFlow late, and without the messages of its start."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from keras2gp._util.starting import import_tensorflow
from keras2gp.cli.progress import stage

__all__ = ["start_tensorflow"]


def start_tensorflow() -> None:
    """Import TensorFlow and Keras quietly, and say so if it takes long."""
    there = "tensorflow" in sys.modules and "keras" in sys.modules
    with nullcontext() if there else stage("starting TensorFlow"):
        import_tensorflow()
