"""Models of Keras 3 as the files that Keras 2 would have written of them, for the tests of loading.

The forms are those of Keras 2.2 to 2.15: configurations without modules, or with those of Keras 2;
calls as [[["before", 0, 0, {}]]]; HDF5 files with model_config and model_weights; archives whose
weights go by class and number. Nothing of the package is used.
"""

import json
import re
import zipfile

import h5py
import keras
import numpy as np

FUNCTIONS = {
    "Add": ("__operators__.add", ["x", "y"]),
    "Subtract": ("math.subtract", ["x", "y"]),
    "Multiply": ("math.multiply", ["x", "y"]),
    "TrueDivide": ("math.truediv", ["x", "y"]),
    "Relu": ("nn.relu", ["features"]),
    "LeakyRelu": ("nn.leaky_relu", ["features"]),
    "Sigmoid": ("math.sigmoid", ["x"]),
    "Mean": ("math.reduce_mean", ["input_tensor"]),
    "Concatenate": ("concat", ["values"]),
    "Reshape": ("reshape", ["tensor"]),
    "Squeeze": ("compat.v1.squeeze", ["input"]),
    "GetItem": ("__operators__.getitem", ["tensor", "slice_spec"]),
    "Pad": ("compat.v1.pad", ["tensor"]),
    "Erf": ("math.erf", ["x"]),
}
ARGUMENTS = {"newshape": "shape", "negative_slope": "alpha", "pad_width": "paddings"}


def keras_2_config(model, modules=False):
    """The configuration that Keras 2 writes. modules: as in archives of Keras 2.13 to 2.15."""
    kind = type(model).__name__
    old = json.loads(model.to_json())["config"]
    functional = {v["config"]["name"]: v["class_name"] for v in old["layers"]}
    config = {
        "name": old["name"],
        "layers": [_layer(v, functional, modules) for v in old["layers"]],
    }
    if kind == "Functional":
        ends = {
            key: _ends(old[key], functional if key == "output_layers" else {})
            for key in ("input_layers", "output_layers")
        }
        config |= {"trainable": True, **ends}
    head = {"class_name": kind, "config": config}
    if not modules:
        return head
    module = "keras" if kind == "Sequential" else "keras.src.engine.functional"
    return {"module": module, **head, "registered_name": kind}


def _ends(value, functional):
    """References to inputs and outputs: Keras 2 counts the calls of nested models from 1."""
    if isinstance(value, dict):
        return {key: _ends(item, functional) for key, item in value.items()}
    if isinstance(value[0], str):
        # Keras 3 counts Functional models from 1 here already, and Sequential ones from 0.
        return [value[0], value[1] + (functional.get(value[0]) == "Sequential"), value[2]]
    return [_ends(item, functional) for item in value]


def _layer(layer, functional, modules):
    name, config = layer["class_name"], dict(layer["config"])
    own_name = config["name"]
    if name in ("Functional", "Sequential"):
        sub = {v["config"]["name"]: v["class_name"] for v in config["layers"]}
        new = {"name": own_name, "layers": [_layer(v, sub, modules) for v in config["layers"]]}
        if name == "Functional":
            new |= {"input_layers": _ends(config["input_layers"], {})}
            new |= {"output_layers": _ends(config["output_layers"], sub)}
    elif layer["module"].startswith("keras.src.ops"):
        function, _ = FUNCTIONS[name]
        name = "SlicingOpLambda" if name == "GetItem" else "TFOpLambda"
        new = {"name": own_name, "trainable": True, "dtype": "float32", "function": function}
    else:
        new = _settings(name, config)
    result = {"class_name": name, "config": new}
    if modules:
        of_model = name in ("Functional", "Sequential")
        module = "keras.src.engine.functional" if of_model else "keras.layers"
        result |= {"module": module, "registered_name": None}
    if "inbound_nodes" in layer:
        result |= {"name": own_name}
        result |= {
            "inbound_nodes": [_node(layer, node, functional) for node in layer["inbound_nodes"]]
        }
    return result


GONE = {"optional", "quantization_config", "lora_rank", "lora_alpha", "synchronized", "use_cudnn"}
GONE |= {"rms_scaling", "renorm", "renorm_clipping", "renorm_momentum"}
MORE = {
    "BatchNormalization": {"fused": True, "virtual_batch_size": None},
    "Conv2DTranspose": {"groups": 1},
    "DepthwiseConv2D": {"groups": 1},
    "Embedding": {"input_length": None},
    "LSTM": {"implementation": 2, "time_major": False},
    "SeparableConv2D": {"groups": 1, "kernel_initializer": {"class_name": "Zeros", "config": {}}},
    "SimpleRNN": {"implementation": 2},
    "SpatialDropout2D": {"noise_shape": None, "trainable": True},
}


def _settings(name, config):
    new = {key: _value(value) for key, value in config.items() if key not in GONE}
    new["dtype"] = "float32"
    if name == "InputLayer":
        new["batch_input_shape"] = new.pop("batch_shape")
        return new | {"sparse": False, "ragged": False}
    if name == "LeakyReLU":
        new["alpha"] = {"type": "ndarray", "value": new.pop("negative_slope")}
    if name in ("BatchNormalization", "LayerNormalization") and isinstance(new["axis"], int):
        new["axis"] = [new["axis"]]
    return new | MORE.get(name, {})


