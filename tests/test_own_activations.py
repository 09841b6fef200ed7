"""Functions of the user's own as activations: in models, in files, stated, saved and loaded."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from oracles import naive as oracle
from oracles import quadrature

import keras2gp
from keras2gp.covariance import registry
from keras2gp.errors import InputError, ModelFileError, UnsupportedModelError

HE = {"kernel_initializer": "he_normal"}


@keras.saving.register_keras_serializable("tests")
def wavy(x):
    return ops.tanh(2 * x) + 0.1 * x


def leaky(x):
    return tf.where(x > 0, x, 0.25 * x)


def mixing(x):
    return x - ops.mean(x)


def network(activation, *, layer=False):
    x = keras.Input((6,))
    h = layers.Dense(8, name="hidden", activation=None if layer else activation, **HE)(x)
    if layer:
        h = layers.Activation(activation)(h)
    return keras.Model(x, layers.Dense(2, name="head", **HE)(h))


def expected(f, x, w2=2.0):
    k = w2 * x @ x.T / x.shape[1]
    q = k.diagonal()
    values = [
        [quadrature.pair(f, (), min(k[i, j], (q[i] * q[j]) ** 0.5), q[i], q[j]) for j in range(4)]
        for i in range(4)
    ]
    return 2.0 * np.array(values)


def in_numpy(f):
    return lambda u: np.asarray(f(tf.constant(u, tf.float64)))


@pytest.fixture
def x(rng):
    return rng.normal(size=(4, 6))


@pytest.mark.parametrize("layer", [False, True])
def test_a_function_that_the_model_holds(layer, x):
    kernel = keras2gp.convert(network(wavy, layer=layer), dtype="float64")
    np.testing.assert_allclose(kernel(x), expected(in_numpy(wavy), x), rtol=2e-5)
    (note,) = kernel.report.notes
    assert note.startswith("wavy (own) expanded to degree")
    assert any("wavy (own)" in row.became for row in kernel.report.rows)


def test_corners_at_zero_are_found_and_exact(x):
    kernel = keras2gp.convert(network(leaky), dtype="float64")
    k = 2.0 * x @ x.T / 6
    q1, q2 = np.broadcast_arrays(k.diagonal()[:, None], k.diagonal()[None, :])
    slope = oracle.dual_activation("leaky_relu", 0.25, k, q1, q2)
    np.testing.assert_allclose(kernel(x), 2 * slope, rtol=1e-8)


def test_corners_elsewhere_are_found_or_stated(x):
    def clipped(u):
        return tf.minimum(tf.maximum(u, -1.5), 2.0)

    dual = keras2gp.Expanded(clipped, kinks=(0.7,))
    assert dual.kinks == (-1.5, 0.7, 2.0)
    kernel = keras2gp.convert(network(clipped), dtype="float64")
    np.testing.assert_allclose(kernel(x), expected(in_numpy(clipped), x), rtol=1e-2)
    assert "at no variance" in kernel.report.notes[0] or "1e-06 up to" in kernel.report.notes[0]


def test_the_tangent_kernel_of_an_own_function(x):
    kernel = keras2gp.convert(network(wavy), dtype="float64", kind="ntk")

    def slope(u):
        u = tf.constant(u, tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(u)
            y = wavy(u)
        return np.asarray(tape.gradient(y, u))

    k = 2.0 * x @ x.T / 6
    theta = expected(in_numpy(wavy), x) + expected(slope, x) * k
    np.testing.assert_allclose(kernel(x), theta, rtol=1e-4)


def test_a_covariance_that_is_stated(x):
    class Twice(keras2gp.Dual):
        """2 u."""

        def covariance(self, c, s1, s2):
            return 4 * c

        def mean(self, q):
            return tf.zeros_like(q)

    model = network(wavy)
    for activations in ({wavy: Twice()}, {"wavy": Twice()}):
        kernel = keras2gp.convert(model, dtype="float64", activations=activations)
        np.testing.assert_allclose(kernel(x), 2 * 4 * 2 * x @ x.T / 6, rtol=1e-12)


def test_a_function_of_the_data_is_run_as_it_is(rng):
    x = keras.Input((4, 3))
    h = keras.layers.Activation(lambda t: 2 * keras.ops.erf(t))(x)
    h = keras.layers.Flatten()(h)
    model = keras.Model(x, keras.layers.Dense(2, kernel_initializer="he_normal")(h))
    images = rng.normal(size=(5, 4, 3))
    z = model.layers[1](images).numpy().reshape(5, -1)
    kernel = keras2gp.convert(model, dtype="float64")
    np.testing.assert_allclose(kernel(images), 2 / 12 * z @ z.T, rtol=1e-6)


def test_a_file_is_data_and_the_mapping_is_the_user_s_word(x, tmp_path):
    file = tmp_path / "model.keras"
    model = network(wavy)
    model.save(file)
    with pytest.raises(UnsupportedModelError, match=r"wavy.*activations="):
        keras2gp.convert(file)
    assert not keras2gp.inspect(file).exact
    direct = keras2gp.convert(model, dtype="float64")
    assert keras2gp.inspect(file, activations={"wavy": wavy}).exact
    assert keras2gp.inspect(file, activations={wavy: wavy}).exact
    kernel = keras2gp.convert(file, dtype="float64", activations={"tests>wavy": wavy})
    np.testing.assert_array_equal(kernel(x), direct(x))
    other = keras2gp.convert(file, dtype="float64", activations={"wavy": ops.tanh})
    np.testing.assert_allclose(other(x), expected(np.tanh, x), rtol=2e-5)


def test_what_a_file_names_is_never_run(tmp_path):
    """Even with a mapping, other names in the file are looked up nowhere."""
    calls = []

    @keras.saving.register_keras_serializable("tests")
    def trap(x):
        calls.append(1)
        return x

    file = tmp_path / "model.keras"
    network(trap, layer=True).save(file)
    calls.clear()
    with pytest.raises(UnsupportedModelError, match="trap"):
        keras2gp.convert(file, activations={"wavy": wavy})
    text = tmp_path / "model.json"
    config = json.loads(network("tanh").to_json())
    config["config"]["layers"][1]["config"]["activation"] = {
        "module": "os", "class_name": "function", "config": "system", "registered_name": "system",
    }  # fmt: skip
    text.write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match="system"):
        keras2gp.convert(text, activations={"wavy": wavy})
    assert keras2gp.convert(text, activations={"system": wavy}).report.exact
    assert not calls


def test_saved_kernels_ask_for_the_function_again(x, tmp_path, monkeypatch):
    kernel = keras2gp.convert(network(wavy), dtype="float64")
    kernel.save(tmp_path / "kernel")
    values = np.asarray(kernel(x))
    served = tf.saved_model.load(str(tmp_path / "kernel")).signatures["serving_default"]
    same = served(x1=tf.constant(x), x2=tf.constant(x))["matrix"]
    np.testing.assert_allclose(same, values, rtol=1e-12)
    monkeypatch.setattr(registry, "_OWN", {})  # as in another process
    with pytest.raises(ModelFileError, match=r"wavy is a function of your own.*activations="):
        keras2gp.load(tmp_path / "kernel")
    with pytest.raises(ModelFileError, match="wavy"):
        keras2gp.load(tmp_path / "kernel", activations={"wavy": ops.tanh})
    loaded = keras2gp.load(tmp_path / "kernel", activations={"wavy": wavy})
    np.testing.assert_array_equal(loaded(x), values)
    assert loaded.report.notes == kernel.report.notes


def test_a_dual_registered_from_outside(x, monkeypatch):
    monkeypatch.setattr(registry, "_DUALS", dict(registry._DUALS))

    @keras2gp.dual("wavy")
    class Wavy(keras2gp.Hermite):
        """tanh(2 u) + u / 10, expanded."""

        def phi(self, u):
            return tf.tanh(2 * u) + 0.1 * u

    kernel = keras2gp.convert(network(wavy), dtype="float64")
    np.testing.assert_allclose(kernel(x), expected(in_numpy(wavy), x), rtol=2e-5)
    assert kernel.report.notes[0].startswith("wavy expanded")


def test_an_own_function_of_a_known_name_is_not_taken_for_keras_s(x):
    def relu(u):
        return ops.tanh(u)

    own = keras2gp.convert(network(relu), dtype="float64")
    np.testing.assert_allclose(own(x), expected(np.tanh, x), rtol=2e-5)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (mixing, "mixes them"),
        (lambda u: u + tf.random.normal(tf.shape(u), dtype=u.dtype), "at every call"),
        (lambda u: tf.where(u > 0.3, 1.0 + u, u), "jumps at 0.3"),
        (tf.math.log, "not finite"),
        (lambda u: u + tf.constant(1.0, tf.float32), "float64"),
        (np.sin, "cannot be run"),
    ],
)
def test_functions_that_have_no_expansion(function, why):
    with pytest.raises(InputError, match=why):
        keras2gp.Expanded(function)
    with pytest.raises(InputError, match=why):
        keras2gp.convert(network(wavy), activations={"wavy": function})


@pytest.mark.parametrize("kinks", [3, "abc", [np.nan], [None]])
def test_kinks_are_finite_numbers(kinks):
    with pytest.raises(InputError, match="kinks="):
        keras2gp.Expanded(wavy, kinks=kinks)


def test_a_function_without_a_second_moment_is_refused_by_that_name():
    with pytest.raises(UnsupportedModelError, match="mean square is infinite"):
        keras2gp.convert(network(wavy), activations={"wavy": lambda u: tf.exp(u * u)})


def test_a_function_without_expansion_is_an_obstacle_of_its_layer():
    with pytest.raises(UnsupportedModelError, match=r"hidden \(Dense.*mixes them"):
        keras2gp.convert(network(mixing))


@pytest.mark.parametrize("activations", [{3: wavy}, {"wavy": 3}, {"wavy": keras2gp.Hermite}])
def test_mappings_that_say_nothing(activations):
    with pytest.raises(InputError, match="activations"):
        keras2gp.convert(network(wavy), activations=activations)


def test_two_functions_of_one_name_are_two_activations(x):
    def make(scale):
        def f(u):
            return ops.tanh(scale * u)

        return f

    first, second = (keras2gp.convert(network(make(s)), dtype="float64") for s in (1.0, 3.0))
    np.testing.assert_allclose(first(x), expected(np.tanh, x), rtol=2e-5)
    np.testing.assert_allclose(second(x), expected(lambda u: np.tanh(3 * u), x), rtol=2e-3)


def test_a_function_that_overflows_is_refused_where_it_does(x):
    kernel = keras2gp.convert(network(ops.sinh), dtype="float64")
    np.testing.assert_allclose(kernel(x), expected(np.sinh, x), rtol=1e-5)
    with pytest.raises(keras2gp.errors.NumericalError):
        kernel(1e3 * x)


@pytest.mark.parametrize("name", ["abs", "cos", "erf", "exp", "sin", "square"])
def test_functions_of_keras_that_have_a_closed_form_are_not_expanded(name):
    report = keras2gp.convert(network(getattr(ops, name))).report
    assert not any("expanded" in note for note in report.notes)


def raises(_):
    raise ValueError("in my code")


DUALS = {
    "it raises": (raises, "its own code does not run: ValueError: in my code"),
    "no tensor": (lambda u: None, "its own code does not run"),
    "no number": (lambda u: u * np.nan, "its own code does not run"),
    "the sum of all": (tf.reduce_sum, "its own code does not run"),
    "no second moment": (lambda u: tf.exp(u * u), "its mean square is infinite"),
    "beyond float64": (lambda u: 1e300 * u, "its mean square is infinite"),
    "as steep as 1e7": (
        lambda u: tf.math.log(tf.clip_by_value(u, 1e-7, 1e4)),
        "no series of it is exact to the stated error.*less steep",
    ),
}


@pytest.mark.parametrize("case", DUALS)
@pytest.mark.parametrize("registered", [False, True])
def test_duals_that_cannot_be_used(case, registered, monkeypatch):
    """Registered or stated: the layer and the reason are named, and no number comes out."""
    phi, why = DUALS[case]

    class Own(keras2gp.Hermite):
        def phi(self, u):
            return phi(u)

    def own_dual(u):
        return u

    stated = {} if registered else {own_dual: Own()}
    if registered:
        monkeypatch.setitem(registry._DUALS, "own_dual", Own)
    with pytest.raises(UnsupportedModelError, match=f"hidden.*{why}"):
        keras2gp.convert(network(own_dual), activations=stated)


def test_duals_whose_arguments_are_not_stated(monkeypatch):
    class Asks(keras2gp.Hermite):
        def __init__(self, slope):
            super().__init__()
            self.slope = slope

    def own_dual(u):
        return u

    monkeypatch.setitem(registry._DUALS, "own_dual", Asks)
    with pytest.raises(UnsupportedModelError, match=r"hidden.*TypeError.*'slope'"):
        keras2gp.convert(network(own_dual))


def test_a_dual_without_a_mean_is_used_where_none_is_needed(x):
    class Twice(keras2gp.Dual):
        def covariance(self, c, s1, s2):
            return 4 * c

    def own_dual(u):
        return 2 * u

    kernel = keras2gp.convert(network(own_dual), activations={own_dual: Twice()}, dtype="float64")
    np.testing.assert_allclose(kernel(x), 16 * x @ x.T / 6, rtol=1e-12)
    inputs = keras.Input((6,))
    h = layers.Add()([layers.Dense(8, activation=own_dual, name=n, **HE)(inputs) for n in "ab"])
    model = keras.Model(inputs, layers.Dense(2, **HE)(h))
    with pytest.raises(UnsupportedModelError, match=r"its mean, .* not stated\. Try: a Dual with"):
        keras2gp.convert(model, activations={own_dual: Twice()})


def test_a_function_that_sums_is_told_of():
    with pytest.raises(InputError, match="it does not act on each number by itself"):
        keras2gp.Expanded(tf.reduce_sum)


def of_float32(u):
    return tf.add(tf.constant(1.0), tf.nn.elu(u))


AT_THE_OUTPUT = {
    "elu + 1": lambda u: ops.elu(u) + 1.0,
    "a constant of float32": of_float32,
    "softplus": lambda u: ops.softplus(u) + 1e-3,
    "exp of tensorflow": tf.exp,
    "2 sigmoid - 1": lambda u: 2.0 * ops.sigmoid(u) - 1.0,
    "softmax of tensorflow": tf.nn.softmax,
    "softmax with its axis": lambda u: keras.activations.softmax(u, axis=-1),
}


@pytest.mark.parametrize("name", AT_THE_OUTPUT)
@pytest.mark.parametrize("layer", [False, True])
def test_a_function_at_the_output_is_left_out_by_its_calls(name, layer, x):
    """One of several heads, which tells its range: the kernel is of its argument."""

    def heads(activation):
        inputs = keras.Input((6,))
        h = layers.Dense(8, activation="relu", **HE)(inputs)
        head = layers.Dense(2, activation=None if layer else activation, name="head", **HE)(h)
        if layer and activation is not None:
            head = layers.Activation(activation)(head)
        return keras.Model(inputs, layers.Concatenate()([layers.Dense(1, **HE)(h), head]))

    kernel = keras2gp.convert(heads(AT_THE_OUTPUT[name]), dtype="float64")
    plain = keras2gp.convert(heads(None), dtype="float64")
    for kind in ("nngp", "ntk"):
        found, expected = (k(x, get=kind, positions="all") for k in (kernel, plain))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert "at the output" in " ".join(kernel.report.notes)


def test_a_head_alone_is_told_by_its_calls(x):
    for function in (lambda u: 2 * ops.tanh(u), tf.sigmoid, tf.nn.softmax):
        model = network("relu")
        model = keras.Model(model.inputs, layers.Activation(function)(model.outputs[0]))
        plain = keras2gp.convert(network("relu"), dtype="float64")
        np.testing.assert_array_equal(keras2gp.convert(model, dtype="float64")(x), plain(x))
    model = network("relu")
    model = keras.Model(model.inputs, layers.Activation(of_float32)(model.outputs[0]))
    with pytest.raises(UnsupportedModelError, match="ends in an activation"):
        keras2gp.convert(model)


def test_a_function_that_cannot_be_expanded_is_read_by_its_calls(x):
    """Its constant is of float32; elu + 1 by its closed form."""
    kernel = keras2gp.convert(network(of_float32), dtype="float64")
    expected_values = expected(lambda u: np.where(u > 0, u, np.expm1(np.minimum(u, 0))) + 1, x)
    np.testing.assert_allclose(kernel(x), expected_values, rtol=1e-9)
    rows = {row.path: row.became for row in kernel.report.rows}
    assert rows["hidden"] == "dense, a function of its own"
    assert rows["hidden/elu"] == "elu"


def test_a_function_within_a_nested_model_is_read_by_its_calls(x):
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation=lambda u: ops.elu(u) + 1, **HE)]
    )
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2, **HE)(inner(inputs)))
    kernel = keras2gp.convert(model, dtype="float64")
    expected_values = expected(lambda u: np.where(u > 0, u, np.expm1(np.minimum(u, 0))) + 1, x)
    np.testing.assert_allclose(kernel(x), expected_values, rtol=1e-9)
