"""Tables for notebooks: well-formed, without scripts, and names that are no markup."""

from __future__ import annotations

from html.parser import HTMLParser

import keras

import keras2gp
from keras2gp._util import html
from keras2gp.gp import NoiseCurve
from keras2gp.verification.report import Verdict, VerificationReport, WidthEstimate

EVIL = '<script>alert("x")</script>&\x1b[31m'


class Checked(HTMLParser):
    """The tags that are open, and all texts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], set(), []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)
        assert all(name == "style" and "url" not in value for name, value in attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


ALLOWED = {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td"}


def test_tables_are_escaped_and_bounded():
    text = html.page(EVIL, html.table(("a", "none"), [(EVIL, "")] * 300), html.lines([EVIL]))
    found = Checked(text)
    assert found.tags <= ALLOWED
    assert "none" not in found.texts
    assert "and 100 more rows" in found.texts
    assert any("alert" in line for line in found.texts)
    assert "\x1b" not in text
    assert html.table(("a",), [("x" * 1000,)]).count("x") < 300


def test_kernels_and_reports():
    layers = [keras.Input((3,)), keras.layers.Dense(4, "relu", name="hidden")]
    model = keras.Sequential([*layers, keras.layers.Dense(1, name="out")], name="tiny")
    kernel = keras2gp.convert(model, overrides={"*": (1.5, 0.25)})
    kernel = kernel.with_parameters({"out": {"weight": 3.0}})
    texts = Checked(kernel._repr_html_()).texts
    assert {"hidden", "out", "1.5", "3", "0.25", "nngp, float32"} <= set(texts)
    texts = Checked(kernel.report._repr_html_()).texts
    assert texts[0] == "tiny: exact, prior from initializers"
    assert {"hidden", "w2", "1.5"} <= set(texts)
    pooled = [keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3), keras.layers.MaxPooling2D()]
    report = keras2gp.inspect(keras.Sequential(pooled))
    assert any("obstacle: " in text for text in Checked(report._repr_html_()).texts)


def test_a_choice_of_noise():
    curve = NoiseCurve((0.0, 0.125, 2.0), (None, -4.5, -7.0), 0.125, 30, "the largest <evidence>")
    texts = Checked(curve._repr_html_()).texts
    assert texts[:2] == ["noise variance 0.125", "the largest <evidence>"]
    assert texts[4:] == ["0", "singular", "0.125", "-4.50", "chosen", "2", "-7.00"]


def test_a_verification():
    level = WidthEstimate(
        width=8, factor=1.0, units=1, samples=30, variance=1.02, error=0.01, covariance=((1.0,),),
        errors=((0.1,),), seconds=1.0, gain=1.0,
    )  # fmt: skip
    report = VerificationReport(
        model="m", verdict=Verdict.ACCEPTED, reason="fine", kernel=((1.0,),), levels=(level,),
        variance=1.0, error=0.02, sampling=0.01, remainder=0.01, covariance=((1.0,),),
        errors=((0.1,),), worst=(0, 0), deviation=0.5, resolution=0.05, seed=0,
    )  # fmt: skip
    texts = Checked(report._repr_html_()).texts
    assert texts[0] == "m: accepted"
    assert {"8", "30", "1.0200", "limit", "0.0200"} <= set(texts)
