"""Sums, products and scalings of kernels, against numpy on the parts' matrices."""

from __future__ import annotations

import pickle

import keras
import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import GridSearchCV

import keras2gp
from keras2gp.adapters import sklearn_kernel
from keras2gp.errors import InputError, PriorError, StoreError
from keras2gp.gp import GPRegressor, TrainedEnsemble
from keras2gp.kernel.algebra import ComposedKernel

RANDOM = np.random.default_rng(0)
X, NEW = RANDOM.normal(size=(11, 3)), RANDOM.normal(size=(4, 3))
Y = np.sin(X[:, 0])


def network(activation, name, shape=(3,), **settings):
    layers = [keras.Input(shape), keras.layers.Dense(8, activation, name="hidden")]
    model = keras.Sequential([*layers, keras.layers.Dense(1, name="out")], name=name)
    return keras2gp.convert(model, overrides={"*": (1.5, 0.2)}, **{"dtype": "float64", **settings})


@pytest.fixture(scope="module")
def one():
    return network("relu", "one")


@pytest.fixture(scope="module")
def two():
    return network("tanh", "two")


def cases(k1, k2):
    rbf = RBF(1.3)
    a, b, c = k1.matrix, k2.matrix, rbf
    return {
        "sum": (k1 + k2, lambda *x: a(*x) + b(*x)),
        "product": (k1 * k2, lambda *x: a(*x) * b(*x)),
        "scaled": (2.5 * k1, lambda *x: 2.5 * a(*x)),
        "numpy's number": (np.float64(2.5) * k1, lambda *x: 2.5 * a(*x)),
        "shifted": (0.5 + k1, lambda *x: 0.5 + a(*x)),
        "nested": (k1 + 2 * (k2 * k1 + 1) + k2, lambda *x: a(*x) + 2 * (b(*x) * a(*x) + 1) + b(*x)),
        "scikit-learn": (k1 * rbf + k2, lambda *x: a(*x) * c(*x) + b(*x)),
        "an adapter": (
            k1 + (ConstantKernel(2.0) * sklearn_kernel(k2) + rbf),
            lambda *x: a(*x) + 2 * b(*x) + c(*x),
        ),
        "built-in sum": (sum([k1, k2]), lambda *x: a(*x) + b(*x)),
    }


