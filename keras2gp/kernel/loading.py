"""load_kernel(): a kernel from the directory into which Kernel.save wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras2gp._util.checks import as_path
from keras2gp.covariance.own_activations import OwnActivations
from keras2gp.errors import InputError, ModelFileError
from keras2gp.kernel.algebra import ComposedKernel, composed
from keras2gp.kernel.composed_files import is_composed, read_composed
from keras2gp.kernel.kernel import Kernel
from keras2gp.kernel.saving import json_of, read_kernel

__all__ = ["load_kernel"]


def load_kernel(
    directory: str | Path,
    activations: Mapping[Any, Any] | None = None,
    layers: Mapping[Any, Any] | None = None,
) -> Kernel | ComposedKernel:
    """Load the kernel that its `save` wrote: of a network, or a sum or product of kernels.

    Args:
        directory: the directory that was handed to `Kernel.save`.
        activations: as for convert(); functions of your own, which a saved kernel does not hold.
        layers: as for convert(); layers of your own that the kernel runs on its inputs.

    Returns:
        A kernel with the same entries, to the last bit.

    Raises:
        ModelFileError: there is no kernel, it is damaged, or it needs an activation that is not
            stated or is another function.
        InputError: `activations` holds something else than functions and Duals.
    """
    own = OwnActivations(activations)
    own.register()

    def load(path: Path) -> Kernel | ComposedKernel:
        if not is_composed(data := json_of(path)):
            return Kernel.from_parts(read_kernel(path, own, layers))
        operation, parts, number = read_composed(path, data, load)
        try:
            return composed(operation, parts, number)
        except InputError as error:
            raise ModelFileError(f"{path}: {error}") from error

    return load(as_path("directory", directory, ModelFileError))
