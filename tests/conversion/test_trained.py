"""trained_until=: a part of a model runs with its present weights, the rest is infinitely wide."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras2gp
from keras2gp.errors import InputError, ModelFileError, PriorError, UnsupportedModelError

HE = {"kernel_initializer": "he_normal"}
SHAPE = (6, 6, 2)


def backbone(name="backbone"):
    x = keras.Input(SHAPE)
    h = layers.Conv2D(4, 3, padding="same", name="conv")(layers.Rescaling(2.0, name="scale")(x))
    h = layers.BatchNormalization(name="norm")(h)
    h = layers.MaxPooling2D(2, name="pool")(layers.ReLU(name="relu")(h))
    h = layers.LSTM(5, name="lstm")(layers.Reshape((9, 4), name="rows")(h))
    model = keras.Model(x, h, name=name)
    trained(model)
    return model


def trained(model):
    """Weights as after training: none is at its initial value."""
    rng = np.random.default_rng(1)
    model.set_weights([np.abs(rng.normal(0.5, 0.3, w.shape)) for w in model.get_weights()])


def flat():
    """The backbone's layers and a head, in one model."""
    x = keras.Input(SHAPE)
    h = x
    for layer in backbone().layers[1:]:
        h = layer(h)
    h = ops.tanh(layers.Dense(8, name="wide", **HE)(h))
    return keras.Model(x, layers.Dense(1, name="head", **HE)(h))


def nested():
    x = keras.Input(SHAPE)
    h = ops.tanh(layers.Dense(8, name="wide", **HE)(backbone()(x)))
    return keras.Model(x, layers.Dense(1, name="head", **HE)(h))


def head():
    x = keras.Input((5,))
    h = ops.tanh(layers.Dense(8, name="wide", **HE)(x))
    return keras.Model(x, layers.Dense(1, name="head", **HE)(h))


@pytest.fixture
def images(rng):
    return rng.normal(size=(3, *SHAPE))


@pytest.mark.parametrize(
    ("build", "until"),
    [(flat, "lstm"), (nested, "backbone"), (nested, "backbone/lstm")],
    ids=["layer", "nested model", "layer of a nested model"],
)
@pytest.mark.parametrize("form", ["model", ".keras"])
def test_the_kernel_is_that_of_the_rest_on_the_features(build, until, form, images, tmp_path):
    model, source = build(), None
    before = model.get_weights()
    if form == "model":
        source = model
    else:
        source = tmp_path / "m.keras"
        model.save(source)
    kernel = keras2gp.convert(source, trained_until=until)
    features = np.asarray(backbone()(images, training=False))
    expected = keras2gp.convert(head())(features, get="both")
    np.testing.assert_allclose(kernel(images, get="both"), expected, rtol=3e-5)
    rows = {row.path.rpartition("/")[2]: row.became for row in kernel.report.rows}
    for name in ("conv", "norm", "lstm"):
        assert rows[name] == "run by Keras with its present weights"
    assert (rows["pool"], rows["wide"]) == ("run by Keras", "dense")
    assert set(kernel.parameters) == {"wide", "head"}
    assert any(until in note for note in kernel.report.notes)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def convolved(form):
    """All kinds of convolutions, before the layers that are infinitely wide."""
    settings = {"activation": "tanh", "data_format": form}
    last = form == "channels_last"
    x = keras.Input((5, 4, 2) if last else (2, 5, 4))
    h = layers.Conv2D(4, 2, groups=2, **settings)(x)
    h = layers.SeparableConv2D(6, 2, **settings)(layers.DepthwiseConv2D(2, **settings)(h))
    h = layers.Conv2DTranspose(3, 2, name="until", **settings)(h)
    if not last:
        h = layers.Permute((2, 3, 1))(h)
    model = keras.Model(x, layers.Dense(1, **HE)(layers.Flatten()(h)))
    trained(model)
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channels_that_come_first_run_on_every_processor(dtype, rng):
    images = rng.normal(size=(3, 5, 4, 2))
    first, last = (
        keras2gp.convert(convolved(form), trained_until="until", dtype=dtype)
        for form in ("channels_first", "channels_last")
    )
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(
        first(np.moveaxis(images, -1, 1)), last(images), rtol=tolerance, atol=0
    )


