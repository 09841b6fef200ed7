"""Other likelihoods: against dense Newton in numpy, scikit-learn, and exact regression."""

from __future__ import annotations

import json
import warnings

import keras
import numpy as np
import pytest
from gp_kernels import ImageKernel, OnlyProducts, images
from scipy.special import softmax
from scipy.stats import norm, poisson
from scipy.stats import t as student
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils import get_tags

import keras2gp
from keras2gp._util.digest import with_digest
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.predictions import load_fit
from keras2gp.errors import InputError, ModelFileError, NotFittedError, NumericalError
from keras2gp.fit_record import FIT_FILES
from keras2gp.gp import (
    Bernoulli,
    GPLaplace,
    GPRegressor,
    Ordinal,
    Poisson,
    Softmax,
    StudentT,
    Tobit,
    load_head,
    save_head,
)
from keras2gp.gp.laplace.saved_state import LIKELIHOODS

KERNEL = ConstantKernel(2.0) * RBF(1.0)
RANDOM = np.random.default_rng(0)
X, TEST = RANDOM.uniform(-3.0, 3.0, (40, 2)), RANDOM.uniform(-3.0, 3.0, (7, 2))
F = 1.5 * np.sin(X[:, 0]) + np.cos(X[:, 1])
NORMAL = RANDOM.standard_normal(40)
OBSERVED = {
    "bernoulli": (Bernoulli(), np.where(F + NORMAL > 0.0, "yes", "no")),
    "softmax": (Softmax(), np.array(["a", "b", "c"])[np.digitize(F + 0.5 * NORMAL, [-0.7, 0.7])]),
    "poisson": (Poisson(), RANDOM.poisson(np.exp(F))),
    "student": (StudentT(df=4.0, scale=0.3), F + 0.3 * RANDOM.standard_t(4.0, 40)),
    "tobit": (Tobit(0.4, lower=-0.5, upper=1.5), np.clip(F + 0.4 * NORMAL, -0.5, 1.5)),
    "ordinal": (Ordinal(0.6), np.digitize(F + 0.6 * NORMAL, [-1.0, 0.0, 1.2])),
}


def test_every_likelihood_has_observations():
    assert set(OBSERVED) == set(LIKELIHOODS)


def fitted(name, **settings):
    likelihood, y = OBSERVED[name]
    return GPLaplace(KERNEL, likelihood, **{"prior_mean": 0.2, **settings}).fit(X, y)


def derivatives(likelihood, f, y):
    """Gradient and curvature by central differences of the value, [N, C] and [N, C, C]."""
    step, latents = 1e-4, f.shape[1]

    def moved(*axes):
        return likelihood.value(f + step * sum(np.eye(latents)[a] * s for a, s in axes), y)

    slope = np.stack([(moved((a, 1)) - moved((a, -1))) / (2 * step) for a in range(latents)], 1)
    bend = np.empty((len(f), latents, latents))
    for a in range(latents):
        for b in range(latents):
            up = moved((a, 1), (b, 1)) - moved((a, 1), (b, -1))
            bend[:, a, b] = -(up - moved((a, -1), (b, 1)) + moved((a, -1), (b, -1))) / 4 / step**2
    return slope, bend


@pytest.mark.parametrize("name", OBSERVED)
def test_derivatives_are_those_of_the_value(name):
    likelihood, y = OBSERVED[name]
    likelihood, y, classes = likelihood.observed(y, 2.0)
    f = 2.0 * np.random.default_rng(3).standard_normal((40, likelihood.latents(classes)))
    slope, bend = derivatives(likelihood, f, y)
    np.testing.assert_allclose(likelihood.gradient(f, y), slope, rtol=1e-5, atol=1e-6)
    u = np.random.default_rng(4).standard_normal((*f.shape, 2))
    expected = np.einsum("ncd,ndb->ncb", bend, u)
    np.testing.assert_allclose(likelihood.curvature(f, y)(u), expected, rtol=1e-4, atol=1e-5)


