"""Our empirical kernels beside those of Neural Tangents, at the same weights, in float64.

    python tools/compare_neural_tangents.py --peer-env FOLDER

FOLDER is the virtual environment of Neural Tangents, made if it is not there (Python 3.11). It
computes in a process of its own, from weights and images in a file. Printed are the largest
differences relative to the largest entry. Exit code 1 if one is above 1e-9.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking.environments import peer_python
from benchmarking.serving import environment

LIMIT = 1e-9
KERNELS = ("ntk", "full", "nngp")


def peer(source: str, target: str) -> None:
    """In the peer's environment: its kernels of the networks in a file."""
    import jax  # type: ignore[import-not-found, unused-ignore]
    import jax.numpy as jnp  # type: ignore[import-not-found, unused-ignore]
    import neural_tangents as nt  # type: ignore[import-not-found, unused-ignore]

    jax.config.update("jax_enable_x64", True)

    def dense(params: Any, x: Any) -> Any:
        for i in range(0, len(params), 2):
            x = jnp.tanh(x) if i else x
            x = x @ params[i] + params[i + 1]
        return x

    def convolutional(params: Any, x: Any) -> Any:
        for i in (0, 2):
            layout = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, params[i], (1, 1), "SAME", dimension_numbers=layout)
            x = jax.nn.relu(x + params[i + 1])
        pooled = x.mean(axis=(1, 2))
        return pooled @ params[4] + params[5] if len(params) > 4 else pooled

    results = {}
    with np.load(source) as data:
        for name, function in (("dense", dense), ("convolutional", convolutional)):
            x, params = data[f"{name}.x"], []
            while f"{name}.{len(params)}" in data:
                params.append(jnp.asarray(data[f"{name}.{len(params)}"]))
            tangent = nt.empirical_ntk_fn(function, trace_axes=(-1,))
            full = nt.empirical_ntk_fn(function, trace_axes=())
            features = nt.empirical_nngp_fn(
                (lambda p, x: jnp.tanh(dense(p, x))) if function is dense else function,
                trace_axes=(-1,),
            )
            results[f"{name}.ntk"] = tangent(x, None, params)
            results[f"{name}.full"] = full(x, None, params)
            results[f"{name}.nngp"] = features(x, None, params[:-2])
    np.savez(target, **results)


def networks() -> dict[str, tuple[Any, Any]]:
    """Keras models of random weights, biases included, and images for each."""
    import keras
    from keras import layers

    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(0)
    dense = [layers.Dense(n, bias_initializer="random_normal") for n in (20, 30, 3)]
    between = [layers.Activation("tanh") for _ in dense]
    stacked = [layer for both in zip(dense, between, strict=True) for layer in both][:-1]
    window = {"padding": "same", "activation": "relu", "bias_initializer": "random_normal"}
    random = np.random.default_rng(0)
    return {
        "dense": (keras.Sequential([keras.Input((5,)), *stacked]), random.normal(size=(7, 5))),
        "convolutional": (
            keras.Sequential([
                keras.Input((6, 6, 2)),
                layers.Conv2D(8, 3, **window),
                layers.Conv2D(9, 2, **window),
                layers.GlobalAveragePooling2D(),
                layers.Dense(3, bias_initializer="random_normal"),
            ]),
            random.normal(size=(7, 6, 6, 2)),
        ),
    }  # fmt: skip


def main() -> int:
    """Print the differences."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-env", type=Path, required=True)
    parser.add_argument("--as-peer", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_peer:
        peer(*arguments.as_peer)
        return 0
    import keras2gp

    models, worst = networks(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "weights.npz", Path(folder) / "kernels.npz"
        arrays = {f"{name}.x": x for name, (_, x) in models.items()}
        for name, (model, _) in models.items():
            arrays |= {f"{name}.{i}": w for i, w in enumerate(model.get_weights())}
        np.savez(source, **arrays)
        python = peer_python(arguments.peer_env)
        command = [python, __file__, "--peer-env", "", "--as-peer", str(source), str(target)]
        subprocess.run(command, check=True, env=environment())
        with np.load(target) as expected:
            for name, (model, x) in models.items():
                kernel = keras2gp.empirical_kernel(model)
                features = keras2gp.empirical_kernel(model, "nngp", parameterization="standard")
                ours = kernel.matrix(x), kernel.full(x), features.matrix(x)
                for kind, values in zip(KERNELS, ours, strict=True):
                    theirs = expected[f"{name}.{kind}"]
                    gap = float(np.abs(values - theirs).max() / np.abs(theirs).max())
                    worst = max(worst, gap)
                    print(f"{name:14} {kind:5} {gap:.1e}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
