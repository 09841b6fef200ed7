"""Graphs alone: structure, analyses and their JSON, without Keras and TensorFlow."""

import json

import pytest

from keras2gp.errors import GraphError, ModelFileError, PriorError
from keras2gp.graph import Graph, GraphBuilder, LayerVariances, Node
from keras2gp.graph import ops as op
from keras2gp.graph.calls import join_calls
from keras2gp.graph.distributions import Kind, check_gaussianity, kinds
from keras2gp.graph.offsets import demand, loops
from keras2gp.graph.serial import graph_from_dict, graph_to_dict
from keras2gp.graph.sums import resolve_sums

PATCHES = op.Patches((3, 3), (2, 1), (1, 1), ((1, 1), (0, 0)))


def network():
    b = GraphBuilder()
    x = b.add(op.Input(0, (8, 7), 3), (), "x")
    h = b.add(op.Affine("a"), (b.add(PATCHES, (x,), "a"),), "a")
    h = b.add(op.Activation("leaky_relu", (("negative_slope", 0.1),)), (h,), "relu")
    g = b.add(op.Affine("b"), (h,), "b")
    s = b.add(op.Sum((1.0, -1.0)), (g, h), "sum")
    s = b.add(op.Crop(((1, 0), (0, 1))), (b.add(op.Pad(((1, 0), (0, 1))), (s,), "p"),), "c")
    s = b.add(op.Scale(0.5), (b.add(op.Reshape((20,), 2), (s,), "r"),), "s")
    s = b.add(op.Positions(1), (s,), "flat")
    m = b.add(op.Mixture((0.25, 0.75)), (s, s), "cat")
    return b.graph(b.add(op.Affine("out"), (m,), "out"))


def test_json_and_back():
    graph = network()
    assert graph_from_dict(json.loads(json.dumps(graph_to_dict(graph)))) == graph


def test_equal_ops_on_equal_inputs_are_one_node():
    b = GraphBuilder()
    x = b.add(op.Input(0, (), 3), (), "x")
    a = b.add(op.Affine("a"), (x,), "a")
    assert b.add(op.Activation("relu"), (a,), "one") == b.add(op.Activation("relu"), (a,), "two")
    assert b.add(op.Affine("a", 1), (x,), "a#2") != a


def test_pruning_keeps_what_the_output_depends_on():
    graph = network()
    assert {node.path for node in graph.pruned(2).nodes} == {"x", "a"}
    with pytest.raises(GraphError):
        Graph(graph.nodes, len(graph.nodes))
    with pytest.raises(GraphError):
        Graph((Node(op.Scale(2.0), (0,), (), "self"),), 0)
    with pytest.raises(GraphError, match="wrong shape"):
        Graph((Node(op.Input(0, (3,), 1), (), (4,), "x"),), 0)


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (op.Patches((9, 1), (1, 1), (1, 1), ((0, 0), (0, 0))), (8, 7)),
        (op.Crop(((4, 4), (0, 0))), (8, 7)),
        (op.Reshape((5,), 2), (8, 7)),
    ],
)
def test_what_does_not_fit(spec, size):
    with pytest.raises(GraphError):
        spec.spatial((size,))


def test_only_offset_zero_is_demanded():
    graph = network()
    assert all(set(offsets) <= {(0,) * len(node.spatial)}
               for offsets, node in zip(demand(graph), graph.nodes, strict=True))  # fmt: skip
    (loop,) = loops(graph)
    assert loop.nodes == tuple(range(len(graph.nodes)))
    assert PATCHES.input_offset((1, -2)) == (2, -2)


def tensors(*layers):
    b = GraphBuilder()
    x = b.add(op.Input(0, (), 3), (), "x")
    return b, x, [b.add(op.Affine(name), (x,), name) for name in layers]


def test_kinds():
    b, x, (a, c) = tensors("a", "c")
    f = b.add(op.Activation("relu"), (a,), "f")
    s = b.add(op.Sum((1.0, 1.0)), (f, c), "s")
    g = b.add(op.Sum((1.0, 1.0)), (a, c), "g")
    o = b.add(op.Opaque("o", ()), (g,), "o")
    p = b.add(op.Scale(2.0), (o,), "p")
    nodes = [x, a, f, s, g, p]
    found = kinds(Graph(tuple(b.nodes), p))
    assert [found[n] for n in nodes] == [
        Kind.DATA, Kind.GAUSSIAN, Kind.FEATURES, Kind.FEATURES, Kind.GAUSSIAN, Kind.UNKNOWN,
    ]  # fmt: skip
    assert check_gaussianity(b.graph(p)) == []
    assert check_gaussianity(b.graph(g)) == []
    assert len(check_gaussianity(b.graph(b.add(op.Activation("relu"), (s,), "late")))) == 2


SUMS = {
    "2 x": ((1.0, 1.0), (0, 0), {0: 2.0}),
    "x - x": ((1.0, -1.0), (0, 0), {}),
    "x + y": ((1.0, 1.0), (0, 1), {0: 1.0, 1: 1.0}),
    "x + 2 y - x": ((1.0, 2.0, -1.0), (0, 1, 0), {1: 2.0}),
}


