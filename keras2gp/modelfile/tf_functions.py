"""Functions of TensorFlow as operations of Keras 3, in files of Keras 2 and in code that is traced.

Keras 2 wrote `a + b` and `tf.nn.relu(x)` as layers of the classes TFOpLambda and SlicingOpLambda,
whose calls hold the function's arguments, and before that as TensorFlowOpLayer, which holds a node
of TensorFlow's graph. Names are looked up in the tables below, as text; nothing is imported or run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras2gp.layer_table import OPERATIONS
from keras2gp.layer_table.entry import Entry
from keras2gp.modelfile.archive import printable
from keras2gp.modelfile.config_values import Config, UnreadableError

__all__ = ["OP_LAYERS", "Counterpart", "counterpart", "graph_operation", "operation", "short_name"]

OP_LAYERS = frozenset({"SlicingOpLambda", "TFOpLambda"})
"""Classes of Keras 2 whose layer is one function of TensorFlow."""

_MODULES = (
    "compat.v1.", "keras.", "activations.", "backend.", "__operators__.", "image.", "linalg.",
    "math.", "nn.",
)  # fmt: skip
_HINT = (
    "Keras's own layers or keras.ops in its place; or load the model where it was made, and hand "
    "over the model itself."
)


@dataclass(frozen=True)
class _Function:
    """A function of TensorFlow and the operation of Keras 3 that computes the same.

    name:     the operation's name in the table of operations
    others:   arguments after the first that stay arguments of the call
    settings: arguments that become settings: the setting's name, and the value if it is missing
    fixed:    arguments that change nothing at this value, and are refused at any other
    """

    name: str
    others: tuple[str, ...] = ()
    settings: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)


def _plain(names: str, **more: Any) -> dict[str, _Function]:
    """Functions of one tensor; `old:New` where the operation's name is not the capitalised one."""
    pairs = (entry.partition(":") for entry in names.split())
    return {old: _Function(new or old.capitalize(), **more) for old, _, new in pairs}


_AXIS = {"axis": ("axis", -1)}
_OVER = {"axis": ("axis", None), "keepdims": ("keepdims", False)}
_NO_OLD_NAMES = {"keep_dims": None, "reduction_indices": None}
_MATMUL = {f"{kind}_{side}": False for kind in ("transpose", "adjoint", "grad") for side in "ab"}
_MATMUL |= {"a_is_sparse": False, "b_is_sparse": False}

_FUNCTIONS: dict[str, _Function] = {
    **_plain(
        "abs:Absolute atan:Arctan ceil cos cosh erf exp exponential:Exp expm1 floor log log1p "
        "log_sigmoid:LogSigmoid mish negative reciprocal relu6 round rsqrt selu sigmoid sign sin "
        "sinh softplus softsign sqrt square stop_gradient:StopGradient tanh"
    ),
    **_plain("silu swish:Silu", fixed={"beta": 1.0}),
    **_plain("softmax log_softmax:LogSoftmax", settings=_AXIS),
    **_plain("add subtract multiply divide truediv:TrueDivide maximum minimum", others=("y",)),
    **_plain("pow:Power", others=("y",)),
    **_plain(
        "floordiv:FloorDivide floormod:Mod mod:Mod equal not_equal:NotEqual greater "
        "greater_equal:GreaterEqual less less_equal:LessEqual logical_and:LogicalAnd "
        "logical_or:LogicalOr",
        others=("y",),
    ),
    **_plain("logical_not:LogicalNot"),
    **_plain("matmul", others=("b",), fixed={**_MATMUL, "output_type": None}),
    **_plain("reduce_mean:Mean mean reduce_sum:Sum sum", settings=_OVER, fixed=_NO_OLD_NAMES),
    **_plain("reduce_max:Max max reduce_min:Min min", settings=_OVER, fixed=_NO_OLD_NAMES),
    **_plain("reduce_variance:Var reduce_std:Std", settings=_OVER),
    **_plain("concat:Concatenate", settings={"axis": ("axis", 0)}),
    **_plain("concatenate", settings=_AXIS),
    **_plain("stack", settings={"axis": ("axis", 0)}),
    **_plain("squeeze", settings={"axis": ("axis", None)}, fixed={"squeeze_dims": None}),
    **_plain("expand_dims:ExpandDims", settings=_AXIS, fixed={"dim": None}),
    "relu": _Function("ReLU", settings={
        "alpha": ("negative_slope", 0.0),
        "max_value": ("max_value", None),
        "threshold": ("threshold", 0.0),
    }),
    "elu": _Function("Elu", settings={"alpha": ("alpha", 1.0)}),
    "leaky_relu": _Function("LeakyRelu", settings={"alpha": ("negative_slope", 0.2)}),
    "gelu": _Function("Gelu", settings={"approximate": ("approximate", False)}),
    "reshape": _Function("Reshape", settings={"shape": ("newshape", None)}),
    "transpose": _Function(
        "Transpose", settings={"perm": ("axes", None)}, fixed={"conjugate": False}
    ),
    "tile": _Function("Tile", settings={"multiples": ("repeats", None)}),
    "repeat": _Function(
        "Repeat", settings={"repeats": ("repeats", None), "axis": ("axis", None)}
    ),
    "cast": _Function("Cast", settings={"dtype": ("dtype", "float32")}),
    "clip_by_value": _Function("Clip", settings={
        "clip_value_min": ("x_min", None), "clip_value_max": ("x_max", None),
    }),
    "clip": _Function("Clip", settings={
        "min_value": ("x_min", None), "max_value": ("x_max", None),
    }),
    "pad": _Function(
        "Pad",
        ("constant_values",),
        {"paddings": ("pad_width", None), "mode": ("mode", "constant")},
    ),
    "resize": _Function(
        "Resize",
        settings={
            "size": ("size", None),
            "method": ("interpolation", "bilinear"),
            "antialias": ("antialias", False),
        },
        fixed={"preserve_aspect_ratio": False},
    ),
    "getitem": _Function("GetItem", ("slice_spec",)),
}  # fmt: skip

