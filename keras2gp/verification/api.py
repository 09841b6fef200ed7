"""verify(): a kernel beside random wide copies of the model that it stands for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.checks import whole_number
from keras2gp.conversion.pipeline import MaxPooling, Prior, convert
from keras2gp.conversion.walker import functional_of
from keras2gp.covariance.duals.hermite import TOLERANCE
from keras2gp.errors import InputError, NumericalError
from keras2gp.kernel.kernel import Kernel
from keras2gp.modelfile.loading import load_model_file
from keras2gp.verification.cost import cost_of
from keras2gp.verification.images import images_of
from keras2gp.verification.report import VerificationReport
from keras2gp.verification.sampling import PILOT_WORK, PILOTS, Draws, Sampler
from keras2gp.verification.statistics import judged, moments_of
from keras2gp.verification.survey import Scale, Survey
from keras2gp.verification.verdict import concluded, level_of
from keras2gp.verification.widening import Widened, deviations

__all__ = ["IMAGES", "SAMPLES", "WIDTHS", "Verification", "converted", "verify"]

Progress = Callable[[int, int], None]

WIDTHS = (8, 16, 64)
SAMPLES = 300
_UNITS = (1024, 512, 256, 128, 64, 32)
_CHEAP = 10**5
"""Weights that are drawn in the time that a network takes anyway."""
IMAGES = 3
_LEAST_SAMPLES = 20
_LARGEST_SEED = 2**20


def verify(
    model: Any,
    kernel: Kernel | None = None,
    *,
    data: Any = IMAGES,
    widths: Sequence[int] = WIDTHS,
    samples: int = SAMPLES,
    units: int | None = None,
    seed: int = 0,
    prior: Prior = "initializers",
    overrides: Mapping[str, Any] | None = None,
    output: str | int | None = None,
    max_pooling: MaxPooling = None,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
) -> VerificationReport:
    """Whether a kernel is that of the model: wide random networks are drawn and compared with it.

    Networks are copies of the model with other numbers of channels, their weights drawn from the
    model's prior. The second moments of their outputs tend to the kernel as the width grows; what
    they fluctuate about it is mostly taken away by controls of known mean, see controls.py.

    kernel:   the kernel to verify; None for that of convert() with the other arguments
    data:     [N, *shape], or a list of arrays for several inputs; or a number of random images
    widths:   of the narrowest hidden layer, or as close as the model's sizes allow; the others
              grow by the same factor
    samples:  networks of each width
    units:    of the output layer, where nothing else depends on their number: second moments are
              means over them. None for as many, up to 1024, as cost little beside the rest
    seed:     of the networks, and of random images: equal seeds give equal reports
    progress: is told how much of how much work is done
    model, prior, overrides, output, max_pooling, tolerance: as for convert()

    The verdict is "rejected" if the networks are farther from the kernel than their error bars
    allow, which happens to a true kernel once in a thousand times; "accepted" if they are not, and
    would have been with 99% probability for a kernel whose variance is off by 10%; and otherwise
    "undecided". See statistics.py for how the error bars are made.

    Raises: as convert(); WideningError if the model's hidden layers cannot be made wider;
            InputError for arguments or data that do not fit, or too little memory;
            NumericalError if a network overflows.
    """
    opened, stated = converted(
        model, prior, overrides, output, max_pooling=max_pooling, tolerance=tolerance
    )
    prepared = Verification(
        opened,
        stated,
        data=data,
        widths=widths,
        samples=samples,
        units=units,
        seed=seed,
        averages=max_pooling == "average",
    )
    return prepared.run(kernel, progress)


def converted(
    model: Any,
    prior: Prior = "initializers",
    overrides: Mapping[str, Any] | None = None,
    output: str | int | None = None,
    *,
    max_pooling: MaxPooling = None,
    tolerance: float = TOLERANCE,
) -> tuple[Any, Kernel]:
    """The Keras model, read if it is a file, and its kernel. Arguments and errors: as convert()."""
    kernel = convert(
        model, prior, overrides, output, "float64", max_pooling=max_pooling, tolerance=tolerance
    )
    if isinstance(model, str | Path):
        model = load_model_file(model, weights=False).model
    return model, kernel


@dataclass(frozen=True, eq=False)
class Drawn:
    """Networks of one width."""

    scale: Scale
    draws: Draws
    seconds: float


class Verification:
    """Networks that are to be drawn of a model.

    model:    a Keras model that `stated` was converted from
    stated:   its kernel, for the prior that weights are drawn from
    averages: whether max pooling was converted as average pooling
    others:   as for verify()
    scales:   the copies, narrow to wide
    costs:    what one network of each takes
    """

    def __init__(
        self,
        model: Any,
        stated: Kernel,
        *,
        data: Any = IMAGES,
        widths: Sequence[int] = WIDTHS,
        samples: int = SAMPLES,
        units: int | None = None,
        seed: int = 0,
        averages: bool = False,
    ) -> None:
        _check(widths, samples, units, seed)
        self.stated = stated
        self.samples, self.seed, self.averages = samples, seed, averages
        self._functional = functional_of(model)
        if isinstance(data, int):
            whole_number("data", data, 1)
        self.images = images_of(stated, data, seed)
        survey = Survey(self._functional, stated.parameters, stated.report.output)
        self.scales = _scales(survey, widths, [units] if units else _UNITS)
        count = len(self.images[0])
        self.costs = [cost_of(survey.found.work, scale, count) for scale in self.scales]

    def run(
        self, kernel: Kernel | None = None, progress: Progress | None = None
    ) -> VerificationReport:
        """Draw the networks, and compare them with a kernel. Raises: as verify()."""
        return self.compared(self.stated if kernel is None else kernel, self.draw(progress))

    def draw(self, progress: Progress | None = None) -> list[Drawn]:
        """Networks of each width. Raises: as verify()."""
        for scale, cost in zip(self.scales, self.costs, strict=True):
            cost.require(scale.width)
        works = [cost.multiplications for cost in self.costs]
        middle = (len(works) - 1) // 2
        pilots = PILOTS * PILOT_WORK * works[middle]
        counter = _Counter(self.samples * sum(works) + pilots, progress)
        with self._named(self.scales[middle]):
            sampler = self._sampler(self.scales[middle])
            weights = sampler.weigh(self._stream(len(works)), partial(counter.add, works[middle]))
        drawn = []
        for number, (scale, work) in enumerate(zip(self.scales, works, strict=True)):
            began = time.perf_counter()
            with self._named(scale):
                draws = self._sampler(scale).draws(
                    self.samples, self._stream(number), weights, partial(counter.add, work)
                )
            drawn.append(Drawn(scale, draws, time.perf_counter() - began))
        return drawn

    def compared(self, kernel: Kernel, drawn: Sequence[Drawn]) -> VerificationReport:
        """What the networks say of a kernel. Raises: as verify()."""
        matrix = self._matrix(kernel)
        found = [moments_of(d.draws.moments, matrix, d.scale.width, d.draws.doubt) for d in drawn]
        levels = [
            level_of(d.scale, d.draws, m, d.seconds) for d, m in zip(drawn, found, strict=True)
        ]
        judgement = judged(found, matrix)
        return concluded(self.stated.report.model, judgement, matrix, levels, seed=self.seed)

    def _matrix(self, kernel: Kernel) -> Array:
        """The kernel's matrix of the images, in float64."""
        wanted, had = ([s.shape for s in k.inputs] for k in (self.stated, kernel))
        if wanted != had:
            raise InputError(f"the kernel is of inputs {had}, and the model has {wanted}")
        images = self.images if len(self.images) > 1 else self.images[0]
        matrix = np.asarray(kernel.matrix(images, get="nngp"), np.float64)
        if np.diagonal(matrix).min() <= 0:
            raise InputError("the kernel's variance of an image is 0. Try: other images as data")
        return matrix

    def _sampler(self, scale: Scale) -> Sampler:
        widened = Widened(
            self._functional,
            scale,
            self.stated.parameters,
            self.stated.report.output,
            averages=self.averages,
        )
        return Sampler(widened.model, widened.taps, deviations(widened), self.images)

    def _stream(self, number: int) -> int:
        return (self.seed * 2**10 + number) * 2**32

    @contextmanager
    def _named(self, scale: Scale) -> Iterator[None]:
        """Numerical trouble is told with the width."""
        try:
            yield
        except NumericalError as error:
            raise NumericalError(f"width {scale.width}: {error}") from error


