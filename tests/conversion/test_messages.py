"""Refusals: true words, one cause for one fault, a remedy that works, and few words."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras2gp
from keras2gp.errors import InputError, UnsupportedModelError
from keras2gp.layer_table import LAYERS
from keras2gp.report import ConversionReport

SHAPE = (4, 4, 2)


@keras.saving.register_keras_serializable(package="messages")
class Unknown(keras.layers.Layer):
    """A layer that a file only names; here it flattens."""

    def call(self, inputs):
        return ops.reshape(inputs, (-1, 32))


def conv(x, **settings):
    return layers.Conv2D(4, 3, padding="same", **settings)(x)


def model_of(function, shape=SHAPE):
    x = keras.Input(shape)
    return keras.Model(x, layers.Dense(1, name="head")(layers.Flatten()(function(x))))


def obstacles(function, **settings):
    return keras2gp.inspect(model_of(function), **settings).obstacles


def test_branches_of_one_shape_and_other_orders():
    def function(x):
        return layers.Add(name="sum")([layers.Conv2D(4, 1)(x), layers.Permute((3, 1, 2))(conv(x))])

    (obstacle,) = obstacles(function)
    assert "channels first" in obstacle.why
    assert "different shapes" not in obstacle.why

    def repaired(x):
        moved = layers.Permute((3, 1, 2))(conv(x))
        return layers.Add()([layers.Conv2D(4, 1)(x), layers.Permute((2, 3, 1))(moved)])

    assert not obstacles(repaired)


def residual_v1(x):
    h = conv(x, activation="relu")
    return layers.ReLU()(layers.Add()([h, conv(h)]))


@pytest.mark.parametrize("function", [
    residual_v1,
    lambda x: layers.LSTM(3)(layers.Reshape((16, 4))(conv(x))),
    lambda x: layers.GRU(3)(layers.Reshape((16, 4))(conv(x))),
    lambda x: layers.Maximum()([conv(x), conv(x), conv(x)]),
    lambda x: layers.MaxPooling2D()(conv(x)),
], ids=["ResNet v1", "LSTM", "GRU", "Maximum", "MaxPooling"])  # fmt: skip
def test_what_has_a_limit_without_a_closed_form(function):
    (obstacle,) = obstacles(function)
    assert "no closed form" in obstacle.why
    assert "no deterministic limit" not in obstacle.why


def test_attention_has_no_limit():
    h = lambda x: layers.Reshape((16, 4))(conv(x))  # noqa: E731
    (obstacle,) = obstacles(lambda x: layers.MultiHeadAttention(2, 4)(h(x), h(x)))
    assert "no deterministic limit" in obstacle.why


CODE = (lambda x: layers.Lambda(lambda t: t, name="bad")(x), lambda x: Unknown(name="bad")(x))


@pytest.mark.parametrize("code", CODE, ids=["Lambda", "a layer"])
@pytest.mark.parametrize("form", ["model", "file"])
def test_layers_after_unknown_code_on_data_are_not_blamed(code, form, tmp_path):
    """Keras would run them, if the code only changes data."""

    def function(x):
        h = layers.Rescaling(1.0, 0.5)(code(x))
        return layers.Dense(4)(h * h)

    model = model_of(function)
    if form == "file":
        model.save(tmp_path / "m.keras")
        model = tmp_path / "m.keras"
    report = keras2gp.inspect(model)
    if form == "model":
        assert report.exact
        return
    assert [o.where for o in report.obstacles] == ["bad"]
    assert [row.became for row in report.rows[:3]] == ["refused", "not examined", "not examined"]


def test_settings_are_still_blamed_after_unknown_code(tmp_path):
    def function(x):
        h = layers.MaxPooling2D(name="pool")(conv(layers.Lambda(lambda t: t, name="bad")(x)))
        return layers.Dense(4, kernel_initializer="ones", name="ones")(h)

    model_of(function).save(tmp_path / "m.keras")
    report = keras2gp.inspect(tmp_path / "m.keras")
    assert [o.where for o in report.obstacles] == ["bad", "pool", "ones"]


def test_shapes_after_a_layer_that_a_file_names_are_not_blamed(tmp_path):
    """An Identity stands in its place, whose shapes are not those of the layer."""
    x = keras.Input(SHAPE)
    h = Unknown(name="bad")(conv(x))
    h = layers.Add()([h, layers.Dense(32)(layers.Flatten()(x))])
    model = keras.Model(x, layers.Dense(3)(h))
    model.save(tmp_path / "m.keras")
    report = keras2gp.inspect(tmp_path / "m.keras")
    assert [o.where for o in report.obstacles] == ["bad"]


def test_other_obstacles_of_a_file_are_still_told(tmp_path):
    x = keras.Input(SHAPE)
    h = layers.MaxPooling2D(name="pool")(conv(x))
    h = Unknown(name="bad")(layers.UpSampling2D(2)(layers.Conv2D(2, 1)(h)))
    keras.Model(x, layers.Dense(3, kernel_initializer="ones", name="ones")(h)).save(
        tmp_path / "m.keras"
    )
    where = [o.where for o in keras2gp.inspect(tmp_path / "m.keras").obstacles]
    assert where == ["pool", "bad", "ones"]


def test_names_of_any_length_and_kind():
    def function(x):
        return layers.Lambda(lambda t: tf.math.bessel_i0e(t), name="a\nb" + "n" * 5000)(conv(x))

    report = keras2gp.inspect(model_of(function))
    (obstacle,) = report.obstacles
    assert len(str(obstacle)) < 600
    assert "\n" not in str(obstacle)
    lines = str(report).split("\n")
    assert len(lines) == len(report.rows) + 4  # the header, a legend, the verdict, the obstacle
    assert "w2: fan-in times the variance of one weight; b2: the variance of one bias" in lines
    assert max(map(len, lines)) < 600
    with pytest.raises(UnsupportedModelError) as caught:
        keras2gp.convert(model_of(function))
    assert len(str(caught.value)) < 1000


def test_a_kernel_of_long_names_is_loaded(tmp_path):
    x, y = keras.Input((2,)), keras.Input((2,))
    inner = keras.Model(y, layers.Dense(3, name="b" * 5000)(y), name="a" * 6000)
    kernel = keras2gp.convert(keras.Model(x, layers.Dense(1)(inner(x))), dtype="float64")
    kernel.save(tmp_path / "kernel")
    loaded = keras2gp.load(tmp_path / "kernel")
    assert loaded.parameters == kernel.parameters


LARGE = np.arange(100_000)


@pytest.mark.parametrize("settings", [
    {"prior": LARGE}, {"prior": ["weights"]}, {"output": LARGE}, {"output": ["head"]},
    {"output": True}, {"output": "z" * 5000}, {"output": 2.0}, {"max_pooling": LARGE},
    {"max_pooling": True}, {"tolerance": LARGE}, {"tolerance": "small"}, {"tolerance": None},
    {"tolerance": float("nan")}, {"layers": LARGE}, {"layers": {"a": LARGE}},
    {"activations": {3: LARGE}}, {"overrides": {"head": LARGE}}, {"overrides": LARGE},
    {"overrides": {b"x" * 5000: (1, 2)}},
], ids=lambda s: f"{next(iter(s))} {type(next(iter(s.values()))).__name__}")  # fmt: skip
def test_arguments_of_another_kind_are_named_briefly(settings):
    with pytest.raises((InputError, keras2gp.Keras2GPError)) as caught:
        keras2gp.inspect(model_of(conv), **settings)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("settings", [{"dtype": LARGE}, {"kind": LARGE}, {"kind": None}])
def test_arguments_of_convert_of_another_kind(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        keras2gp.convert(model_of(conv), **settings)


def test_a_position_may_be_a_number_of_numpy():
    assert keras2gp.inspect(model_of(conv), output=np.int64(0)).exact


def test_an_array_in_a_model_is_not_printed():
    values = np.random.default_rng(0).normal(size=(3, 3, 2, 4))
    model = model_of(lambda x: conv(x, kernel_initializer=keras.initializers.Constant(values)))
    assert "array of shape (3, 3, 2, 4)" in str(keras2gp.inspect(model).obstacles[0])


def test_quantised_and_adapted_layers_name_what_undoes_it():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="a"), layers.Dense(1)])
    model.quantize("int8")
    assert "before model.quantize()" in keras2gp.inspect(model).obstacles[0].hint
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="a"), layers.Dense(1)])
    expected = keras2gp.inspect(model)
    model.get_layer("a").enable_lora(2)
    report = keras2gp.inspect(model)
    assert report.exact
    assert report.parameters == expected.parameters
    assert report.rows[0].note.startswith("without low-rank updates")
    model.get_layer("a").lora_kernel_b.assign(np.ones((2, 8)))
    kernel = np.asarray(model.get_layer("a").kernel)  # with the updates
    trained = keras2gp.inspect(model, "weights")
    assert trained.parameters["a"].weight == pytest.approx(8 * np.mean(kernel**2))
    assert trained.rows[0].note.startswith("weights with their low-rank updates")


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float64"])
def test_precision_of_the_layers_does_not_matter_to_the_prior(policy):
    models = [
        keras.Sequential(
            [keras.Input((8,)), layers.Dense(8, "relu", dtype=dtype), layers.Dense(1, dtype=dtype)]
        )
        for dtype in ("float32", policy)
    ]
    expected, report = (keras2gp.inspect(model) for model in models)
    assert list(report.parameters.values()) == list(expected.parameters.values())
    note = f"layers of {policy} are taken in full precision: float32"
    assert report.notes == ((note,) if "float16" in policy else ())


def test_settings_that_change_nothing_are_listed():
    poolings = {"max": lambda x: layers.MaxPooling2D()(conv(x)), "none": conv}
    reports = {
        name: keras2gp.inspect(model_of(f), max_pooling="average") for name, f in poolings.items()
    }
    assert reports["max"].idle == ()
    assert [note.split(":")[0] for note in reports["none"].idle] == ["max_pooling changes nothing"]
    assert set(reports["none"].idle) <= set(reports["none"].notes)


@pytest.mark.parametrize("joined", [False, True])
def test_a_report_says_of_units_and_biases_what_copies_have_to_know(joined):
    x = keras.Input((4,))
    h = layers.Dense(8, "relu", bias_initializer=keras.initializers.Constant(0.5), name="body")(x)
    heads = [layers.Dense(2)(h), layers.Dense(2)(h)] if joined else [layers.Dense(2)(h)]
    model = keras.Model(x, layers.Concatenate()(heads) if joined else heads[0])
    report = keras2gp.inspect(model)
    assert report.units_apart == joined
    assert [row.path for row in report.rows if row.biases_have_mean] == ["body"]
    copied = ConversionReport.from_dict(json.loads(json.dumps(report.to_dict())))
    assert copied == report


def test_a_report_of_the_first_version_is_read():
    data = keras2gp.inspect(model_of(conv)).to_dict()
    for key in ("idle", "units_apart", "positions", "removed"):
        del data[key]
    for row in data["layers"]:
        del row["biases_have_mean"]
    report = ConversionReport.from_dict(data)
    assert not report.units_apart
    assert not any(row.biases_have_mean for row in report.rows)


def test_a_model_of_two_outputs_shows_its_layers_and_names_the_choice():
    x = keras.Input((4,))
    h = layers.Dense(8, "relu", name="body")(x)
    model = keras.Model(x, [layers.Dense(1, name="one")(h), layers.Dense(2, name="two")(h)])
    report = keras2gp.inspect(model)
    assert {row.path for row in report.rows} == {"body", "one", "two"}
    (obstacle,) = report.obstacles
    assert "'one', 'two'" in obstacle.why
    assert "output='one'" in obstacle.hint
    assert keras2gp.inspect(model, output="two").exact
    with pytest.raises(InputError, match="2 outputs"):
        keras2gp.convert(model)


def test_a_file_that_cannot_be_built_shows_its_layers(tmp_path):
    x = keras.Input((4,))
    y = layers.Lambda(lambda t: t[:, :1], name="cut", output_shape=(1,))(x)
    y = layers.Concatenate(name="both")([y, keras.ops.ones_like(y)])
    model = keras.Model(x, layers.Reshape((2, 1), name="r")(y))
    model.save(tmp_path / "m.keras")
    report = keras2gp.inspect(tmp_path / "m.keras")
    rows = {row.path: (row.layer, row.became) for row in report.rows}
    assert rows["cut"] == ("Lambda", "refused")
    assert rows["r"] == ("Reshape", "")


def test_max_pooling_has_one_reason():
    assert LAYERS["MaxPooling1D"].reason == LAYERS["GlobalMaxPooling3D"].reason
