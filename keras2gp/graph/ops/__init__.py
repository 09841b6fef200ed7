"""The ops of a graph: what each does to shapes, distributions and offsets, as frozen values.

An op states its own facts. Its covariance is computed by a rule of `keras2gp.covariance`.

Glossary
  spatial   sizes of the spatial axes of a tensor, () for a vector
  offset d  one integer per spatial axis: k[d][g] = Cov(A_g(x1), A_{g+d}(x2))
"""

from keras2gp.graph.ops.base import (
    Kind,
    Margin,
    Offset,
    Op,
    Ratios,
    Reading,
    Refusal,
    Spatial,
    wrapped,
)
from keras2gp.graph.ops.channels import (
    Activation,
    Affine,
    Depthwise,
    Input,
    Mixture,
    Opaque,
    Scale,
    Sum,
    Tokens,
    Weighted,
)
from keras2gp.graph.ops.functions import Composed, Shift, Steps
from keras2gp.graph.ops.mixing import (
    AveragePool,
    Combination,
    Interpolate,
    Matrix,
    Mixing,
    Select,
    Upsample,
)
from keras2gp.graph.ops.normalization import Gain, Normalize, NormalizeAdded
from keras2gp.graph.ops.positions import Crop, Dilate, Flip, Pad, Patches, Positions, Repeat
from keras2gp.graph.ops.products import STRAIGHT, Multiple, Polynomial, Product, Rest, Total
from keras2gp.graph.ops.rearranging import (
    Axes,
    Permute,
    Reshape,
    ReshapeEach,
    Shuffle,
    Spread,
    reshape_of,
)
from keras2gp.graph.ops.sequences import Calls, Recurrent, Stack, Weigh

__all__ = [
    "STRAIGHT",
    "Activation",
    "Affine",
    "AveragePool",
    "Axes",
    "Calls",
    "Combination",
    "Composed",
    "Crop",
    "Depthwise",
    "Dilate",
    "Flip",
    "Gain",
    "Input",
    "Interpolate",
    "Kind",
    "Margin",
    "Matrix",
    "Mixing",
    "Mixture",
    "Multiple",
    "Normalize",
    "NormalizeAdded",
    "Offset",
    "Op",
    "Opaque",
    "Pad",
    "Patches",
    "Permute",
    "Polynomial",
    "Positions",
    "Product",
    "Ratios",
    "Reading",
    "Recurrent",
    "Refusal",
    "Repeat",
    "Reshape",
    "ReshapeEach",
    "Rest",
    "Scale",
    "Select",
    "Shift",
    "Shuffle",
    "Spatial",
    "Spread",
    "Stack",
    "Steps",
    "Sum",
    "Tokens",
    "Total",
    "Upsample",
    "Weigh",
    "Weighted",
    "reshape_of",
    "wrapped",
]
