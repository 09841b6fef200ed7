"""A layer of your own: one reader, which works from a live model and from a .keras file.

python examples/own_layer.py
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras2gp


@keras.saving.register_keras_serializable(package="example")
class ScaledDense(keras.layers.Layer):
    """A Dense layer whose weights have variance 1 and are divided by sqrt(fan-in) when used."""

    kernel_initializer = keras.initializers.RandomNormal(stddev=1.0)

    def __init__(self, units: int, gain: float = 1.0, **settings):
        super().__init__(**settings)
        self.units, self.gain = units, gain

    def build(self, shape):
        """Draw the weights."""
        self.kernel = self.add_weight(
            shape=(shape[-1], self.units), initializer=self.kernel_initializer, name="kernel"
        )

    def call(self, inputs):
        """x W gain / sqrt(fan-in)."""
        return keras.ops.matmul(inputs, self.kernel) * (self.gain / math.sqrt(inputs.shape[-1]))

    def get_config(self):
        """Settings, which a file holds."""
        return {**super().get_config(), "units": self.units, "gain": self.gain}


@keras2gp.reader(ScaledDense)
def read_scaled_dense(call, context):
    """Random weights, then a factor: k' = gain^2 k."""
    layer, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    if tensor.channel_first:
        context.refuse("it sums over positions, not channels", "channels last")
    fan_in = layer.kernel.shape[0]
    context.became = "scaled dense"
    result = context.affine(tensor, layer, fan_in, call.output)
    return context.scaled(result, layer.gain / math.sqrt(fan_in))


def main() -> float:
    """Convert the file of a model with the layer; returns the deviation from Keras's own layers."""
    model = keras.Sequential([
        keras.Input((3,)), ScaledDense(16, math.sqrt(2)), keras.layers.ReLU(), ScaledDense(1),
    ])  # fmt: skip
    same = keras.Sequential([
        keras.Input((3,)), keras.layers.Dense(16, "relu", kernel_initializer="he_normal"),
        keras.layers.Dense(1, kernel_initializer="lecun_normal"),
    ])  # fmt: skip
    points = np.random.default_rng(0).normal(size=(4, 3))
    expected = keras2gp.convert(same, dtype="float64")(points).numpy()
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        # A file names its layers and holds no code: the class comes from the caller.
        own = {"example>ScaledDense": ScaledDense}
        kernel = keras2gp.convert(Path(folder) / "model.keras", dtype="float64", layers=own)
        kernel.save(Path(folder) / "kernel")
        loaded = keras2gp.load(Path(folder) / "kernel")
    deviation = float(np.abs(loaded(points).numpy() - expected).max())
    print(kernel.report)
    print(f"largest deviation from Dense layers: {deviation:.1e}")
    return deviation


if __name__ == "__main__":
    main()
