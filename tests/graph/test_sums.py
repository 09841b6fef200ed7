"""Sums over branches that share a source: which become one map of one tensor, and which do not."""

import numpy as np
import pytest

from keras2gp.graph import GraphBuilder
from keras2gp.graph import ops as op
from keras2gp.graph.calls import join_calls
from keras2gp.graph.ops import AveragePool, Combination, Depthwise, Normalize, Upsample
from keras2gp.graph.sums import OtherChannels, resolve_sums

SIZE = (5, 4)
SAME = AveragePool((3, 2), (1, 1), ((1, 1), (0, 1)))
SHIFT = op.Pad(((1, 0), (0, 0))), op.Crop(((0, 1), (0, 0)))
HALF = AveragePool((2, 2), (2, 2), ((0, 1), (0, 0)))


class Net:
    """A builder of sums over x and y, two random tensors of SIZE."""

    def __init__(self):
        self.b = GraphBuilder()
        data = self.add(op.Input(0, SIZE, 3))
        self.x, self.y = (self.add(op.Affine(name), data, path=name) for name in "xy")

    def add(self, spec, *inputs, path="p"):
        return self.b.add(spec, inputs, path)

    def chain(self, index, *links):
        for link in links:
            index = self.add(link, index)
        return index

    def plus(self, *inputs, coefficients=None):
        return self.add(op.Sum(coefficients or (1.0,) * len(inputs)), *inputs, path="sum")

    def resolved(self, output):
        return resolve_sums(self.b.graph(output))


def matrix(graph, index, source):
    """What a node is of a random layer, by composing the matrices of ops on full-width bands."""
    node = graph.nodes[index]
    if node.path == source and isinstance(node.op, op.Affine):
        return np.eye(int(np.prod(node.spatial)))
    if isinstance(node.op, op.Affine):
        return 0.0
    inner = [matrix(graph, i, source) for i in node.inputs]
    if isinstance(node.op, op.Sum):
        return sum(c * m for c, m in zip(node.op.coefficients, inner, strict=True))
    size = graph.nodes[node.inputs[0]].spatial
    found = widened(node.op.separable.maps(size), size)
    return 0.0 if np.isscalar(inner[0]) else found @ inner[0]


def widened(terms, size):
    """Matrix of a sum of separable maps."""
    total = 0.0
    for term in terms:
        made = np.ones((1, 1)) * term.coefficient
        for band, n in zip(term.bands, size, strict=True):
            rows = np.zeros((len(band), n))
            for g, (start, weights) in enumerate(band):
                rows[g, start : start + len(weights)] = weights
            made = np.kron(made, rows)
        total = total + made
    return total


def pooled_and_itself(n):
    return n.plus(n.x, n.add(SAME, n.x))


def twice_less_pooled(n):
    return n.plus(n.x, n.add(SAME, n.x), coefficients=(2.0, -1.0))


def two_windows(n):
    return n.plus(n.add(SAME, n.x), n.add(AveragePool((1, 3), (1, 1), ((0, 0), (1, 1))), n.x))


def with_another(n):
    return n.plus(n.x, n.add(SAME, n.plus(n.x, n.y)))


def with_another_first(n):
    return n.plus(n.add(SAME, n.plus(n.y, n.x)), n.x, n.y)


def moved(n):
    return n.plus(n.x, n.chain(n.x, *SHIFT), coefficients=(1.0, -1.0))


def of_a_sum(n):
    total = n.plus(n.x, n.y)
    return n.plus(total, n.add(SAME, total))


def then_one_of_them(n):
    return n.plus(of_a_sum(n), n.y)


def strided(n):
    stride = op.Patches((1, 1), (2, 2), (1, 1), ((0, 0), (0, 0)))
    return n.plus(n.add(stride, n.x), n.add(HALF, n.x))


def up_and_down(n):
    crop = op.Crop(((0, 1), (0, 0)))
    return n.plus(n.x, n.chain(n.x, HALF, Upsample((2, 2)), crop))


def scaled(n):
    return n.plus(n.add(op.Scale(3.0), n.x), n.chain(n.x, op.Scale(0.5), SAME, op.Scale(4.0)))


def three(n):
    return n.plus(n.x, n.add(SAME, n.x), n.add(SAME, n.add(SAME, n.x)))


def residual_twice(n):
    h = pooled_and_itself(n)
    return n.plus(h, n.add(SAME, h), n.y)


def dilated(n):
    return n.plus(n.add(op.Dilate((2, 1)), n.x), n.chain(n.x, SAME, op.Dilate((2, 1))))


SUMS = (
    pooled_and_itself, twice_less_pooled, two_windows, with_another, with_another_first, moved,
    of_a_sum, then_one_of_them, strided, up_and_down, scaled, three, residual_twice, dilated,
)  # fmt: skip


@pytest.mark.parametrize("make", SUMS)
def test_maps_of_one_tensor_become_one_map(make):
    net = Net()
    index = make(net)
    before = net.b.graph(index)
    after, obstacles = net.resolved(index)
    assert obstacles == []
    for source in "xy":
        np.testing.assert_allclose(
            matrix(after, after.output, source), matrix(before, before.output, source), atol=1e-14
        )
    assert any(isinstance(node.op, Combination) for node in after.nodes)
    assert independent(after)


