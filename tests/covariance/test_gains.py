"""Random gammas: the moments of their laws, and networks with them, against numpy."""

import keras
import numpy as np
import pytest
from keras import initializers as init
from keras import layers
from oracles import full_covariance as full_oracle
from oracles import quadrature
from scipy import integrate, stats

import keras2gp
from keras2gp.conversion.initial_values import moments_of
from keras2gp.errors import UnsupportedModelError

W2, B2 = 2.0, 0.09
HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}

LAWS = {
    "normal": (init.RandomNormal(1.0, 0.5), stats.norm(1.0, 0.5)),
    "centred": (init.RandomNormal(0.0, 0.02), stats.norm(0.0, 0.02)),
    "negative": (init.RandomNormal(-2.0, 0.3), stats.norm(-2.0, 0.3)),
    "uniform": (init.RandomUniform(0.5, 2.0), stats.uniform(0.5, 1.5)),
    "uniform around 0": (init.RandomUniform(-1.0, 3.0), stats.uniform(-1.0, 4.0)),
    "truncated": (
        init.TruncatedNormal(0.5, 1.0), stats.truncnorm(-2.0, 2.0, loc=0.5, scale=1.0)
    ),
    "truncated above 0": (
        init.TruncatedNormal(1.0, 0.2), stats.truncnorm(-2.0, 2.0, loc=1.0, scale=0.2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAWS)
def test_moments_are_those_of_the_law(name):
    initializer, law = LAWS[name]
    found = moments_of(initializer)
    low, high = law.ppf([1e-15, 1 - 1e-15])
    points = [0.0] if low < 0.0 < high else None
    absolute, _ = integrate.quad(lambda t: abs(t) * law.pdf(t), low, high, points=points)
    assert found.mean == pytest.approx(law.mean(), rel=1e-9, abs=1e-12)
    assert found.variance == pytest.approx(law.var(), rel=1e-9)
    assert found.square == pytest.approx(law.var() + law.mean() ** 2, rel=1e-9)
    assert found.absolute == pytest.approx(absolute, rel=1e-9)


@pytest.mark.parametrize(
    "initializer",
    [init.Orthogonal(), init.GlorotNormal(), init.RandomNormal(1.0, 0.0), init.RandomUniform(1, 1)],
)
def test_other_laws_have_none(initializer):
    assert moments_of(initializer) is None


def dense(x, **settings):
    return layers.Dense(8, **(HE | settings))(x)


def normalized(x, law="normal", **settings):
    return layers.BatchNormalization(gamma_initializer=LAWS[law][0], epsilon=0.0, **settings)(x)


ACTIVATIONS = {
    "relu": (layers.ReLU, lambda u: np.maximum(u, 0)),
    "leaky_relu": (lambda: layers.LeakyReLU(0.3), lambda u: np.where(u > 0, u, 0.3 * u)),
    "prelu": (lambda: layers.PReLU(init.Constant(-0.5)), lambda u: np.where(u > 0, u, -0.5 * u)),
    "abs": (lambda: layers.Activation(keras.ops.abs), np.abs),
    "linear": (lambda: layers.Activation("linear"), lambda u: u),
}


def covariance_of(data):
    k = B2 + W2 * data @ data.T / data.shape[1]
    return k, k.diagonal()


@pytest.mark.parametrize(
    ("name", "law"),
    [
        *(("relu", law) for law in LAWS),
        *((name, "normal") for name in ACTIVATIONS if name != "relu"),
    ],
)
def test_homogeneous_activations_agree_with_quadrature(name, law, rng):
    """E[phi(gamma u) phi(gamma v)] is E[gamma^2] E[phi(u) phi(v)]."""
    layer, phi = ACTIVATIONS[name]
    x = keras.Input((3,))
    kernel = keras2gp.convert(
        keras.Model(x, dense(layer()(normalized(dense(x), law)))), dtype="float64"
    )
    data = rng.normal(size=(2, 3))
    k, q = covariance_of(data)
    square = LAWS[law][1].var() + LAWS[law][1].mean() ** 2
    moment = quadrature.pair(phi, (0.0,), k[0, 1], q[0], q[1])
    assert kernel.matrix(data)[0, 1] == pytest.approx(B2 + W2 * square * moment, rel=1e-9)


@pytest.mark.parametrize("law", ["normal", "uniform around 0"])
def test_means_count_by_the_absolute_gamma(law, rng):
    """Cross terms of a sum of features are products of E[phi(gamma u)] = E|gamma| E[phi(u)]."""
    x = keras.Input((3,))
    total = layers.ReLU()(normalized(dense(x), law)) + dense(x, activation="relu")
    data = rng.normal(size=(2, 3))
    kernel = keras2gp.convert(keras.Model(x, dense(total)), dtype="float64")
    k, q = covariance_of(data)
    relu = quadrature.pair(lambda u: np.maximum(u, 0), (0.0,), k[0, 1], q[0], q[1])
    moments = moments_of(LAWS[law][0])
    means = np.sqrt(q / (2 * np.pi))
    crossed = 2 * moments.absolute * means[0] * means[1]
    expected = B2 + W2 * ((moments.square + 1.0) * relu + crossed)
    assert kernel.matrix(data)[0, 1] == pytest.approx(expected, rel=1e-9)


def scaled(law):
    """The root of E[gamma^2] as a factor, which an oracle knows."""
    return layers.Rescaling(np.sqrt(moments_of(LAWS[law][0]).square))


NETWORKS = {
    "pooling before the activation": (
        lambda h, gamma: layers.ReLU()(layers.AveragePooling2D(2, 1)(gamma(h))), "centred"
    ),
    "features": (lambda h, gamma: gamma(layers.ReLU()(h)), "negative"),
    "no activation": (lambda h, gamma: layers.AveragePooling2D(2, 1)(gamma(h)), "normal"),
    "a normalisation after it": (
        lambda h, gamma: layers.ReLU()(layers.LayerNormalization(epsilon=1e-3)(
            layers.Conv2D(4, 1, **HE)(layers.ReLU()(gamma(h))))), "uniform"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_agree_with_all_positions(name, rng):
    function, law = NETWORKS[name]
    data = rng.normal(size=(3, 3, 3, 2))
    models = []
    for gamma in (lambda h: normalized(h, law), scaled(law)):
        x = keras.Input((3, 3, 2))
        h = layers.Conv2D(4, 2, padding="same", **HE)(x)
        h = layers.Conv2D(4, 2, **HE)(function(h, gamma))
        models.append(keras.Model(x, layers.Dense(3, **HE)(layers.Flatten()(h))))
    kernel = keras2gp.convert(models[0], dtype="float64")
    expected = full_oracle.full_kernel(models[1], data, data)
    np.testing.assert_allclose(kernel(data), expected, rtol=1e-8)


LAYERS = {
    "LayerNormalization": lambda g: layers.LayerNormalization(gamma_initializer=g),
    "GroupNormalization": lambda g: layers.GroupNormalization(1, gamma_initializer=g),
}


@pytest.mark.parametrize("name", LAYERS)
def test_other_normalisations_are_read_likewise(name, rng):
    data = rng.normal(size=(3, 3))
    found = []
    for gamma in (LAWS["normal"][0], init.Constant(np.sqrt(1.25))):
        x = keras.Input((3,))
        h = layers.ReLU()(LAYERS[name](gamma)(dense(x)))
        kernel = keras2gp.convert(keras.Model(x, dense(h)), dtype="float64")
        found.append(np.asarray(kernel(data)))
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_kernels_are_those_of_a_wide_network(rng):
    """One hidden layer of 400,000 units, and the sums over its weights of the tangent kernel."""
    x = keras.Input((3,))
    model = keras.Model(x, dense(layers.ReLU()(normalized(dense(x)))))
    data = rng.normal(size=(2, 3))
    nngp, ntk = np.asarray(keras2gp.convert(model, dtype="float64").matrix(data, None, "both"))
    n = 400_000
    w = rng.normal(size=(3, n)) * np.sqrt(W2 / 3)
    gamma = 1.0 + 0.5 * rng.normal(size=n)
    u = data @ w + 0.3 * rng.normal(size=n)
    on = (gamma * u > 0).astype(float)
    k = B2 + W2 * data @ data.T / 3
    for i in range(2):
        for j in range(2):
            features = gamma**2 * u[i] * u[j] * on[i] * on[j]
            hidden = on[i] * on[j] * (gamma**2 * k[i, j] + 0.25 * u[i] * u[j])
            both = W2 * features, W2 * (features + hidden)
            for terms, found in zip(both, (nngp[i, j], ntk[i, j]), strict=True):
                error = terms.std() / np.sqrt(n)
                assert abs(B2 + terms.mean() - found) < 4 * error


def test_a_kernel_with_a_gamma_comes_back_from_its_file(tmp_path, rng):
    x = keras.Input((3,))
    kernel = keras2gp.convert(keras.Model(x, dense(layers.ReLU()(normalized(dense(x))))))
    assert any("random gamma" in row.note for row in kernel.report.rows)
    kernel.save(tmp_path / "kernel")
    data = rng.normal(size=(3, 3))
    np.testing.assert_array_equal(keras2gp.load(tmp_path / "kernel")(data), kernel(data))


def test_a_store_is_of_a_kernel_whatever_its_layers_are_called(tmp_path, rng):
    data = rng.normal(size=(4, 3))
    for _ in range(2):  # Keras counts on, so that the names are others
        x = keras.Input((3,))
        kernel = keras2gp.convert(keras.Model(x, dense(layers.ReLU()(normalized(dense(x))))))
        store = keras2gp.gram(kernel, data, out=tmp_path / "K.zarr", progress=False)
    np.testing.assert_allclose(store[:], kernel(data), rtol=1e-5)


def twice(x):
    layer = layers.BatchNormalization(gamma_initializer=LAWS["normal"][0])
    return dense(layers.ReLU()(layer(dense(x))) + layers.ReLU()(layer(dense(x))))


def shared(x):
    """Two layers that hold one gamma."""
    first, second = (
        layers.BatchNormalization(gamma_initializer=LAWS["normal"][0]) for _ in range(2)
    )
    one, two = layers.ReLU()(first(dense(x))), dense(x)
    second.build(two.shape)
    vars(second)["gamma"] = first.gamma  # as a subclass does that makes no gamma of its own
    return dense(one + layers.ReLU()(second(two)))


def test_two_gammas_of_one_variable_are_no_independent_ones(rng):
    """E[gamma^2] would be E[gamma]^2 in the cross terms: the kernel of wide copies is another."""
    n, copies = 2000, 200
    u = rng.normal(size=(2, copies, n))
    gammas = 1.0 + 0.5 * rng.normal(size=(2, copies, n))
    relu = np.maximum(gammas[:1] * u, 0.0).sum(axis=0), np.maximum(gammas * u, 0.0).sum(axis=0)
    one, two = (np.mean(h**2, axis=-1) for h in relu)
    assert one.mean() - two.mean() > 5 * np.hypot(one.std(), two.std()) / copies**0.5


@pytest.mark.parametrize("name", LAYERS)
def test_two_calls_on_one_tensor_are_twice_its_result(name, rng):
    data = rng.normal(size=(3, 3))
    found = []
    for times in (1, 2):
        x = keras.Input((3,))
        h, norm = dense(x), LAYERS[name](LAWS["normal"][0])
        h = 2.0 * norm(h) if times == 1 else norm(h) + norm(h)
        kernel = keras2gp.convert(keras.Model(x, dense(layers.ReLU()(h))), dtype="float64")
        found.append(np.asarray(kernel.matrix(data, None, "both")))
    np.testing.assert_allclose(*found, rtol=1e-12)


REFUSED = {
    "another activation": (
        lambda x: dense(layers.Activation("tanh")(normalized(dense(x)))), "gamma"
    ),
    "a beta": (
        lambda x: dense(layers.ReLU()(normalized(dense(x), beta_initializer="ones"))), "gamma"
    ),
    "a sum": (lambda x: dense(layers.ReLU()(normalized(dense(x)) + dense(x))), "gamma"),
    "both signs of features": (
        lambda x: dense(layers.LeakyReLU()(normalized(dense(x, activation="relu")))),
        "no weights after it",
    ),
    "the output": (lambda x: normalized(dense(x)), "random factor for each channel"),
    "two tensors": (twice, "multiplies several tensors"),
    "two layers": (shared, "is also that of batch"),
    "an initial mean": (
        lambda x: dense(layers.ReLU()(normalized(dense(x), moving_mean_initializer="ones"))),
        "initial mean is not 0",
    ),
    "another law": (
        lambda x: dense(layers.BatchNormalization(gamma_initializer="glorot_normal")(dense(x))),
        "no constant",
    ),
    "data among channels": (
        lambda x: dense(normalized(layers.Concatenate()([x, dense(x)]))), "few of them"
    ),
    "one branch by two gammas": (
        lambda x: dense(normalized(h := dense(x)) + normalized(h)), "same random layer"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_reason(name):
    function, why = REFUSED[name]
    x = keras.Input((3,))
    with pytest.raises(UnsupportedModelError, match=why) as error:
        keras2gp.convert(keras.Model(x, function(x)))
    assert all(obstacle.hint for obstacle in error.value.obstacles)
