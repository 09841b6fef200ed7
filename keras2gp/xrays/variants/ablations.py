"""The ablations of a model: every part of its graph that can be taken out, moved or exchanged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keras2gp._util.keras_objects import KerasModel
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.graph.variances import LayerVariances
from keras2gp.xrays import ABLATIONS, KINDS
from keras2gp.xrays.variants import exchanges, poolings, removals
from keras2gp.xrays.variants.wiring import Change, NamedChanges, Wiring

__all__ = ["Ablation", "ablations", "check_kinds"]


@dataclass(frozen=True, eq=False)
class Ablation:
    """One change of a model.

    Attributes:
        kind: one of KINDS.
        name: a short name that no other ablation has.
        text: a clause that says what is changed.
        changes: the changes of calls, by path.
    """

    kind: str
    name: str
    text: str
    changes: Mapping[str, Change]


_Generator = Callable[[Sequence[Wiring], Mapping[str, LayerVariances]], Iterator[NamedChanges]]
_MODULES = {"removals": removals, "exchanges": exchanges, "poolings": poolings}


def _generator_of(kind: str) -> _Generator:
    """The function that makes the ablations of a kind."""
    module, name = ABLATIONS[kind].split(".")
    generator: _Generator = getattr(_MODULES[module], name)
    return generator


def check_kinds(kinds: Collection[str] | None) -> tuple[str, ...]:
    """The chosen kinds; all for None.

    Raises:
        InputError: a kind is unknown.
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
        functional: the model's graph.
        parameters: the variances of its layers, by path.
        kinds: some of KINDS; None for all.
    """
    chosen, names = check_kinds(kinds), set[str]()
    wirings = list(Wiring(functional).nested()) if chosen else []
    for kind in chosen:
        for name, text, changes in _generator_of(kind)(wirings, parameters):
            if changes and name not in names:
                names.add(name)
                yield Ablation(kind, name, text, changes)
