"""Outputs that are maps and sequences, against an oracle that carries all positions: to 1e-9."""

import math

import keras
import numpy as np
import pytest
from keras import layers
from oracles import full_covariance as full_oracle
from test_full_networks import HE, conv, linear, pool, transposed, up

import keras2gp


def unet(x):
    a = conv(x, 2)
    return conv(layers.Concatenate()([up(conv(pool(a, 2), 2), 2), a]), 2)


CASES = {
    "convolutions": ((4, 3, 2), lambda x: linear(conv(x), 2)),
    "strided and transposed": ((4, 3, 2), lambda x: linear(
        transposed(conv(x, strides=2), 3, strides=2, padding="same"))),
    "upsampling": ((3, 2, 2), lambda x: linear(up(conv(x), (1, 2)), 3)),
    "upsampling at the end": ((3, 2, 2), lambda x: up(linear(conv(x)), 2)),
    "U-net": ((4, 2), lambda x: linear(unet(x))),
    "a sequence": ((6, 3), lambda x: layers.Dense(2, **HE)(conv(x, 2, padding="causal"))),
    "a volume": ((2, 3, 2, 2), lambda x: linear(conv(x, 2))),
    "pooling": ((4, 3, 2), lambda x: linear(pool(conv(x), 2, 1), 2)),
    "pooling at the end": ((6, 2), lambda x: pool(linear(conv(x)), 2, 1)),
    "a decoder": ((5,), lambda x: linear(transposed(layers.ReLU()(
        layers.Reshape((2, 2, 4))(layers.Dense(16, **HE)(x))), 3, strides=2, padding="same"))),
    "positions in a row": ((3, 3, 2), lambda x: layers.Reshape((9, 8))(linear(conv(x)))),
    "some of the positions": ((5, 4, 2), lambda x: layers.Cropping2D(((1, 0), (2, 1)))(
        linear(conv(x)))),
    "units of a vector": ((4,), lambda x: layers.Reshape((3, 2))(layers.Dense(6, **HE)(x))),
    "the data alone": ((4, 2), layers.Dense(3, **HE)),
}  # fmt: skip


def of_case(case, rng):
    shape, function = CASES[case]
    x = keras.Input(shape)
    model = keras.Model(x, function(x))
    return model, rng.normal(size=(3, *shape)), rng.normal(size=(2, *shape))


def by_pairs(values, positions):
    """[N1, *positions, N2, *positions] as [N1, N2, P, P]."""
    count, n1 = math.prod(positions), len(values)
    return values.reshape(n1, count, -1, count).transpose(0, 2, 1, 3)


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_all_positions(case, rng):
    model, x1, x2 = of_case(case, rng)
    kernel = keras2gp.convert(model, dtype="float64")
    assert kernel.positions == tuple(model.output_shape[1:-1])
    expected = full_oracle.between_positions(model, x1, x2)
    between = kernel.matrix(x1, x2, positions="all")
    np.testing.assert_allclose(by_pairs(between, kernel.positions), expected, rtol=1e-9, atol=1e-12)
    equal = np.einsum("ijgg->ijg", expected).reshape(3, 2, *kernel.positions)
    np.testing.assert_allclose(kernel(x1, x2), equal, rtol=1e-9)


@pytest.mark.parametrize("case", ["convolutions", "a sequence", "pooling at the end"])
def test_one_set_of_images_and_single_positions(case, rng):
    model, x, _ = of_case(case, rng)
    kernel = keras2gp.convert(model, dtype="float64")
    expected = full_oracle.between_positions(model, x, x)
    matrix = by_pairs(kernel.matrix(x, positions="all"), kernel.positions)
    np.testing.assert_allclose(matrix, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(matrix, matrix.transpose(1, 0, 3, 2))
    within = np.asarray(kernel.diag(x, positions="all")).reshape(3, expected.shape[2], -1)
    np.testing.assert_allclose(within, np.einsum("iigh->igh", expected), rtol=1e-9, atol=1e-12)
    equal = np.einsum("ijgg->ijg", expected).reshape(3, 3, *kernel.positions)
    np.testing.assert_allclose(kernel(x), equal, rtol=1e-9)
    np.testing.assert_allclose(kernel.diag(x), np.einsum("ii...->i...", equal), rtol=1e-9)
    place = tuple(n // 2 for n in kernel.positions)
    one = equal[(..., *place)]
    np.testing.assert_allclose(kernel(x, position=place), one, rtol=1e-9)
    np.testing.assert_allclose(kernel.diag(x, position=place), one.diagonal(), rtol=1e-9)


TANGENTS = [
    "convolutions", "strided and transposed", "upsampling", "U-net", "a sequence", "pooling",
]  # fmt: skip


@pytest.mark.parametrize("case", TANGENTS)
def test_the_tangent_kernel_agrees_with_correlated_networks(case, rng):
    model, x1, x2 = of_case(case, rng)
    kernel = keras2gp.convert(model, dtype="float64")
    expected = full_oracle.between_tangents(model, x1, x2)
    nngp, ntk = kernel(x1, x2, "both", positions="all").numpy()
    np.testing.assert_allclose(by_pairs(ntk, kernel.positions), expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(nngp, kernel(x1, x2, positions="all"), rtol=1e-12, atol=1e-15)
    equal = np.einsum("ijgg->ijg", expected).reshape(3, 2, *kernel.positions)
    np.testing.assert_allclose(kernel(x1, x2, "ntk"), equal, rtol=1e-9)


def test_covariances_within_images_of_both_kernels(rng):
    model, x, _ = of_case("a sequence", rng)
    kernel = keras2gp.convert(model, dtype="float64")
    both = kernel.diag(x, "both", positions="all").numpy()
    pairs = kernel(x, None, "both", positions="all").numpy()
    np.testing.assert_allclose(both, np.einsum("kigih->kigh", pairs), rtol=1e-12, atol=1e-15)


def test_the_mean_over_positions_is_the_kernel_behind_flatten_and_dense(rng):
    x, image = rng.normal(size=(4, 5, 2)), keras.Input((5, 2))
    h = conv(image, 2)
    whole, mapped = (
        keras2gp.convert(keras.Model(image, layers.Dense(1, name="out")(end)), dtype="float64")
        for end in (layers.Flatten()(h), h)
    )
    whole, mapped = (k.with_parameters({"out": (1.0, 0.0)}) for k in (whole, mapped))
    np.testing.assert_allclose(whole(x), np.asarray(mapped(x)).mean(axis=2), rtol=1e-12)
