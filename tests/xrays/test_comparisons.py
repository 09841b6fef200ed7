"""Paired differences: closed forms, and how often a claim is false."""

import math

import numpy as np
import pytest
from scipy import stats

from keras2gp.xrays.measuring.comparisons import Sample, differences, holm
from keras2gp.xrays.reporting import svg


def test_holm_against_its_definition(rng):
    p = rng.uniform(size=9)
    order = np.argsort(p)
    for rank, index in enumerate(order):
        expected = max(min(1.0, (9 - j) * p[order[j]]) for j in range(rank + 1))
        assert holm(p.tolist())[index] == pytest.approx(expected, rel=1e-12)


def halves(rows, halvings, rng):
    """The means of both halves of the rows, so many times."""
    orders = [rng.permutation(len(rows)) for _ in range(halvings)]
    return np.array([rows[order[i::2]].mean() for order in orders for i in (0, 1)])


def test_the_halves_of_a_mean_give_its_standard_error(rng):
    rows = rng.normal(size=40)
    sample = Sample(rows, halves(rows, 4000, rng))
    assert sample.half_error == pytest.approx(rows.std(ddof=1) / math.sqrt(40), rel=0.05)
    ((found,),) = differences([[Sample(rows, np.zeros(0))]])
    assert found.p == pytest.approx(stats.ttest_1samp(rows, 0.0).pvalue, rel=1e-9)
    low, high = stats.t.interval(0.95, 39, rows.mean(), found.error)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


def test_an_error_is_its_own_drawn_towards_that_of_all():
    rows = np.array([1.0, -1.0] * 8)
    row = rows.std(ddof=1) / 4.0
    family = [Sample(rows, np.array([k * row, -k * row])) for k in (4.0, 2.0, 0.5)]
    assert [s.half_error for s in family] == pytest.approx([4.0 * row, 2.0 * row, 0.5 * row])
    pooled = math.sqrt((16.0 + 4.0 + 0.25) / 3.0)
    expected = [row * math.sqrt(max(1.0, k * pooled)) for k in (4.0, 2.0, 0.5)]
    assert [d.error for d in differences([family])[0]] == pytest.approx(expected)
    apart = Sample(rows, family[0].parts, apart=True)
    assert differences([[apart]])[0][0].error == pytest.approx(math.sqrt(17.0) * row)


def test_halves_whose_rows_differ_less_count_for_more():
    """Half of few rows says less; losses of all rows vary s / s_half times as much."""
    rows = np.array([1.0, -1.0] * 8)
    parts = np.array([0.1, -0.1, 0.3, -0.3])
    plain = Sample(rows, parts).half_error
    assert plain == pytest.approx(math.sqrt((0.2**2 + 0.6**2) / 2.0) / 2.0)
    spread = rows.var(ddof=1)
    assert Sample(rows, parts, within=spread / 1.44).half_error == pytest.approx(1.2 * plain)
    assert Sample(rows, parts, within=spread / 9.0).half_error == pytest.approx(1.5 * plain)
    assert Sample(rows, parts, within=spread * 9.0).half_error == plain, "never less"


def test_rows_that_are_too_few_are_those_of_the_largest_difference_that_may_be(rng):
    """It is that of the larger end of an interval of 80%."""
    rows = rng.normal(size=100)
    rows = (rows - rows.mean()) / rows.std(ddof=1)
    around = stats.t.isf(0.1, 99) / 10.0
    for mean in (0.2, -0.1, 0.0):
        ((found,),) = differences([[Sample(rows + mean, np.zeros(0))]])
        ((largest,),) = differences([[Sample(rows + abs(mean) + around, np.zeros(0))]])
        assert abs(found.needed_at_least - largest.needed) <= 1
        assert found.needed is None or found.needed_at_least < found.needed


def test_an_axis_shows_small_differences_beside_a_very_large_one():
    """The large one ends in a line with a gap; it made dots of all others."""
    rows = np.array([1.0, -1.0] * 50)
    family = [Sample(rows + shift, np.zeros(0)) for shift in (0.1, -0.2, 0.3, 90.0, -80.0)]
    found = differences([family])[0]
    ends = svg.axis_ends(found, 100.0)
    reach = np.median([100.0 * max(-d.low, d.high) for d in found])
    assert ends == pytest.approx((-11.0 * reach, 11.0 * reach)), "10 times, and a margin"
    assert [svg.is_beyond(100.0 * d.mean, ends) for d in found] == [False] * 3 + [True] * 2
    drawn = [svg.interval(d, 100.0, ends) for d in found]
    assert [text.count('class="zero"') for text in drawn] == [1, 1, 1, 5, 5]
    assert ">0</text>" in svg.ticks(ends)
    near = svg.axis_ends(found[:3], 100.0)
    assert all(near[0] < 100.0 * d.low < 100.0 * d.high < near[1] for d in found[:3])


def test_the_number_of_rows_that_would_show_a_difference(rng):
    """So many rows of the same law show it in about four cases of five."""
    rows = rng.normal(0.1, 1.0, size=100)
    ((found,),) = differences([[Sample(rows, np.zeros(0))]])
    mean, deviation = rows.mean(), rows.std(ddof=1)
    draws = rng.normal(mean, deviation, size=(2000, found.needed))
    shown = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05
    assert 0.7 < shown.mean() < 0.88


def test_no_difference_at_all_and_one_without_doubt():
    none, sure = Sample(np.zeros(10), np.zeros(4)), Sample(np.ones(10), np.ones(4))
    ((a, b),) = differences([[none, sure]])
    assert (a.p, a.verdict, a.needed) == (1.0, "no difference", None)
    assert b.verdict == "worse"


@pytest.mark.slow
def test_claims_are_seldom_false(rng):
    """Ten comparisons of losses that depend on each other as those of one fit do."""
    false = 0
    for _ in range(300):
        family = []
        for _ in range(10):
            rows = rng.normal(size=60)
            fits = 0.2 * rng.normal(size=60)  # another fit, whatever is predicted
            shared = halves(fits, 10, rng)
            family.append(Sample(rows + fits.mean(), halves(rows, 10, rng) + shared))
        false += any(d.verdict != "no difference" for d in differences([family])[0])
    assert false <= 300 * 0.05 + 3 * math.sqrt(300 * 0.05)
