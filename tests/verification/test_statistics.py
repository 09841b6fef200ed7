"""The verdict on draws whose law is known: how often it errs, and what it extrapolates."""

import numpy as np
import pytest

from keras2gp.verification import statistics
from keras2gp.verification.statistics import FALSE_ALARM, extrapolation, moments_of

KERNEL = np.array([[2.0, 1.2, 0.3], [1.2, 1.5, -0.2], [0.3, -0.2, 1.0]])
WIDTHS = (8, 32, 128)


def draws(rng, width, samples, depth=3, units=16, bias=0.0):
    """Networks like wide ones: Wishart moments, times a factor of a variance of depth / width."""
    root = np.linalg.cholesky(KERNEL)
    outputs = rng.normal(size=(samples, units, 3)) @ root.T
    moments = np.einsum("sui,suj->sij", outputs, outputs) / units
    spread = np.sqrt(depth / width)
    factor = np.exp(spread * rng.normal(size=samples) - spread**2 / 2)
    return moments * factor[:, None, None] * (1 + bias / width) ** 2


def judgement(rng, kernel=KERNEL, samples=400, **law):
    return statistics.test_limit(
        [moments_of(draws(rng, n, samples, **law), kernel, n) for n in WIDTHS], kernel
    )


def test_a_true_kernel_is_rejected_as_rarely_as_stated(rng):
    """With 1000 verdicts one rejection is expected, and 7 or more have a probability of 1e-4."""
    runs = 1000
    rejected = sum(judgement(rng, bias=2.0, samples=200).rejected for _ in range(runs))
    assert FALSE_ALARM * runs == 1
    assert rejected < 7


def test_heavy_tails_do_not_reject_a_true_kernel(rng):
    """Most networks are far below the mean of a log-normal with a variance of e^4."""
    runs = 200
    found = [judgement(rng, depth=32.0, samples=100) for _ in range(runs)]
    assert sum(f.rejected for f in found) < 5
    assert all(f.resolution > 0.1 for f in found)


def test_widths_with_too_few_draws_for_their_tails_are_left_out(rng):
    """The mean of some hundred draws hangs on the rare large ones: 1.0, of a median of 0.02."""
    deep = [moments_of(draws(rng, n, 400, depth=60.0), KERNEL, n) for n in (8, 128, 512)]
    assert [m.usable for m in deep] == [False, True, True]
    found = statistics.test_limit(deep, KERNEL)
    assert found.usable
    assert found.limit == pytest.approx(statistics.test_limit(deep[1:], KERNEL).limit)
    assert not found.rejected
    narrow = statistics.test_limit(deep[:2], 3.0 * KERNEL)
    assert not narrow.usable
    assert not narrow.rejected
    assert narrow.resolution == np.inf


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_what_is_off_by_the_resolution_is_rejected(factor, rng):
    found = [judgement(rng, samples=1500) for _ in range(20)]
    assert all(f.resolution < 0.1 for f in found)
    assert all(judgement(rng, factor * KERNEL, samples=1500).rejected for _ in range(20))


def test_an_entry_off_the_diagonal_is_rejected(rng):
    kernel = KERNEL.copy()
    kernel[0, 1] = kernel[1, 0] = 1.0
    found = judgement(rng, kernel, samples=3000)
    assert found.rejected
    assert int(found.deviations.argmax()) == 2  # after the mean variance and (0, 0)


PLACES = ([0.1], [0.1, 0.025], [0.1, 0.025, 0.006], [0.2, 0.1, 0.025, 0.006])


@pytest.mark.parametrize("places", PLACES, ids=len)
def test_extrapolation_of_lines_is_exact(places):
    x = np.array(places)
    for bend in (0.0, 0.3, 1e3):
        weights = extrapolation(places, [0.5, 0.1, 0.2, 0.3][: len(places)], bend)
        assert weights.sum() == pytest.approx(1.0, abs=1e-9)
        assert len(places) == 1 or weights @ x == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("places", PLACES[2:], ids=len)
def test_extrapolation_of_parabolas_that_may_bend_is_exact(places):
    weights = extrapolation(places, [0.5, 0.1, 0.2, 0.3][: len(places)], 1e6)
    assert weights @ np.array(places) ** 2 == pytest.approx(0.0, abs=1e-7)


def test_a_line_has_less_error_than_a_parabola():
    places, errors = [1 / 8, 1 / 16, 1 / 32], np.array([0.02, 0.012, 0.006])
    line, bent = (np.linalg.norm(extrapolation(places, errors, b) * errors) for b in (0, 1e4))
    assert bent == pytest.approx(np.linalg.norm([0.02 / 3, -2 * 0.012, 0.006 * 8 / 3]), rel=1e-3)
    assert line < bent / 2


def test_more_widths_than_needed_are_weighted_by_their_errors():
    places = [0.1, 0.05, 0.025, 0.0125]
    sure = extrapolation(places, [1e-3, 1e-3, 1e-3, 1.0], 1.0)
    assert abs(sure[3]) < 1e-4


@pytest.mark.parametrize("widths", [(8, 16, 32), (8, 16, 64), (4, 8)])
def test_layers_whose_biases_cancel_reject_no_true_kernel(widths, rng):
    """The factor (1 + 3 / n)^2 (1 - 3 / n)^2 has c1 = 0 and c2 = -18."""
    runs, rejected = 300, 0
    for _ in range(runs):
        levels = []
        for n in widths:
            factor = (1 - 9 / n**2) ** 2
            levels.append(moments_of(factor * draws(rng, n, 200), KERNEL, n))
        rejected += statistics.test_limit(levels, KERNEL).rejected
    assert rejected < 4  # 4 or more have a probability of 3e-4


def test_the_bias_of_finite_width_is_allowed_for(rng):
    """A narrow pair of widths leaves a remainder that outweighs the sampling error."""
    levels = [moments_of(draws(rng, n, 4000, bias=3.0), KERNEL, n) for n in (4, 8)]
    found = statistics.test_limit(levels, KERNEL)
    assert found.remainder > found.sampling[0]
    assert not found.rejected


def test_degrees_of_freedom_follow_the_kurtosis(rng):
    moments = rng.normal(size=(4000, 1, 1)) + 5
    assert moments_of(moments, np.eye(1), 8).freedom[0] == pytest.approx(4000, rel=0.2)
    peaked = np.zeros((4000, 1, 1))
    peaked[0] = 1.0
    assert moments_of(peaked, np.eye(1), 8).tail < 0.1
    assert moments_of(peaked, np.eye(1), 8).freedom[0] == pytest.approx(2, rel=0.01)
