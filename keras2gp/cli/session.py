"""The session of a command: the kernel of MODEL, and images prepared for it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from keras2gp import zoo
from keras2gp._util.arrays import Images
from keras2gp._util.keras_objects import KerasModel
from keras2gp._util.progress import stage
from keras2gp.cli.rows import Rows, filled_shape, is_flattened
from keras2gp.cli.sources import NamedModel
from keras2gp.cli.tables import prepared_table, takes_table
from keras2gp.conversion.pipeline import convert, inspect
from keras2gp.data.images import prepare_images
from keras2gp.errors import InputError
from keras2gp.kernel.algebra import ComposedKernel
from keras2gp.kernel.kernel import Kernel
from keras2gp.loading import load_kernel
from keras2gp.report import ConversionReport

__all__ = [
    "Session",
    "conversion_settings",
    "idle_settings",
    "image_shape",
    "kernel_of",
    "model_of",
    "open_session",
    "prepared",
    "report_of",
    "resumable",
]

_MNIST = (28, 28, 1)


@dataclass(frozen=True, eq=False)
class Session:
    """A kernel, and images as it takes them.

    notes: what was done to the data, a sentence each
    """

    kernel: Kernel
    images: Images
    notes: list[str]


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Work that the same command goes on with, which an interruption says."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(f"the same command goes on with what {out} holds")
        raise


def open_session(options: argparse.Namespace, rows: Rows) -> Session:
    """The kernel of MODEL and the rows prepared for it. Raises: as kernel_of; InputError."""
    kernel = kernel_of(options, image_shape(rows.x))
    images, notes = prepared(kernel, rows.x, options.data)
    return Session(kernel, images, [*rows.notes, *notes])


def idle_settings(kernel: Any) -> list[str]:
    """The notes of a conversion on settings for which the model has no layer."""
    report = getattr(kernel, "report", None)
    return [] if report is None else list(report.idle)


def report_of(options: argparse.Namespace) -> ConversionReport:
    """The conversion report of MODEL.

    Raises: as keras2gp.inspect and keras2gp.load.
    """
    source: NamedModel = options.source
    if source.kind == "kernel" or options.position is not None:
        return kernel_of(options).report
    model = model_of(source, options.input_shape or _MNIST)
    with stage("inspecting"):
        return inspect(model, **conversion_settings(options))


def _one_network(kernel: Any, name: Any) -> Kernel:
    """The kernel of one network. Raises: InputError for a sum or product."""
    if not isinstance(kernel, Kernel):
        raise InputError(
            f"{name} holds {kernel!r}, and the command takes the kernel of one network, with the "
            "report of its conversion. Try: keras2gp.load in Python, whose fits the commands "
            "evaluate and predict take"
        )
    return kernel


def kernel_of(options: argparse.Namespace, shape: Sequence[int] = _MNIST) -> Kernel:
    """The kernel of MODEL; `shape` is that of a zoo network's images without --input-shape.

    Raises: as keras2gp.convert and keras2gp.load.
    """
    source: NamedModel = options.source
    with stage("converting"):
        if source.kind == "kernel":
            kernel = _one_network(load_kernel(source.name), source.name)
        else:
            model = model_of(source, options.input_shape or shape)
            dtype = getattr(options, "dtype", None) or "float32"
            kind: Literal["nngp", "ntk"] = getattr(options, "kind", None) or "nngp"
            kernel = convert(model, dtype=dtype, kind=kind, **conversion_settings(options))
        position = getattr(options, "position", None)
        return kernel if position is None else kernel.at(position)


def model_of(source: NamedModel, shape: Sequence[int]) -> Any:
    """The model that keras2gp.convert takes: one of the zoo, or the path of a file."""
    return zoo.build(source.name, shape, 10) if source.kind == "zoo" else source.name


def conversion_settings(options: argparse.Namespace) -> dict[str, Any]:
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
        "trained_until": options.trained_until,
        # A network of the zoo is built for its shape.
        "input_shape": options.input_shape if options.source.kind == "file" else None,
    }


def image_shape(x: Images) -> tuple[int, ...]:
    """Height, width and channels of images, for a network of the zoo."""
    return tuple(x.shape[1:]) if x.ndim != 3 else (*x.shape[1:], 1)


def prepared(
    kernel: Kernel | ComposedKernel, x: Images, source: str, option: str = ""
) -> tuple[Images, list[str]]:
    """Images as the kernel takes them, and what was done to them.

    Args:
        kernel: of a network, or a sum or product.
        x: the images.
        source: what the user names them by.
        option: what stands before it in messages, where another option than --data names them.

    Raises:
        InputError: they are no images of this kernel; the message starts with the source.
    """
    try:
        return _prepared(kernel, x, source)
    except InputError as error:
        raise InputError(f"{option}{source}: {error}") from error


def _prepared(kernel: Kernel | ComposedKernel, x: Images, source: str) -> tuple[Images, list[str]]:
    if takes_table(kernel.inputs, x):
        return prepared_table(kernel.inputs, x, source)
    if len(kernel.inputs) != 1:
        names = ", ".join(spec.name for spec in kernel.inputs)
        raise InputError(
            f"the model has the inputs {names}, and the command line has data for one. "
            "Try: a CSV file with a column for each, an .npz file whose x holds them side by side; "
            "or the Python interface, which takes a list of arrays"
        )
    shape = filled_shape(kernel.inputs[0].shape, x.shape)
    notes = []
    if is_flattened(x, shape):
        x = x.reshape(len(x), *shape)
        notes.append("images flattened, since the model takes vectors")
    layers = {type(layer).__name__ for model in _before(kernel) for layer in _layers(model)}
    rescales = bool(layers & {"Rescaling", "Normalization"})
    images, done = prepare_images(x, model_rescales=rescales, sample_shape=shape)
    return images, notes + done


def _before(kernel: Any) -> list[Any]:
    """The models that Keras runs on the inputs; those of all parts of a sum or product."""
    if isinstance(kernel, ComposedKernel):
        return [model for part in kernel.parts for model in _before(part)]
    return [getattr(kernel, "preprocessor", None)]


def _layers(model: KerasModel) -> list[Any]:
    """All layers of a model, those of nested ones too."""
    layers = []
    for layer in getattr(model, "layers", ()):
        layers += [layer, *_layers(layer)]
    return layers
