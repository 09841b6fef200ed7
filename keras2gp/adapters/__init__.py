"""Kernels of keras2gp as kernels of other libraries, which are imported when a function is called.

The kernel has no hyperparameters there: its variances are those of the Keras model. Values are
computed by keras2gp in the kernel's own precision and handed on in float64; a float32 kernel
(the default of `convert`) needs noise or jitter of about 1e-6 of its diagonal to be factorised.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from keras2gp.errors import MissingLibraryError
from keras2gp.gp.arguments.kernel_function import KernelLike

__all__ = ["gpflow_kernel", "sklearn_kernel", "tfp_kernel"]


def sklearn_kernel(kernel: KernelLike) -> Any:
    """A kernel for scikit-learn's GaussianProcessRegressor and others.

    It can be added to and multiplied with other kernels, cloned (the clone shares `kernel`), and
    has a gradient in its hyperparameters, of which there are none.

    Args:
        kernel: a kernel of keras2gp.convert, or another function k(x1, x2) with `diag`.

    Returns:
        A sklearn.gaussian_process.kernels.Kernel of flattened images, [N, features], since
        scikit-learn's estimators take no others.

    Raises:
        InputError: `kernel` is no kernel, or it has a mean or positions.

    >>> import keras, keras2gp, numpy
    >>> from keras2gp import adapters
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.5)})
    >>> adapters.sklearn_kernel(kernel)(numpy.ones((1, 2))).tolist()
    [[1.5]]
    """
    return _adapter("for_sklearn", "sklearn")(kernel)


def gpflow_kernel(kernel: KernelLike) -> Any:
    """A kernel for GPflow's models.

    It can be added to and multiplied with other kernels, whose hyperparameters can be trained. It
    is not differentiable in its inputs: inducing points must not be trainable. That gradient
    raises InputError, and is NaN in a compiled function.

    Args:
        kernel: a kernel of keras2gp.convert, or another function k(x1, x2) with `diag`.

    Returns:
        A gpflow.kernels.Kernel of flattened images, [N, features].

    Raises:
        MissingLibraryError: gpflow cannot be imported.
        InputError: `kernel` is no kernel, or it has a mean or positions.
    """
    return _adapter("for_gpflow", "gpflow")(kernel)


def tfp_kernel(kernel: KernelLike, feature_ndims: int | None = None) -> Any:
    """A kernel for TensorFlow Probability.

    It is not differentiable in its inputs (that gradient raises InputError, and is NaN in a
    compiled function), and takes no batches of sets of images.

    Args:
        kernel: a kernel of keras2gp.convert, or another function k(x1, x2) with `diag`.
        feature_ndims: the number of axes of one image; None: as the model takes them; 1: flattened.

    Returns:
        A tfp.math.psd_kernels.PositiveSemidefiniteKernel of images, [N, *shape].

    Raises:
        MissingLibraryError: tensorflow_probability cannot be imported (it needs tf_keras too).
        InputError: `kernel` is no kernel, or `feature_ndims` is another number.
    """
    return _adapter("for_tfp", "tensorflow_probability")(kernel, feature_ndims)


def _adapter(module: str, library: str) -> Any:
    """The class of an adapter, whose library is imported now."""
    try:
        import_module(library)
    except ImportError as error:
        package = library.replace("_", "-")
        raise MissingLibraryError(
            f"{library} cannot be imported: {error}. It is no dependency of keras2gp. "
            f"Try: pip install {package}" + (" tf_keras" if package != library else "")
        ) from error
    return import_module(f"keras2gp.adapters.{module}").NetworkKernel
