"""Pictures show the numbers that they were given, and fail with what to do."""

import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from keras2gp.errors import InputError, StoreError
from keras2gp.plots.convergence import convergence
from keras2gp.plots.learning import learning_curve
from keras2gp.plots.matrix import kernel_matrix
from keras2gp.plots.predictions import images, reliability
from keras2gp.plots.style import new_figure, save
from keras2gp.plots.trials import read_rows, trials

CLASSES = np.array(["cat", "dog", "owl"])


def table():
    fit = {
        "train": 50000, "error": 0.01, "low": 0.008, "high": 0.013,
        "factor": 2.0, "exponent": 0.5, "fitted_to": [100, 200],
    }  # fmt: skip
    points = {"50": 0.0, "100": 0.2, "200": 0.15}
    row = {"points": {n: {"test_error": e} for n, e in points.items()}, "extrapolation": fit}
    return {
        "settings": {"data": "sample", "test": 400},
        "rows": {"a": row | {"title": "A", "paper_test_error": 0.0103}, "b": {"points": {}}},
    }


def report():
    kernel = [[2.0, 1.0], [1.0, 2.0]]
    levels = [
        {
            "width": width, "variance": 1 + 1 / width, "error": 0.01,
            "covariance": [[2 + 2 / width, 1.0], [1.0, 2.0]], "errors": [[0.1, 0.1], [0.1, 0.1]],
        }
        for width in (64, 16)
    ]  # fmt: skip
    return {
        "model": "m", "verdict": "accepted", "kernel": kernel, "levels": levels,
        "variance": 1.0, "error": 0.02,
    }  # fmt: skip


def points_of(line):
    return np.array(line.get_xydata())


def test_learning_curve():
    figure = learning_curve(table())
    (axes,) = figure.axes
    assert points_of(axes.containers[0].lines[0]).tolist() == [[100, 0.2], [200, 0.15]]
    law = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert points_of(law) == pytest.approx(np.array([[100, 2 / 10], [50000, 2 / 50000**0.5]]))
    star = next(line for line in axes.lines if line.get_marker() == "*")
    assert points_of(star).tolist() == [[50000, 0.0103]]


def test_convergence():
    left, right = convergence(report()).axes
    assert points_of(left.containers[0].lines[0]) == pytest.approx(
        np.array([[1 / 16, 1 + 1 / 16], [1 / 64, 1 + 1 / 64]])
    )
    deviation = points_of(right.lines[0])
    assert deviation == pytest.approx(np.array([[16, 2 / 16 / 10**0.5], [64, 2 / 64 / 10**0.5]]))


def test_reliability(rng):
    p = rng.dirichlet([0.3] * 3, 500)
    labels = CLASSES[[rng.choice(3, p=row) for row in p]]
    from keras2gp.gp import metrics

    upper, lower = reliability(metrics.reliability(labels, p, CLASSES), "a model").axes
    confidence, right = p.max(1), CLASSES[p.argmax(1)] == labels
    last = confidence > 14 / 15
    assert points_of(upper.containers[0].lines[0])[-1] == pytest.approx(
        [confidence[last].mean(), right[last].mean()]
    )
    assert sum(bar.get_height() for bar in lower.patches) == 500
    assert [bar.get_x() for bar in lower.patches] == pytest.approx(
        np.unique(np.ceil(confidence * 15) - 1) / 15
    )
    error = metrics.expected_calibration_error(labels, p, CLASSES)
    assert f"calibration error {error:.2%}" in upper.get_title(loc="left")


def test_images(rng):
    p = np.array([[0.9, 0.1, 0.0], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7]])
    pictures = rng.uniform(size=(3, 4, 4, 1))
    axes = np.array(images(pictures, p, CLASSES[[0, 1, 2]], CLASSES, count=2).axes).reshape(4, 2)
    assert [a.get_title() for a in axes[0]] == ["cat", "owl"]
    assert [a.get_title() for a in axes[2]] == ["cat, in truth dog", "owl"]
    assert np.array_equal(axes[2, 0].images[0].get_array(), pictures[1, :, :, 0])
    assert [bar.get_height() for bar in axes[3, 0].patches] == [0.4, 0.35, 0.25]


def test_kernel_matrix():
    labels = np.array([1, 0, 1])
    k = np.array([[4.0, 1.0, 2.0], [1.0, 1.0, 0.5], [2.0, 0.5, 9.0]])
    axes = kernel_matrix(k, labels).axes[0]
    expected = np.array([[1, 0.5, 1 / 6], [0.5, 1, 1 / 3], [1 / 6, 1 / 3, 1]])
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(expected)
    assert axes.lines[0].get_ydata()[0] == 0.5


