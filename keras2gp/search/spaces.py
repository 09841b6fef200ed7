"""What a random search draws from: the paper's hyperparameters, or a user's own."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from scipy import stats
from sklearn.model_selection import ParameterSampler

from keras2gp.errors import InputError

__all__ = [
    "OwnModel",
    "PaperNetwork",
    "Settings",
    "Space",
    "own_space",
    "paper_space",
    "space_of",
]

Settings = dict[str, Any]

_ATTEMPTS = 1000


@dataclass(frozen=True)
class Space:
    """Distributions of named settings, and the Keras model of one draw.

    name:          as the user asked for it
    distributions: name to a list of choices, or a distribution of scipy.stats
    build:         from one draw to a Keras model
    identity:      changes when another draw or model would come of the same seed
    fits:          whether a draw can be built; others are drawn again
    """

    name: str
    distributions: Mapping[str, Any]
    build: Callable[[Settings], Any]
    identity: str
    fits: Callable[[Settings], bool] | None = None

    def draw(self, seed: int, trial: int) -> Settings:
        """The settings of one trial: the same for the same numbers, whatever ran before.

        Raises: InputError if none of a thousand draws fits, or a distribution is none.
        """
        for attempt in range(_ATTEMPTS):
            state = np.random.SeedSequence([seed, trial, attempt]).generate_state(1)[0]
            try:
                sampler = ParameterSampler(self.distributions, 1, random_state=int(state))
                (drawn,) = list(sampler)
            except (TypeError, ValueError, AttributeError) as error:
                raise InputError(f"the space {self.name} cannot be drawn from: {error}") from error
            settings = {name: _plain(drawn[name]) for name in self.distributions}
            if self.fits is None or self.fits(settings):
                return settings
        raise InputError(f"the space {self.name}: none of {_ATTEMPTS} draws gives a network")


def space_of(text: str, image_shape: Sequence[int], classes: int) -> Space:
    """The space that SPACE names: "paper", or path.py:function.

    Raises: InputError
    """
    if text == "paper":
        return paper_space(image_shape, classes)
    path, colon, function = text.rpartition(":")
    if not colon or Path(path).suffix != ".py":
        raise InputError(f"{text!r} is no space: expected paper, or path.py:function")
    return own_space(Path(path), function)


def own_space(path: Path, function: str) -> Space:
    """A user's own: function(settings) -> Keras model, and the dict SPACE, from a Python file.

    The file is run: it is the user's own code.

    Raises: InputError if it is not there, fails, or lacks one of the two.
    """
    name = f"{path}:{function}"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{name}: {path} cannot be read: {error.strerror}") from error
    build = OwnModel(str(path), function, text)
    try:
        names = build.names
    except Exception as error:
        raise InputError(f"{name}: {path} fails: {type(error).__name__}: {error}") from error
    distributions = names.get("SPACE")
    if not callable(names.get(function)):
        raise InputError(f"{name}: {path} has no function {function}")
    if not isinstance(distributions, Mapping) or not distributions:
        raise InputError(
            f"{name}: {path} has no dict SPACE of the settings that {function} takes: a name to "
            "a list of choices, or to a distribution such as scipy.stats.loguniform(0.1, 10)"
        )
    return Space(name, dict(distributions), build, hashlib.sha256(text).hexdigest())


@dataclass(frozen=True)
class OwnModel:
    """settings -> Keras model by a function of a user's file, whose text goes wherever it is run.

    A file that is changed while a search runs changes nothing of it.
    """

    path: str
    function: str
    text: bytes

    def __call__(self, settings: Settings) -> Any:
        """The model of one draw."""
        return self.names[self.function](settings)

    def __reduce__(self) -> Any:
        # Without `names`: another process runs the text itself, and with it what it registers.
        return type(self), (self.path, self.function, self.text)

    @cached_property
    def names(self) -> dict[str, Any]:
        """What the file defines. The first use runs it."""
        module = ModuleType("keras2gp_own_space")
        module.__file__ = self.path
        # Dataclasses and Keras look a class's module up.
        sys.modules[module.__name__] = module
        exec(compile(self.text, self.path, "exec"), vars(module))  # noqa: S102 (the user's own)
        return vars(module)


def paper_space(image_shape: Sequence[int], classes: int) -> Space:
    """The hyperparameters that the paper searches, section 4; the ranges are ours.

    The paper names the parameters and what was found, and not the ranges: these hold all of its
    findings. weight_variance is that of one element of a filter, times the input channels, so that
    w2 = weight_variance window^2. skip = s adds the tensor s convolutions back (equation 16), and
    0 none; such networks have stride 1 and SAME convolutions.
    """
    shape = tuple(image_shape)
    build = PaperNetwork(shape, classes)
    return Space("paper", _PAPER, build, f"paper 1, {shape}, {classes}", _paper_fits(shape))


@dataclass(frozen=True)
class PaperNetwork:
    """settings -> Keras model of `paper_space`."""

    shape: tuple[int, ...]
    classes: int

    def __call__(self, settings: Settings) -> Any:
        """The model of one draw."""
        from keras2gp.search.paper import network  # noqa: PLC0415 (imports Keras)

        return network(settings, self.shape, self.classes)


_PAPER: dict[str, Any] = {
    "layers": stats.randint(2, 13),
    "window": stats.randint(2, 8),
    "stride": [1, 2],
    "padding": ["same", "valid"],
    "activation": ["relu", "erf"],
    "skip": [0, 1, 2, 3],
    "weight_variance": stats.loguniform(0.5, 20.0),
    "bias_variance": stats.loguniform(0.1, 20.0),
}


def _paper_fits(shape: tuple[int, ...]) -> Callable[[Settings], bool]:
    def fits(settings: Settings) -> bool:
        stride, window, valid = settings["stride"], settings["window"], settings["padding"]
        if settings["skip"] and (stride > 1 or valid == "valid"):
            return False
        side = min(shape[:2])
        for _ in range(settings["layers"]):
            if valid == "valid":
                side -= window - 1
            side = math.ceil(side / stride)
        return side >= 1

    return fits


def _plain(value: Any) -> Any:
    """A number of numpy as one of Python."""
    return value.item() if isinstance(value, np.generic) else value
