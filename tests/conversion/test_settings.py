"""Settings that no limit exists for are refused by name, and functions are read as layers are."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import functools
import json

import keras
import numpy as np
import pytest
from keras import initializers, layers, ops

import keras2gp
from keras2gp.conversion.initial_values import element_variance
from keras2gp.errors import Keras2GPError, PriorError, UnsupportedModelError
from keras2gp.graph.ops import Activation
from keras2gp.matrices import compiled

NAN, INF = float("nan"), float("inf")


def model_of(function, **settings):
    x = keras.Input((4,))
    h = function(layers.Dense(8, name="first", **settings)(x))
    return keras.Model(x, layers.Dense(1, name="head")(h))


def constant(value):
    return initializers.Constant(value)


ABSURD = {
    "BatchNormalization epsilon -1": lambda: layers.BatchNormalization(epsilon=-1.0),
    "BatchNormalization epsilon -2": lambda: layers.BatchNormalization(epsilon=-2.0),
    "BatchNormalization epsilon nan": lambda: layers.BatchNormalization(epsilon=NAN),
    "BatchNormalization epsilon inf": lambda: layers.BatchNormalization(epsilon=INF),
    "BatchNormalization gamma nan": lambda: layers.BatchNormalization(
        gamma_initializer=constant(NAN)
    ),
    "BatchNormalization mean nan": lambda: layers.BatchNormalization(
        moving_mean_initializer=constant(NAN)
    ),
    "BatchNormalization variance nan": lambda: layers.BatchNormalization(
        moving_variance_initializer=constant(NAN)
    ),
    "LayerNormalization epsilon -1": lambda: layers.LayerNormalization(epsilon=-1.0),
    "LayerNormalization gamma nan": lambda: layers.LayerNormalization(
        gamma_initializer=constant(NAN)
    ),
    "RMSNormalization epsilon nan": lambda: layers.RMSNormalization(epsilon=NAN),
    "GroupNormalization epsilon -1": lambda: layers.GroupNormalization(2, epsilon=-1.0),
    "ELU alpha nan": lambda: layers.ELU(alpha=NAN),
    "ELU alpha inf": lambda: layers.ELU(alpha=INF),
    "ReLU maximum nan": lambda: layers.ReLU(max_value=NAN),
    "ReLU threshold inf": lambda: layers.ReLU(threshold=INF),
    "ReLU slope nan": lambda: layers.ReLU(negative_slope=NAN),
    "PReLU alpha nan": lambda: layers.PReLU(alpha_initializer=constant(NAN)),
    "PReLU alpha of an array": lambda: layers.PReLU(alpha_initializer=constant([0.1] * 7 + [0.2])),
    "Rescaling nan": lambda: layers.Rescaling(NAN),
    "Rescaling inf": lambda: layers.Rescaling(INF),
    "Rescaling 1e200": lambda: layers.Rescaling(1e200),
    "Rescaling -1e155": lambda: layers.Rescaling(-1e155),
    "times nan": lambda: lambda h: h * NAN,
    "times 1e200": lambda: lambda h: h * 1e200,
    "by 1e-200": lambda: lambda h: h / 1e-200,
    "by 0": lambda: lambda h: h / 0.0,
    "celu nan": lambda: lambda h: ops.celu(h, NAN),
    "threshold nan": lambda: lambda h: ops.threshold(h, NAN, 0.0),
    "threshold to inf": lambda: lambda h: ops.threshold(h, 0.0, INF),
    "squareplus nan": lambda: lambda h: ops.squareplus(h, NAN),
    "hard shrink nan": lambda: lambda h: ops.hard_shrink(h, NAN),
    "soft shrink inf": lambda: lambda h: ops.soft_shrink(h, INF),
    "leaky relu inf": lambda: lambda h: ops.leaky_relu(h, INF),
    "heaviside nan": lambda: lambda h: ops.heaviside(h, np.float64(NAN)),
}


@pytest.mark.parametrize("name", ABSURD)
def test_settings_without_a_limit_are_refused(name):
    with pytest.raises(UnsupportedModelError, match=r"1 obstacle") as caught:
        keras2gp.convert(model_of(ABSURD[name]()))
    assert caught.value.obstacles[0].where not in ("first", "head")


START = {
    "stddev 1e200": initializers.RandomNormal(0.0, 1e200),
    "stddev nan": initializers.RandomNormal(0.0, NAN),
    "stddev -1e160": initializers.RandomNormal(0.0, -1e160),
    "truncated 1e200": initializers.TruncatedNormal(0.0, 1e200),
    "uniform 1e200": initializers.RandomUniform(-1e200, 1e200),
    "uniform inf": initializers.RandomUniform(-INF, INF),
    "gain 1e200": initializers.Orthogonal(1e200),
    "constants": initializers.Constant(np.ones((4, 8))),
}


@pytest.mark.parametrize("name", START)
def test_initialisers_without_a_finite_variance_are_refused(name):
    with pytest.raises(PriorError) as caught:
        element_variance(START[name], (4, 8))
    assert len(str(caught.value)) < 300


def test_a_finite_variance_of_a_weight_and_not_of_their_sum():
    model = model_of(lambda h: h)
    model.get_layer("first").kernel_initializer = initializers.RandomNormal(0.0, 1.2e154)
    with pytest.raises(UnsupportedModelError, match="variance of its weights is not finite"):
        keras2gp.convert(model)


@pytest.mark.parametrize("value", [NAN, INF])
def test_slopes_that_only_a_file_can_hold(value, tmp_path):
    config = json.loads(model_of(layers.LeakyReLU(name="leaky")).to_json())
    config["config"]["layers"][2]["config"]["negative_slope"] = value
    (tmp_path / "m.json").write_text(json.dumps(config))
    with pytest.raises(Keras2GPError, match="negative_slope"):
        keras2gp.convert(tmp_path / "m.json")


def activation_of(model):
    (op,) = [n.op for n in keras2gp.convert(model).graph.nodes if isinstance(n.op, Activation)]
    return op


NAMES = [
    "celu",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_tanh",
    "leaky_relu",
    "log_sigmoid",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "swish",
    "tanh",
    "tanh_shrink",
]
FUNCTIONS = {
    "relu": (keras.activations.relu, lambda: layers.ReLU()),
    "relu to 6": (
        lambda h: keras.activations.relu(h, max_value=6.0), lambda: layers.ReLU(max_value=6.0),
    ),
    "relu with all": (
        lambda h: keras.activations.relu(h, 0.1, 2.0, 0.5), lambda: layers.ReLU(2.0, 0.1, 0.5),
    ),
    "leaky": (
        lambda h: keras.activations.relu(h, 0.3), lambda: layers.LeakyReLU(negative_slope=0.3),
    ),
    **{
        name: (getattr(keras.activations, name), lambda name=name: layers.Activation(name))
        for name in NAMES
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_keras_activations_on_tensors(name, tmp_path):
    function, layer = FUNCTIONS[name]
    model = model_of(function)
    expected = activation_of(model_of(layer()))
    assert activation_of(model) == expected
    model.save(tmp_path / "m.keras")
    assert activation_of(tmp_path / "m.keras") == expected


@pytest.mark.parametrize("form", ["fused", "layer", "file"])
def test_an_activation_whose_arguments_nothing_states_is_refused(form, tmp_path):
    dense = layers.Dense(8, name="first", activation="threshold" if form != "layer" else None)
    act = [layers.Activation("threshold", name="act")] if form == "layer" else []
    model = keras.Sequential([keras.Input((4,)), dense, *act, layers.Dense(1, name="head")])
    if form == "file":
        model.save(tmp_path / "model.keras")
        model = tmp_path / "model.keras"
    with pytest.raises(UnsupportedModelError, match="threshold and default_value") as caught:
        keras2gp.convert(model)
    (obstacle,) = caught.value.obstacles
    assert obstacle.where == ("act" if form == "layer" else "first")


class Doubled:
    """An activation that is an object, and has no name and no hash."""

    __hash__ = None

    def __call__(self, u):
        return ops.tanh(2.0 * u)


@pytest.mark.parametrize(
    ("activation", "same"),
    [
        (functools.partial(ops.leaky_relu, negative_slope=0.3), layers.LeakyReLU(0.3)),
        (Doubled(), lambda u: ops.tanh(2.0 * u)),
    ],
    ids=["partial", "object"],
)
def test_functions_without_a_name_are_activations(activation, same, monkeypatch):
    monkeypatch.setattr(compiled, "XLA", False)
    x = np.random.default_rng(0).normal(size=(3, 4))
    one, other = (
        keras2gp.convert(model_of(lambda h: h, activation=phi), dtype="float64", tolerance=1e-4)
        for phi in (activation, same)
    )
    np.testing.assert_allclose(one(x, x), other(x, x), rtol=1e-3)


def test_weights_on_positions_alone_stay_random():
    x = keras.Input((6, 3))
    steps = layers.Permute((2, 1))(layers.Dense(8)(x))
    mixed = layers.Dense(6, activation="gelu", name="mixer")(steps)
    model = keras.Model(x, layers.Dense(1)(layers.Flatten()(layers.Permute((2, 1))(mixed))))
    with pytest.raises(UnsupportedModelError, match="stays random at any width") as caught:
        keras2gp.convert(model)
    assert caught.value.obstacles[0].where == "mixer"
