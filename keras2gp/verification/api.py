"""verify(): compares a kernel with random wide copies of the model that it was converted from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from keras2gp._util.arrays import InputsLike
from keras2gp._util.keras_objects import KerasModel
from keras2gp._util.progress import Advance, check_advance
from keras2gp.conversion.opening import Opened, opened
from keras2gp.conversion.pipeline import MaxPooling, Prior, convert
from keras2gp.covariance.duals.hermite import TOLERANCE
from keras2gp.kernel.kernel import Kernel
from keras2gp.verification.report import VerificationReport
from keras2gp.verification.verification import IMAGES, SAMPLES, WIDTHS, Verification

__all__ = ["converted", "verify"]


def verify(
    model: KerasModel,
    kernel: Kernel | None = None,
    *,
    data: InputsLike = IMAGES,
    widths: Sequence[int] = WIDTHS,
    samples: int = SAMPLES,
    units: int | None = None,
    seed: int = 0,
    prior: Prior = "initializers",
    overrides: Mapping[str, Any] | None = None,
    output: str | int | None = None,
    max_pooling: MaxPooling = None,
    tolerance: float = TOLERANCE,
    layers: Mapping[Any, Any] | None = None,
    input_shape: Any = None,
    trained_until: str | None = None,
    progress: Advance | None = None,
) -> VerificationReport:
    """Test whether a kernel is that of the model, by random wide networks.

    The networks are copies of the model with other numbers of channels, their weights drawn from
    the model's prior. The second moments of their outputs tend to the kernel as the width grows;
    where the process has a mean, those of the outputs less that mean. Control variates of known
    mean, from the same weights, take away most of their fluctuation (controls.py). No rule of the
    kernel is used. Of an output with positions three are compared, the first, the last and one in
    the middle, with one another.

    The verdict is "rejected" if the networks are farther from the kernel than their error bars
    allow, which happens to a true kernel once in a thousand times. It is "accepted" if they are
    not, and a kernel whose variance is off by 10% would have been rejected with 99% probability.
    Otherwise it is "undecided". The error bars are explained in statistics.py.

    Args:
        model: A Keras model, or the path of a model file, as for convert().
        kernel: The kernel to test; None for that of convert() with the other arguments.
        data: Images to compare on, [N, *shape], or a list of arrays for several inputs; or a
            number of random images.
        widths: Channels of the narrowest hidden layer, or as close as the model's sizes allow. The
            other layers grow by the same factor.
        samples: Networks of each width.
        units: Units of the output layer, over which second moments are averaged, where nothing
            else depends on their number. None for as many, up to 1024, as cost little.
        seed: Of the networks, and of random images: equal seeds give equal reports.
        prior: As for convert().
        overrides: As for convert().
        output: As for convert().
        max_pooling: As for convert().
        tolerance: As for convert().
        layers: As for convert(). A layer without weights is run as it is in the networks, with
            more channels; the rest of its code is not looked at.
        input_shape: As for convert().
        trained_until: As for convert().
        progress: Called with (work done, all of it); None for nobody.

    Returns:
        The estimates at each width, their limit, and the verdict.

    Shapes:
        The matrices of the report are [N][N], for N images; [3 N][3 N] with positions, image by
        image.

    Raises:
        UnsupportedModelError: The model has no exact kernel; and all other errors of convert().
        WideningError: The model's hidden layers cannot be made wider.
        InputError: Arguments or data do not fit, or the available memory is too little.
        NumericalError: A network overflows.

    References:
        Lee et al. 2018 and Matthews et al. 2018 for the limit; Garriga-Alonso et al. 2019 for that
        of convolutional networks.

    Example:
        >>> import keras
        >>> import keras2gp
        >>> model = keras.Sequential([
        ...     keras.Input((3,)),
        ...     keras.layers.Dense(8, activation="relu", kernel_initializer="he_normal"),
        ...     keras.layers.Dense(1),
        ... ])
        >>> report = keras2gp.verify(model, widths=(8, 32), samples=100)
        >>> print(report.verdict)
        accepted
        >>> [level.width for level in report.levels]
        [8, 32]
    """
    if progress is not None:
        check_advance(progress, "(work done, all of it)")
    with _converting(
        model,
        prior,
        overrides,
        output,
        max_pooling=max_pooling,
        tolerance=tolerance,
        layers=layers,
        input_shape=input_shape,
        trained_until=trained_until,
    ) as (ready, stated):
        prepared = Verification(
            ready,
            stated,
            data=data,
            widths=widths,
            samples=samples,
            units=units,
            seed=seed,
            averages=max_pooling == "average",
            trained_until=trained_until,
            layers=layers,
        )
        return prepared.run(kernel, progress)


def converted(
    model: KerasModel,
    prior: Prior = "initializers",
    overrides: Mapping[str, Any] | None = None,
    output: str | int | None = None,
    **settings: Any,
) -> tuple[Opened, Kernel]:
    """The graph of a Keras model that is built, or of its file, and its kernel in float64.

    The arguments are those of convert().
    """
    with _converting(model, prior, overrides, output, **settings) as result:
        return result


@contextmanager
def _converting(
    model: KerasModel,
    prior: Prior,
    overrides: Mapping[str, Any] | None,
    output: str | int | None,
    *,
    input_shape: Any = None,
    **settings: Any,
) -> Iterator[tuple[Opened, Kernel]]:
    """A graph and its kernel; the layers of a model that was not built are built meanwhile."""
    weights = prior == "weights" or settings.get("trained_until") is not None
    layers = settings.get("layers")
    with opened(model, weights=weights, layers=layers, input_shape=input_shape) as ready:
        yield ready, convert(ready, prior, overrides, output, "float64", **settings)
