"""The page of an X-ray by keys alone, in a browser: order, focus that is seen, and what keys do."""

import io
import re

import keras
import numpy as np
import pytest
from browser import DOWN, ENTER, ESCAPE, RIGHT, SPACE, TAB, Browser, missing
from keras import layers
from matplotlib.image import imread

import keras2gp

STOPS = [
    *("To the variants", "Variants", "Signal flow", "Not computed", "How to read this"),
    *("What each part is worth", "How signal flows", "Fixed points", "The same as a table"),
]
"""What Tab comes to, by name."""
FOCUS = """
const e = document.activeElement, s = getComputedStyle(e), b = e.getBoundingClientRect();
const label = e.getAttribute('aria-labelledby');
return {
  name: e === document.body ? null : label ? document.getElementById(label).textContent
    : e.getAttribute('aria-label') || e.textContent,
  line: s.outlineStyle, width: parseFloat(s.outlineWidth),
  colour: s.outlineColor, back: getComputedStyle(document.body).backgroundColor,
  box: [b.left, b.top, b.right, b.bottom], seen: [innerWidth, innerHeight]
}
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(40, 2)).astype("float32")
    model = keras.Sequential([keras.Input((2,))])
    for i in range(6):
        model.add(layers.Dense(8, "relu", kernel_initializer="he_normal", name=f"hidden{i}"))
    model.add(layers.Dense(2, name="out"))
    settings = {"kinds": ["activation"], "subsets": 2, "signal_rows": 10}
    report = keras2gp.xray(model, x, (x[:, 0] > 0).astype(int), **settings)
    folder = tmp_path_factory.mktemp("page")
    report.save(folder)
    return folder / "report.html"


def luminance(colour):
    red, green, blue = (int(v) / 255 for v in re.findall(r"\d+", colour)[:3])
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (red, green, blue)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """The ratio of WCAG 2, from 1 to 21."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def pixels(window):
    return imread(io.BytesIO(window.picture()), format="png")


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (500, False), (500, True)]
)
def test_tab_comes_to_all_controls_in_order_and_focus_is_seen(page, tmp_path, width, dark):
    with Browser.opened(tmp_path / "profile", width, 800, dark=dark) as window:
        window.show(page)
        found = []
        for _ in STOPS:
            window.press(TAB)
            focus = window.run(FOCUS)
            found.append(focus["name"])
            assert (focus["line"], focus["width"]) == ("solid", 3.0), focus
            assert contrast(focus["colour"], focus["back"]) >= 3.0
            left, top, right, bottom = focus["box"]
            across, down = focus["seen"]
            assert min(right, across) - max(left, 0) > 20, f"{focus} is out of the window"
            assert min(bottom, down) - max(top, 0) > 10, f"{focus} is out of the window"
            shown = pixels(window)
            window.run("document.activeElement.style.outline = 'none'")
            assert (pixels(window) != shown).any(), f"{focus} looks as without focus"
            window.run("document.activeElement.style.outline = ''")
        assert found == STOPS
        for name in STOPS[-2::-1]:
            window.press(TAB, shift=True)
            assert window.run(FOCUS)["name"] == name


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_keys_follow_links_open_the_table_and_scroll(page, tmp_path):
    with Browser.opened(tmp_path / "profile", 620, 700) as window:
        window.show(page)
        window.press(TAB)
        window.press(ENTER)
        assert window.run("return location.hash") == "#variants"
        window.press(TAB)
        assert window.run(FOCUS)["name"] == "What each part is worth", "Tab goes on from there"
        window.press(TAB)
        assert window.run("return document.activeElement.scrollWidth > innerWidth")
        window.press(RIGHT)
        scrolled = "return new Promise(r => setTimeout(() => r({}), 500))"
        assert window.run(scrolled.format("document.activeElement.scrollLeft")) > 0
        before = window.run("return scrollY")
        window.press(DOWN)
        assert window.run(scrolled.format("scrollY")) > before
        while window.run(FOCUS)["name"] != "The same as a table":
            window.press(TAB)
        is_open = "return document.querySelector('details').open"
        for key in (ENTER, SPACE, ENTER):
            was = window.run(is_open)
            window.press(key)
            assert window.run(is_open) is not was
        window.press(TAB)
        assert window.run(FOCUS)["name"] == "Signal flow as a table"
        window.press(ESCAPE)
        assert window.run(is_open), "nothing is to be left by Escape, and nothing is lost"
        window.press(TAB)
        assert window.run(FOCUS)["name"] is None, "no key holds the focus on the page"
