"""Exports the XLA programs of a block, as TensorFlow hands them to XLA, for tools/gpu/run.py.

    python tools/gpu/export.py FOLDER [--networks resnet32,...] [--tiles 64,...] [--side 256]
                               [--devices gpu,cpu] [--methods shifts,conv2d] [--kinds nngp,ntk]

A block is two programs (keras2gp/matrices/compiled.py): the statistics of the images of one side,
and the tiles, a loop over the tiles of the block. The script traces both for fixed shapes and
writes their HLO before any optimisation, lowered for a GPU; it needs no GPU. It writes the images
and the float64 kernel that the block is compared with beside them.

    devices  `gpu` is the program that keras2gp makes for a GPU; `cpu` keeps its fusion boundaries
    tiles    images of either side of a tile; by default the plan's choice
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import activations
import numpy as np
import tensorflow as tf
from benchmarking import networks

import keras2gp
from keras2gp.covariance.program import KernelKind
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.matrices.form import Form
from keras2gp.matrices.plan import block_shape

NETWORKS = {
    "resnet32": 256,
    "convnet": 256,
    "fully-connected": 4096,
    "pooling": 256,
    "resnet32-pooled": 64,
}
"""Networks of tools/benchmarking/networks.py, and the images of either side of their block.

The networks of tools/activations.py come by their activation: `convolutions-elu`.
"""

CONVOLUTIONS = "convolutions-"

CORNER = 1024
"""Images of either side whose float64 kernel a block is compared with, the first ones."""


def hlo(function, specs) -> bytes:
    """The serialized HloModuleProto of a function of flat tensors, before optimisation."""
    compiled = tf.function(function, jit_compile=True, autograph=False)
    make = compiled.experimental_get_compiler_ir(*specs)
    return make(stage="hlo_serialized", platform_name="GPU")


def spec(tensor) -> tf.TensorSpec:
    return tf.TensorSpec(tensor.shape, tensor.dtype)


class Network:
    """A network's kernel of one kind, its images, and the values of its block."""

    def __init__(self, name: str, kind: KernelKind, side: int, out: Path) -> None:
        self.kind, self.side, self.out = kind, side, out
        self.name = name if kind == "nngp" else f"{name}-{kind}"
        if name.startswith(CONVOLUTIONS):
            model = activations.network(name.removeprefix(CONVOLUTIONS))
            images = activations.images(2 * side)
        else:
            model, images = networks.model(name), networks.images(2 * side)
        self.kernel = keras2gp.convert(model)
        self.weights, self.biases = self.kernel.program.variances(self.kernel.parameters)
        self.x1, self.x2 = images[:side], images[side:]
        if not (out / f"{self.name}.npz").exists():
            self._write_arrays(model)

    def _write_arrays(self, model) -> None:
        begin = time.perf_counter()
        wide = keras2gp.convert(model, dtype="float64")
        x1, x2 = self.x1[:CORNER], self.x2[:CORNER]
        expected = wide.matrix(x1, x2, get=self.kind)
        diagonal = np.asarray(wide.diag(x1, get=self.kind))
        np.savez_compressed(
            self.out / f"{self.name}.npz",
            image1=self.data(self.x1),
            image2=self.data(self.x2),
            weights=np.array(self.weights, "float32"),
            biases=np.array(self.biases, "float32"),
            expected=expected,
            diagonal=diagonal,
        )
        seconds = time.perf_counter() - begin
        print(f"{self.name}: float64 kernel in {seconds:.1f} s", flush=True)

    def data(self, x):
        """The data tensor of the images, which are innermost; vectors are rows."""
        (array,) = self.kernel.images(x)
        return array if array.ndim == 2 else np.ascontiguousarray(np.moveaxis(array, 0, -1))

    def form(self, program: CompiledProgram, tile: int) -> Form:
        """The form that keras2gp takes for these images."""
        for form in program.forms:
            found = [
                form.statistics([tf.constant(self.data(x))], self.weights, self.biases, run=tile)
                for x in (self.x1, self.x2)
            ]
            if all(form.program.fits(kept) for *_, kept in found):
                break
        return form

    def export(self, device: str, method: str, tile: int) -> dict:
        """Write the two programs of one variant; returns its row of the manifest."""
        begin = time.perf_counter()
        tile = tile or block_shape(self.kernel.graph, self.side, self.side, "gpu").tile_columns
        program = CompiledProgram(self.kernel.graph, "float32", method, self.kind, device)
        layers = len(self.weights)
        form = self.form(program, tile)
        of_images, of_tiles = (f.python_function for f in (form.statistics, form.cross))
        scalars = [spec(t) for t in (*self.weights, *self.biases)]
        image = tf.TensorSpec(self.data(self.x1).shape, "float32")

        def statistics(image, *variances):
            weights, biases = list(variances[:layers]), list(variances[layers:])
            return of_images([image], weights, biases, run=tile)

        traced = tf.function(statistics, autograph=False).get_concrete_function(image, *scalars)
        _, images, kept = traced.structured_outputs
        side = [spec(t) for t in (*images, *tf.nest.flatten(kept))]

        def tiles(*tensors):
            first, second = tensors[: len(side)], tensors[len(side) : 2 * len(side)]
            starts, count, *rest = tensors[2 * len(side) :]
            sides = (([s[0]], tf.nest.pack_sequence_as(kept, s[1:])) for s in (first, second))
            variances = list(rest[:layers]), list(rest[layers:])
            return of_tiles(*sides, (starts, count), variances, tile=(tile, tile))

        starts = tf.TensorSpec(((self.side // tile) ** 2, 2), tf.int32)
        given = [*side, *side, starts, tf.TensorSpec((), tf.int32), *scalars]
        name = f"{self.name}-{device}-{method}-{tile}"
        for which, function, specs in (
            ("statistics", statistics, [image, *scalars]),
            ("tiles", tiles, given),
        ):
            module = gzip.compress(hlo(function, specs), mtime=0)
            (self.out / f"{name}-{which}.hlo.gz").write_bytes(module)
        print(f"{name}: exported in {time.perf_counter() - begin:.1f} s", flush=True)
        return {
            "name": name,
            "network": self.name,
            "side": self.side,
            "tile": tile,
            "statistics": f"{name}-statistics.hlo.gz",
            "tiles": f"{name}-tiles.hlo.gz",
            "statistics_arguments": 1 + len(scalars),
            "tiles_arguments": len(given),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--tiles", default="0", help="0: the plan's choice")
    parser.add_argument("--devices", default="gpu")
    parser.add_argument("--methods", default="shifts")
    parser.add_argument("--kinds", default="nngp")
    parser.add_argument("--side", type=int, default=0, help="images of either side of the block")
    arguments = parser.parse_args()
    # As CompiledProgram does on a GPU: products and convolutions then say precision HIGHEST.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    arguments.out.mkdir(parents=True, exist_ok=True)
    manifest = arguments.out / "manifest.json"
    rows = json.loads(manifest.read_text()) if manifest.exists() else []
    asked = itertools.product(arguments.networks.split(","), arguments.kinds.split(","))
    for name, kind in asked:
        network = Network(name, kind, arguments.side or NETWORKS.get(name, 256), arguments.out)
        for device in arguments.devices.split(","):
            for method in arguments.methods.split(","):
                for tile in map(int, arguments.tiles.split(",")):
                    row = network.export(device, method, tile)
                    rows = [other for other in rows if other["name"] != row["name"]] + [row]
                    manifest.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
