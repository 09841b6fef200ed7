"""Inputs of strangers and of tired people: each is refused in keras2gp's words, or right.

A refusal is an error of keras2gp's tree; other errors and wrong numbers are faults.
"""

import contextlib
import io
import json
import struct
import zipfile
from decimal import Decimal
from fractions import Fraction

import h5py
import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from keras import layers
from sklearn.gaussian_process.kernels import RBF

import keras2gp
from keras2gp import data, gp, zoo
from keras2gp.errors import (
    DataError,
    InputError,
    ModelFileError,
    NumericalError,
    StoreError,
    UnsupportedModelError,
)

HE = {"kernel_initializer": "he_normal"}
X = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, -1.0]])


def model():
    dense = layers.Dense(8, activation="relu", name="hidden", **HE), layers.Dense(1, **HE)
    return keras.Sequential([keras.Input((3,)), layers.Rescaling(0.5, name="rescale"), *dense])


def configured(path, layer, **settings):
    """The model as a JSON file, with other settings of one layer."""
    config = json.loads(model().to_json())
    for entry in config["config"]["layers"]:
        if entry["config"]["name"] == layer:
            entry["config"] |= settings
    path.write_text(json.dumps(config))
    return path


def behind(layer_class, **settings):
    """A JSON file of a network of images with one layer whose settings are as stated."""
    x = keras.Input((6, 6, 2))
    ends = layers.Conv2D(2, 1), layers.Identity(name="changed"), layers.Conv2D(2, 1)
    h = x
    for layer in ends:
        h = layer(h)
    config = json.loads(keras.Model(x, h).to_json())
    for entry in config["config"]["layers"]:
        if entry["config"]["name"] == "changed":
            entry |= {"class_name": layer_class, "config": {"name": "changed", **settings}}
    return config


def normal(**settings):
    return {
        "module": "keras.initializers",
        "class_name": "RandomNormal",
        "config": settings,
        "registered_name": None,
    }


@pytest.mark.parametrize("stddev", [{"a": 1}, "x", None, [1.0, 2.0]])
def test_a_file_that_cannot_be_built_leaves_the_process_as_it_was(stddev, tmp_path):
    """Keras keeps variables whose values it failed to draw, and failed for every later file."""
    bad = configured(tmp_path / "bad.json", "hidden", kernel_initializer=normal(stddev=stddev))
    with pytest.raises(ModelFileError, match="Keras cannot build it"):
        keras2gp.convert(bad)
    good = configured(tmp_path / "good.json", "hidden")
    np.testing.assert_allclose(keras2gp.convert(good)(X), keras2gp.convert(model())(X), rtol=1e-6)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(text, body=b""):
    """A .npy file of version 1 with a header of one's own."""
    line = text.encode().ljust(max(len(text), 118)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(line)) + line + body


