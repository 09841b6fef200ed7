"""Ablations that take parts out or repeat them: skips, normalisations, layers and blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras import layers

from keras2gp.graph.variances import LayerVariances
from keras2gp.xrays.variants.parts import branches, is_merge, is_normalization, signature, unit
from keras2gp.xrays.variants.wiring import Change, NamedChanges, Visit, Wiring, is_weighted

__all__ = ["depths", "merges_of", "normalizations", "skip_call", "skips"]

Parameters = Mapping[str, LayerVariances]


def skip_call(visit: Visit) -> Any:
    """Take the call's first input for its result."""
    return visit.inputs[0]


def _merge_only(branches_left: Sequence[int]) -> Change:
    """Merge some of the inputs; a single one is the result itself.

    Args:
        branches_left: numbers of these inputs.
    """

    def change(visit: Visit) -> Any:
        inputs = [visit.inputs[i] for i in branches_left]
        if len(inputs) == 1:
            return inputs[0]
        operation = visit.builder.copy_of(visit.call.operation, {})
        return operation(inputs) if isinstance(operation, layers.Layer) else operation(*inputs)

    return change


@dataclass(frozen=True)
class _Merge:
    """A merge of a skip connection and of longer branches.

    Attributes:
        short, long: numbers of its inputs.
        block: the calls of the longer branches and of the merge.
        fork: the call at which the branches part; -1 for an input.
        identity: whether the skip is the forked tensor itself.
    """

    wiring: Wiring
    number: int
    short: tuple[int, ...]
    long: tuple[int, ...]
    block: tuple[int, ...]
    fork: int
    identity: bool

    @property
    def path(self) -> str:
        """Path of the merge."""
        return self.wiring.calls[self.number].path


def merges_of(wiring: Wiring) -> Iterator[_Merge]:
    """The merges whose inputs differ in the number of layers with weights since the fork."""
    for number, call in enumerate(wiring.calls):
        if not is_merge(call.operation) or len(call.sources) < 2:
            continue
        parts = branches(wiring, number)
        depths = [sum(is_weighted(wiring.calls[i].operation) for i in part) for part in parts]
        short = tuple(i for i, n in enumerate(depths) if n == min(depths))
        long = tuple(i for i, n in enumerate(depths) if n > min(depths))
        if not long:
            continue
        inside = frozenset().union(*(parts[i] for i in long))
        skip = call.sources[short[0]]
        identity = len(short) == 1 and not parts[short[0]]
        yield _Merge(wiring, number, short, long, (*sorted(inside), number), skip, identity)


def skips(wirings: Sequence[Wiring], parameters: Parameters) -> Iterator[NamedChanges]:
    """Each skip connection removed, and all of them."""
    del parameters
    changes = {m.path: _merge_only(m.long) for wiring in wirings for m in merges_of(wiring)}
    for path, change in changes.items():
        yield f"no skip into {path}", f"without the skip connection into {path}", {path: change}
    if len(changes) > 1:
        yield "no skips", f"without all {len(changes)} skip connections", changes


def normalizations(wirings: Sequence[Wiring], parameters: Parameters) -> Iterator[NamedChanges]:
    """Each normalisation removed, and all of them."""
    del parameters
    calls = [call for wiring in wirings for call in wiring.calls]
    paths = dict.fromkeys(call.path for call in calls if is_normalization(call.operation))
    for path in paths:
        yield f"no {path}", f"without the normalisation {path}", {path: skip_call}
    if len(paths) > 1:
        changes = dict.fromkeys(paths, skip_call)
        yield "no normalization", f"without all {len(paths)} normalisations", changes


def depths(wirings: Sequence[Wiring], parameters: Parameters) -> Iterator[NamedChanges]:
    """A layer or a block fewer and more, one of each kind that differs."""
    del parameters
    for wiring in wirings:
        merges = list(merges_of(wiring))
        yield from _layers(wiring, merges)
        yield from _blocks(wiring, merges)


def _layers(wiring: Wiring, merges: Sequence[_Merge]) -> Iterator[NamedChanges]:
    calls = wiring.calls
    last: dict[str, tuple[int, ...]] = {}
    for number, call in enumerate(calls):
        if not is_weighted(call.operation) or not wiring.is_hidden(number):
            continue
        members = unit(wiring, number)
        weighted = [{i for i in merge.block if is_weighted(calls[i].operation)} for merge in merges]
        if any(part <= set(members) for part in weighted):  # the block without it is no block
            continue
        last[signature(calls[i] for i in members)] = members
    for members in last.values():
        first, end = calls[members[0]], calls[members[-1]]
        paths = [calls[i].path for i in members]
        behind = f", and {' and '.join(paths[1:])} behind it" if paths[1:] else ""
        yield (
            f"{first.path} left out",
            f"without the layer {first.path}{behind}",
            dict.fromkeys(paths, skip_call),
        )
        yield (
            f"{first.path} twice",
            f"with the layer {first.path}{behind}{',' if behind else ''} twice",
            {end.path: _repeat(members, first.sources[0])},
        )


def _blocks(wiring: Wiring, merges: Sequence[_Merge]) -> Iterator[NamedChanges]:
    last = {signature(wiring.calls[i] for i in merge.block): merge for merge in merges}
    for merge in last.values():
        path = merge.path
        yield (
            f"block {path} left out",
            f"with the skip alone in the place of the block {path}",
            {path: _merge_only(merge.short)},
        )
        if merge.identity:
            yield (
                f"block {path} twice",
                f"with the block {path} twice",
                {path: _repeat(merge.block, merge.fork)},
            )


def _repeat(numbers: Sequence[int], start: int) -> Change:
    return lambda visit: visit.repeat(numbers, start, visit.result())
