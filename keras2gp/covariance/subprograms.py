"""Parts of a program that are traced once, and called wherever they occur.

The rules of equal layers are the same operations on maps of the same shape. Written out for each
layer, every operation costs TensorFlow a millisecond of tracing, and some a further seven when they
become XLA's: roots and absolute values. A call is one operation, and TensorFlow makes XLA's of
equal calls once; XLA writes them out before it fuses anything.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import Tensor

__all__ = ["Subprograms", "differentiable", "is_differentiable"]

_DIFFERENTIABLE: ContextVar[bool] = ContextVar("differentiable", default=False)
_CALLED = {"_noinline": True}


@contextmanager
def differentiable() -> Iterator[None]:
    """Programs that are traced in this context have the derivatives that `root_of` speaks of.

    tf.custom_gradient would give them to all, but keeps every graph that it was ever traced in: the
    programs of a model of ten layers, 40 MB, could never be given back.
    """
    before = _DIFFERENTIABLE.set(True)
    try:
        yield
    finally:
        _DIFFERENTIABLE.reset(before)


def is_differentiable() -> bool:
    """Whether operations that are traced, or run, now have derivatives (see `differentiable`)."""
    return _DIFFERENTIABLE.get() or bool(tf.executing_eagerly())


class Subprograms:
    """The parts of one program, each by its name and the types and shapes of its arguments."""

    def __init__(self) -> None:
        self._traced: dict[Hashable, Any] = {}

    def call(self, name: Hashable, part: Callable[..., Any], *tensors: Tensor) -> Any:
        """The result of a pure function of tensors, a tensor or a tuple of them.

        It is written out where operations are run at once, and where derivatives are asked for.

        name: of all that the function depends on beside its arguments
        """
        if is_differentiable():
            return part(*tensors)
        specs = [tf.TensorSpec(t.shape, t.dtype) for t in tensors]
        key = name, *((t.dtype, *(t.shape if t.shape.rank is not None else "?")) for t in specs)
        if key not in self._traced:
            with tf.init_scope():
                function = tf.function(part, autograph=False, experimental_attributes=_CALLED)
                self._traced[key] = function.get_concrete_function(*specs)
        traced = self._traced[key]
        if traced.captured_inputs:
            return part(*tensors)
        outputs = traced.outputs
        found = tf.raw_ops.PartitionedCall(args=tensors, Tout=[t.dtype for t in outputs], f=traced)
        for result, output in zip(found, outputs, strict=True):
            result.set_shape(output.shape)
        return found[0] if tf.is_tensor(traced.structured_outputs) else tuple(found)
