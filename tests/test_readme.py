"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np

import keras2gp

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
MAPS, SOLVERS, FINITE, OWN, EXPANDED, ACTIVATION = (
    next(block for block in BLOCKS if mark in block)
    for mark in (
        "kernel.positions",
        "solver=",
        "empirical_kernel",
        "activations=",
        "Hermite",
        '@dual("sin")',
    )
)


def test_the_tour_of_the_interface(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    keras.utils.clear_session()  # the README's layers are the first of their kind
    images = {
        name: rng.random((count, 28, 28, 1), np.float32)
        for name, count in (("x1", 5), ("x2", 4), ("x_train", 20), ("x_test", 6))
    }
    names = {**images, "y_train": np.arange(20) % 3, "y_real": rng.normal(size=20)}
    exec(BLOCKS[0], names)  # noqa: S102 (our own text)
    assert names["K"].shape == (5, 4)
    assert names["kernel"].parameters["conv2d"] == keras2gp.LayerVariances(2.0, 0.0)
    assert names["classifier"].predict_proba(images["x_test"]).shape == (6, 3)
    assert (names["std"] > 0).all()
    exec(SOLVERS, names)  # noqa: S102 (our own text)
    assert names["classifier"].solver_report_.solver == "cg"
    assert names["classifier"].predict(images["x_test"]).shape == (6,)
    exec(FINITE, names)  # noqa: S102 (our own text)
    assert names["regressor"].predict(images["x_test"]).shape == (6,)


def test_maps(rng):
    clean = rng.random((6, 8, 8))
    noisy = (clean + rng.normal(size=clean.shape))[..., None].astype(np.float32)
    names = {"keras": keras, "keras2gp": keras2gp, "noisy": noisy, "clean": clean}
    exec(MAPS, names)  # noqa: S102 (our own text)
    assert names["kernel"].positions == (8, 8)
    assert names["K"].shape == (6, 6)
    assert names["mean"].shape == names["std"].shape == clean.shape


def test_an_own_function_and_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def f(u):
        return keras.ops.tanh(2 * u)

    dense = keras.layers.Dense(4, activation=f), keras.layers.Dense(2)
    keras.Sequential([keras.Input((3,)), *dense]).save("model.keras")
    names = {"f": f, "keras2gp": keras2gp}
    exec(OWN, names)  # noqa: S102 (our own text)
    assert "f (own)" in str(names["kernel"].report)


def test_the_activation_to_add_without_closed_form(monkeypatch):
    import tensorflow as tf

    from keras2gp.covariance import registry

    monkeypatch.setattr(registry, "_DUALS", {})
    exec(EXPANDED, {"keras2gp": keras2gp, "tf": tf})  # noqa: S102 (our own text)
    q = tf.constant([0.7], tf.float64)
    found = registry._DUALS["wavy"]().second_moment(q)
    z, w = np.polynomial.hermite_e.hermegauss(100)
    u = np.sqrt(0.7) * z
    expected = (np.tanh(2 * u) + u / 10) ** 2 @ w / w.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_activation_to_add_is_the_one_that_is_there(monkeypatch):
    import tensorflow as tf

    from keras2gp.covariance import registry
    from keras2gp.covariance.duals.base import Dual

    monkeypatch.setattr(registry, "_DUALS", {})
    exec(ACTIVATION, {"dual": registry.dual, "Dual": Dual, "tf": tf})  # noqa: S102 (our own text)
    s = tf.constant([0.7], tf.float64), tf.constant([1.3], tf.float64)
    found = registry._DUALS["sin"]().covariance(tf.constant(0.4, tf.float64), s[:1], s[1:])
    np.testing.assert_allclose(found, np.exp(-1.0) * np.sinh(0.4), rtol=1e-12)