class _Counter:
    """How much of the work is done: networks of different widths take different times."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, work: int, times: int) -> None:
        self._done += work * times
        if self._progress is not None:
            self._progress(self._done, self._total)


def _check(widths: Sequence[int], samples: int, units: int | None, seed: int) -> None:
    for width in widths:
        whole_number("width", width, 1)
    whole_number("samples", samples, _LEAST_SAMPLES)
    if units is not None:
        whole_number("units", units, 1)
    whole_number("seed", seed, 0, _LARGEST_SEED)
    if len(set(widths)) < 2:
        raise InputError(
            f"widths={tuple(widths)}: what is left at a finite width shows only beside another. "
            "Try: three of them, such as (8, 16, 64)"
        )


def _scales(survey: Survey, widths: Sequence[int], units: Sequence[int]) -> list[Scale]:
    """Copies of different widths, narrow to wide. Raises: InputError if they are all one.

    units: numbers of output units to choose from, the last of them if all are costly
    """
    by_factor = {}
    for width in widths:
        without = cost_of(survey.found.work, survey.scale(width, 1), 1).weights
        for count in units:
            scale = survey.scale(width, count)
            if cost_of(survey.found.work, scale, 1).weights <= max(1.5 * without, _CHEAP):
                break
        by_factor[scale.factor] = scale
    scales = [by_factor[factor] for factor in sorted(by_factor)]
    if len(scales) < 2 and survey.hidden:
        raise InputError(
            f"widths={tuple(widths)}: the model's sizes allow no more than a width of "
            f"{scales[0].width} near them. Try: larger widths"
        )
    return scales
