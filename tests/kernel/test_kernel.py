"""The kernel object: what it takes, refuses, keeps and writes."""

import copy
import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import keras2gp
from keras2gp._util import memory
from keras2gp.errors import InputError, NumericalError, PriorError

HE = {"kernel_initializer": "he_normal"}


def network(*before, shape=(5, 4, 2)):
    return keras.Sequential([
        keras.Input(shape, name="image"), *before,
        layers.Conv2D(4, 2, activation="relu", name="conv", **HE),
        layers.BatchNormalization(), layers.Flatten(), layers.Dense(3, name="out", **HE),
    ])  # fmt: skip


@pytest.fixture(scope="module")
def kernel():
    return keras2gp.convert(network())


@pytest.fixture(scope="module")
def double():
    return keras2gp.convert(network(layers.Rescaling(0.5)), dtype="float64")


@pytest.fixture(scope="module")
def pair():
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    h = layers.Add()([layers.Dense(8, **HE)(a), layers.Dense(8, **HE)(b)])
    return keras2gp.convert(keras.Model([a, b], layers.Dense(1, **HE)(layers.ReLU()(h))))


IMAGES = np.random.default_rng(5).normal(size=(6, 5, 4, 2)).astype("float32")


def with_value(value):
    x = IMAGES.copy()
    x[2, 1, 0, 1] = value
    return x


BAD = {
    "NaN pixel": (with_value(np.nan), r"not finite.*\(2, 1, 0, 1\)"),
    "infinite pixel": (with_value(np.inf), "not finite"),
    "float64 beyond float32": (IMAGES.astype("float64") * 1e300, "float32 cannot hold"),
    "long double": (IMAGES * np.longdouble("1e4000"), r"e\+\d{4}, which .* of another unit$"),
    "wrong shape": (IMAGES[..., :1], "received shape"),
    "one image": (IMAGES[0], "received shape"),
    "a number": (3.0, "received shape"),
    "flat of another length": (np.ones((2, 41)), "received shape"),
    "uint8": ((IMAGES * 9).astype("uint8"), "uint8"),
    "empty": (IMAGES[:0], "no images"),
    "text": (np.full((2, 5, 4, 2), "x"), "real numbers"),
    "one text": ("x", "real numbers"),
    "complex": (IMAGES + 1j, "real numbers"),
    "objects": (np.full((2, 5, 4, 2), None), "real numbers"),
    "ragged": ([[1.0], [1.0, 2.0]], "not an array"),
    "None in a dict": ({"other": IMAGES}, "no array for the inputs"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_refused(name, kernel):
    x, why = BAD[name]
    for call in (
        lambda: kernel(x),
        lambda: kernel(IMAGES, x),
        lambda: kernel.diag(x),
    ):
        with pytest.raises(InputError, match=why):
            call()


def test_good_images_in_other_types(kernel):
    expected = np.asarray(kernel(IMAGES))
    import tensorflow as tf

    for x in (IMAGES.reshape(6, -1), tf.constant(IMAGES), IMAGES.tolist(), {"image": IMAGES}):
        np.testing.assert_allclose(kernel(x), expected, rtol=1e-6)
    integers = np.arange(40).reshape(1, 5, 4, 2)
    np.testing.assert_array_equal(kernel(integers), kernel(integers.astype("float32")))


def test_several_inputs(pair, rng):
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(3, 3))
    np.testing.assert_array_equal(pair([a, b]), pair({"b": b, "a": a}))
    bad = [a, [a], [a, b, b], [b, a], {"a": a}, [a, b[:2]], np.stack([a, a])]
    for x in bad:
        with pytest.raises(InputError):
            pair(x)
    for place, value in ((0, [a * np.nan, b]), (1, [a, b.astype("uint8")])):
        with pytest.raises(InputError):
            pair(value)
        del place


@pytest.mark.parametrize("sizes", [(1, 1), (3, 70), (70, 3), (130, 17), (257, 1), (1, 600)])
def test_ragged_sizes(sizes, kernel, rng):
    x1, x2 = (rng.normal(size=(n, 5, 4, 2)) for n in sizes)
    result = np.asarray(kernel(x1, x2))
    assert result.shape == sizes
    rows = np.linspace(0, sizes[0] - 1, 3).astype(int)
    columns = np.linspace(0, sizes[1] - 1, 3).astype(int)
    picked = kernel(x1[rows], x2[columns])
    np.testing.assert_allclose(result[np.ix_(rows, columns)], picked, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 17, 130, 600])
