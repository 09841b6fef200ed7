"""What each normalisation layer becomes, and what is refused."""

import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

import keras2gp
from keras2gp.errors import GraphError, UnsupportedModelError
from keras2gp.graph.ops import Normalize

CONSTANT = keras.initializers.Constant


def kernel_of(layer, shape=(4,), flat=False):
    """Kernel of Dense (He) -> layer -> Dense (LeCun, no bias)."""
    x = keras.Input(shape)
    h = layers.Dense(8, kernel_initializer="he_normal")(x)
    h = layer(layers.Flatten()(h) if flat else h)
    h = layers.Dense(2, kernel_initializer="lecun_normal")(layers.Flatten()(h))
    return keras2gp.convert(keras.Model(x, h), dtype="float64")


FACTORS = {
    "LayerNormalization": (layers.LayerNormalization, 1.0, 1e-3),
    "gamma": (lambda: layers.LayerNormalization(gamma_initializer=CONSTANT(3.0)), 9.0, 1e-3),
    "no gamma": (
        lambda: layers.LayerNormalization(scale=False, gamma_initializer=CONSTANT(3.0)), 1.0, 1e-3,
    ),
    "no beta": (
        lambda: layers.LayerNormalization(center=False, beta_initializer="ones"), 1.0, 1e-3,
    ),
    "epsilon": (lambda: layers.LayerNormalization(epsilon=0.5), 1.0, 0.5),
    "GroupNormalization": (lambda: layers.GroupNormalization(4), 1.0, 1e-3),
    "RMSNormalization": (layers.RMSNormalization, 1.0, 1e-6),
    "UnitNormalization": (layers.UnitNormalization, 1 / 8, 0.0),
    "ops.normalize": (lambda: keras.ops.normalize, 1 / 8, 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", FACTORS)
def test_factor_and_epsilon(name, rng):
    make, factor, epsilon = FACTORS[name]
    x = rng.normal(size=(4, 4))
    k = 2 * x @ x.T / 4
    r = 1 / np.sqrt(k.diagonal() + epsilon)
    np.testing.assert_allclose(kernel_of(make())(x), factor * k * np.outer(r, r), rtol=1e-12)


def test_an_image_of_zeros_stays_zero():
    assert not np.asarray(kernel_of(layers.UnitNormalization())(np.zeros((2, 4)))).any()


def test_a_flattened_tensor_is_normalised_as_a_whole(rng):
    x = rng.normal(size=(3, 5, 4))
    q = 2 * np.einsum("ipc,ipc->i", x, x) / 20
    k = 2 * np.einsum("ipc,jpc->ij", x, x) / 20
    expected = k / np.sqrt(np.outer(q + 1e-3, q + 1e-3))
    for layer, flat in [
        (layers.LayerNormalization(), True),
        (layers.LayerNormalization(axis=[-2, -1]), False),
        (layers.GroupNormalization(1), True),
        (layers.GroupNormalization(2), False),
    ]:
        np.testing.assert_allclose(kernel_of(layer, (5, 4), flat)(x), expected, rtol=1e-12)


REFUSED = {
    "gamma": (lambda: layers.LayerNormalization(gamma_initializer="glorot_normal"), "no constant"),
    "instance": (lambda: layers.GroupNormalization(-1), "every channel by itself"),
    "groups of one": (lambda: layers.GroupNormalization(8), "every channel by itself"),
    "positions alone": (lambda: layers.LayerNormalization(axis=1), "every channel by itself"),
    "batch": (lambda: layers.UnitNormalization(axis=(0, 2)), "over the batch"),
    "epsilon": (lambda: layers.RMSNormalization(epsilon=-1.0), "epsilon is -1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    make, why = REFUSED[name]
    with pytest.raises(UnsupportedModelError, match=why):
        kernel_of(make(), (5, 4))


def test_groups_of_a_flattened_tensor_are_refused():
    with pytest.raises(UnsupportedModelError, match="some of the positions"):
        kernel_of(layers.GroupNormalization(2), (5, 4), flat=True)


def test_groups_that_cut_across_concatenated_channels(rng):
    """Channels 0-3 of a; 4-5 of a with 0-1 of b; 2-5 of b: three statistics."""
    x = rng.normal(size=(3, 4))
    i = keras.Input((4,))
    a = layers.Dense(6, kernel_initializer="he_normal")(i)
    b = layers.Dense(6, kernel_initializer=keras.initializers.VarianceScaling(5.0))(i)
    h = layers.GroupNormalization(3)(layers.Concatenate()([a, b]))
    model = keras.Model(i, layers.Dense(2, kernel_initializer="lecun_normal")(h))
    k = x @ x.T / 4

    def group(a2, b2):
        mixed = (a2 + b2) / 2 * k
        r = 1 / np.sqrt(mixed.diagonal() + 1e-3)
        return mixed * np.outer(r, r)

    expected = (group(2.0, 2.0) + group(2.0, 5.0) + group(5.0, 5.0)) / 3
    np.testing.assert_allclose(keras2gp.convert(model, dtype="float64")(x), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        (Normalize(1, (1.0,), (), True, True, 0.0), ((),)),
        (Normalize(0, (1.0,), (True,), True, True, 0.0), ((),)),
        (Normalize(0, (0.5, 0.5), (False,), True, True, 0.0), ((3,), (4,))),
        (Normalize(0, (1.0,), (), True, False, 0.0), ((),)),
    ],
)
def test_fields_that_do_not_fit(op, inputs):
    with pytest.raises(GraphError):
        op.spatial(inputs)


def mean(x):
    return ops.mean(x, axis=-1, keepdims=True)


def deviations(x):
    return x - mean(x)


def from_moments(x):
    first, second = ops.moments(x, [-1], keepdims=True)
    return (x - first) * ops.rsqrt(second + 0.25)


LAYER = layers.LayerNormalization(epsilon=0.25)
RMS = layers.RMSNormalization(epsilon=0.25)
WRITTEN = {
    "by var": (
        lambda x: (x - mean(x)) / ops.sqrt(ops.var(x, axis=-1, keepdims=True) + 0.25), LAYER,
    ),
    "by moments": (from_moments, LAYER),
    "by the mean of squares": (
        lambda x: ops.divide(deviations(x), (mean((x - mean(x)) ** 2) + 0.25) ** 0.5),
        LAYER,
    ),
    "by the square of what is divided": (
        lambda x: (d := deviations(x)) * (1.0 / ops.sqrt(0.25 + mean(ops.square(d)))), LAYER,
    ),
    "by the deviation": (
        lambda x: deviations(x) / ops.std(x, axis=-1, keepdims=True),
        layers.LayerNormalization(epsilon=0.0),
    ),
    "root mean square": (lambda x: x * ops.rsqrt(mean(x * x) + 0.25), RMS),
    "root mean square, in other words": (
        lambda x: ops.power(mean(ops.power(x, 2)) + 0.25, -0.5) * ops.cast(x, "float32"), RMS,
    ),
    "a norm": (
        lambda x: x / ops.norm(x, axis=-1, keepdims=True), layers.UnitNormalization(),
    ),
    "a norm, in other words": (
        lambda x: x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True)),
        layers.UnitNormalization(),
    ),
    "a norm of deviations": (
        lambda x: ops.normalize(deviations(x)),
        lambda x: layers.UnitNormalization()(layers.LayerNormalization(epsilon=1e-12)(x)),
    ),
    "factors": (
        lambda x: 0.5 * ((x - mean(x)) / ops.sqrt(ops.var(x, -1, keepdims=True) + 0.25)) + 0.1,
        lambda x: 0.5 * layers.LayerNormalization(epsilon=0.25)(x) + 0.1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_a_normalisation_written_by_hand_is_the_layer(name, rng):
    """It computes what the layer does, and has its kernel."""
    by_hand, layer = WRITTEN[name]
    numbers = rng.normal(0.5, 2.0, (5, 8)).astype("float32")
    np.testing.assert_allclose(by_hand(ops.array(numbers)), layer(numbers), rtol=1e-4, atol=1e-5)
    x = rng.normal(size=(4, 6, 5, 2))

    def network(norm):
        def function(inputs):
            h = layers.Conv2D(8, 3, activation="relu", kernel_initializer="he_normal")(inputs)
            h = layers.Conv2D(8, 1, kernel_initializer="he_normal")(h)
            h = layers.Conv2D(8, 1, activation="relu")(norm(h))
            return layers.GlobalAveragePooling2D()(h)

        return function

    kernels = (networks.kernel_of(network(norm), x.shape[1:]) for norm in (by_hand, fresh(layer)))
    networks.assert_same(*kernels, x)


def fresh(layer):
    """A layer that belongs to no model yet."""
    return type(layer).from_config(layer.get_config()) if isinstance(layer, keras.Layer) else layer


NOT_A_NORM = {
    "over positions": (
        lambda x: (x - ops.mean(x, 1, keepdims=True))
        / ops.sqrt(ops.var(x, 1, keepdims=True) + 0.25),
        "every channel by itself",
    ),
    "of another tensor": (
        lambda x: x / ops.sqrt(ops.var(dense(x), axis=-1, keepdims=True) + 0.25),
        "random denominator",
    ),
    "another mean": (
        lambda x: (x - mean(dense(x))) / ops.sqrt(ops.var(x, axis=-1, keepdims=True) + 0.25),
        "random denominator",
    ),
    "absolute values": (
        lambda x: x / (mean(ops.abs(x)) + 0.25), "random denominator",
    ),
    "deviations over the root mean square": (
        lambda x: deviations(x) / ops.sqrt(mean(x * x) + 0.25), "random denominator",
    ),
    "epsilon outside of the root": (
        lambda x: x / (ops.sqrt(mean(x * x)) + 0.25), "random denominator",
    ),
}  # fmt: skip


def dense(x):
    return layers.Dense(8)(x)


@pytest.mark.parametrize("name", NOT_A_NORM)
def test_what_only_looks_like_a_normalisation_is_refused(name):
    function, why = NOT_A_NORM[name]
    x = keras.Input((4, 3))
    h = layers.Dense(2)(layers.Flatten()(function(dense(x))))
    with pytest.raises(UnsupportedModelError, match=why):
        keras2gp.convert(keras.Model(x, h))


def antirectifier(h):
    centred = h - mean(h)
    return ops.concatenate([ops.relu(centred), ops.relu(-centred)], axis=-1)


LESS_MEAN = {
    "before an activation": (lambda h: ops.relu(h - mean(h)), ops.relu),
    "before weights": (lambda h: h - mean(h), lambda h: h),
    "both signs": (antirectifier, lambda h: ops.concatenate([ops.relu(h), ops.relu(-h)], -1)),
    "of joined groups": (
        lambda h: ops.tanh((g := ops.concatenate([h, dense(ops.relu(h))], -1)) - mean(g)),
        lambda h: ops.tanh(ops.concatenate([h, dense(ops.relu(h))], -1)),
    ),
}


@pytest.mark.parametrize("name", LESS_MEAN)
def test_a_mean_that_vanishes_is_left_out(name, rng):
    """Of n channels of mean 0 it has 1/n of the variance of one."""
    x, (function, without) = rng.normal(size=(4, 5)), LESS_MEAN[name]
    kernels = [networks.kernel_of(lambda i, f=f: f(dense(i)), (5,)) for f in (function, without)]
    networks.assert_same(*kernels, x)


KEPT_MEANS = {
    "of an activation": lambda h: dense((r := ops.relu(h)) - mean(r)),
    "at the output too": lambda h: ops.concatenate([c := h - mean(h), dense(ops.relu(c))], -1),
    "under an activation at the output": lambda h: ops.relu(h - mean(h)),
    "over a part": lambda h: dense(h - mean(h[:, :4])),
}


@pytest.mark.parametrize("name", KEPT_MEANS)
def test_a_mean_that_does_not_vanish_is_refused(name):
    x = keras.Input((5,))
    with pytest.raises(UnsupportedModelError):
        keras2gp.convert(keras.Model(x, KEPT_MEANS[name](dense(x))))


def test_an_output_less_its_mean_keeps_it(rng):
    x, i = rng.normal(size=(3, 5)), keras.Input((5,))
    h = layers.Dense(3, kernel_initializer="he_normal")(i)
    kernel = keras2gp.convert(keras.Model(i, h - mean(h)), dtype="float64")
    matrix = kernel(x, x, positions="all").numpy()
    expected = np.einsum("ij,pq->ipjq", 2 * x @ x.T / 5, np.eye(3) - 1 / 3)
    np.testing.assert_allclose(matrix, expected, rtol=1e-9, atol=1e-12)


WIDE = {
    "root mean square": lambda h: ops.relu(h * ops.rsqrt(mean(h * h) + 0.25)),
    "a norm": lambda h: ops.tanh(8 * (h / ops.norm(h, axis=-1, keepdims=True))),
    "less its mean": antirectifier,
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in WIDE])
@pytest.mark.usefixtures("traced")
def test_wide_copies_of_what_is_written_by_hand(name, rng):
    x = keras.Input((5,))
    model = keras.Model(x, layers.Dense(1)(WIDE[name](dense(x))))
    assert keras2gp.verify(model, data=rng.normal(size=(3, 5))).accepted


def test_a_batch_normalisation_of_positions_is_one_factor():
    """Its parameters are the same for all positions before any training, whatever its axis is."""
    x = keras.Input((4, 3))

    def kernel(axis, **settings):
        layer = layers.BatchNormalization(axis=axis, beta_initializer=CONSTANT(0.5), **settings)
        h = ops.relu(layer(layers.Conv1D(6, 2, kernel_initializer="he_normal")(x)))
        return keras2gp.convert(keras.Model(x, layers.Dense(1)(layers.Flatten()(h))))

    data = np.random.default_rng(0).normal(size=(3, 4, 3))
    expected = kernel(-1).matrix(data, get="both")
    np.testing.assert_array_equal(kernel(1).matrix(data, get="both"), expected)
    numbers = CONSTANT([1.0, 2.0, 3.0])
    with pytest.raises(keras2gp.UnsupportedModelError, match="other parameters for each position"):
        kernel(1, moving_mean_initializer=numbers)
    with pytest.raises(keras2gp.UnsupportedModelError, match="other parameters for each position"):
        kernel(1, gamma_initializer=keras.initializers.RandomNormal(1.0, 0.5))
