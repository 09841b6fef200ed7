"""The allow-list: Keras classes that a model file may name.

A file names classes by module and name, and Keras imports the named module. Therefore a name is
first compared with these lists, as text. Classes that hold or fetch code are left out on purpose
(Lambda, TFSMLayer, TorchModuleWrapper, JaxLayer, FlaxLayer, operations that take functions), and
so are classes that read files (StringLookup, IntegerLookup, TextVectorization). A Keras layer that
is missing here is refused with a message; read its from_config and build before you add it.
"""

from __future__ import annotations

__all__ = ["ACTIVATIONS", "ARRAY_DTYPES", "FOREIGN_CODE", "LAYERS", "MODELS", "OBJECTS", "OPS"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODELS: dict[str, frozenset[str]] = {
    "keras": frozenset({"Sequential"}),
    "keras.models": frozenset({"Sequential"}),
    "keras.src.models.functional": frozenset({"Functional"}),
    "keras.src.models.sequential": frozenset({"Sequential"}),
}

LAYERS: dict[str, frozenset[str]] = {
    "keras.layers": _names("""
        Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
        AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add
        AdditiveAttention AlphaDropout Attention AutoContrast Average AveragePooling1D
        AveragePooling2D AveragePooling3D BatchNormalization Bidirectional CategoryEncoding
        CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose
        ConvLSTM1D ConvLSTM2D ConvLSTM3D Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D
        DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten
        GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
        GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
        GroupNormalization GroupQueryAttention Identity InputLayer LSTM LSTMCell LayerNormalization
        LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum MultiHeadAttention
        Multiply Normalization PReLU Permute Pipeline RMSNormalization RNN RandomBrightness
        RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop RandomElasticTransform
        RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert
        RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness
        RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing
        SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell Softmax Solarization
        SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells
        Subtract TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D
        ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """),
    "keras.src.applications.convnext": frozenset({"LayerScale", "StochasticDepth"}),
    "keras.src.applications.inception_resnet_v2": frozenset({"CustomScaleLayer"}),
}

FOREIGN_CODE = frozenset({"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"})

OPS: dict[str, frozenset[str]] = {
    "keras.src.ops.core": _names(
        "Cast ConvertToTensor SaturateCast Scatter ScatterUpdate Slice SliceUpdate StopGradient "
        "Unstack"
    ),
    "keras.src.ops.einops": frozenset({"Rearrange"}),
    "keras.src.ops.image": _names(
        "CropImages ExtractPatches GaussianBlur HSVToRGB PadImages RGBToGrayscale RGBToHSV Resize"
    ),
    "keras.src.ops.linalg": frozenset({"Det", "Inv", "Norm"}),
    "keras.src.ops.math": _names("Erf Erfc Erfinv Logsumexp Rsqrt TopK"),
    "keras.src.ops.nn": _names(
        """
        AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm Celu Conv ConvTranspose
        DepthToSpace DepthwiseConv DotProductAttention Elu Gelu Glu HardShrink HardSigmoid HardSilu
        HardTanh LayerNorm LeakyRelu LogSigmoid LogSoftmax MaxPool Moments Normalize OneHot RMSNorm
        Relu Relu6 Selu SeparableConv Sigmoid Silu SoftShrink Softmax Softplus Softsign
        SpaceToDepth SparsePlus SparseSigmoid Sparsemax Squareplus TanhShrink Threshold Unfold
        """
    ),
    "keras.src.ops.numpy": _names(
        """
        Abs Absolute Add All Amax Amin Any Append Arccos Arccosh Arcsin Arcsinh Arctan Arctan2
        Arctanh Argmax Argmin Argsort Average BroadcastTo Cbrt Ceil Clip Concatenate Copy Cos Cosh
        CountNonzero Cross Cumprod Cumsum Deg2rad Diag Diagonal Diff Divide DivideNoNan Dot Dstack
        Einsum Equal Exp Exp2 ExpandDims Expm1 Fabs Flip Fliplr Flipud Floor FloorDivide Fmax Fmin
        Fmod FullLike GetItem Greater GreaterEqual Heaviside Hsplit Hstack Hypot Inner Isclose
        Isfinite Isinf Isnan Less LessEqual Log Log10 Log1p Log2 Logaddexp Logaddexp2 LogicalAnd
        LogicalNot LogicalOr LogicalXor Matmul Max Maximum Mean Median Min Minimum Mod Moveaxis
        Multiply NanToNum Negative NotEqual OnesLike Outer Pad Power Prod Rad2deg Ravel Real
        Reciprocal Repeat Reshape Roll Rot90 Round Select Sign Sin Sinc Sinh Sort Split Sqrt
        Square Squeeze Stack Std Subtract Sum Swapaxes Take TakeAlongAxis Tan Tanh Tensordot Tile
        Trace Transpose Tril Triu TrueDivide Trunc Var Vdot Vsplit Vstack Where ZerosLike
        """
    ),
}

OBJECTS: dict[str, frozenset[str]] = {
    "keras": frozenset({"DTypePolicy", "FloatDTypePolicy"}),
    "keras.constraints": frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"}),
    "keras.dtype_policies": frozenset({"DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy"}),
    "keras.initializers": _names(
        "Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform "
        "Ones Orthogonal RandomNormal RandomUniform STFT TruncatedNormal VarianceScaling "
        "Zeros"
    ),
    "keras.random": frozenset({"SeedGenerator"}),
    "keras.regularizers": frozenset({"L1", "L1L2", "L2", "OrthogonalRegularizer"}),
}

ACTIVATIONS = _names(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh
    leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax
    softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink
    threshold
    """
)

ARRAY_DTYPES = _names(
    "bfloat16 bool float16 float32 float64 int16 int32 int64 int8 uint16 uint32 uint64 uint8"
)
