"""Layers called several times: towers and their merging, against one tower on all images at once.

Cov(f(a), f(b)) of a shared tower f is the tower's kernel between a and b. So the kernel of a merged
network follows from the covariance of one tower over the union of its images, which the oracle of
all positions computes, and from the moments of the merging alone.
"""

import keras
import numpy as np
import pytest
from keras import layers
from oracles import full_covariance as full_oracle

import keras2gp
from keras2gp.errors import UnsupportedModelError

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
W2, B2 = 2.0, 0.09


def dense():
    return (3,), [
        layers.Dense(8, "relu", **HE),
        layers.Dense(8, "gelu", **HE),
        layers.Dense(8, **HE),
    ]


def convolutional():
    return (4, 3, 2), [
        layers.Conv2D(6, 2, padding="same", activation="relu", **HE),
        layers.AveragePooling2D(2, 1),
        layers.Conv2D(6, 2, strides=2, **HE),
        layers.LayerNormalization(),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(8, **HE),
    ]


def upsampled():
    return (3, 2), [
        layers.Conv1D(6, 2, padding="causal", **HE),
        layers.Activation("gelu"),
        layers.UpSampling1D(2),
        layers.Cropping1D((1, 0)),
        layers.ZeroPadding1D(1),
        layers.Conv1D(6, 2, activation="leaky_relu", **HE),
        layers.GlobalAveragePooling1D(),
        layers.Dense(8, **HE),
    ]


SLOW = pytest.mark.slow


@pytest.fixture(
    params=[dense, pytest.param(convolutional, marks=SLOW), pytest.param(upsampled, marks=SLOW)],
    ids=lambda make: make.__name__,
)
def tower(request, rng):
    """A tower as a model, its images on either side, and both covariances of it.

    Covariances [2, 2, N1, N2] between calls: k of x1 and x2, theta, and k of x1 and of x2 alone.
    """
    shape, stack = request.param()
    model = keras.Sequential([keras.Input(shape), *stack])
    x1, x2 = ([rng.normal(size=(n, *shape)) for _ in range(2)] for n in (2, 1))

    def between(function, first, second):
        k = function(model, np.concatenate(first), np.concatenate(second))
        counts = len(first[0]), len(second[0])
        return k.reshape(2, counts[0], 2, counts[1]).transpose(0, 2, 1, 3)

    k = between(full_oracle.full_kernel, x1, x2)
    theta = between(full_oracle.full_tangent, x1, x2)
    own = [between(full_oracle.full_kernel, x, x) for x in (x1, x2)]
    return model, x1, x2, k, theta, own


def both(model, x1, x2):
    kernel = keras2gp.convert(model, dtype="float64")
    return np.asarray(kernel.matrix(x1, x2, "both"))


def difference(k):
    """The covariance of f(a) - f(b) from that of f over both halves of its images."""
    (aa, ab), (ba, bb) = (np.split(rows, 2, axis=2) for rows in np.split(k, 2, axis=1))
    return aa + bb - ab - ba


def merged(tower, function):
    """A model that merges the calls of a tower."""
    a, b = keras.Input(tower.input_shape[1:]), keras.Input(tower.input_shape[1:])
    return keras.Model([a, b], function(tower(a), tower(b)))


def test_differences(tower):
    model, x1, x2, k, theta, _ = tower
    found = both(merged(model, lambda a, b: 0.5 * a - b), x1, x2)
    weights = np.outer([0.5, -1.0], [0.5, -1.0])
    for values, parts in zip(found, (k, theta), strict=True):
        expected = np.einsum("cd,cdij->ij", weights, parts)
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9 * np.abs(parts).max())


def test_concatenation(tower):
    model, x1, x2, k, theta, _ = tower
    head = layers.Dense(1, **HE)
    nngp, ntk = both(merged(model, lambda a, b: head(layers.Concatenate()([a, b]))), x1, x2)
    expected = B2 + W2 * (k[0, 0] + k[1, 1]) / 2
    np.testing.assert_allclose(nngp, expected, rtol=1e-9)
    np.testing.assert_allclose(ntk, expected + W2 * (theta[0, 0] + theta[1, 1]) / 2, rtol=1e-9)


def test_products(tower):
    """Isserlis: E[a b a' b'] = E[a b] E[a' b'] + E[a a'] E[b b'] + E[a b'] E[b a']."""
    model, x1, x2, k, theta, (own1, own2) = tower
    head = layers.Dense(1, **HE)
    nngp, ntk = both(merged(model, lambda a, b: head(layers.Multiply()([a, b]))), x1, x2)
    means = np.outer(np.diagonal(own1[0, 1]), np.diagonal(own2[0, 1]))
    expected = B2 + W2 * (means + k[0, 0] * k[1, 1] + k[0, 1] * k[1, 0])
    np.testing.assert_allclose(nngp, expected, rtol=1e-9)
    tangent = theta[0, 0] * k[1, 1] + theta[1, 1] * k[0, 0]
    tangent += theta[0, 1] * k[1, 0] + theta[1, 0] * k[0, 1]
    np.testing.assert_allclose(ntk, expected + W2 * tangent, rtol=1e-9, atol=1e-9)


