"""Layers by name or by pattern, and changes of their variances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from keras2gp._util import html
from keras2gp._util.text import did_you_mean, received_text
from keras2gp.errors import PriorError, one_line
from keras2gp.graph.variances import LayerVariances

__all__ = ["changed_variances", "kernel_html", "matching"]

_NAMES = ("weight", "bias")


def matching(pattern: object, layers: Iterable[str]) -> list[str]:
    """The layers whose name a pattern matches, in their order; none for what is not text.

    Args:
        pattern: a shell pattern, in which upper and lower case differ: * any text, ? one
            character, [ab] a choice.
        layers: their names.
    """
    if not isinstance(pattern, str):
        return []
    return [layer for layer in layers if fnmatchcase(layer, pattern)]


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
        PriorError: a name matches no layer, or a variance is negative or not finite.
    """
    if not isinstance(changes, Mapping):
        raise PriorError(
            f"changes={received_text(changes)}: expected a dict of layers and their variances"
        )
    changed = dict(parameters)
    for name, change in changes.items():
        for layer in _named_layers(name, parameters):
            changed[layer] = _variances(layer, changed[layer], change)
    return changed


def kernel_html(kernel: Any, notes: Iterable[str] = ()) -> str:
    """A kernel for a notebook: its layers with their variances, and notes."""
    header = ("weight variance", "bias variance")
    rows = [(name, f"{of.weight:.6g}", f"{of.bias:.6g}") for name, of in kernel.parameters.items()]
    return html.page(
        repr(kernel)[1:-1],
        html.lines([f"{kernel.kind}, {kernel.dtype}"]),
        html.table(("layer", *header), rows, header),
        html.lines([f"note: {note}" for note in notes]),
    )


def _named_layers(name: Any, parameters: Mapping[str, LayerVariances]) -> list[str]:
    """The layer of that name, else those that match it as a pattern.

    Raises: PriorError if no layer does.
    """
    if name in parameters:
        return [name]
    matched = matching(name, parameters)
    if not matched:
        hint = did_you_mean(name, parameters)
        layers = one_line(", ".join(parameters))
        raise PriorError(f"{name!r} is no layer of this kernel.{hint} Its layers: {layers}")
    return matched


def _variances(layer: str, old: LayerVariances, change: Any) -> LayerVariances:
    """The variances that a change gives a layer. Raises: PriorError if they are not variances."""
    if isinstance(change, LayerVariances):
        return change
    weight, bias = _pair(layer, old, change)
    try:
        return LayerVariances(weight, bias)
    except PriorError as error:
        raise PriorError(f"{layer}: {error}") from error


def _pair(layer: str, old: LayerVariances, change: Any) -> Sequence[Any]:
    """Weight and bias variance as they are to be, not yet checked. Raises: PriorError."""
    if isinstance(change, Mapping):
        for name in change:
            if name not in _NAMES:
                hint = did_you_mean(name, _NAMES)
                raise PriorError(
                    f"{layer}: a layer has no variance {name!r}.{hint} It has weight and bias"
                )
        return [change.get(name, getattr(old, name)) for name in _NAMES]
    try:
        pair = [] if isinstance(change, str) else list(change)
    except TypeError:
        pair = []
    if len(pair) != len(_NAMES):
        raise PriorError(
            f"{layer}: {received_text(change)} is no pair of variances. Try: LayerVariances, "
            '(weight, bias), or a dict with "weight", "bias" or both'
        )
    return pair