def independent(graph):
    """Whether the terms of every sum are made of different random layers."""
    sources = []
    for index, node in enumerate(graph.nodes):
        inner = [sources[i] for i in node.inputs]
        if isinstance(node.op, op.Sum) and len(set().union(*inner)) < sum(map(len, inner)):
            return False
        sources.append({index} if node.op.random else set().union(*inner))
    return True


def test_one_map_alone_is_no_combination():
    net = Net()
    pool = net.add(SAME, net.x)
    total = net.plus(pool, net.x, net.x, coefficients=(1.0, 1.0, -1.0))
    graph, obstacles = net.resolved(total)
    assert obstacles == []
    assert graph.nodes[graph.output].op == SAME
    twice, _ = net.resolved(net.plus(pool, net.chain(net.x, op.Scale(2.0), SAME)))
    assert twice.nodes[twice.output].op == op.Scale(3.0)
    nothing, _ = net.resolved(net.plus(pool, pool, coefficients=(1.0, -1.0)))
    assert nothing.nodes[nothing.output].op == op.Scale(0.0)
    assert nothing.nodes[nothing.output].spatial == SIZE


def test_a_sum_written_out_keeps_what_is_independent():
    net = Net()
    graph, _ = net.resolved(with_another(net))
    top = graph.nodes[graph.output]
    assert isinstance(top.op, op.Sum)
    assert {type(graph.nodes[i].op) for i in top.inputs} == {Combination, AveragePool}


def test_units_spread_over_positions_are_a_linear_map():
    b = GraphBuilder()
    data = b.add(op.Input(0, (), 3), (), "data")
    x, y = (b.add(op.Affine(name), (data,), name) for name in "xy")
    both = b.add(op.Spread(SIZE), (b.add(op.Sum((1.0, 1.0)), (x, y), "s"),), "both")
    total = b.add(op.Sum((1.0, -1.0)), (both, b.add(op.Spread(SIZE), (y,), "y")), "total")
    graph, obstacles = resolve_sums(b.graph(total))
    assert obstacles == []
    assert {node.path for node in graph.nodes} == {"data", "x", "total"}


NONLINEAR = {
    "normalisation of a map": lambda n: n.add(
        Normalize(0, (1.0,), (False, False), False, False, 0.1),
        n.chain(n.x, op.Flip((True, False))),
    ),
    "activation of a map": lambda n: n.chain(n.x, op.Flip((True, False)), op.Activation("relu")),
    "other shape in between": lambda n: n.chain(n.x, op.Reshape((20,), 2), op.Reshape(SIZE, 1)),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_what_is_no_map_of_positions_is_refused(name):
    net = Net()
    _, (obstacle,) = net.resolved(net.plus(net.x, NONLINEAR[name](net)))
    assert obstacle.where == "sum"
    assert "(x)" in obstacle.why
    assert "1x1 convolution" in obstacle.hint


def test_weights_of_their_own_make_a_new_source():
    net = Net()
    for spec in (op.Affine("z"), Depthwise("d")):
        graph, obstacles = net.resolved(net.plus(net.x, net.add(spec, net.add(SAME, net.x))))
        assert obstacles == []
        assert isinstance(graph.nodes[graph.output].op, op.Sum)


def test_normalisation_is_made_of_the_group_that_it_normalises():
    """What it divides by is a number at infinite width, so that the others are no sources of it."""
    net = Net()
    spec = Normalize(0, (0.5, 0.5), (False, False), False, False, 0.1)
    _, obstacles = net.resolved(net.plus(net.add(spec, net.x, net.y), net.y))
    assert obstacles == []


def test_a_depthwise_layer_of_two_groups_is_called_once():
    net = Net()
    first = net.add(Depthwise("d"), net.x, path="d")
    second = net.add(Depthwise("d"), net.y, path="d")
    mixed = net.add(op.Mixture((0.5, 0.5)), first, second)
    assert join_calls(net.b.graph(mixed), 1).obstacles == ()
    again = net.add(Depthwise("d", 1), net.y, path="d#2")
    graph = net.b.graph(net.add(op.Mixture((0.5, 0.5)), mixed, again))
    assert [o.where for o in join_calls(graph, 1).obstacles] == ["d"]


def test_channels_of_a_deep_network_are_renumbered():
    net = Net()
    deep = net.x
    for _ in range(3000):
        deep = net.add(op.Scale(1.0), deep)
    moved = net.add(OtherChannels(1), deep)
    graph, obstacles = net.resolved(net.plus(deep, moved))
    assert not obstacles
    total = graph.nodes[graph.output]
    assert isinstance(total.op, op.Sum)
    assert total.inputs[0] == total.inputs[1]


def test_many_residual_blocks_with_pooling_stay_small():
    net = Net()
    h = net.x
    for i in range(60):
        other = net.add(op.Affine(f"r{i}"), net.add(op.Activation("relu"), h), path=f"r{i}")
        h = net.plus(net.add(SAME, h), h, other)
    graph, obstacles = net.resolved(h)
    assert obstacles == []
    assert len(graph.nodes) < 60 * 5
