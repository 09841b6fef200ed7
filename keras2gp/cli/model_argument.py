"""From the argument MODEL to a report or a kernel. Imports TensorFlow."""

from __future__ import annotations

import argparse
from typing import Any

import keras2gp
from keras2gp import zoo
from keras2gp.cli.arguments import ModelSource
from keras2gp.cli.progress import stage
from keras2gp.kernel.kernel import Kernel
from keras2gp.report import ConversionReport

__all__ = ["kernel_of", "report_of", "rescales", "settings_of", "source_of"]

_MNIST = (28, 28, 1)


def report_of(options: argparse.Namespace) -> ConversionReport:
    """The conversion report of MODEL. Raises: as keras2gp.inspect and keras2gp.load."""
    source: ModelSource = options.source
    if source.kind == "kernel":
        return keras2gp.load(source.name).report
    model = source_of(source, options.input_shape or _MNIST)
    with stage("inspecting"):
        return keras2gp.inspect(model, **settings_of(options))


def kernel_of(
    options: argparse.Namespace, image_shape: tuple[int, ...] = _MNIST, classes: int = 10
) -> Kernel:
    """The kernel of MODEL; of a zoo network for images of that shape, without --input-shape.

    Raises: as keras2gp.convert and keras2gp.load.
    """
    source: ModelSource = options.source
    with stage("converting"):
        if source.kind == "kernel":
            return keras2gp.load(source.name)
        model = source_of(source, options.input_shape or image_shape, classes)
        dtype = options.dtype or "float32"
        return keras2gp.convert(model, dtype=dtype, **settings_of(options))


def rescales(kernel: Kernel) -> bool:
    """Whether the model brings pixels into range itself."""
    names = {type(layer).__name__ for layer in _layers(kernel.preprocessor)}
    return bool(names & {"Rescaling", "Normalization"})


def source_of(source: ModelSource, shape: tuple[int, ...], classes: int = 10) -> Any:
    """What keras2gp.convert takes: a model of the zoo, or the path of a file."""
    return zoo.build(source.name, shape, classes) if source.kind == "zoo" else source.name


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of keras2gp.convert that the options of a conversion state."""
    output = options.output
    if output is not None and output.removeprefix("-").isdecimal():
        output = int(output)
    settings = {} if options.tolerance is None else {"tolerance": options.tolerance}
    return {
        **settings,
        "prior": options.prior or "initializers",
        "overrides": options.variances,
        "output": output,
        "max_pooling": options.max_pooling,
    }


def _layers(model: Any) -> list[Any]:
    """All layers of a model, those of nested ones too."""
    found = []
    for layer in getattr(model, "layers", ()):
        found += [layer, *_layers(layer)]
    return found
