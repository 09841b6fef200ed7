"""Changes of a kernel's variances, by layer or by pattern."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from keras2gp._util.text import did_you_mean, received_text
from keras2gp.errors import PriorError, one_line
from keras2gp.graph.variances import LayerVariances

__all__ = ["changed_variances"]


def changed_variances(
    parameters: Mapping[str, LayerVariances], changes: Any
) -> dict[str, LayerVariances]:
    """Variances with changes, in their order; a name is a layer's, or a pattern of such names.

    Args:
        parameters: variances by layer.
        changes: name or pattern to LayerVariances, a (weight, bias) pair, or a dict of one or both.

    Returns:
        The new variances.

    Raises:
        PriorError: a name is no layer's and matches none, or a variance is negative or not finite.
    """
    if not isinstance(changes, Mapping):
        raise PriorError(
            f"changes={received_text(changes)}: expected a dict of layers and their variances"
        )
    changed = dict(parameters)
    for name, change in changes.items():
        for layer in _layers(name, parameters):
            changed[layer] = _changed(layer, changed[layer], change)
    return changed


def _layers(name: Any, parameters: Mapping[str, LayerVariances]) -> list[str]:
    """The layers that a name or a pattern stands for. Raises: PriorError if there is none."""
    if name in parameters:
        return [name]
    matched = [layer for layer in parameters if isinstance(name, str) and fnmatchcase(layer, name)]
    if not matched:
        hint = did_you_mean(name, parameters)
        layers = one_line(", ".join(parameters))
        raise PriorError(f"{name!r} is no layer of this kernel.{hint} Its layers: {layers}")
    return matched


def _changed(layer: str, old: LayerVariances, change: Any) -> LayerVariances:
    if isinstance(change, LayerVariances):
        return change
    try:
        if isinstance(change, Mapping):
            return replace(old, **change)
        weight, bias = change
        return LayerVariances(weight, bias)
    except (TypeError, ValueError) as error:
        raise PriorError(f"{layer}: {change!r} are no variances: {error}") from error