def test_symmetric_sizes(count, kernel, rng):
    x = rng.normal(size=(count, 5, 4, 2))
    result = np.asarray(kernel(x))
    np.testing.assert_array_equal(result, result.T)
    np.testing.assert_allclose(result, kernel(x, x), rtol=0, atol=1e-5 * result.max())
    np.testing.assert_allclose(result.diagonal(), kernel.diag(x), rtol=1e-6)


def test_types(kernel, double):
    assert kernel(IMAGES).dtype == "float32"
    assert double(IMAGES).dtype == "float64"
    assert double.diag(IMAGES).dtype == "float64"
    assert (kernel.dtype, double.dtype) == ("float32", "float64")
    assert "conv" not in repr(kernel)
    assert "2 layers" in repr(kernel)


def test_parameters_are_a_copy(kernel):
    kernel.parameters.clear()
    assert list(kernel.parameters) == ["conv", "out"]
    assert kernel.parameters["conv"].weight == pytest.approx(2.0)


CHANGES = [
    {"out": (6.0, 0.0)}, {"out": {"weight": 6.0}}, {"out": keras2gp.LayerVariances(6.0, 0.0)},
]  # fmt: skip


@pytest.mark.parametrize("changes", CHANGES)
def test_with_parameters_changes_the_values(changes, kernel):
    changed = kernel.with_parameters(changes)
    np.testing.assert_allclose(changed(IMAGES), 3 * np.asarray(kernel(IMAGES)), rtol=1e-6)
    assert kernel.parameters["out"].weight == pytest.approx(2.0)
    biased = kernel.with_parameters({"out": {"bias": 0.5}})
    np.testing.assert_allclose(biased(IMAGES), 0.5 + np.asarray(kernel(IMAGES)), rtol=1e-5)


@pytest.mark.usefixtures("traced")
def test_with_parameters_compiles_nothing(kernel):
    kernel(IMAGES)
    traced = kernel._program.cross, kernel._program.statistics
    before = [f.experimental_get_tracing_count() for f in traced]
    for weight in (0.0, 0.5, 3.0):
        kernel.with_parameters({"conv": (weight, 1.0)})(IMAGES)
    assert [f.experimental_get_tracing_count() for f in traced] == before
    assert min(before) > 0


@pytest.mark.parametrize("changes", [
    {"other": (1.0, 0.0)}, {"out": 3.0}, {"out": (1.0,)}, {"out": {"weights": 1.0}}, {"out": "ab"},
    {"out": {"weight": -1.0}}, {"out": (np.nan, 0.0)}, {"out": None}, {"out": {"weight": None}},
])  # fmt: skip
def test_parameters_that_are_none(changes, kernel):
    with pytest.raises(PriorError):
        kernel.with_parameters(changes)


def test_overflow_is_an_error_and_not_a_number(kernel):
    large = kernel.with_parameters({"conv": (1e38, 0.0), "out": (1e38, 0.0)})
    with pytest.raises(NumericalError, match="variances grow beyond"):
        large(IMAGES)
    with pytest.raises(NumericalError):
        large.diag(IMAGES)


def test_preprocessing_that_gives_nan_is_an_error():
    kernel = keras2gp.convert(network(layers.Rescaling(1e38), layers.Rescaling(1e38)))
    with pytest.raises(InputError, match="that Keras runs on the data, up to rescaling"):
        kernel(IMAGES)


# --- copies and memory ---


def slope(u):
    """An activation that is not Keras's, in a module that can be imported."""
    return keras.ops.maximum(u, 0.25 * u)


def adapted():
    layer = layers.Normalization(axis=None)
    layer.adapt(IMAGES)
    return layer


