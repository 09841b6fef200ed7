"""Paired differences: closed forms, and how often a claim is false."""

import math

import numpy as np
import pytest
from scipy import stats

from keras2gp.xrays.comparisons import Sample, differences, holm


def test_holm_against_its_definition(rng):
    p = rng.uniform(size=9)
    order = np.argsort(p)
    for rank, index in enumerate(order):
        expected = max(min(1.0, (9 - j) * p[order[j]]) for j in range(rank + 1))
        assert holm(p.tolist())[index] == pytest.approx(expected, rel=1e-12)


def test_the_jackknife_of_a_mean_is_its_standard_error(rng):
    rows = rng.normal(size=40)
    parts = np.array([np.delete(rows, i).mean() for i in range(40)])
    sample = Sample(rows, parts)
    assert sample.group_error == pytest.approx(rows.std(ddof=1) / math.sqrt(40), rel=1e-9)
    ((found,),) = differences([[sample]])
    assert found.p == pytest.approx(stats.ttest_1samp(rows, 0.0).pvalue, rel=1e-9)
    low, high = stats.t.interval(0.95, 39, rows.mean(), found.error)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


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
            groups = np.array_split(np.arange(60), 6)
            shared = 0.1 * rng.normal(size=6)  # another fit, whatever is predicted
            parts = np.array([np.delete(rows, g).mean() for g in groups]) + 0.2 * shared
            family.append(Sample(rows + shared.mean(), parts))
        false += any(d.verdict != "no difference" for d in differences([family])[0])
    assert false <= 300 * 0.05 + 3 * math.sqrt(300 * 0.05)
