"""Our empirical kernels and predictions beside those of Neural Tangents, in float64.

    python tools/compare_neural_tangents.py --peer-env FOLDER
    python tools/compare_neural_tangents.py --peer-env FOLDER --keep tests/gp/neural_tangents.npz

FOLDER is the virtual environment of Neural Tangents, made if it is not there (Python 3.11). It
computes in a process of its own, from weights, images and matrices in a file. Printed are the
largest differences relative to the largest entry: of kernels at the same weights, and of
predictions from the same matrices (trained networks at every time, and the posterior). Exit code 1
if one is above 1e-9, or 1e-8 of predictions. `--keep` writes these matrices and the peer's
predictions to a file, which tests/gp/test_ensemble.py reads.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking.environments import peer_python
from benchmarking.serving import environment

LIMIT, LIMIT_OF_PREDICTIONS = 1e-9, 1e-8
TIMES = (0.0, 0.05, 1.0, 30.0, np.inf)
REGULARIZATION = 1e-3
COUNT = 16
KERNELS = ("ntk", "full", "nngp")


def predictions(nt: Any, data: Any) -> dict[str, Any]:
    """In the peer's environment: means and covariances of trained networks, and of the posterior.

    Its loss is a mean over targets, so that its times are ours times their number.
    """
    matrices = {kind: data[f"predict.{kind}"] for kind in ("nngp", "ntk")}
    y, both = data["predict.y"], tuple(matrices)

    def kernel(x1: Any, x2: Any, get: Any, **_: Any) -> Any:
        rows, columns = (np.asarray(x)[:, 0].astype(int) for x in (x1, x1 if x2 is None else x2))
        values = {kind: matrix[np.ix_(rows, columns)] for kind, matrix in matrices.items()}
        if isinstance(get, str):
            return values[get]
        return namedtuple("Kernels", get)(*(values[kind] for kind in get))

    index = np.arange(len(matrices["nngp"]), dtype=np.float64)[:, None]
    results = {}
    for name, diagonal in (("flow", 0.0), ("ridge", REGULARIZATION)):
        at = nt.predict.gradient_descent_mse_ensemble(
            kernel,
            index[:COUNT],
            y,
            diag_reg=diagonal,
            diag_reg_absolute_scale=True,
        )
        for number, time in enumerate(TIMES):
            t = None if np.isinf(time) else time * y.size
            found = at(t=t, x_test=index[COUNT:], get=both, compute_cov=True)
            for kind in both:
                mean, covariance = getattr(found, kind)
                results[f"predict.{name}.{number}.{kind}.mean"] = mean
                results[f"predict.{name}.{number}.{kind}.covariance"] = covariance
    return results


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
        results |= predictions(nt, data)
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


def matrices() -> dict[str, Any]:
    """Both kernels of a network between COUNT inputs and four others, and targets."""
    import keras

    import keras2gp

    relu = keras.layers.Dense(8, activation="relu")
    model = keras.Sequential([keras.Input((3,)), relu, keras.layers.Dense(1)])
    kernel = keras2gp.convert(model, overrides={"*": (1.8, 0.2)}, dtype="float64")
    random = np.random.default_rng(1)
    nngp, tangent = kernel(random.normal(size=(COUNT + 4, 3)), get="both")
    y = random.normal(size=(COUNT, 2))
    return {"predict.nngp": np.asarray(nngp), "predict.ntk": np.asarray(tangent), "predict.y": y}


class Lookup:
    """Both kernels as matrices that are there: inputs are indices, [N, 1]."""

    def __init__(self, data: Any) -> None:
        self._values = {kind: data[f"predict.{kind}"] for kind in ("nngp", "ntk")}
        self._values["both"] = np.stack(list(self._values.values()))

    def __call__(self, x1: Any, x2: Any = None, /, *, get: str = "nngp") -> Any:
        rows, columns = (np.asarray(x)[:, 0].astype(int) for x in (x1, x1 if x2 is None else x2))
        return self._values[get][..., rows[:, None], columns]

    def diag(self, x: Any, /, *, get: str = "nngp") -> Any:
        return np.diagonal(self(x, get=get), axis1=-2, axis2=-1)


def ours_predicted(data: Any) -> dict[str, Any]:
    """Our predictions by the peer's names: flow without end and with, and the posterior."""
    from keras2gp.gp import GPRegressor, TrainedEnsemble

    kernel, results = Lookup(data), {}
    index = np.arange(len(data["predict.nngp"]), dtype=np.float64)[:, None]
    for name, diagonal in (("flow", 0.0), ("ridge", REGULARIZATION)):
        for number, time in enumerate(TIMES):
            ensemble = TrainedEnsemble(kernel, time, diagonal)
            found = {"ntk": ensemble.fit(index[:COUNT], data["predict.y"])}
            if np.isinf(time):  # of the last layer trained to its end: the posterior
                gp = GPRegressor(kernel, noise_variance=diagonal)
                found["nngp"] = gp.fit(index[:COUNT], data["predict.y"])
            for kind, fit in found.items():
                mean, covariance = fit.predict(index[COUNT:], return_cov=True)
                covariance = covariance[..., 0] if covariance.ndim == 3 else covariance
                results[f"predict.{name}.{number}.{kind}.mean"] = mean
                results[f"predict.{name}.{number}.{kind}.covariance"] = covariance
    return results


def main() -> int:
    """Print the differences."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-env", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="a file for the peer's predictions")
    parser.add_argument("--as-peer", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_peer:
        peer(*arguments.as_peer)
        return 0
    import keras2gp

    models, given, bad = networks(), matrices(), False
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "weights.npz", Path(folder) / "kernels.npz"
        arrays = {f"{name}.x": x for name, (_, x) in models.items()}
        for name, (model, _) in models.items():
            arrays |= {f"{name}.{i}": w for i, w in enumerate(model.get_weights())}
        np.savez(source, **arrays, **given)
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
                    bad = bad or gap > LIMIT
                    print(f"{name:14} {kind:5} {gap:.1e}")
            predicted = {name: expected[name] for name in expected if name.startswith("predict.")}
    for name, values in ours_predicted(given).items():
        largest = float(np.abs(predicted[name]).max()) or 1.0  # untrained, the mean is 0
        gap = float(np.abs(values - predicted[name]).max()) / largest
        bad = bad or gap > LIMIT_OF_PREDICTIONS
        print(f"{name:35} {gap:.1e}")
    if arguments.keep:
        np.savez_compressed(arguments.keep, **given, **predicted)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
