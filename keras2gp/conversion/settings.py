"""The arguments of a conversion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from keras2gp._util.checks import one_of, proper_share
from keras2gp._util.text import received_text
from keras2gp.conversion.overrides import check_overrides
from keras2gp.conversion.registry import OwnLayers
from keras2gp.covariance.duals.hermite import TOLERANCE
from keras2gp.covariance.own_activations import OwnActivations
from keras2gp.errors import InputError
from keras2gp.kernel.variances import matching

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """The arguments of `convert` without the model, checked, with their defaults.

    `activations` is None in a walk that copies a model: there Keras computes them.

    Raises: InputError for one that does not fit.
    """

    prior: str = "initializers"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    output: str | int | None = None
    max_pooling: str | None = None
    tolerance: float = TOLERANCE
    activations: OwnActivations | None = field(default_factory=OwnActivations)
    layers: Mapping[Any, Any] | None = None
    input_shape: Any = None
    trained_until: str | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        one_of("prior", self.prior, ("initializers", "weights"))
        one_of("dtype", self.dtype, ("float32", "float64"))
        one_of("max_pooling", self.max_pooling, (None, "average"))
        if not isinstance(self.trained_until, str | None):
            raise InputError(
                f"trained_until={received_text(self.trained_until)}: expected the path of a layer"
            )
        proper_share("tolerance", self.tolerance)

    @classmethod
    def of(
        cls,
        overrides: Mapping[str, Any] | None = None,
        activations: Mapping[Any, Any] | None = None,
        **others: Any,
    ) -> Settings:
        """The settings of the arguments as `convert` receives them.

        Raises: InputError or PriorError for one that does not fit.
        """
        functions = OwnActivations(activations)
        return cls(overrides=check_overrides(overrides), activations=functions, **others)

    @cached_property
    def readers(self) -> OwnLayers:
        """The readers of the layers that the caller handed over. Raises: InputError."""
        return OwnLayers(self.layers)

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of a report that say which part of the model is trained."""
        if self.trained_until is None:
            return ()
        return (f"{self.trained_until} and all before it run with their present weights",)

    @property
    def takes_weights(self) -> bool:
        """Whether the present weights of the model matter."""
        return self.prior == "weights" or self.trained_until is not None

    def states_both(self, path: str) -> bool:
        """Whether overrides give a layer both variances: its initialisers do not matter then."""
        stated: set[str] = set()
        for pattern, value in self.overrides.items():
            if matching(pattern, (path,)):
                stated.update(value if isinstance(value, Mapping) else ("weight", "bias"))
        return {"weight", "bias"} <= stated

    def overrides_of(self, layers: Iterable[str]) -> dict[str, Any]:
        """The overrides whose pattern matches a layer."""
        names = tuple(layers)
        return {
            pattern: value for pattern, value in self.overrides.items() if matching(pattern, names)
        }
