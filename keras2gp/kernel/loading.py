"""load_kernel(): a kernel from the directory into which Kernel.save wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras2gp._util.checks import as_path
from keras2gp.covariance.own_activations import OwnActivations
from keras2gp.errors import ModelFileError
from keras2gp.kernel.kernel import Kernel
from keras2gp.kernel.saving import read_kernel

__all__ = ["load_kernel"]


def load_kernel(
    directory: str | Path,
    activations: Mapping[Any, Any] | None = None,
    layers: Mapping[Any, Any] | None = None,
) -> Kernel:
    """Load the kernel that Kernel.save wrote.

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
    return Kernel.from_parts(
        read_kernel(as_path("directory", directory, ModelFileError), own, layers)
    )
