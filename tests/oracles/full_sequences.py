"""Layers of sequences in the full oracle: all pairs of steps, one after the other."""

from __future__ import annotations

import numpy as np

from oracles import naive as oracle
from oracles.full_maps import Group, Map, Source, added, mapped
from oracles.full_products import multiplied
from oracles.full_weights import correlation, source_of, variance


def embedding(layer, sources, mean_of):
    """One-hot vectors times weights; the data of the source is [N, *spatial]."""
    del mean_of
    tokens = sources[0].data
    one_hot = np.eye(layer.input_dim)[tokens.reshape(len(tokens), -1).astype(int)]
    second = np.einsum("ipv,jqv->ijpq", one_hot, one_hot)
    second *= variance(layer.embeddings_initializer, layer.embeddings.shape)
    return Map(tokens.shape[1:], [source_of(second, layer.output_dim)])


def _states(layer, second, mask):
    """Moments [N, N, T + 1, T + 1] of states, variances [N, T + 1] before their activation.

    Both are by the number of steps that an image has taken.
    """
    cell, (count, steps) = layer.cell, mask.shape
    w2 = cell.kernel.shape[0] * variance(cell.kernel_initializer, cell.kernel.shape)
    u2 = layer.units * variance(cell.recurrent_initializer, cell.recurrent_kernel.shape)
    b2 = variance(cell.bias_initializer, (1,)) if cell.use_bias else 0.0
    name, constant = oracle._activation(layer)
    r = np.broadcast_to(correlation(), (count, count, 1, 1))
    own = [np.flatnonzero(row) for row in mask]
    state = np.zeros((count, count, steps + 1, steps + 1))
    q = np.zeros((count, steps + 1))
    pairs = [(i, j, a, b) for i, j in np.ndindex(count, count)
             for a, b in np.ndindex(len(own[i]), len(own[j]))]  # fmt: skip
    for i, j, a, b in sorted(pairs, key=lambda p: (p[0], p[2]) != (p[1], p[3])):
        c = b2 + w2 * second[i, j, own[i][a], own[j][b]] + u2 * state[i, j, a, b]
        c = np.array([c * r[i, j, 0, 0]])
        if (i, a) == (j, b):
            q[i, a + 1] = c[0]
        if name != "linear":
            c = oracle.dual_activation(name, constant, c, q[[i], a + 1], q[[j], b + 1])
        state[i, j, a + 1, b + 1] = c[0]
    return state, q


def simple_rnn(layer, sources, mean_of):
    """The states at all steps, or the last, in the order in which they are computed.

    A step that the mask leaves out is none: the states are those of each image's own steps, and
    stay from one of them to the next.
    """
    source = sources[0].random()
    total = sum(group.channels for group in source.groups)
    second = sum(group.channels / total * group.second for group in source.groups)
    count, steps = len(second), second.shape[-1]
    mask = sources[1].data if len(sources) > 1 else np.ones((count, steps))
    if layer.go_backwards:
        second, mask = second[:, :, ::-1, ::-1], mask[:, ::-1]
    state, q = _states(layer, second, mask)
    name, constant = oracle._activation(layer)
    so_far = np.cumsum(mask, axis=1).astype(int)
    rows = np.arange(count)[:, None]
    states = state[rows[:, :, None, None], rows.T[:, :, None, None],
                   so_far[:, None, :, None], so_far[None, :, None, :]]  # fmt: skip
    mean = 0 * q if name == "linear" else mean_of(name, constant, q)
    mean = np.where(so_far > 0, np.take_along_axis(mean, so_far, 1), 0.0)
    kind = {"positive": name == "relu", "function": name != "linear"}
    last = Source(states, mean, **kind)
    if layer.zero_output_for_mask:
        states = states * mask[:, None, :, None] * mask[None, :, None, :]
        mean = mean * mask
    every = last
    if layer.zero_output_for_mask:
        every = Source(states, mean, factors=last.factors, **kind)
    kept = Map((), [Group(layer.units, {(last, 0): np.eye(steps)[-1:]})])
    if layer.return_sequences:
        kept = [Map((steps,), [Group(layer.units, {(every, 0): np.eye(steps)})]), kept]
        return kept if layer.return_state else kept[0]
    return [kept, kept] if layer.return_state else kept


def bidirectional(layer, sources, mean_of):
    """Both directions; the states of the second in the order of the input's steps."""
    forward = simple_rnn(layer.forward_layer, sources, mean_of)
    backward = simple_rnn(layer.backward_layer, sources, mean_of)
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


def masked_mean(sources):
    """The mean over the steps of a mask."""
    mask = sources[1].data.astype(float)
    w = mask / mask.sum(axis=1, keepdims=True)
    return mapped(sources[0].random(), w[:, None, :], ())


SEQUENCES = {"Embedding": embedding, "SimpleRNN": simple_rnn, "Bidirectional": bidirectional}
