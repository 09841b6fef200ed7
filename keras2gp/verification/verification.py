"""A verification: random wide copies of a model, drawn once, beside any number of kernels."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from keras2gp._util.arrays import InputsLike, Matrix
from keras2gp._util.checks import is_whole_number, whole_number
from keras2gp._util.progress import Advance
from keras2gp._util.text import received_text
from keras2gp.conversion.opening import Opened
from keras2gp.errors import InputError, NumericalError, WideningError
from keras2gp.kernel.kernel import Kernel
from keras2gp.verification.costs import Scale, cost_of
from keras2gp.verification.positions import matrix_at, places_of
from keras2gp.verification.report import VerificationReport, estimate, make_report
from keras2gp.verification.sampling import PILOT_WORK, PILOTS, Draws, Sampler, images_of
from keras2gp.verification.statistics import moments_of, test_limit
from keras2gp.verification.survey import UNITS, Survey, scales_of
from keras2gp.verification.widening import Widened, deviations

__all__ = ["IMAGES", "SAMPLES", "WIDTHS", "Verification"]

WIDTHS = (8, 16, 64)
"""Widths of the networks."""

SAMPLES = 300
"""Networks of each width."""

IMAGES = 3
"""Random images that the networks and the kernel are compared on."""

_LEAST_SAMPLES = 20

_LARGEST_SEED = 2**20

_LARGEST = 2**31
"""Largest number of anything that is counted; less memory than that refuses most of it."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """The networks of one width that were drawn, and the time that this took."""

    scale: Scale
    draws: Draws
    seconds: float


class Verification:
    """A verification whose networks are drawn once, and compared with any number of kernels.

    Args:
        model: The graph of the Keras model that `stated` was converted from.
        stated: Its kernel, for the prior that weights are drawn from.
        data: As for verify().
        widths: As for verify().
        samples: As for verify().
        units: As for verify().
        seed: As for verify().
        averages: Whether max pooling was converted as average pooling.
        trained_until: As for convert().
        layers: As for convert().

    Attributes:
        images: The images, an array for each input.
        scales: Sizes of the copies, narrow to wide.
        costs: Cost of one network of each.
    """

    def __init__(
        self,
        model: Opened,
        stated: Kernel,
        *,
        data: InputsLike = IMAGES,
        widths: Sequence[int] = WIDTHS,
        samples: int = SAMPLES,
        units: int | None = None,
        seed: int = 0,
        averages: bool = False,
        trained_until: str | None = None,
        layers: Mapping[Any, Any] | None = None,
    ) -> None:
        _check(widths, samples, units, seed)
        if stated.mean is not None and stated.mean.depends_on_input:
            raise WideningError(
                "the model adds its input to its output, whose channels do not grow. Try: "
                "output=LAYER, the layer whose output that is added to"
            )
        if stated.report.units_apart:
            raise WideningError(
                "the units of the output are not independent and alike, so that copies cannot have "
                "more of them. Try: output=LAYER, a layer of one branch or head before that"
            )
        self.stated = stated
        self.samples, self.seed, self.averages = samples, seed, averages
        self._model, self._trained_until, self._layers = model, trained_until, layers
        self._places = places_of(stated)
        if is_whole_number(data):
            whole_number("data", data, 1, _LARGEST)
        self.images = images_of(stated, data, seed)
        survey = Survey(
            model.functional,
            stated.parameters,
            stated.report.output,
            tracer=model.tracer,
            trained_until=trained_until,
            layers=layers,
        )
        self.scales = scales_of(survey, widths, [units] if units else UNITS)
        count = len(self.images[0])
        self.costs = [cost_of(survey.sizes.work, scale, count) for scale in self.scales]

    def run(
        self, kernel: Kernel | None = None, progress: Advance | None = None
    ) -> VerificationReport:
        """Draw the networks, and compare them with a kernel; errors are those of verify()."""
        kernel = self.stated if kernel is None else kernel
        self._require(kernel)  # before networks are drawn, which takes minutes
        return self.compared(kernel, self.draw(progress))

    def draw(self, progress: Advance | None = None) -> list[Drawn]:
        """Draw the networks of each width; errors are those of verify()."""
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
        """Test a kernel against the networks; errors are those of verify()."""
        self._require(kernel)
        matrix = self._matrix(kernel)
        moments, levels = [], []
        for networks in drawn:
            scale, draws = networks.scale, networks.draws
            moments.append(moments_of(draws.moments, matrix, scale.width, draws.doubt))
            sizes = (scale.width, float(scale.factor), scale.units)
            levels.append(
                estimate(
                    draws.moments, draws.plain, moments[-1], scale=sizes, seconds=networks.seconds
                )
            )
        model, test = self.stated.report.model, test_limit(moments, matrix)
        return make_report(model, test, matrix, levels, seed=self.seed)

    def _require(self, kernel: Any) -> None:
        """Raise InputError for what is no kernel of inputs and positions as the model's."""
        if not isinstance(kernel, Kernel):
            raise InputError(
                f"kernel={received_text(kernel)}: expected that of one network, as convert() and "
                "load() return it, or None for the model's own. Try: data= for images"
            )
        expected, received = ([s.shape for s in k.inputs] for k in (self.stated, kernel))
        if expected != received:
            raise InputError(f"the kernel is of inputs {received}, and the model has {expected}")
        if kernel.positions != self.stated.positions:
            raise InputError(
                f"the kernel is of positions {kernel.positions}, and the model has "
                f"{self.stated.positions}"
            )

    def _matrix(self, kernel: Kernel) -> Matrix:
        """The kernel's matrix of the images, in float64."""
        images = self.images if len(self.images) > 1 else self.images[0]
        matrix = np.asarray(matrix_at(kernel, images, self._places), np.float64)
        if np.diagonal(matrix).min() <= 0:
            raise InputError("the kernel's variance of an image is 0. Try: other images as data")
        return matrix

    def _sampler(self, scale: Scale) -> Sampler:
        """Builds the copy of these sizes."""
        widened = Widened(
            self._model.functional,
            scale,
            self.stated.parameters,
            self.stated.report.output,
            averages=self.averages,
            tracer=self._model.tracer,
            trained_until=self._trained_until,
            layers=self._layers,
            removed=self.stated.report.removed,
            bias_means=[r.path for r in self.stated.report.rows if r.biases_have_mean],
        )
        return Sampler(
            widened.model,
            widened.taps,
            deviations(widened),
            self.images,
            self._places,
            mean=self._mean(),
            gammas=[widened.gammas.get(id(v)) for v in widened.model.trainable_variables],
        )

    def _mean(self) -> float:
        """The mean of a copy's output; of arrays of constants copies have the first number."""
        mean = self.stated.mean
        return 0.0 if mean is None else float(mean.constant.flat[0])

    def _stream(self, number: int) -> int:
        """A stream of random numbers for each width, of which every seed has its own."""
        return (self.seed * 2**10 + number) * 2**32

    @contextmanager
    def _named(self, scale: Scale) -> Iterator[None]:
        """Add the width to the message of a NumericalError."""
        try:
            yield
        except NumericalError as error:
            raise NumericalError(f"width {scale.width}: {error}") from error


class _Counter:
    """Counts the work that is done, in multiplications, since widths differ in time."""

    def __init__(self, total: int, progress: Advance | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, work: int, times: int) -> None:
        self._done += work * times
        if self._progress is not None:
            self._progress(self._done, self._total)


def _check(widths: Sequence[int], samples: int, units: int | None, seed: int) -> None:
    listed = isinstance(widths, Sequence | np.ndarray) and not isinstance(widths, str)
    if not listed or not np.ndim(widths):
        raise InputError(f"widths={received_text(widths)}: expected some, such as (8, 16, 64)")
    for width in widths:
        whole_number("width", width, 1, _LARGEST)
    whole_number("samples", samples, _LEAST_SAMPLES, _LARGEST)
    if units is not None:
        whole_number("units", units, 1, _LARGEST)
    whole_number("seed", seed, 0, _LARGEST_SEED)
    if len(set(widths)) < 2:
        raise InputError(
            f"widths={tuple(widths)}: what is left at a finite width shows only beside another. "
            "Try: three of them, such as (8, 16, 64)"
        )