def test_values_are_those_of_scipy():
    f, y = NORMAL[:, None], OBSERVED["poisson"][1]
    np.testing.assert_allclose(Poisson().value(f, y), poisson.logpmf(y, np.exp(NORMAL)))
    y = OBSERVED["student"][1]
    expected = student.logpdf(y, 4.0, loc=NORMAL, scale=0.3)
    np.testing.assert_allclose(StudentT(4.0, 0.3).value(f, y), expected)
    y = OBSERVED["tobit"][1]
    exact = norm.logpdf(y, NORMAL, 0.4)
    exact = np.where(y <= -0.5, norm.logcdf(-0.5, NORMAL, 0.4), exact)
    exact = np.where(y >= 1.5, norm.logsf(1.5, NORMAL, 0.4), exact)
    np.testing.assert_allclose(OBSERVED["tobit"][0].value(f, y), exact)
    ordinal, index, _ = Ordinal(0.6, (-1.0, 0.0, 1.2)).observed(OBSERVED["ordinal"][1], 1.0)
    ends = np.array([-np.inf, -1.0, 0.0, 1.2, np.inf])
    share = norm.cdf(ends[index + 1], NORMAL, 0.6) - norm.cdf(ends[index], NORMAL, 0.6)
    np.testing.assert_allclose(ordinal.value(f, index), np.log(share))
    np.testing.assert_allclose(ordinal.response(f).sum(axis=1), 1.0)
    # Far out in either tail the digits stay.
    far = ordinal.value(np.array([[40.0], [-40.0]]), np.array([1, 2]))
    np.testing.assert_allclose(far, norm.logcdf([-40.0 / 0.6, -40.0 / 0.6]), rtol=1e-3)


def dense_newton(name):
    """Mode and Laplace moments at TEST with matrices written out, [N C, N C]."""
    likelihood, y = OBSERVED[name]
    likelihood, y, classes = likelihood.observed(y, 2.0)
    latents, count = likelihood.latents(classes), len(X)
    blocks = np.kron(KERNEL(X), np.eye(latents))
    inverse = np.linalg.inv(blocks + 1e-13 * np.eye(len(blocks)))
    f = np.full((count, latents), 0.2)

    def curvature(f):
        apply = likelihood.curvature(f, y)
        w = np.zeros((count, latents, count, latents))
        for c in range(latents):
            unit = np.zeros((count, latents))
            unit[:, c] = 1.0
            w[np.arange(count), :, np.arange(count), c] = apply(unit)
        return w.reshape(len(blocks), -1)

    def height(f):
        rest = (f - 0.2).reshape(-1)
        return likelihood.value(f, y).sum() - 0.5 * rest @ inverse @ rest

    for _ in range(60):
        w = np.maximum(curvature(f), 0.0) if latents == 1 else curvature(f)
        slope = likelihood.gradient(f, y).reshape(-1)
        root = np.eye(len(blocks)) + blocks @ w  # (K^-1 + W)^-1 = (I + K W)^-1 K
        step = np.linalg.solve(root, blocks @ slope - (f - 0.2).reshape(-1)).reshape(f.shape)
        length = 1.0
        while height(f + length * step) < height(f) and length > 1e-9:
            length /= 2.0
        f = f + length * step
    cross = np.kron(KERNEL(TEST, X), np.eye(latents))
    slope = likelihood.gradient(f, y).reshape(-1)
    mean = 0.2 + (cross @ slope).reshape(len(TEST), latents)
    w = curvature(f)
    inner = np.linalg.solve(np.eye(len(blocks)) + w @ blocks, w)
    covariance = 2.0 * np.eye(len(cross)) - cross @ inner @ cross.T
    places = np.arange(len(TEST))
    four = covariance.reshape(len(TEST), latents, len(TEST), latents)
    return f, mean, four[places, :, places]


@pytest.mark.parametrize("name", OBSERVED)
def test_matches_dense_newton(name):
    ours = fitted(name)
    f, mean, covariance = dense_newton(name)
    np.testing.assert_allclose(ours.latent_, f, atol=1e-8)
    found, spread = ours.latent(TEST, return_std=True)
    if name == "softmax":
        np.testing.assert_allclose(found, mean, atol=1e-8)
        np.testing.assert_allclose(spread, covariance, atol=1e-8)
    else:
        np.testing.assert_allclose(found, mean[:, 0], atol=1e-8)
        np.testing.assert_allclose(spread**2, covariance[:, 0, 0], atol=1e-8)
    assert ours.mode_.residual <= 2e-9
    assert ours.mode_.steps < 30


