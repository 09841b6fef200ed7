"""How each class of layers in Keras is read, allowed in files, widened and documented."""

from __future__ import annotations

from keras2gp.layer_table import wording
from keras2gp.layer_table.entry import read_rows, rows, table_of, weighted_rows

__all__ = ["LAYERS"]

_RECURRENT = (
    "its gates multiply what random weights give: a limit exists, but has no closed form here",
    "SimpleRNN, which has one, or Conv1D over the steps (Conv2D or Conv3D for maps)",
)
_CELL = (
    "it runs a cell, which may compute anything at a step",
    "SimpleRNN, which has a rule, or Conv1D over the steps",
)
_LOOKUP = (
    "its transpose multiplies what it looked up, with the same weights",
    "an Embedding, and a Dense layer of its own at the end",
)
_ENCODES = (
    "it encodes data, and has no meaning for random features",
    "the layer before the first layer with weights, where Keras runs it",
)
_SPECTRAL = (
    "it divides weights by their largest singular value, which ties all of them together",
    "the layer without it",
)
_PHI = "phi of a Gaussian tensor, by its dual activation."
_BRANCHES = (
    "Product of independent branches, features: k' = k1 k2; a gate of one position is broadcast."
)

LAYERS = table_of(
    # Random weights
    weighted_rows(
        "linear.read_dense", "Dense", "dense",
        "Random weights over the last axis: k' = b2 + w2 k.", "units", on_last_axis=True,
    ),
    weighted_rows(
        "linear.read_einsum", "EinsumDense", "dense",
        "Random weights over the last axis, as Dense: 'abc,cd->abd'; other sums are refused.",
        "output_shape",
    ),
    weighted_rows(
        "linear.read_convolution", "Conv1D Conv2D Conv3D", "convolution",
        "Random weights over a window: k'[g] = b2 + w2 / taps * sum of k over the patch of g.",
        "filters",
    ),
    weighted_rows(
        "linear.read_transposed", "Conv1DTranspose Conv2DTranspose Conv3DTranspose", "transposed",
        "Random weights from each position onto a window: as a convolution, over the taps that "
        "hit.", "filters",
    ),
    weighted_rows(
        "linear.read_depthwise", "DepthwiseConv1D DepthwiseConv2D", "depthwise",
        "Weights for each channel and tap, then features: k'[g] = b2 + w2 / taps * patch sum of "
        "k.", "",
    ),
    weighted_rows(
        "linear.read_separable", "SeparableConv1D SeparableConv2D", "separable",
        "A depthwise convolution, then random weights over its channels: two entries of "
        "variances.", "filters",
    ),
    weighted_rows(
        "linear.read_embedding", "Embedding", "embedding",
        "Random weights on one-hot vectors: k'[d][g] = w2 if the integers at g and g + d are "
        "equal, else 0.", "output_dim",
    ),
    weighted_rows(
        "recurrent.read_simple_rnn", "SimpleRNN", "recurrent",
        "The same weights at every step: k'[d][t] = b2 + w2 k[d][t] + u2 s[d][t - 1], s by the "
        "dual activation; two entries of variances.", "units",
    ),
    weighted_rows(
        "recurrent.read_bidirectional", "Bidirectional", "recurrent",
        "Two recurrences, one backwards, of SimpleRNN layers: joined, added, averaged or "
        "multiplied.", "",
    ),
    # Activations
    read_rows(
        "activation.read_activation_layer",
        "Activation ELU LeakyReLU PReLU ReLU Softmax", _PHI,
        channelwise=True, on_last_axis=True, keeps_steps=True, unitwise=True,
    ),
    # Sums, factors and channel groups
    read_rows("merging.read_add", "Add", wording.ADD, channelwise=True, unitwise=True),
    read_rows(
        "merging.read_subtract", "Subtract", wording.SUBTRACT, channelwise=True, unitwise=True,
    ),
    read_rows(
        "merging.read_average", "Average", "Mean of branches: as a sum with coefficients 1/n.",
        channelwise=True, unitwise=True,
    ),
    read_rows("extremes.read_maximum", "Maximum", wording.LARGER, channelwise=True),
    read_rows("extremes.read_minimum", "Minimum", wording.LARGER, channelwise=True),
    read_rows(
        "products.read_product", "Multiply", _BRANCHES, channelwise=True, unitwise=True,
    ),
    read_rows(
        "products.read_dot", "Dot",
        "Inner product of two independent towers of C units, Gaussian at large C: k' = C k1 k2.",
    ),
    read_rows("merging.read_concatenate", "Concatenate", wording.CONCATENATE),
    read_rows(
        "merging.read_rescaling", "Rescaling",
        "Between random layers: k' = scale^2 k, and an offset as a constant that is added; at the "
        "output one for each channel.",
        channelwise=True, scales=True, on_last_axis=True, keeps_steps=True,
    ),
    read_rows(
        "merging.read_scaled_sum", "CustomScaleLayer",
        "A branch and a constant times another: as a sum with that coefficient.",
        module="keras.src.applications.inception_resnet_v2", on_data=False,
    ),
    read_rows(
        "merging.read_layer_scale", "LayerScale",
        "A factor for each channel, at its one initial value: k' = factor^2 k.",
        module="keras.src.applications.convnext", on_data=False, scales=True,
    ),
    read_rows(
        "normalization.read_identity", "StochasticDepth",
        "Does nothing to a prediction: branches are dropped in training alone.",
        module="keras.src.applications.convnext", on_data=False, channelwise=True, scales=True,
    ),
    # Pooling
    read_rows(
        "pooling.read_average_pooling", "AveragePooling1D AveragePooling2D AveragePooling3D",
        wording.AVERAGE_POOLING, channelwise=True,
    ),
    read_rows(
        "pooling.read_global_average_pooling",
        "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D",
        "Mean over all positions, or those of a mask: k' = mean over g, g' of the covariance of g "
        "with g'.",
        channelwise=True,
    ),
    read_rows(
        "pooling.read_adaptive_pooling",
        "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D",
        wording.ADAPTIVE,
    ),
    read_rows(
        "pooling.read_max_pooling", "MaxPooling1D MaxPooling2D MaxPooling3D", wording.MAX_POOLING,
        reason=wording.LARGEST,
    ),
    read_rows(
        "pooling.read_global_max_pooling",
        "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D",
        "Exact for a map of one position; else refused, or average pooling if so asked for.",
        reason=wording.LARGEST,
    ),
    # Normalisation
    read_rows(
        "normalization.read_batch_normalization", "BatchNormalization",
        "At its initial statistics: k' = gamma^2 / (variance + epsilon) k, of a random gamma its "
        "second moment.",
        channelwise=True, scales=True, keeps_steps=True,
    ),
    read_rows(
        "normalization.read_layer_normalization", "LayerNormalization",
        "At initial gamma and beta: k' = gamma^2 (k - m1 m2) / sqrt((v1 + epsilon) (v2 + "
        "epsilon)); of a random gamma the second moment.",
        keeps_steps=True,
    ),
    read_rows(
        "normalization.read_group_normalization", "GroupNormalization",
        "As LayerNormalization over positions and a group of the channels, which all grow.",
    ),
    read_rows(
        "normalization.read_rms_normalization", "RMSNormalization",
        "Over channels, or all of a sample: k' = k / sqrt((q1 + epsilon) (q2 + epsilon)).",
        keeps_steps=True,
    ),
    read_rows(
        "normalization.read_unit_normalization", "UnitNormalization",
        "To the norm 1 over the C channels that the model has: k' = k / (C sqrt(q1 q2)).",
    ),
    read_rows(
        "normalization.read_identity",
        "ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise Identity "
        "SpatialDropout1D SpatialDropout2D SpatialDropout3D",
        "Does nothing to a prediction: dropout, noise, regularisation of activities.",
        channelwise=True, scales=True, on_last_axis=True, keeps_steps=True, unitwise=True,
    ),
    # Positions
    read_rows(
        "reshaping.read_flatten", "Flatten",
        "The next Dense layer averages over positions as well as channels.",
        channelwise=True, keeps_steps=True,
    ),
    read_rows("reshaping.read_reshape", "Reshape", wording.RESHAPE, keeps_steps=True),
    read_rows(
        "reshaping.read_repeat_vector", "RepeatVector",
        "A vector at every position: k'[d][g] = k.",
    ),
    read_rows("reshaping.read_permute", "Permute", wording.PERMUTE),
    read_rows(
        "resizing.read_upsampling", "UpSampling1D UpSampling2D UpSampling3D",
        "Every position repeated: k'[d][g] = k[(g + d) // u - g // u][g // u]; or bilinear.",
        channelwise=True,
    ),
    read_rows(
        "resizing.read_resizing", "Resizing", wording.RESIZED,
        channelwise=True, ignores_training=True,
    ),
    read_rows(
        "resizing.read_zero_padding", "ZeroPadding1D ZeroPadding2D ZeroPadding3D",
        "Zeros around the map, which a convolution after it sees.",
        channelwise=True,
    ),
    read_rows(
        "resizing.read_cropping", "Cropping1D Cropping2D Cropping3D",
        "Positions removed from the borders.",
        channelwise=True,
    ),
    read_rows(
        "resizing.read_center_crop", "CenterCrop",
        "The positions in the middle of a map that is at least as large.",
        channelwise=True, ignores_training=True,
    ),
    rows(
        "TimeDistributed", reader="steps.read_time_distributed",
        becomes="The same layer or model at each step of a sequence: its ops beside an axis of "
        "steps.",
        keeps_steps=True,
    ),
    # Without a rule
    rows(
        "AdditiveAttention Attention GroupQueryAttention MultiHeadAttention",
        reason=wording.ATTENTION,
    ),
    rows("ConvLSTM1D ConvLSTM2D ConvLSTM3D GRU GRUCell LSTM LSTMCell", reason=_RECURRENT),
    rows("RNN SimpleRNNCell StackedRNNCells", reason=_CELL),
    rows("AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D", reason=wording.LARGEST,
          on_data=True),
    rows("ReversibleEmbedding", reason=_LOOKUP, in_files=False),
    rows("SpectralNormalization", reason=_SPECTRAL),
    rows(
        "FlaxLayer JaxLayer Lambda TFSMLayer TorchModuleWrapper",
        reason=wording.CODE, in_files=False, runs_code=True,
    ),
    rows(
        "AutoContrast Normalization RandomBrightness RandomContrast RandomCrop "
        "RandomFlip RandomRotation RandomTranslation RandomZoom",
        on_data=True,
    ),
    rows(
        "CategoryEncoding Discretization HashedCrossing Hashing IntegerLookup StringLookup "
        "TextVectorization",
        reason=_ENCODES, on_data=True,
    ),
    rows(
        "Masking", on_data=True,
        reason=(
            "which of the steps it leaves out depends on random weights",
            "Masking of the input itself",
        ),
    ),
    rows(
        "Equalization InputLayer Pipeline "
        "RandomColorDegeneration RandomColorJitter RandomElasticTransform RandomErasing "
        "RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective "
        "RandomPosterization RandomSaturation RandomSharpness RandomShear Solarization"
    ),
    rows(
        "AugMix ContrastLimitedAdaptiveHistogramEqualization CutMix Layer MaxNumBoundingBoxes "
        "MelSpectrogram MixUp RandAugment STFTSpectrogram Wrapper",
        in_files=False,
    ),
)  # fmt: skip
"""Layer classes by name. Aliases of Keras, such as AvgPool2D, are not names of their own."""
