"""The vocabulary between the halves: frozen specifications of what happens to a covariance.

An op knows its own shape arithmetic and which spatial offsets of its input the offsets of its
output need (see demand.py). How its covariance is computed is a rule's business, not its own.

Glossary
  spatial   sizes of the spatial axes of a tensor, () for a vector
  offset d  one integer per spatial axis: k[d][g] = Cov(A_g(x1), A_{g+d}(x2))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from keras2gp.errors import GraphError

__all__ = [
    "Activation",
    "Affine",
    "Crop",
    "Dilate",
    "Input",
    "Mixture",
    "Offset",
    "Op",
    "Opaque",
    "Pad",
    "Patches",
    "Positions",
    "Ratios",
    "Reshape",
    "Scale",
    "Spatial",
    "Spread",
    "Sum",
]

Offset = tuple[int, ...]
Ratios = tuple[Fraction | int, ...]
"""An offset as fractions."""
Spatial = tuple[int, ...]


@dataclass(frozen=True)
class Op:
    """What one node does to its inputs. Subclasses are values: equal fields, equal ops."""

    linear: ClassVar[bool] = False
    """A linear map without randomness: it keeps the kind and the sources of its input."""

    random: ClassVar[bool] = False
    """Draws weights of its own: a new source, Gaussian in the limit."""

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """Spatial shape of the output for these spatial shapes of the inputs."""
        return inputs[0]

    mixing: ClassVar[bool] = False
    """Combines several offsets of its input into one of its output; see mixing.py."""

    @property
    def reads_outside(self) -> bool:
        """Whether it reads its input beyond the border, where that has to be 0 (see demand.py)."""
        return False

    @property
    def keeps_zeros(self) -> bool:
        """Whether its map is 0 beyond the border wherever those of its inputs are."""
        return self.linear

    def input_offset(self, offset: Ratios) -> Ratios:
        """The one offset of the input that this offset of the output needs.

        Exact fractions: where the result is not whole, the map of the output is 0.
        """
        return offset


@dataclass(frozen=True)
class Input(Op):
    """A data tensor: images after every deterministic layer. `index` counts them."""

    index: int
    size: Spatial
    channels: int

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """Spatial shape of the data tensor itself."""
        return self.size


@dataclass(frozen=True)
class Opaque(Op):
    """Stands for a layer that was refused, so that what follows it can still be examined."""

    path: str
    size: Spatial
    random: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """Spatial shape that Keras states for the layer's output."""
        return self.size


@dataclass(frozen=True)
class Affine(Op):
    """Weights and biases of one call of one layer: k' = b2 + w2 k, pointwise.

    What the weights sum over has been averaged before, by Patches, Positions or Mixture.
    `layer` names the entry in the kernel's parameters, `call` counts the layer's calls.
    """

    layer: str
    call: int = 0
    random: ClassVar[bool] = True