def test_matches_scikit_learn():
    y = OBSERVED["bernoulli"][1]
    peer = GaussianProcessClassifier(KERNEL, optimizer=None, max_iter_predict=200).fit(X, y)
    ours = fitted("bernoulli", prior_mean=0.0)
    base = peer.base_estimator_
    mean = KERNEL(TEST, X) @ (base.y_train_ - base.pi_)
    np.testing.assert_allclose(ours.latent(TEST), mean, atol=1e-6)
    np.testing.assert_array_equal(ours.predict(TEST), peer.predict(TEST))
    # Its average over the latent value is an approximation, good to a few thousandths.
    found = ours.predict_proba(TEST, averaged=True)
    np.testing.assert_allclose(found, peer.predict_proba(TEST), atol=5e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)


def test_without_limits_tobit_is_exact_regression():
    y = F + 0.4 * NORMAL
    ours = GPLaplace(KERNEL, Tobit(0.4), prior_mean=0.7).fit(X, y)
    peer = GPRegressor(KERNEL, 0.16).fit(X, y - 0.7)
    mean, std = peer.predict(TEST, return_std=True)
    found, spread = ours.latent(TEST, return_std=True)
    np.testing.assert_allclose(found, mean + 0.7, atol=1e-8)
    np.testing.assert_allclose(spread, std, atol=1e-8)


def test_what_each_is_for():
    x = np.linspace(-3.0, 3.0, 60)[:, None]
    truth = np.sin(x[:, 0])
    y = truth + 0.1 * np.random.default_rng(1).standard_normal(60)
    outliers = y.copy()
    outliers[::10] += 8.0
    robust = GPLaplace(RBF(1.0), StudentT(2.0, 0.1)).fit(x, outliers).predict(x)
    plain = GPRegressor(RBF(1.0), 0.01).fit(x, outliers).predict(x)
    assert np.abs(robust - truth).max() < 0.2 < 2.0 < np.abs(plain - truth).max()
    censored = np.minimum(y, 0.3)
    tobit = GPLaplace(RBF(1.0), Tobit(0.1, upper=0.3)).fit(x, censored).predict(x)
    plain = GPRegressor(RBF(1.0), 0.01).fit(x, censored).predict(x)
    top = truth > 0.6
    assert (tobit - truth)[top].mean() > (plain - truth)[top].mean() + 0.2
    likelihood, ordered = OBSERVED["ordinal"]
    ours = GPLaplace(KERNEL, likelihood).fit(X, ordered)
    assert (np.abs(ours.predict(X) - ordered) <= 1).mean() > 0.9
    np.testing.assert_allclose(ours.predict_proba(TEST).sum(axis=1), 1.0)


def test_ordered_classes_of_texts(tmp_path):
    """A scale of texts is no alphabet: its order is stated, or a fit says which one it takes."""
    y = OBSERVED["ordinal"][1]
    names = ("poor", "fair", "good", "best")
    numbers = GPLaplace(KERNEL, Ordinal(0.6)).fit(X, y)
    texts = np.array(names)[y]
    stated = GPLaplace(KERNEL, Ordinal(0.6, classes=names)).fit(X, texts)
    assert stated.classes_.tolist() == list(names)
    np.testing.assert_array_equal(stated.predict_proba(TEST), numbers.predict_proba(TEST))
    np.testing.assert_array_equal(stated.predict(TEST), np.array(names)[numbers.predict(TEST)])
    with pytest.warns(UserWarning, match="alphabet: best, fair, good, poor. Try"):
        alphabet = GPLaplace(KERNEL, Ordinal(0.6)).fit(X, texts)
    save_head(alphabet, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_head(tmp_path, KERNEL).classes_.tolist() == sorted(names)
    turned = GPLaplace(KERNEL, Ordinal(0.6, classes=(3, 2, 1, 0))).fit(X, y).predict_proba(TEST)
    np.testing.assert_allclose(turned[:, ::-1], numbers.predict_proba(TEST), atol=1e-8)


@pytest.mark.parametrize("name", ["softmax", "poisson"])
def test_a_product_is_enough(name):
    likelihood, y = OBSERVED[name]
    ours = GPLaplace(KERNEL, likelihood, 0.2).fit(X, y, gram=OnlyProducts(KERNEL(X)))
    alone = GPLaplace("precomputed", likelihood, 0.2).fit(None, y, gram=OnlyProducts(KERNEL(X)))
    expected = fitted(name).latent(TEST, return_std=True)
    for one, other in zip(ours.latent(TEST, return_std=True), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)
    found = alone.latent(KERNEL(TEST, X), return_std=True, diag=np.full(7, 2.0))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)
    with pytest.raises(InputError, match="diag="):
        alone.latent(KERNEL(TEST, X), return_std=True)
    with pytest.raises(InputError, match="either X or gram"):
        alone.fit(KERNEL(X), y, gram=KERNEL(X))


