"""Ablations of poolings: left out, exchanged for a stride, moved; and the last one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras import layers

from keras2gp._util.keras_objects import KerasOperation
from keras2gp.graph.variances import LayerVariances
from keras2gp.xrays.exchanges import instead
from keras2gp.xrays.parts import (
    calls_of,
    is_attached,
    is_global_pooling,
    is_merge,
    is_pooling,
    sides_of,
    unit,
)
from keras2gp.xrays.removals import passed
from keras2gp.xrays.wiring import Change, Found, Visit, Wired, Wiring, is_weighted

__all__ = ["poolings"]

Parameters = Mapping[str, LayerVariances]


def poolings(wirings: Sequence[Wiring], parameters: Parameters) -> Iterator[Found]:
    """Each pooling left out, exchanged for a stride or moved, all at the end, and the last one."""
    del parameters
    found = calls_of(wirings, is_pooling)
    for path, call in found.items():
        yield f"no {path}", f"without the pooling {path}", {path: passed}
        if any(n > 1 for n in sides_of(call.operation.strides)):
            text = f"with every position that the pooling {path} moves to, and no averaging"
            yield f"{path} as a stride", text, {path: instead(_stride)}
    yield from _moved(wirings, found)
    if len(found) > 1:
        yield "no pooling", f"without all {len(found)} poolings", dict.fromkeys(found, passed)
    flat = [c for c in calls_of(wirings, _is_flatten).values() if len(c.shape) > 1]
    if found and flat:
        changes: dict[str, Change] = dict.fromkeys(found, passed)
        moved = [call.operation for call in found.values()]
        changes[flat[-1].path] = _behind(moved, id(flat[-1].node.input_tensors[0]))
        yield "pooling at the end", "with all poolings in front of the Flatten", changes
    for path in calls_of(wirings, is_global_pooling):
        text = f"with a Flatten in the place of the pooling {path}"
        yield f"{path} as a Flatten", text, {path: instead(_flatten)}
    for call in flat:
        text = f"with the average over all positions in the place of {call.path}"
        yield f"{call.path} as an average", text, {call.path: instead(_average)}


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


def _behind(operations: Sequence[Any], reading: int) -> Change:
    """The call on what layers make of a tensor that it reads."""
    return lambda visit: visit.behind(operations, reading)


def _in_front_of(operations: Sequence[Any]) -> Change:
    """Layers behind the call."""
    return lambda visit: visit.builder.applied(operations, visit.builder.plain(visit))


@dataclass(frozen=True)
class _Passed:
    """A layer with weights, or a block, that a pooling can be moved past.

    Attributes:
        name: for a description.
        members: its calls.
        readers: paths of its calls that read the one tensor it is of.
        tensor: identity of that tensor.
        end: path of the last call, of an activation behind it if there is one.
    """

    name: str
    members: frozenset[int]
    readers: tuple[str, ...]
    tensor: int
    end: str


def _moved(wirings: Sequence[Wiring], found: Mapping[str, Wired]) -> Iterator[Found]:
    """Each pooling one layer with weights or block earlier, and later."""
    times = Counter(call.path for wiring in wirings for call in wiring.calls)
    for path, pooling in found.items():
        calls = [(w, n) for w in wirings for n, c in enumerate(w.calls) if c.path == path]
        for word, find in (("earlier", _before), ("later", _after)):
            parts = [part for wiring, number in calls if (part := find(wiring, number))]
            changes: dict[str, Change] = {path: passed}
            for part in parts:
                if word == "earlier":
                    new = dict.fromkeys(part.readers, _behind([pooling.operation], part.tensor))
                else:
                    new = {part.end: _in_front_of([pooling.operation])}
                changes |= new
            moved = [place for place in changes if place != path]
            if len(parts) == len(calls) and all(times[place] == 1 for place in moved):
                where = "in front of" if word == "earlier" else "behind"
                text = f"with the pooling {path} {where} {' and '.join(p.name for p in parts)}"
                yield f"{path} {word}", text, changes


def _before(wiring: Wiring, number: int) -> _Passed | None:
    """The layer or block whose result a pooling alone reads."""
    end = wiring.calls[number].sources[0]
    if end < 0 or len(wiring.readers[end]) > 1:
        return None
    parts = (_between(wiring, start, end) for start in reversed(range(-1, end)))
    return next(filter(None, parts), None)


def _after(wiring: Wiring, number: int) -> _Passed | None:
    """The layer or block that alone reads a pooling's result."""
    later = range(number + 1, len(wiring.calls))
    parts = (_between(wiring, number, end) for end in later)
    return next((p for p in parts if p and p.members.issuperset(wiring.readers[number])), None)


def _between(wiring: Wiring, start: int, end: int) -> _Passed | None:
    """The calls between two, with the second, where they are one layer or block.

    They have weights, read one tensor, and their results are read through the last of them alone.

    Args:
        wiring: a graph.
        start: a call; -1 for an input.
        end: a later call.
    """
    calls, ancestors = wiring.calls, wiring.ancestors
    members = [n for n in ancestors[end] if n != start and (start < 0 or start in ancestors[n])]
    weighted = [n for n in members if is_weighted(calls[n].operation)]
    merges = [n for n in members if is_merge(calls[n].operation)]
    whole = all(set(members).issuperset(wiring.readers[n]) for n in members if n != end)
    others = set(members).difference(weighted, merges)
    if not weighted or not whole or not all(is_attached(calls[n]) for n in others):
        return None
    read = [
        (calls[n].path, id(tensor))
        for n in sorted(members)
        for source, tensor in zip(calls[n].sources, calls[n].node.input_tensors, strict=True)
        if source not in members
    ]
    if len({tensor for _, tensor in read}) != 1:
        return None
    return _Passed(
        name=f"the block {calls[max(merges)].path}" if merges else calls[weighted[0]].path,
        members=frozenset(members),
        readers=tuple(dict.fromkeys(path for path, _ in read)),
        tensor=read[0][1],
        end=calls[unit(wiring, end)[-1]].path,
    )