def rows_of(tmp_path):
    path = tmp_path / "trials.csv"
    path.write_text(
        "trial,status,validation_error,leave_one_out_error,log_marginal_likelihood,jitter,"
        "kernel_seconds,solve_seconds,depth,w2,phi,reason\n"
        "0,fine,0.2,0.3,-5,0,1,1,2,0.1,relu,\n"
        "1,fine,0.1,0.4,-6,0,1,1,3,9.0,erf,\n"
        "2,failed,,,,,,,4,1.0,erf,too deep\n"
    )
    return read_rows(path)


def test_trials(tmp_path):
    figure = trials(rows_of(tmp_path))
    depth, w2, phi = figure.axes[:3]
    assert points_of(depth.lines[0]).tolist() == [[2, 0.2], [3, 0.1]]
    assert points_of(depth.lines[1]).tolist() == [[3, 0.1]]
    assert w2.get_xscale() == "log"
    assert points_of(phi.lines[0]).tolist() == [[1, 0.2], [0, 0.1]]
    assert "3 trials, 1 without a score" in figure.get_suptitle()
    best = trials(rows_of(tmp_path), "evidence").axes[0].lines[1]
    assert points_of(best).tolist() == [[2, -5]]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_files_are_the_same_each_time(tmp_path, suffix):
    for name in ("one", "two"):
        save(learning_curve(table()), tmp_path / f"{name}{suffix}")
    first = (tmp_path / f"one{suffix}").read_bytes()
    assert first == (tmp_path / f"two{suffix}").read_bytes()
    assert first.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")


def test_no_global_state():
    learning_curve(table())
    assert "matplotlib.pyplot" not in sys.modules or not (
        sys.modules["matplotlib.pyplot"].get_fignums()
    )


@pytest.mark.parametrize("wrong", [
    lambda: learning_curve({}),
    lambda: learning_curve({"settings": {"test": 1, "data": ""}, "rows": {"a": {"points": {}}}}),
    lambda: learning_curve({"settings": {"test": 1, "data": ""},
                            "rows": {"a": {"points": {"5": {"test_error": 7}}}}}),
    lambda: learning_curve({"settings": {"test": float("inf"), "data": ""}, "rows": {}}),
    lambda: convergence({"levels": []}),
    lambda: convergence(report() | {"variance": float("nan")}),
    lambda: convergence(report() | {"levels": [report()["levels"][0] | {"width": 0}]}),
    lambda: convergence(report() | {"levels": []}),
    lambda: reliability([]),
    lambda: reliability(np.full((5, 2), 0.5)),
    lambda: images(np.ones((2, 2)), np.ones((2, 3)), np.ones(2), np.ones(3)),
    lambda: kernel_matrix(np.ones((2, 3)), np.ones(2)),
    lambda: kernel_matrix(np.zeros((2, 2)), np.ones(2)),
    lambda: trials([{"trial": "0"}]),
    lambda: trials([], "accuracy"),
    lambda: read_rows("absent.csv"),
    lambda: save(new_figure(1, 1), "picture.pdf"),
])  # fmt: skip
def test_what_is_refused(wrong):
    with pytest.raises(InputError):
        wrong()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        save(new_figure(1, 1), tmp_path / "file" / "picture.png")


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"keras2gp\[plot\]"):
        new_figure(1, 1)


def test_a_matrix_at_every_position_is_drawn_one_position_at_a_time(rng):
    factor = rng.normal(size=(6, 4))
    matrix = np.multiply.outer(factor @ factor.T + np.eye(6), np.ones((3, 2)))
    labels = np.repeat(CLASSES, 2)
    with pytest.raises(InputError, match=r"Try: one position of it, as matrix\[:, :, 0, 0\]"):
        kernel_matrix(matrix, labels)
    assert len(kernel_matrix(matrix[:, :, 0, 0], labels).axes) == 2


def test_tensors_and_lists_are_drawn(rng):
    tf = pytest.importorskip("tensorflow")
    root = rng.normal(size=(4, 4))
    figure = kernel_matrix(tf.constant(root @ root.T), ["a", "b", "a", "b"])
    assert len(figure.axes) == 2
    probabilities = tf.constant([[0.9, 0.1], [0.4, 0.6]])
    figure = images(tf.zeros((2, 8, 8)), probabilities, ["cat", "cat"], ["cat", "dog"], 2)
    assert len(figure.axes) == 8


def test_what_is_no_figure_is_not_saved(tmp_path):
    with pytest.raises(InputError, match="3 is no figure: expected one of keras2gp"):
        save(3, tmp_path / "a.png")
