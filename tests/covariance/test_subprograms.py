"""Parts of a program that are traced once: values, when they are shared, and when written out."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras2gp
from keras2gp.covariance.pairs import ImageBlock
from keras2gp.covariance.program import Program
from keras2gp.covariance.subprograms import Subprograms, differentiable

SIDE = 6


def network(depth, activations=("relu",), pooled=False):
    x = image = keras.Input((SIDE, SIDE, 2))
    for number in range(depth):
        x = layers.Conv2D(4, 3, padding="same", activation=activations[number % len(activations)])(
            x
        )
    if pooled:
        x = layers.AveragePooling2D(2, 1)(x)
        x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    return keras.Model(image, layers.Dense(1)(layers.Flatten()(x)))


def traced(kernel, kind="nngp"):
    """Statistics of three images, covariances of two with the third, and their graph."""
    program = Program(kernel.graph, kind=kind)
    x = tf.constant(np.random.default_rng(0).normal(size=(SIDE, SIDE, 2, 3)))
    ordered = [kernel.parameters[name] for name in program.layers]
    weights = [tf.constant(v.weight, tf.float64) for v in ordered]
    biases = [tf.constant(v.bias, tf.float64) for v in ordered]

    def values(*sides):
        found = [program.statistics([side], weights, biases) for side in sides]
        blocks = (ImageBlock(images, statistics) for _, images, statistics in found)
        return *(diagonal for diagonal, *_ in found), program.cross(*blocks, weights, biases)

    sides = x[..., :2], x[..., 2:]
    made = tf.function(values, autograph=False).get_concrete_function(*sides)
    return [np.asarray(v) for v in tf.nest.flatten(made(*sides))], made.graph


def called(graph):
    """The functions that are called, and how often."""
    inner = graph.as_graph_def()
    nodes = [*inner.node, *(n for f in inner.library.function for n in f.node_def)]
    return [n.attr["f"].func.name for n in nodes if n.op == "PartitionedCall"]


@pytest.mark.parametrize("kind", ["nngp", "both"])
@pytest.mark.parametrize("pooled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_values_are_those_of_the_same_operations_written_out(kind, pooled, monkeypatch):
    kernel = keras2gp.convert(network(3, ("relu", "gelu"), pooled), dtype="float64")
    shared, graph = traced(kernel, kind)
    monkeypatch.setattr(Subprograms, "call", lambda _self, _name, part, *tensors: part(*tensors))
    apart, plain = traced(kernel, kind)
    assert called(graph)
    assert not called(plain)
    for one, other in zip(shared, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)


def test_equal_layers_call_the_same_functions():
    few, many = (called(traced(keras2gp.convert(network(n)))[1]) for n in (3, 6))
    assert len(many) > len(few)
    assert len(set(many)) == len(set(few)) < len(few)


def test_functions_differ_by_name_and_by_the_shapes_of_their_arguments():
    parts = Subprograms()

    @tf.function(autograph=False)
    def values(x):
        twice = [parts.call("double", lambda t: 2 * t, t) for t in (x, x, x[:1])]
        return *twice, *parts.call("both", lambda t: (t, -t), x), parts.call("last", tf.negative, x)

    x = tf.constant([1.0, 2.0])
    found = values.get_concrete_function(x)
    assert len(called(found.graph)) == 5
    assert len(set(called(found.graph))) == 4
    assert [r.shape for r in found.outputs] == [(2,), (2,), (1,), (2,), (2,), (2,)]
    assert [r.numpy().tolist() for r in found(x)] == [
        [2, 4], [2, 4], [2], [1, 2], [-1, -2], [-1, -2],
    ]  # fmt: skip


def test_parts_are_written_out_where_derivatives_are_asked_for():
    parts = Subprograms()
    function = tf.function(lambda x: parts.call("half", lambda t: t / 2, x), autograph=False)
    with differentiable():
        made = function.get_concrete_function(tf.constant([1.0]))
    assert called(made.graph) == []
    assert parts.call("half", lambda t: t / 2, tf.constant([1.0])).numpy().tolist() == [0.5]


def test_a_part_that_holds_a_tensor_is_written_out():
    held = tf.constant([3.0, 4.0])
    parts = Subprograms()
    function = tf.function(lambda x: parts.call("sum", lambda t: t + held, x), autograph=False)
    x = tf.constant([1.0, 2.0])
    assert called(function.get_concrete_function(x).graph) == []
    assert function(x).numpy().tolist() == [4, 6]


def test_a_dual_of_the_users_own_is_run_for_each_layer():
    class Counted(keras2gp.Dual):
        calls = 0

        def covariance(self, c, s1, s2):
            Counted.calls += 1
            return c

        def mean(self, q):
            return tf.zeros_like(q)

    def counted(x):
        return x

    kernel = keras2gp.convert(network(3, (counted,)), activations={"counted": Counted()})
    before = Counted.calls
    traced(kernel)
    assert Counted.calls == before + 9  # variances of both sides, and their covariance