def test_images_and_float32():
    kernel, x = ImageKernel(3.0, dtype="float32"), images(40)
    y = (x.mean(axis=(1, 2, 3)) > 0.0).astype(int)
    ours = GPLaplace(kernel, "softmax").fit(x, y)
    assert (ours.predict(x) == y).mean() > 0.9
    p = ours.predict_proba(images(5, 1))
    np.testing.assert_allclose(p, softmax(ours.latent(images(5, 1)), axis=1))
    assert np.isfinite(ours.latent(images(5, 1), return_std=True)[1]).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["poisson", "softmax"])
def test_a_matrix_of_low_rank(name, dtype):
    """Where K r is 0, rounding decides the sign of r^T K r. K = x x^T is the prior of f = x w."""
    rng, w = np.random.default_rng(0), np.array([0.8, -0.5])
    x = rng.normal(size=(60, 2))
    y = rng.poisson(np.exp(x @ w)) if name == "poisson" else (x @ w > 0.3).astype(int)
    low = (x @ x.T).astype(dtype).astype("float64")
    ours = GPLaplace("precomputed", name).fit(low, y)
    found, *_ = np.linalg.lstsq(x, ours.latent_)
    exact = 1e-6 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(x @ found, ours.latent_, atol=exact)
    slope = ours.likelihood_.gradient(ours.latent_, ours.targets_)
    np.testing.assert_allclose(x.T @ slope, found, atol=exact)  # the mode of w


def test_progress_and_clones():
    seen = []
    likelihood, y = OBSERVED["poisson"]
    ours = GPLaplace(KERNEL, likelihood).fit(X, y, progress=lambda *step: seen.append(step))
    assert seen == [(i, 100) for i in range(ours.mode_.steps)]
    again = clone(ours).set_params(prior_mean=1.0)
    assert again.kernel == KERNEL
    assert again.kernel is not KERNEL, "it has settings, which set_params changes"
    assert again.likelihood is likelihood
    assert not hasattr(again, "alpha_")


def test_a_mode_that_is_not_found():
    likelihood, y = OBSERVED["poisson"]
    with pytest.raises(NumericalError, match=r"the steps are used up, residual .* after 1 Newton"):
        GPLaplace(KERNEL, likelihood, max_iterations=1).fit(X, y)
    with pytest.raises(NumericalError, match="no covariance"):
        GPLaplace("precomputed", likelihood).fit(3.0 * np.eye(40) - KERNEL(X), y)


@pytest.mark.parametrize(
    ("likelihood", "y", "match"),
    [
        ("gauss", F, "expected one of"),
        (None, F, "expected one of"),
        ("poisson", F, "no counts"),
        ("poisson", [1, 2], "y has 2 targets"),
        ("bernoulli", OBSERVED["softmax"][1], 'Try: likelihood="softmax"'),
        ("softmax", ["a"] * 40, "holds one class"),
        ("student", np.column_stack([F, F]), "one target for each input"),
        ("tobit", np.full(40, np.nan), "not finite"),
        (Ordinal(1.0, (0.0,)), OBSERVED["ordinal"][1], "1 thresholds for 4 classes"),
        (Ordinal(classes=(0, 1, 2)), OBSERVED["ordinal"][1], "holds 3, which is none"),
        (Ordinal(classes=(0, 1, 2, 3, 4)), OBSERVED["ordinal"][1], "no row of y is of the class 4"),
    ],
)
def test_observations_that_do_not_fit(likelihood, y, match):
    with pytest.raises(InputError, match=match):
        GPLaplace(KERNEL, likelihood).fit(X, y)


@pytest.mark.parametrize(
    "call",
    [
        lambda: StudentT(df=0.0),
        lambda: StudentT(scale=np.inf),
        lambda: Tobit(lower=1.0, upper=1.0),
        lambda: Tobit(scale="wide"),
        lambda: Ordinal(thresholds=(1.0, 0.0)),
        lambda: Ordinal(classes=("a", "a")),
        lambda: Ordinal(classes=(1, "a")),
        lambda: GPLaplace(KERNEL, "poisson", prior_mean=np.nan).fit(X, OBSERVED["poisson"][1]),
        lambda: GPLaplace(KERNEL, "poisson", tolerance=2.0).fit(X, OBSERVED["poisson"][1]),
        lambda: GPLaplace(KERNEL, "poisson", max_iterations=0).fit(X, OBSERVED["poisson"][1]),
        lambda: fitted("softmax").predict_proba(TEST, averaged=True),
    ],
)
def test_settings(call):
    with pytest.raises(InputError):
        call()


