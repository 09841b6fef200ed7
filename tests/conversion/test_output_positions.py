"""Outputs with positions: what the output is, which activation is left out, what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

import keras2gp
from keras2gp.errors import InputError, UnsupportedModelError

HE = {"kernel_initializer": "he_normal"}
SHAPE = (4, 3, 2)


def converted(function, shape=SHAPE, **settings):
    x = keras.Input(shape)
    return keras2gp.convert(keras.Model(x, function(x)), dtype="float64", **settings)


def conv(x, units=8, **settings):
    return layers.Conv2D(units, 3, padding="same", name="last", **(HE | settings))(x)


def hidden(x):
    return layers.Conv2D(8, 3, padding="same", activation="relu", **HE)(x)


ENDS = {
    "in its layer": lambda h, a: conv(h, activation=a),
    "a layer of its own": lambda h, a: layers.Activation(a)(conv(h)),
    "before a reshape": lambda h, a: layers.Reshape((12, 8))(conv(h, activation=a)),
    "before a slice": lambda h, a: conv(h, activation=a)[:, 1:, ::2],
    "before a crop": lambda h, a: layers.Cropping2D(1)(layers.Activation(a)(conv(h))),
    "before Flatten": lambda h, a: layers.Flatten()(conv(h, activation=a)),
    "before several": lambda h, a: layers.Reshape((2, 8))(
        layers.Cropping2D(((1, 1), (1, 1)))(conv(h, activation=a))),
}  # fmt: skip


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softmax"])
@pytest.mark.parametrize("end", ENDS)
def test_an_output_activation_is_left_out(end, activation, rng):
    kernel = converted(lambda x: ENDS[end](hidden(x), activation))
    plain = converted(lambda x: ENDS[end](hidden(x), "linear"))
    assert any(f"{activation} at the output" in note for note in kernel.report.notes)
    assert kernel.positions == plain.positions == kernel.report.positions
    x = rng.normal(size=(3, *SHAPE))
    np.testing.assert_array_equal(kernel(x), plain(x))


SCALED = {
    "a factor": lambda h: 2.0 * h,
    "from 0 to 1": lambda h: (h + 1.0) / 2.0,
    "a layer": layers.Rescaling(0.5, 0.5),
    "after a reshape": lambda h: 3.0 * layers.Reshape((4, 2))(h),
}


@pytest.mark.parametrize("case", SCALED)
def test_factors_and_constants_after_an_output_activation_go_with_it(case, rng):
    def vector(x):
        return layers.Dense(8, name="last", **HE)(layers.Flatten()(hidden(x)))

    kernel = converted(lambda x: SCALED[case](layers.Activation("tanh")(vector(x))))
    plain = converted(vector)
    assert any("the factor and constant after it" in note for note in kernel.report.notes)
    x = rng.normal(size=(3, *SHAPE))
    found = np.asarray(kernel(x))
    np.testing.assert_array_equal(found[..., 0] if kernel.positions else found, plain(x))


def test_a_generator_ends_in_units_over_positions(rng):
    def network(activation):
        def build(x):
            h = layers.Dense(12, activation=activation, **HE)(layers.Flatten()(hidden(x)))
            return layers.Reshape((4, 3, 1))(h)

        return build

    kernels = [converted(network(activation)) for activation in ("tanh", None)]
    assert kernels[0].positions == (4, 3)
    x = rng.normal(size=(2, *SHAPE))
    np.testing.assert_array_equal(*(np.asarray(kernel(x)) for kernel in kernels))


def test_an_activation_before_weights_or_sums_is_not_left_out():
    kernel = converted(lambda x: conv(layers.Activation("tanh")(conv_named(x))))
    assert not any("removed" in note for note in kernel.report.notes)
    with pytest.raises(UnsupportedModelError, match="activation"):
        converted(lambda x: layers.ZeroPadding2D(1)(conv(hidden(x), activation="sigmoid")))


def conv_named(x):
    return layers.Conv2D(8, 3, padding="same", name="before", **HE)(x)


def test_flatten_at_the_end_keeps_the_positions(rng):
    flat = converted(lambda x: layers.Flatten()(conv(hidden(x))))
    x = rng.normal(size=(3, *SHAPE))
    assert flat.positions == (4, 3)
    np.testing.assert_array_equal(flat(x), converted(lambda x: conv(hidden(x)))(x))


def test_channels_first(rng):
    def network(x, order):
        h = layers.Conv2D(8, 3, activation="relu", data_format=order, **HE)(x)
        return layers.Conv2D(1, 2, data_format=order, **HE)(h)

    x = rng.normal(size=(2, 5, 4, 2))
    last = converted(lambda i: network(i, "channels_last"), (5, 4, 2))
    first = converted(lambda i: network(i, "channels_first"), (2, 5, 4))
    assert first.positions == last.positions == (2, 1)
    np.testing.assert_allclose(first(x.transpose(0, 3, 1, 2)), last(x), rtol=1e-12)


def test_one_position_is_a_vector(rng):
    kernel = converted(layers.Conv2D(3, (4, 3), **HE))
    assert kernel.positions == ()
    x = rng.normal(size=(3, *SHAPE))
    np.testing.assert_array_equal(kernel(x, positions="all"), kernel(x))
    np.testing.assert_array_equal(kernel.at(())(x), kernel(x))
    with pytest.raises(InputError, match="position=0: the model's output is a vector"):
        kernel(x, position=0)


def test_the_report_and_the_kernel_say_it():
    kernel = converted(lambda x: conv(hidden(x)))
    assert "output: 4 x 3 positions" in str(kernel.report)
    assert "positions [4, 3]" in repr(kernel)
    assert "position (3, 1)" in kernel.at((-1, 1)).report.notes[-1]


@pytest.mark.parametrize(
    "position", [(4, 0), (0, -4), 1, (1, 2, 3), (1.0, 2), "ab", (True, 1), np.ones(2)]
)
def test_a_position_that_is_none_is_refused(position, rng):
    kernel = converted(lambda x: conv(hidden(x)))
    with pytest.raises(InputError, match="position="):
        kernel(rng.normal(size=(2, *SHAPE)), position=position)


def test_other_requests_that_are_none(rng):
    kernel, x = converted(lambda x: conv(hidden(x))), rng.normal(size=(2, *SHAPE))
    with pytest.raises(InputError, match="positions="):
        kernel(x, positions="some")
    with pytest.raises(InputError, match="at most one"):
        kernel(x, positions="all", position=(0, 0))


def test_no_rule_between_positions_is_said(rng):
    """Units over positions after an activation have means, whose product is not 0."""

    def network(x):
        h = layers.Dense(12, activation="relu", **HE)(layers.Flatten()(x))
        return layers.Dense(2, **HE)(layers.Reshape((3, 4))(h))

    kernel, x = converted(network), rng.normal(size=(2, *SHAPE))
    assert np.asarray(kernel(x)).shape == (2, 2, 3)
    with pytest.raises(InputError, match="between different positions"):
        kernel(x, positions="all")
