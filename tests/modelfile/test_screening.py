"""Model files that try to run something: every stranger is named, and nothing is touched."""

import contextlib
import copy
import importlib
import random
import subprocess
import sys

import keras
import pytest
from keras import layers
from model_files import base, load_config, write

from keras2gp.errors import ModelFileError
from keras2gp.modelfile import allowlist
from keras2gp.modelfile.loading import load_model_file


class Touched:
    """Counts what must not happen."""

    count = 0


@keras.saving.register_keras_serializable(package="strangers")
class Twice(layers.Layer):
    def __init__(self, **kwargs):
        Touched.count += 1
        super().__init__(**kwargs)

    def call(self, inputs):
        Touched.count += 1
        return 2 * inputs


@keras.saving.register_keras_serializable(package="strangers")
class Drawn(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        Touched.count += 1
        return keras.ops.ones(shape, dtype)


@keras.saving.register_keras_serializable(package="strangers")
class Dense(layers.Dense):
    """A layer with the name of one of Keras's layers."""

    def __init__(self, *args, **kwargs):
        Touched.count += 1
        super().__init__(*args, **kwargs)


@keras.saving.register_keras_serializable(package="strangers")
def double(x):
    Touched.count += 1
    return 2 * x


@pytest.fixture
def untouched(monkeypatch):
    """Fail if anything of a file's was run, or a lambda unmarshalled."""

    def unmarshal(*args, **kwargs):
        raise AssertionError("code was unmarshalled")

    monkeypatch.setattr("keras.src.utils.python_utils.func_load", unmarshal)
    Touched.count = 0
    yield
    assert Touched.count == 0


def save(model, path):
    (model.save(path) if path.suffix == ".keras" else write(path, model.to_json()))
    Touched.count = 0
    return path


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize("name", ["m.keras", "m.json"])
def test_every_stranger_at_any_depth_becomes_an_obstacle(tmp_path, untouched, name):
    def lambda_layer(which):
        return layers.Lambda(lambda z: z, name=f"lambda_{which}")

    inner = keras.Sequential([keras.Input((4, 4)), layers.Dense(4), lambda_layer(1)], name="inner")
    a = keras.Input((4, 4))
    middle = keras.Model(a, Twice(name="twice")(inner(a)), name="middle")
    x = inputs = keras.Input((4, 4))
    x = layers.TimeDistributed(lambda_layer(2), name="times")(middle(x))
    x = layers.Dense(4, activation=double, name="fn")(x)
    x = layers.Dense(4, activation=lambda z: z, name="nameless")(x)
    x = layers.Dense(4, kernel_initializer=Drawn(), name="init")(x)
    x = layers.Dense(4, activation=keras.ops.erf, name="op")(x)
    x = layers.Dense(4, activation=lambda_layer(3), name="held")(x)
    x = Dense(4, name="disguised")(x)
    x = keras.ops.vectorized_map(double, x)
    model = keras.Model(inputs, layers.Dense(3, name="fine")(x), name="outer")
    loaded = load_model_file(save(model, tmp_path / name), weights=False)
    mapped = next(path for path in loaded.unreadable if path.startswith("vectorized_map"))
    assert dict(loaded.unreadable).keys() == {
        "middle/inner/lambda_1",
        "middle/twice",
        "times",
        "times/lambda_2",
        "fn",
        "nameless",
        "init",
        "op",
        "held",
        "disguised",
        mapped,
    }
    text = {path: f"{o.received}: {o.why}" for path, o in loaded.unreadable.items()}
    assert all(path == o.where and o.hint for path, o in loaded.unreadable.items())
    assert text["middle/inner/lambda_1"].startswith("Lambda: it holds code")
    assert text["middle/twice"].startswith("strangers>Twice: it is not one of Keras's own")
    assert text["disguised"].startswith("strangers>Dense: it is not one of Keras's own")
    assert text["times"].startswith("TimeDistributed: inside it, times/lambda_2 (Lambda)")
    assert text["fn"].startswith("activation=strangers>double: a function")
    assert text["nameless"].startswith("activation=lambda: it is a function without a name")
    assert text["init"].startswith("kernel_initializer=strangers>Drawn: a class")
    assert text["op"].startswith("activation=erf: a function")
    # The rest can be read: each stranger is an Identity of the same name.
    assert loaded.model.output_shape == (None, 4, 3)
    for path in ("fn", "init", "op", "held", "disguised", "times"):
        assert type(loaded.model.get_layer(path)) is layers.Identity
    with pytest.raises(ValueError, match="No such layer"):
        loaded.model.get_layer("twice")
    if name == "m.keras":  # Weights are not loaded into half a model.
        assert load_model_file(tmp_path / name, weights=True).unreadable == loaded.unreadable


def test_a_model_that_cannot_be_built_without_them(tmp_path, untouched):
    class Split(layers.Layer):
        def call(self, x):
            return x[:, :1], x[:, 1:]

    inputs = keras.Input((4,))
    left, right = Split(name="split")(inputs)
    loaded = load_model_file(
        save(keras.Model(inputs, [left, right]), tmp_path / "m.json"), weights=False
    )
    assert loaded.model is None
    assert list(loaded.unreadable) == ["split"]


def test_a_custom_layer_of_another_process(tmp_path, untouched):
    path = tmp_path / "m.keras"
    code = f"""
import keras
@keras.saving.register_keras_serializable(package="elsewhere")
class Odd(keras.layers.Layer):
    def call(self, x):
        return x
keras.Sequential([keras.Input((3,)), Odd(name="odd"), keras.layers.Dense(2)]).save({str(path)!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)  # noqa: S603
    loaded = load_model_file(path, weights=False)
    assert loaded.unreadable["odd"].received == "elsewhere>Odd"
    assert loaded.model.output_shape == (None, 2)


def test_subclassed_models_are_refused(tmp_path, untouched):
    @keras.saving.register_keras_serializable(package="strangers")
    class Mine(keras.Model):
        pass

    inputs = keras.Input((3,))
    path = save(Mine(inputs, layers.Dense(2)(inputs)), tmp_path / "m.keras")
    with pytest.raises(ModelFileError, match=r"strangers>Mine.*program that makes the model"):
        load_model_file(path, weights=False)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that tells when it is imported."""
    write(tmp_path / "trapmodule.py", f"open({str(tmp_path / 'sprung')!r}, 'w').close()\nX = int\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    assert not (tmp_path / "sprung").exists()
    assert "trapmodule" not in sys.modules


STRANGE_CLASSES = [
    ("os", "system"),
    ("builtins", "eval"),
    ("trapmodule", "X"),
    ("keras.utils", "get_file"),
    ("keras.models", "load_model"),
    ("keras.saving", "load_model"),
    ("keras.layers", "TFSMLayer"),
    ("keras.layers", "TorchModuleWrapper"),
    ("keras.layers", "Lambda"),
    ("keras.layers", "Layer"),
    ("keras.src.layers.core.lambda_layer", "Lambda"),
    ("keras.src.ops.core", "Map"),
    ("keras.src.ops.function", "Function"),
    ("keras.config", "enable_unsafe_deserialization"),
    ("keras_hub.src", "X"),
    (None, "Sequential"),
    ("", ""),
    ([], {}),
]


@pytest.mark.parametrize("place", ["layer", "initializer", "argument"])
@pytest.mark.parametrize(("module", "name"), STRANGE_CLASSES)
def test_strange_classes_are_not_looked_up(tmp_path, untouched, trap, place, module, name):
    config = base()
    victim = config["config"]["layers"][1]
    strange = {"module": module, "class_name": name, "config": {"name": "victim"}}
    if place == "layer":
        victim.update(strange)
    elif place == "initializer":
        victim["config"]["kernel_initializer"] = strange
    else:
        victim["inbound_nodes"][0]["kwargs"]["extra"] = [{"deep": strange}]
    if isinstance(name, dict) and place != "layer":
        with pytest.raises(ModelFileError, match="malformed"):
            load_config(tmp_path, config)
    else:
        assert list(load_config(tmp_path, config).unreadable) == ["victim"]


@pytest.mark.parametrize("place", ["activation", "kernel_initializer", "units", "argument"])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("trapmodule", "X"),
        ("builtins", "strangers>double"),
        ("keras.activations", "get"),
        ("keras.utils", "get_file"),
        ("os", "relu"),
    ],
)
def test_strange_functions_are_not_looked_up(tmp_path, untouched, trap, place, module, name):
    config = base()
    victim = config["config"]["layers"][1]
    function = {"module": module, "class_name": "function", "config": name}
    if place == "argument":
        victim["inbound_nodes"][0]["args"].append(function)
    else:
        victim["config"][place] = function
    assert list(load_config(tmp_path, config).unreadable) == ["victim"]


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_functions_of_keras_activations_are_kept(tmp_path, untouched, name):
    config = base()
    for module in ("builtins", "keras.activations"):
        function = {"module": module, "class_name": "function", "config": name}
        config["config"]["layers"][1]["config"]["activation"] = function
        loaded = load_config(tmp_path, config)
        assert dict(loaded.unreadable) == {}
        assert loaded.model.get_layer("victim").activation is getattr(keras.activations, name)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("activation", "strangers>double"),
        ("activation", "eval"),
        ("kernel_initializer", "strangers>Drawn"),
        ("bias_initializer", "serialize"),
        ("kernel_regularizer", "__builtins__"),
        ("kernel_constraint", "Dense"),
        ("units", "strangers>Twice"),
    ],
)
def test_strange_names_are_not_looked_up(tmp_path, untouched, key, text):
    config = base()
    config["config"]["layers"][1]["config"][key] = text
    assert load_config(tmp_path, config).unreadable["victim"].received == f"{key}={text}"


