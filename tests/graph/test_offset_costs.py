"""Offsets that would take gigabytes to count are refused beforehand; usual ones are counted."""

import itertools
import json

import keras
import numpy as np
import pytest
from keras import layers

import keras2gp
from keras2gp.errors import InputError
from keras2gp.graph.linear_maps import source_offsets


def file_of(tmp_path, factor, *end):
    """A model that enlarges 6 x 6 positions by a factor that Keras never has to compute."""
    model = keras.Sequential([
        keras.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu"), layers.UpSampling2D(77),
        *end, layers.Flatten(), layers.Dense(1),
    ])  # fmt: skip
    (tmp_path / "m.json").write_text(model.to_json().replace("77", str(factor)))
    return tmp_path / "m.json"


@pytest.mark.parametrize("factor", [1000, 10**9])
def test_a_map_of_countless_offsets_is_refused(tmp_path, factor):
    path = file_of(tmp_path, factor, layers.GlobalAveragePooling2D())
    with pytest.raises(InputError, match=r"global_average_pooling2d.* offsets, one map each.*Try"):
        keras2gp.convert(path)


def test_a_map_beyond_the_memory_is_refused(tmp_path):
    kernel = keras2gp.convert(file_of(tmp_path, 100_000))
    for call in (kernel, kernel.diag):
        with pytest.raises(InputError, match=r"maps of 360000000000 positions, needs .* TiB"):
            call(np.ones((1, 8, 8, 3)))


def test_usual_sizes_are_counted(tmp_path):
    kernel = keras2gp.convert(file_of(tmp_path, 20, layers.GlobalAveragePooling2D()))
    assert json.loads((tmp_path / "m.json").read_text())
    assert kernel.graph.nodes[-1].spatial == ()


def test_offsets_of_windows_against_all_pairs():
    draw = np.random.default_rng(0)

    def row():
        weights = draw.choice([0.0, 0.5, 1.0], draw.integers(4))
        return int(draw.integers(5)), tuple(float(w) for w in weights)

    for _ in range(200):
        first, second = (tuple(row() for _ in range(draw.integers(1, 5))) for _ in range(2))
        for d in range(-3, 4):
            expected = {
                (second[g + d][0] + b) - (first[g][0] + a)
                for g in range(len(first))
                if 0 <= g + d < len(second)
                for a, b in itertools.product(range(len(first[g][1])), range(len(second[g + d][1])))
                if first[g][1][a] and second[g + d][1][b]
            }
            assert source_offsets(first, second, [d]) == expected
