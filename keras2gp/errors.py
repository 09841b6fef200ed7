"""The error tree: every message says where, what was received, why, and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "DataError",
    "GraphError",
    "InputError",
    "InputTypeError",
    "Keras2GPError",
    "MissingLibraryError",
    "ModelFileError",
    "NotFittedError",
    "NumericalError",
    "Obstacle",
    "OutputError",
    "PriorError",
    "RegistryError",
    "StoreError",
    "UnsupportedModelError",
    "WideningError",
    "WorkerError",
    "one_line",
]


def one_line(text: str) -> str:
    """Text with its control characters and line breaks spelt out: names may hold any character."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _shortened(name: str) -> str:
    """A name of at most 200 characters, of both its ends."""
    return name if len(name) <= 200 else f"{name[:98]}...{name[-98:]}"


@dataclass(frozen=True)
class Obstacle:
    """One reason why a model has no exact kernel here.

    Attributes:
        where: the layer's path in the model, nested models separated by "/".
        received: the layer's class, and the settings that matter.
        why: the reason.
        hint: a remedy, or "".
    """

    where: str
    received: str
    why: str
    hint: str = ""

    def __str__(self) -> str:
        why = f"{self.why.removesuffix('.')}. Try: {self.hint}" if self.hint else self.why
        where, received = (_shortened(one_line(text)) for text in (self.where, self.received))
        return f"{where} ({received}): {one_line(why)}"


class Keras2GPError(Exception):
    """Root of every error that this package raises on purpose."""


class UnsupportedModelError(Keras2GPError):
    """The model has no exact kernel.

    Attributes:
        model: the model's name.
        obstacles: every reason, not only the first one.
        report: the ConversionReport of the attempt.

    >>> import keras, keras2gp
    >>> model = keras.Sequential([keras.Input((4, 2)), keras.layers.LSTM(3, name="memory")])
    >>> try:
    ...     keras2gp.convert(model)
    ... except keras2gp.UnsupportedModelError as error:
    ...     [obstacle.where for obstacle in error.obstacles]
    ['memory']
    """

    def __init__(self, model: str, obstacles: Sequence[Obstacle], report: Any = None) -> None:
        self.model = model
        self.obstacles = tuple(obstacles)
        self.report = report
        count = len(self.obstacles)
        noun = "obstacle" if count == 1 else "obstacles"
        lines = [f"{one_line(model)} has no exact kernel: {count} {noun}."]
        lines += [f"  - {obstacle}" for obstacle in self.obstacles]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return UnsupportedModelError, (self.model, self.obstacles, self.report)


class WideningError(Keras2GPError):
    """A model's hidden layers cannot be made wider, so that no wide networks can be drawn."""


class ModelFileError(Keras2GPError):
    """A model file or a saved kernel is missing, truncated, malformed or not to be trusted."""


class PriorError(Keras2GPError, ValueError):
    """A prior cannot be read or an override does not fit the model."""


class InputError(Keras2GPError, ValueError):
    """An array handed in has a wrong shape or type, is empty, or is not finite."""


class InputTypeError(InputError, TypeError):
    """An array handed in holds objects that are no numbers."""


class OutputError(InputError):
    """A model has several outputs, and none of them was chosen; `outputs` are their names."""

    def __init__(self, message: str, outputs: Sequence[str]) -> None:
        super().__init__(message)
        self.outputs = tuple(outputs)

    def __reduce__(self) -> tuple[Any, ...]:
        return OutputError, (str(self), self.outputs)


class DataError(Keras2GPError, ValueError):
    """A data source cannot be found or read, or holds too little."""


class NumericalError(Keras2GPError, ArithmeticError):
    """Arithmetic failed in a way that would give a wrong number: singular matrix, overflow."""


class NotFittedError(Keras2GPError, ValueError, AttributeError):
    """Predictions were asked of an estimator before `fit`."""


class StoreError(Keras2GPError, OSError):
    """A Gram matrix on disk does not match, is damaged beyond repair, or cannot be written."""


class MissingLibraryError(Keras2GPError, ImportError):
    """An optional library is needed and cannot be imported."""


class WorkerError(Keras2GPError):
    """A worker process ended before its work was done."""


class RegistryError(Keras2GPError):
    """A reader, rule or dual activation was registered twice, or for an unknown name."""


class GraphError(Keras2GPError):
    """The graph is malformed: a defect in a reader or in this package, not in the model."""
