"""Options that commands share, and what can be checked before anything heavy is imported."""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass
from pathlib import Path

from keras2gp.cli.exit_codes import UsageError
from keras2gp.errors import DataError, ModelFileError

__all__ = [
    "ZOO_NAMES",
    "ModelSource",
    "add_conversion",
    "add_data",
    "add_dtype",
    "add_json",
    "add_output",
    "check_data",
    "check_directory",
    "check_file",
    "check_model",
    "count",
    "counts",
    "jitter",
    "shape",
    "tolerance",
    "variance",
]

ZOO_NAMES = ("convnet", "residual-cnn", "resnet32")
_DATA = "sample, tfds:NAME, an .npz file with x and y, or a folder of IDX files"


@dataclass(frozen=True)
class ModelSource:
    """What MODEL names: a "file" (.keras, .json), a "zoo" network, or a saved "kernel"."""

    kind: str
    name: str


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")


def add_conversion(parser: argparse.ArgumentParser) -> None:
    """How a model becomes a kernel."""
    group = parser.add_argument_group("conversion")
    group.add_argument(
        "--prior",
        choices=("initializers", "weights"),
        help="variances from the layers' initialisers (default) or from their trained weights",
    )
    group.add_argument(
        "--overrides",
        metavar="FILE",
        type=Path,
        help="YAML or JSON: variances by layer-name pattern (see inspect --template)",
    )
    group.add_argument("--output", metavar="NAME", help="which output or layer: a name or number")
    group.add_argument(
        "--max-pooling",
        choices=("average",),
        help="put average pooling in the place of max pooling, which has no exact kernel",
    )
    group.add_argument(
        "--tolerance",
        metavar="T",
        type=tolerance,
        help="error of activations without closed form, relative (default 1e-6); inspect says what "
        "is reached",
    )
    group.add_argument(
        "--input-shape",
        metavar="H,W,C",
        type=shape,
        help="image shape of a zoo network (default: that of the data, or 28,28,1)",
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """--dtype."""
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), help="of the kernel's entries (default float32)"
    )


def add_data(parser: argparse.ArgumentParser, *, required: bool = True, note: str = "") -> None:
    """--data and --download."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", metavar="D", required=required, help=_DATA + note)
    group.add_argument(
        "--download", action="store_true", help="let tensorflow_datasets download what is missing"
    )


def add_output(parser: argparse.ArgumentParser, help_text: str) -> None:
    """--out."""
    parser.add_argument("--out", metavar="OUT", required=True, type=Path, help=help_text)


def count(text: str) -> int:
    """A whole number from 1."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return number


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers from 1: 32,128,512."""
    return tuple(count(part.strip()) for part in text.split(","))


def variance(text: str) -> float:
    """A finite number from 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a finite number, 0 or more")
    return number


def tolerance(text: str) -> float:
    """A number between 0 and 1."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number between 0 and 1")
    return number


def jitter(text: str) -> float | str:
    """A finite number from 0, or "auto" for what is needed."""
    return text if text == "auto" else variance(text)


def shape(text: str) -> tuple[int, ...]:
    """Height, width and channels: 28,28,1."""
    sizes = tuple(count(part.strip()) for part in text.replace("x", ",").split(","))
    if len(sizes) != 3:
        raise argparse.ArgumentTypeError(f"{text!r}: expected height,width,channels")
    return sizes


def check_model(text: str, *, kernels: bool) -> ModelSource:
    """What MODEL names. Raises: UsageError, or ModelFileError if there is no such file."""
    if text.startswith("zoo:"):
        name = text.removeprefix("zoo:")
        if name not in ZOO_NAMES:
            known = ", ".join(f"zoo:{entry}" for entry in ZOO_NAMES)
            raise UsageError(f"{text!r}: no network of the zoo; there are {known}")
        return ModelSource("zoo", name)
    path = Path(text)
    if path.is_dir():
        if not kernels or not (path / "kernel.json").is_file():
            raise ModelFileError(_no_model_in(path, kernels=kernels))
        return ModelSource("kernel", text)
    if not path.exists():
        raise ModelFileError(f"{text}: no such file or directory")
    if path.suffix.lower() not in (".keras", ".json"):
        raise ModelFileError(
            f"{text}: models are read from .keras files, and from the .json of model.to_json()"
        )
    return ModelSource("file", text)


def _no_model_in(path: Path, *, kernels: bool) -> str:
    if (path / "kernel" / "kernel.json").is_file():
        hint = f". Try: its kernel, {path / 'kernel'}" if kernels else ""
        return f"{path} is a fitted model, not a model to convert{hint}"
    if (path / "kernel.json").is_file():
        return f"{path} is a kernel already: this command takes a model"
    if (path / "saved_model.pb").is_file():
        return f"{path} is a SavedModel, which has no layers to read: save the model as .keras"
    return f"{path} is a directory without a saved kernel (no kernel.json)"


def check_data(source: str) -> None:
    """Whether a data source can be there at all. Raises: DataError."""
    if source == "sample" or (source.startswith("tfds:") and source != "tfds:"):
        return
    path = Path(source).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix == ".npz"):
        return
    problem = "is no .npz file" if path.is_file() else "no such file or folder"
    raise DataError(f"{source}: {problem}. Expected {_DATA}")


def check_file(path: Path | None, option: str) -> None:
    """Whether a file to read is there. Raises: UsageError."""
    if path is not None and not path.is_file():
        raise UsageError(f"{option} {path}: no such file")


def check_directory(path: Path, marker: str, what: str) -> None:
    """Whether a directory can be written: it is absent, empty, or holds `marker`.

    marker: the file that says that the directory was written by this command before
    Raises: UsageError
    """
    if path.exists():
        empty = path.is_dir() and not any(path.iterdir())
        if not empty and not (path / marker).is_file():
            raise UsageError(
                f"{path} exists and is not {what}: it would be lost. Try: another directory"
            )
    check_parent(path)


def check_parent(path: Path) -> None:
    """Whether something can be written at a path. Raises: UsageError."""
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: {parent} is not a directory that can be written to")
