"""What is data, Gaussian or features; idle activations; offsets that do not survive a reshape."""

import pytest

from keras2gp.graph import Graph, GraphBuilder
from keras2gp.graph import ops as op
from keras2gp.graph.distributions import Kind, check_gaussianity, kinds
from keras2gp.graph.offsets import check_offsets
from keras2gp.graph.ops import AveragePool, Combination, Depthwise, Normalize, Upsample
from keras2gp.graph.simplification import with_running_means, without_idle_activations

SIZE = (4, 6)
POOL = AveragePool((2, 2), (2, 2), ((0, 0), (0, 0)))
GLOBAL = AveragePool(SIZE, (1, 1), ((0, 0), (0, 0)))
RELU = op.Activation("relu")


class Net:
    def __init__(self, size=SIZE):
        self.b = GraphBuilder()
        self.data = self.add(op.Input(0, size, 3))
        self.gaussian = self.add(op.Affine("a"), self.data, path="a")
        self.features = self.add(RELU, self.gaussian, path="f")

    def add(self, spec, *inputs, path="p"):
        return self.b.add(spec, inputs, path)

    def chain(self, index, *links):
        for link in links:
            index = self.add(link, index, path=type(link).__name__)
        return index

    def graph(self, index):
        return self.b.graph(index)

    def kind(self, index):
        return kinds(Graph(tuple(self.b.nodes), index))[index]


def normalize(group=0, count=1, **settings):
    fields = {"centered": False, "deviation": False} | settings
    return Normalize(group, (1 / count,) * count, (False, False), epsilon=0.1, **fields)


LINEAR = (
    POOL, Upsample((2, 1)), op.Pad(((1, 0), (0, 0))), op.Crop(((1, 0), (0, 0))), op.Dilate((2, 2)),
    op.Scale(2.0), Combination((1.0, -1.0), ((), (op.Scale(2.0),))), normalize(),
)  # fmt: skip


@pytest.mark.parametrize("spec", LINEAR, ids=lambda spec: type(spec).__name__)
def test_linear_maps_and_normalisation_keep_the_kind(spec):
    net = Net()
    assert net.kind(net.add(spec, net.gaussian)) is Kind.GAUSSIAN
    assert net.kind(net.add(spec, net.features)) is Kind.FEATURES
    assert net.kind(net.add(spec, net.data)) is Kind.DATA


def test_kinds_of_what_sums_and_what_does_not():
    net = Net()
    assert net.kind(net.add(Depthwise("d"), net.gaussian)) is Kind.FEATURES
    assert net.kind(net.add(op.Affine("b"), net.add(Depthwise("d"), net.gaussian))) is Kind.GAUSSIAN
    both = net.gaussian, net.features
    assert net.kind(net.add(normalize(0, 2), *both)) is Kind.GAUSSIAN
    assert net.kind(net.add(normalize(1, 2), *both)) is Kind.FEATURES
    assert net.kind(net.add(op.Sum((1.0, 1.0)), net.features, net.features)) is Kind.FEATURES


def obstacle(net, index):
    (found,) = check_gaussianity(net.graph(net.add(op.Affine("end"), index)))
    return found


def test_an_activation_of_a_depthwise_convolution_says_why_and_what_works():
    net = Net()
    h = net.chain(net.add(Depthwise("d"), net.gaussian, path="depth"), op.Scale(2.0), POOL)
    found = obstacle(net, net.add(RELU, h, path="late"))
    assert found.where == "late"
    assert "activation relu of the output of AveragePool" in found.received
    assert "one channel alone" in found.why
    assert "pointwise convolution" in found.hint


def test_an_activation_of_features_names_residual_networks():
    net = Net()
    total = net.add(op.Sum((1.0, 1.0)), net.features, net.add(op.Affine("b"), net.data), path="sum")
    found = obstacle(net, net.add(RELU, total, path="late"))
    assert "ResNet v2" in found.hint


def beside_data(n):
    return n.add(op.Sum((1.0, -0.5)), n.data, n.gaussian)