@pytest.mark.parametrize(
    "value",
    [
        {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None}},
        {"class_name": "__typespec__", "spec_name": "X", "module": "os", "config": []},
        {"class_name": "__bytes__", "config": {"value": "x"}},
        {"class_name": "Zeros", "config": {}},
        {
            "module": "keras.initializers",
            "class_name": "Zeros",
            "registered_name": "strangers>Drawn",
        },
    ],
)
def test_strange_values_are_refused(tmp_path, untouched, value):
    for place in ("kernel_initializer", "units", "dtype"):
        config = base()
        config["config"]["layers"][1]["config"][place] = value
        assert list(load_config(tmp_path, config).unreadable) == ["victim"]


def test_registered_names_do_not_replace_keras_classes(tmp_path, untouched):
    config = base()
    config["config"]["layers"][1]["registered_name"] = "strangers>Twice"
    assert load_config(tmp_path, config).unreadable["victim"].received == "strangers>Twice"
    with keras.saving.custom_object_scope({"Dense": Twice, "relu": double}):
        model = load_config(tmp_path, base()).model
    assert type(model.get_layer("victim")) is layers.Dense


def test_nothing_is_computed_at_once(tmp_path):
    config = base()
    node = config["config"]["layers"][2]["inbound_nodes"][0]
    node["args"] = [{"class_name": "__numpy__", "config": {"value": [1.0], "dtype": "float32"}}, 1]
    with pytest.raises(ModelFileError, match=r"at add.*a call without a tensor"):
        load_config(tmp_path, config)


