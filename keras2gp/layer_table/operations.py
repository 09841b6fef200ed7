"""How each operation of keras.ops is read, allowed in files and documented."""

from __future__ import annotations

from typing import Any

from keras2gp.layer_table import wording
from keras2gp.layer_table.entry import ops, table_of

__all__ = ["OPERATIONS"]

_EXTREME = (
    "the larger or smaller of two Gaussian variables is not Gaussian, and has no closed form here",
    "Add or Average of the branches",
)
_LARGEST_OF_ALL = (
    "the largest or smallest of several numbers is not Gaussian, and has no closed form here",
    "keras.ops.maximum of two slices; or max pooling over positions, and max_pooling='average'",
)
_STATISTICS = (
    (
        "it is a step of a distance, or of a normalisation over other axes or in another order "
        "than (x - mean) / sqrt(var + epsilon) or x / sqrt(mean of squares + epsilon), and has no "
        "rule"
    ),
    "LayerNormalization, RMSNormalization or keras.ops.normalize; abs(a - b) for a distance",
)
_PHI_OF_OPERATION = "phi of a Gaussian tensor, written as a keras.ops function."
_FACTOR = (
    "A constant times a tensor, k' = factor^2 k; independent branches, k' = k1 k2; or the last "
    "step of a normalisation that is written by hand, as the layer."
)
_GATED = "Half of the channels times the sigmoid of the other half: k' = k1 k2, features."
_PHI_READER: dict[str, Any] = {
    "reader": "activation.read_operation",
    "becomes": _PHI_OF_OPERATION,
    "keeps_steps": True,
    "unitwise": True,
}
_POOL_MAX: dict[str, Any] = {
    "reader": "pooling.read_max_pooling",
    "becomes": wording.MAX_POOLING,
    "reason": wording.LARGEST,
}