def test_values(one, two, tmp_path):
    for name, (kernel, expected) in cases(one, two).items():
        assert isinstance(kernel, ComposedKernel), name
        np.testing.assert_allclose(kernel.matrix(X), expected(X), rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(kernel(NEW, X), expected(NEW, X), rtol=1e-12)
        np.testing.assert_allclose(kernel.diag(X), np.diag(expected(X)), rtol=1e-12)
        gram = keras2gp.gram(kernel, X, progress=False)
        np.testing.assert_allclose(gram, expected(X), rtol=1e-12)
        store = keras2gp.gram(kernel, X, out=tmp_path / f"{name}.zarr", progress=False)
        np.testing.assert_allclose(store[:, :], expected(X), rtol=1e-12)
        assert repr(kernel).startswith("<")
        assert (np.linalg.eigvalsh(kernel.matrix(X)) > -1e-9).all()


def test_a_store_is_of_one_kernel(one, two, tmp_path):
    keras2gp.gram(one + two, X, out=tmp_path / "K", progress=False)
    keras2gp.gram(one + two, X, out=tmp_path / "K", progress=False)
    for other in (one * two, one + 2 * two, two + one, one + two + 0.1, one + two + RBF(1.0)):
        with pytest.raises(StoreError, match="the kernel's"):
            keras2gp.gram(other, X, out=tmp_path / "K", progress=False)
    keras2gp.gram(one + RBF(1.0), X, out=tmp_path / "R", progress=False)
    keras2gp.gram(one + RBF(1.0), X, out=tmp_path / "R", progress=False)
    with pytest.raises(StoreError, match="variances or weights"):
        keras2gp.gram(one + RBF(1.0 + 1e-15), X, out=tmp_path / "R", progress=False)


def test_heads(one, two, tmp_path):
    kernel = one + 2.0 * two * RBF(1.0)
    fit = GPRegressor(kernel, 0.1).fit(X, Y)
    matrix, cross = kernel.matrix(X), kernel.matrix(NEW, X)
    weights = np.linalg.solve(matrix + 0.1 * np.eye(len(X)), Y)
    np.testing.assert_allclose(fit.predict(NEW), cross @ weights, rtol=1e-9)
    fit.save(tmp_path / "fit")
    again = keras2gp.load(tmp_path / "fit", kernel=kernel)
    np.testing.assert_array_equal(again.predict(NEW), fit.predict(NEW))


@pytest.mark.slow
def test_tangent_kernels_of_sums_are_those_of_the_sum_of_networks(one, two):
    inputs = keras.Input((3,))
    branches = []
    for name, activation in (("one", "relu"), ("two", "tanh")):
        h = keras.layers.Dense(8, activation, name=f"{name}_hidden")(inputs)
        branches.append(keras.layers.Dense(1, name=f"{name}_out")(h))
    model = keras.Model(inputs, keras.layers.Add()(branches))
    whole = keras2gp.convert(model, overrides={"*": (1.5, 0.2)}, dtype="float64")
    both = (one + two).matrix(X, get="both")
    np.testing.assert_allclose(both, whole.matrix(X, get="both"), rtol=1e-10)
    ensemble = TrainedEnsemble(one + two).fit(X, Y)
    expected = TrainedEnsemble(whole).fit(X, Y).predict(NEW, return_std=True)
    for ours, theirs in zip(ensemble.predict(NEW, return_std=True), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    for kernel in (one * two, one + RBF(1.0)):
        with pytest.raises(InputError, match="no tangent kernel"):
            kernel.matrix(X, get="ntk")


def test_kinds_and_types_may_differ(one):
    tangent = network("relu", "one", kind="ntk", dtype="float32")
    kernel = one + tangent
    assert (kernel.kind, kernel.dtype) == ("mixed", "float64")
    np.testing.assert_allclose(kernel.matrix(X), one.matrix(X) + tangent.matrix(X), rtol=1e-6)
    assert (2.0 * tangent).kind == "ntk"


def test_variances_by_name_and_pattern(one, two):
    kernel = one * two
    assert list(kernel.parameters) == ["1.hidden", "1.out", "2.hidden", "2.out"]
    other = kernel.with_parameters({"2.*": {"weight": 3.0}, "1.out": (1.0, 0.0)})
    assert other.parameters["2.hidden"] == keras2gp.LayerVariances(3.0, 0.2)
    assert other.parameters["1.hidden"] == keras2gp.LayerVariances(1.5, 0.2)
    expected = one.with_parameters({"out": (1.0, 0.0)}).matrix(X)
    expected = expected * two.with_parameters({"*": {"weight": 3.0}}).matrix(X)
    np.testing.assert_allclose(other.matrix(X), expected, rtol=1e-12)
    scaled = (2.0 * one).with_parameters({"hid*": (1.0, 1.0)})
    assert scaled.parameters["hidden"] == keras2gp.LayerVariances(1.0, 1.0)
    with pytest.raises(PriorError, match=r"no layer of this kernel\. Did you mean hidden\?"):
        one.with_parameters({"hiden": (1.0, 1.0)})
    with pytest.raises(PriorError, match="Its layers: hidden, out"):
        one.with_parameters({"conv*": (1.0, 1.0)})


@pytest.mark.slow
def test_nested_settings_for_searches(one):
    gp = GPRegressor(one, 0.1)
    assert gp.get_params()["kernel__hidden__weight"] == 1.5
    assert "kernel__hidden__weight" not in gp.get_params(deep=False)
    gp.set_params(**{"kernel__*__bias": 0.0}, kernel__hidden__weight=2.0, noise_variance=0.2)
    assert gp.kernel.parameters["hidden"] == keras2gp.LayerVariances(2.0, 0.0)
    assert one.parameters["hidden"] == keras2gp.LayerVariances(1.5, 0.2)
    with pytest.raises(PriorError, match="no layer"):
        gp.set_params(kernel__conv__weight=1.0)
    with pytest.raises(ValueError, match="Invalid parameter"):
        gp.set_params(nothing=1)
    search = GridSearchCV(gp, {"kernel__hidden__weight": [0.01, 2.0]}, cv=2).fit(X, Y)
    scores = [
        GridSearchCV(
            GPRegressor(gp.kernel.with_parameters({"hidden": {"weight": w}}), 0.2), {}, cv=2
        )
        .fit(X, Y)
        .best_score_
        for w in (0.01, 2.0)
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], scores)
    sums = GPRegressor(one + RBF(1.0), 0.1).set_params(**{"kernel__1.out__bias": 9.0})
    assert sums.kernel.parameters["1.out"].bias == 9.0


@pytest.mark.slow
def test_copies(one, two):
    rbf = RBF(1.0)
    kernel = 2.0 * (one + two) + rbf
    rbf.length_scale = 9.0
    expected = 2.0 * (one.matrix(X) + two.matrix(X)) + RBF(1.0)(X)
    np.testing.assert_allclose(kernel.matrix(X), expected, rtol=1e-12)
    again = pickle.loads(pickle.dumps(kernel))  # noqa: S301 (our own)
    np.testing.assert_allclose(again.matrix(X), expected, rtol=1e-12)


def test_what_is_refused(one):
    model = [keras.Input((4, 1)), keras.layers.Conv1D(1, 2)]
    maps = keras2gp.convert(keras.Sequential(model), dtype="float64")
    bias = keras.initializers.Constant(1.0)
    shifted = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, bias_initializer=bias)])
    for refused, text in (
        (lambda: one + maps.at(0), r"different inputs: \[\[3\]\] and \[\[4, 1\]\]"),
        (lambda: one + maps, "kernel.at"),
        (lambda: one * keras2gp.convert(shifted), "without_mean"),
        (lambda: one + WhiteKernel(1.0), "noise_variance"),
        (lambda: one * (RBF(1.0) + WhiteKernel(1.0)), "noise_variance"),
        (lambda: -1.0 * one, "a finite number above 0"),
        (lambda: one * float("nan"), "a finite number above 0"),
        (lambda: one + "rbf", "is no kernel"),
        (lambda: one + True, "is no kernel"),
    ):
        with pytest.raises(InputError, match=text):
            refused()
