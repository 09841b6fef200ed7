"""Programs for a GPU: their values, their tiles, and branches that would make the host wait."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras2gp
from keras2gp import zoo
from keras2gp.matrices.blocks import BlockShape
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.matrices.executors import executor_of
from keras2gp.matrices.local import in_memory, matrix_of
from keras2gp.matrices.plan import block_shape
from keras2gp.matrices.work import Work

BRANCH = re.compile(r"= .* conditional\(")


def network(pooled):
    x = image = keras.Input((6, 6, 1))
    for _ in range(2):
        x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = keras.layers.AveragePooling2D(2)(x) if pooled else x
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(x)))


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "pooled"])
def kernel(request):
    return keras2gp.convert(network(request.param))


@pytest.mark.parametrize("kind", ["nngp", "both"])
def test_a_program_for_a_gpu_gives_the_same_values(kernel, kind, rng):
    """The programs differ in their fusions and tiles, so in the last bits alone."""
    x = rng.random((20, 6, 6, 1), np.float32)
    values = {
        device: matrix_of(
            CompiledProgram(kernel.graph, "float32", kind=kind, device=device),
            kernel.parameters,
            [x],
            None,
        )
        for device in ("cpu", "gpu")
    }
    np.testing.assert_allclose(values["gpu"], values["cpu"], rtol=2e-6)


def test_a_partition_that_a_cpu_made_is_computed_on_a_gpu(kernel, rng):
    """Its tiles are rows of runs: a store may be begun on one machine and finished on another."""
    x = rng.random((20, 6, 6, 1), np.float32)
    values = {}
    for device in ("cpu", "gpu"):
        program = CompiledProgram(kernel.graph, "float32", device=device)
        partition = program.partition(20, None, BlockShape(32, 32, 4, 16))
        work = Work(program, kernel.parameters, [x], None, partition)
        values[device] = in_memory(work, executor_of("threads"))
    np.testing.assert_allclose(values["gpu"], values["cpu"], rtol=2e-6)


def lowered(kernel, device):
    """The HLO that XLA is given for a GPU, as text, of the tiles of a block of 32 images."""
    program = CompiledProgram(kernel.graph, "float32", device=device)
    shape = block_shape(kernel.graph, 32, 32, device)
    variances = program.variances(kernel.parameters)
    x = tf.zeros((6, 6, 1, shape.columns))
    _, images, statistics = program.statistics([x], *variances, run=shape.tile_columns)
    make = program.cross.experimental_get_compiler_ir(
        (images, statistics),
        (images, statistics),
        tf.zeros((shape.most_tiles, 2), tf.int32),
        tf.constant(shape.most_tiles),
        variances,
        tile=(shape.tile_rows, shape.tile_columns),
    )
    return make(stage="hlo", platform_name="GPU")


def test_a_program_for_a_gpu_has_no_branch_on_which_the_host_waits(kernel):
    assert BRANCH.search(lowered(kernel, "cpu")), "the expression finds branches where they are"
    assert not BRANCH.search(lowered(kernel, "gpu"))


def test_tiles_on_a_gpu_are_large_squares():
    graph = keras2gp.convert(zoo.build("convnet")).graph
    cpu, gpu = (block_shape(graph, 5000, 5000, device) for device in ("cpu", "gpu"))
    assert (cpu.tile_rows, cpu.tile_columns) == (8, 32)
    assert gpu.tile_rows == gpu.tile_columns == 128
    assert gpu.rows % gpu.tile_rows == gpu.columns % gpu.tile_columns == 0
    few = block_shape(graph, 20, 20, "gpu")
    assert (few.rows, few.tile_rows) == (32, 32)