@dataclass(frozen=True)
class Patches(Op):
    """What a convolution sees: k'[g] = mean over the window's taps of k, zero outside the image.

    window, strides, dilation: one integer for each spatial axis.
    pads: zeros (before, after) on each axis.
    """

    window: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    linear: ClassVar[bool] = True

    @property
    def taps(self) -> int:
        """Number of elements of the window."""
        return math.prod(self.window)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """(n + pads - reach) // stride + 1 on each axis."""
        (size,) = inputs
        out = []
        for n, k, s, r, (before, after) in zip(
            size, self.window, self.strides, self.dilation, self.pads, strict=True
        ):
            reach = (k - 1) * r + 1
            if n + before + after < reach:
                raise GraphError(f"a window of {reach} does not fit into {n + before + after}")
            out.append((n + before + after - reach) // s + 1)
        return tuple(out)

    @property
    def reads_outside(self) -> bool:
        """Unless it takes single positions of the image itself."""
        return self.taps > 1 or any(map(any, self.pads))

    @property
    def keeps_zeros(self) -> bool:
        """Not of a window: beyond the border it still reads what is inside."""
        return not self.reads_outside

    def input_offset(self, offset: Ratios) -> Ratios:
        """Stride times the offset: both windows move together."""
        return tuple(s * d for s, d in zip(self.strides, offset, strict=True))


@dataclass(frozen=True)
class Positions(Op):
    """All positions become channels (Flatten before Dense): k' = mean over g of k[0][g]."""

    rank: int
    linear: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """No spatial axis is left."""
        return ()

    def input_offset(self, offset: Ratios) -> Ratios:
        """Equal positions only: weights of different positions are independent."""
        return (0,) * self.rank


@dataclass(frozen=True)
class Mixture(Op):
    """Channel groups become one: k' = sum of weights[i] k_i, the weights C_i / sum C."""

    weights: tuple[float, ...]
    linear: ClassVar[bool] = True


@dataclass(frozen=True)
class Activation(Op):
    """phi, elementwise. `name` selects the dual activation, `params` its constants."""

    name: str
    params: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Sum(Op):
    """sum of coefficients[i] A_i over independent A_i: k' = sum of coefficients[i]^2 k_i.

    Of features, products of their means are added (see features.py).
    """

    coefficients: tuple[float, ...]

    @property
    def keeps_zeros(self) -> bool:
        """Zeros add up to zero."""
        return True


@dataclass(frozen=True)
class Scale(Op):
    """factor A: k' = factor^2 k."""

    factor: float
    linear: ClassVar[bool] = True


@dataclass(frozen=True)
class Pad(Op):
    """Zeros around the map, (before, after) on each axis."""

    pads: tuple[tuple[int, int], ...]
    linear: ClassVar[bool] = True

    @property
    def reads_outside(self) -> bool:
        """The zeros that it adds are beyond its input's border."""
        return True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """Grown by the zeros."""
        return tuple(n + a + b for n, (a, b) in zip(inputs[0], self.pads, strict=True))


@dataclass(frozen=True)
class Crop(Op):
    """Positions removed, (before, after) on each axis."""

    crops: tuple[tuple[int, int], ...]
    linear: ClassVar[bool] = True

    @property
    def keeps_zeros(self) -> bool:
        """What is cut off is beyond the new border."""
        return False

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """Shrunk by what is cut."""
        out = tuple(n - a - b for n, (a, b) in zip(inputs[0], self.crops, strict=True))
        if min(out, default=1) < 1:
            raise GraphError(f"cropping {self.crops} leaves nothing of {inputs[0]}")
        return out


@dataclass(frozen=True)
class Reshape(Op):
    """Other spatial axes for the same positions in the same order."""

    size: Spatial
    rank: int
    linear: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The new spatial shape."""
        if math.prod(inputs[0]) != math.prod(self.size):
            raise GraphError(f"{inputs[0]} cannot become {self.size}")
        return self.size

    def input_offset(self, offset: Ratios) -> Ratios:
        """Offset 0 only: another one is not the same offset at every position."""
        if any(offset):
            raise GraphError("an offset other than 0 does not survive a reshape")
        return (0,) * self.rank


@dataclass(frozen=True)
class Spread(Op):
    """The units of a vector become the positions of a map (Reshape after Dense).

    Independent units at all positions: k'[0][g] = k, and 0 at every other offset.
    """

    size: Spatial

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The new spatial shape."""
        if inputs[0]:
            raise GraphError(f"only a vector is spread over positions, not a map of {inputs[0]}")
        return self.size

    def input_offset(self, offset: Ratios) -> Ratios:
        """A vector has no offsets."""
        return ()


@dataclass(frozen=True)
class Dilate(Op):
    """Zeros between positions (transposed convolution): k'[d][g] = k[d / s][g / s], else 0.

    strides: distance of neighbouring positions in the output, one integer for each axis.
    """

    strides: tuple[int, ...]
    linear: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """(n - 1) s + 1 on each axis: no zeros behind the last position."""
        return tuple((n - 1) * s + 1 for n, s in zip(inputs[0], self.strides, strict=True))

    def input_offset(self, offset: Ratios) -> Ratios:
        """The offset divided by the stride; where that is not whole, one of the two is a zero."""
        return tuple(Fraction(d) / s for s, d in zip(self.strides, offset, strict=True))
