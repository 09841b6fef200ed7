"""A layer at each step of a sequence, in the full oracle: the steps as images of a batch."""

from __future__ import annotations

import keras
import numpy as np

from oracles.full_maps import Group, Map, made_of
from oracles.full_weights import correlated, correlation


def each_step(layer, source, evaluate):
    """The results at all steps; those of one image and of another share their weights alike."""
    data = source.data is not None
    count, steps = source.data.shape[:2] if data else (len(source.groups[0].second), 0)
    steps = steps or source.spatial[0]
    inside = layer.layer
    if not isinstance(inside, keras.Model):
        x = keras.Input(layer.input.shape[2:])
        inside = keras.Model(x, type(inside).from_config(inside.get_config())(x))
    if isinstance(inside, keras.Sequential):
        inside = inside._functional
    r = np.broadcast_to(correlation(), (count, count, 1, 1))[:, :, 0, 0]
    with correlated(np.kron(r, np.ones((steps, steps)))):
        (result,) = evaluate(inside, [_folded(source, steps)])
    return _unfolded(result, count, steps)


def _folded(source, steps):
    """Row i T + t is step t of image i."""
    if source.data is not None:
        return Map(data=source.data.reshape(-1, *source.data.shape[2:]))
    groups = []
    for group in source.groups:
        n, _, size, _ = group.second.shape
        k = group.second.reshape(n, n, steps, size // steps, steps, size // steps)
        k = k.transpose(0, 2, 1, 4, 3, 5).reshape(n * steps, n * steps, size // steps, -1)
        mean = group.mean.reshape(n * steps, -1)
        made = made_of([group], k, mean, positive=group.positive)
        groups.append(Group(group.channels, {(made, 0): np.eye(size // steps)}))
    return Map(tuple(source.spatial[1:]), groups)


def _unfolded(result, count, steps):
    if result.data is not None:
        return Map(data=result.data.reshape(count, steps, *result.data.shape[1:]))
    groups = []
    for group in result.groups:
        size = group.second.shape[-1]
        k = group.second.reshape(count, steps, count, steps, size, size)
        k = k.transpose(0, 2, 1, 4, 3, 5).reshape(count, count, steps * size, steps * size)
        made = made_of([group], k, group.mean.reshape(count, -1), positive=group.positive)
        groups.append(Group(group.channels, {(made, 0): np.eye(steps * size)}))
    return Map((steps, *result.spatial), groups)
