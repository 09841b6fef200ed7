"""Dense layers."""

from __future__ import annotations

import keras

from keras2gp.conversion.context import Call, Context
from keras2gp.conversion.layers.activation import fused
from keras2gp.conversion.registry import reader
from keras2gp.conversion.tensor import Tensor

__all__ = ["read_dense"]


@reader(keras.layers.Dense)
def read_dense(call: Call, context: Context) -> Tensor:
    """Random weights over the last axis: k' = b2 + w2 k."""
    layer, tensor = call.operation, context.gathered(call.tensors[0])
    if tensor.channel_first and not tensor.flat:
        context.refuse(
            "it sums over the last axis, which holds positions here, not channels",
            "Flatten before it, or data_format='channels_last' throughout",
        )
    if getattr(layer, "lora_enabled", False) or layer.quantization_mode is not None:
        context.refuse("its weights are quantised or have low-rank updates", "the plain layer")
    context.became = "dense"
    result = context.affine(tensor, layer, layer.kernel.shape[0], call.output)
    return fused(layer.activation, result, context)
