"""The operands of sums and products of kernels: which there are, and which fit each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.matrices.composed import Operation

__all__ = [
    "OwnKernel",
    "checked_kernel",
    "checked_number",
    "is_ours",
    "require_plain",
    "require_same_inputs",
]


class OwnKernel:
    """Base of the kernels of keras2gp, which an operand is told by."""

    __array_ufunc__ = None  # numpy's numbers leave the operators to this class


def is_ours(part: Any) -> bool:
    """Whether a kernel is one of keras2gp's, and not of scikit-learn's."""
    return isinstance(part, OwnKernel)


def checked_number(operation: Operation, number: float) -> float:
    """A number that a kernel may be added to, or scaled by. Raises: InputError."""
    least = 0.0 if operation == "sum" else math.ulp(0.0)
    if not least <= number < math.inf:
        what = "a variance that is added" if operation == "sum" else "a factor of a covariance"
        raise InputError(f"{number:g}: {what} is a finite number above 0")
    return number


def checked_kernel(other: Any) -> Any:
    """A kernel of keras2gp; or one of scikit-learn's, a copy that nobody changes."""
    if is_ours(other):
        return other
    names = {f"{base.__module__}.{base.__qualname__}" for base in type(other).__mro__}
    if "sklearn.gaussian_process.kernels.Kernel" not in names:
        raise InputError(
            f"{received_text(other)} is no kernel: expected one of keras2gp.convert or "
            "keras2gp.load, one of scikit-learn, or a number"
        )
    if any(type(v).__name__ == "WhiteKernel" for v in [other, *other.get_params().values()]):
        raise InputError(
            "WhiteKernel is noise, no covariance of a function. Try: noise_variance of the "
            "estimator"
        )
    return deepcopy(other)


def require_plain(kernel: Any) -> None:
    """Refuse kernels with positions or a mean, of which sums and products are something else."""
    if not is_ours(kernel):
        return
    if positions := kernel.positions:
        raise InputError(
            f"the kernel's output has positions {positions}, and sums and products are of one "
            "number for each pair of images. Try: kernel.at(position)"
        )
    if kernel.mean is not None:
        raise InputError(
            "the kernel's process has a mean, which sums and products of covariances leave out. "
            "Try: kernel.without_mean()"
        )


def require_same_inputs(parts: Sequence[Any]) -> None:
    """Refuse kernels of different inputs."""
    described = [
        [(spec.shape, spec.dtype) for spec in part.inputs] for part in parts if is_ours(part)
    ]
    if any(one != described[0] for one in described[1:]):
        shapes = " and ".join(str([list(shape) for shape, _ in one]) for one in described)
        raise InputError(f"the kernels take different inputs: {shapes}")
    others = [part for part in parts if not is_ours(part)]
    if others and len(described[0]) != 1:
        raise InputError(
            f"a kernel of scikit-learn takes one array, and this one {len(described[0])} inputs"
        )