_GRAPH_OPERATIONS = {
    "AddV2": "add", "Add": "add", "Sub": "subtract", "Mul": "multiply", "RealDiv": "truediv",
    "Maximum": "maximum", "Minimum": "minimum", "Pow": "pow", "Neg": "negative", "Relu": "relu",
    "Relu6": "relu6", "Elu": "elu", "Selu": "selu", "Sigmoid": "sigmoid", "Tanh": "tanh",
    "Softplus": "softplus", "Softsign": "softsign", "Exp": "exp", "Square": "square",
    "Sqrt": "sqrt", "Abs": "abs", "Erf": "erf", "Log": "log", "Softmax": "softmax",
}  # fmt: skip
"""Operations of TensorFlow's graph, of one or two tensors, and the functions that make them."""


@dataclass(frozen=True)
class Counterpart:
    """The operation of Keras 3 that computes what a call of a function of TensorFlow does.

    entry:    its row in the table of operations
    others:   its arguments after the first, by the names of TensorFlow
    settings: its settings, by the names of Keras
    """

    entry: Entry
    others: Mapping[str, Any]
    settings: Mapping[str, Any]


def short_name(symbol: object) -> str:
    """The name of a function of TensorFlow without the modules that it is in."""
    name = str(symbol)
    for module in _MODULES:
        name = name.removeprefix(module)
    return name


def counterpart(symbol: object, arguments: Mapping[str, Any]) -> Counterpart:
    """The operation that a function of TensorFlow becomes.

    Args:
        symbol: the function's name, "math.multiply" or "__operators__.getitem".
        arguments: its arguments after the first, by name.

    Raises:
        UnreadableError: there is no operation that computes the same.
    """
    function = _FUNCTIONS.get(short_name(symbol))
    given = {key: value for key, value in arguments.items() if key != "name"}
    if function is None:
        raise _refused(symbol, "it has no counterpart among the operations that are read.")
    for key, value in function.fixed.items():
        if given.pop(key, value) not in (value, None):
            raise _refused(f"{symbol}, {key}", "Keras 3 has no such setting.")
    settings = {new: given.pop(old, start) for old, (new, start) in function.settings.items()}
    others = {key: given.pop(key) for key in function.others if key in given}
    if given:
        listed = ", ".join(map(printable, sorted(given)[:5]))
        raise _refused(f"{symbol}, {listed}", "its arguments are not known here.")
    if isinstance(settings.get("mode"), str):
        settings["mode"] = settings["mode"].lower()
    return Counterpart(OPERATIONS[function.name], others, settings)


def operation(symbol: object, first: Any, arguments: Mapping[str, Any]) -> tuple[Config, Config]:
    """The operation and the call that a function of TensorFlow in a file becomes.

    Args:
        symbol: the function's name, "math.multiply" or "__operators__.getitem".
        first: its first argument: a tensor, a number, or a list of them, in the form of Keras 3.
        arguments: its other arguments by name, in the form of Keras 3.

    Raises:
        UnreadableError: there is no operation that computes the same.
    """
    found = counterpart(symbol, arguments)
    others = {key: _constant(key, value) for key, value in found.others.items()}
    if any(map(_holds_tensor, found.settings.values())):
        raise _refused(symbol, "a shape, axis or bound of it is another tensor.")
    call: Config = {"args": [first, *others.values()], "kwargs": {}}
    if short_name(symbol) == "pad":
        call = {"args": [first], "kwargs": others}
        if others.get("constant_values") == 0:
            call["kwargs"] = {}
    entry = found.entry
    head = {"module": entry.module, "class_name": entry.name, "registered_name": None}
    return {**head, "config": dict(found.settings)}, call


def graph_operation(config: Config, tensors: list[Any]) -> tuple[Config, Config]:
    """The operation and the call that a node of TensorFlow's graph becomes.

    Args:
        config: the settings of a TensorFlowOpLayer.
        tensors: what it is called on, in the form of Keras 3.

    Raises:
        UnreadableError: there is no operation that computes the same.
    """
    node, constants = config.get("node_def"), config.get("constants")
    kind = node.get("op") if isinstance(node, dict) else None
    function = _GRAPH_OPERATIONS.get(str(kind))
    if function is None or not isinstance(constants, dict | None):
        raise _refused(f"raw_ops.{kind}", "it has no counterpart that is read from a file.")
    arguments = list(tensors)
    for place, value in sorted((constants or {}).items(), key=lambda item: str(item[0])):
        if not str(place).isdigit() or int(place) > len(arguments):
            raise _refused(f"raw_ops.{kind}", "its constants are not in the form of Keras 2.")
        arguments.insert(int(place), value)
    binary = bool(_FUNCTIONS[function].others)
    if len(arguments) != 1 + binary:
        raise _refused(f"raw_ops.{kind}", f"it has {len(arguments)} arguments.")
    return operation(function, arguments[0], {"y": arguments[1]} if binary else {})


def _constant(key: str, value: Any) -> Any:
    """An argument of a call; nested lists of numbers as the array that they are."""
    if key == "slice_spec" or not isinstance(value, list) or _holds_tensor(value):
        return value
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": "float32"}}


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_holds_tensor, value))
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"


def _refused(symbol: object, why: str) -> UnreadableError:
    return UnreadableError(f"tf.{printable(symbol)}", f"a function of TensorFlow: {why}", _HINT)