def test_it_runs_in_the_dtype_of_the_kernel(rng):
    x = keras.Input((3,))
    h = layers.Dense(4, activation="relu", name="first")(x)
    model = keras.Model(x, layers.Dense(1, **HE)(h))
    y = rng.normal(size=(4, 3))
    w, b = (w.astype(np.float64) for w in model.get_layer("first").get_weights())
    z = np.maximum(y @ w + b, 0)
    kernel = keras2gp.convert(model, trained_until="first", dtype="float64")
    np.testing.assert_allclose(kernel(y), 2 / 4 * z @ z.T, rtol=1e-12)


def test_a_saved_kernel_keeps_the_trained_part(images, tmp_path):
    kernel = keras2gp.convert(flat(), trained_until="lstm", dtype="float64")
    kernel.save(tmp_path / "kernel")
    loaded = keras2gp.load(tmp_path / "kernel")
    np.testing.assert_array_equal(kernel(images), loaded(images))
    assert not list((tmp_path / "kernel").rglob("*.pkl"))
    file = tmp_path / "kernel" / "preprocessor.keras"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelFileError, match="digest"):
        keras2gp.load(tmp_path / "kernel")


def around(x):
    """A skip around the cut."""
    early = layers.Dense(4, name="early")(x)
    late = layers.Dense(4, name="late")(early)
    return layers.Add(name="sum")([early, late])


def data_around(x):
    """Data beside the cut, which has no weights."""
    h = layers.Dense(4, name="late")(layers.Rescaling(2.0)(x))
    return layers.Concatenate(name="sum")([layers.Rescaling(3.0)(x), h])


def both_sides(x):
    layer = layers.Dense(4, name="twice")
    return ops.relu(layer(layers.Dense(4, name="late")(layer(layers.Dense(4)(x)))))


def of(function):
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(1, name="head", **HE)(function(x)))


def test_ways_around_the_cut_are_refused_by_name():
    (obstacle,) = keras2gp.inspect(of(around), trained_until="late").obstacles
    assert obstacle.where == "sum"
    assert "the result of early reaches it around late" in obstacle.why
    assert keras2gp.inspect(of(around), trained_until="sum").exact
    assert keras2gp.inspect(of(data_around), trained_until="late").exact
    (obstacle,) = keras2gp.inspect(of(both_sides), trained_until="late").obstacles
    assert (obstacle.where, "before late too" in obstacle.why) == ("twice#2", True)


def test_what_does_not_fit_is_refused(tmp_path):
    model = of(data_around)
    with pytest.raises(InputError, match=r"trained_until='lat': no layer of that name.*late"):
        keras2gp.convert(model, trained_until="lat")
    with pytest.raises(InputError, match="trained_until=3"):
        keras2gp.convert(model, trained_until=3)
    with pytest.raises(UnsupportedModelError, match="no layer draws"):
        keras2gp.convert(model, trained_until="head")
    (tmp_path / "m.json").write_text(model.to_json())
    with pytest.raises(PriorError, match="holds no trained weights"):
        keras2gp.convert(tmp_path / "m.json", trained_until="late")
    open_sizes = keras.Sequential([layers.Dense(3, name="late"), layers.Dense(1)])
    with pytest.raises(PriorError, match="call the model on data"):
        keras2gp.convert(open_sizes, trained_until="late", input_shape=(3,))


class Code(keras.Model):
    """Code before the cut, and behind it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(4, name="first"), layers.Dense(4, name="second")
        self.out = layers.Dense(1, name="out", **HE)

    def call(self, x):
        return self.out(ops.sort(self.second(ops.sort(self.first(x)))))


def test_code_before_the_cut_runs_whatever_it_is(rng):
    model = Code()
    y = rng.normal(size=(4, 3)).astype("float32")
    z = np.asarray(ops.sort(model.second(ops.sort(model.first(y)))))
    model(y)
    kernel = keras2gp.convert(model, trained_until="sort_1")
    np.testing.assert_allclose(kernel(y), 2 / 4 * z @ z.T, rtol=1e-5)
    assert not keras2gp.inspect(model, trained_until="first").exact


@pytest.mark.usefixtures("traced")
def test_wide_copies_keep_the_trained_part():
    x = keras.Input((3,))
    h = layers.Dense(4, activation="tanh", name="first")(x)
    h = layers.Dense(8, activation="relu", name="wide", **HE)(h)
    model = keras.Model(x, layers.Dense(1, name="head", **HE)(h))
    report = keras2gp.verify(model, trained_until="first", widths=(8, 64), samples=200)
    assert report.accepted, report