def test_what_follows_a_difference(tower):
    """relu of a difference, by its own network on the covariance of the difference."""
    model, x1, x2, k, _, owns = tower
    head = layers.Dense(1, **HE)
    nngp, _ = both(merged(model, lambda a, b: head(layers.ReLU()(a - b))), x1, x2)
    sign = np.outer([1.0, -1.0], [1.0, -1.0])
    c = np.einsum("cd,cdij->ij", sign, k)
    q1, q2 = (np.einsum("cd,cdii->i", sign, own) for own in owns)
    size = np.sqrt(np.outer(q1, q2))
    rho = np.clip(c / size, -1, 1)
    dual = size * (np.sqrt(1 - rho**2) + (np.pi - np.arccos(rho)) * rho) / (2 * np.pi)
    np.testing.assert_allclose(nngp, B2 + W2 * dual, rtol=1e-9)


def test_other_combinations(rng):
    """Residual towers, other layers on top, three calls, shared layers after a permutation."""
    shape = (3,)
    first, second, last = (layers.Dense(8, **HE) for _ in range(3))

    def residual(x):
        h = first(x)
        return last(layers.ReLU()(h + second(layers.ReLU()(h))))

    x = [keras.Input(shape) for _ in range(3)]
    images = [rng.normal(size=(4, 3)) for _ in range(3)]
    alone = keras.Model(x[0], residual(x[0]))
    kernel = keras2gp.convert(alone, dtype="float64")
    unions = np.concatenate(images)
    k = np.asarray(kernel.matrix(unions, None, "both")).reshape(2, 3, 4, 3, 4).swapaxes(2, 3)
    calls = [residual(t) for t in x]
    network = keras.Model(x, calls[2] - 2.0 * calls[0] + calls[1])
    weights = np.array([-2.0, 1.0, 1.0])
    found = keras2gp.convert(network, dtype="float64").matrix(images, None, "both")
    expected = np.einsum("c,d,tcdij->tij", weights, weights, k)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * k.max())
    head = layers.Dense(1, **HE)
    swapped = keras.Model(x[:2], head(layers.ReLU()(calls[1])) - head(layers.ReLU()(calls[0])))
    tower = keras.Model(x[0], head(layers.ReLU()(residual(x[0]))))
    k = np.asarray(keras2gp.convert(tower, dtype="float64").matrix(unions[:8], None, "both"))
    found = keras2gp.convert(swapped, dtype="float64").matrix(images[:2], None, "both")
    np.testing.assert_allclose(found, difference(k), rtol=1e-9, atol=1e-9 * k.max())


def test_one_head_on_independent_branches(rng):
    """k = b2 + w2 m m' between the branches, m being the mean of each after its activation."""
    x, head, last = keras.Input((3,)), layers.Dense(8, **HE), layers.Dense(1, **HE)
    first, second = (layers.ReLU()(layers.Dense(8, **HE)(x)) for _ in range(2))
    images = rng.normal(size=(4, 3))
    k = B2 + W2 * images @ images.T / 3
    size = np.sqrt(np.outer(np.diag(k), np.diag(k)))
    rho = np.clip(k / size, -1, 1)
    relu = size * (np.sqrt(1 - rho**2) + (np.pi - np.arccos(rho)) * rho) / (2 * np.pi)
    mean = np.sqrt(np.diag(k) / (2 * np.pi))
    own, between = B2 + W2 * relu, B2 + W2 * np.outer(mean, mean)
    pair = [head(first), head(second)]
    found = keras2gp.convert(keras.Model(x, layers.Subtract()(pair)), dtype="float64")
    np.testing.assert_allclose(found.matrix(images), 2 * (own - between), rtol=1e-9, atol=1e-12)
    joined = keras.Model(x, last(layers.Concatenate()(pair)))
    kernel = keras2gp.convert(joined, dtype="float64")
    np.testing.assert_allclose(kernel.matrix(images), B2 + W2 * own, rtol=1e-9)
    mixed = keras.Model(x, layers.Add()([head(first), head(second), head(first)]))
    found = keras2gp.convert(mixed, dtype="float64").matrix(images)
    np.testing.assert_allclose(found, 5 * own + 4 * between, rtol=1e-9)