def test_a_mode_in_words():
    words = repr(fitted("softmax").mode_)
    assert "steps=" in words
    assert "products=" in words
    assert "array" not in words


def test_before_a_fit():
    for call in ("predict", "predict_proba", "latent"):
        with pytest.raises(NotFittedError):
            getattr(GPLaplace(KERNEL), call)(TEST)


@pytest.mark.parametrize("name", OBSERVED)
def test_saved_and_loaded(tmp_path, name):
    gp = fitted(name)
    save_head(gp, tmp_path)
    again = load_head(tmp_path, KERNEL)
    assert again.get_params() == gp.get_params() | {"kernel": KERNEL}
    assert again.likelihood_ == gp.likelihood_
    np.testing.assert_array_equal(again.predict(TEST), gp.predict(TEST))
    for ours, theirs in zip(again.latent(TEST, True), gp.latent(TEST, True), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    if gp.classes_ is not None:
        np.testing.assert_array_equal(again.predict_proba(TEST), gp.predict_proba(TEST))
    assert vars(again.mode_).keys() == vars(gp.mode_).keys()
    assert again.mode_.log_density == gp.mode_.log_density
    names = {file.name for file in tmp_path.iterdir()}
    arrays = {"x_train.npy", "y.npy", "alpha.npy", "latent.npy", "prior.npy"}
    assert names == {"head.json", *arrays}
    assert names <= {pattern.removeprefix("head/") for pattern in FIT_FILES}


@pytest.fixture(scope="module")
def network():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    )
    return keras2gp.convert(model, overrides={"*": (1.0, 0.1)}, dtype="float64")


def test_a_fit_with_its_kernel(tmp_path, network):
    names = ("poor", "fair", "good", "best")
    gp = GPLaplace(network, Ordinal(classes=names))
    gp.fit(X, np.array(names)[OBSERVED["ordinal"][1]]).save(tmp_path / "fit")
    again = keras2gp.load(tmp_path / "fit")
    np.testing.assert_array_equal(again.predict(TEST), gp.predict(TEST))
    assert again.likelihood == gp.likelihood
    np.testing.assert_array_equal(again.predict_proba(TEST), gp.predict_proba(TEST))
    np.testing.assert_array_equal(again.latent(TEST, True)[1], gp.latent(TEST, True)[1])
    with pytest.raises(UsageError, match="holds a GPLaplace"):
        load_fit(tmp_path / "fit")
    other = network.with_parameters({"*": {"weight": 1.5}})
    with pytest.raises(ModelFileError, match="not the one of the fit"):
        keras2gp.load(tmp_path / "fit", kernel=other)


@pytest.mark.parametrize("precomputed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_matrix_on_disk(tmp_path, network, precomputed):
    y, cross, prior = OBSERVED["softmax"][1], TEST, None
    store = keras2gp.gram(network, X, out=tmp_path / "K.zarr", progress=False)
    whole = GPLaplace(network).fit(X, y)
    gp = GPLaplace(network).fit(X, y, gram=store)
    if precomputed:
        cross, prior = network.matrix(TEST, X), np.asarray(network.diag(TEST))
        gp = GPLaplace("precomputed").fit(None, y, gram=store)
    for ours, theirs in zip(gp.latent(cross, True, prior), whole.latent(TEST, True), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)
    gp.save(tmp_path / "fit")
    again = keras2gp.load(tmp_path / "fit")
    np.testing.assert_array_equal(again.predict_proba(cross), gp.predict_proba(cross))
    if precomputed:
        with pytest.raises(InputError, match="gram= with that matrix"):
            again.latent(cross, True, prior)
    again = keras2gp.load(tmp_path / "fit", gram=store)
    std = gp.latent(cross, True, prior)[1]
    np.testing.assert_array_equal(again.latent(cross, True, prior)[1], std)
    again = keras2gp.load(tmp_path / "fit", gram=2.0 * store[:, :])
    with pytest.raises(InputError, match="gram is not the"):
        again.latent(cross, True, prior)


def test_positions_are_refused_with_what_works():
    layers = [
        keras.layers.Conv1D(8, 2, activation="relu", padding="same"),
        keras.layers.Conv1D(1, 1),
    ]
    model = keras.Sequential([keras.Input((3, 1)), *layers])
    kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.1)}, dtype="float64")
    x, y = np.random.default_rng(0).standard_normal((8, 3, 1)), np.arange(8) % 2
    with pytest.raises(InputError, match=r"positions \(3,\).*Try: kernel.at\(position\)"):
        GPLaplace(kernel, "bernoulli").fit(x, y)
    assert GPLaplace(kernel.at(1), "bernoulli").fit(x, y).predict(x).shape == (8,)


