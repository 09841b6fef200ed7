"""The ablations of a model: every part of its graph that can be taken out, moved or exchanged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keras2gp._util.keras_objects import KerasModel
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.graph.variances import LayerVariances
from keras2gp.xrays import KINDS, exchanges, poolings, removals
from keras2gp.xrays.wiring import Change, Found, Wiring

__all__ = ["Ablation", "ablations", "check_kinds"]


@dataclass(frozen=True, eq=False)
class Ablation:
    """One change of a model.

    Attributes:
        kind: one of KINDS.
        name: short, and unlike that of any other.
        text: what is changed, a clause.
        changes: of calls, by path.
    """

    kind: str
    name: str
    text: str
    changes: Mapping[str, Change]


_Generator = Callable[[Sequence[Wiring], Mapping[str, LayerVariances]], Iterator[Found]]
_GENERATORS: dict[str, _Generator] = {
    "skip": removals.skips,
    "normalization": removals.normalizations,
    "pooling": poolings.poolings,
    "stride": exchanges.strides,
    "padding": exchanges.paddings,
    "window": exchanges.windows,
    "receptive field": exchanges.receptive_fields,
    "depth": removals.depths,
    "activation": exchanges.activations,
    "bias": exchanges.biases,
}


def check_kinds(kinds: Collection[str] | None) -> tuple[str, ...]:
    """The chosen kinds; all for None.

    Raises:
        InputError: one is none.
    """
    if kinds is None:
        return KINDS
    chosen = [kinds] if isinstance(kinds, str) else list(kinds)
    for kind in chosen:
        if kind not in KINDS:
            listed = ", ".join(KINDS)
            raise InputError(f"kinds: {received_text(kind)} is none. There are: {listed}")
    return tuple(kind for kind in KINDS if kind in chosen)


def ablations(
    functional: KerasModel,
    parameters: Mapping[str, LayerVariances],
    kinds: Collection[str] | None = None,
) -> Iterator[Ablation]:
    """Every ablation of a model.

    Args:
        functional: its graph.
        parameters: the variances of its layers, by path.
        kinds: some of KINDS; None for all.
    """
    chosen, names = check_kinds(kinds), set[str]()
    wirings = list(Wiring(functional).nested()) if chosen else []
    for kind in chosen:
        for name, text, changes in _GENERATORS[kind](wirings, parameters):
            if changes and name not in names:
                names.add(name)
                yield Ablation(kind, name, text, changes)
