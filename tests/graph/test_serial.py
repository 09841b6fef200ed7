"""Graphs as JSON: every op and back, and nothing that is not one."""

import json
from dataclasses import replace

import pytest

from keras2gp.errors import GraphError, ModelFileError
from keras2gp.graph import GraphBuilder
from keras2gp.graph import ops as op
from keras2gp.graph.ops import AveragePool, Combination, Depthwise, Normalize, Upsample
from keras2gp.graph.serial import graph_from_dict, graph_to_dict

POOL = AveragePool((2, 3), (1, 1), ((0, 1), (1, 1)))


def network():
    b = GraphBuilder()

    def add(spec, *inputs):
        return b.add(spec, inputs, type(spec).__name__)

    x = add(op.Input(0, (4, 5), 3))
    h = add(op.Affine("a"), add(op.Patches((3, 3), (1, 1), (1, 1), ((1, 1), (1, 1))), x))
    inner = Combination((1.0, -1.0), ((), (op.Scale(0.5),)))
    h = add(Combination((1.0, 2.5), ((), (POOL, inner))), h)
    h = add(op.Activation("leaky_relu", (("negative_slope", 0.1),)), h)
    d = add(Depthwise("d", 2), h)
    n = add(Normalize(1, (0.25, 0.75), (False, True), False, False, 1e-3), h, d)
    n = add(op.NormalizeAdded(0, (1.0,), (False, True), True, True, 0.1, 1.0, -0.5), n)
    phi = op.Activation("gelu")
    n = add(
        op.Sum((1.0, 1.0)),
        add(op.Multiple((0.5,), (phi,)), n, n, n),
        add(op.Rest.beside_slope(phi), n),
    )
    n = add(op.Calls(((1.0, 0.0, 0.5, -1.0), (0.0, 0.0, 0.0, 1.0))), n)
    first, second = (add(op.Calls(((a, 1.0),)), n) for a in (0.0, 1.0))
    n = add(op.Stack(), first, second)
    n = add(op.Calls(((0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0))), n)
    u = add(Upsample((2, 1)), add(POOL, n))
    v = add(op.Dilate((2, 1)), add(op.Crop(((0, 0), (1, 0))), add(op.Pad(((0, 0), (1, 0))), d)))
    v = add(op.Pad(((0, 1), (0, 0))), v)
    s = add(op.Sum((1.0, -1.0)), u, v)
    t = add(op.Affine("t"), add(op.Tokens(1, (6,), 1, 9)))
    t = add(op.Recurrent("r", 1, phi=op.Activation("leaky_relu", (("negative_slope", 0.1),))), t)
    t = add(op.Positions(1), add(op.Weigh(), t, add(op.Input(2, (6,), 1))))
    flat = add(op.Mixture((0.5, 0.5)), add(op.Positions(2), s), add(op.Positions(2), u))
    flat = add(op.Mixture((0.5, 0.5)), flat, t)
    single = add(op.Axes((3, 4), 0), flat)
    flat = add(op.Axes((), 2), single)
    h = add(op.Spread((2, 3)), add(op.Affine("b", 1), flat))
    h = add(op.Interpolate((2, 3), True), add(op.Permute((1, 0)), add(op.Flip((True, False)), h)))
    steps = ((op.Activation("sigmoid"), (0,)), (op.Shift(1.0), (1,)), (op.Product(), (0, 2)))
    h = add(op.Shift(-0.5), add(op.Composed.of(steps), h))
    h = add(op.Polynomial(((1.0, (0,)), (-0.5, (0, 1)))), h, add(op.Spread((2, 3)), flat))
    h = add(op.Crop(((0, 2), (0, 3))), add(op.Shuffle((2, 2)), h))
    h = add(op.Sum((1.0, 0.5)), h, add(op.Total(4.0), h))
    h = add(op.Gain("g", 1.25, 1.0, 1.0, 0.25), h)
    h = add(op.Product(), h, add(op.Repeat((2, 3)), add(op.Reshape((1, 1), 0), flat)))
    h = add(
        op.Scale(0.5),
        add(
            op.Reshape((6,), 2),
            add(op.Matrix(0, ((0.5, -1.0), (0.0, 1.0))), add(op.Select(((1, 0), ())), h)),
        ),
    )
    h = add(op.Reshape((2, 3), 1), h)
    h = add(op.Reshape((6,), 3), add(op.ReshapeEach((3, 1), 2, 1), h))
    return b.graph(add(op.Affine("c"), add(op.Positions(1), h)))


def text():
    return json.loads(json.dumps(graph_to_dict(network())))


ABSTRACT = {"Op", "Weighted", "Mixing"}
UNSAVED = {"Opaque"}
"""What a conversion refuses, so that no kernel has it."""


def test_every_op_comes_back():
    graph = network()
    assert graph_from_dict(text()) == graph
    found = {type(node.op).__name__ for node in graph.nodes}
    named = {name: getattr(op, name) for name in op.__all__}
    ops = {
        name for name, kind in named.items() if isinstance(kind, type) and issubclass(kind, op.Op)
    }
    assert found == ops - ABSTRACT - UNSAVED


