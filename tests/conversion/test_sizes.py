"""Sizes that a model leaves open, and input_shape= states."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras2gp
from keras2gp.errors import InputError, ModelFileError, PriorError, UnsupportedModelError

HE = {"kernel_initializer": "he_normal"}


def maps(shape, name="image"):
    """A network of maps; its positions are averaged in the end."""
    x = keras.Input(shape, name=name)
    h = layers.Conv2D(4, 3, activation="relu", name="conv", **HE)(x)
    h = layers.AveragePooling2D(2)(h)
    h = layers.Reshape((-1, 4))(ops.tanh(layers.Conv2D(4, 1, name="second", **HE)(h)))
    return keras.Model(
        x, layers.Dense(1, name="head", **HE)(layers.GlobalAveragePooling1D()(h)), name="maps"
    )


def sequence(length):
    x = keras.Input((length, 3), name="steps")
    h = layers.Conv1D(4, 2, padding="same", activation="relu", name="conv", **HE)(x)
    return keras.Model(x, layers.Dense(1, name="head", **HE)(layers.GlobalAveragePooling1D()(h)))


def both(model, x, **settings):
    return keras2gp.convert(model, dtype="float64", **settings).matrix(x, get="both")


def ops_of(model, **settings):
    """The ops of a kernel, which with the variances determine it."""
    kernel = keras2gp.convert(model, **settings)
    return [node.op for node in kernel.graph.nodes], kernel.parameters, kernel.inputs


@pytest.mark.parametrize("form", ["model", ".keras", ".json"])
@pytest.mark.parametrize(
    ("build", "open_shape", "shape"),
    [(maps, (None, None, 2), (6, 5, 2)), (sequence, None, (4, 3))],
    ids=["maps", "sequence"],
)
def test_stated_sizes_are_those_of_a_model_that_states_them(
    build, open_shape, shape, form, tmp_path
):
    model = build(open_shape)
    if form == ".keras":
        model.save(tmp_path / "m.keras")
    elif form == ".json":
        (tmp_path / "m.json").write_text(model.to_json())
    source = model if form == "model" else tmp_path / f"m{form}"
    with pytest.raises(UnsupportedModelError, match=r"size must be fixed\. Try: input_shape="):
        keras2gp.convert(source)
    expected = ops_of(build(shape if build is maps else shape[0]))
    assert ops_of(source, input_shape=shape) == expected
    assert ops_of(source, input_shape={model.inputs[0].name: shape}) == expected
    report = keras2gp.inspect(source, input_shape=list(shape))
    assert report.inputs == (shape,)
    if form == "model":  # It was not touched.
        assert model.inputs[0].shape[1:] != shape
        assert all(len(layer._inbound_nodes) == 1 for layer in model.layers)


def test_weights_of_a_model_with_open_sizes(tmp_path):
    model = maps((None, None, 2))
    model.save(tmp_path / "m.keras")
    live = keras2gp.convert(model, prior="weights", input_shape=(6, 5, 2)).parameters
    filed = keras2gp.convert(tmp_path / "m.keras", prior="weights", input_shape=(6, 5, 2))
    assert filed.parameters == live
    weights = model.get_layer("conv").get_weights()[0]
    assert live["conv"].weight == pytest.approx(18 * np.mean(weights**2), rel=1e-6)


def two():
    a, b = keras.Input((None, 2), name="a"), keras.Input((3,), name="b")
    h = layers.GlobalAveragePooling1D()(layers.Conv1D(4, 2, **HE)(a))
    h = layers.Concatenate()([h, layers.Dense(4, **HE)(b)])
    return keras.Model([a, b], layers.Dense(1, **HE)(h))


@pytest.mark.parametrize(
    "stated",
    [[(5, 2), (3,)], {"b": (3,), "a": (5, 2)}, ((5, 2), (3,))],
    ids=["list", "dict", "tuple"],
)
def test_several_inputs(stated):
    kernel = keras2gp.convert(two(), input_shape=stated)
    assert [spec.shape for spec in kernel.inputs] == [(5, 2), (3,)]


@pytest.mark.parametrize(
    ("build", "stated", "why"),
    [
        (maps, (6, 5, 3), r"\(6, 5, 3\) for the input 'image'.*\(None, None, 2\)"),
        (maps, (6, 5), "for the input 'image'"),
        (maps, (2, 2, 2), "conv .Conv2D. is made for"),
        (maps, (6, 5, 0), "a whole number, from 1"),
        (maps, (6, 5.5, 2), "a whole number"),
        (maps, (6, None, 2), "a whole number"),
        (maps, (6, 10**12, 2), "a whole number"),
        (maps, "6,5,2", "expected the sizes"),
        (maps, 6, "expected the sizes"),
        (maps, {"other": (6, 5, 2)}, "no input 'other'. The model's inputs: image"),
        (maps, {"image": 6}, "expected the sizes"),
        (maps, [(6, 5, 2)] * 2, "2 shapes, and the model has 1 inputs: image"),
        (two, (5, 2), "1 shapes, and the model has 2 inputs: a, b"),
        (two, {"a": (5, 2)}, "none for the input 'b'"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_sizes_that_do_not_fit_are_refused_by_name(build, stated, why):
    model = build((None, None, 2)) if build is maps else build()
    with pytest.raises(InputError, match=why) as caught:
        keras2gp.convert(model, input_shape=stated)
    assert "input_shape" in str(caught.value)


def test_a_model_inside_takes_the_sizes_that_it_is_called_with(rng):
    x = keras.Input((6, 5, 2))
    outer = keras.Model(x, maps((None, None, 2))(x))
    found, expected = ops_of(outer)[0], ops_of(maps((6, 5, 2)))[0]
    assert [type(op) for op in found] == [type(op) for op in expected]

    x = keras.Input((3, 3))
    outer = keras.Model(x, sequence(None)(layers.Rescaling(2.0)(x)))
    y = rng.normal(size=(2, 3, 3))
    np.testing.assert_allclose(both(outer, y), both(sequence(3), 2 * y), rtol=1e-12)


@pytest.mark.parametrize("form", ["model", ".keras", ".json"])
def test_a_sequential_model_that_is_not_built(form, rng, tmp_path):
    def build(*first):
        return keras.Sequential([*first, layers.Dense(4, "relu", **HE), layers.Dense(1, **HE)])

    model, x = build(), rng.normal(size=(3, 5))
    expected = both(build(keras.Input((5,))), x)
    if form == ".keras":
        model.save(tmp_path / "m.keras")
    elif form == ".json":
        (tmp_path / "m.json").write_text(model.to_json())
    source = model if form == "model" else tmp_path / f"m{form}"
    with pytest.raises((UnsupportedModelError, ModelFileError), match="input_shape="):
        keras2gp.convert(source)
    np.testing.assert_array_equal(both(source, x, input_shape=(5,)), expected)
    if form == "model":
        assert not model.built
        assert not model.weights
        with pytest.raises(PriorError, match="call the model on data"):
            keras2gp.convert(model, prior="weights", input_shape=(5,))


def test_the_batch_is_no_matter(rng):
    x = keras.Input(batch_shape=(4, 3))
    model = keras.Model(x, layers.Dense(1, **HE)(x))
    y = rng.normal(size=(2, 3))
    for settings in ({}, {"input_shape": (3,)}):
        np.testing.assert_allclose(both(model, y, **settings)[0], 2 / 3 * y @ y.T, rtol=1e-12)


@pytest.mark.usefixtures("traced")
def test_wide_copies_of_the_stated_sizes():
    report = keras2gp.verify(sequence(None), input_shape=(3, 3), widths=(8, 64), samples=200)
    assert report.verdict != "rejected", report
    with pytest.raises(UnsupportedModelError, match="input_shape="):
        keras2gp.verify(sequence(None))
