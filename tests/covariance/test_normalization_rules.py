"""Normalisation at infinite width: against numpy with all positions, and against wide networks."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import keras
import numpy as np
import pytest
from keras import layers
from oracles import naive as oracle

import keras2gp

W2, B2, SIZE = 2.0, 0.09, 5
HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}


def conv(x, window=3, units=8, activation=None):
    return layers.Conv1D(units, window, padding="same", activation=activation, **HE)(x)


def weights(groups, window):
    """Second moments [N, N, P, P] after a convolution of (channels, second, mean) groups."""
    total = sum(channels for channels, *_ in groups)
    k = sum(channels / total * second for channels, second, _ in groups)
    size, half = k.shape[-1], window // 2
    padded = np.pad(k, [(0, 0), (0, 0), (half, half), (half, half)])
    taps = sum(padded[:, :, t : t + size, t : t + size] for t in range(window)) / window
    return B2 + W2 * taps


def relu(k):
    q = np.einsum("iipp->ip", k)
    q1, q2 = np.broadcast_arrays(q[:, None, :, None], q[None, :, None, :])
    return oracle.relu_dual(k, q1, q2), np.sqrt(q / (2 * np.pi))


def gaussian(k):
    return k, np.zeros(k.shape[1:3])


def normalized(groups, everywhere, centered, deviation, epsilon):
    """Every group minus the mean of all, over the root of their second moment or variance."""
    total = sum(channels for channels, *_ in groups)
    mean = sum(c / total * m for c, _, m in groups)
    square = sum(c / total * np.einsum("iipp->ip", k) for c, k, _ in groups)
    if everywhere:
        mean, square = (np.broadcast_to(a.mean(1)[:, None], a.shape) for a in (mean, square))
    r = 1 / np.sqrt(square - (mean**2 if deviation else 0) + epsilon)
    mean = mean if centered else 0 * mean
    made = []
    for channels, k, m in groups:
        about = k - np.einsum("ip,jq->ijpq", m, mean) - np.einsum("ip,jq->ijpq", mean, m - mean)
        made.append((channels, about * np.einsum("ip,jq->ijpq", r, r), (m - mean) * r))
    return made


BEFORE = {
    "gaussian": (
        lambda x: conv(x),
        lambda k: [(8, *gaussian(weights(k, 3)))],
    ),
    "features": (
        lambda x: conv(x, activation="relu"),
        lambda k: [(8, *relu(weights(k, 3)))],
    ),
    "groups": (
        lambda x: layers.Concatenate()(
            [conv(x, activation="relu"), conv(x, 1, units=4), conv(x, 5, 4, "relu")]
        ),
        lambda k: [
            (8, *relu(weights(k, 3))),
            (4, *gaussian(weights(k, 1))),
            (4, *relu(weights(k, 5))),
        ],
    ),
}
NORMALIZATIONS = {
    "channels": (lambda: layers.LayerNormalization(), (False, True, True, 1e-3)),
    "positions": (lambda: layers.LayerNormalization(axis=(1, 2)), (True, True, True, 1e-3)),
    "one group": (lambda: layers.GroupNormalization(1), (True, True, True, 1e-3)),
    "root mean square": (
        lambda: layers.RMSNormalization(epsilon=0.1), (False, False, False, 0.1),
    ),
    "rms over positions": (lambda: layers.RMSNormalization((1, 2)), (True, False, False, 1e-6)),
    "rms_scaling": (
        lambda: layers.LayerNormalization(rms_scaling=True), (False, False, True, 1e-3),
    ),
}  # fmt: skip
AFTER = {
    "global average": (layers.GlobalAveragePooling1D, lambda k: np.einsum("ijpq->ij", k) / SIZE**2),
    "flatten": (layers.Flatten, lambda k: np.einsum("ijpp->ij", k) / SIZE),
}


def data(x):
    return [(x.shape[-1], np.einsum("ipc,jqc->ijpq", x, x) / x.shape[-1], None)]


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling")
@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("kind", NORMALIZATIONS)
@pytest.mark.parametrize("before", BEFORE)
def test_agrees_with_all_positions(before, kind, after, rng):
    (make, expect), (layer, how), (end, ended) = BEFORE[before], NORMALIZATIONS[kind], AFTER[after]
    x = h = keras.Input((SIZE, 2))
    h = layers.ReLU()(conv(layer()(make(h))))
    model = keras.Model(x, layers.Dense(2, **HE)(end()(h)))
    kernel = keras2gp.convert(model, dtype="float64")
    images = rng.normal(size=(5, SIZE, 2))
    k, _ = relu(weights(normalized(expect(data(images)), *how), 3))
    expected = B2 + W2 * ended(k)
    np.testing.assert_allclose(kernel(images), expected, rtol=1e-11)
    np.testing.assert_allclose(kernel(images[:2], images[2:]), expected[:2, 2:], rtol=1e-11)


def wide(layer, units, draws, x):
    """Mean over draws of the second moments of `layer` of relu features, and their error."""
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layer()(conv(inputs, units=units, activation="relu")))
    (made,) = (la for la in model.layers if la.weights and hasattr(la, "kernel"))
    moments = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        fan_in = np.prod(made.kernel.shape[:-1])
        made.kernel.assign(rng.normal(size=made.kernel.shape) * np.sqrt(W2 / fan_in))
        made.bias.assign(rng.normal(size=made.bias.shape) * np.sqrt(B2))
        f = np.asarray(model(x), "float64")
        moments.append(np.einsum("ipc,jpc->ij", f, f) / units / SIZE)
    return np.mean(moments, 0), np.std(moments, 0, ddof=1) / np.sqrt(draws)


@pytest.mark.parametrize("kind", ["channels", "positions"])
def test_wide_networks_tend_to_it(kind, rng):
    x = rng.normal(size=(3, SIZE, 2))
    layer, _ = NORMALIZATIONS[kind]
    inputs = keras.Input(x.shape[1:])
    h = layer()(conv(inputs, activation="relu"))
    model = keras.Model(inputs, layers.Dense(2, kernel_initializer="lecun_normal")(
        layers.Flatten()(h)))  # fmt: skip
    expected = np.asarray(keras2gp.convert(model, dtype="float64")(x))
    found, error = wide(layer, 4096, 40, x)
    # Five standard errors, and the bias of a ratio of averages over 4096 channels.
    assert (np.abs(found - expected) < 5 * error + 4 / 4096).all()
    uncentered, _ = wide(lambda: layers.RMSNormalization(), 4096, 4, x)
    assert (np.abs(uncentered - expected) > 20 * (5 * error + 4 / 4096))[0, 1]