@pytest.mark.parametrize(
    "array",
    [
        {"value": ["a"], "dtype": "S1000000000"},
        {"value": [1.0], "dtype": "object"},
        {"value": [{"a": 1}], "dtype": "float32"},
        {"value": ["x"], "dtype": "float32"},
        {"value": [1.0], "dtype": ["float32"]},
        None,
    ],
)
def test_strange_arrays_are_refused(tmp_path, array):
    config = base()
    argument = {"class_name": "__numpy__", "config": array}
    config["config"]["layers"][2]["inbound_nodes"][0]["args"][1] = argument
    with pytest.raises(ModelFileError, match="a __numpy__ that Keras does not write"):
        load_config(tmp_path, config)


def test_unsafe_mode_of_the_process_does_not_matter(tmp_path, untouched):
    from keras.src.saving import serialization_lib

    keras.config.enable_unsafe_deserialization()
    try:
        config = base()
        config["config"]["layers"][1] |= {"class_name": "Lambda"}
        assert list(load_config(tmp_path, config).unreadable) == ["victim"]
    finally:
        serialization_lib.global_state.set_global_attribute("safe_mode_saving", None)


def test_names_cannot_write_to_the_terminal(tmp_path):
    config = base()
    config["config"]["layers"][1].update(class_name="\x1b[2J" + "x" * 10_000, module="evil")
    config["config"]["layers"][1]["config"]["name"] = "a\x1b]0;b\x07\n"
    (obstacle,) = load_config(tmp_path, config).unreadable.values()
    assert str(obstacle).isprintable()
    assert len(str(obstacle)) < 1000


def mutate(value, draw):
    """Replace one random place of a JSON value, in place."""
    junk = [None, True, -1, 10**30, 1.5, "x", "victim", [], {}, [[]], {"class_name": []}]
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = draw.choice(keys)
        child = value[key]
        if isinstance(child, dict | list) and child and draw.random() < 0.8:
            value = child
        elif isinstance(value, dict) and draw.random() < 0.2:
            del value[key]
            return
        else:
            value[key] = copy.deepcopy(draw.choice(junk))
            return


def test_any_damage_to_a_configuration_is_one_kind_of_error(tmp_path, untouched):
    draw = random.Random(0)  # noqa: S311
    refused = 0
    for _ in range(300):
        config = base()
        mutate(config, draw)
        with contextlib.suppress(ModelFileError):
            load_config(tmp_path, config)
            continue
        refused += 1
    assert refused > 50


def test_the_allow_lists_name_what_keras_has():
    from keras.src.ops.operation import Operation

    for table in (allowlist.MODELS, allowlist.LAYERS, allowlist.OPS):
        for module, names in table.items():
            for name in names:
                kept = vars(importlib.import_module(module)).get(name)
                assert isinstance(kept, type), (module, name)
                assert issubclass(kept, Operation), (module, name)
    for module, names in allowlist.OBJECTS.items():
        assert all(isinstance(getattr(importlib.import_module(module), n), type) for n in names)
    functions = {n for n, f in vars(keras.activations).items() if callable(f) and n[0] != "_"}
    assert functions - {"get", "serialize", "deserialize"} == allowlist.ACTIVATIONS
    assert not allowlist.FOREIGN_CODE & allowlist.LAYERS["keras.layers"]


def test_pipelines_do_not_run_without_a_part(tmp_path, untouched):
    pipeline = layers.Pipeline([layers.Rescaling(2.0), Twice(name="twice")], name="pipe")
    model = keras.Sequential([keras.Input((3,)), pipeline, layers.Dense(1)])
    loaded = load_model_file(save(model, tmp_path / "m.keras"), weights=False)
    assert list(loaded.unreadable) == ["pipe/twice", "pipe"]
    assert "pipe/twice (strangers>Twice)" in loaded.unreadable["pipe"].why