ARRAYS = {
    "no end": header("("),
    "nested": header("(" * 5000),
    "unary": header("-" * 20000 + "1"),
    "code": header("{'descr': '<f4', 'fortran_order': False, 'shape': (exit(),)}"),
    "a truth as a size": header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3)}", bytes(12)
    ),
    "no whole size": header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1.0, 3)}", bytes(12)
    ),
    "a huge size": header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000000000000, 0)}"
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_headers_of_arrays(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", ARRAYS[name])
        archive.writestr("y.npy", npy(np.zeros(1)))
    with pytest.raises(DataError, match=r"a\.npz"):
        data.load(str(tmp_path / "a.npz"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, array in (("x", X), ("x", -X), ("y", np.arange(2))):
            archive.writestr(f"{name}.npy", npy(array))
    with pytest.raises(DataError, match="two of its arrays are named 'x'"):
        data.load(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("form", ["csr_array", "coo_matrix", "dok_array"])
def test_sparse_arrays(form):
    kernel = keras2gp.convert(model())
    for read in (kernel, kernel.diag, kernel.matrix):
        with pytest.raises(InputError, match=r"is sparse: .*toarray\(\)"):
            read(getattr(scipy.sparse, form)(X))
    with pytest.raises(InputError, match=r"x1 is sparse: .*to_dense"):
        kernel(tf.sparse.from_dense(X))


class Batches(keras.utils.PyDataset):
    """Two batches of one row."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[index : index + 1], np.arange(2)[index : index + 1]


STREAMS = {
    "a ragged tensor": (lambda: tf.ragged.constant([[1.0, 2.0], [3.0]]), r"to_tensor\(\)"),
    "a data set": (lambda: tf.data.Dataset.from_tensor_slices(X).batch(1), "as_numpy_iterator"),
    "a data set of Keras": (Batches, r"\[i\]\[0\] for i in range\(len"),
    "a generator": (lambda: (row for row in X), r"np\.array\(list\("),
    "a map": (lambda: map(np.copy, X), r"np\.array\(list\("),
    "a set": (lambda: {1.0, 2.0}, "Try: a list"),
}


@pytest.mark.filterwarnings("ignore:Your `PyDataset` class")
@pytest.mark.parametrize("name", STREAMS)
def test_what_gives_its_rows_one_after_another(name):
    make, remedy = STREAMS[name]
    kernel = keras2gp.convert(model())
    for read in (kernel, kernel.diag, kernel.matrix):
        with pytest.raises(InputError, match=remedy):
            read(make())
    for head in (gp.GPClassifier, gp.GPRegressor):
        for arguments in ((make(), [0, 1]), (X, make())):
            with pytest.raises(InputError, match=remedy):
                head(kernel, 0.1).fit(*arguments)


def test_the_remedies_for_batches():
    stream = tf.data.Dataset.from_tensor_slices((X, np.arange(2))).batch(1)
    for part, expected in ((0, X), (1, np.arange(2))):
        rows = np.concatenate([batch[part] for batch in stream.as_numpy_iterator()])
        np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([1, "a"], "numbers and texts"),
        (("a", 2.5), "numbers and texts"),
        ([None, 1], r"missing label, None\. Try: missing="),
        ([{}, 1], "neither whole numbers nor texts$"),
        ({"a": 1}, r"y is .*expected one label for each input, \[N\]$"),
        ("ab", r"y is 'ab'; expected one label for each input, \[N\]$"),
        ([], r"shape \(0,\); expected one label for each input, \[N\]$"),
        (np.eye(2), "one-hot"),
        ([0.5, 1.2], "Try: a GPRegressor"),
    ],
)
def test_labels_that_are_none(y, words):
    with pytest.raises(InputError, match=words):
        gp.GPClassifier(RBF(1.0), 0.1).fit(X, y)


@pytest.mark.parametrize("x", [{"a": 1}, "text", 3.0])
def test_inputs_that_are_no_arrays(x):
    with pytest.raises(InputError, match="expected an array") as caught:
        gp.GPRegressor(RBF(1.0), 0.1).fit(x, [0.0, 1.0])
    assert ("Reshape your data" in str(caught.value)) == isinstance(x, float)


class NAType:
    """As pandas marks what is missing."""

    def __ne__(self, _other):
        return self

    def __eq__(self, _other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    def __repr__(self):
        return "<NA>"

    __hash__ = None


NA = NAType()


class Frame:
    """As a data frame with columns of several types is read."""

    def __init__(self, rows):
        self._rows = rows

    def __array__(self, dtype=None, copy=None):
        return np.array(self._rows, dtype=dtype or object)


def test_columns_of_several_types():
    """Whole numbers, truth and numbers beside each other are an array of objects."""
    mixed = Frame([[1, True, 2.5], [Fraction(3, 2), np.int64(-4), Decimal("0.25")]])
    kernel = keras2gp.convert(model(), dtype="float64")
    plain = np.array([[1, 1, 2.5], [1.5, -4, 0.25]])
    np.testing.assert_array_equal(kernel.matrix(mixed), kernel.matrix(plain))
    found = gp.GPRegressor(kernel, noise_variance=0.1).fit(mixed, [1, 2]).predict(mixed)
    plainly = gp.GPRegressor(kernel, noise_variance=0.1).fit(plain, [1, 2]).predict(plain)
    np.testing.assert_array_equal(found, plainly)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (NA, r"1 values are not finite .* the first at \(0, 1\)"),
        (None, r"the first at \(0, 1\)"),
        (np.datetime64("NaT"), r"the first at \(0, 1\)"),
        ("2.0", r"no numbers: '2.0' at \(0, 1\)"),
        (b"2", "no numbers: b'2'"),
        (1j, "no numbers: 1j"),
        ([1.0, 2.0], r"no numbers: \[1.0, 2.0\]"),
        (np.datetime64("2024-01-01"), "no numbers: .*2024"),
        (2**53 + 1, "a number that float64 does not hold: 9007199254740993"),
        (10**400, "a number beyond float64"),
    ],
    ids=range(10),
)
def test_a_cell_that_is_no_number(value, words):
    rows = np.ones((2, 3), dtype=object)
    rows[0, 1] = value
    kernel = keras2gp.convert(model(), dtype="float64")
    with pytest.raises(InputError, match=words):
        kernel.matrix(Frame(rows))
    with pytest.raises(InputError, match="not finite" if "finite" in words else "number|finite"):
        gp.GPRegressor(kernel).fit(Frame(rows), [1.0, 2.0])


def test_labels_of_which_some_are_missing():
    kernel = keras2gp.convert(model(), dtype="float64")
    x = np.random.default_rng(0).normal(size=(8, 3))
    for one, other in (("a", "b"), (True, False), (3, 5)):
        y = np.array([one, other] * 4, dtype=object)
        expected = gp.GPClassifier(kernel, noise_variance=0.1).fit(x[:6], y[:6]).predict(x)
        y[6], y[7] = NA, None
        with pytest.raises(InputError, match=r'label, <NA>\. Try: missing="ignore"'):
            gp.GPClassifier(kernel, noise_variance=0.1).fit(x, y)
        found = gp.GPClassifier(kernel, noise_variance=0.1, missing="ignore").fit(x, y)
        assert found.predict(x).tolist() == expected.tolist()
    mixed = np.array([True, 3] * 4, dtype=object)
    with pytest.raises(InputError, match="neither whole numbers nor texts"):
        gp.GPClassifier(kernel, noise_variance=0.1).fit(x, mixed)


def test_two_columns_of_one_name():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table([np.ones(2), np.zeros(2)], names=["a", "a"])
    with pytest.raises(InputError, match="X: Expected unique column names, got: - 'a' 2 times"):
        gp.GPRegressor(RBF()).fit(table, [1.0, 2.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_integers_that_are_rounded(dtype):
    kernel = keras2gp.convert(model(), dtype=dtype)
    for wrong in (2**53 + 1, -(2**53) - 1, 2**63 - 1):
        with pytest.raises(InputError, match=rf"x1 holds a number that float64 .* is {wrong}"):
            kernel(np.array([[1, wrong, 2]]))
    with pytest.raises(InputError, match="float64 does not hold"):
        kernel(np.array([[1, 2**64 - 1, 2]], dtype="uint64"))
    held = np.array([[2**60, 1, 2]])
    np.testing.assert_array_equal(kernel(held), kernel(held.astype(float)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_variances_that_no_dtype_holds(dtype):
    kernel = keras2gp.convert(model(), overrides={"hidden": (1e-320, 0.0)}, dtype=dtype)
    with pytest.raises(NumericalError, match=f"least normal number of {dtype}.*Try: a larger"):
        kernel(X)


@pytest.mark.slow
def test_variances_beyond_a_table():
    tanh = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="tanh", **HE)])
    kernel = keras2gp.convert(keras.Sequential([tanh, layers.Dense(1, **HE)]), dtype="float64")
    with pytest.raises(NumericalError, match=r"expansions reach 1e12\. Try: smaller variances"):
        kernel(1e9 * X)


def test_masked_values_are_not_shown():
    masked = np.ma.masked_array(X, mask=[[0, 1, 0], [0, 0, 0]])
    kernel = keras2gp.convert(model())
    with pytest.raises(InputError, match="x1: 1 of its values are masked"):
        kernel(masked)
    np.testing.assert_array_equal(kernel(np.ma.masked_array(X)), kernel(X))
    with pytest.raises(InputError, match="masked"):
        keras2gp.GPRegressor(kernel).fit(masked, [0.0, 1.0])
    with pytest.raises(InputError, match="masked"):
        keras2gp.GPRegressor(kernel).fit(X, np.ma.masked_array([0.0, 1.0], mask=[0, 1]))
    with pytest.raises(InputError, match="masked"):
        keras2gp.GPClassifier(kernel).fit(X, np.ma.masked_array([0, 1], mask=[0, 1]))


def test_a_value_that_float32_cannot_hold_is_named():
    with pytest.raises(InputError, match=r"at \(1, 2\) \(counted from 0\) is 1e\+39.*float64"):
        keras2gp.convert(model())([[0.0, 0.0, 0.0], [0.0, 0.0, 1e39]])


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (gp.tempered_softmax, ([[np.nan, 0.0]], 1.0)),
        (gp.tempered_softmax, ([[1.0, 0.0]], 0.0)),
        (gp.tempered_softmax, ([[1.0, 0.0]], float("nan"))),
        (gp.fit_temperature, ([[1.0, 0.0]] * 3, [0, 1, 2])),
        (gp.fit_temperature, ([[1.0, 0.0]] * 3, [0, 1, -1])),
        (gp.fit_temperature, ([[np.inf, 0.0]] * 3, [0, 1, 0])),
        (gp.largest_probabilities, ([[0.0, 1.0]], [-1.0])),
        (gp.largest_probabilities, ([[0.0, 1.0]], [np.inf])),
        (gp.largest_probabilities, ([[0.0, np.nan]], [1.0])),
        (gp.expected_softmax, ([[0.0, 1.0]], [[1.0, -1.0]])),
        (gp.expected_softmax, ([[0.0, np.nan]], [[1.0, 1.0]])),
        (gp.expected_softmax, ([[0.0, 1.0]], [[1.0, 1e30]])),
        (gp.expected_softmax, ([], [])),
    ],
)
def test_probabilities_of_no_distribution(function, arguments):
    with pytest.raises(InputError):
        function(*arguments)


def test_probabilities_at_a_temperature_near_0():
    np.testing.assert_array_equal(gp.tempered_softmax([[1.0, 0.0]], 1e-320), [[1.0, 0.0]])


TRUTHS = {
    "return_std": lambda k, gp_, v: gp_.predict(X, return_std=v),
    "return_cov": lambda k, gp_, v: gp_.predict(X, return_cov=v),
    "observations": lambda k, gp_, v: gp_.predict(X, observations=v),
    "observations of draws": lambda k, gp_, v: gp_.sample_y(X, observations=v),
    "observations of intervals": lambda k, gp_, v: gp_.predict_interval(X, observations=v),
    "averaged": lambda k, gp_, v: LAPLACE.predict_proba(np.eye(2), averaged=v),
    "return_std of latent values": lambda k, gp_, v: LAPLACE.latent(np.eye(2), return_std=v),
    "logits": lambda k, gp_, v: keras2gp.empirical_kernel(model(), logits=v),
    "variance": lambda k, gp_, v: keras2gp.export(gp_, "exported", variance=v),
    "download": lambda k, gp_, v: data.load("sample", download=v),
    "maps": lambda k, gp_, v: data.load("sample", maps=v),
    "override": lambda k, gp_, v: keras2gp.dual("own_dual", override=v),
    "override of a reader": lambda k, gp_, v: keras2gp.reader("Own", override=v),
}
LAPLACE = gp.GPLaplace("precomputed", "bernoulli").fit(4.0 * np.eye(2), ["a", "b"])


@pytest.mark.parametrize("name", TRUTHS)
@pytest.mark.parametrize("value", [np.nan, 1, 0, None, "no", [], np.ones(2)], ids=range(7))
def test_what_is_neither_true_nor_false(name, value, fitted):
    with pytest.raises(InputError, match=f"{name.split(' ')[0]}=.*: expected True or False"):
        TRUTHS[name](*fitted, value)


def test_variances_and_matrices_that_are_not_used():
    """They may be those of something else: refused, or checked where they could be used."""
    k = 4.0 * np.eye(3)
    regressor = keras2gp.GPRegressor("precomputed", 0.1).fit(k, [0.0, 1.0, 2.0])
    classifier = keras2gp.GPClassifier("precomputed", 0.1).fit(k, [0, 1, 1])
    for predict in (regressor.predict, classifier.predict_proba, LAPLACE.latent):
        rows = k[:, :2] if predict == LAPLACE.latent else k
        predict(rows, diag=[4.0] * 3)
        with pytest.raises(InputError, match="diag"):
            predict(rows, diag=[4.0])
    by_kernel = keras2gp.GPRegressor(RBF(1.0), 0.1).fit(np.eye(3), [0.0, 1.0, 2.0])
    for asked in ({}, {"return_std": True}, {"return_cov": True}):
        with pytest.raises(InputError, match="this kernel computes its own"):
            by_kernel.predict(np.eye(3), diag=[1.0] * 3, **asked)
    with pytest.raises(InputError, match="gram is of use with noise_variance alone"):
        by_kernel.log_marginal_likelihood(gram=np.eye(3))


def test_a_matrix_beside_a_fit_that_holds_its_factor(tmp_path):
    fit = keras2gp.GPRegressor(RBF(1.0), 0.1).fit(np.eye(3), [0.0, 1.0, 2.0])
    gp.save_head(fit, tmp_path / "head")
    with pytest.raises(InputError, match="gram is not used"):
        gp.load_head(tmp_path / "head", RBF(1.0), gram=np.eye(3))


@pytest.mark.parametrize("missing", [[], np.ones(20), None, True, "no"], ids=range(5))
def test_a_setting_of_missing_labels_that_is_none(missing):
    for estimator in (keras2gp.GPRegressor, keras2gp.GPClassifier):
        with pytest.raises(InputError, match="missing="):
            estimator(RBF(1.0), 0.1, missing=missing).fit(np.eye(4), [0, 1, 0, 1])


def test_weights_beyond_float64():
    with pytest.raises(InputError, match="sample_weight holds values of type object"):
        keras2gp.GPRegressor(RBF(1.0), 0.1).fit(np.eye(2), [0, 1], sample_weight=10**400)


JUNK = [None, 3, True, 2.5, "x", b"x", [], {"a": 1}, np.ones(3), np.array(None), print, 1j, "a\0b"]
"""Values of every kind, of which an argument takes one at most."""


@pytest.fixture(scope="module")
def fitted():
    kernel = keras2gp.convert(model())
    return kernel, keras2gp.GPRegressor(kernel, noise_variance=0.1).fit(X, [0.0, 1.0])


CALLS = {
    "prior": lambda k, gp_, v: keras2gp.convert(model(), v),
    "output": lambda k, gp_, v: keras2gp.convert(model(), output=v),
    "tolerance": lambda k, gp_, v: keras2gp.convert(model(), tolerance=v),
    "activations": lambda k, gp_, v: keras2gp.convert(model(), activations=v),
    "dtype": lambda k, gp_, v: keras2gp.convert(model(), dtype=v),
    "get": lambda k, gp_, v: k(X, get=v),
    "changes": lambda k, gp_, v: k.with_parameters(v),
    "a kernel to load": lambda k, gp_, v: keras2gp.load(v),
    "a kernel of gram": lambda k, gp_, v: keras2gp.gram(v, X, progress=False),
    "a fit to load": lambda k, gp_, v: gp.load_head(v, k),
    "a kernel to tune": lambda k, gp_, v: keras2gp.optimize_variances(v, X, [0.0, 1.0]),
    "a variance": lambda k, gp_, v: keras2gp.LayerVariances(v),
    "widths": lambda k, gp_, v: keras2gp.verify(model(), k, widths=v),
    "a network": lambda k, gp_, v: zoo.build(v, (8, 8, 1)),
    "a shape": lambda k, gp_, v: zoo.build("convnet", v),
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_of_any_type(name, fitted, tmp_path, monkeypatch):
    """Each is taken or refused by keras2gp: no error of another kind."""
    monkeypatch.chdir(tmp_path)
    refused = 0
    for value in JUNK:
        with contextlib.suppress(keras2gp.Keras2GPError):
            refused += 1
            CALLS[name](*fitted, value)
            refused -= 1
    assert refused >= len(JUNK) // 2


@pytest.mark.parametrize(
    "value", [3, b"x", [], np.ones(3), "a\0b", "x" * 300, "/proc/no/one"], ids=range(7)
)
def test_places_that_are_none(value, fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kernel, regressor = fitted
    for write in (
        kernel.save,
        lambda place: keras2gp.export(regressor, place),
        lambda place: gp.save_head(regressor, place),
        lambda place: keras2gp.gram(kernel, X, out=place, progress=False),
    ):
        with pytest.raises(keras2gp.Keras2GPError):
            write(value)


def network_of(layer):
    hidden = layers.Dense(8, **HE), layer, layers.Dense(1, **HE)
    return keras.Sequential([keras.Input((3,)), *hidden])


@pytest.mark.parametrize(
    "layer",
    [
        layers.LeakyReLU(negative_slope=1e200),
        layers.ELU(alpha=1e200),
        layers.ReLU(max_value=1e200),
        layers.ReLU(threshold=1e160),
    ],
    ids=["slope", "alpha", "maximum", "threshold"],
)
def test_settings_without_a_square(layer):
    with pytest.raises(UnsupportedModelError, match="no finite square"):
        keras2gp.convert(network_of(layer), dtype="float64")


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_an_activation_that_is_constant(kind):
    """Its derivative is 0: both kernels are the variance of the last layer, times 9."""
    constant = layers.Activation(lambda u: 0 * u + 3.0)
    kernel = keras2gp.convert(network_of(constant), dtype="float64", kind=kind)
    np.testing.assert_allclose(kernel(X), np.full((2, 2), 18.0), rtol=1e-12)


def test_variances_below_float32():
    """As a constant of the model or as a parameter: 1e-60 is not 0, and float64 holds it."""
    small = network_of(layers.Rescaling(1e-30))
    with pytest.raises(UnsupportedModelError, match="below float32"):
        keras2gp.convert(small)
    expected = 1e-60 * np.asarray(
        keras2gp.convert(network_of(layers.Identity()), dtype="float64")(X)
    )
    np.testing.assert_allclose(keras2gp.convert(small, dtype="float64")(X), expected, rtol=1e-12)
    with pytest.raises(
        NumericalError,
        match=r"hidden: its weight variance 1e-60 is below the .* of float32.* dtype='float64'",
    ):
        keras2gp.convert(model()).with_parameters({"hidden": (1e-60, 0.0)})(X)
    nothing = keras2gp.convert(model()).with_parameters({"hidden": (0.0, 0.0)})
    np.testing.assert_array_equal(nothing(X), np.zeros((2, 2)))


def test_a_kernel_in_a_graph_of_tensorflow():
    """Refused before anything is traced; what was refused is right outside, and where it says."""
    kernel = keras2gp.convert(model(), dtype="float64")
    expected = keras2gp.convert(model(), dtype="float64").matrix(X)
    fit = gp.GPRegressor(kernel, noise_variance=0.1).fit(X, X[:, 0])
    finite = model()
    asked = {
        "kernel": lambda: kernel(X),
        "matrix": lambda: kernel.matrix(X),
        "diag": lambda: kernel.diag(X),
        "sum": lambda: (kernel + kernel).matrix(X),
        "gram": lambda: keras2gp.gram(kernel, X, progress=False),
        "predict": lambda: fit.predict(X),
        "conversion": lambda: keras2gp.convert(finite),
        "finite network": lambda: keras2gp.empirical_kernel(finite),
    }
    for name, ask in asked.items():
        with tf.Graph().as_default(), pytest.raises(InputError, match=r"within a tf\.function"):
            ask()
        with pytest.raises(InputError, match=r"outside of it, or in tf\.numpy_function"):
            tf.function(lambda ask=ask: ask() and None, autograph=False)()
        assert ask() is not None, name
    np.testing.assert_array_equal(kernel.matrix(X), expected)
    inside = tf.function(lambda: tf.numpy_function(lambda: kernel.matrix(X), [], tf.float64))()
    np.testing.assert_array_equal(inside, expected)
    for symbolic in (kernel.diag, fit.predict):
        with pytest.raises(InputError, match=r"symbolic tensor|within a tf\.function"):
            tf.function(symbolic, autograph=False)(tf.constant(X))
    for symbolic in (kernel.diag, fit.predict):
        with pytest.raises(InputError, match="symbolic tensor"):
            symbolic(keras.Input((3,)))


def test_remedies_that_would_lead_back():
    """Of weights that are not finite, and of models in which nothing is random."""
    broken = model()
    hidden = broken.get_layer("hidden")
    hidden.kernel.assign(np.full(hidden.kernel.shape, np.inf))
    with pytest.raises(UnsupportedModelError, match=r"not finite.*other weights, prior='init"):
        keras2gp.convert(broken, prior="weights")
    with pytest.raises(InputError, match="on the data, up to hidden, give values that are not fin"):
        keras2gp.convert(broken, trained_until="hidden").matrix(X)
    for empty in (keras.Sequential(), keras.Sequential([keras.Input((3,))])):
        with pytest.raises(UnsupportedModelError, match="has no layers, and so no weights"):
            keras2gp.convert(empty)
    with pytest.raises(UnsupportedModelError, match="is not built"):
        keras2gp.convert(keras.Sequential([layers.Dense(1)]))


LARGE = {
    "upsampling": ("UpSampling2D", {"size": [10**6, 10**6]}),
    "resizing": ("Resizing", {"height": 10**7, "width": 10**7}),
    "a window": ("Conv2D", {"filters": 1, "kernel_size": 10**9, "padding": "same"}),
    "a dilation": (
        "Conv2D", {"filters": 1, "kernel_size": 2, "dilation_rate": 10**9, "padding": "same"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_sizes_of_maps_are_bounded(name, tmp_path):
    """A file of 2 kB takes neither minutes nor gigabytes."""
    layer, settings = LARGE[name]
    path = tmp_path / "m.json"
    path.write_text(json.dumps(behind(layer, **settings)))
    with pytest.raises(keras2gp.Keras2GPError, match="positions"):
        keras2gp.convert(path)(np.ones((1, 6, 6, 2)))


@pytest.mark.parametrize(
    ("layer", "setting", "value"),
    [
        ("LayerNormalization", "epsilon", "a"),
        ("ELU", "alpha", "x"),
        ("LeakyReLU", "negative_slope", [0.1]),
        ("ReLU", "threshold", {"a": 1}),
    ],
)
def test_something_else_in_the_place_of_a_number(layer, setting, value, tmp_path):
    path = tmp_path / "m.json"
    path.write_text(json.dumps(behind(layer, **{setting: value})))
    with pytest.raises(keras2gp.Keras2GPError, match=f"{setting}|cannot build it"):
        keras2gp.convert(path)


def test_updates_of_low_rank_that_do_not_fit(tmp_path):
    path = configured(tmp_path / "m.json", "hidden", lora_rank=10**12)
    with pytest.raises(ModelFileError, match="low-rank updates of hidden needs"):
        keras2gp.convert(path)


def test_a_variance_below_float64(tmp_path):
    for stddev in (1e-200, 0.0):
        path = configured(tmp_path / "m.json", "hidden", kernel_initializer=normal(stddev=stddev))
        if stddev:
            with pytest.raises(UnsupportedModelError, match="a variance below float64"):
                keras2gp.convert(path)
        else:
            np.testing.assert_array_equal(keras2gp.convert(path)(X), np.zeros((2, 2)))


def test_complex_weights(tmp_path):
    source, target = tmp_path / "a.keras", tmp_path / "b.keras"
    model().save(source)
    with zipfile.ZipFile(source) as archive:
        archive.extractall(tmp_path / "a")
    with h5py.File(tmp_path / "a" / "model.weights.h5", "r+") as file:
        found = []
        file.visititems(lambda name, item: found.append(name) if hasattr(item, "dtype") else None)
        shape = file[found[0]].shape
        del file[found[0]]
        file[found[0]] = np.full(shape, 1j)
    with zipfile.ZipFile(target, "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.write(tmp_path / "a" / name, name)
    with pytest.raises(ModelFileError, match="holds complex numbers"):
        keras2gp.convert(target, "weights")


def test_inputs_that_vanish_in_float32():
    kernel = keras2gp.convert(model())
    with pytest.raises(
        InputError, match=r"image 1 \(counted from 0\) are up to 3e-60, which is 0 in float32"
    ):
        kernel([[0.0, 0.0, 0.0], [1e-60, 3e-60, 0.0]])
    np.testing.assert_array_equal(kernel(np.zeros((2, 3))), np.zeros((2, 2)))
    tiny = np.array([[1e-60, 0.0, 0.0]])
    assert keras2gp.convert(model(), dtype="float64")(tiny)[0, 0] > 0.0


def test_an_array_that_raises():
    class Raises:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("it requires a gradient")

    with pytest.raises(InputError, match="it requires a gradient"):
        keras2gp.convert(model())(Raises())


def test_more_images_than_memory_holds():
    with pytest.raises(InputError, match="10000000000 images in float64 needs"):
        keras2gp.convert(model(), dtype="float64")(np.broadcast_to(1.0, (10**10, 3)))


def test_a_network_of_the_zoo_for_images_of_a_million_rows():
    with pytest.raises(InputError, match=r"zoo:convnet of images .* needs .* TiB"):
        zoo.build("convnet", (10**6, 10**6, 1))


def test_numbers_with_underscores_are_text(tmp_path):
    """Python reads 1_0 as 10; a label of that name is none."""
    (tmp_path / "d.csv").write_text("x,y\n1,1_0\n2,2_0\n")
    assert data.load(str(tmp_path / "d.csv")).y_train.tolist() == ["1_0", "2_0"]


def test_a_matrix_of_more_images_than_a_disk_holds(tmp_path, monkeypatch):
    """Refused before the images are prepared."""
    monkeypatch.chdir(tmp_path)
    kernel = keras2gp.convert(model())
    many = np.broadcast_to(np.float32(1.0), (10**9, 3))
    for out in (None, "K.zarr"):
        with pytest.raises(StoreError, match="1000000000 x 1000000000"):
            keras2gp.gram(kernel, many, out=out, progress=False)
    assert not list(tmp_path.iterdir())


def test_kernels_of_an_ensemble_that_are_not_symmetric():
    kernel = keras2gp.convert(model(), dtype="float64")
    both = np.array(kernel(X, get="both"))
    both[0, 0, 1] += 0.5
    with pytest.raises(InputError, match="symmetric"):
        gp.TrainedEnsemble(kernel, 1.0).fit(X, [0.0, 1.0], gram=both)
