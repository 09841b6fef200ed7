"""Random networks beside kernels of outputs with positions."""

import keras
import numpy as np
import pytest
from keras import layers
from small_models import biased

import keras2gp
from keras2gp.errors import InputError
from keras2gp.verification.api import converted
from keras2gp.verification.verification import Verification


def conv(x, window=3, units=8, **settings):
    return layers.Conv1D(units, window, **(biased() | {"padding": "same"} | settings))(x)


def unet(x):
    a = conv(x, activation="relu")
    b = layers.UpSampling1D(2)(conv(layers.AveragePooling1D(2)(a), 2, activation="relu"))
    return conv(layers.Concatenate()([a, b]), 2, activation="relu")


ENDS = {
    "a U-net": lambda h: conv(h, 1),
    "an activation": lambda h: conv(h, 1, activation="sigmoid"),
    "an activation before a reshape": lambda h: layers.Reshape((2, 2, 8))(
        conv(h, 1, activation="tanh")),
    "a layer of activations before a slice": lambda h: layers.Softmax()(conv(h, 1))[:, 1:],
}  # fmt: skip


@pytest.mark.parametrize(
    "end", [pytest.param(end, marks=pytest.mark.slow if end == "a U-net" else ()) for end in ENDS]
)
def test_networks_agree_with_the_kernel_at_positions_and_between_them(end):
    x = keras.Input((4, 2))
    h = unet(x) if end == "a U-net" else conv(x, activation="relu")
    model = keras.Model(x, ENDS[end](h))
    opened, kernel = converted(model)
    verification = Verification(opened, kernel, samples=60, widths=(4, 16), data=2)
    found = verification.draw()
    report = verification.compared(kernel, found)
    assert report.verdict != "rejected", report
    assert np.shape(report.kernel) == (6, 6)
    first = next(iter(kernel.parameters))
    changed = kernel.with_parameters({first: {"weight": 2 * kernel.parameters[first].weight}})
    assert verification.compared(changed, found).verdict == "rejected"


def test_a_kernel_of_other_positions_is_rejected():
    """At equal positions, one further each: of random images it has about the same variance."""
    x = keras.Input((4, 2))
    h = conv(x, activation="relu")
    model, other = (
        keras.Model(x, layers.Cropping1D(crops)(conv(h, 1))) for crops in ((0, 1), (1, 0))
    )
    verification = Verification(*converted(model), samples=60, widths=(4, 16))
    found = verification.draw()
    assert verification.compared(verification.stated, found).verdict != "rejected"
    assert verification.compared(keras2gp.convert(other), found).verdict == "rejected"
    with pytest.raises(InputError, match="positions"):
        verification.compared(keras2gp.convert(keras.Model(x, conv(h, 1))), found)


def test_channels_first():
    x = keras.Input((2, 4, 3))
    h = layers.Conv2D(8, 2, activation="relu", data_format="channels_first", **biased())(x)
    model = keras.Model(x, layers.Conv2D(4, 1, data_format="channels_first", **biased())(h))
    report = keras2gp.verify(model, samples=60, widths=(4, 16), data=2)
    assert report.verdict != "rejected", report


def test_no_rule_between_positions_leaves_one():
    x = keras.Input((5,))
    h = layers.Reshape((3, 4))(layers.Dense(12, activation="relu", **biased())(x))
    model = keras.Model(x, layers.Dense(2, **biased())(h))
    report = keras2gp.verify(model, samples=60, widths=(4, 16))
    assert report.verdict != "rejected", report
    assert np.shape(report.kernel) == (3, 3)