DATA = {
    "an activation of a sum": (
        lambda n: n.add(RELU, beside_data(n), path="here"),
        "the input, or constants, were added",
    ),
    "an activation of a product": (
        lambda n: n.add(RELU, n.add(op.Product(), n.data, n.gaussian), path="here"),
        "the input multiplies it",
    ),
    "activation": (lambda n: n.add(RELU, n.chain(n.data, POOL), path="here"), "beside random"),
    "depthwise": (lambda n: n.add(Depthwise("d"), n.chain(n.data, POOL), path="here"), "random"),
}


@pytest.mark.parametrize("name", DATA)
def test_the_input_among_random_tensors(name):
    make, why = DATA[name]
    net = Net()
    found = obstacle(net, make(net))
    assert found.where == "here"
    assert why in found.why


def test_the_input_beside_random_tensors_that_weights_or_norms_read():
    net = Net()
    norm = normalize(1, 2, centered=True, deviation=True)
    for index in (
        net.add(norm, net.data, net.gaussian),
        net.add(normalize(0, 1, centered=True, deviation=True), beside_data(net)),
        net.add(op.Shift(0.5), beside_data(net)),
        net.add(op.Product(), beside_data(net), net.features),
    ):
        assert not check_gaussianity(net.graph(net.add(op.Affine("end"), index)))


def test_channel_groups_of_one_layer_say_the_same_once():
    net = Net()
    other = net.add(RELU, net.add(op.Affine("b"), net.data))
    groups = [net.add(op.Scale(-1.0), i, path="scaled") for i in (net.features, other)]
    late = [net.add(RELU, i, path="late") for i in groups]
    assert obstacle(net, net.add(op.Mixture((0.5, 0.5)), *late)).where == "late"


def test_an_output_that_is_not_gaussian_says_why():
    net = Net()
    (depthwise,) = check_gaussianity(net.graph(net.add(Depthwise("d"), net.gaussian)))
    assert "depthwise" in depthwise.why
    (pooled,) = check_gaussianity(net.graph(net.chain(net.features, POOL)))
    assert "ends in an activation" in pooled.why