def test_texts_through_one_embedding(rng):
    """Two texts of integers, and the difference of what one tower makes of them."""
    stack = [
        layers.Embedding(5, 8),
        layers.Conv1D(8, 2, activation="relu", **HE),
        layers.GlobalAveragePooling1D(),
        layers.Dense(8, **HE),
    ]
    tower = keras.Sequential([keras.Input((4,), dtype="int32"), *stack])
    a, b = (keras.Input((4,), dtype="int32") for _ in range(2))
    texts = [rng.integers(0, 5, size=(3, 4)) for _ in range(2)]
    pair = keras2gp.convert(keras.Model([a, b], tower(a) - tower(b)), dtype="float64")
    alone = keras2gp.convert(tower, dtype="float64")
    k = np.asarray(alone.matrix(np.concatenate(texts), None, "both"))
    found = pair.matrix(texts, None, "both")
    np.testing.assert_allclose(found, difference(k), rtol=1e-9, atol=1e-9 * k.max())


def test_two_calls_on_one_tensor_are_one(rng):
    x, layer = keras.Input((3,)), layers.Dense(8, **HE)
    twice = keras.Model(x, layer(x) + layer(x))
    once = keras2gp.convert(keras.Model(x, layer(x)), dtype="float64")
    kernel = keras2gp.convert(twice, dtype="float64")
    images = rng.normal(size=(4, 3))
    np.testing.assert_allclose(kernel.matrix(images), 4.0 * once.matrix(images), rtol=1e-12)
    assert kernel.preprocessor is None


def test_calls_on_different_channels_are_not_calls_on_one_tensor(rng):
    """A layer on either half of a layer's channels: independent arguments, and shared biases."""
    x, layer = keras.Input((3,)), layers.Dense(8, **HE)
    h = layers.Dense(8, **HE)(x)
    with pytest.raises(UnsupportedModelError, match="called 2 times"):
        keras2gp.convert(keras.Model(x, layer(h[..., :4]) + layer(h[..., 4:])))
    same = keras2gp.convert(keras.Model(x, layer(h[..., 4:]) + layer(h[..., 4:])), dtype="float64")
    once = keras2gp.convert(keras.Model(x, layer(h[..., 4:])), dtype="float64")
    images = rng.normal(size=(4, 3))
    np.testing.assert_allclose(same.matrix(images), 4.0 * once.matrix(images), rtol=1e-12)


def test_calls_on_data_of_other_sizes_are_refused():
    a, b = keras.Input((4, 2)), keras.Input((6, 2))
    layer = layers.Conv1D(8, 2, name="shared", **HE)
    pooled = [layers.GlobalAveragePooling1D()(layer(t)) for t in (a, b)]
    with pytest.raises(UnsupportedModelError, match="data of one size"):
        keras2gp.convert(keras.Model([a, b], pooled[0] - pooled[1]))


def test_a_random_network_has_the_covariance(rng):
    """Networks of width 256, drawn by Keras: the difference of a tower's calls."""
    a, b = keras.Input((3,)), keras.Input((3,))
    first, last = layers.Dense(256, "relu", **HE), layers.Dense(256, **HE)
    network = keras.Model([a, b], last(first(a)) - last(first(b)))
    images = [rng.normal(size=(3, 3)) for _ in range(2)]
    draws = []
    for _ in range(200):
        values = [
            rng.normal(size=w.shape) * np.sqrt(2 / w.shape[0] if w.ndim > 1 else 0.09)
            for w in network.get_weights()
        ]
        network.set_weights(values)
        y = np.asarray(network(images))
        draws.append(y @ y.T / y.shape[1])
    expected = keras2gp.convert(network, dtype="float64").matrix(images)
    error = np.std(draws, axis=0) / np.sqrt(len(draws))
    assert (np.abs(np.mean(draws, axis=0) - expected) < 4.5 * error).all()
    assert (error < 0.05 * expected.max()).all()


def test_saved_and_stored(tmp_path, rng):
    shape, stack = dense()
    model = merged(keras.Sequential([keras.Input(shape), *stack]), lambda a, b: a - b)
    kernel = keras2gp.convert(model, dtype="float64")
    images = [rng.normal(size=(4, 3)) for _ in range(2)]
    expected = kernel.matrix(images)
    kernel.save(tmp_path / "kernel")
    loaded = keras2gp.load(tmp_path / "kernel")
    np.testing.assert_array_equal(loaded.matrix(images), expected)
    store = keras2gp.gram(kernel, images, out=tmp_path / "K.zarr", progress=False)
    np.testing.assert_array_equal(store[:, :], expected)
    model.save(tmp_path / "model.keras")
    again = keras2gp.convert(tmp_path / "model.keras", dtype="float64")
    np.testing.assert_allclose(again.matrix(images), expected, rtol=1e-12)
