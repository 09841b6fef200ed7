"""Configurations of Keras 2, one peculiarity each: translated, or refused by name."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from model_files import write
from older_files import keras_2_config

import keras2gp
from keras2gp.errors import ModelFileError
from keras2gp.modelfile.loading import load_model_file

SHAPE = {"batch_input_shape": [None, 4]}


def layer(kind, name, before=None, **config):
    """A layer in the form of Keras 2.4; before: the layers that it is called on."""
    new = {"class_name": kind, "config": {"name": name, **config}}
    if before is None:
        return new
    nodes = [[[b, 0, 0, {}] for b in before]] if before else []
    return {**new, "name": name, "inbound_nodes": nodes}


def dense(name, units=3, before=None, **config):
    return layer("Dense", name, before, trainable=True, dtype="float32", units=units, **config)


def function(symbol, before=("i", 0, 0), **arguments):
    """A layer of one function of TensorFlow, called "f"."""
    kind = "SlicingOpLambda" if str(symbol).endswith("getitem") else "TFOpLambda"
    config = {"name": "f", "trainable": True, "dtype": "float32", "function": symbol}
    nodes = [[*before, arguments]]
    return {"class_name": kind, "config": config, "name": "f", "inbound_nodes": nodes}


def functional(*rest, out=None):
    start = layer("InputLayer", "i", [], **SHAPE, dtype="float32", sparse=False, ragged=False)
    all_layers = [start, *rest]
    ends = {"input_layers": [["i", 0, 0]], "output_layers": [[out or rest[-1]["name"], 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "m", "layers": all_layers, **ends}}


def stack(*rest):
    return {"class_name": "Sequential", "config": {"name": "m", "layers": list(rest)}}


def read(tmp_path, config, **options):
    text = json.dumps({**config, "keras_version": "2.4.0", "backend": "tensorflow"})
    return load_model_file(write(tmp_path / "m.json", text), weights=False, **options)


def built(tmp_path, config, **options):
    loaded = read(tmp_path, config, **options)
    assert dict(loaded.unreadable) == {}
    return loaded.model


def refusal(tmp_path, config, where):
    loaded = read(tmp_path, config)
    assert list(loaded.unreadable) == [where]
    return loaded.unreadable[where]


def last(model):
    return model.layers[-1]


X = np.array([[-3.0, -0.5, 0.25, 2.0]], "float32")


def test_sequential_models_of_2_2_are_lists_without_an_input_layer(tmp_path):
    config = {"class_name": "Sequential", "config": [dense("a", **SHAPE), dense("b", 2)]}
    model = built(tmp_path, config)
    assert model.input_shape == (None, 4)
    assert [x.name for x in model.layers] == ["a", "b"]


def test_the_shape_stands_in_a_wrapped_layer(tmp_path):
    inner = dense("d", batch_input_shape=[None, 5, 4])
    model = built(tmp_path, stack(layer("TimeDistributed", "t", layer=inner)))
    assert model.output_shape == (None, 5, 3)


def test_a_model_as_the_first_layer_of_another(tmp_path):
    inner = functional(dense("a", before=["i"]))
    inner["config"]["name"] = "base"
    model = built(tmp_path, stack(inner, dense("b", 2)))
    assert model.output_shape == (None, 2)


def test_tuples_and_shapes_as_savedmodels_write_them(tmp_path):
    shape = {"class_name": "TensorShape", "items": [None, 6, 6, 1]}
    pair = {"class_name": "__tuple__", "items": [3, 3]}
    start = layer("InputLayer", "i", batch_input_shape=shape)
    model = built(tmp_path, stack(start, layer("Conv2D", "c", filters=2, kernel_size=pair)))
    assert model.output_shape == (None, 4, 4, 2)


POLICY = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
SCALING = {"scale": 2.0, "mode": "fan_in", "distribution": "normal", "seed": None}
SCALING = {"class_name": "VarianceScaling", "config": {**SCALING, "dtype": "float32"}}


@pytest.mark.parametrize(
    ("kind", "config", "kept"),
    [
        ("LeakyReLU", {"alpha": 0.1}, {"negative_slope": 0.1}),
        ("LeakyReLU", {"alpha": {"type": "ndarray", "value": 0.25}}, {"negative_slope": 0.25}),
        ("ThresholdedReLU", {"theta": 0.5}, {"threshold": 0.5, "negative_slope": 0.0}),
        ("BatchNormalizationV1", {"axis": [1], "fused": None}, {"axis": 1}),
        ("SyncBatchNormalization", {"axis": [1]}, {"axis": 1}),
        ("Dense", {"units": 2, "dtype": POLICY}, {"dtype": "mixed_float16"}),
        ("Dense", {"units": 2, "kernel_initializer": SCALING}, {}),
        ("Dense", {"units": 2, "kernel_regularizer": {"class_name": "L1L2", "config": {
            "l1": 0.0, "l2": {"type": "ndarray", "value": 0.01},
        }}}, {}),
        ("GRU", {"units": 2}, {"reset_after": False}),
    ],
)  # fmt: skip
def test_settings(tmp_path, kind, config, kept):
    recurrent = [layer("Reshape", "r", target_shape=[2, 2])] if kind == "GRU" else []
    start = layer("InputLayer", "i", **SHAPE)
    found = last(built(tmp_path, stack(start, *recurrent, layer(kind, "x", **config))))
    if "dtype" in kept:
        assert found.dtype_policy.name == kept["dtype"]
    else:
        assert kept.items() <= found.get_config().items()
    if "kernel_initializer" in config:
        assert keras2gp.inspect(tmp_path / "m.json").rows[-1].variances.weight == pytest.approx(2.0)


def test_thresholded_relu_computes_what_it_did(tmp_path):
    model = built(
        tmp_path, stack(layer("InputLayer", "i", **SHAPE), layer("ThresholdedReLU", "x", theta=0.5))
    )
    np.testing.assert_array_equal(model(X), np.where(X > 0.5, X, 0))


TENSOR = ["d", 0, 0]
FUNCTIONS = {
    "__operators__.add": ({"y": 2.0}, lambda x: x + 2),
    "math.multiply": ({"y": [1.0, 2.0, 3.0, 4.0], "name": None}, lambda x: x * np.arange(1, 5)),
    "math.pow": ({"y": 2}, lambda x: x**2),
    "nn.relu": ({"name": None}, lambda x: np.maximum(x, 0)),
    "keras.activations.relu": ({"alpha": 0.1, "max_value": 1.0, "threshold": 0},
                               lambda x: np.clip(np.where(x < 0, 0.1 * x, x), None, 1)),
    "nn.leaky_relu": ({}, lambda x: np.where(x < 0, 0.2 * x, x)),
    "clip_by_value": ({"clip_value_min": -1, "clip_value_max": 1}, lambda x: np.clip(x, -1, 1)),
    "math.reduce_mean": ({"axis": 1, "keepdims": True}, lambda x: x.mean(1, keepdims=True)),
    "math.reduce_sum": ({"axis": [1]}, lambda x: x.sum(1)),
    "expand_dims": ({"axis": 1}, lambda x: x[:, None]),
    "reshape": ({"shape": [-1, 2, 2]}, lambda x: x.reshape(-1, 2, 2)),
    "tile": ({"multiples": [1, 2]}, lambda x: np.tile(x, (1, 2))),
    "__operators__.getitem": (
        {"slice_spec": [{"class_name": "__ellipsis__"}, {"start": 1, "stop": None, "step": 2}]},
        lambda x: x[:, 1::2],
    ),
    "compat.v1.pad": ({"paddings": [[0, 0], [1, 2]], "mode": "CONSTANT", "constant_values": 3},
                      lambda x: np.pad(x, ((0, 0), (1, 2)), constant_values=3)),
}  # fmt: skip


@pytest.mark.parametrize("symbol", FUNCTIONS)
def test_functions_of_tensorflow(tmp_path, symbol):
    arguments, expected = FUNCTIONS[symbol]
    model = built(tmp_path, functional(function(symbol, **arguments)))
    np.testing.assert_allclose(model(X), expected(X), rtol=1e-6)


def test_a_constant_before_a_tensor(tmp_path):
    config = functional(function("math.subtract", ["_CONSTANT_VALUE", -1, 1.0], y=["i", 0, 0]))
    np.testing.assert_allclose(built(tmp_path, config)(X), 1 - X)


def test_lists_of_tensors(tmp_path):
    both = function("concat")
    both["inbound_nodes"] = [[["i", 0, 0, {"axis": -1}], ["a", 0, 0, {"axis": -1}]]]
    model = built(tmp_path, functional(layer("ReLU", "a", ["i"]), both))
    np.testing.assert_array_equal(model(X), np.concatenate([X, np.maximum(X, 0)], -1))


@pytest.mark.parametrize(
    ("node", "constants", "expected"),
    [
        ("Mul", {"1": 2.0}, lambda x: 2 * x),
        ("Sub", {"0": 1.0}, lambda x: 1 - x),
        ("Relu6", {}, lambda x: np.clip(x, 0, 6)),
    ],
)
def test_nodes_of_a_tensorflow_graph(tmp_path, node, constants, expected):
    config = {"node_def": {"name": "n", "op": node, "attr": {}}, "constants": constants}
    model = built(tmp_path, functional(layer("TensorFlowOpLayer", "f", ["i"], **config)))
    np.testing.assert_allclose(model(X), expected(X))


def test_an_unknown_function_or_argument_is_an_obstacle(tmp_path):
    for node, words in [
        (function("io.read_file"), "io.read_file"),
        (function("os.system"), "os.system"),
        (function("nn.silu", beta=2.0), "beta"),
        (function("math.reduce_mean", where=1), "where"),
        (function("reshape", shape=["i", 0, 0]), "reshape"),
        (function(["x"]), "x"),
        (layer("TensorFlowOpLayer", "f", ["i"], node_def={"op": "ReadFile"}), "ReadFile"),
        (layer("TensorFlowOpLayer", "f", ["i"], node_def="name: 'x'"), "raw_ops"),
        (
            layer("TensorFlowOpLayer", "f", ["i"], node_def={"op": "Mul"}, constants={"-1": 2}),
            "Mul",
        ),
        (layer("TensorFlowOpLayer", "f", ["i"], node_def={"op": "Mul"}, constants={"9": 2}), "Mul"),
    ]:
        obstacle = refusal(tmp_path, functional(node), "f")
        assert words in obstacle.received
        assert "function of TensorFlow" in obstacle.why
        assert obstacle.hint


MINE = {"class_name": "Mine", "config": {}}


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("Lambda", {"function": ["4wEAA", None, None], "function_type": "lambda"}, "holds code"),
        ("Lambda", {"function": "f", "module": "os", "function_type": "function"}, "holds code"),
        ("TFSMLayer", {"filepath": "x"}, "holds code"),
        ("Mine", {}, "not one of Keras's own"),
        ("pkg>Mine", {}, "not one of Keras's own"),
        ("LocallyConnected1D", {"filters": 2}, "Keras 3 does not have"),
        ("CuDNNLSTM", {"units": 2}, "Keras 3 does not have"),
        ("Dense", {"units": 2, "bits": 8}, "no such setting"),
        ("BatchNormalization", {"virtual_batch_size": 4}, "no such"),
        ("Dense", {"units": 2, "kernel_initializer": MINE}, "not read"),
        ("Dense", {"units": 2, "activation": "mine"}, "not Keras's own"),
        ("Dense", {"units": 2, "activation": MINE}, "not read"),
        ("Activation", {"activation": "hard_sigmoid"}, "clip"),
        ("LSTM", {"units": 2, "recurrent_activation": "hard_sigmoid"}, "clip"),
        ("TextVectorization", {"vocabulary": "/etc/passwd"}, "path of another file"),
        ("StringLookup", {"vocabulary": "/etc/passwd"}, "path of another file"),
    ],
)  # fmt: skip
def test_what_is_refused_by_name(tmp_path, kind, config, words):
    obstacle = refusal(
        tmp_path, stack(dense("a", **SHAPE), layer(kind, "x", **config), dense("z")), "x"
    )
    assert words in obstacle.why
    assert obstacle.hint
    report = keras2gp.inspect(tmp_path / "m.json")
    assert not report.exact


@pytest.mark.parametrize("module", ["os", "mine.layers", "keras_evil.layers", 3, ["keras"]])
def test_classes_of_other_modules_are_nobody(tmp_path, module):
    foreign = dense("x") | {"module": module, "registered_name": None}
    obstacle = refusal(tmp_path, stack(dense("a", **SHAPE), foreign), "x")
    assert "not one of Keras's own" in obstacle.why
    nested = stack(dense("y")) | {"module": module}
    nested["config"]["name"] = "x"
    assert list(read(tmp_path, stack(dense("a", **SHAPE), nested)).unreadable) == ["x"]
    with pytest.raises(ModelFileError, match="holds a Sequential"):
        read(tmp_path, stack(dense("a", **SHAPE)) | {"module": module})


def test_registered_classes_are_nobody(tmp_path):
    custom = dense("x") | {"module": "keras.layers", "registered_name": "Custom>Dense"}
    assert list(read(tmp_path, stack(dense("a", **SHAPE), custom)).unreadable) == ["x"]


class Twice(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


@pytest.mark.parametrize("name", ["Twice", "pkg>Twice"])
def test_layers_of_ones_own_are_handed_over(tmp_path, name):
    config = stack(
        dense("a", **SHAPE), layer(name, "x", batch_input_shape=[None, 3], dtype="float32")
    )
    model = built(tmp_path, config, layers={name: Twice})
    assert type(last(model)) is Twice


def test_hard_sigmoid_of_keras_2_is_stated_by_its_name(tmp_path):
    config = stack(dense("a", **SHAPE, activation="hard_sigmoid"), dense("z"))
    path = write(tmp_path / "m.json", json.dumps(config))
    (obstacle,) = keras2gp.inspect(path).obstacles
    assert obstacle.hint.startswith("activations={'hard_sigmoid_of_keras_2'")
    stated = {"hard_sigmoid_of_keras_2": lambda x: keras.ops.clip(0.2 * x + 0.5, 0, 1)}
    assert keras2gp.inspect(path, activations=stated).exact


@pytest.mark.parametrize("name", ["mine", "package>mine"])
def test_activations_of_ones_own_stand_by_their_names(tmp_path, name):
    config = stack(dense("a", **SHAPE, activation=name), dense("z"))
    path = write(tmp_path / "m.json", json.dumps(config))
    assert "activations={name: function}" in keras2gp.inspect(path).obstacles[0].hint
    report = keras2gp.inspect(path, activations={"mine": lambda x: keras.ops.tanh(2 * x)})
    assert report.exact
    assert "mine" in report.rows[0].became


def test_a_call_with_several_tensors(tmp_path):
    attention = layer("MultiHeadAttention", "x", num_heads=2, key_dim=2, query_shape=[None, 5, 4])
    attention |= {"name": "x"}
    attention["inbound_nodes"] = [[["i", 0, 0, {"value": ["i", 0, 0], "attention_mask": None}]]]
    config = functional(attention)
    config["config"]["layers"][0]["config"]["batch_input_shape"] = [None, 5, 4]
    assert built(tmp_path, config).output_shape == (None, 5, 4)


def test_names_with_slashes(tmp_path):
    model = built(tmp_path, functional(dense("a/b", before=["i"]), dense("c", before=["a/b"])))
    assert [x.name for x in model.layers] == ["i", "a_b", "c"]


def test_layers_that_two_models_share(tmp_path):
    shared = dense("s", before=["i"], kernel_initializer="zeros") | {"shared_object_id": 7}
    one, two = functional(shared), functional(shared)
    one["config"]["name"], two["config"]["name"] = "one", "two"
    config = functional(
        {**one, "name": "one", "inbound_nodes": [[["i", 0, 0, {}]]]},
        {**two, "name": "two", "inbound_nodes": [[["i", 0, 0, {}]]]},
        layer("Add", "sum", ["one", "two"]),
    )
    for node in config["config"]["layers"][-1]["inbound_nodes"][0]:
        node[1] = 1
    assert set(read(tmp_path, config).unreadable) == {"one/s", "two/s"}
    alone = dense("a", **SHAPE, kernel_initializer="zeros") | {"shared_object_id": 3}
    assert not read(tmp_path, stack(alone)).unreadable


@pytest.mark.parametrize(
    "nodes",
    [
        [[["i", 0, 0, {}]], 3],
        [[]],
        [[["i"]]],
        [[["i", 0]]],
        [[["i", "0", 0, {}]]],
        [[["i", 0, 0, []]]],
        [[["i", 0, 0, {}, 1]]],
        [[["nobody", 0, 0, {}]]],
        [[["i", 7, 0, {}]]],
        [[["i", -9, 0, {}]]],
        [[["i", 0, 5, {}]]],
        [{"i": 3}],
        "i",
        [[["_CONSTANT_VALUE", -1, [[0.0] * 9], {}]]],
    ],
)
def test_malformed_calls(tmp_path, nodes):
    bad = dense("a", before=["i"]) | {"inbound_nodes": nodes}
    with pytest.raises(ModelFileError) as caught:
        read(tmp_path, functional(bad))
    assert len(str(caught.value)) < 900


@pytest.mark.parametrize(
    "inner",
    [
        None, 3, "x", [], [3], {}, {"layers": 3}, {"layers": [3]}, {"layers": [{"class_name": 3}]},
        {"name": 3, "layers": []}, {"layers": [{"class_name": "Dense"}]},
        {"layers": [{"class_name": "Dense", "config": 3}]},
        {"layers": [{"class_name": "Sequential", "config": {"layers": None}}]},
        {"layers": [{"class_name": "TFOpLambda", "config": {"name": "f"}}]},
        {"layers": [{"class_name": "Dense", "config": {"units": {"class_name": "__tuple__"}}}]},
        {"layers": [{"class_name": "Dense", "config": {"name": "d", "units": -3, **SHAPE}}]},
        {"layers": [{"class_name": "Dense", "config": {"units": 2, "batch_input_shape": 3}}]},
    ],
)  # fmt: skip
def test_malformed_models(tmp_path, inner):
    for kind in ("Sequential", "Functional", "Model"):
        assert _refusal_of(tmp_path, {"class_name": kind, "config": inner})


def _refusal_of(tmp_path, config):
    """Why a configuration is refused; "" if it is read."""
    try:
        obstacles = read(tmp_path, config).unreadable
    except ModelFileError as error:
        reason = str(error)
    else:
        reason = "; ".join(map(str, obstacles.values()))
    return reason[:2000]


def test_fuzzed_configurations_raise_nothing_else(tmp_path):
    """Values of a real configuration are exchanged at random."""
    x = inputs = keras.Input((4,))
    x = layers.Dense(4, "relu")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.LeakyReLU(0.1)(x * 2.0 + x)))
    draw = np.random.default_rng(0)
    junk = [
        None,
        3,
        -1,
        "x",
        [],
        {},
        ["a", 0, 0],
        [["a", 0, 0, {}]],
        {"class_name": "Dense"},
        1e300,
    ]
    for _ in range(150):
        config = keras_2_config(model)
        places = []
        values = [config]
        while values:
            value = values.pop()
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                places.append((value, key))
                values += [item] if isinstance(item, dict | list) else []
        holder, key = places[draw.integers(len(places))]
        holder[key] = junk[draw.integers(len(junk))]
        assert len(_refusal_of(tmp_path, config)) < 1500