IDLE = {
    "itself": (),
    "pooling": (POOL,),
    "all positive maps": (
        op.Scale(0.5), POOL, Upsample((2, 2)), op.Pad(((1, 0), (0, 0))), op.Crop(((0, 1), (0, 0))),
        op.Dilate((2, 1)), op.Patches((1, 1), (2, 1), (1, 1), ((0, 0), (0, 0))), normalize(),
        Combination((1.0, 0.5), ((), (op.Scale(2.0),))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IDLE)
@pytest.mark.parametrize("late", ["relu", "abs", "leaky_relu"])
def test_activations_of_what_is_never_negative_do_nothing(name, late):
    net = Net()
    h = net.chain(net.features, *IDLE[name])
    activation = op.Activation(late, (("negative_slope", 0.1),) if late == "leaky_relu" else ())
    end = net.add(op.Affine("end"), net.add(activation, h))
    graph = without_idle_activations(net.graph(end))
    assert [n.op.name for n in graph.nodes if isinstance(n.op, op.Activation)] == ["relu"]
    assert check_gaussianity(graph) == []


BUSY = {
    "a negative factor": (op.Scale(-0.5),),
    "weights": (op.Affine("b"),),
    "a depthwise convolution": (Depthwise("d"),),
    "a difference": (Combination((1.0, -0.5), ((), (op.Scale(2.0),))),),
    "a map that is negated": (Combination((1.0, 0.5), ((), (op.Scale(-2.0),))),),
    "a mean taken away": (normalize(centered=True, deviation=True),),
    "an odd function": (op.Affine("b"), op.Activation("erf")),
}


@pytest.mark.parametrize("name", BUSY)
def test_other_activations_stay(name):
    net = Net()
    graph = net.graph(net.add(RELU, net.chain(net.features, *BUSY[name]), path="late"))
    assert without_idle_activations(graph) == graph


def test_sums_of_what_is_never_negative():
    net = Net()
    other = net.add(RELU, net.add(op.Affine("b"), net.data))
    for coefficients, left in ((1.0, 2.0), 2), ((1.0, -2.0), 3):
        total = net.add(op.Sum(coefficients), net.features, other)
        graph = without_idle_activations(net.graph(net.add(RELU, total, path="late")))
        assert sum(isinstance(n.op, op.Activation) for n in graph.nodes) == left


def reshaped(net, *after, before=(), index=None):
    h = net.chain(net.gaussian if index is None else index, *before)
    h = net.add(op.Reshape((3, 8), 2), h, path="reshape")
    h = net.chain(h, *after)
    return check_offsets(net.graph(net.add(op.Affine("end"), h)))


def test_pooling_after_a_reshape_is_refused():
    (found,) = reshaped(Net(), AveragePool((1, 2), (1, 2), ((0, 0), (0, 0))))
    assert found.where == "reshape"
    assert "(4, 6)" in found.received
    assert "(3, 8)" in found.received
    assert "global pooling" in found.hint


def test_a_reshape_of_which_one_position_is_asked():
    assert reshaped(Net(), op.Positions(2)) == []
    assert reshaped(Net(), op.Positions(2), before=(op.Affine("b"),)) == []
    pooled = (POOL, Upsample((2, 2)), op.Affine("b"), RELU)
    assert reshaped(Net(), op.Positions(2), before=pooled) == []


def test_every_reshape_is_looked_at_and_refused_layers_do_not_matter():
    net = Net()
    h = net.chain(
        net.gaussian, op.Reshape((8, 3), 2), AveragePool((2, 1), (1, 1), ((0, 1), (0, 0)))
    )
    found = reshaped(net, AveragePool((1, 2), (1, 2), ((0, 0), (0, 0))), index=h)
    assert [o.where for o in found] == ["Reshape", "reshape"]
    opaque = net.b.add(op.Opaque("o", (3, 8)), (net.chain(net.gaussian, op.Positions(2)),), "o")
    assert check_offsets(net.graph(net.chain(opaque, op.Reshape((4, 6), 2), op.Positions(2)))) == []


def test_units_of_features_over_positions_have_no_offsets():
    net = Net(())
    for index, expected in (net.gaussian, []), (net.features, ["Spread"]):
        spread = net.chain(index, op.Spread((4,)))
        pooled = net.chain(spread, AveragePool((4,), (1,), ((0, 0),)), op.Affine("end"))
        assert [o.where for o in check_offsets(net.graph(pooled))] == expected
        assert check_offsets(net.graph(net.chain(spread, op.Positions(1)))) == []


def grown(net, steps, weights):
    """Each step reads a mean over the groups so far, and adds one: the layers of a DenseNet."""
    groups = [net.features]
    means = []
    for step in range(steps):
        means.append(net.add(op.Mixture(weights(len(groups))), *groups, path=f"m{step}"))
        h = net.add(op.Affine(f"l{step}"), means[-1], path=f"l{step}")
        groups.append(net.add(RELU, h, path=f"r{step}"))
    return net.graph(means[-1])


def test_means_over_more_and_more_groups_are_made_of_the_mean_before():
    sizes = (7, 2, 3, 5, 1, 4)
    graph = grown(Net(), 6, lambda n: tuple(s / sum(sizes[:n]) for s in sizes[:n]))
    found = with_running_means(graph)
    read = [len(n.inputs) for n in found.nodes if isinstance(n.op, op.Mixture)]
    assert read == [1, 2, 3, 2, 2, 2]
    last = found.nodes[found.output]
    assert last.op.weights == pytest.approx((18 / 22, 4 / 22), rel=1e-14)
    assert found.nodes[last.inputs[0]].path == "m4"
    assert found.layers == graph.layers


def test_means_in_other_proportions_stay():
    graph = grown(Net(), 6, lambda n: tuple((1 + i * n) / 100 for i in range(n)))
    assert with_running_means(graph) == graph
