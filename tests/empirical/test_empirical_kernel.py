"""The kernel of a finite network: against loops over examples, numpy, and the infinite kernel."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras2gp import GPClassifier, GPRegressor, convert, empirical_kernel, gram
from keras2gp.errors import InputError, NumericalError, OutputError, PriorError

RANDOM = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def float64():
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(7)
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


class Own(keras.Model):
    """A model that is code: with a branch in Python, and layers listed in another order."""

    def __init__(self):
        super().__init__(name="own")
        self.out = layers.Dense(2, name="out")
        self.hidden = layers.Dense(4, activation="tanh", name="hidden")
        self.norm = layers.LayerNormalization()

    def call(self, x, training=False):
        x = self.hidden(x)
        if training:
            return self.out(x)
        return self.out(self.norm(x) + x)


def own():
    model = Own()
    model(np.zeros((1, 3)))
    return model


def dense():
    return keras.Sequential([
        keras.Input((3,)), layers.Dense(6, "relu", bias_initializer="normal"), layers.Dense(2),
    ])  # fmt: skip


def convolutional():
    model = keras.Sequential([
        keras.Input((4, 4, 2)), layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization(),
        layers.PReLU(), layers.SeparableConv2D(4, 2, activation="silu"), layers.Dropout(0.5),
        layers.GlobalMaxPooling2D(), layers.Dense(2, "softmax"),
    ])  # fmt: skip
    model.layers[1].moving_mean.assign([0.1, -0.2, 0.3])
    return model


def recurrent():
    return keras.Sequential([
        keras.Input((5, 2)), layers.LSTM(3, return_sequences=True), layers.GRU(2), layers.Dense(1),
    ])  # fmt: skip


def attention():
    x = keras.Input((4,), dtype="int32")
    h = layers.Embedding(9, 4)(x)
    h = layers.LayerNormalization()(h + layers.MultiHeadAttention(2, 3)(h, h))
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(h)))


def towers():
    """One model called twice, the second input twice as large."""
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh")], name="inner")
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    return keras.Model([a, b], layers.Dense(1)(layers.Multiply()([inner(a), inner(b)])))


def positions():
    x = keras.Input((4, 1))
    return keras.Model(x, layers.Conv1D(2, 3, activation="gelu")(x))


def frozen():
    model = dense()
    model.layers[0].trainable = False
    return model


MODELS = {
    dense: (3,), convolutional: (4, 4, 2), recurrent: (5, 2), attention: "whole", own: (3,),
    towers: "two", positions: (4, 1), frozen: (3,),
}  # fmt: skip


def images(model, count=4):
    shape = MODELS[model]
    if shape == "whole":
        return RANDOM.integers(0, 9, size=(count, 4))
    if shape == "two":
        return [RANDOM.normal(size=(count, 3)), RANDOM.normal(size=(count, 3))]
    return RANDOM.normal(size=(count, *shape))


def jacobian(model, x):
    """J of one image after the other and one output after the other, [N, U, P]."""
    rows = []
    for i in range(len(x[0]) if isinstance(x, list) else len(x)):
        one = [part[i : i + 1] for part in x] if isinstance(x, list) else x[i : i + 1]
        with tf.GradientTape(persistent=True) as tape:
            outputs = tf.unstack(tf.reshape(model(one, training=False), [-1]))
        rows.append([
            np.concatenate([
                np.ravel(tf.convert_to_tensor(g))
                for g in tape.gradient(
                    u, model.trainable_variables, unconnected_gradients="zero"
                )
            ])
            for u in outputs
        ])  # fmt: skip
    return np.array(rows)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_agrees_with_loops(make):
    model, x = make(), images(make)
    before = [v.numpy().copy() for v in model.variables]
    kernel = empirical_kernel(model)
    j = jacobian(model, x)
    expected = np.einsum("iup,jvp->ijuv", j, j)
    trace = np.einsum("ijuu->ij", expected) / j.shape[1]
    scale = np.abs(expected).max()
    matrix = kernel.matrix(x)
    assert kernel.weights == j.shape[2]
    assert kernel.error == 0.0
    assert np.abs(matrix - trace).max() < 1e-9 * scale
    assert np.array_equal(matrix, matrix.T)
    assert np.abs(kernel.full(x) - expected).max() < 1e-9 * scale
    some = [part[:2] for part in x] if isinstance(x, list) else x[:2]
    assert np.abs(kernel.matrix(some, x) - trace[:2]).max() < 1e-9 * scale
    assert np.abs(np.asarray(kernel.diag(x)) - np.diag(trace)).max() < 1e-9 * scale
    one = empirical_kernel(model, unit=-1).matrix(x)
    assert np.abs(one - expected[:, :, -1, -1]).max() < 1e-9 * scale
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, model.variables, strict=True))


def test_agrees_with_numpy():
    """f = tanh(x A + a) B + b, its derivatives by hand."""
    model = keras.Sequential([
        keras.Input((3,)), layers.Dense(5, "tanh", bias_initializer="normal"), layers.Dense(2),
    ])  # fmt: skip
    x = RANDOM.normal(size=(4, 3))
    first, a, second, _ = (v.numpy() for v in model.trainable_variables)
    h = np.tanh(x @ first + a)
    slope = 1.0 - h**2
    inner = x @ x.T + 1.0
    tangent = h @ h.T + 1.0
    for unit in range(2):
        back = slope * second[:, unit]
        tangent += inner * (back @ back.T) / 2.0
    assert np.abs(empirical_kernel(model).matrix(x) - tangent).max() < 1e-12
    features = empirical_kernel(model, "nngp", parameterization="standard")
    assert np.abs(features.matrix(x) - h @ h.T / 5).max() < 1e-12
    # Glorot: 2 / (5 + 2) for each weight; a bias that starts at 0 has no variance.
    prior = empirical_kernel(model, "nngp").matrix(x)
    assert np.abs(prior - h @ h.T * 2.0 / 7.0).max() < 1e-12
    weighed = empirical_kernel(model, parameterization="ntk").matrix(x)
    expected = h @ h.T * 2.0 / 7.0
    for unit in range(2):
        back = slope * second[:, unit]
        expected += (x @ x.T * 2.0 / 8.0 + 0.05**2) * (back @ back.T) / 2.0
    assert np.abs(weighed - expected).max() < 1e-12


def wide_dense():
    return keras.Sequential([
        keras.Input((3,)), layers.Dense(200, "relu", bias_initializer="random_normal"),
        layers.Dense(200, "gelu", kernel_initializer="he_uniform"),
        layers.Dense(2, kernel_initializer="glorot_normal"),
    ])  # fmt: skip


def wide_convolutional():
    return keras.Sequential([
        keras.Input((5, 1)),
        layers.Conv1D(128, 3, activation="relu", kernel_initializer="he_normal"),
        layers.Conv1D(128, 2, kernel_initializer="lecun_uniform", bias_initializer="normal"),
        layers.Activation("gelu"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(2, kernel_initializer="glorot_normal"),
    ])  # fmt: skip


@pytest.mark.parametrize(("make", "shape"), [
    (wide_dense, (3,)), pytest.param(wide_convolutional, (5, 1), marks=pytest.mark.slow),
])  # fmt: skip
def test_wide_networks_converge_to_the_infinite_kernel(make, shape):
    x = RANDOM.normal(size=(3, *shape))
    for kind in ("nngp", "ntk"):
        draws = []
        for seed in range(8):
            keras.utils.set_random_seed(seed)
            model = make()
            draws.append(empirical_kernel(model, kind, parameterization="ntk").matrix(x))
        expected = convert(model, dtype="float64").matrix(x, get=kind)
        error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
        gap = np.abs(np.mean(draws, axis=0) - expected)
        assert (gap < 5.0 * error + 0.01 * expected.max()).all()
        assert error.max() < 0.15 * expected.max()


def test_a_sketch_is_unbiased_and_within_its_error():
    """The products of its directions, one by one: their mean, and their variance of Rademacher."""
    model, x = dense(), images(dense, 3)
    sketch, count = empirical_kernel(model, sketch=2000, unit=0), 2000
    j = jacobian(model, x)[:, 0]
    exact = j @ j.T
    drawn = np.sqrt(count) * np.asarray(sketch.program._derivatives([x], [0]))[:, 0]
    products = drawn[:, None] * drawn[None]
    variance = exact**2 + np.outer(np.diag(exact), np.diag(exact)) - 2 * (j**2) @ (j**2).T
    error = np.sqrt(variance / count)
    assert (np.abs(products.mean(axis=-1) - exact) < 4.5 * error).all()
    assert np.abs(products.var(axis=-1) / variance - 1.0).max() < 0.3
    assert np.allclose(sketch.matrix(x), products.mean(axis=-1), rtol=1e-10)
    assert (error <= sketch.error * np.sqrt(np.outer(np.diag(exact), np.diag(exact)))).all()
    assert sketch.error == np.sqrt(2.0 / count)
    assert np.allclose(sketch.matrix(x[:1], x[1:]), sketch.matrix(x)[:1, 1:], rtol=1e-12)
    again = empirical_kernel(model, sketch=50, seed=1).matrix(x)
    assert np.array_equal(again, empirical_kernel(model, sketch=50, seed=1).matrix(x))
    assert not np.allclose(again, empirical_kernel(model, sketch=50, seed=2).matrix(x))


@pytest.mark.parametrize("make", [
    attention, *(pytest.param(make, marks=pytest.mark.slow) for make in (recurrent, convolutional)),
])  # fmt: skip
def test_a_sketch_has_any_layers(make):
    model, x = make(), images(make, 3)
    exact = empirical_kernel(model).matrix(x)
    gap = empirical_kernel(model, sketch=100).matrix(x) - exact
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert np.abs(gap / scale).max() < 4.5 * np.sqrt(2.0 / 100)


def test_memory_is_compared_before_it_is_taken(monkeypatch):
    from keras2gp._util import memory
    from keras2gp.empirical import program

    model, x = dense(), images(dense, 6)
    exact = empirical_kernel(model).matrix(x)
    monkeypatch.setattr(program, "_ENTRIES", 60)  # one unit of two images at a time
    assert np.abs(empirical_kernel(model).matrix(x) - exact).max() < 1e-12
    monkeypatch.undo()
    needed = 8 * (4 * 2 * 38 + 2 * (3 * 200 + 2 * 38))
    for module in (program, memory):
        monkeypatch.setattr(module, "available_memory", lambda: needed)
    assert np.abs(empirical_kernel(model).matrix(x) - exact).max() < 1e-12
    for module in (program, memory):
        monkeypatch.setattr(module, "available_memory", lambda: 1000)
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    with pytest.raises(InputError, match=r"38 weights needs .* available. Try: sketch=1000"):
        empirical_kernel(model).matrix(x)


def test_training_the_model_does_not_change_the_kernel():
    model, x = dense(), images(dense)
    kernel = empirical_kernel(model)
    before = kernel.matrix(x)
    model.layers[0].kernel.assign_add(np.ones((3, 6)))
    assert np.array_equal(kernel.matrix(x), before)
    assert not np.allclose(empirical_kernel(model).matrix(x), before)


def test_stores_know_the_weights(tmp_path):
    model, x = dense(), images(dense, 5)
    kernel = empirical_kernel(model)
    store = gram(kernel, x, out=tmp_path / "K.zarr", progress=False)
    assert np.array_equal(store[:, :], kernel.matrix(x))
    assert np.array_equal(gram(kernel, x, progress=False), kernel.matrix(x))
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    gram(empirical_kernel(twin), x, out=tmp_path / "K.zarr", progress=False)
    for other in (
        empirical_kernel(model, unit=0),
        empirical_kernel(model, parameterization="ntk"),
        empirical_kernel(model, "nngp"),
        empirical_kernel(model, sketch=10),
        convert(model, dtype="float64", kind="ntk"),
    ):
        with pytest.raises(InputError.__mro__[1], match="holds another matrix"):
            gram(other, x, out=tmp_path / "K.zarr", progress=False)
    model.layers[0].bias.assign_add(np.full(6, 1e-3))
    with pytest.raises(Exception, match="variances or weights"):
        gram(empirical_kernel(model), x, out=tmp_path / "K.zarr", progress=False)


def test_a_store_of_several_blocks_is_resumed(tmp_path):
    from keras2gp.matrices.api import compute
    from keras2gp.matrices.blocks import BlockShape

    model, x = dense(), images(dense, 9)
    kernel, shape = empirical_kernel(model), BlockShape(4, 4, 4, 4)
    store = compute(kernel, x, out=tmp_path / "K.zarr", shape=shape)
    assert np.allclose(store[:, :], kernel.matrix(x), rtol=1e-13)
    (tmp_path / "K.zarr" / "matrix" / "c" / "1" / "2").unlink()
    again = compute(kernel, x, out=tmp_path / "K.zarr", shape=shape)
    assert np.array_equal(again[:, :], store[:, :])
    cross = compute(kernel, x, x[:5], shape=shape)
    assert np.allclose(cross, kernel.matrix(x)[:, :5], rtol=1e-13)


def test_dask_is_refused():
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match="a network of this process"):
        gram(empirical_kernel(dense()), images(dense), executor="dask", progress=False)


def test_heads():
    x = RANDOM.normal(size=(30, 3))
    kernel = empirical_kernel(dense())
    gp = GPRegressor(kernel, noise_variance=1e-3).fit(x, x[:, 0])
    assert np.abs(gp.predict(x) - x[:, 0]).max() < 0.05
    assert (gp.predict(x, return_std=True)[1] < 0.1).all()
    classifier = GPClassifier(kernel, noise_variance=1e-3).fit(x, x[:, 0] > 0)
    assert np.mean(classifier.predict(x) == (x[:, 0] > 0)) > 0.9


def test_copies_and_pickles():
    model, x = dense(), images(dense)
    kernel = empirical_kernel(model, "nngp", sketch=20, unit=1)
    before = kernel.matrix(x)
    assert copy.deepcopy(kernel) is kernel
    restored = pickle.loads(pickle.dumps(kernel))  # noqa: S301 (written a moment ago)
    assert np.array_equal(restored.matrix(x), before)
    assert "sketch of 20, error 0.32" in repr(kernel)


def test_outputs():
    x = keras.Input((3,))
    h = layers.Dense(4, "relu")(x)
    one, two = layers.Dense(1, name="one")(h), layers.Dense(2, "softmax", name="two")(h)
    model, data = keras.Model(x, {"a": one, "b": two}), RANDOM.normal(size=(3, 3))
    with pytest.raises(OutputError, match="2 outputs: choose one"):
        empirical_kernel(model)
    with pytest.raises(InputError, match="has the outputs"):
        empirical_kernel(model, output="c")
    expected = empirical_kernel(keras.Model(x, two)).matrix(data)
    assert np.allclose(empirical_kernel(model, output="b").matrix(data), expected, rtol=1e-13)
    with pytest.raises(InputError, match="not linear"):
        empirical_kernel(model, "nngp", output="b").matrix(data)
    logits = empirical_kernel(model, output=1, logits=True)
    plain = keras.Sequential([keras.Input((3,)), layers.Dense(4, "relu"), layers.Dense(2)])
    plain.set_weights(keras.Model(x, two).get_weights())
    assert np.allclose(logits.matrix(data), empirical_kernel(plain).matrix(data), rtol=1e-13)
    nngp = empirical_kernel(model, "nngp", output="b", logits=True).matrix(data)
    assert np.allclose(nngp, empirical_kernel(plain, "nngp").matrix(data), rtol=1e-13)
    with pytest.raises(InputError, match="no softmax or sigmoid"):
        empirical_kernel(model, output="a", logits=True)


def test_the_last_layers_are_found():
    model, x = own(), images(own)
    hidden = np.asarray(model.norm(model.hidden(x)) + model.hidden(x))
    found = empirical_kernel(model, "nngp", last="out", parameterization="standard").matrix(x)
    assert np.allclose(found, hidden @ hidden.T / 4, rtol=1e-12)
    with pytest.raises(InputError, match=r"not linear|is drawn at random"):
        empirical_kernel(model, "nngp").matrix(x)
    with pytest.raises(InputError, match=r"no layer of that name\. Layers: out, hidden"):
        empirical_kernel(model, "nngp", last="nothing")
    a = keras.Input((3,))
    total = layers.Dense(1)(a) + layers.Dense(1)(layers.Dense(5, "relu")(a))
    both = keras.Model(a, keras.ops.squeeze(total, -1))
    kernel = empirical_kernel(both, "nngp").matrix(x)
    shapes = [tuple(v.shape) for v in both.trainable_variables]
    first = both.trainable_variables[shapes.index((3, 5))]
    h = np.maximum(x @ first.numpy(), 0.0)
    assert np.allclose(kernel, x @ x.T * 2 / 4 + h @ h.T * 2 / 6, rtol=1e-12)


class Noisy(layers.Layer):
    def call(self, x):
        return x + tf.random.normal(tf.shape(x), dtype=x.dtype)


class Centred(layers.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


class Unnamed(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[1:], initializer="uniform", name="scale")

    def call(self, x):
        return x * self.scale


def after(layer):
    return keras.Sequential([keras.Input((3,)), layers.Dense(2), layer])


@pytest.mark.parametrize(("make", "arguments", "reason"), [
    (lambda: "model.keras", {}, "live Keras model"),
    (lambda: 3, {}, "expected a keras.Model"),
    (Own, {}, "not built"),
    (dense, {"kind": "both"}, "'ntk' or 'nngp'"),
    (dense, {"dtype": "float16"}, "dtype"),
    (dense, {"unit": 0.5}, "number of an output unit"),
    (dense, {"unit": 2}, "the output has 2 units"),
    (dense, {"sketch": 0}, "from 1"),
    (dense, {"last": "dense"}, "for kind='nngp'"),
    (own, {"logits": True}, "is code"),
    (lambda: keras.Sequential([keras.Input((3,)), layers.ReLU()]), {}, "no trainable weights"),
    (lambda: after(Noisy()), {}, "another output each time"),
    (lambda: after(Centred()), {}, "mixes the images"),
    (lambda: after(Unnamed()), {"parameterization": "ntk"}, "no scale_initializer"),
    (lambda: after(layers.BatchNormalization()), {"kind": "nngp"}, "drawn at random"),
])  # fmt: skip
def test_what_is_refused(make, arguments, reason):
    with pytest.raises((InputError, PriorError), match=reason):
        empirical_kernel(make(), **arguments).matrix(RANDOM.normal(size=(3, 3)))


def test_images_that_do_not_fit():
    kernel = empirical_kernel(dense())
    for x, reason in [
        (np.zeros((2, 4)), "expected"), (np.full((2, 3), np.nan), "not finite"),
        (np.zeros((2, 3), "uint8"), "uint8"), ([["a"] * 3], "type"),
        (np.zeros((0, 3)), "no images"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=reason):
            kernel.matrix(x)
    free = empirical_kernel(own())
    free.matrix(np.zeros((2, 3)))
    for x, reason in [
        ([np.zeros((2, 3))] * 2, "form of the first"), (np.full((2, 3), np.inf), "not finite"),
        (np.zeros((0, 3)), "no images"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=reason):
            free.matrix(x)
    with pytest.raises(InputError, match="cannot be called on these images"):
        empirical_kernel(own()).matrix(np.zeros((2, 7)))
    with pytest.raises(
        InputError, match=r"value at \(0, 0\) \(counted from 0\) is 0.5, .* integers of int32"
    ):
        empirical_kernel(attention()).matrix(np.full((2, 4), 0.5))


def test_values_that_are_not_finite_are_refused():
    model = dense()
    model.layers[0].bias.assign(np.full(6, np.nan))
    with pytest.raises(NumericalError, match=r"bias holds values that are not finite"):
        empirical_kernel(model)
    root = keras.Sequential([
        keras.Input((3,)), layers.Dense(1, use_bias=False), layers.Activation(keras.ops.sqrt),
    ])  # fmt: skip
    root.set_weights([np.ones((3, 1))])
    kernel = empirical_kernel(root)
    kernel.matrix(np.ones((2, 3)))
    with pytest.raises(NumericalError, match=r"at image 1 \(counted from 0\) are not finite"):
        kernel.matrix(np.array([[1.0] * 3, [0.0] * 3]))


def test_float32():
    keras.config.set_dtype_policy("float32")
    model, x = dense(), images(dense)
    j = jacobian(model, x)
    expected = np.einsum("iup,jup->ij", j, j) / 2
    assert np.abs(empirical_kernel(model).matrix(x) / expected - 1.0).max() < 1e-5
    low = empirical_kernel(model, dtype="float32")
    assert low.matrix(x).dtype == np.float32
    assert np.abs(low.matrix(x) / expected - 1.0).max() < 1e-5


@pytest.mark.parametrize("settings", [{}, {"kind": "nngp"}, {"sketch": 32}], ids=str)
def test_channels_that_come_first_run_on_every_processor(settings):
    """On CPUs TensorFlow alone has no derivatives of such convolutions."""
    images = RANDOM.normal(size=(2, 5, 4, 2))
    models = []
    for form in ("channels_last", "channels_first"):
        x = keras.Input((5, 4, 2) if form == "channels_last" else (2, 5, 4))
        h = layers.Conv2D(5, 2, activation="tanh", data_format=form)(x)
        h = layers.AveragePooling2D(2, data_format=form)(h)
        h = layers.Conv2DTranspose(4, 2, data_format=form)(h)
        h = h if form == "channels_last" else layers.Permute((2, 3, 1))(h)
        models.append(keras.Model(x, layers.Dense(2)(layers.Flatten()(h))))
    models[1].set_weights(models[0].get_weights())
    last, first = (empirical_kernel(model, **settings) for model in models)
    np.testing.assert_allclose(first(np.moveaxis(images, -1, 1)), last(images), rtol=1e-9)
