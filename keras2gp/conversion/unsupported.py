"""Why layers of Keras that have no reader have no exact rule, and what would work instead."""

from __future__ import annotations

__all__ = ["reason_for"]

_ATTENTION = (
    "it weighs positions by the softmax of products of features, which stays random at any width",
    "convolutions, or average pooling, in its place",
)
_RECURRENT = (
    "the same weights act at every step, and there is no rule for weights that are used twice",
    "Conv1D over the steps (Conv2D or Conv3D for maps), which has one",
)
_EXTREME = (
    "the larger or smaller of two Gaussian variables is not Gaussian",
    "Add or Average of the branches",
)
_PRODUCT = (
    "a product of two random branches has no Gaussian limit here",
    "Add or a constant factor, or Concatenate with a layer with weights after it",
)
_EACH_STEP = (
    "it applies another layer to each step of a sequence",
    "that layer itself: Dense acts on the last axis of any shape",
)
_TABLE = (
    "it looks vectors up by integers, and a kernel is of images and vectors of real numbers",
    "one-hot vectors and a Dense layer without biases, of which it is a short form",
)
_SPECTRAL = (
    "it divides weights by their largest singular value, which ties all of them together",
    "the layer without it",
)
_EINSUM = (
    "which axes its weights sum over is free, and there is no rule but for the last one",
    "Dense, where that is what it does",
)
_CODE = (
    "it runs a function of its own, and nothing here says what that does to a covariance",
    "layers or keras.ops operations in its place",
)
_OTHER = (
    "there is no exact rule for it here",
    "the layers in the table of the README, or a reader of your own: keras2gp.reader(Layer)",
)

_REASONS = {
    **dict.fromkeys(
        (
            *("AdditiveAttention", "Attention", "DotProductAttention"),
            *("GroupQueryAttention", "MultiHeadAttention"),
        ),
        _ATTENTION,
    ),
    **dict.fromkeys(
        (
            *("Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "GRU", "GRUCell", "LSTM"),
            *("LSTMCell", "RNN", "SimpleRNN", "SimpleRNNCell", "StackedRNNCells"),
        ),
        _RECURRENT,
    ),
    **dict.fromkeys(("Max", "Maximum", "Min", "Minimum"), _EXTREME),
    **dict.fromkeys(("Dot", "Einsum", "Matmul", "Multiply", "Tensordot"), _PRODUCT),
    "Lambda": _CODE,
    "TimeDistributed": _EACH_STEP,
    "Embedding": _TABLE,
    "SpectralNormalization": _SPECTRAL,
    "EinsumDense": _EINSUM,
}


def reason_for(kind: str) -> tuple[str, str]:
    """Why a layer class or operation of Keras has no rule, and what to try.

    kind: its name, "LSTM"
    """
    return _REASONS.get(kind, _OTHER)