def _value(value):
    """Objects without modules; their settings as Keras 2 has them."""
    if isinstance(value, list):
        return [_value(item) for item in value]
    if not isinstance(value, dict) or "class_name" not in value:
        return value
    kind, config = value["class_name"], value["config"]
    if "inbound_nodes" in value or value.get("module") == "keras.layers":
        return {"class_name": kind, "config": _settings(kind, config)}
    if kind == "DTypePolicy":
        return "float32"
    if isinstance(config, dict):
        config = {k: v for k, v in config.items() if k not in ("input_axes", "output_axes")}
        return {
            "class_name": kind,
            "config": config | {"dtype": "float32"} if "seed" in config else config,
        }
    return config if kind == "function" else value


def _node(layer, node, functional):
    """A call in old form: the first argument's tensors carry all other arguments."""
    args, kwargs = node["args"], dict(node["kwargs"])
    named = {}
    if layer["module"].startswith("keras.src.ops"):
        _, names = FUNCTIONS[layer["class_name"]]
        named = dict(zip(names[1:], args[1:], strict=False))
        settings = {k: v for k, v in layer["config"].items() if k != "name"}
        named |= {ARGUMENTS.get(key, key): value for key, value in settings.items()}
        if layer["class_name"] == "Pad":
            named |= {"mode": "CONSTANT", "constant_values": 0}
            kwargs.pop("constant_values")
    named = {key: _argument(value, functional, None) for key, value in (named | kwargs).items()}
    first = _argument(args[0], functional, named)
    is_operation = layer["module"].startswith("keras.src.ops")
    alone = isinstance(first, list) and isinstance(first[0], str)
    return [first] if alone and not is_operation else first


def _argument(value, functional, named):
    """An argument; a reference if it is a tensor. named: the other arguments, for the first one."""
    if isinstance(value, list):
        return [_argument(item, functional, named) for item in value]
    kind = value.get("class_name") if isinstance(value, dict) else None
    if kind == "__keras_tensor__":
        name, node, tensor = value["config"]["keras_history"]
        node += functional.get(name) in ("Functional", "Sequential")
        return [name, node, tensor, *([] if named is None else [named])]
    if kind == "__slice__":
        return value["config"]
    if kind == "__ellipsis__":
        return {"class_name": "__ellipsis__"}
    if kind == "__numpy__":
        return value["config"]["value"]
    return value if named is None else ["_CONSTANT_VALUE", -1, value, named]


def write_h5(path, model, config=None, version="2.15.0", prefix=""):
    """model.save("m.h5") of Keras 2."""
    config = keras_2_config(model) if config is None else config
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        file.attrs["keras_version"] = version.encode()
        file.attrs["backend"] = b"tensorflow"
        file.attrs["training_config"] = json.dumps({"loss": "mse"}).encode()
        top = file.create_group("model_weights")
        top.attrs["layer_names"] = np.array([layer.name.encode() for layer in model.layers])
        for layer in model.layers:
            group = top.create_group(layer.name)
            variables = layer.trainable_weights + layer.non_trainable_weights
            names = [f"{prefix}{_weight_name(layer, v)}:0" for v in variables]
            group.attrs["weight_names"] = np.array([name.encode() for name in names])
            for name, variable in zip(names, variables, strict=True):
                group[name] = np.asarray(variable)
        file.create_group("optimizer_weights")["iteration"] = 3
    return path


def _weight_name(layer, variable):
    parts = variable.path.split("/")
    start = parts.index(layer.name) if layer.name in parts else 0
    nested = isinstance(layer, keras.Model)
    return "/".join(parts[start + nested :])


def write_keras(path, model, container="layers", config=None, version="2.15.0"):
    """model.save("m.keras") of Keras 2.12 ("_layer_checkpoint_dependencies") to 2.15."""
    weights = path.with_suffix(".weights.h5")
    with h5py.File(weights, "w") as file:
        _store(file, model, container)
    members = {
        "metadata.json": json.dumps(
            {"keras_version": version, "date_saved": "2024-01-01@00:00:00"}
        ),
        "config.json": json.dumps(
            keras_2_config(model, modules=True) if config is None else config
        ),
    }
    with zipfile.ZipFile(path, "w") as target:
        for name, text in members.items():
            target.writestr(name, text)
        target.write(weights, "model.weights.h5")
    return path


def _store(group, layer, container):
    stored = group.create_group("vars")
    if isinstance(layer, keras.Model):
        inside, used = group.create_group(container), {}
        for part in layer._layers if isinstance(layer, keras.Sequential) else layer.layers:
            # Keras 2.12 meets layers with weights twice, and counts both times.
            twice = container != "layers" and bool(part.weights)
            stem = _snake(type(part).__name__)
            number = used.get(stem, 0)
            used[stem] = number + 1 + twice
            if not isinstance(part, keras.layers.InputLayer):
                _store(inside.create_group(f"{stem}_{number}" if number else stem), part, container)
        return
    own = layer._trainable_variables + layer._non_trainable_variables
    for number, variable in enumerate(own):
        stored[str(number)] = np.asarray(variable)
    for name in ("cell", "forward_layer", "backward_layer", "layer"):
        part = vars(layer).get(name)
        if isinstance(part, keras.Layer) and part.weights:
            _store(group.create_group(name), part, container)


def _snake(name):
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
