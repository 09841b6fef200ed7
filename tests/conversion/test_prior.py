"""Variances of initialisers against samples of them, and reading them from layers."""

import keras
import numpy as np
import pytest
from keras import initializers as init
from keras import layers

import keras2gp
from keras2gp.conversion.initial_values import TRUNCATED_VARIANCE, _fans, element_variance
from keras2gp.conversion.priors import read_variances
from keras2gp.errors import PriorError
from keras2gp.graph.variances import LayerVariances

# Shapes with different fans in every mode; about 1e6 values each.
DENSE = (1000, 1000)
CONV = (5, 3, 250, 270)

SAMPLED = [
    (init.RandomNormal(stddev=0.3, seed=1), DENSE),
    (init.RandomUniform(-0.2, 0.2, seed=2), DENSE),
    (init.RandomUniform(0.2, -0.2, seed=2), DENSE),
    (init.TruncatedNormal(stddev=0.7, seed=3), DENSE),
    (init.GlorotNormal(seed=4), CONV),
    (init.GlorotUniform(seed=5), CONV),
    (init.HeNormal(seed=6), CONV),
    (init.HeUniform(seed=7), CONV),
    (init.LecunNormal(seed=8), CONV),
    (init.LecunUniform(seed=9), (999, 1001)),
    (init.Orthogonal(gain=1.7, seed=10), (1500, 700)),
    (init.Orthogonal(gain=0.5, seed=11), (700, 1500)),
    (init.Orthogonal(seed=12), (3, 3, 80, 900)),
    *[
        (init.VarianceScaling(1.3, mode, distribution, seed=13), CONV)
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("truncated_normal", "untruncated_normal", "uniform")
    ],
    (init.VarianceScaling(2.0, "fan_avg", seed=14, input_axes=[0], output_axes=[1, 2]), CONV),
    (init.HeNormal(seed=15, input_axes=[1, 2], output_axes=[0]), CONV),
    (init.GlorotNormal(seed=16, input_axes=[1]), CONV),  # Keras ignores one without the other.
    (init.VarianceScaling(1.0, seed=17), (1_000_000,)),
]


@pytest.mark.parametrize(("initializer", "shape"), SAMPLED)
def test_agrees_with_the_values_that_keras_draws(initializer, shape):
    values = keras.ops.convert_to_numpy(initializer(shape, dtype="float32")).astype(np.float64)
    squares = values.ravel() ** 2
    error = squares.std() / np.sqrt(squares.size)
    variance = element_variance(initializer, shape)
    assert abs(squares.mean() - variance) < 5 * error
    assert error < 0.01 * variance  # The comparison would notice two per cent.
    assert abs(values.mean()) < 5 * values.std() / np.sqrt(values.size)


def test_fans_are_those_of_keras():
    from keras.src.initializers.random_initializers import compute_fans

    for shape in [(), (7,), (3, 4), (5, 3, 4), (2, 3, 4, 5), (2, 3, 4, 5, 6)]:
        assert _fans(shape) == compute_fans(shape)
    assert _fans((2, 3, 4), [0], [1, 2]) == compute_fans((2, 3, 4), [0], [1, 2])


def test_truncated_constant_against_quadrature():
    z = np.linspace(-2, 2, 2_000_001)
    density = np.exp(-(z**2) / 2)
    quadrature = np.trapezoid(z**2 * density, z) / np.trapezoid(density, z)
    assert pytest.approx(quadrature, rel=1e-11) == TRUNCATED_VARIANCE
    assert pytest.approx(0.87962566103423978**2, rel=1e-14) == TRUNCATED_VARIANCE


@pytest.mark.parametrize("initializer", [init.Zeros(), init.Constant(0), init.Constant(0.0)])
def test_zero_is_a_variance(initializer):
    assert element_variance(initializer, (3, 4)) == 0.0


class Halved(init.HeNormal):
    def __call__(self, shape, dtype=None):
        return super().__call__(shape, dtype) / 2


def draw_ones(shape, dtype=None):
    return keras.ops.ones(shape, dtype)


@pytest.mark.parametrize(
    ("initializer", "words"),
    [
        (init.RandomNormal(mean=0.1), "RandomNormal.*has a mean"),
        (init.RandomUniform(0.0, 1.0), "RandomUniform.*has a mean"),
        (init.TruncatedNormal(mean=-1.0), "TruncatedNormal.*has a mean"),
        (init.Constant(0.5), "Constant.*has a mean"),
        (init.Ones(), "Ones.*has a mean"),
        (init.Identity(), "Identity.*has a mean"),
        (init.STFT(), "STFT.*has a mean"),
        (Halved(), "Halved is no initialiser of Keras's"),
        (draw_ones, "draw_ones is no initialiser of Keras's"),
        (init.HeNormal, "HeNormal is no initialiser of Keras's"),
        (None, "NoneType"),
        (init.RandomNormal(stddev=float("nan")), "RandomNormal has a variance of nan"),
    ],
)
def test_refuses_what_has_no_exact_rule(initializer, words):
    with pytest.raises(PriorError, match=words):
        element_variance(initializer, (4, 4))


@pytest.mark.parametrize("shape", [(0, 3), (None, 3), (-1,), (2.0, 3)])
def test_refuses_a_shape_that_is_none(shape):
    with pytest.raises(PriorError, match="positive integers"):
        element_variance(init.HeNormal(), shape)


def test_orthogonal_needs_a_matrix():
    with pytest.raises(PriorError, match="matrices"):
        element_variance(init.Orthogonal(), (4,))


def built(layer, *shape):
    layer.build((None, *shape))
    return layer


