"""The sizes of blocks: few enough that small matrices share programs."""

from dataclasses import replace

import keras

import keras2gp
from keras2gp.matrices import plan
from keras2gp.matrices.plan import block_shape
from keras2gp.matrices.room import footprint_of


def network(depth):
    layers = [keras.Input((8, 8, 1))]
    for _ in range(depth):
        layers += [keras.layers.Conv2D(2, 3, padding="same"), keras.layers.ReLU()]
    layers += [keras.layers.Flatten(), keras.layers.Dense(1)]
    return keras2gp.convert(keras.Sequential(layers)).graph


def test_few_images_of_a_deep_network_take_the_program_of_64(monkeypatch):
    deep, shallow = network(40), network(2)
    shapes = {block_shape(deep, n, n) for n in (1, 3, 17, 64)}
    assert len(shapes) == 1
    assert shapes.pop().rows == 64
    assert block_shape(deep, 3, 65).rows == 128
    assert block_shape(shallow, 3, 3).rows == 16
    costly = replace(footprint_of(deep), entries=10**8)  # 64 images would take seconds
    monkeypatch.setattr(plan, "footprint_of", lambda graph: costly)
    assert block_shape(deep, 3, 3).rows == 16


def test_entries_are_those_of_all_maps():
    footprint = footprint_of(network(2))
    assert footprint.entries >= 4 * 64
    assert footprint.nodes < 16
