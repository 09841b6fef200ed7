"""TimeDistributed in walks for random copies: the steps are images of one batch meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras

from keras2gp.conversion.call import Call
from keras2gp.conversion.tensor import Tensor
from keras2gp.conversion.walker import KerasWalker

__all__ = ["StepByStep"]


class StepByStep(KerasWalker):
    """A walk that reads what TimeDistributed wraps on all steps at once.

    depth: how many of them the present call is inside of
    """

    depth = 0

    def _call(self, call: Call, path: str, count: int, shapes: list[Any]) -> list[Tensor]:
        if type(call.operation) is not keras.layers.TimeDistributed or self.cut.active:
            return self._single(call, path, count, shapes)
        tensor, known = call.tensors[0], set(self.results)
        steps, shape = int(tensor.shape[0] or 1), call.output[1:]
        folded = self._folded(tensor)
        self.depth += 1
        (result,) = self._wrapped(call.operation.layer, folded, path, shape)
        self.depth -= 1
        for name in self.results.keys() - known:
            self.results[name] = self._unfolded(self.results[name], steps)
        return [self._unfolded(result, steps)]

    def _single(self, call: Call, path: str, count: int, shapes: list[Any]) -> list[Tensor]:
        """A call of another layer or operation."""
        raise NotImplementedError

    def _plain(self, call: Call, path: str, count: int, shapes: list[Any]) -> list[Tensor]:
        """A call as it is read for a kernel."""
        return super()._call(call, path, count, shapes)

    def _folded(self, tensor: Tensor) -> Tensor:
        """A tensor with its steps as images."""
        data = tensor.data
        if data is not None:
            data = keras.ops.reshape(data, (-1, *data.shape[2:]))
        return replace(tensor, shape=tensor.shape[1:], data=data)

    def _unfolded(self, tensor: Tensor, steps: int) -> Tensor:
        """A tensor with its steps as an axis."""
        data = tensor.data
        if data is not None:
            data = keras.ops.reshape(data, (-1, steps, *data.shape[1:]))
        return replace(tensor, shape=(steps, *tensor.shape), data=data)
