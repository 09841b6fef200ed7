"""Products of independent branches, against an oracle that carries all positions.

Gates are functions whose moments both have in closed form: NNGP and NTK agree to 1e-9.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops
from oracles import full_covariance as full_oracle
from oracles.architectures import assert_both_kernels_agree, ending_dense

import keras2gp
from keras2gp.errors import UnsupportedModelError

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
IMAGE = (4, 3, 2)


def conv(x, window=2, units=6, **settings):
    rank = len(x.shape) - 2
    kind = getattr(layers, f"Conv{rank}D")
    return kind(units, window, **(HE | {"padding": "same"} | settings))(x)


def dense(x, units=6, **settings):
    return layers.Dense(units, **(HE | settings))(x)


def pool(x, *args, **settings):
    return getattr(layers, f"AveragePooling{len(x.shape) - 2}D")(*args, **settings)(x)


def squeezed(h, *, keepdims=False):
    """The gate of squeeze and excitation."""
    g = layers.GlobalAveragePooling2D(keepdims=keepdims)(h)
    return ops.erf(dense(dense(g, 3, activation="relu"), h.shape[-1]))


def excited(x):
    h = conv(x, activation="relu")
    return pool(layers.Multiply()([h, layers.Reshape((1, 1, 6))(squeezed(h))]), 2, 1)


def residual(x):
    """A residual block that ends in squeeze and excitation."""
    h = conv(x)
    r = conv(conv(h, activation="relu"))
    return pool(conv(layers.ReLU()(conv(h + r * squeezed(r, keepdims=True)))), 2)


def gated(x):
    """Causal convolutions whose channels gate one another."""
    for dilation in (1, 2):
        h = conv(x, 2, 8, padding="causal", dilation_rate=dilation)
        x = conv(ops.erf(h[..., :4]) * layers.ReLU()(h[:, :, 4:]), 1)
    return layers.GlobalAveragePooling1D()(x)


def split(x):
    first, second = ops.split(conv(x, units=8), 2, axis=-1)
    return pool(first * ops.erf(second), 2, 1)


def towers(x):
    first, second = dense(layers.Flatten()(x)), dense(layers.Flatten()(x), activation="relu")
    return dense(layers.Multiply()([first, second]), activation="relu")


def groups(x):
    a, b, c = conv(x, units=2), conv(x, units=3, activation="relu"), conv(x, units=5)
    return pool(layers.Multiply()([layers.Concatenate()([a, b]), ops.erf(c)]), 2, 1)


CASES = {
    "squeeze and excitation": (IMAGE, excited),
    "a vector gates a map": (IMAGE, lambda x: layers.Multiply()([
        h := conv(x, activation="relu"), squeezed(h)])),
    "residual squeeze and excitation": (IMAGE, residual),
    "gated convolutions": ((7, 2), gated),
    "split": (IMAGE, split),
    "towers": (IMAGE, towers),
    "channel groups": (IMAGE, groups),
    "features pooled": (IMAGE, lambda x: layers.GlobalAveragePooling2D()(
        conv(x, activation="relu") * conv(x, 1, activation="leaky_relu"))),
    "three factors": (IMAGE, lambda x: pool(layers.Multiply()([
        conv(x), conv(x, activation="relu"), ops.erf(conv(x))]), 2)),
    "depthwise after a product": (IMAGE, lambda x: layers.DepthwiseConv2D(
        2, depthwise_initializer="he_normal")(conv(x) * conv(x, activation="relu"))),
    "sum of products of features": (IMAGE, lambda x: pool(
        conv(x, activation="relu") * conv(x, activation="relu") + conv(x, activation="relu"), 2)),
    "one row gates all": (IMAGE, lambda x: conv(
        conv(x) * ops.erf(layers.AveragePooling2D((4, 1))(conv(x))), activation="relu")),
    "a mean is added everywhere": (IMAGE, lambda x: layers.ReLU()(layers.Add()([
        conv(x), dense(layers.GlobalAveragePooling2D()(conv(x, activation="relu")))]))),
    "times the input": (IMAGE, lambda x: pool(conv(x, units=2) * x, 2, 1)),
    "features times the input": (IMAGE, lambda x: pool(conv(conv(
        layers.Multiply()([x, conv(x, units=2, activation="relu")])), activation="relu"), 2, 1)),
    "padded after broadcasting": (IMAGE, lambda x: pool(conv(
        conv(x) * layers.GlobalAveragePooling2D(keepdims=True)(conv(x))), 2, 1)),
}  # fmt: skip


def model_of(case):
    return ending_dense(*CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_all_positions(case, rng):
    model = model_of(case)
    assert_both_kernels_agree(model, rng.normal(size=(4, *model.input_shape[1:])))


def _relu_moments(k):
    """E[relu relu] and E[relu] of a Gaussian tensor of the covariance k."""
    q = np.sqrt(np.diag(k))
    rho = np.clip(k / np.outer(q, q), -1.0, 1.0)
    second = np.sqrt(1 - rho**2) + (np.pi - np.arccos(rho)) * rho
    return np.outer(q, q) * second / (2 * np.pi), q / np.sqrt(2 * np.pi)


def test_cross_layers_of_the_input(rng):
    """Deep and cross: x0 * Dense(x) + x, on the input itself."""
    x = start = keras.Input((5,))
    for _ in range(2):
        x = start * dense(x, 5) + x
    kernel = keras2gp.convert(keras.Model(start, dense(x)), dtype="float64")
    data = rng.normal(size=(4, 5))
    s, b = data @ data.T / 5, 0.09
    first = 2 * s + b
    second = 2 * s * (1 + first) + b
    expected = 2 * s * (1 + first + second) + b
    slopes = [first, second + 2 * s * first]
    nngp, ntk = np.asarray(kernel.matrix(data, None, "both"))
    np.testing.assert_allclose(nngp, expected, rtol=1e-9)
    np.testing.assert_allclose(ntk, expected + 2 * s * sum(slopes), rtol=1e-9)
    assert "multiply random channels (add" in str(kernel.report)


def test_highway_beside_the_input(rng):
    """t h + (1 - t) x of features t and h, and x the input, whose mean over channels counts."""
    x = keras.Input((5,))
    t, h = dense(x, 5, activation="relu"), dense(x, 5, activation="relu")
    model = keras.Model(x, dense(t * h + (1.0 - t) * x))
    data = rng.normal(size=(4, 5)) + 0.5
    s, b, mean = data @ data.T / 5, 0.09, data.mean(1)
    second, m = _relu_moments(2 * s + b)
    carried = 1 - m[:, None] - m + second
    crossed = np.outer(m, mean) * (m[:, None] - second)
    expected = 2 * (second**2 + s * carried + crossed + crossed.T) + b
    found = keras2gp.convert(model, dtype="float64")(data)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_input_times_random_channels_is_no_output():
    x = keras.Input((5,))
    with pytest.raises(UnsupportedModelError, match="variance of each channel is another"):
        keras2gp.convert(keras.Model(x, x * dense(x, 5)))


def test_one_vector_beside_those_of_a_sequence(rng):
    """Skip-grams: the inner products of a word with each of several others."""
    word, others = keras.Input((1, 4)), keras.Input((3, 5))
    towers = dense(word), dense(others)
    x = [rng.normal(size=(3, 1, 4)), rng.normal(size=(3, 3, 5))]
    for order in (1, -1):
        model = keras.Model([word, others], layers.Dot(2)(towers[::order]))
        kernel = keras2gp.convert(model, dtype="float64")
        assert kernel.positions == (3,)
        expected = full_oracle.between_positions(model, x, x)
        found = np.asarray(kernel(x, positions="all")).transpose(0, 2, 1, 3)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_inner_products_by_einsum(rng):
    x, data = keras.Input((5,)), rng.normal(size=(3, 5))
    first, second = dense(x), dense(x)
    written = keras.Model(x, ops.einsum("bi,bi->b", first, second))
    layer = keras.Model(x, layers.Dot(1)([first, second]))
    kernels = (keras2gp.convert(model, dtype="float64")(data) for model in (written, layer))
    np.testing.assert_array_equal(*kernels)
    other = keras.Model(x, dense(ops.einsum("bi,bj->bij", first, second)))
    assert "ij,ij->i" in keras2gp.inspect(other).obstacles[0].hint


def test_heads_of_products_that_share_a_factor_are_uncorrelated(rng):
    """Sums of a b and of a c over many channels: b and c have mean 0 and are apart."""
    x = keras.Input((4,))
    a, b, c = (layers.Dense(6, name=name, **HE)(x) for name in "abc")
    c = ops.tanh(c)
    sums = [ops.sum(a * each, axis=-1, keepdims=True) for each in (b, c)]
    images = rng.normal(size=(3, 4))
    joint = keras2gp.convert(keras.Model(x, ops.concatenate(sums, -1)), dtype="float64")
    for kind in ("nngp", "ntk"):
        found = np.asarray(joint(images, get=kind, positions="all"))
        for i, head in enumerate(sums):
            alone = keras2gp.convert(keras.Model(x, head), dtype="float64")
            np.testing.assert_allclose(found[:, i, :, i], alone(images, get=kind), rtol=1e-12)
        np.testing.assert_array_equal(found[:, 0, :, 1], 0.0)
    wide, draws = 400, 300
    heads = np.empty((draws, 3, 2))
    for draw in range(draws):
        u, v, w = (
            rng.normal(size=(wide, 4)) @ images.T * np.sqrt(2 / 4)
            + 0.3 * rng.normal(size=(wide, 1))
            for _ in "abc"
        )
        heads[draw] = np.stack([(u * v).sum(0), (u * np.tanh(w)).sum(0)], -1) * np.sqrt(6 / wide)
    sampled = np.einsum("dip,djq->ipjq", heads, heads) / draws
    expected = np.asarray(joint(images, positions="all"))
    spread = np.sqrt(np.einsum("ipip->ip", expected))
    error = (sampled - expected) / np.einsum("ip,jq->ipjq", spread, spread)
    assert np.abs(error).max() < 5 / np.sqrt(draws)


def test_heads_whose_common_factor_has_a_mean_alone_are_refused():
    x = keras.Input((4,))
    a, b = layers.Dense(6)(x), layers.Dense(6)(x)
    sums = [ops.sum(h, axis=-1, keepdims=True) for h in (a * b, a * ops.relu(b))]
    with pytest.raises(UnsupportedModelError, match="same random layer"):
        keras2gp.convert(keras.Model(x, ops.concatenate(sums, -1)))


def test_channel_slices_of_one_tensor_are_independent(rng):
    """The product of two halves is that of two layers."""
    x = keras.Input((5,))
    h = dense(x, 8)
    halves = keras.Model(x, dense(ops.erf(h[:, :4]) * h[:, 4:]))
    apart = keras.Model(x, dense(ops.erf(dense(x)) * dense(x)))
    data = rng.normal(size=(3, 5))
    kernels = (keras2gp.convert(model, dtype="float64")(data) for model in (halves, apart))
    np.testing.assert_allclose(*kernels, rtol=1e-12)


REFUSED = {
    "one layer on both sides": (
        lambda x: pool(h := conv(x), 2, 1, padding="same") * ops.erf(h),
        "moments of their product are not products of theirs",
    ),
    "depthwise, uncorrelated and dependent": (
        lambda x: (h := conv(x)) * layers.DepthwiseConv2D(3, padding="same")(h),
        "both branches are made of the same random layer",
    ),
    "depthwise of a slice": (
        lambda x: (h := conv(x))[..., 3:]
        * layers.DepthwiseConv2D(3, padding="same")(h[..., 3:]),
        "both branches are made of the same random layer",
    ),
    "activation of a product with the input": (
        lambda x: layers.ReLU()(conv(x, units=2) * x), "the input multiplies it"
    ),
    "the input twice": (
        lambda x: x * (x * conv(x, units=2)), "both hold the input or constants themselves"
    ),
    "two sums with the input": (
        lambda x: (x + conv(x, units=2)) * (x - conv(x, units=2)),
        "both hold the input or constants themselves",
    ),
    "one channel gates all": (
        lambda x: conv(x) * conv(x, units=1, activation="sigmoid"),
        "shares its randomness across channels",
    ),
    "activation of a product": (
        lambda x: layers.ReLU()(conv(x) * conv(x)), "features that are not Gaussian"
    ),
    "overlapping slices": (
        lambda x: ops.erf((h := conv(x))[..., :4]) * (h[..., 1:5] + h[..., :4]),
        "both branches are made of the same random layer",
    ),
    "a quotient": (lambda x: conv(x) / conv(x), "quotient with a random denominator"),
    "some of the input": (
        lambda x: layers.Concatenate()([x, conv(x)])[..., 1:], "not alike"
    ),
    "gated positions": (lambda x: ops.glu(conv(x), axis=1), "gates positions by one another"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_reason(case):
    function, why = REFUSED[case]
    x = keras.Input(IMAGE)
    h = function(x)
    with pytest.raises(UnsupportedModelError, match=why) as error:
        keras2gp.convert(keras.Model(x, dense(layers.Flatten()(h))))
    assert all(obstacle.hint for obstacle in error.value.obstacles)


def test_a_slice_at_the_end_of_the_input_is_a_group_of_its_own(rng):
    x = keras.Input(IMAGE)
    joined = layers.Concatenate()([x, conv(x)])
    model = keras.Model(x, dense(layers.Flatten()(conv(joined[..., 2:]))))
    data = rng.normal(size=(3, *IMAGE))
    found = keras2gp.convert(model, dtype="float64")(data)
    np.testing.assert_allclose(found, full_oracle.full_kernel(model, data, data), rtol=1e-9)
