"""Pictures of a fit show its numbers, and open as pictures."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.image import imread
from scipy.stats import norm

from keras2gp import plots
from keras2gp.errors import InputError

X = np.array([2.0, 0.0, 1.0])
MEAN, STD = np.array([3.0, 1.0, 2.0]), np.array([0.3, 0.1, 0.2])
LABELS = np.array(["owl", "cat", "cat", "dog"])


def figures():
    y = np.array([3.5, 1.0, 2.1])
    return {
        "intervals": plots.intervals(
            X, MEAN, STD, wider=2 * STD, data=(X[:, None], y), title="50%$"
        ),
        "calibration": plots.calibration_curve(y, MEAN, STD, "a"),
        "residuals": plots.residuals(y, MEAN, STD, "a"),
        "confusion": plots.confusion_matrix(LABELS, LABELS[::-1], title="a"),
    }


@pytest.mark.parametrize("name", ["intervals", "calibration", "residuals", "confusion"])
def test_pictures_open(tmp_path, name):
    figure = figures()[name]
    plots.save(figure, tmp_path / "p.png")
    pixels = imread(tmp_path / "p.png")
    assert min(pixels.shape[:2]) > 300
    assert np.ptp(pixels[..., :3]) > 0.5
    plots.save(figure, tmp_path / "p.svg")
    assert ET.parse(tmp_path / "p.svg").getroot().tag.endswith("svg")  # noqa: S314


def test_intervals_are_in_the_order_of_the_inputs():
    (axes,) = figures()["intervals"].axes
    line, points = axes.lines
    assert np.array(line.get_xydata()).tolist() == [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    assert np.array(points.get_xydata()).tolist() == [[2.0, 3.5], [0.0, 1.0], [1.0, 2.1]]
    wide, narrow = (c.get_paths()[0].vertices for c in axes.collections)
    for band, factor in ((wide, 2.0), (narrow, 1.0)):
        at = band[np.isclose(band[:, 0], 2.0)][:, 1]
        half = norm.ppf(0.975) * 0.3 * factor
        assert sorted({at.min(), at.max()}) == pytest.approx([3.0 - half, 3.0 + half])
    assert axes.get_title(loc="left") == "50%\\$"


def test_shares_and_residuals():
    y = np.random.default_rng(0).standard_normal(400)
    figure = plots.calibration_curve(2.0 * y + 1.0, np.ones(400), np.full(400, 2.0))
    _, ours = figure.axes[0].lines
    for stated, found in np.array(ours.get_xydata()):
        low, high = norm.interval(stated)
        assert found == pytest.approx(((y >= low) & (y <= high)).mean())
    left, _ = plots.residuals(np.array([1.0, 9.0]), np.zeros(2), np.full(2, 2.0)).axes
    assert [np.array(line.get_xydata()).tolist() for line in left.lines[-2:]] == [
        [[0.0, 0.5]],
        [[0.0, 4.5]],
    ]
    assert left.get_title(loc="left") == "1 of 2 outside 95%"


def test_confusions():
    figure = plots.confusion_matrix(LABELS, ["cat", "cat", "dog", "dog"])
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.texts] == ["1", "1", "0", "0", "1", "0", "1", "0", "0"]
    shares = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shares, [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert axes.get_title(loc="left") == "50.0% of 4 are right"
    ordered = plots.confusion_matrix([2, 1], [2, 2], classes=[2, 1, 0])
    assert [t.get_text() for t in ordered.axes[0].texts] == ["1", *"00100000"]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: plots.intervals(X, MEAN, STD[:2]), "different lengths"),
        (lambda: plots.intervals(np.ones((3, 2)), MEAN, STD), "one feature"),
        (lambda: plots.intervals(X, MEAN, [1.0, np.nan, 1.0]), "not finite: entry 1"),
        (lambda: plots.intervals(X, MEAN, STD, data=(X, MEAN[:2])), "inputs 3, targets 2"),
        (lambda: plots.residuals(MEAN, MEAN, 0.0 * STD), "std 0 is not positive"),
        (lambda: plots.calibration_curve(["a"], [1.0], [1.0]), "no array of numbers"),
        (lambda: plots.confusion_matrix([1, 2], [1]), "expected"),
        (lambda: plots.confusion_matrix([1, 2], [1, 3], classes=[1, 2]), "none of the classes: 3"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(InputError, match=match):
        call()
