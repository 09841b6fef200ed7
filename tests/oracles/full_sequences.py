"""Layers of sequences in the full oracle: all pairs of steps, one after the other."""

from __future__ import annotations

import numpy as np

from oracles import naive as oracle
from oracles.full_maps import Group, Map, Source, added, mapped
from oracles.full_products import multiplied
from oracles.full_weights import correlation, source_of, variance


def embedding(layer, source, mean_of):
    """One-hot vectors times weights; the data of the source is [N, *spatial]."""
    del mean_of
    tokens = source.data
    one_hot = np.eye(layer.input_dim)[tokens.reshape(len(tokens), -1).astype(int)]
    second = np.einsum("ipv,jqv->ijpq", one_hot, one_hot)
    second *= variance(layer.embeddings_initializer, layer.embeddings.shape)
    return Map(tokens.shape[1:], [source_of(second, layer.output_dim)])


def simple_rnn(layer, source, mean_of):
    """The states at all steps, or the last, in the order in which they are computed."""
    cell, source = layer.cell, source.random()
    total = sum(group.channels for group in source.groups)
    second = sum(group.channels / total * group.second for group in source.groups)
    if layer.go_backwards:
        second = second[:, :, ::-1, ::-1]
    w2 = cell.kernel.shape[0] * variance(cell.kernel_initializer, cell.kernel.shape)
    u2 = layer.units * variance(cell.recurrent_initializer, cell.recurrent_kernel.shape)
    b2 = variance(cell.bias_initializer, (1,)) if cell.use_bias else 0.0
    name, constant = oracle._activation(layer)
    count, steps = len(second), second.shape[-1]
    state = np.zeros_like(second)
    q = np.zeros((count, steps))
    for p, r in sorted(np.ndindex(steps, steps), key=lambda pair: pair[0] != pair[1]):
        before = state[:, :, p - 1, r - 1] if p and r else 0.0
        c = b2 + w2 * second[:, :, p, r] + u2 * before
        c = c * np.broadcast_to(correlation(), (count, count, 1, 1))[:, :, 0, 0]
        if p == r:
            q[:, p] = np.diagonal(c)
        q1, q2 = np.broadcast_arrays(q[:, None, p], q[None, :, r])
        if name != "linear":
            c = oracle.dual_activation(name, constant, c, q1, q2)
        state[:, :, p, r] = c
    mean = 0 * q if name == "linear" else mean_of(name, constant, q)
    made = Source(state, mean, positive=name == "relu")
    kept = np.eye(steps) if layer.return_sequences else np.eye(steps)[-1:]
    spatial = (steps,) if layer.return_sequences else ()
    states = Map(spatial, [Group(layer.units, {(made, 0): kept})])
    if not layer.return_state:
        return states
    return [states, Map((), [Group(layer.units, {(made, 0): np.eye(steps)[-1:]})])]


def bidirectional(layer, source, mean_of):
    """Both directions; the states of the second in the order of the input's steps."""
    forward = simple_rnn(layer.forward_layer, source, mean_of)
    backward = simple_rnn(layer.backward_layer, source, mean_of)
    if layer.return_sequences:
        backward = mapped(backward, np.eye(backward.spatial[0])[::-1])
    if layer.merge_mode is None:
        return [forward, backward]
    if layer.merge_mode == "concat":
        return Map(forward.spatial, forward.groups + backward.groups)
    if layer.merge_mode == "mul":
        return multiplied([forward, backward])
    factor = {"sum": 1.0, "ave": 0.5}[layer.merge_mode]
    return added([forward, backward], [factor] * 2)


SEQUENCES = {"Embedding": embedding, "SimpleRNN": simple_rnn, "Bidirectional": bidirectional}
