"""Spaces that a random search draws from: the paper's hyperparameters, or a user's own."""

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

import keras
import numpy as np
from keras import layers
from scipy import stats
from sklearn.model_selection import ParameterSampler

from keras2gp._util.checks import python_number
from keras2gp._util.paths import expanded, read_if_regular, suffix_of
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.search import PAPER_SPACES, SPACE_NAMES

__all__ = [
    "OwnModel",
    "PaperNetwork",
    "Settings",
    "Space",
    "network",
    "own_space",
    "paper_space",
    "space_of",
]

Settings = dict[str, Any]

_ATTEMPTS = 1000
_WIDTH = 16
"""Channels of the paper's networks; their number does not enter the kernel."""


@dataclass(frozen=True)
class Space:
    """Distributions of named settings, and the Keras model of one draw.

    Attributes:
        name: the name of the space, as the user asked for it.
        distributions: name of a setting to a list of choices, or to a distribution of scipy.stats.
        build: a function from the settings of one draw to a Keras model.
        identity: a text that changes when the same seed would give another draw or model.
        fits: whether the settings give a network; others are drawn again. None: all do.
    """

    name: str
    distributions: Mapping[str, Any]
    build: Callable[[Settings], Any]
    identity: str
    fits: Callable[[Settings], bool] | None = None

    def __post_init__(self) -> None:
        """Refuse settings whose names are no texts, with an InputError."""
        for key in self.distributions:
            if not isinstance(key, str):
                raise InputError(
                    f"the space {self.name}: a setting is named {received_text(key)}. Try: a text"
                )

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
            settings = {name: python_number(drawn[name]) for name in self.distributions}
            if self.fits is None or self.fits(settings):
                return settings
        raise InputError(f"the space {self.name}: none of {_ATTEMPTS} draws gives a network")


def space_of(text: str, image_shape: Sequence[int], classes: int) -> Space:
    """The space that a text names: one of PAPER_SPACES, or path.py:function.

    Raises: InputError if it names none.
    """
    if text in PAPER_SPACES:
        return paper_space(image_shape, classes, text)
    path, colon, function = text.rpartition(":")
    if not colon or suffix_of(path) != ".py":
        raise InputError(f"{text!r} is no space: {SPACE_NAMES}")
    return own_space(expanded(path), function)


def own_space(path: Path, function: str) -> Space:
    """The space of a Python file: function(settings) -> Keras model, and the dict SPACE.

    The file is run: it is the user's own code.

    Raises: InputError if it is not there, fails, or lacks one of the two.
    """
    name = f"{path}:{function}"
    try:
        text = read_if_regular(path)
    except OSError as error:
        raise InputError(f"{name}: {path} cannot be read: {error.strerror}") from error
    if text is None:
        why = "it is no file" if path.exists() else "no such file or directory"
        raise InputError(f"{name}: {path} cannot be read: {why}")
    build = OwnModel(str(path), function, text)
    try:
        names = build.names
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's file does, sys.exit() too
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
    """settings -> Keras model, by a function of a user's file.

    It holds the file's text: a file that changes while a search runs does not change the search.
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
        """The names that the file defines. The first use runs it."""
        module = ModuleType("keras2gp_own_space")
        module.__file__ = self.path
        # Dataclasses and Keras look a class's module up.
        sys.modules[module.__name__] = module
        exec(compile(self.text, self.path, "exec"), vars(module))  # noqa: S102 (the user's own)
        return vars(module)


def paper_space(image_shape: Sequence[int], classes: int, name: str = "paper") -> Space:
    """The hyperparameters that the paper searches, section 4; the ranges are ours.

    "paper" draws from all its networks, "paper-convnet" from those without skips, and
    "paper-residual" from those with skips.

    The paper names the parameters and the best values, and not the ranges: these ranges hold all
    of its best values. weight_variance is the variance of one element of a filter times the input
    channels, so that w2 = weight_variance window^2. skip = s adds the tensor s convolutions back
    (equation 16), skip = 0 adds none; networks with skips have stride 1 and SAME convolutions.
    """
    shape = tuple(image_shape)
    build = PaperNetwork(shape, classes)
    identity = f"{name} 1, {shape}, {classes}"
    return Space(name, _PAPER | _PARTS[name], build, identity, _paper_fits(shape))


@dataclass(frozen=True)
class PaperNetwork:
    """settings -> Keras model of `paper_space`."""

    shape: tuple[int, ...]
    classes: int

    def __call__(self, settings: Settings) -> Any:
        """The model of one draw."""
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
_PARTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "paper-convnet": {"skip": [0]},
    "paper-residual": {"skip": [1, 2, 3], "stride": [1], "padding": ["same"]},
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


def network(settings: Mapping[str, Any], image_shape: Sequence[int], classes: int) -> Any:
    """The convolutional network of a draw from `paper_space`.

    Activations come before the convolutions that they feed, so that sums are of Gaussian tensors.
    Reference: equations 2, 3 and 16 of the paper.
    """
    taps = settings["window"] ** 2
    conv = {
        "kernel_size": settings["window"],
        "strides": settings["stride"],
        "padding": settings["padding"],
        **_prior(settings["weight_variance"] * taps, settings["bias_variance"]),
    }
    image = keras.Input(tuple(image_shape))
    tensors = [layers.Conv2D(_WIDTH, name="conv1", **conv)(image)]
    for number in range(2, settings["layers"] + 1):
        x = _activated(tensors[-1], settings["activation"])
        x = layers.Conv2D(_WIDTH, name=f"conv{number}", **conv)(x)
        skip = settings["skip"]
        if skip and (number - 1) % skip == 0:
            x = layers.Add(name=f"add{number}")([tensors[-skip], x])
        tensors.append(x)
    x = layers.Flatten(name="flatten")(_activated(tensors[-1], settings["activation"]))
    prior = _prior(settings["weight_variance"], settings["bias_variance"])
    return keras.Model(image, layers.Dense(classes, name="dense", **prior)(x), name="searched")


def _activated(x: Any, name: str) -> Any:
    return keras.ops.erf(x) if name == "erf" else layers.ReLU()(x)


def _prior(w2: float, b2: float) -> dict[str, Any]:
    return {
        "kernel_initializer": keras.initializers.VarianceScaling(
            w2, "fan_in", "untruncated_normal"
        ),
        "bias_initializer": keras.initializers.RandomNormal(stddev=math.sqrt(b2)),
    }
