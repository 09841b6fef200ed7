"""Layers of a user's own: readers by keras2gp.reader and by layers=, from models and from files."""

import keras
import numpy as np
import pytest
from keras import layers

import keras2gp
from keras2gp.errors import InputError, ModelFileError, UnsupportedModelError

HE = {"kernel_initializer": "he_normal"}
X = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]])


class Times(keras.layers.Layer):
    """Multiplies by a constant; a file calls it "Times", since it is not registered."""

    def __init__(self, factor=3.0, **settings):
        super().__init__(**settings)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="tests")
class Registered(Times):
    pass


class Shift(keras.layers.Layer):
    """Runs on the data."""

    def call(self, inputs):
        return inputs + 1.0


keras2gp.deterministic(Shift)


def read_times(call, context):
    """A constant factor."""
    return context.scaled(call.tensors[0], call.operation.factor)


@keras2gp.reader(Registered)
def read_registered(call, context):
    """A constant factor."""
    return read_times(call, context)


def model_with(*between, nested=False):
    x = keras.Input((3,))
    h = layers.Dense(8, **HE)(x)
    for layer in between:
        h = layer(h)
    inner = keras.Model(x, h, name="inner")
    if nested:
        x = keras.Input((3,))
        h = inner(x)
    return keras.Model(x, layers.Dense(1, **HE)(h))


def matrix(model, **settings):
    return np.asarray(keras2gp.convert(model, dtype="float64", **settings)(X))


PLAIN = 4 / 3 * X @ X.T


@pytest.mark.parametrize("key", [Times, "Times"], ids=str)
def test_a_reader_that_is_handed_over(key):
    model = model_with(Times(2.0))
    assert [row.path for row in keras2gp.inspect(model).rows][1].endswith("/multiply")
    np.testing.assert_allclose(matrix(model, layers={key: read_times}), 4 * PLAIN, rtol=1e-12)
    rows = keras2gp.inspect(model, layers={key: read_times}).rows
    assert [row.layer for row in rows] == ["Dense", "Times", "Dense"]  # not traced
    rows = keras2gp.inspect(model).rows
    assert rows[1].layer == "Multiply"  # It is not registered by that.


@pytest.mark.parametrize("form", [".keras", ".json"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (Times, {Times: read_times}),
        (Registered, {"tests>Registered": Registered}),
        (Registered, {Registered: read_times}),
        (Registered, {Registered: Registered}),
    ],
    ids=["class and reader", "name and class", "registered class and reader", "class alone"],
)
def test_a_layer_from_a_file(form, nested, kind, own, tmp_path):
    model, path = model_with(kind(2.0), nested=nested), tmp_path / f"m{form}"
    if form == ".keras":
        model.save(path)
    else:
        path.write_text(model.to_json())
    with pytest.raises(UnsupportedModelError, match="not one of Keras's own layers"):
        matrix(path)
    np.testing.assert_allclose(matrix(path, layers=own), 4 * PLAIN, rtol=1e-12)


def test_the_class_of_a_file_is_asked_for_where_only_its_reader_is_known(tmp_path):
    model_with(Times(2.0)).save(tmp_path / "m.keras")
    with pytest.raises(UnsupportedModelError, match=r"layers=\{YourLayer: reader\}"):
        matrix(tmp_path / "m.keras", layers={"Times": read_times})


def test_a_class_of_keras_is_never_replaced_from_a_file(tmp_path):
    class Dense(Times):
        """Bears the name of a layer of Keras's."""

    model_with(layers.ReLU()).save(tmp_path / "m.keras")
    own = {Dense: read_times, "keras.layers>Dense": Dense}
    expected = matrix(model_with(layers.ReLU()))
    np.testing.assert_array_equal(matrix(tmp_path / "m.keras", layers=own), expected)


def test_a_name_does_not_replace_the_reader_of_keras():
    model = model_with(layers.ReLU())
    np.testing.assert_array_equal(matrix(model, layers={"ReLU": read_times}), matrix(model))


def test_a_kernel_with_layers_on_the_data_is_saved_and_loaded(tmp_path):
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(1, **HE)(Shift()(x)))
    model.save(tmp_path / "m.keras")
    kernel = keras2gp.convert(tmp_path / "m.keras", dtype="float64", layers={Shift: Shift})
    np.testing.assert_allclose(kernel(X), 2 / 3 * (X + 1) @ (X + 1).T, rtol=1e-6)
    kernel.save(tmp_path / "kernel")
    with pytest.raises(ModelFileError, match="layers="):
        keras2gp.load(tmp_path / "kernel")
    loaded = keras2gp.load(tmp_path / "kernel", layers={Shift: Shift})
    np.testing.assert_array_equal(loaded(X), kernel(X))


@pytest.mark.parametrize(
    "own",
    [3, [Times], {3: read_times}, {Times: 3}, {int: read_times}, {Times: Times}],
    ids=["number", "list", "key of a number", "value of a number", "no layer", "no reader"],
)
def test_what_is_no_reader_is_refused(own):
    with pytest.raises(InputError, match="layers"):
        keras2gp.convert(model_with(), layers=own)