@pytest.mark.parametrize(
    ("place", "value", "match"),
    [
        (("fitted_likelihood", "name"), "gaussian", "KeyError"),
        (("fitted_likelihood", "scale"), -1.0, "scale is -1.0"),
        (("fitted_likelihood", "thresholds"), [0.0], "1 thresholds for 4 classes"),
        (("classes", "values"), [0, 1, 2], "other numbers than those of 3 classes"),
        (("parameters", "likelihood"), "gaussian", "likelihood is 'gaussian'"),
        (("parameters", "tolerance"), 2.0, "tolerance=2.0"),
        (("mode", "steps"), -1, "steps"),
        (("mode", "residual"), None, "damaged"),
        (("input_shape",), [3], "do not fit each other"),
    ],
)
def test_damaged_heads(tmp_path, place, value, match):
    save_head(fitted("ordinal"), tmp_path)
    head = json.loads((tmp_path / "head.json").read_text())
    *outer, last = place
    target = head
    for key in outer:
        target = target[key]
    target[last] = value
    del head["digest"]
    (tmp_path / "head.json").write_text(json.dumps(with_digest(head)))
    with pytest.raises(ModelFileError, match=match):
        load_head(tmp_path, KERNEL)


@pytest.mark.parametrize("name", ["y.npy", "alpha.npy", "latent.npy", "prior.npy", "x_train.npy"])
def test_damaged_arrays(tmp_path, name):
    save_head(fitted("poisson"), tmp_path)
    array = np.load(tmp_path / name)
    np.save(tmp_path / name, array + 1.0)
    with pytest.raises(ModelFileError, match=name):
        load_head(tmp_path, KERNEL)
    (tmp_path / name).unlink()
    with pytest.raises(ModelFileError, match="is missing"):
        load_head(tmp_path, KERNEL)


def test_a_likelihood_of_ones_own_is_not_saved(tmp_path):
    class Mine(Poisson):
        pass

    gp = GPLaplace(KERNEL, Mine()).fit(X, OBSERVED["poisson"][1])
    with pytest.raises(InputError, match="Mine, a class of your own"):
        gp.save(tmp_path / "fit")
    assert not (tmp_path / "fit").exists()


def test_searches_and_scores():
    x = np.linspace(0.0, 3.0, 24)[:, None]
    labels, numbers = np.where(x[:, 0] > 1.5, "b", "a"), np.sin(x[:, 0])
    for likelihood, y, metric in (
        ("bernoulli", labels, accuracy_score),
        ("softmax", labels, accuracy_score),
        (StudentT(scale=0.1), numbers, r2_score),
    ):
        kernel = RBF(1.0)
        gp = GPLaplace(kernel, likelihood)
        assert clone(gp).kernel is not kernel
        search = GridSearchCV(gp, {"kernel__length_scale": [0.01, 2.0]}, cv=3).fit(x, y)
        assert search.best_params_ == {"kernel__length_scale": 2.0}
        assert kernel.length_scale == 1.0, "a search leaves the kernel that it was given alone"
        fitted = gp.fit(x, y)
        assert fitted.score(x, y) == pytest.approx(metric(y, fitted.predict(x)))
        assert hasattr(gp, "predict_proba") == (metric is accuracy_score)
        with pytest.raises(InputError, match="does not fit"):
            gp.score(x, y[:5])
    with pytest.raises(AttributeError, match="no attribute 'predict_proba'") as told:
        gp.predict_proba(x)
    assert 'likelihood "student" has no classes' in str(told.value.__cause__)
    assert get_tags(GPLaplace(kernel, "bernoulli")).classifier_tags.multi_class is False
    with pytest.warns(DataConversionWarning):
        gp.fit(x, numbers[:, None])