OPERATIONS = table_of(
    # Activations
    ops("math", "Erf", **_PHI_READER),
    # keras.activations.relu and mish, called on a tensor; the others call keras.ops.
    ops("keras.src.activations.activations", "Mish ReLU", **_PHI_READER),
    ops(
        "nn",
        "Celu Elu Gelu HardShrink HardSigmoid HardSilu HardTanh LeakyRelu LogSigmoid LogSoftmax "
        "Relu Relu6 Selu Sigmoid Silu SoftShrink Softmax Softplus Softsign SparsePlus "
        "SparseSigmoid Sparsemax Squareplus TanhShrink Threshold",
        **_PHI_READER,
    ),
    ops(
        "numpy",
        "Abs Absolute Arctan Cos Cosh Exp Expm1 Heaviside Log1p Sign Sin Sinh Square Tanh",
        **_PHI_READER,
    ),
    ops(
        "numpy", "Log", reader="activation.read_log",
        becomes="Of a softmax or sigmoid: log_softmax or log_sigmoid.",
    ),
    ops(
        "core", "Cast ConvertToTensor", reader="normalization.read_cast",
        becomes="Does nothing to real numbers, which the kernel has in its own dtype.",
        channelwise=True, scales=True, keeps_steps=True, unitwise=True,
    ),
    # Sums, factors and channel groups
    ops(
        "numpy", "Add", reader="merging.read_add", becomes=wording.ADD,
        channelwise=True, unitwise=True,
    ),
    ops(
        "numpy", "Subtract", reader="merging.read_subtract",
        becomes=wording.SUBTRACT, channelwise=True, unitwise=True,
    ),
    ops(
        "numpy", "Divide Multiply Negative TrueDivide", reader="products.read_product",
        becomes=_FACTOR, channelwise=True, unitwise=True,
    ),
    ops(
        "numpy", "Power", reader="products.read_power", channelwise=True,
        becomes="A tensor times itself, a whole number of times: one activation.",
    ),
    ops(
        "numpy", "Maximum", reader="extremes.read_maximum",
        becomes=wording.LARGER, channelwise=True,
    ),
    ops(
        "numpy", "Minimum", reader="extremes.read_minimum",
        becomes=wording.LARGER, channelwise=True,
    ),
    ops(
        "numpy", "Clip", reader="extremes.read_clip", channelwise=True,
        becomes="relu with a bound, moved: one activation.",
    ),
    ops(
        "numpy", "Einsum", reader="products.read_inner",
        becomes="The inner product of two independent towers, 'ij,ij->i': as Dot.",
    ),
    ops("nn", "Glu", reader="products.read_glu", becomes=_GATED),
    ops("numpy", "Concatenate", reader="merging.read_concatenate", becomes=wording.CONCATENATE),
    ops(
        "numpy", "Stack", reader="merging.read_stack",
        becomes="Vectors or maps side by side along a new axis of positions.",
    ),
    # Pooling
    ops(
        "nn", "AveragePool", reader="pooling.read_average_pooling",
        becomes=wording.AVERAGE_POOLING,
    ),
    ops(
        "nn", "AdaptiveAveragePool", reader="pooling.read_adaptive_pooling",
        becomes=wording.ADAPTIVE,
    ),
    ops("nn", "MaxPool", **_POOL_MAX),
    ops(
        "numpy", "Mean", reader="pooling.read_mean",
        becomes="Mean over spatial axes, as average pooling over all of their positions; or over "
        "channels of mean 0.",
    ),
    ops(
        "numpy", "Sum", reader="pooling.read_sum",
        becomes="Sum over spatial axes, their number times the mean; or over C channels of mean 0, "
        "k' = C k.",
    ),
    # Positions
    ops(
        "numpy", "ExpandDims Reshape Squeeze", reader="reshaping.read_reshape",
        becomes=wording.RESHAPE, keeps_steps=True,
    ),
    ops(
        "numpy", "Swapaxes Transpose", reader="reshaping.read_permute", becomes=wording.PERMUTE,
    ),
    ops(
        "nn", "DepthToSpace", reader="shuffling.read_depth_to_space",
        becomes="Blocks of channels become positions: k'[d][g] = k[d / r][g // r] where r divides "
        "d, else 0.",
    ),
    ops(
        "nn", "SpaceToDepth", reader="shuffling.read_space_to_depth",
        becomes="The positions of a block become groups of channels, which weights average over.",
    ),
    ops(
        "image", "ExtractPatches", reader="shuffling.read_extract_patches",
        becomes="The positions of a window become groups of channels, with zeros around the map "
        "if padded.",
    ),
    ops("image", "Resize", reader="resizing.read_resizing", becomes=wording.RESIZED),
    ops(
        "numpy", "Flip", reader="slicing.read_flip",
        becomes="Positions in the opposite order: k'[d][g] = k[-d][n - 1 - g].",
    ),
    ops(
        "numpy", "GetItem", reader="slicing.read_getitem",
        becomes="Positions cut out, by slices with a step or one of them; or a slice of channels.",
    ),
    ops(
        "numpy", "Split", reader="slicing.read_split",
        becomes="Slices of the channels, or of the positions along one axis.",
    ),
    ops(
        "numpy", "Repeat", reader="slicing.read_repeat",
        becomes="Every position repeated along one axis, as by UpSampling.",
    ),
    ops(
        "numpy", "Pad", reader="slicing.read_pad",
        becomes="Zeros around the map, as by ZeroPadding; or its own positions, as by a mirror.",
    ),
    ops(
        "numpy", "Take", reader="slicing.read_take",
        becomes="Positions of a list along one axis: k'[d][g] = k[p(g + d) - p(g)][p(g)].",
    ),
    ops(
        "numpy", "Roll", reader="slicing.read_roll",
        becomes="Positions moved along one axis, those at the end to the front.",
    ),
    ops(
        "numpy", "Tile", reader="slicing.read_tile",
        becomes="A map several times, side by side along axes of positions.",
    ),
    ops(
        "numpy", "Cumsum", reader="pooling.read_cumsum", channelwise=True, unitwise=True,
        becomes="Sums over the positions up to each along one axis; at the output over units too.",
    ),
    ops(
        "nn", "Normalize", reader="normalization.read_normalize", scales=True,
        becomes="To the norm 1 over channels: as UnitNormalization, for order 2.",
    ),
    ops(
        "numpy", "Matmul", reader="products.read_matmul", unitwise=True,
        becomes="A matrix of constants on the positions of one axis, as in graph convolutions; on "
        "the units of an output.",
    ),
    ops(
        "numpy", "Dot Tensordot", reader="products.read_contraction", reason=wording.PRODUCT,
        unitwise=True,
        becomes="A tensor times a matrix of constants over its last axis, as matmul.",
    ),
    # Without a rule
    ops("numpy", "Fmax Fmin", reason=_EXTREME),
    ops("numpy", "Amax Amin Max Min", reason=_LARGEST_OF_ALL),
    ops("math", "Rsqrt", reason=_STATISTICS),
    ops("nn", "Moments", reason=_STATISTICS),
    ops("numpy", "Sqrt Std Var", reason=_STATISTICS),
    ops("numpy", "Inner Outer Vdot", reason=wording.PRODUCT),
    ops("nn", "DotProductAttention", reason=wording.ATTENTION),
    ops("nn", "AdaptiveMaxPool", reason=wording.LARGEST),
    ops(
        "core",
        "SaturateCast Scatter ScatterUpdate Slice SliceUpdate StopGradient "
        "Unstack",
    ),
    ops("einops", "Rearrange"),
    ops(
        "image",
        "CropImages GaussianBlur HSVToRGB PadImages RGBToGrayscale RGBToHSV",
    ),
    ops("linalg", "Det Inv Norm"),
    ops("math", "Erfc Erfinv Logsumexp TopK"),
    ops(
        "nn",
        "BatchNorm Conv ConvTranspose DepthwiseConv LayerNorm "
        "OneHot RMSNorm SeparableConv Unfold",
    ),
    ops(
        "numpy",
        "All Any Append Arccos Arccosh Arcsin Arcsinh Arctan2 Arctanh Argmax Argmin Argsort "
        "Average BroadcastTo Cbrt Ceil Copy CountNonzero Cross Cumprod Deg2rad Diag "
        "Diagonal Diff DivideNoNan Dstack Equal Exp2 Fabs Fliplr Flipud Floor FloorDivide "
        "Fmod FullLike Greater GreaterEqual Hsplit Hstack Hypot Isclose Isfinite Isinf Isnan Less "
        "LessEqual Log10 Log2 Logaddexp Logaddexp2 LogicalAnd LogicalNot LogicalOr LogicalXor "
        "Median Mod Moveaxis NanToNum NotEqual OnesLike Prod Rad2deg Ravel Real Reciprocal "
        "Rot90 Round Select Sinc Sort TakeAlongAxis "
        "Tan Trace Tril Triu Trunc Vsplit Vstack Where ZerosLike",
    ),
    # Not read from files: operations that take functions, and others that were not looked at
    ops(
        "core",
        "AssociativeScan Cond ForiLoop Map Scan Switch VectorizedMap WhileLoop",
        reason=wording.CODE, in_files=False, runs_code=True,
    ),
    ops("function", "Function", reason=wording.CODE, in_files=False, runs_code=True),
    ops(
        "image",
        "AffineTransform ElasticTransform MapCoordinates PerspectiveTransform SSIM "
        "ScaleAndTranslate SobelEdges",
        in_files=False,
    ),
    ops(
        "linalg",
        "Cholesky CholeskyInverse Eig Eigh JVP Lstsq LuFactor MatrixRank Pinv Qr SVD Solve "
        "SolveTriangular",
        in_files=False,
    ),
    ops(
        "math",
        "CDist ExtractSequences FFT FFT2 IFFT2 IRFFT ISTFT InTopK Logdet RFFT STFT SegmentMax "
        "SegmentMin SegmentProd SegmentReduction SegmentSum ViewAsComplex ViewAsReal",
        in_files=False,
    ),
    ops(
        "nn",
        "BinaryCrossentropy CTCDecode CTCLoss CategoricalCrossentropy Fold MultiHot PSNR Polar "
        "SparseCategoricalCrossentropy",
        in_files=False,
    ),
    ops(
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
