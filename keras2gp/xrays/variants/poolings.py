"""Ablations of poolings: left out, exchanged for a stride, moved; and the last one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras import layers

from keras2gp._util.keras_objects import KerasOperation
from keras2gp.graph.variances import LayerVariances
from keras2gp.xrays.variants.exchanges import replace_by
from keras2gp.xrays.variants.parts import (
    calls_of,
    is_attached,
    is_global_pooling,
    is_merge,
    is_pooling,
    sides_of,
    unit,
)
from keras2gp.xrays.variants.removals import skip_call
from keras2gp.xrays.variants.wiring import Change, NamedChanges, Visit, Wired, Wiring, is_weighted

__all__ = ["poolings"]

Parameters = Mapping[str, LayerVariances]


def poolings(wirings: Sequence[Wiring], parameters: Parameters) -> Iterator[NamedChanges]:
    """Each pooling left out, exchanged for a stride or moved, all at the end, and the last one."""
    del parameters
    pooling_calls = calls_of(wirings, is_pooling)
    for path, call in pooling_calls.items():
        yield f"no {path}", f"without the pooling {path}", {path: skip_call}
        if any(n > 1 for n in sides_of(call.operation.strides)):
            text = f"with every position that the pooling {path} moves to, and no averaging"
            yield f"{path} as a stride", text, {path: replace_by(_stride)}
    yield from _moved(wirings, pooling_calls)
    if len(pooling_calls) > 1:
        text = f"without all {len(pooling_calls)} poolings"
        yield "no pooling", text, dict.fromkeys(pooling_calls, skip_call)
    flat = [c for c in calls_of(wirings, _is_flatten).values() if len(c.shape) > 1]
    if pooling_calls and flat:
        changes: dict[str, Change] = dict.fromkeys(pooling_calls, skip_call)
        moved = [call.operation for call in pooling_calls.values()]
        changes[flat[-1].path] = _apply_before(moved, id(flat[-1].node.input_tensors[0]))
        yield "pooling at the end", "with all poolings in front of the Flatten", changes
    for path in calls_of(wirings, is_global_pooling):
        text = f"with a Flatten in the place of the pooling {path}"
        yield f"{path} as a Flatten", text, {path: replace_by(_flatten)}
    for call in flat:
        text = f"with the average over all positions in the place of {call.path}"
        yield f"{call.path} as an average", text, {call.path: replace_by(_average)}


def _is_flatten(operation: KerasOperation) -> bool:
    return isinstance(operation, layers.Flatten)


def _stride(visit: Visit) -> Any:
    """A pooling of one position: nothing but the stride of another."""
    operation = visit.call.operation
    kind = getattr(layers, type(operation).__name__.replace("Max", "Average"))
    return kind(1, operation.strides, data_format=operation.data_format, name=operation.name)


def _flatten(visit: Visit) -> Any:
    return layers.Flatten(name=visit.call.operation.name)


def _average(visit: Visit) -> Any:
    operation = visit.call.operation
    kind = getattr(layers, f"GlobalAveragePooling{len(visit.call.shape) - 1}D")
    return kind(data_format=operation.data_format, name=operation.name)


def _apply_before(operations: Sequence[Any], tensor: int) -> Change:
    """Apply the operations to one tensor that the call reads, then the call."""
    return lambda visit: visit.result_after(operations, tensor)


def _apply_after(operations: Sequence[Any]) -> Change:
    """Apply the operations to the call's result."""
    return lambda visit: visit.builder.apply(operations, visit.builder.unchanged(visit))


@dataclass(frozen=True)
class _MovablePart:
    """A layer with weights, or a block, that a pooling can be moved past.

    Attributes:
        name: its name in a description.
        members: numbers of its calls.
        readers: paths of its calls that read its input tensor.
        tensor: identity of its input tensor.
        end: path of its last call, or of the last activation or normalisation after that.
    """

    name: str
    members: frozenset[int]
    readers: tuple[str, ...]
    tensor: int
    end: str


def _moved(wirings: Sequence[Wiring], pooling_calls: Mapping[str, Wired]) -> Iterator[NamedChanges]:
    """Each pooling one layer with weights or block earlier, and later."""
    times = Counter(call.path for wiring in wirings for call in wiring.calls)
    for path, pooling in pooling_calls.items():
        calls = [(w, n) for w in wirings for n, c in enumerate(w.calls) if c.path == path]
        for word, find in (("earlier", _before), ("later", _after)):
            parts = [part for wiring, number in calls if (part := find(wiring, number))]
            changes: dict[str, Change] = {path: skip_call}
            for part in parts:
                if word == "earlier":
                    new = dict.fromkeys(
                        part.readers, _apply_before([pooling.operation], part.tensor)
                    )
                else:
                    new = {part.end: _apply_after([pooling.operation])}
                changes |= new
            moved = [place for place in changes if place != path]
            if len(parts) == len(calls) and all(times[place] == 1 for place in moved):
                where = "in front of" if word == "earlier" else "behind"
                text = f"with the pooling {path} {where} {' and '.join(p.name for p in parts)}"
                yield f"{path} {word}", text, changes


def _before(wiring: Wiring, number: int) -> _MovablePart | None:
    """The layer or block whose result a pooling alone reads."""
    end = wiring.calls[number].sources[0]
    if end < 0 or len(wiring.readers[end]) > 1:
        return None
    parts = (_between(wiring, start, end) for start in reversed(range(-1, end)))
    return next(filter(None, parts), None)


def _after(wiring: Wiring, number: int) -> _MovablePart | None:
    """The layer or block that alone reads a pooling's result."""
    later = range(number + 1, len(wiring.calls))
    parts = (_between(wiring, number, end) for end in later)
    return next((p for p in parts if p and p.members.issuperset(wiring.readers[number])), None)


def _between(wiring: Wiring, start: int, end: int) -> _MovablePart | None:
    """The calls after `start` up to `end`, if they form one layer or block; else None.

    A layer or block has weights and reads one tensor, and no call outside of it reads a result of
    its calls but that of the last one.

    Args:
        wiring: the graph.
        start: number of a call; -1 for an input.
        end: number of a later call.
    """
    calls, ancestors = wiring.calls, wiring.ancestors
    members = [n for n in ancestors[end] if n != start and (start < 0 or start in ancestors[n])]
    weighted = [n for n in members if is_weighted(calls[n].operation)]
    merges = [n for n in members if is_merge(calls[n].operation)]
    whole = all(set(members).issuperset(wiring.readers[n]) for n in members if n != end)
    others = set(members).difference(weighted, merges)
    if not weighted or not whole or not all(is_attached(calls[n]) for n in others):
        return None
    readings = [
        (calls[n].path, id(tensor))
        for n in sorted(members)
        for source, tensor in zip(calls[n].sources, calls[n].node.input_tensors, strict=True)
        if source not in members
    ]
    if len({tensor for _, tensor in readings}) != 1:
        return None
    return _MovablePart(
        name=f"the block {calls[max(merges)].path}" if merges else calls[weighted[0]].path,
        members=frozenset(members),
        readers=tuple(dict.fromkeys(path for path, _ in readings)),
        tensor=readings[0][1],
        end=calls[unit(wiring, end)[-1]].path,
    )
