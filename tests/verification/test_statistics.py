"""The verdict on draws whose law is known: how often it errs, and what it extrapolates."""

import numpy as np
import pytest

from keras2gp.verification.statistics import FALSE_ALARM, extrapolation, judged, moments_of

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
    return judged([moments_of(draws(rng, n, samples, **law), kernel, n) for n in WIDTHS], kernel)


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
    found = judged(deep, KERNEL)
    assert found.usable
    assert found.limit == pytest.approx(judged(deep[1:], KERNEL).limit)
    assert not found.rejected
    narrow = judged(deep[:2], 3.0 * KERNEL)
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


def test_extrapolation_of_polynomials_is_exact():
    for places in ([0.1], [0.1, 0.025], [0.1, 0.025, 0.006], [0.2, 0.1, 0.025, 0.006]):
        weights = extrapolation(places, [0.5, 0.1, 0.2, 0.3][: len(places)])
        x = np.array(places)
        for power in range(min(len(places), 3)):
            assert weights @ x**power == pytest.approx(float(power == 0), abs=1e-9)


def test_more_widths_than_needed_are_weighted_by_their_errors():
    places = [0.1, 0.05, 0.025, 0.0125]
    sure = extrapolation(places, [1e-3, 1e-3, 1e-3, 1.0])
    assert abs(sure[3]) < 1e-4


def test_the_bias_of_finite_width_is_allowed_for(rng):
    """A narrow pair of widths leaves a remainder that outweighs the sampling error."""
    levels = [moments_of(draws(rng, n, 4000, bias=3.0), KERNEL, n) for n in (4, 8)]
    found = judged(levels, KERNEL)
    assert found.remainder > found.sampling[0]
    assert not found.rejected


def test_degrees_of_freedom_follow_the_kurtosis(rng):
    moments = rng.normal(size=(4000, 1, 1)) + 5
    assert moments_of(moments, np.eye(1), 8).freedom[0] == pytest.approx(4000, rel=0.2)
    peaked = np.zeros((4000, 1, 1))
    peaked[0] = 1.0
    assert moments_of(peaked, np.eye(1), 8).tail < 0.1
    assert moments_of(peaked, np.eye(1), 8).freedom[0] == pytest.approx(2, rel=0.01)
