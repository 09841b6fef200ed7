"""The bar of the kernel matrix inside a fit: asked for by default, shown on a terminal alone."""

from __future__ import annotations

import sys
import threading
import time

import keras
import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF
from terminals import Stream

import keras2gp
from keras2gp._util import progress, progress_bar
from keras2gp.errors import InputError
from keras2gp.gp import GPClassifier, GPLaplace, GPRegressor, TrainedEnsemble
from keras2gp.matrices import local

X = np.random.default_rng(0).standard_normal((12, 2))
Y = np.arange(12) % 2


@pytest.fixture(scope="module")
def kernel():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    )
    return keras2gp.convert(model, overrides={"*": (1.0, 0.1)}, dtype="float64")


@pytest.fixture
def bars(monkeypatch):
    """What was asked of the bar: titles, and pairs."""
    seen, real = [], progress.counted

    def counted(wanted, title, sizes, done):
        seen.append((wanted, title, sum(sizes)))
        return real(wanted, title, sizes, done)

    monkeypatch.setattr(local, "counted", counted)
    return seen


ESTIMATORS = (
    GPRegressor,
    lambda kernel: GPRegressor(kernel, 0.1),
    GPClassifier,
    lambda kernel: GPLaplace(kernel, "bernoulli"),
    lambda kernel: TrainedEnsemble(kernel, regularization=0.1),
    lambda kernel: GPRegressor(2.0 * kernel + RBF(1.0), 0.1),
)


@pytest.mark.parametrize("make", ESTIMATORS)
def test_one_bar_for_the_matrix(kernel, bars, make):
    estimator = make(kernel)
    estimator.fit(X, Y)
    assert bars == [(True, "kernel matrix", 78)]
    estimator.predict(X)
    assert len(bars) == 1  # of the fit alone
    estimator.fit(X, Y, progress=False)
    assert len(bars) == 1
    assert not progress.showing_bars()


def test_quiet_where_others_draw(kernel, bars):
    steps = []
    GPRegressor(kernel, 0.1).fit(X, Y, progress=lambda *step: steps.append(step))
    assert steps
    thread = threading.Thread(target=lambda: GPRegressor(kernel, 0.1).fit(X, Y))
    thread.start()
    thread.join()
    GPRegressor(kernel, 0.1).fit(X, Y, gram=kernel.matrix(X))
    assert not bars
    with pytest.raises(InputError, match="progress='yes'"):
        GPRegressor(kernel, 0.1).fit(X, Y, progress="yes")
    assert not progress.showing_bars()


@pytest.mark.parametrize("terminal", [True, False])
def test_on_a_terminal_alone(kernel, monkeypatch, terminal):
    stream, real = Stream(terminal), local.in_memory

    def slow(*args):
        time.sleep(0.4)
        return real(*args)

    monkeypatch.setattr(local, "in_memory", slow)
    monkeypatch.setattr(progress_bar, "_PATIENCE", 0.01)
    monkeypatch.setattr(sys, "stderr", stream)
    GPRegressor(kernel, 0.1).fit(X, Y)
    assert ("kernel matrix" in stream.getvalue()) == terminal
    if not terminal:
        assert not stream.getvalue()