def test_what_is_asked_of_the_output_comes_back():
    graph = replace(network(), between=True)
    data = json.loads(json.dumps(graph_to_dict(graph)))
    assert graph_from_dict(data) == graph
    assert "between" not in text()
    with pytest.raises(ModelFileError, match="between"):
        graph_from_dict({**data, "between": "yes"})


def node(data, name):
    return next(n for n in data["nodes"] if n["op"] == name)


def change(name, **fields):
    def damage(data):
        node(data, name).update(fields)

    return damage


def nested(levels):
    op_data = {"op": "Scale", "factor": 1.0}
    for _ in range(levels):
        op_data = {"op": "Combination", "coefficients": [1.0], "chains": [[op_data]]}
    return op_data


DAMAGE = {
    "a recurrence whose activation is another op": change(
        "Recurrent", phi={"op": "Scale", "factor": 1.0}
    ),
    "a recurrence over a map": change("Recurrent", inputs=[0]),
    "words of which there are none": change("Tokens", vocabulary=0),
    "an op within that is none": change("Combination", chains=[[{"op": "Exec"}], []]),
    "an abstract op within": change("Combination", chains=[[{"op": "Mixing"}], []]),
    "an op within that lacks a field": change("Combination", chains=[[{"op": "Scale"}], []]),
    "an op within that is text": change("Combination", chains=[["Scale"], []]),
    "a step that reads later ones": change(
        "Composed", steps=[[{"op": "Scale", "factor": 1.0}, [1]]]
    ),
    "a step that is no function": change("Composed", steps=[[{"op": "Affine", "layer": "a"}, [0]]]),
    "steps within steps": change(
        "Composed",
        steps=[
            [
                {
                    "op": "Composed",
                    "name": "",
                    "params": [],
                    "steps": [[{"op": "Scale", "factor": 1.0}, [0]]],
                },
                [0],
            ]
        ],
    ),
    "no steps": change("Composed", steps=[]),
    "chains of different shapes": change(
        "Combination", chains=[[], [{"op": "Upsample", "factors": [2, 2]}]]
    ),
    "a chain that is no list": change("Combination", chains=[{}, []]),
    "coefficients that are no list": change("Combination", coefficients=2.0),
    "ops nested too deep": change("Combination", **nested(9)),
    "ops nested far too deep": change("Combination", **nested(300)),
    "a stride of 0": change("AveragePool", strides=[0, 1]),
    "a window of 0": change("Patches", window=[0, 3]),
    "a negative pad": change("Pad", pads=[[-1, 1], [0, 0]]),
    "three pads for an axis": change("Pad", pads=[[0, 0, 0], [1, 0]]),
    "a stride that is no number": change("Dilate", strides=["2", 1]),
    "a stride that is true": change("Dilate", strides=[True, 1]),
    "a stride of 0 between positions": change("Dilate", strides=[0, 1]),
    "a stride of a half": change("Dilate", strides=[0.5, 1]),
    "a factor that is no number": change("Scale", factor="1"),
    "a factor that is not finite": change("Scale", factor=float("nan")),
    "a factor beyond all numbers": change("Scale", factor=float("inf")),
    "an axis that is a number": change("Normalize", axes=[0, 1]),
    "a group that is not there": change("Normalize", group=2),
    "a name that is a list": change("Affine", layer=["a"]),
    "a name without end": change("Affine", layer="a" * (2**20 + 1)),
    "a path that is a number": change("Affine", path=3),
    "inputs that are text": change("Affine", inputs="0"),
    "an input of a half": change("Affine", inputs=[0.5]),
    "a spatial size below 1": change("Input", size=[0, 5], spatial=[0, 5]),
    "a spatial size beyond reason": change("Input", size=[2**20, 2**20], spatial=[2**20, 2**20]),
    "a number beyond reason": change("Input", size=[2**31], spatial=[2**31]),
    "parameters that are no pairs": change("Activation", params=[["negative_slope"]]),
    "an output that is text": lambda data: data.update(output="3"),
    "an output that is true": lambda data: data.update(output=True),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_graphs_are_refused(name):
    data = text()
    before = json.dumps(data)
    DAMAGE[name](data)
    assert json.dumps(data) != before
    with pytest.raises(ModelFileError):
        graph_from_dict(data)


def test_a_refused_layer_is_not_written():
    b = GraphBuilder()
    with pytest.raises(GraphError):
        graph_to_dict(b.graph(b.add(op.Opaque("o", ()), (), "o")))


@pytest.mark.parametrize("name", sorted(ABSTRACT | UNSAVED | {"SharedWeights", "Graph"}))
def test_ops_that_no_kernel_holds_are_not_read(name, monkeypatch):
    """A class of that name in the package of ops is not enough: the list names each op."""
    added = type("SharedWeights", (op.Scale,), {})
    monkeypatch.setattr(op, "SharedWeights", added, raising=False)
    data = text()
    node(data, "Scale")["op"] = name
    with pytest.raises(ModelFileError, match=name):
        graph_from_dict(data)