def copies_of(value):
    yield pickle.loads(pickle.dumps(value))  # noqa: S301 (made in the line)
    yield copy.copy(value)
    yield copy.deepcopy(value)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_copies_are_the_same_kernel(dtype, kind):
    original = keras2gp.convert(network(adapted()), dtype=dtype, kind=kind)
    original = original.with_parameters({"out": (0.7, 0.1)})
    expected = original.matrix(IMAGES)
    for copied in copies_of(original):
        np.testing.assert_array_equal(copied.matrix(IMAGES), expected)
        np.testing.assert_array_equal(copied.diag(IMAGES), original.diag(IMAGES))
        assert copied.parameters == original.parameters
        assert (copied.graph, copied.kind, copied.dtype) == (original.graph, kind, dtype)
        assert str(copied.report) == str(original.report)


def test_a_copy_compiles_nothing(kernel):
    assert copy.deepcopy(kernel).program is kernel.program


LOAD = "import pickle, sys; print(repr(pickle.load(open(sys.argv[1], 'rb')).matrix([[1.0, 2.0]])))"


@pytest.mark.parametrize("activation", [slope, lambda u: 0.5 * slope(u)])
def test_own_activations_in_another_process(activation, tmp_path):
    """A function of a module travels with the kernel; any other is asked for in plain words."""
    model = keras.Sequential([
        keras.Input((2,)), layers.Dense(8, activation=activation), layers.Dense(1),
    ])  # fmt: skip
    kernel = keras2gp.convert(model, dtype="float64")
    (tmp_path / "kernel.pickle").write_bytes(pickle.dumps(kernel))
    paths = [str(Path(__file__).parent), str(Path(keras2gp.__file__).parents[1])]
    run = subprocess.run(  # noqa: S603 (this interpreter, the text above)
        [sys.executable, "-c", LOAD, str(tmp_path / "kernel.pickle")],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    if activation is slope:
        assert run.stdout.strip() == repr(kernel.matrix([[1.0, 2.0]])), run.stderr
    else:
        assert "can be imported" in run.stderr.splitlines()[-1]


def test_a_matrix_beyond_the_memory_is_refused(kernel, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2**25)
    assert kernel(IMAGES[:4]).shape == (4, 4)
    x = np.zeros((3000, 5, 4, 2))
    for call in (
        lambda: kernel(x),
        lambda: kernel(x[:2800], x),
        lambda: kernel(x[:2100], get="both"),
    ):
        with pytest.raises(InputError, match=r"needs 3.* MiB is available.*out='K\.zarr'"):
            call()


@pytest.mark.parametrize("before", [
    [layers.UpSampling2D(9)],
    [layers.UpSampling2D(9), layers.Rescaling(2.0), layers.AveragePooling2D(9)],
])  # fmt: skip
def test_images_beyond_the_memory_are_refused(before, monkeypatch):
    """What the deterministic layers give, and what they hold on the way."""
    kernel = keras2gp.convert(network(*before))
    monkeypatch.setattr(memory, "available_memory", lambda: 10**6)
    assert kernel.diag(IMAGES[:1]).shape == (1,)
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    with pytest.raises(InputError, match=r"60 images behind the layers.*smaller size"):
        kernel.diag(np.concatenate([IMAGES] * 10))


def test_deterministic_layers_beyond_the_memory_are_not_run(monkeypatch):
    model = network(layers.UpSampling2D(9))
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 10**4)
    with pytest.raises(InputError, match=r"before the first weights.*smaller size"):
        keras2gp.convert(model)


@pytest.mark.usefixtures("traced")
def test_a_kernel_that_is_given_up_leaves_no_graph():
    """TensorFlow keeps what holds a custom gradient: 40 to 120 MB for each model of a search."""

    def graphs():
        gc.collect()
        return sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects())

    def used():
        x = keras.Input((4, 4, 2))
        h = keras.layers.Conv2D(3, 3, activation="relu")(x)
        h = keras.layers.AveragePooling2D(2)(keras.layers.Conv2D(3, 1, activation="gelu")(h))
        h = keras.ops.erf(keras.layers.Dense(3)(keras.layers.Flatten()(h)))
        kernel = keras2gp.convert(keras.Model(x, keras.layers.Dense(1)(h)))
        kernel(np.ones((2, 4, 4, 2)), get="both")
        return kernel

    used()
    before = graphs()  # those of conditions by dtype, which all kernels share
    kernel = used()
    assert graphs() > before
    del kernel
    assert graphs() == before
