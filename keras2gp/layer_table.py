"""The table of Keras's layers and operations: how each is read, allowed, widened and documented.

It is the only list of their names. Reader registration (conversion/registry.py), the allow-list of
model files (modelfile/allowlist.py), the widening of random copies (verification/layers.py) and the
table of docs/reference/layers.md (tools/make_tables.py) read it. It imports nothing, so that each
of them may.

A new layer is one function in a module of conversion/layers/ and one row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

__all__ = ["LAYERS", "NO_RULE", "OPERATIONS", "Entry"]


@dataclass(frozen=True)
class Entry:
    """One row: the facts of one Keras layer class or operation.

    name:     the name under which `module` has it, and a model file names it
    module:   the module that a model file names it by
    reader:   "family.function" in keras2gp.conversion.layers; "" without an exact rule
    becomes:  the line of the documentation
    reason:   why there is no rule, and what to try instead; also of a reader's refusals
    in_files: whether a model file may name it; True only after a look at its from_config and build
    on_data:  whether Keras may run it on the input, before the first layer with weights
    weights:  how its random weights are arranged: "dense", "convolution", "transposed",
              "depthwise", "separable", "embedding" or "recurrent"; "" for a layer without
    width:    the setting that holds its number of channels; "" if that follows from its input
    channelwise: whether each output channel is made of the same channel of its inputs alone
    scales:   whether it multiplies by a constant, or does nothing, before any training
    """

    name: str
    module: str
    reader: str = ""
    becomes: str = ""
    reason: tuple[str, str] = ("", "")
    in_files: bool = True
    on_data: bool = False
    weights: str = ""
    width: str = ""
    channelwise: bool = False
    scales: bool = False


NO_RULE = (
    "there is no exact rule for it here",
    "a layer of docs/reference/layers.md, or a reader of your own: keras2gp.reader(Layer)",
)
_ATTENTION = (
    (
        "it weighs positions by the softmax of products of features, which stays random at any "
        "width: with its fixed number of heads it has no deterministic limit"
    ),
    "convolutions, or average pooling, in its place",
)
_RECURRENT = (
    "its gates multiply what random weights give: a limit exists, but has no closed form here",
    "SimpleRNN, which has one, or Conv1D over the steps (Conv2D or Conv3D for maps)",
)
_CELL = (
    "it runs a cell, which may compute anything at a step",
    "SimpleRNN, which has a rule, or Conv1D over the steps",
)
_EXTREME = (
    "the larger or smaller of two Gaussian variables is not Gaussian, and has no closed form here",
    "Add or Average of the branches",
)
_LARGEST = (
    "the largest of several Gaussian variables is not Gaussian: its covariance has no closed form",
    (
        "AveragePooling, or a convolution with a stride; or max_pooling='average' (--max-pooling "
        "average), which gives the kernel of the model with average pooling in its place"
    ),
)
_PRODUCT = (
    "it sums products of two random branches over axes of its own, and has no rule here",
    "Multiply of independent branches with a layer with weights after it",
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
_CODE = (
    "it runs a function of its own, and nothing here says what that does to a covariance",
    "layers or keras.ops operations in its place",
)


def _rows(names: str, module: str = "keras.layers", **columns: Any) -> list[Entry]:
    """One entry for each name, with the same columns."""
    return [Entry(name, module, **columns) for name in names.split()]


def _read(reader: str, names: str, becomes: str, **columns: Any) -> list[Entry]:
    """Layers without random weights that have a rule, and that Keras may run on the input."""
    return _rows(names, reader=reader, becomes=becomes, **{"on_data": True, **columns})


def _weighted(reader: str, names: str, weights: str, becomes: str, width: str) -> list[Entry]:
    """Layers that draw random weights."""
    return _rows(names, reader=reader, becomes=becomes, weights=weights, width=width)


def _ops(module: str, names: str, **columns: Any) -> list[Entry]:
    """Operations of a module of keras.ops, which Keras may run on the input."""
    module = module if "." in module else f"keras.src.ops.{module}"
    return _rows(names, module, **{"on_data": True, **columns})


def _table(*groups: list[Entry]) -> Mapping[str, Entry]:
    """Entries by name. Those with neither a reader nor a reason get NO_RULE."""
    entries: dict[str, Entry] = {}
    for entry in (entry for group in groups for entry in group):
        if entry.name in entries:
            raise ValueError(f"{entry.name} stands twice in the table of layers")
        no_rule = not (entry.reader or entry.reason[0])
        entries[entry.name] = replace(entry, reason=NO_RULE) if no_rule else entry
    return MappingProxyType(entries)


_PHI = "phi of a Gaussian tensor, by its dual activation."
_PHI_OF_OPERATION = "phi of a Gaussian tensor, written as a keras.ops function."
_ADD = (
    "Sum of branches: covariances of independent branches add, equal ones add coefficients; at the "
    "output numbers, arrays and the input are the mean of the process."
)
_SUBTRACT = "Difference of two branches: as a sum, the second with coefficient -1."
_LARGER = (
    "The larger or smaller of two Gaussian branches, by half of |a - b|; of one and a number, an "
    "activation."
)
_CONCATENATE = (
    "Channel groups, which weights after it average over, C_i / sum C; or maps side by side."
)
_AVERAGE_POOLING = (
    "Mean over a window: k'[d][g] = mean over its positions a, b of k[b - a][a], inside."
)
_ADAPTIVE = "Average pooling into a given number of equal bins; refused where they are not equal."
_MAX_POOLING = (
    "Exact for a window of 1 (a stride); else refused, or average pooling if so asked for."
)
_FACTOR = "A constant times a tensor, k' = factor^2 k; or independent branches, k' = k1 k2."
_BRANCHES = (
    "Product of independent branches, features: k' = k1 k2; a gate of one position is broadcast."
)
_GATED = "Half of the channels times the sigmoid of the other half: k' = k1 k2, features."
_RESHAPE = (
    "Another shape that keeps the channels last, or flattens, or spreads units over positions."
)
_RESIZED = "A map of another size: its nearest positions, or bilinear means of their neighbours."
_PERMUTE = (
    "Another order of the axes, with the channels first or last; offsets change as positions do."
)

LAYERS = _table(
    # Random weights
    _weighted(
        "linear.read_dense", "Dense", "dense",
        "Random weights over the last axis: k' = b2 + w2 k.", "units",
    ),
    _weighted(
        "linear.read_einsum", "EinsumDense", "dense",
        "Random weights over the last axis, as Dense: 'abc,cd->abd'; other sums are refused.",
        "output_shape",
    ),
    _weighted(
        "linear.read_convolution", "Conv1D Conv2D Conv3D", "convolution",
        "Random weights over a window: k'[g] = b2 + w2 / taps * sum of k over the patch of g.",
        "filters",
    ),
    _weighted(
        "linear.read_transposed", "Conv1DTranspose Conv2DTranspose Conv3DTranspose", "transposed",
        "Random weights from each position onto a window: as a convolution, over the taps that "
        "hit.", "filters",
    ),
    _weighted(
        "linear.read_depthwise", "DepthwiseConv1D DepthwiseConv2D", "depthwise",
        "Weights for each channel and tap, then features: k'[g] = b2 + w2 / taps * patch sum of "
        "k.", "",
    ),
    _weighted(
        "linear.read_separable", "SeparableConv1D SeparableConv2D", "separable",
        "A depthwise convolution, then random weights over its channels: two entries of "
        "variances.", "filters",
    ),
    _weighted(
        "embedding.read_embedding", "Embedding", "embedding",
        "Random weights on one-hot vectors: k'[d][g] = w2 if the integers at g and g + d are "
        "equal, else 0.", "output_dim",
    ),
    _weighted(
        "recurrent.read_simple_rnn", "SimpleRNN", "recurrent",
        "The same weights at every step: k'[d][t] = b2 + w2 k[d][t] + u2 s[d][t - 1], s by the "
        "dual activation; two entries of variances.", "units",
    ),
    _weighted(
        "recurrent.read_bidirectional", "Bidirectional", "recurrent",
        "Two recurrences, one backwards, of SimpleRNN layers: joined, added, averaged or "
        "multiplied.", "",
    ),
    # Activations
    _read(
        "activation.read_activation_layer",
        "Activation ELU LeakyReLU PReLU ReLU Softmax", _PHI, channelwise=True,
    ),
    # Sums, factors and channel groups
    _read("merging.read_add", "Add", _ADD, channelwise=True),
    _read("merging.read_subtract", "Subtract", _SUBTRACT, channelwise=True),
    _read(
        "merging.read_average", "Average", "Mean of branches: as a sum with coefficients 1/n.",
        channelwise=True,
    ),
    _read("extremes.read_maximum", "Maximum", _LARGER, channelwise=True),
    _read("extremes.read_minimum", "Minimum", _LARGER, channelwise=True),
    _read("products.read_product", "Multiply", _BRANCHES, channelwise=True),
    _read(
        "products.read_dot", "Dot",
        "Inner product of two independent towers of C units, Gaussian at large C: k' = C k1 k2.",
    ),
    _read("merging.read_concatenate", "Concatenate", _CONCATENATE),
    _read(
        "merging.read_rescaling", "Rescaling",
        "Between random layers: k' = scale^2 k, and an offset as a constant that is added; at the "
        "output one for each channel.",
        channelwise=True, scales=True,
    ),
    _read(
        "merging.read_scaled_sum", "CustomScaleLayer",
        "A branch and a constant times another: as a sum with that coefficient.",
        module="keras.src.applications.inception_resnet_v2", on_data=False,
    ),
    _read(
        "merging.read_layer_scale", "LayerScale",
        "A factor for each channel, at its one initial value: k' = factor^2 k.",
        module="keras.src.applications.convnext", on_data=False, scales=True,
    ),
    _read(
        "merging.read_stochastic_depth", "StochasticDepth",
        "Does nothing to a prediction: branches are dropped in training alone.",
        module="keras.src.applications.convnext", on_data=False, channelwise=True, scales=True,
    ),
    # Pooling
    _read(
        "pooling.read_average_pooling", "AveragePooling1D AveragePooling2D AveragePooling3D",
        _AVERAGE_POOLING, channelwise=True,
    ),
    _read(
        "pooling.read_global_average_pooling",
        "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D",
        "Mean over all positions, or those of a mask: k' = mean over g, g' of the covariance of g "
        "with g'.",
        channelwise=True,
    ),
    _read(
        "pooling.read_adaptive_pooling",
        "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D", _ADAPTIVE,
    ),
    _read(
        "pooling.read_max_pooling", "MaxPooling1D MaxPooling2D MaxPooling3D", _MAX_POOLING,
        reason=_LARGEST,
    ),
    _read(
        "pooling.read_global_max_pooling",
        "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D",
        "Exact for a map of one position; else refused, or average pooling if so asked for.",
        reason=_LARGEST,
    ),
    # Normalisation
    _read(
        "normalization.read_batch_normalization", "BatchNormalization",
        "At its initial statistics: k' = gamma^2 / (variance + epsilon) k, of a random gamma its "
        "second moment.",
        channelwise=True, scales=True,
    ),
    _read(
        "normalization.read_layer_normalization", "LayerNormalization",
        "At initial gamma and beta: k' = gamma^2 (k - m1 m2) / sqrt((v1 + epsilon) (v2 + "
        "epsilon)); of a random gamma the second moment.",
    ),
    _read(
        "normalization.read_group_normalization", "GroupNormalization",
        "As LayerNormalization over positions and a group of the channels, which all grow.",
    ),
    _read(
        "normalization.read_rms_normalization", "RMSNormalization",
        "Over channels, or all of a sample: k' = k / sqrt((q1 + epsilon) (q2 + epsilon)).",
    ),
    _read(
        "normalization.read_unit_normalization", "UnitNormalization",
        "To the norm 1 over the C channels that the model has: k' = k / (C sqrt(q1 q2)).",
    ),
    _read(
        "normalization.read_identity",
        "ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise Identity "
        "SpatialDropout1D SpatialDropout2D SpatialDropout3D",
        "Does nothing to a prediction: dropout, noise, regularisation of activities.",
        channelwise=True, scales=True,
    ),
    # Positions
    _read(
        "reshaping.read_flatten", "Flatten",
        "The next Dense layer averages over positions as well as channels.",
        channelwise=True,
    ),
    _read("reshaping.read_reshape", "Reshape", _RESHAPE),
    _read(
        "reshaping.read_repeat_vector", "RepeatVector",
        "A vector at every position: k'[d][g] = k.",
    ),
    _read("reshaping.read_permute", "Permute", _PERMUTE),
    _read(
        "reshaping.read_upsampling", "UpSampling1D UpSampling2D UpSampling3D",
        "Every position repeated: k'[d][g] = k[(g + d) // u - g // u][g // u]; or bilinear.",
        channelwise=True,
    ),
    _read("reshaping.read_resizing", "Resizing", _RESIZED, channelwise=True),
    _read(
        "reshaping.read_zero_padding", "ZeroPadding1D ZeroPadding2D ZeroPadding3D",
        "Zeros around the map, which a convolution after it sees.",
        channelwise=True,
    ),
    _read(
        "reshaping.read_cropping", "Cropping1D Cropping2D Cropping3D",
        "Positions removed from the borders.",
        channelwise=True,
    ),
    _rows(
        "TimeDistributed", reader="steps.read_time_distributed",
        becomes="The same layer or model at each step of a sequence: its ops beside an axis of "
        "steps.",
    ),
    # Without a rule
    _rows(
        "AdditiveAttention Attention GroupQueryAttention MultiHeadAttention", reason=_ATTENTION,
    ),
    _rows("ConvLSTM1D ConvLSTM2D ConvLSTM3D GRU GRUCell LSTM LSTMCell", reason=_RECURRENT),
    _rows("RNN SimpleRNNCell StackedRNNCells", reason=_CELL),
    _rows("AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D", reason=_LARGEST,
          on_data=True),
    _rows("ReversibleEmbedding", reason=_LOOKUP, in_files=False),
    _rows("SpectralNormalization", reason=_SPECTRAL),
    _rows(
        "FlaxLayer JaxLayer Lambda TFSMLayer TorchModuleWrapper", reason=_CODE, in_files=False,
    ),
    _rows(
        "AutoContrast CenterCrop Normalization RandomBrightness RandomContrast RandomCrop "
        "RandomFlip RandomRotation RandomTranslation RandomZoom",
        on_data=True,
    ),
    _rows(
        "CategoryEncoding Discretization HashedCrossing Hashing IntegerLookup StringLookup "
        "TextVectorization",
        reason=_ENCODES, on_data=True,
    ),
    _rows(
        "Masking", on_data=True,
        reason=(
            "which of the steps it leaves out depends on random weights",
            "Masking of the input itself",
        ),
    ),
    _rows(
        "Equalization InputLayer Pipeline "
        "RandomColorDegeneration RandomColorJitter RandomElasticTransform RandomErasing "
        "RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective "
        "RandomPosterization RandomSaturation RandomSharpness RandomShear Solarization"
    ),
    _rows(
        "AugMix ContrastLimitedAdaptiveHistogramEqualization CutMix Layer MaxNumBoundingBoxes "
        "MelSpectrogram MixUp RandAugment STFTSpectrogram Wrapper",
        in_files=False,
    ),
)  # fmt: skip
"""Layer classes by name. Aliases of Keras, such as AvgPool2D, are not names of their own."""

_PHI_READER: dict[str, Any] = {"reader": "activation.read_operation", "becomes": _PHI_OF_OPERATION}
_POOL_MAX: dict[str, Any] = {
    "reader": "pooling.read_max_pooling",
    "becomes": _MAX_POOLING,
    "reason": _LARGEST,
}

OPERATIONS = _table(
    # Activations
    _ops("math", "Erf", **_PHI_READER),
    # keras.activations.relu and mish, called on a tensor; the others call keras.ops.
    _ops("keras.src.activations.activations", "Mish ReLU", **_PHI_READER),
    _ops(
        "nn",
        "Celu Elu Gelu HardShrink HardSigmoid HardSilu HardTanh LeakyRelu LogSigmoid LogSoftmax "
        "Relu Relu6 Selu Sigmoid Silu SoftShrink Softmax Softplus Softsign SparsePlus "
        "SparseSigmoid Sparsemax Squareplus TanhShrink Threshold",
        **_PHI_READER,
    ),
    _ops(
        "numpy",
        "Abs Absolute Arctan Cos Cosh Exp Expm1 Heaviside Log1p Sign Sin Sinh Square Tanh",
        **_PHI_READER,
    ),
    _ops(
        "numpy", "Log", reader="activation.read_log",
        becomes="Of a softmax or sigmoid: log_softmax or log_sigmoid.",
    ),
    _ops(
        "core", "Cast ConvertToTensor", reader="normalization.read_cast",
        becomes="Does nothing to real numbers, which the kernel has in its own dtype.",
        channelwise=True, scales=True,
    ),
    # Sums, factors and channel groups
    _ops("numpy", "Add", reader="merging.read_add", becomes=_ADD, channelwise=True),
    _ops(
        "numpy", "Subtract", reader="merging.read_subtract", becomes=_SUBTRACT, channelwise=True,
    ),
    _ops(
        "numpy", "Divide Multiply Negative TrueDivide", reader="products.read_product",
        becomes=_FACTOR, channelwise=True,
    ),
    _ops(
        "numpy", "Power", reader="products.read_power", channelwise=True,
        becomes="A tensor times itself, a whole number of times: one activation.",
    ),
    _ops(
        "numpy", "Maximum", reader="extremes.read_maximum", becomes=_LARGER, channelwise=True,
    ),
    _ops(
        "numpy", "Minimum", reader="extremes.read_minimum", becomes=_LARGER, channelwise=True,
    ),
    _ops(
        "numpy", "Clip", reader="extremes.read_clip", channelwise=True,
        becomes="relu with a bound, moved: one activation.",
    ),
    _ops(
        "numpy", "Einsum", reader="products.read_inner",
        becomes="The inner product of two independent towers, 'ij,ij->i': as Dot.",
    ),
    _ops("nn", "Glu", reader="products.read_glu", becomes=_GATED),
    _ops("numpy", "Concatenate", reader="merging.read_concatenate", becomes=_CONCATENATE),
    _ops(
        "numpy", "Stack", reader="merging.read_stack",
        becomes="Vectors or maps side by side along a new axis of positions.",
    ),
    # Pooling
    _ops("nn", "AveragePool", reader="pooling.read_average_pooling", becomes=_AVERAGE_POOLING),
    _ops(
        "nn", "AdaptiveAveragePool", reader="pooling.read_adaptive_pooling", becomes=_ADAPTIVE,
    ),
    _ops("nn", "MaxPool", **_POOL_MAX),
    _ops(
        "numpy", "Mean", reader="pooling.read_mean",
        becomes="Mean over spatial axes, as average pooling over all of their positions; or over "
        "channels of mean 0.",
    ),
    _ops(
        "numpy", "Sum", reader="pooling.read_sum",
        becomes="Sum over spatial axes, their number times the mean; or over C channels of mean 0, "
        "k' = C k.",
    ),
    # Positions
    _ops(
        "numpy", "ExpandDims Reshape Squeeze", reader="reshaping.read_reshape", becomes=_RESHAPE,
    ),
    _ops(
        "numpy", "Swapaxes Transpose", reader="reshaping.read_permute", becomes=_PERMUTE,
    ),
    _ops(
        "nn", "DepthToSpace", reader="reshaping.read_depth_to_space",
        becomes="Blocks of channels become positions: k'[d][g] = k[d / r][g // r] where r divides "
        "d, else 0.",
    ),
    _ops(
        "nn", "SpaceToDepth", reader="reshaping.read_space_to_depth",
        becomes="The positions of a block become groups of channels, which weights average over.",
    ),
    _ops("image", "Resize", reader="reshaping.read_resizing", becomes=_RESIZED),
    _ops(
        "numpy", "Flip", reader="slicing.read_flip",
        becomes="Positions in the opposite order: k'[d][g] = k[-d][n - 1 - g].",
    ),
    _ops(
        "numpy", "GetItem", reader="slicing.read_getitem",
        becomes="Positions cut out, by slices with a step or one of them; or a slice of channels.",
    ),
    _ops(
        "numpy", "Split", reader="slicing.read_split",
        becomes="Slices of the channels, or of the positions along one axis.",
    ),
    _ops(
        "numpy", "Repeat", reader="slicing.read_repeat",
        becomes="Every position repeated along one axis, as by UpSampling.",
    ),
    _ops(
        "numpy", "Pad", reader="slicing.read_pad",
        becomes="Zeros around the map, as by ZeroPadding; or its own positions, as by a mirror.",
    ),
    _ops(
        "numpy", "Take", reader="slicing.read_take",
        becomes="Positions of a list along one axis: k'[d][g] = k[p(g + d) - p(g)][p(g)].",
    ),
    _ops(
        "numpy", "Roll", reader="slicing.read_roll",
        becomes="Positions moved along one axis, those at the end to the front.",
    ),
    _ops(
        "numpy", "Tile", reader="slicing.read_tile",
        becomes="A map several times, side by side along axes of positions.",
    ),
    _ops(
        "numpy", "Cumsum", reader="cumulative.read_cumsum", channelwise=True,
        becomes="Sums over the positions up to each along one axis; at the output over units too.",
    ),
    # Without a rule
    _ops("numpy", "Amax Amin Fmax Fmin Max Min", reason=_EXTREME),
    _ops("numpy", "Dot Inner Matmul Outer Tensordot Vdot", reason=_PRODUCT),
    _ops("nn", "DotProductAttention", reason=_ATTENTION),
    _ops("nn", "AdaptiveMaxPool", reason=_LARGEST),
    _ops(
        "core",
        "SaturateCast Scatter ScatterUpdate Slice SliceUpdate StopGradient "
        "Unstack",
    ),
    _ops("einops", "Rearrange"),
    _ops(
        "image",
        "CropImages ExtractPatches GaussianBlur HSVToRGB PadImages RGBToGrayscale RGBToHSV",
    ),
    _ops("linalg", "Det Inv Norm"),
    _ops("math", "Erfc Erfinv Logsumexp Rsqrt TopK"),
    _ops(
        "nn",
        "BatchNorm Conv ConvTranspose DepthwiseConv LayerNorm Moments Normalize "
        "OneHot RMSNorm SeparableConv Unfold",
    ),
    _ops(
        "numpy",
        "All Any Append Arccos Arccosh Arcsin Arcsinh Arctan2 Arctanh Argmax Argmin Argsort "
        "Average BroadcastTo Cbrt Ceil Copy CountNonzero Cross Cumprod Deg2rad Diag "
        "Diagonal Diff DivideNoNan Dstack Equal Exp2 Fabs Fliplr Flipud Floor FloorDivide "
        "Fmod FullLike Greater GreaterEqual Hsplit Hstack Hypot Isclose Isfinite Isinf Isnan Less "
        "LessEqual Log10 Log2 Logaddexp Logaddexp2 LogicalAnd LogicalNot LogicalOr LogicalXor "
        "Median Mod Moveaxis NanToNum NotEqual OnesLike Prod Rad2deg Ravel Real Reciprocal "
        "Rot90 Round Select Sinc Sort Sqrt Std TakeAlongAxis "
        "Tan Trace Tril Triu Trunc Var Vsplit Vstack Where ZerosLike",
    ),
    # Not read from files: operations that take functions, and others that were not looked at
    _ops(
        "core",
        "AssociativeScan Cond ForiLoop Map Scan Switch VectorizedMap WhileLoop",
        reason=_CODE, in_files=False,
    ),
    _ops("function", "Function", reason=_CODE, in_files=False),
    _ops(
        "image",
        "AffineTransform ElasticTransform MapCoordinates PerspectiveTransform SSIM "
        "ScaleAndTranslate SobelEdges",
        in_files=False,
    ),
    _ops(
        "linalg",
        "Cholesky CholeskyInverse Eig Eigh JVP Lstsq LuFactor MatrixRank Pinv Qr SVD Solve "
        "SolveTriangular",
        in_files=False,
    ),
    _ops(
        "math",
        "CDist ExtractSequences FFT FFT2 IFFT2 IRFFT ISTFT InTopK Logdet RFFT STFT SegmentMax "
        "SegmentMin SegmentProd SegmentReduction SegmentSum ViewAsComplex ViewAsReal",
        in_files=False,
    ),
    _ops(
        "nn",
        "BinaryCrossentropy CTCDecode CTCLoss CategoricalCrossentropy Fold MultiHot PSNR Polar "
        "SparseCategoricalCrossentropy",
        in_files=False,
    ),
    _ops(
        "numpy",
        "AllClose Angle Arange Argpartition Array ArraySplit Bincount BitwiseAnd BitwiseInvert "
        "BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor Conj Conjugate "
        "Corrcoef Correlate Diagflat Digitize Dsplit EmptyLike Full Gcd Geomspace Histogram I0 "
        "Imag IsIn Isneginf Isposinf Isreal Kron Lcm Ldexp LeftShift Linspace Logspace Meshgrid "
        "Nanargmax Nanargmin Nancumprod Nancumsum Nanmax Nanmean Nanmedian Nanmin Nanpercentile "
        "Nanprod Nanquantile Nanstd Nansum Nanvar Ndim Nextafter Nonzero Percentile Ptp Quantile "
        "RightShift SearchSorted Signbit Size Slogdet Trapezoid UnravelIndex Unique Vander View",
        in_files=False,
    ),
)  # fmt: skip
"""Operations of keras.ops by the name of their class."""
