"""Variances that leave the range of their dtype are refused, with the true cause and a remedy."""

import keras
import numpy as np
import pytest
from keras import layers

import keras2gp
from keras2gp.errors import NumericalError

X = np.random.default_rng(0).random((12, 4)) + 0.1


def kernel(variance, depth=6, activation="relu", **options):
    start = keras.initializers.VarianceScaling(variance, "fan_in", "normal")
    hidden = [
        layers.Dense(8, activation=activation, kernel_initializer=start) for _ in range(depth)
    ]
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(1)])
    return keras2gp.convert(model, **options)


CALLS = {
    "matrix": lambda k: k(X),
    "between two sets": lambda k: k(X, X[:3] + 1),
    "diagonal": lambda k: k.diag(X),
    "gram": lambda k: keras2gp.gram(k, X, progress=False),
    "both kernels": lambda k: k(X, get="both"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("variance", [1e-8, 1e-7])
def test_variances_that_become_0_or_subnormal(call, variance):
    with pytest.raises(NumericalError, match=r"not 0: variances shrink below float32.*float64"):
        CALLS[call](kernel(variance))


@pytest.mark.parametrize("activation", ["gelu", "tanh", "elu"])
def test_other_activations(activation):
    with pytest.raises(NumericalError, match="shrink below float32"):
        kernel(1e-8, activation=activation).diag(X)


def test_a_stored_matrix(tmp_path):
    with pytest.raises(NumericalError, match="shrink below float32"):
        keras2gp.gram(kernel(1e-8), X, out=tmp_path / "k.zarr", progress=False)


def test_float64_is_the_remedy():
    """The ReLU halves a variance: v^6 |x|^2 / 4 / 2^6, times 16 / 9 by the last Glorot layer."""
    expected = 1e-48 / 2**6 * (X**2).sum(1) / 4 * 16 / 9
    np.testing.assert_allclose(kernel(1e-8, dtype="float64")(X).numpy().diagonal(), expected)
    with pytest.raises(NumericalError, match=r"below float64. Try: larger variances"):
        kernel(1e-60, dtype="float64").diag(X)


@pytest.mark.parametrize("place", [0, 1])
def test_inputs_whose_squares_are_too_small(place):
    sets = [X, X]
    sets[place] = X * np.where(np.arange(12) == 5, 1e-25, 1.0)[:, None]
    with pytest.raises(NumericalError, match=r"image 5 .*shrink below"):
        kernel(2.0, 2)(*sets)
    assert (kernel(2.0, 2, dtype="float64")(*sets).numpy() > 0).all()


def test_zeros_that_are_right():
    """An image of zeros, and weights without variance."""
    zero = np.concatenate([np.zeros((1, 4)), X])
    matrix = kernel(2.0, 2)(zero).numpy()
    assert not matrix[0].any()
    assert (matrix[1:, 1:] > 0).all()
    constant = kernel(2.0, 2)
    constant = constant.with_parameters(dict.fromkeys(constant.parameters, (0.0, 0.0)))
    assert not constant(X).numpy().any()


@pytest.mark.parametrize(
    ("activation", "words"),
    [
        ("relu", r"grow beyond float32\. Try: dtype='float64'"),
        ("tanh", r"expansions reach 1e12\. Try: smaller variances"),
    ],
    ids=["relu", "tanh"],
)
def test_overflow_has_its_own_words(activation, words):
    for call in CALLS.values():
        with pytest.raises(NumericalError, match=words):
            call(kernel(1e30, 3, activation))
    with pytest.raises(NumericalError, match=r"grow beyond float64\. Try: smaller"):
        kernel(1e80, 6, "relu", dtype="float64").diag(X)
    with pytest.raises(NumericalError, match="grow beyond float32"):
        kernel(2.0, 2).diag(X * 1e25)
