"""The trained part of a model: a layer and all before it, which Keras runs with present weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.tensor import Tensor

__all__ = ["Cut"]


class Cut:
    """The calls that come before a cut, while a model is walked over.

    Args:
        path: The path of the last layer that is trained; None for a model without such a part.

    Attributes:
        active: Whether the present call belongs to the trained part.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.active = False
        self._layers: dict[int, str] = {}
        self._inside: dict[int, str] = {}

    def before(self, calls: Sequence[tuple[Any, str]]) -> set[int]:
        """The calls of one model that the cut's result depends on, and the cut's own.

        Args:
            calls: Keras's records of its calls, with their paths, in order.

        Returns:
            Identities of records. A nested model that the cut lies in is not among them.
        """
        if self.path is None:
            return set()
        last = [
            node for node, path in calls if path == self.path or self.path.startswith(f"{path}/")
        ]
        producers = {id(t): node for node, _ in calls for t in node.outputs}
        left, found = last[-1:], set[int]()
        while left:
            node = left.pop()
            if id(node) not in found:
                found.add(id(node))
                left += [producers[id(t)] for t in node.input_tensors if id(t) in producers]
        return found - {id(node) for node, path in calls if node in last and path != self.path}

    def check(self, call: Call, context: Context) -> None:
        """Refuse a layer on both sides of the cut, and a way around it."""
        layer = call.operation
        if self.path is None:
            return
        drawn = {identity for identity, _ in context.state.names}
        if self.active and id(layer) in drawn:
            self._refuse_both(context, context.path)
        if self.active:
            return
        if id(layer) in self._layers:
            self._refuse_both(context, self._layers[id(layer)])
        around = (self._inside.get(id(t.data)) for t in call.tensors)
        way = next((path for path in around if path is not None), None)
        if way is not None:
            context.refuse(
                f"the result of {way} reaches it around {self.path}: it has trained weights, and "
                f"is not what trained_until={self.path!r} lets through",
                "a layer as trained_until= that all paths pass, such as the one where they join",
                by_shape=False,
            )

    def _refuse_both(self, context: Context, trained: str) -> None:
        context.refuse(
            f"it is called as {trained} before {self.path} too, where it has its present weights",
            "another layer as trained_until=, before or behind both calls",
            by_shape=False,
        )

    def note(self, call: Call, path: str, results: Sequence[Tensor]) -> None:
        """Note the results of a call of the trained part."""
        weights = getattr(call.operation, "weights", ())
        if weights:
            self._layers[id(call.operation)] = path
        if weights or any(id(t.data) in self._inside for t in call.tensors):
            self._inside |= {id(result.data): path for result in results}

    def passed(self, path: str, results: Sequence[Tensor]) -> None:
        """Let the results of the cut's own call through to what follows."""
        for result in results if path == self.path else ():
            self._inside.pop(id(result.data), None)
