"""Fits over images at positions, beside the regression on all pairs written out in numpy."""

import keras
import numpy as np
import pytest
from gp_kernels import ImageKernel, TensorLike, images

import keras2gp
from keras2gp import GPClassifier, GPRegressor
from keras2gp._util import memory
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp import ConjugateGradients, Nystroem, load_head, save_head

POSITIONS = (2, 3)
PLACES = np.indices(POSITIONS).reshape(2, -1).T.astype(float)
NOISE = 0.1


class MapKernel:
    """The covariance of images times that of positions: k(x1, x2) exp(-|g - h|^2 / 2)."""

    positions = POSITIONS

    def __init__(self, dtype="float64"):
        self._images = ImageKernel(length=2.0)
        self.dtype = dtype
        squares = ((PLACES[:, None] - PLACES[None]) ** 2).sum(axis=2)
        self.between = np.exp(-squares / 2)

    def rows(self, x1, x2):
        return np.kron(np.asarray(self._images(x1, x2)), self.between)

    def __call__(self, x1, x2=None, positions="equal"):
        x2 = x1 if x2 is None else x2
        if positions == "equal":
            values = np.asarray(self._images(x1, x2))[..., None, None] * np.ones(POSITIONS)
        else:
            values = self.rows(x1, x2).reshape(len(x1), *POSITIONS, len(x2), *POSITIONS)
        return TensorLike(values.astype(self.dtype))

    def diag(self, x):
        return TensorLike(np.full((len(x), *POSITIONS), 2.0, self.dtype))


X, TEST = images(7), images(4, seed=1)
Y = np.random.default_rng(2).normal(size=(7, *POSITIONS, 2))


def exact(y, x=X, test=TEST):
    """Posterior mean and covariance of rows, by the textbook."""
    kernel = MapKernel()
    a = kernel.rows(x, x) + NOISE * np.eye(len(x) * 6)
    cross = kernel.rows(test, x)
    mean = cross @ np.linalg.solve(a, y.reshape(len(a), -1))
    return mean, kernel.rows(test, test) - cross @ np.linalg.solve(a, cross.T)


