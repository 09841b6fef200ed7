"""Kernels of keras2gp as kernels of other libraries, which are imported when a function is called.

The kernel has no hyperparameters there: its variances are those of the Keras model. Values are
computed by keras2gp in the kernel's own precision and handed on in float64; a float32 kernel
(the default of `convert`) needs noise or jitter of about 1e-6 of its diagonal to be factorised.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from keras2gp.errors import MissingLibraryError

__all__ = ["gpflow_kernel", "sklearn_kernel", "tfp_kernel"]


def sklearn_kernel(kernel: Any) -> Any:
    """A sklearn.gaussian_process.kernels.Kernel, for GaussianProcessRegressor and others.

    It can be added to and multiplied with other kernels, cloned (the clone shares `kernel`), and
    has a gradient in its hyperparameters, of which there are none. Inputs are flattened images,
    [N, features], since scikit-learn's estimators take no others.

    Raises: InputError if `kernel` is no kernel.
    """
    from keras2gp.adapters.for_sklearn import NetworkKernel  # noqa: PLC0415 (late, like the others)

    return NetworkKernel(kernel)


def gpflow_kernel(kernel: Any) -> Any:
    """A gpflow.kernels.Kernel of flattened images [N, features].

    It can be added to and multiplied with other kernels, whose hyperparameters can be trained. It
    is not differentiable in its inputs: inducing points must not be trainable. That gradient
    raises InputError, and is NaN in a compiled function.

    Raises: MissingLibraryError if gpflow cannot be imported; InputError if `kernel` is no kernel.
    """
    return _adapter("for_gpflow", "gpflow")(kernel)


def tfp_kernel(kernel: Any, feature_ndims: int | None = None) -> Any:
    """A tfp.math.psd_kernels.PositiveSemidefiniteKernel of images [N, *shape].

    feature_ndims: the number of axes of one image; None: as the model takes them; 1: flattened

    It is not differentiable in its inputs (that gradient raises InputError, and is NaN in a
    compiled function), and takes no batches of sets of images.

    Raises: MissingLibraryError if tensorflow_probability cannot be imported (it needs tf_keras
        too); InputError if `kernel` is no kernel, or feature_ndims is neither.
    """
    return _adapter("for_tfp", "tensorflow_probability")(kernel, feature_ndims)


def _adapter(module: str, library: str) -> Any:
    try:
        import_module(library)
    except ImportError as error:
        package = library.replace("_", "-")
        raise MissingLibraryError(
            f"{library} cannot be imported: {error}. It is no dependency of keras2gp. "
            f"Try: pip install {package}" + (" tf_keras" if package != library else "")
        ) from error
    return import_module(f"keras2gp.adapters.{module}").NetworkKernel
