"""Sums, products and scalings of kernels, against numpy on the parts' matrices."""

from __future__ import annotations

import json
import pickle
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    DotProduct,
    ExpSineSquared,
    Matern,
    PairwiseKernel,
    RationalQuadratic,
    WhiteKernel,
)
from sklearn.model_selection import GridSearchCV

import keras2gp
from keras2gp._util.digest import with_digest
from keras2gp.adapters import sklearn_kernel
from keras2gp.cli.main import main
from keras2gp.cli.session import kernel_of
from keras2gp.errors import InputError, ModelFileError, PriorError, StoreError
from keras2gp.gp import GPRegressor, TrainedEnsemble
from keras2gp.kernel.algebra import ComposedKernel
from keras2gp.kernel.composed_files import function_from_state, function_state

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
    for again in (keras2gp.load(tmp_path / "fit"), keras2gp.load(tmp_path / "fit", kernel=kernel)):
        np.testing.assert_array_equal(again.predict(NEW), fit.predict(NEW))
    fit.save(tmp_path / "fit")  # which replaces it
    np.savez(tmp_path / "data.npz", x=NEW, y=np.zeros(len(NEW)))
    names = [str(tmp_path / name) for name in ("fit", "data.npz", "p.npz")]
    assert main(["predict", names[0], "--data", names[1], "--out", names[2]]) == 0
    with np.load(tmp_path / "p.npz") as written:
        np.testing.assert_allclose(written["mean"], fit.predict(NEW), rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "scaled",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("product", "shifted", "nested")),
        "scikit-learn",
    ],
)
def test_saved_alone(one, two, tmp_path, name):
    kernel, _ = cases(one, two)[name]
    kernel.save(tmp_path / "k")
    again = keras2gp.load(tmp_path / "k")
    np.testing.assert_array_equal(again.matrix(X, NEW), kernel.matrix(X, NEW))
    assert repr(again) == repr(kernel)
    assert again.parameters == kernel.parameters
    assert not [file for file in (tmp_path / "k").rglob("*") if file.suffix in (".pkl", ".py")]


@pytest.mark.parametrize(
    "function",
    [
        RBF([1.0, 2.0, 3.0], "fixed"),
        Matern(0.5, (1e-3, 1e3), nu=2.5) ** 2,
        ConstantKernel(2.0) * RationalQuadratic(0.7) + ExpSineSquared(1.0, 3.0) * DotProduct(0.1),
    ],
)
def test_kernels_of_scikit_learn_are_data(function):
    state = json.loads(json.dumps(function_state(function), allow_nan=False))
    again = function_from_state(state)
    assert repr(again) == repr(function)
    np.testing.assert_array_equal(again.bounds, function.bounds)
    np.testing.assert_array_equal(again(X), function(X))


def test_functions_that_no_file_holds(one, two, tmp_path):
    class Mine(RBF):
        pass

    for function in (Mine(1.0), sklearn_kernel(two), PairwiseKernel(metric="rbf")):
        kernel = one + (ConstantKernel(2.0) * function + RBF(1.0))
        with pytest.raises(ModelFileError, match=type(function).__name__):
            kernel.save(tmp_path / "k")
        assert not (tmp_path / "k").exists()
    fit = GPRegressor(kernel, 0.1).fit(X, Y)
    fit.save(tmp_path / "fit")
    with pytest.raises(ModelFileError, match="has a part that no file holds"):
        keras2gp.load(tmp_path / "fit")
    again = keras2gp.load(tmp_path / "fit", kernel=kernel)
    np.testing.assert_array_equal(again.predict(NEW), fit.predict(NEW))


def changed_head(directory, change):
    file = directory / "kernel.json"
    data = json.loads(file.read_text())
    change(data)
    del data["digest"]
    file.write_text(json.dumps(with_digest(data)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.update(operation="power"), "operation 'power'"),
        (lambda d: d.update(number=-1.0), "finite number above 0"),
        (lambda d: d.update(number="2"), "its number is '2'"),
        (lambda d: d.update(format=1), "format 1"),
        (lambda d: d.update(parts=[]), "no list of kernels"),
        (lambda d: d.update(parts=[d["parts"][1]]), "no part is a network"),
        (lambda d: d["parts"].append({"digest": "sha256:0"}), "missing or is not the file"),
        (lambda d: d["parts"][0].update(digest="sha256:0"), "its digest"),
        (lambda d: d["parts"][1].update({"class": "PairwiseKernel"}), "class 'PairwiseKernel'"),
        (lambda d: d["parts"][1].update({"class": "os.system"}), "class 'os.system'"),
        (lambda d: d["parts"][1]["settings"].update(length_scale="wide"), "a setting of a kernel"),
        (lambda d: d["parts"][1]["settings"].update(width=1.0), "malformed"),
        (lambda d: d.update(parts=[7]), "malformed"),
    ],
)
def test_damaged_sums(one, tmp_path, change, match):
    (one + RBF(1.0)).save(tmp_path / "k")
    changed_head(tmp_path / "k", change)
    with pytest.raises(ModelFileError, match=match):
        keras2gp.load(tmp_path / "k")