SOLVERS = {
    "cholesky": ("cholesky", 1e-9),
    "tensorflow": ("tensorflow", 1e-9),
    "cg": (ConjugateGradients(tolerance=1e-12), 1e-7),
    "nystroem": (Nystroem(rank=42), 1e-6),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_is_the_regression_on_all_rows(name):
    solver, tolerance = SOLVERS[name]
    gp = GPRegressor(MapKernel(), NOISE, solver=solver).fit(X, Y)
    mean, covariance = exact(Y)
    predicted, std = gp.predict(TEST, return_std=True)
    assert predicted.shape == std.shape == (4, *POSITIONS, 2)
    np.testing.assert_allclose(predicted, mean.reshape(4, *POSITIONS, 2), atol=tolerance)
    variances = np.diagonal(covariance).reshape(4, *POSITIONS)
    np.testing.assert_allclose(std[..., 0] ** 2, variances, atol=tolerance)
    _, whole = gp.predict(TEST, return_cov=True)
    assert whole.shape == (4, *POSITIONS, 4, *POSITIONS, 2)
    np.testing.assert_allclose(whole[..., 1].reshape(24, 24), covariance, atol=tolerance)


def test_one_output_and_the_shapes_of_everything():
    y = Y[..., 0]
    gp = GPRegressor(MapKernel(), NOISE, normalize_y=True).fit(X, y)
    assert gp.predict(TEST).shape == (4, *POSITIONS)
    shifted = (y - y.mean()) / y.std()
    mean, _ = exact(shifted)
    np.testing.assert_allclose(
        gp.predict(TEST), mean.reshape(4, *POSITIONS) * y.std() + y.mean(), rtol=1e-8
    )
    assert all(part.shape == y.shape for part in gp.leave_one_out())
    assert gp.leave_one_out_log_density().shape == y.shape
    assert gp.sample_y(TEST, 3).shape == (4, *POSITIONS, 3)
    assert gp.basis_.shape == X.shape
    assert 0 < gp.score(X, y) < 1
    assert gp.score(X, y, sample_weight=np.ones(7)) == pytest.approx(gp.score(X, y))
    assert gp.log_marginal_likelihood(0.5) != gp.log_marginal_likelihood()


def test_leave_one_out_leaves_one_row_out():
    gp = GPRegressor(MapKernel(), NOISE).fit(X, Y[..., 0])
    kernel, row, y = MapKernel(), 17, Y[..., 0].ravel()
    a = kernel.rows(X, X) + NOISE * np.eye(42)
    rest = np.arange(42) != row
    expected = a[row, rest] @ np.linalg.solve(a[np.ix_(rest, rest)], y[rest])
    assert gp.leave_one_out()[0].ravel()[row] == pytest.approx(expected)


def test_a_matrix_that_is_given():
    kernel = MapKernel()
    whole = np.asarray(kernel(X, positions="all"))
    expected = GPRegressor(kernel, NOISE).fit(X, Y).predict(TEST)
    for gram in (whole, whole.reshape(42, 42)):
        gp = GPRegressor(kernel, NOISE).fit(X, Y, gram=gram)
        np.testing.assert_allclose(gp.predict(TEST), expected, rtol=1e-12)
    with pytest.raises(InputError, match="positions='all'"):
        GPRegressor(kernel, NOISE).fit(X, Y, gram=np.asarray(kernel(X)))
    with pytest.raises(InputError, match="gram is 7 x 7"):
        GPRegressor(kernel, NOISE).fit(X, Y, gram=np.eye(7))


LABELS = (Y[..., 0] > 0).astype(int) + (Y[..., 1] > 1)


@pytest.mark.parametrize("probabilities", ["linear", "temperature", "largest", "dirichlet"])
def test_labels_at_positions(probabilities):
    few = 2 if probabilities == "dirichlet" else len(X)
    gp = GPClassifier(MapKernel(), NOISE, probabilities=probabilities, intercept=0)
    gp.fit(X[:few], LABELS[:few])
    targets = 2.0 * (LABELS[..., None] == np.arange(3)) - 1
    mean = exact(targets)[0].reshape(4, *POSITIONS, 3)
    shape = (4, *POSITIONS)
    if probabilities != "dirichlet":
        np.testing.assert_array_equal(gp.predict(TEST), mean.argmax(axis=-1))
        np.testing.assert_allclose(gp.decision_function(TEST), mean, atol=1e-9)
    probability = gp.predict_proba(TEST)
    assert probability.shape == (*shape, 3)
    np.testing.assert_allclose(probability.sum(axis=-1), 1)
    found = gp.predictive(TEST)
    np.testing.assert_allclose(found.probability, probability, rtol=1e-12)
    assert found.variance.shape == gp.posterior(TEST)[1].shape == shape
    assert gp.sample_latent(TEST, 2).shape == (*shape, 3, 2)
    assert gp.sample_y(TEST, 2).shape == (*shape, 2)
    assert gp.score(X[:few], LABELS[:few]) > 0.5
    assert gp.score(X, gp.predict(X)) == 1


def test_two_classes_of_texts():
    labels = np.where(Y[..., 0] > 0, "in", "out")
    gp = GPClassifier(MapKernel(), NOISE).fit(X, labels)
    assert gp.decision_function(TEST).shape == (4, *POSITIONS)
    assert set(gp.predict(TEST).ravel()) <= {"in", "out"}


@pytest.mark.parametrize(
    ("estimator", "y", "match"),
    [
        (GPRegressor, Y.reshape(7, -1), r"y has shape \(7, 12\): expected \[7, 2, 3, C\]"),
        (GPRegressor, Y[:5], r"expected \[7, 2, 3, C\]"),
        (GPRegressor, Y[..., None], "positions"),
        (GPRegressor, Y.swapaxes(1, 2), "positions"),
        (GPRegressor, np.full((7, *POSITIONS), np.nan), "not finite"),
        (GPRegressor, np.ma.masked_greater(Y, 1), "masked"),
        (GPRegressor, [[1.0], [2.0, 3.0]], "y is no array"),
        (GPRegressor, None, "target y is None"),
        (GPClassifier, LABELS.ravel(), r"expected \[7, 2, 3\]"),
        (GPClassifier, LABELS[..., None], "positions"),
        (GPClassifier, np.zeros((7, *POSITIONS), int), "one class"),
    ],
)
def test_targets_that_do_not_fit(estimator, y, match):
    with pytest.raises(InputError, match=match):
        estimator(MapKernel(), NOISE).fit(X, y)


def test_the_memory_is_compared_before_and_what_fits_is_said(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 10_000)
    with pytest.raises(InputError) as caught:
        GPRegressor(MapKernel(), NOISE).fit(X, Y)
    text = str(caught.value)
    assert "7 images at 2 x 3 positions" in text
    assert "42 x 42" in text
    assert "at most 4 images" in text
    assert "kernel.at([0, 0]) and y[:, 0, 0]" in text


def test_a_kernel_that_does_not_keep_to_its_positions():
    class Wrong(MapKernel):
        def __call__(self, x1, x2=None, positions="equal"):
            return super().__call__(x1, x2, "equal")

    with pytest.raises(InputError, match="the kernel between positions has shape"):
        GPRegressor(Wrong(), NOISE).fit(X, Y)


@pytest.mark.parametrize("solver", ["cholesky", "cg", "nystroem"])
def test_a_fit_comes_back(solver, tmp_path):
    settings = {"nystroem": Nystroem(rank=20)}.get(solver, solver)
    gp = GPClassifier(MapKernel(), NOISE, solver=settings).fit(X, LABELS)
    save_head(gp, tmp_path)
    again = load_head(tmp_path, MapKernel())
    np.testing.assert_array_equal(again.predict_proba(TEST), gp.predict_proba(TEST))
    assert again.posterior(TEST)[1].shape == (4, *POSITIONS)
    with pytest.raises(ModelFileError, match="positions"):
        load_head(tmp_path, ImageKernel())


def test_images_to_images_with_a_network():
    """Blurred images from the images, by the kernel of a convolutional network."""
    x = keras.Input((4, 4, 1))
    h = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    kernel = keras2gp.convert(keras.Model(x, keras.layers.Conv2D(1, 1)(h)), dtype="float64")
    data = np.random.default_rng(0).normal(size=(30, 4, 4, 1))
    padded = np.pad(data[..., 0], [(0, 0), (1, 1), (1, 1)])
    y = sum(padded[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3)) / 9
    gp = GPRegressor(kernel, 1e-3).fit(data[:20], y[:20])
    assert gp.score(data[20:], y[20:]) > 0.9
    independent = GPRegressor(kernel.at((1, 2)), 1e-3).fit(data[:20], y[:20, 1, 2])
    assert independent.predict(data[20:]).shape == (10,)
