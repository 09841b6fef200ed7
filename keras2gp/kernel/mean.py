"""The mean function of a kernel's process: constants at the output, and data added to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Images, InputsLike
from keras2gp._util.checks import whole_number
from keras2gp._util.text import numbers_text
from keras2gp.errors import InputError, ModelFileError
from keras2gp.kernel.inputs import InputSpec, checked

__all__ = ["Mean", "MeanFunction"]

_MOST_CONSTANTS = 2**20


@dataclass(frozen=True, eq=False)
class Mean:
    """A mean as data: m(x) = constant + sum of coefficients times data tensors.

    constant: broadcasts against [*sizes, outputs]; one output stands for all of them
    sizes:    of the axes of positions
    data:     pairs of a number of the tensors behind the preprocessor and its coefficient
    position: the one position that the output is; None for all
    """

    constant: Array
    sizes: tuple[int, ...] = ()
    data: tuple[tuple[int, float], ...] = ()
    position: tuple[int, ...] | None = None

    def at(self, place: tuple[int, ...]) -> Mean:
        """The mean at one position."""
        if self.data:
            return replace(self, position=place)
        whole: Array = np.broadcast_to(self.constant, (*self.sizes, self.constant.shape[-1]))
        return Mean(whole[place])

    def values(self, tensors: Sequence[Images], count: int) -> Array:
        """The mean of `count` images, [N, *positions, outputs], from the tensors of the data."""
        result = self.constant
        for number, coefficient in self.data:
            data = tensors[number].astype(np.float64).reshape(count, *self.sizes, -1)
            result = result + coefficient * data
        whole: Array = np.broadcast_to(result, (count, *self.sizes, result.shape[-1]))
        every: tuple[Any, ...] = (slice(None),)
        return whole if self.position is None else whole[every + self.position]

    @property
    def text(self) -> str:
        """The mean in words: "0.5", "the input, plus 1"."""
        if not self.data:
            return numbers_text(self.constant)
        factors = ", ".join("" if c == 1.0 else f"{c:g} times " for _, c in self.data)
        plus = f", plus {numbers_text(self.constant)}" if self.constant.any() else ""
        return f"{factors}data of the input{plus}"

    def to_dict(self) -> dict[str, Any]:
        """The mean as data for JSON."""
        return {
            "constant": self.constant.tolist(),
            "sizes": list(self.sizes),
            "data": [list(pair) for pair in self.data],
            "position": None if self.position is None else list(self.position),
        }

    @classmethod
    def from_dict(
        cls, entry: Mapping[str, Any], positions: tuple[int, ...], shapes: Sequence[Sequence[Any]]
    ) -> Mean:
        """The mean of `to_dict`, checked.

        positions: sizes of the output's axes of positions
        shapes:    of the tensors behind the preprocessor, without the batch axis

        Raises: ModelFileError where it does not fit; TypeError, ValueError and the like where a
            value is malformed.
        """
        constant = np.asarray(entry["constant"], dtype=np.float64)
        sizes = tuple(whole_number("size", n, 1) for n in entry["sizes"])
        position = entry["position"]
        if position is not None:
            position = tuple(whole_number("position", i, 0) for i in position)
        data = tuple((whole_number("data", n, 0), float(c)) for n, c in entry["data"])
        mean = cls(constant, sizes, data, position)
        mean.check(positions, shapes)
        return mean

    def check(self, positions: tuple[int, ...], shapes: Sequence[Sequence[Any]]) -> None:
        """Refuse a mean that does not fit; arguments and errors as for `from_dict`."""
        shape, left = self.constant.shape, positions if self.position is None else self.sizes
        fits = 0 < self.constant.size <= _MOST_CONSTANTS and 0 < len(shape) <= len(left) + 1
        fits = fits and bool(np.isfinite(self.constant).all()) and self.sizes == left
        sizes = (*self.sizes, *shape[-1:])[len(self.sizes) + 1 - len(shape) :]
        fits = fits and all(n in (1, size) for n, size in zip(shape, sizes, strict=True))
        if self.position is not None:
            inside = len(self.position) == len(self.sizes) and bool(self.data) and not positions
            fits = fits and inside
            fits = fits and all(i < n for i, n in zip(self.position, self.sizes, strict=True))
        for number, coefficient in self.data:
            tensor = tuple(shapes[number])
            fits = fits and math.isfinite(coefficient) and None not in tensor
            fits = fits and math.prod(tensor[:-1]) == math.prod(self.sizes)
            fits = fits and (1 in (shape[-1], tensor[-1]) or shape[-1] == tensor[-1])
        if not fits:
            raise ModelFileError("its mean does not fit its output")


class MeanFunction:
    """The mean of the process: what is added at the output after the last random layer.

    `Kernel.mean` gives it; the constructor is not for users. It is in the units of the model's
    output: the argument of a softmax, sigmoid or tanh that was left out.

    Attributes:
        constant: an array that broadcasts against [*positions, outputs], the mean unless it depends
            on the input; one output stands for all.
        depends_on_input: whether data is added to the constant.

    >>> import keras, keras2gp, numpy
    >>> bias = keras.initializers.Constant([0.5, -0.5])
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, bias_initializer=bias)])
    >>> mean = keras2gp.convert(model).mean
    >>> mean
    <mean 0.5, -0.5>
    >>> mean(numpy.zeros((1, 3))).tolist()
    [[0.5, -0.5]]
    """

    def __init__(
        self,
        mean: Mean,
        inputs: Sequence[InputSpec],
        dtype: str,
        tensors: Callable[[Any], Sequence[Images]],
    ) -> None:
        self._mean, self._inputs, self._dtype, self._tensors = mean, inputs, dtype, tensors
        self.constant = mean.constant
        self.depends_on_input = bool(mean.data)

    def __call__(self, x: InputsLike) -> Array:
        """The mean for each image.

        Args:
            x: images, as for calling the kernel.

        Returns:
            The means, in float64.

        Raises:
            InputError: images that do not fit or are not finite.

        Shapes:
            x [N, *shape]; result [N, *positions, outputs], of one output if all have the same mean.
        """
        if self._mean.data:
            tensors = self._tensors(x)
            return self._mean.values(tensors, len(tensors[0]))
        return self._mean.values((), len(checked(x, self._inputs, self._dtype)[0]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The constant. Raises: InputError if the mean depends on the input."""
        if self.depends_on_input:
            raise InputError("the mean depends on the input. Try: kernel.mean(x)")
        return np.array(self.constant, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"<mean {self._mean.text}>"
