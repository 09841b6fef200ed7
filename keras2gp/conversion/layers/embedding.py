"""Embedding: vectors looked up by integers, as random weights on one-hot vectors."""

from __future__ import annotations

from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.linear import check_weights
from keras2gp.conversion.tensor import Tensor

__all__ = ["read_embedding"]


def read_embedding(call: Call, context: Context) -> Tensor:
    """Read Embedding: a Dense layer without biases on one-hot vectors, k' = w2 [t1 = t2]."""
    layer, tensor = call.operation, call.tensors[0]
    if not tensor.is_data:
        context.refuse(
            "it looks vectors up by what random weights give, which are no integers",
            "an Embedding of the input itself",
        )
    check_weights(layer, context)
    context.became = "embedding"
    tokens = context.as_tokens(tensor, int(layer.input_dim))
    return context.affine(tokens, layer, 1, call.output, kernel="embeddings")