@pytest.mark.parametrize("name", SUMS)
def test_equal_terms_add_their_coefficients(name):
    coefficients, which, expected = SUMS[name]
    b, _, made = tensors("a", "c")
    graph = b.graph(b.add(op.Sum(coefficients), tuple(made[i] for i in which), "sum"))
    graph, obstacles = resolve_sums(graph)
    assert obstacles == []
    assert terms(graph) == {"ac"[i]: c for i, c in expected.items()}


def terms(graph):
    """Coefficients of the output's terms by the path of each."""
    node = graph.nodes[graph.output]
    coefficients = getattr(node.op, "coefficients", (getattr(node.op, "factor", 1.0),))
    if isinstance(node.op, op.Affine):
        return {node.path: 1.0}
    named = zip(node.inputs, coefficients, strict=True)
    return {graph.nodes[i].path: c for i, c in named if c != 0.0}


def test_linear_maps_of_sums_are_written_out():
    b = GraphBuilder()
    x = b.add(op.Input(0, (4,), 3), (), "x")
    a, c = (b.add(op.Affine(name), (x,), name) for name in "ac")
    pad = op.Pad(((1, 1),))
    padded = b.add(pad, (b.add(op.Sum((1.0, 1.0)), (a, c), "sum"),), "pad")
    total = b.add(op.Sum((1.0, 1.0)), (padded, b.add(pad, (a,), "pad a")), "total")
    graph, obstacles = resolve_sums(b.graph(total))
    assert obstacles == []
    assert sorted(graph.nodes[graph.output].op.coefficients) == [1.0, 2.0]


def test_functions_of_one_gaussian_tensor_are_one_activation():
    b = GraphBuilder()
    x = b.add(op.Input(0, (4,), 3), (), "x")
    a = b.add(op.Affine("a"), (x,), "a")
    relu = b.add(op.Activation("relu"), (a,), "relu")
    graph, obstacles = resolve_sums(b.graph(b.add(op.Sum((1.0, 1.0)), (a, relu), "sum")))
    assert obstacles == []
    steps = ((op.Activation("relu"), (0,)), (op.Sum((1.0, 1.0)), (0, 1)))
    assert graph.nodes[graph.output].op == op.Composed.of(steps)


def test_shared_layers():
    b, _, (a,) = tensors("a")
    again = b.add(op.Affine("a", 1), (b.add(op.Activation("relu"), (a,), "f"),), "a#2")
    assert [o.where for o in join_calls(b.graph(again), 1).obstacles] == ["a"]
    assert join_calls(b.graph(a), 1).graph == b.graph(a)


@pytest.mark.parametrize("values", [(-1.0, 0.0), (1.0, float("nan")), (float("inf"), 0.0)])
def test_variances_are_finite_and_not_negative(values):
    with pytest.raises(PriorError):
        LayerVariances(*values)


DAMAGE = {
    "no nodes": {"output": 0},
    "nodes that are no list": {"nodes": 7, "output": 0},
    "no output": {"nodes": []},
    "output beyond": {"nodes": [], "output": 0},
    "unknown op": {"nodes": [{"op": "Exec", "inputs": [], "spatial": [], "path": ""}], "output": 0},
    "abstract op": {"nodes": [{"op": "Op", "inputs": [], "spatial": [], "path": ""}], "output": 0},
    "opaque": {
        "nodes": [{"op": "Opaque", "path": "p", "size": [], "inputs": [], "spatial": []}],
        "output": 0,
    },
    "op without inputs": {
        "nodes": [{"op": "Scale", "factor": 1.0, "inputs": [], "spatial": [], "path": ""}],
        "output": 0,
    },
    "missing field": {
        "nodes": [{"op": "Input", "inputs": [], "spatial": [], "path": ""}],
        "output": 0,
    },
    "a dict as a field": {
        "nodes": [
            {
                "op": "Input",
                "index": {},
                "size": [],
                "channels": 1,
                "inputs": [],
                "spatial": [],
                "path": "",
            }
        ],
        "output": 0,
    },
    "infinite output": {"nodes": [], "output": float("inf")},
    "too many": {"nodes": [None] * 100_001, "output": 0},
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_json(name):
    with pytest.raises(ModelFileError):
        graph_from_dict(DAMAGE[name])


def test_a_stride_of_zero_in_json():
    data = json.loads(json.dumps(graph_to_dict(network())))
    data["nodes"][1]["strides"] = [0, 1]
    with pytest.raises(ModelFileError):
        graph_from_dict(data)


def test_refused_layers_are_not_written():
    b = GraphBuilder()
    with pytest.raises(GraphError):
        graph_to_dict(b.graph(b.add(op.Opaque("o", ()), (), "o")))


@pytest.mark.parametrize(("size", "window"), [((4000, 4000), (4000, 4000)), ((9000,), (3000,))])
def test_windows_of_absurd_size_are_refused_before_their_offsets_are_listed(size, window):
    pool = op.AveragePool(window, (1,) * len(size), ((0, 0),) * len(size))
    with pytest.raises(GraphError, match="too"):
        pool.input_offsets(frozenset([(0,) * len(size)]), size)