def test_reads_initializers_of_dense_and_convolutions():
    dense = built(layers.Dense(7, kernel_initializer="he_normal"), 5)
    assert read_variances(dense, prior="initializers", fan_in=5) == LayerVariances(2.0, 0.0)
    normal = init.RandomNormal(stddev=0.5)
    for layer, shape, window in [
        (
            layers.Conv1D(4, 3, bias_initializer=normal, kernel_initializer="lecun_normal"),
            (9, 2),
            3,
        ),
        (
            layers.Conv2D(4, (2, 3), bias_initializer=normal, kernel_initializer="lecun_normal"),
            (9, 9, 2),
            6,
        ),
        (
            layers.Conv3D(4, 2, bias_initializer=normal, kernel_initializer="lecun_normal"),
            (9, 9, 9, 2),
            8,
        ),
    ]:
        read = read_variances(built(layer, *shape), prior="initializers", fan_in=2 * window)
        assert read.weight == pytest.approx(1.0, rel=1e-15)
        assert read.bias == pytest.approx(0.25, rel=1e-15)


def test_reads_glorot_with_the_fans_of_the_finite_layer():
    layer = built(layers.Conv2D(6, 3), 8, 8, 2)
    read = read_variances(layer, prior="initializers", fan_in=18)
    assert read.weight == pytest.approx(18 * 2 / (9 * 2 + 9 * 6), rel=1e-15)


def test_no_bias_is_no_variance():
    layer = built(layers.Dense(3, use_bias=False, bias_initializer="ones"), 2)
    for prior in ("initializers", "weights"):
        assert read_variances(layer, prior=prior, fan_in=2).bias == 0.0


def test_reads_depthwise_and_separable_halves():
    normal = init.RandomNormal(stddev=0.1)
    depthwise = built(layers.DepthwiseConv2D(3, depthwise_initializer=normal), 8, 8, 2)
    separable = built(
        layers.SeparableConv2D(
            4, 3, depthwise_initializer=normal, pointwise_initializer="he_normal"
        ),
        *(8, 8, 2),
    )
    for prior in ("initializers", "weights"):
        for layer, bias in [(depthwise, "bias"), (separable, None)]:
            read = read_variances(layer, prior=prior, fan_in=9, kernel="depthwise", bias=bias)
            assert read.weight == pytest.approx(0.09, rel=1e-12 if prior == "initializers" else 1)
            assert read.bias == 0.0
    read = read_variances(separable, prior="initializers", fan_in=2, kernel="pointwise")
    assert read.weight == pytest.approx(2.0, rel=1e-15)


def test_reads_a_transposed_convolution():
    layer = built(layers.Conv2DTranspose(4, 3, kernel_initializer="zeros"), 8, 8, 2)
    assert read_variances(layer, prior="initializers", fan_in=18).weight == 0.0


def test_reads_trained_weights():
    layer = built(layers.Dense(2), 3)
    layer.set_weights([np.arange(6.0).reshape(3, 2), np.array([1.0, -2.0])])
    read = read_variances(layer, prior="weights", fan_in=3)
    assert read == LayerVariances(3 * 55 / 6, 2.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_trained_weights_that_are_not_finite(bad):
    layer = built(layers.Dense(2, name="broken"), 3)
    layer.set_weights([np.full((3, 2), bad), np.zeros(2)])
    with pytest.raises(PriorError, match="'broken': its trained kernel is not finite"):
        read_variances(layer, prior="weights", fan_in=3)


def test_errors_name_the_layer_and_the_initializer():
    layer = built(layers.Dense(2, name="head", bias_initializer="ones"), 3)
    with pytest.raises(PriorError, match="layer 'head', bias_initializer: Ones"):
        read_variances(layer, prior="initializers", fan_in=3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prior": "posterior"}, "not 'posterior'"),
        ({"fan_in": 0}, "fan_in=.*whole number"),
        ({"fan_in": True}, "fan_in=.*whole number"),
        ({"kernel": "depthwise"}, "has no depthwise_initializer"),
        ({"kernel": "pointwise", "prior": "weights"}, "has no weight 'pointwise'"),
        ({"kernel": "left"}, "no weight is called 'left'"),
    ],
)
def test_refuses_wrong_questions(changes, words):
    layer = built(layers.Dense(2), 3)
    with pytest.raises(PriorError, match=words):
        read_variances(layer, **{"prior": "initializers", "fan_in": 3} | changes)


def test_refuses_an_unbuilt_layer():
    with pytest.raises(PriorError, match="not built"):
        read_variances(layers.Dense(2), prior="initializers", fan_in=3)


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({}, "uniform weights on 9 inputs, taken as Gaussian"),
        ({"kernel_initializer": "he_normal"}, "truncated normal weights on 9 inputs, taken"),
        ({"kernel_initializer": "orthogonal"}, "orthogonal weights on 9 inputs, taken"),
        ({"kernel_initializer": keras.initializers.RandomNormal(stddev=0.1)}, ""),
        ({"kernel_initializer": "zeros", "bias_initializer": "random_uniform"}, "uniform biases,"),
        ({"bias_initializer": "random_normal"}, "uniform weights on 9 inputs, taken as Gaussian"),
    ],
)
def test_what_is_not_gaussian_at_any_width_is_said(settings, note):
    """A sum over few inputs keeps the distribution of its weights; one over channels does not."""
    first = keras.layers.Conv2D(4, 3, activation="relu", name="first", **settings)
    rest = [keras.layers.Conv2D(4, 3, name="second"), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((6, 6, 1)), first, *rest])
    report = keras2gp.inspect(model)
    assert report.exact
    rows = {row.path: row.note for row in report.rows}
    assert rows["first"].startswith(note) if note else rows["first"] == ""
    assert rows["second"] == ""
    for other in ({"overrides": {"first": (2.0, 0.1)}}, {"prior": "weights"}):
        assert all(not row.note for row in keras2gp.inspect(model, **other).rows)
