"""The kernel of the next variant, computed during the fits of another one."""

import threading
import time

import numpy as np
import pytest
from xray_networks import dense

import keras2gp
from keras2gp.errors import NumericalError
from keras2gp.xrays.running import directory, scoring

SETTINGS = {"kinds": ["activation"], "subsets": 2, "signal_rows": 0}


@pytest.fixture
def rows():
    x = np.random.default_rng(0).normal(size=(20, 2)).astype("float32")
    return x, (x[:, 0] > 0).astype(int)


@pytest.fixture
def stores(monkeypatch):
    """The stores in the order of their computation, of which each takes a moment."""
    made = []

    def gram(_kernel, x, _others=None, *, out, executor, progress):
        del executor
        if progress:
            progress(0, 1)
        if out.name not in made:
            made.append(out.name)
        scale = 1.0 + made.index(out.name)
        return np.exp(-((x[:, None] - x[None]) ** 2).sum(axis=2) / scale).astype("float32")

    monkeypatch.setattr(directory, "gram", gram)
    return made


def test_the_next_kernel_is_computed_during_the_fits(rows, stores, monkeypatch):
    x, y = rows
    seen, score_kernel = [], scoring.score_kernel

    def waiting(*arguments):
        seen.append(1)
        ended = time.monotonic() + 60
        while len(stores) < min(len(seen) + 1, 4):
            assert time.monotonic() < ended, "the next kernel is not begun"
            time.sleep(0.001)
        return score_kernel(*arguments)

    monkeypatch.setattr(scoring, "score_kernel", waiting)
    report = keras2gp.xray(dense(), x, y, **SETTINGS)
    assert len(report.computed) + 1 == len(seen) == len(stores) == 4
    monkeypatch.setattr(scoring, "score_kernel", score_kernel)
    assert keras2gp.xray(dense(), x, y, minutes=60, **SETTINGS).findings == report.findings


def test_with_a_limit_of_time_one_comes_after_the_other(rows, stores, monkeypatch):
    x, y = rows
    seen, score_kernel = [], scoring.score_kernel

    def counting(*arguments):
        seen.append(len(stores))
        return score_kernel(*arguments)

    monkeypatch.setattr(scoring, "score_kernel", counting)
    keras2gp.xray(dense(), x, y, minutes=60, **SETTINGS)
    assert seen == [1, 2, 3, 4]


def test_an_interruption_ends_what_is_ahead(rows, stores, monkeypatch):
    x, y = rows
    gram, begun = directory.gram, threading.Event()

    def endless(*arguments, progress, **settings):
        if threading.current_thread() is threading.main_thread():
            return gram(*arguments, progress=progress, **settings)
        begun.set()
        while True:
            progress(0, 1)
            time.sleep(0.001)

    def interrupted(*_arguments):
        assert begun.wait(60)
        raise KeyboardInterrupt

    def pools():
        return [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]

    monkeypatch.setattr(directory, "gram", endless)
    monkeypatch.setattr(scoring, "score_kernel", interrupted)
    before = pools()
    with pytest.raises(KeyboardInterrupt):
        keras2gp.xray(dense(), x, y, **SETTINGS)
    assert set(pools()) <= set(before)


def test_what_fails_ahead_is_computed_again(rows, stores, monkeypatch):
    x, y = rows
    gram, failed = directory.gram, []

    def failing(*arguments, **settings):
        if not failed and threading.current_thread() is not threading.main_thread():
            failed.append(1)
            raise NumericalError("entry (0, 0) is nan")
        return gram(*arguments, **settings)

    monkeypatch.setattr(directory, "gram", failing)
    report = keras2gp.xray(dense(), x, y, **SETTINGS)
    assert failed
    assert len(report.computed) == 3
