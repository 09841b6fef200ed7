"""load(): a kernel or a fit from the directory into which its `save` wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras2gp._util.arrays import GramLike
from keras2gp._util.paths import as_path, read_if_regular
from keras2gp.covariance.own_activations import OwnActivations
from keras2gp.errors import InputError, ModelFileError
from keras2gp.fit_record import HEAD, RECORD, read_record
from keras2gp.gp.arguments.kernel_function import KernelLike
from keras2gp.kernel.algebra import ComposedKernel, composed
from keras2gp.kernel.composed_files import is_composed, read_composed
from keras2gp.kernel.kernel import Kernel
from keras2gp.kernel.saving import json_of, read_kernel

__all__ = ["load", "load_kernel"]

_LARGEST = 2**28


def load(
    directory: str | Path,
    activations: Mapping[Any, Any] | None = None,
    layers: Mapping[Any, Any] | None = None,
    *,
    kernel: KernelLike = None,
    gram: GramLike = None,
) -> Any:
    """Load a kernel that Kernel.save wrote, or a fit of an estimator's `save` or of the command.

    Nothing in a directory is run, and a file that is not the file that was written is refused.

    Args:
        directory: the directory that was handed to `save`, or the --out of `convert` and `fit`.
        activations: as for convert(); functions of your own, which a saved kernel does not hold.
        layers: as for convert(); layers of your own that the kernel runs on its inputs.
        kernel: of a fit, its kernel, where it was saved without: a function, or a kernel of another
            library. It is tried on the first few training inputs.
        gram: of a fit by conjugate gradients or in mixed precision, or of a GPLaplace, the kernel
            matrix of the training inputs; without it the matrix is computed when a variance is
            asked for.

    Returns:
        A Kernel with the same entries, to the last bit; or a GPClassifier, GPRegressor,
        GPLaplace or TrainedEnsemble with the same predictions.

    Raises:
        ModelFileError: there is no kernel and no fit, it is damaged, or it needs a kernel or an
            activation that is not stated or is another one.
        InputError: `activations` holds something else than functions and Duals; `kernel` and
            `gram` are stated for a kernel.

    >>> import keras, keras2gp, numpy, tempfile
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.5)})
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     kernel.save(directory)
    ...     loaded = keras2gp.load(directory)
    >>> numpy.asarray(loaded(numpy.ones((1, 2)))).tolist()
    [[1.5]]
    """
    path = as_path("directory", directory, ModelFileError)
    try:
        is_fit = (path / RECORD).is_file()
    except (OSError, ValueError):  # no name at all: the kernel's own message says so
        is_fit = False
    if not is_fit:
        if kernel is not None or gram is not None:
            raise InputError(f"kernel= and gram= are of a fit, and {path} holds none (no {RECORD})")
        return load_kernel(path, activations, layers)
    read_record(path)
    if kernel is None:
        kernel = _kernel_of(path, activations, layers)
    return _load_head(path / "head", kernel, gram)


def _load_head(directory: Path, kernel: KernelLike, gram: GramLike) -> Any:
    """A fit. scikit-learn and scipy, which a kernel does without, are imported for it alone."""
    from keras2gp.gp.saving import load_head  # noqa: PLC0415

    return load_head(directory, kernel, gram)


def _kernel_of(
    path: Path, activations: Mapping[Any, Any] | None, layers: Mapping[Any, Any] | None
) -> Any:
    """The kernel of a fit. Raises: ModelFileError, also where it was saved without."""
    if (path / "kernel").exists():
        return load_kernel(path / "kernel", activations, layers)
    try:
        head = json.loads(read_if_regular(path / "head" / HEAD, _LARGEST) or b"null")
        precomputed = head["parameters"]["precomputed"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path / 'head' / HEAD} is missing or damaged: {error}") from error
    if precomputed is True:
        return "precomputed"
    raise ModelFileError(
        f"{path}: the fit was saved without its kernel, which is none of keras2gp's, or has a part "
        "that no file holds. Try: "
        "load(directory, kernel=...), with that kernel"
    )


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