@pytest.mark.slow
def test_damaged_files_of_sums(one, two, tmp_path):
    kernel = one + two
    kernel.save(tmp_path / "k")
    file = tmp_path / "k" / "kernel.json"
    file.write_text(file.read_text().replace('"number": 0.0', '"number": 9.0'))
    with pytest.raises(ModelFileError, match="digest"):
        keras2gp.load(tmp_path / "k")
    kernel.save(tmp_path / "k")
    first, second = (tmp_path / "k" / "parts" / n / "kernel.json" for n in ("1", "2"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(ModelFileError, match="is not the file that keras2gp wrote"):
        keras2gp.load(tmp_path / "k")
    with pytest.raises(InputError, match="the kernel of one network"):
        kernel_of(
            SimpleNamespace(source=SimpleNamespace(kind="kernel", name=whole(tmp_path, kernel)))
        )
    (tmp_path / "k" / "mine.txt").write_text("mine")
    with pytest.raises(ModelFileError, match="did not write"):
        kernel.save(tmp_path / "k")


def whole(tmp_path, kernel):
    kernel.save(tmp_path / "whole")
    return tmp_path / "whole"


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wieght": 1.0}, "a layer has no variance 'wieght'. Did you mean weight?"),
        ({"weight": -1.0}, "the weight variance is -1.0"),
        ({"bias": "a"}, "the bias variance is no number: 'a'"),
        ({"bias": "2"}, "the bias variance is no number: '2'"),
        ({"weight": True}, "the weight variance is no number: True"),
        ((1.0, np.False_), "the bias variance is no number: "),
        ((1.0,), "(1.0,) is no pair of variances. Try: LayerVariances"),
        ((1.0, 2.0, 3.0), "(1.0, 2.0, 3.0) is no pair of variances"),
        ("ab", "'ab' is no pair of variances"),
        (2.0, "2.0 is no pair of variances"),
        (None, "None is no pair of variances"),
    ],
)
def test_changes_that_are_no_variances(one, change, message):
    with pytest.raises(PriorError, match=re.escape(f"out: {message}")):
        one.with_parameters({"out": change})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kernel__out__wieght", "out: a layer has no variance 'wieght'"),
        ("kernel__out", "kernel__out is no setting of a kernel. Try: kernel__LAYER__weight"),
    ],
)
def test_nested_settings_that_do_not_exist(one, name, message):
    with pytest.raises(PriorError, match=re.escape(message)):
        GPRegressor(one, 0.1).set_params(**{name: 2.0})


def test_division_by_a_number(one):
    np.testing.assert_array_equal((one / 4.0).matrix(X), (0.25 * one).matrix(X))
    for number in (0.0, -1.0, np.nan, np.inf, 5e-324):
        with pytest.raises(InputError, match="a factor of a covariance is a finite number above 0"):
            one / number
    for other in (one, "2", True):
        with pytest.raises(TypeError, match="unsupported operand"):
            one / other


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


def test_a_kernel_of_scikit_learn_on_the_left(one):
    x, y = np.random.default_rng(0).normal(size=(5, 3)), np.arange(5.0)
    for wrong in (RBF(1.0) + one, RBF(1.0) * one, 2.0 * (RBF(1.0) + one)):
        with pytest.raises(InputError, match="takes the kernel on the right for a constant"):
            GPRegressor(wrong).fit(x, y)
    either = (one + RBF(1.0), RBF(1.0) + sklearn_kernel(one))
    first, second = (GPRegressor(kernel, 0.1).fit(x, y).predict(x) for kernel in either)
    np.testing.assert_allclose(first, second, rtol=1e-6)


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
