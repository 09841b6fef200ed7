"""The tiled factorisation against scipy.linalg, and its jitter, refusals and reports."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from gp_kernels import positive_definite

from keras2gp._util import memory
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp import factorize
from keras2gp.gp.solvers.jitter import JITTER_LADDER
from keras2gp.gp.solvers.panels import PackedPanels

SIZES = [(1, 512), (2, 1), (5, 2), (16, 4), (37, 8), (64, 64), (65, 64), (130, 512), (200, 48)]


@pytest.mark.parametrize(("size", "tile"), SIZES)
def test_matches_scipy(size, tile):
    matrix = positive_definite(size)
    factor = factorize(matrix, noise_variance=0.3, tile=tile)
    expected = matrix + 0.3 * np.eye(size)
    lower = scipy.linalg.cholesky(expected, lower=True)
    np.testing.assert_allclose(factor.lower(), lower, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(factor.log_determinant, np.linalg.slogdet(expected)[1], rtol=1e-11)
    b = np.random.default_rng(1).standard_normal((size, 3))
    np.testing.assert_allclose(factor.solve(b), np.linalg.solve(expected, b), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(
        factor.half_solve(b[:, 0]),
        scipy.linalg.solve_triangular(lower, b[:, 0], lower=True),
        rtol=1e-9,
        atol=1e-11,
    )
    inverse = np.linalg.inv(expected)
    np.testing.assert_allclose(factor.inverse_diagonal(), np.diag(inverse), rtol=1e-9)
    count = min(size, tile, 4)
    np.testing.assert_allclose(factor.leading(count), expected[:count, :count], rtol=1e-12)


@pytest.mark.parametrize(("size", "tile"), SIZES)
def test_storage_is_half(size, tile):
    panels = PackedPanels(size, tile)
    expected = sum((size - s) * min(tile, size - s) for s in range(0, size, tile))
    assert panels.storage.size == PackedPanels.length(size, tile) == expected
    assert expected <= size * (size + tile) / 2
    assert sum(panels.panel(j).size for j in range(len(panels))) == expected


def test_right_hand_sides_are_left_alone():
    factor = factorize(positive_definite(20), tile=8)
    for order in "CF":
        b = np.array(np.random.default_rng(2).standard_normal((20, 4)), order=order)
        before = b.copy()
        solved = factor.solve(b)
        np.testing.assert_array_equal(b, before)
        np.testing.assert_allclose(solved, factor.solve(np.ascontiguousarray(b)), rtol=1e-13)
    assert factor.solve(b[:, 0]).shape == (20,)


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((20, 2, 2)), np.ones((20, 0)), [np.nan] * 20])
def test_right_hand_sides_are_checked(bad):
    with pytest.raises(InputError, match="right-hand side"):
        factorize(positive_definite(20)).solve(bad)


def test_matrix_is_left_alone_and_float32_is_taken():
    matrix = positive_definite(30).astype(np.float32)
    before = matrix.copy()
    factor = factorize(matrix, noise_variance=0.5, tile=7)
    np.testing.assert_array_equal(matrix, before)
    lower = scipy.linalg.cholesky(matrix.astype(np.float64) + 0.5 * np.eye(30), lower=True)
    np.testing.assert_allclose(factor.lower(), lower, rtol=1e-5, atol=1e-6)


def test_reads_a_store_block_by_block():
    matrix = positive_definite(40)

    class Store:
        shape = (40, 40)
        largest = 0

        def __getitem__(self, key):
            block = matrix[key]
            self.largest = max(self.largest, block.size)
            return block

    store = Store()
    factor = factorize(store, tile=8)
    np.testing.assert_array_equal(factor.lower(), factorize(matrix, tile=8).lower())
    assert store.largest == 8 * 40


def test_progress_counts_panels():
    seen = []
    factorize(
        positive_definite(20), tile=8, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_no_jitter_unless_needed():
    report = factorize(positive_definite(50), tile=16).report
    lower = scipy.linalg.cholesky(positive_definite(50), lower=True)
    assert report.jitter == 0.0
    assert report.added == 0.0
    assert len(report.steps) == 1
    assert report.duplicate is None
    assert report.smallest_pivot == pytest.approx(np.diag(lower).min() ** 2, rel=1e-9)
    assert report.smallest_pivot_index == np.diag(lower).argmin()
    assert report.seconds > 0.0


def duplicated(size=30, pair=(4, 21)):
    points = np.random.default_rng(3).standard_normal((size, 40))
    points[pair[1]] = points[pair[0]]
    return points @ points.T


@pytest.mark.parametrize("tile", [8, 64])
def test_ladder_on_a_duplicate(tile):
    matrix = duplicated()
    factor = factorize(matrix, tile=tile)
    report = factor.report
    assert [step.jitter for step in report.steps] == [0.0, 1e-10]
    assert report.jitter == 1e-10
    assert report.duplicate == (4, 21)
    assert report.steps[0].index == 21
    assert abs(report.steps[0].smallest_pivot) < 1e-12 * np.diag(matrix).mean()
    shifted = matrix + 1e-10 * np.diag(matrix).mean() * np.eye(30)
    np.testing.assert_allclose(factor.lower() @ factor.lower().T, shifted, rtol=1e-13, atol=1e-12)


def test_ladder_goes_as_far_as_needed():
    # Eigenvalues of 1, and one of -1e-7: the step of 1e-6 is the first that helps.
    vectors, _ = np.linalg.qr(np.random.default_rng(4).standard_normal((20, 20)))
    matrix = (vectors * np.array([-1e-7] + [1.0] * 19)) @ vectors.T
    report = factorize((matrix + matrix.T) / 2).report
    assert [step.jitter for step in report.steps] == [0.0, 1e-10, 1e-8, 1e-6]
    assert all(step.smallest_pivot < 0.0 for step in report.steps[:-1])


def test_duplicates_without_jitter_are_named():
    with pytest.raises(NumericalError, match=r"row 21.*rows 4 and 21 agree.*same input twice"):
        factorize(duplicated(), jitter=0.0, tile=8)


def test_noise_serves_instead_of_jitter():
    report = factorize(duplicated(), noise_variance=1e-3, jitter=0.0).report
    assert report.jitter == 0.0


def test_a_number_is_that_jitter_only():
    matrix = positive_definite(12)
    factor = factorize(matrix, jitter=0.25)
    assert factor.report.jitter == 0.25
    shifted = matrix + 0.25 * np.diag(matrix).mean() * np.eye(12)
    np.testing.assert_allclose(factor.lower(), np.linalg.cholesky(shifted), rtol=1e-12, atol=1e-14)


def test_indefinite_matrix():
    matrix = np.diag([1.0, 2.0, 3.0])
    matrix[2, 0] = matrix[0, 2] = 4.0  # last pivot 3 - 16
    with pytest.raises(NumericalError, match="no covariance") as caught:
        factorize(matrix)
    message = str(caught.value)
    assert "-13" in message
    assert "row 2" in message
    assert all(f"{step:g}" in message for step in JITTER_LADDER)
    with pytest.raises(NumericalError, match="almost alike"):
        factorize(matrix, jitter=1e-6)


def test_ones_are_singular_but_no_pivot_is_negative():
    with pytest.raises(NumericalError, match="rows 0 and 1 agree"):
        factorize(np.ones((6, 6)), jitter=0.0)
    assert factorize(np.ones((6, 6))).report.jitter == 1e-10


def test_pivots_that_are_rounding_error_do_not_count():
    # LAPACK factorises this without complaint: its last pivot is one unit in the last place.
    matrix = np.array([[1.0, 1.0], [1.0, 1.0 + np.finfo(float).eps]])
    scipy.linalg.cholesky(matrix)
    report = factorize(matrix).report
    assert report.jitter == 1e-10
    assert 0.0 < report.steps[0].smallest_pivot < 1e-15


def test_zero_variance_is_named():
    matrix = positive_definite(5)
    matrix[3] = matrix[:, 3] = 0.0
    with pytest.raises(NumericalError, match="entry 3 of the diagonal \\(counted from 0\\) is 0"):
        factorize(matrix, jitter=0.0)
    with pytest.raises(NumericalError, match="entry 0 of the diagonal \\(counted from 0\\) is 0"):
        factorize(np.zeros((2, 2)))


@pytest.mark.parametrize("place", [(0, 0), (9, 2), (2, 9), (7, 7)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_is_refused_first(place, value):
    matrix = -np.eye(10)
    matrix[place] = value
    with pytest.raises(InputError, match=rf"\[{place[0]}, {place[1]}\].*{value}"):
        factorize(matrix, tile=4)


def test_asymmetry_is_refused():
    matrix = positive_definite(20)
    matrix[3, 15] += 0.01
    with pytest.raises(InputError, match=r"not symmetric.*\[15, 3\] and \[3, 15\]"):
        factorize(matrix, tile=6)
    matrix[3, 15] -= 0.01 - 1e-8
    factorize(matrix, tile=6)


@pytest.mark.parametrize("shape", [(0, 0), (3,), (3, 4), (2, 2, 2)])
def test_shape_is_checked(shape):
    with pytest.raises(InputError, match="shape"):
        factorize(np.ones(shape))


@pytest.mark.parametrize("dtype", [complex, object, str])
def test_type_is_checked(dtype):
    with pytest.raises(InputError, match="expected real numbers"):
        factorize(np.eye(3).astype(dtype))
    with pytest.raises(InputError, match="shape"):
        factorize([[1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    "settings",
    [
        {"noise_variance": -1.0},
        {"noise_variance": np.nan},
        {"noise_variance": "1"},
        {"jitter": "automatic"},
        {"jitter": -1e-6},
        {"jitter": np.inf},
        {"jitter": None},
        {"jitter": True},
        {"tile": 0},
        {"tile": 2.5},
    ],
)
def test_settings_are_checked(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        factorize(np.eye(3), **settings)


def test_memory_is_compared_before_it_is_taken(monkeypatch):
    class Enormous:
        shape = (10**6, 10**6)

        def __getitem__(self, key):
            raise AssertionError("nothing is read")

    monkeypatch.setattr(memory, "available_memory", lambda: 2**34)
    with pytest.raises(InputError, match=r"needs 3\.[67] TiB of memory and 16\.0 GiB"):
        factorize(Enormous())


def test_leading_is_checked():
    factor = factorize(positive_definite(9), tile=4)
    for count in (0, 5):
        with pytest.raises(InputError, match="leading block"):
            factor.leading(count)
