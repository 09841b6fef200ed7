"""Ways to put a model together: all of them give the kernel of the same network."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras2gp
from keras2gp.errors import InputError, UnsupportedModelError

HE = {"kernel_initializer": "he_normal"}


def matrix(model, x, **settings):
    return np.asarray(keras2gp.convert(model, dtype="float64", **settings)(x))


def plain():
    return keras.Sequential([
        keras.Input((5, 4, 2)), layers.Rescaling(0.5), layers.Conv2D(4, 2, **HE, name="first"),
        layers.ReLU(), layers.Conv2D(4, 2, **HE, name="second"), layers.ReLU(), layers.Flatten(),
        layers.Dense(3, **HE, name="last"),
    ])  # fmt: skip


def functional():
    x = h = keras.Input((5, 4, 2))
    for layer in plain().layers:
        h = layer.__class__.from_config(layer.get_config())(h)
    return keras.Model(x, h)


def nested_twice():
    x = keras.Input((5, 4, 2))
    innermost = keras.Sequential([keras.Input((4, 3, 4)), layers.Conv2D(4, 2, **HE, name="second")])
    y = keras.Input((4, 3, 4))
    block = keras.Model(y, layers.ReLU()(innermost(layers.ReLU()(y))), name="block")
    stem = keras.Sequential([layers.Rescaling(0.5), layers.Conv2D(4, 2, **HE)], name="stem")
    head = keras.Sequential([layers.Flatten(), layers.Dense(3, **HE)])
    return keras.Model(x, head(block(stem(x))))


def nested_sequential():
    return keras.Sequential([keras.Input((5, 4, 2)), functional()])


@pytest.mark.parametrize("build", [functional, nested_twice, nested_sequential])
def test_how_a_model_is_put_together_does_not_matter(build, rng):
    x = rng.normal(size=(3, 5, 4, 2))
    np.testing.assert_allclose(matrix(build(), x), matrix(plain(), x), rtol=1e-12)


def test_paths_of_nested_layers():
    rows = keras2gp.inspect(nested_twice()).rows
    (path,) = (row.path for row in rows if row.path.endswith("second"))
    assert path.startswith("block/")


def two_outputs():
    x = keras.Input((4,))
    h = layers.Dense(8, activation="relu", name="hidden", **HE)(x)
    one = layers.Dense(2, name="one", **HE)(h)
    two = layers.Dense(2, name="two", kernel_initializer="lecun_normal")(h)
    return keras.Model(x, [one, two])


def test_an_output_is_chosen_by_index_name_or_path(rng):
    x = rng.normal(size=(3, 4))
    outer_input = keras.Input((4,))
    inner = two_outputs()
    outer = keras.Model(outer_input, keras.layers.Dense(1)(inner(outer_input)[0]))
    expected = matrix(two_outputs(), x, output=1)
    for model, output in ((inner, -1), (inner, "two"), (outer, f"{inner.name}/two")):
        np.testing.assert_allclose(matrix(model, x, output=output), expected, rtol=1e-12)
    np.testing.assert_allclose(matrix(inner, x, output="one"), 2 * expected, rtol=1e-12)


def test_the_output_of_an_inner_layer(rng):
    model = keras.Sequential([
        keras.Input((4,)), layers.Dense(8, name="first", **HE), layers.ReLU(), layers.Dense(2),
    ])  # fmt: skip
    x = rng.normal(size=(3, 4))
    kernel = keras2gp.convert(model, output="first", dtype="float64")
    np.testing.assert_allclose(kernel(x), 2 * x @ x.T / 4, rtol=1e-12)
    assert list(kernel.parameters) == ["first"]


@pytest.mark.parametrize("output", [None, 2, -3, "three", "nested/one"])
def test_an_output_that_there_is_not(output):
    with pytest.raises(InputError, match=r"one.*two"):
        keras2gp.convert(two_outputs(), output=output)


def two_inputs(how):
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    h = layers.Add()([layers.Dense(8, **HE)(a), layers.Dense(8, **HE)(b)])
    return keras.Model({"b": b, "a": a} if how == "dict" else [a, b], h)


@pytest.mark.parametrize("how", ["list", "dict"])
def test_several_inputs(how, rng):
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(3, 3))
    expected = 2 * a @ a.T / 4 + 2 * b @ b.T / 3
    for x in ([a, b], {"a": a, "b": b}, {"b": b, "a": a}):
        np.testing.assert_allclose(matrix(two_inputs(how), x), expected, rtol=1e-12)


@pytest.mark.parametrize("how", ["list", "dict"])
def test_a_nested_model_of_several_inputs(how, rng):
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(3, 3))
    i, j = keras.Input((4,)), keras.Input((3,))
    inner = two_inputs(how)
    model = keras.Model([j, i], inner({"b": j, "a": i} if how == "dict" else [i, j]))
    expected = 2 * a @ a.T / 4 + 2 * b @ b.T / 3
    np.testing.assert_allclose(matrix(model, [b, a]), expected, rtol=1e-12)


def test_an_input_that_the_output_does_not_need(rng):
    a, b = keras.Input((4,)), keras.Input((3,))
    model = keras.Model([a, b], [layers.Dense(2, **HE)(a), layers.Dense(2, **HE)(b)])
    x = [rng.normal(size=(3, 4)), rng.normal(size=(3, 3))]
    np.testing.assert_allclose(matrix(model, x, output=1), 2 * x[1] @ x[1].T / 3, rtol=1e-12)


def test_a_model_that_starts_in_the_middle_of_another(rng):
    x = keras.Input((4,))
    h = layers.Dense(3)(x)
    model = keras.Model(h, layers.Dense(2, **HE)(h))
    y = rng.normal(size=(3, 3))
    np.testing.assert_allclose(matrix(model, y), 2 * y @ y.T / 3, rtol=1e-12)


def test_a_fixed_batch_size_does_not_bind_the_kernel(rng):
    x = keras.Input(batch_shape=(2, 4))
    model = keras.Model(x, layers.Dense(2, **HE)(layers.Rescaling(2.0)(x)))
    y = rng.normal(size=(5, 4))
    np.testing.assert_allclose(matrix(model, y), 8 * y @ y.T / 4, rtol=1e-12)


def of_function(function, x):
    """The matrix of input -> function -> Flatten -> Dense (He)."""
    i = keras.Input(x.shape[1:])
    h = layers.Flatten()(function(i))
    return matrix(keras.Model(i, layers.Dense(2, **HE)(h)), x)


def adapted(x):
    layer = layers.Normalization(axis=-1)
    layer.adapt(x)
    return layer


def test_deterministic_layers_are_done_as_by_hand(rng):
    x = rng.uniform(0, 8, size=(3, 5, 4, 2))
    normalise = adapted(x.astype("float32"))
    mean, variance = (np.asarray(v, "float64") for v in (normalise.mean, normalise.variance))
    by_hand = np.pad((0.5 * x - 1 - mean) / np.sqrt(variance), [(0, 0), (1, 1), (1, 1), (0, 0)])

    def function(image):
        h = normalise(layers.Rescaling(0.5, -1.0)(image))
        return layers.Conv2D(8, 3, **HE)(layers.ZeroPadding2D(1)(h))

    expected = of_function(lambda image: layers.Conv2D(8, 3, **HE)(image), by_hand)
    np.testing.assert_allclose(of_function(function, x), expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [(8, 6, 1), (None, None, 1)])
def test_resizing_before_the_weights(shape, rng):
    x = rng.uniform(size=(2, 8, 6, 1))
    model = keras.Sequential([
        keras.Input(shape), layers.Resizing(4, 3), layers.Conv2D(8, 2, **HE), layers.Flatten(),
        layers.Dense(1, **HE),
    ])  # fmt: skip
    small = np.asarray(layers.Resizing(4, 3)(x.astype("float32")), "float64")
    expected = of_function(lambda image: layers.Conv2D(8, 2, **HE)(image), small)
    found = keras2gp.convert(model, dtype="float64")(x)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_operations_before_the_weights_are_run_by_keras(rng):
    x = rng.normal(size=(3, 4))
    found = of_function(lambda i: layers.Dense(8, **HE)(ops.tanh(i) * i - 2.0), x)
    y = np.tanh(x) * x - 2
    np.testing.assert_allclose(found, 4 * y @ y.T / 4, rtol=1e-9)


@pytest.mark.parametrize("function", [
    lambda i: i - ops.mean(i, axis=0, keepdims=True), lambda i: i / ops.max(i),
])  # fmt: skip
def test_what_mixes_the_images_of_a_batch_is_refused(function):
    with pytest.raises(UnsupportedModelError):
        of_function(lambda i: layers.Dense(8, **HE)(function(i)), np.ones((2, 4)))


def test_deterministic_layers_of_one_name_in_two_nested_models(rng):
    def branch(factor):
        y = keras.Input((4,))
        h = layers.Rescaling(factor, name="scale")(y) * 2.0
        return keras.Model(y, layers.Dense(8, **HE)(h))

    x = keras.Input((4,))
    model = keras.Model(x, layers.Add()([branch(1.0)(x), branch(0.5)(x)]))
    y = rng.normal(size=(3, 4))
    np.testing.assert_allclose(matrix(model, y), 10 * y @ y.T / 4, rtol=1e-12)


def test_one_deterministic_layer_called_twice(rng):
    x = keras.Input((4,))
    norm = layers.Rescaling(2.0)
    h = layers.Add()([layers.Dense(8, **HE)(norm(x)), layers.Dense(8, **HE)(norm(norm(x)))])
    y = rng.normal(size=(3, 4))
    np.testing.assert_allclose(matrix(keras.Model(x, h), y), 40 * y @ y.T / 4, rtol=1e-12)


def test_layers_whose_names_look_like_repeated_calls():
    x = keras.Input((4,))
    first = layers.Dense(8, name="h#1", **HE)(x)
    second = layers.Dense(8, name="h#2", kernel_initializer="zeros")(x)
    model = keras.Model(x, layers.Add()([first, second]))
    np.testing.assert_allclose(matrix(model, np.ones((1, 4))), 2.0, rtol=1e-12)


def test_the_model_is_left_as_it_was(rng):
    x = keras.Input((5, 4, 2))
    norm = layers.Normalization(mean=0.5, variance=2.0)
    h = layers.Conv2D(4, 2, **HE)(norm(x * 2.0))
    model = keras.Model(x, layers.Dense(3)(layers.Flatten()(layers.ReLU()(h))))
    images = rng.normal(size=(3, 5, 4, 2)).astype("float32")
    before = [w.copy() for w in model.get_weights()], np.asarray(model(images))
    nodes = {op.name: len(op._inbound_nodes) for op in model.operations}
    config = model.to_json()
    keras2gp.convert(model)(images)
    assert {op.name: len(op._inbound_nodes) for op in model.operations} == nodes
    assert model.to_json() == config
    for layer in model.layers:
        assert layer.output is not None
    for old, new in zip(before[0], model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(before[1], model(images))


@pytest.mark.parametrize("bad", [None, 3, layers.Dense(3), "prior"])
def test_what_is_no_model(bad):
    arguments = ({"prior": "bogus"}, {"dtype": "float16"}) if bad == "prior" else ({},)
    for settings in arguments:
        with pytest.raises(InputError):
            keras2gp.convert(plain() if bad == "prior" else bad, **settings)
